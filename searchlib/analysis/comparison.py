"""Comparisons of replicated cells: the leader, paired tests of it with the others, and what they show together.

``values`` maps each cell to its value by replicate. Equal replicate numbers share the order of the examples, so values
are paired across cells. Cells that stay longer in the race have more replicates than others.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from searchlib.analysis.resampling import error_factor
from searchlib.analysis.statistics import ROUND_OFF, Direction, proportion_intervals

if TYPE_CHECKING:
    import numpy as np

ALPHA = 0.05
EARLY_SHARE = 0.2  # of alpha, for all looks before the last together
WORTHWHILE = 0.75  # P(A>B) that the interval must reach beyond: gamma of Bouthillier 2021
NOT_TOLD_APART = "not told apart"
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The winner against one other cell, over the *n* replicates that both have.

    difference: mean improvement by the winner, positive where it is better, with a 95 % paired t interval.
    p: of the two-sided paired t test; adjusted_p: see ``adjusted_p_values``. probability: of the winner being better
    with one seed, with a 95 % interval; verdict: see ``verdict``, "not told apart" where adjusted_p is above alpha.
    told_apart: the winner is significantly better at the comparison's own level, as ``resolved`` asks of each.
    None where n is too small.
    """

    n: int
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    adjusted_p: float | None
    probability: float | None
    probability_low: float | None
    probability_high: float | None
    verdict: str
    told_apart: bool


def share(n: int, looks: Sequence[int]) -> float:
    """The share of alpha that a comparison over *n* common seeds may spend.

    Tests at level alpha at every look would find differences too often. Alpha is therefore spent over the looks as in
    a group-sequential trial (Lan & DeMets 1983): a fifth evenly by the looks before the last, the rest by the last.
    The shares sum to 1, so by Bonferroni's inequality alpha holds, however the looks depend on each other. A number of
    seeds between two looks has the share of the looks before the last.
    """
    if len(looks) < 2:
        return 1.0
    return 1.0 - EARLY_SHARE if n >= looks[-1] else EARLY_SHARE / (len(looks) - 1)


def leader(values: Mapping[Key, Mapping[int, float]], direction: Direction) -> Key | None:
    """The cell with the best mean among those with the highest replicate, of equal ones the first; None without values.

    A replicate that failed, and so has no value, doesn't count against its cell.
    """
    most = max((max(found, default=0) for found in values.values()), default=0)
    if most == 0:
        return None
    sign = 1.0 if direction == "maximize" else -1.0
    means = {
        cell: math.fsum(found.values()) / len(found) for cell, found in values.items() if max(found, default=0) == most
    }
    return max(means, key=lambda cell: sign * means[cell])


def resolved(comparisons: Collection[Comparison]) -> bool | None:
    """Whether the winner is shown to be better than every other cell; None where there is no other.

    The claim holds only where every single comparison is significant: an intersection-union test (Berger 1982), which
    needs no correction for their number. Nor does it need one for choosing the winner by the same values: the two-sided
    test of the winner against the runner-up keeps its level for any number of cells (Gutmann & Maymin 1987; Hung &
    Fithian 2019), as a cell that isn't the best would have to beat all others by that much. benchmarks/calibration.py
    measures the level.
    """
    return all(one.told_apart for one in comparisons) if comparisons else None


def compare(
    values: Mapping[Key, Mapping[int, float]],
    direction: Direction,
    looks: Sequence[int],
    alpha: float = ALPHA,
    overlap: float = 0.0,
) -> tuple[Key | None, dict[Key, Comparison]]:
    """The leader, and its comparisons with all other cells that have replicates, by cell, the closest rival first.

    overlap: of the replicates' splits, as in ``paired_tests``.
    """
    winner = leader(values, direction)
    if winner is None:
        return None, {}
    others = [cell for cell in values if cell != winner and values[cell]]
    tests = paired_tests({cell: values[cell] for cell in (winner, *others)}, winner, direction, overlap)
    adjusted = adjusted_p_values([tests[cell].p for cell in others], [share(tests[cell].n, looks) for cell in others])
    own = values[winner]
    paired = [
        [(own[replicate], value) for replicate, value in values[cell].items() if replicate in own] for cell in others
    ]
    found = {}
    chances = probability_of_improvement(paired, direction)
    for cell, p, (probability, low, high) in zip(others, adjusted, chances, strict=True):
        test = tests[cell]
        found[cell] = Comparison(
            **vars(test),
            adjusted_p=p,
            probability=probability,
            probability_low=low,
            probability_high=high,
            verdict=verdict(low, high) if p is not None and p <= alpha else NOT_TOLD_APART,
            told_apart=differs_from_leader(test, looks, alpha),
        )
    closest = sorted(found.items(), key=lambda one: -math.inf if one[1].difference is None else one[1].difference)
    return winner, dict(closest)


@dataclass(frozen=True)
class _Test:
    n: int
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None


def differs_from_leader(test: _Test, looks: Sequence[int], alpha: float) -> bool:
    if test.p is None or test.difference is None:
        return False
    return test.difference > 0 and test.p <= alpha * share(test.n, looks)


