"""How the cells of a study are compared, and how the looks of a race share alpha (Lan & DeMets 1983)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from searchlib.analysis.statistics import Direction

if TYPE_CHECKING:
    import numpy as np

EARLY_SHARE = 0.2  # of alpha, for all looks before the planned end together
EXTENSION_SHARE = 0.1  # of alpha, for all looks after it together, however many


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How the cells of a study are compared.

    looks: the numbers of seeds at which they are. race: whether a cell that is significantly worse gets no more seeds.
    planned_end: the number of seeds at which the race ended first, before it was extended; None where the last look is
    the planned end. searches: how many searches take turns: seed 1 is of the first search's best configuration, seed 2
    of the second's, ... The independent pieces of evidence, the *units*, are then the searches, each with the mean over
    its seeds; with one search they are the seeds. margin: a difference below it doesn't matter; None where the study
    says none. overlap: of the splits of several seeds (``resampling``).
    """

    direction: Direction
    looks: tuple[int, ...] = ()
    race: bool = True
    planned_end: int | None = None
    searches: int = 1
    margin: float | None = None
    overlap: float = 0.0

    def unit(self, replicate: int) -> int:
        """To which unit a replicate belongs."""
        return replicate if self.searches == 1 else (replicate - 1) % self.searches + 1

    def share(self, n: int) -> float:
        """The share of alpha that a comparison may spend whose last seed is number *n*.

        Tests at level alpha at every look would find differences too often. Alpha is therefore spent over the looks as
        in a group-sequential trial (Lan & DeMets 1983): a fifth evenly by the looks before the planned end, the rest by
        that. These shares sum to 1, so by Bonferroni's inequality alpha holds, however the looks depend on each other.
        A seed between two looks is first seen at the later one, and has its share.

        A race that goes on after its planned end, at N seeds, has a tenth of alpha more for everything that follows:
        a look at n seeds, after one at m, has (N/m - N/n) of it. These shares sum to less than 1 for any looks.
        """
        n = next((look for look in self.looks if look >= n), n)
        planned = self.planned_end or (self.looks[-1] if self.looks else 0)
        early = sum(look < planned for look in self.looks)
        if early and n < planned:
            return EARLY_SHARE / early
        passed = [look for look in self.looks if planned <= look <= n]
        if len(passed) < 2:
            return 1.0 - EARLY_SHARE if early else 1.0
        return EXTENSION_SHARE * planned * (1.0 / passed[-2] - 1.0 / passed[-1])

    def extended(self, end: int) -> Plan:
        """The plan of the same race, ended at its last look, that goes on to *end* seeds."""
        return replace(self, looks=(*self.looks, end), planned_end=self.planned_end or self.looks[-1])

    def extension_share(self, ends: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The ``share`` at each of *ends*, numbers of seeds, of a race that goes on to it from its last look."""
        return EXTENSION_SHARE * (self.planned_end or self.looks[-1]) * (1.0 / self.looks[-1] - 1.0 / ends)
