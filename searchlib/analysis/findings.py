"""The findings of a study: what ``analyze`` makes of the stored trials, as frozen dataclasses.

Values and differences are in the unit of the study's metric: an accuracy from 0 to 1, a loss in its own unit. What
can't be computed is None or empty, and ``Findings.notes`` says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from searchlib.analysis.comparison import Comparison
from searchlib.analysis.edges import Edge
from searchlib.analysis.on_test_set import TestByCell
from searchlib.analysis.plain import plain
from searchlib.analysis.standing import TrialCounts
from searchlib.analysis.statistics import Direction, Effect
from searchlib.study import Ledger, Primitive, TestResult


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Expected best result of a cell against its number of nuisance points.

    biased, unbiased: for 1, 2, ... points, with and without replacement; see ``statistics.expected_best``. gain: what
    the second half of the points brought, at least 0. enough: whether that is at most the deviation between seeds.
    """

    biased: tuple[float, ...]
    unbiased: tuple[float, ...]
    gain: float | None
    enough: bool | None


@dataclass(frozen=True, kw_only=True)
class CellFinding:
    """One combination of the scientific values: its best configuration, and the replicates of it.

    trial: the number of the best completed trial, with the searched values *nuisance* and the objective *search_best*;
    None where no trial completed. points: finished trials; pruned, diverged: how many of them were or did;
    diverged_fraction: diverged / points. n: replicates that count, with their mean, their standard deviation (*sd*,
    ddof 1) and the 95 % t interval of the mean, low to high. values: by replicate, from 1. edges: of the nuisance
    ranges. diagnosis: symptoms of the best trial in words. flags: short warnings, such as ``edge: learning_rate high``.
    """

    label: str
    scientific: Mapping[str, Primitive]
    nuisance: Mapping[str, Primitive]
    trial: int | None
    search_best: float | None
    points: int
    pruned: int
    diverged: int
    diverged_fraction: float
    n: int
    mean: float | None
    sd: float | None
    low: float | None
    high: float | None
    values: Mapping[int, float]
    edges: tuple[Edge, ...]
    budget: Budget
    diagnosis: tuple[str, ...]
    flags: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Pair:
    cell: Mapping[str, Primitive]
    against: Mapping[str, Primitive]
    cell_label: str
    against_label: str


@dataclass(frozen=True, kw_only=True)
class CellComparison(Comparison, _Pair):
    """The winner, *cell*, compared with another cell, *against*; both by their scientific values."""


@dataclass(frozen=True, kw_only=True)
class Winner:
    """The best configuration of the leading cell: of the best mean among those with most replicates.

    Without replicates the cell with the best trial. trial: the search trial of that configuration.
    """

    label: str
    scientific: Mapping[str, Primitive]
    nuisance: Mapping[str, Primitive]
    trial: int


@dataclass(frozen=True, kw_only=True)
class Optimism:
    """The winner's configuration measured twice, both on validation data: a test set can be harder than they are.

    search_best: its trial of the search, selected as the best. fresh_mean: the mean of its replicates, with the 95 % t
    interval fresh_low to fresh_high.
    """

    search_best: float | None
    fresh_mean: float | None
    fresh_low: float | None
    fresh_high: float | None


@dataclass(frozen=True, kw_only=True)
class RaceState:
    """The replicates. target: seeds for each cell, at most. race: whether cells that fall behind get no more seeds.

    reached: seeds of the last complete look. looks: the numbers of seeds at which cells are compared. finished: nothing
    is left to run. undecided: the seeds at which races ended without a single leader. runs: finished replicates.
    """

    target: int
    race: bool
    reached: int
    looks: tuple[int, ...]
    finished: bool
    undecided: tuple[int, ...]
    runs: int


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What the stores say about the question of a study.

    answer: in words. cells: the winner's first, then those with most replicates and the best mean. comparisons: the
    winner with each other replicated cell, the closest first. resolved: whether the winner is significantly better
    than every one of them, at the level *alpha*; None without comparisons. effects: of the scientific hyperparameters
    on the replicates. importances: of all searched hyperparameters, with sum 1. replicates: None for a study without.
    test_result (``test`` in JSON): None before the test. test_by_cell: the replicates on the test set; None where none
    was evaluated there. test_ledger: None before the claim. notes: what can't be computed, and why.
    """

    study: str
    question: str
    metric: str
    direction: Direction
    dataset: str
    answer: str
    cells: tuple[CellFinding, ...]
    comparisons: tuple[CellComparison, ...]
    winner: Winner | None
    resolved: bool | None
    alpha: float
    effects: tuple[Effect, ...]
    importances: Mapping[str, float]
    optimism: Optimism
    replicates: RaceState | None
    test_result: TestResult | None = field(metadata={"json": "test"})
    test_by_cell: TestByCell | None
    test_ledger: Ledger | None
    trials: TrialCounts
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The object that ``report --json`` prints, but for ``published``: plain JSON, without NaN or infinity."""
        return dict(plain(self))