def paired_tests(
    values: Mapping[Key, Mapping[int, float]], winner: Key, direction: Direction, overlap: float = 0.0
) -> dict[Key, _Test]:
    """The paired t test of the winner against each other cell; one call of scipy for all with the same replicates.

    overlap: of the splits that the replicates were measured on (``split_overlap``); the test is then Nadeau &
    Bengio's.
    """
    import numpy as np

    groups: dict[tuple[int, ...], list[Key]] = {}
    for cell, found in values.items():
        if cell != winner:
            groups.setdefault(tuple(sorted(values[winner].keys() & found.keys())), []).append(cell)
    tests: dict[Key, _Test] = {}
    for common, cells in groups.items():
        own = np.array([values[winner][replicate] for replicate in common])
        other = np.array([[values[cell][replicate] for replicate in common] for cell in cells])
        improvement = own - other if direction == "maximize" else other - own
        shape = (len(cells), len(common))
        scale = np.abs(own).max(initial=0.0) + np.abs(other.reshape(shape)).max(axis=1, initial=0.0)
        tests.update(zip(cells, _paired(improvement.reshape(shape), scale, overlap), strict=True))
    return tests


def _paired(improvement: np.ndarray[Any, Any], scale: np.ndarray[Any, Any], overlap: float) -> list[_Test]:
    """Two-sided t tests and 95 % intervals of the mean of each row [cells, pairs] of paired differences.

    scale: of the values behind each row, to know a difference from round-off. A row that doesn't vary has no t test: p
    is 1 where all its differences are 0, else that of the sign test.
    """
    import numpy as np
    from scipy.stats import binomtest, t

    cells, n = improvement.shape
    if n == 0:
        return [_Test(0)] * cells
    means = improvement.mean(axis=1).tolist()
    if n == 1:
        return [_Test(1, mean) for mean in means]
    varies = np.ptp(improvement, axis=1) > ROUND_OFF * scale
    same = np.abs(improvement).max(axis=1) <= ROUND_OFF * scale
    tested: Iterator[list[float]] = iter(())
    if varies.any():
        mean = improvement[varies].mean(axis=1)
        error = improvement[varies].std(axis=1, ddof=1) * error_factor(n, overlap)
        half = t.ppf(0.975, n - 1) * error
        p = 2.0 * t.sf(np.abs(mean) / error, n - 1)
        tested = iter(np.column_stack([mean - half, mean + half, p]).tolist())
    return [
        _Test(n, mean, *next(tested))
        if varied
        else _Test(n, mean, mean, mean, 1.0 if equal else float(binomtest(n, n).pvalue))
        for mean, varied, equal in zip(means, varies.tolist(), same.tolist(), strict=True)
    ]


def adjusted_p_values(p_values: Sequence[float | None], shares: Sequence[float] | None = None) -> list[float | None]:
    """Adjusted p of the winner's comparisons with the others: Holm's step-down over all pairs of the cells left.

    Holm (1979) would multiply the smallest of r p-values by r. Here the winner was chosen by the same values, so its
    difference from the last cell is the largest of *any* two cells: at a step with r comparisons left, r + 1 cells
    aren't separated yet, and the family is their r (r + 1) / 2 pairs (the step-down over pairs of Shaffer 1986, of
    which only the winner's are reported). No result is above the largest plain p, as the claim of ``resolved`` needs no
    correction: all are at most alpha exactly where the winner is resolved. For two cells it is the plain p.

    shares: the ``share`` of each comparison, by which its p is divided first. Where p is None the comparison stays in
    the family, and the result is None.
    """
    spent = [
        1.0 if p is None else min(1.0, p / part)
        for p, part in zip(p_values, shares or [1.0] * len(p_values), strict=True)
    ]
    adjusted: list[float | None] = [None] * len(spent)
    reached = 0.0
    for step, position in enumerate(sorted(range(len(spent)), key=lambda place: (spent[place], place))):
        left = len(spent) - step
        reached = min(max(spent), max(reached, spent[position] * left * (left + 1) / 2))
        adjusted[position] = None if p_values[position] is None else reached
    return adjusted


def probability_of_improvement(
    comparisons: Sequence[Sequence[tuple[float, float]]], direction: Direction
) -> list[tuple[float, float, float] | tuple[None, None, None]]:
    """P(A>B) of each comparison, given as pairs (a, b), with a 95 % Wilson interval: (probability, low, high).

    The share of the pairs in which a is better, ties counted half; None without pairs. Bouthillier 2021 takes the
    interval from a bootstrap over the pairs, which has no width where all pairs agree, as is usual with few seeds;
    Wilson's (1927) has. Where all of 5 pairs agree, which has probability 0.0625 by chance, it excludes 0.5.
    """
    wins = []
    for pairs in comparisons:
        better = sum(a > b if direction == "maximize" else a < b for a, b in pairs)
        wins.append(better + sum(a == b for a, b in pairs) / 2)
    counts = [len(pairs) for pairs in comparisons]
    intervals = proportion_intervals(wins, [max(count, 1) for count in counts])
    return [
        (won / count, *interval) if count else (None, None, None)
        for won, count, interval in zip(wins, counts, intervals, strict=True)
    ]


def verdict(low: float | None, high: float | None) -> str:
    """Bouthillier 2021: ``better`` where the interval of P(A>B) excludes 0.5 and passes 0.75."""
    if low is None or high is None or low <= 0.5:
        return NOT_TOLD_APART
    return "better" if high > WORTHWHILE else "slightly better"
