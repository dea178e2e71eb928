"""Comparisons of replicated cells: the leader, paired tests of it with the others, and what they show together.

``values`` maps each cell to its value by replicate, None for a replicate that diverged or learnt nothing: quality is
compared among those that learnt, and failures apart from it. Equal replicate numbers share the random numbers of the
weights and the order of the examples, so values are paired across cells. Cells that stay longer in the race have more
replicates than others.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from searchlib.analysis.failures import failures_p
from searchlib.analysis.moderation import moderated
from searchlib.analysis.resampling import error_factor
from searchlib.analysis.spending import Plan
from searchlib.analysis.statistics import ROUND_OFF, Direction, proportion_intervals

if TYPE_CHECKING:
    import numpy as np

ALPHA = 0.05
WORTHWHILE = 0.75  # P(A>B) that the interval must reach beyond: gamma of Bouthillier 2021
BETTER, NOT_TOLD_APART, UNDECIDED = "better", "not told apart", "undecided"
LEAST_TO_LEAVE = 4  # replicates of which none learnt, for a cell of several searches to leave the race
FEWEST_TO_COUNT = 5  # units for an interval of P(A>B): that all of four agree happens by chance in one of eight
MOST_UNITS = 1_000  # a difference that needs more is none
Key = TypeVar("Key", bound=Hashable)
Values = Mapping[Key, Mapping[int, float | None]]  # of each cell by replicate; None: it diverged or learnt nothing


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The winner against one other cell, over the *n* seeds at which both have learnt, in *units* independent pieces.

    difference: mean improvement by the winner, positive where it is better, with its 95 % interval. p: two-sided, of
    the paired t test over the units, with *df* degrees of freedom and moderated variances (``moderation``); where too
    few seeds have learnt, of Fisher's exact test of the failures. adjusted_p: see ``adjusted_p_values``. failures_p:
    of Fisher's test over units, whether both cells fail to learn equally often; None where neither fails. probability:
    of the winner being better in one unit, with a 95 % interval of five units or more; verdict: see ``verdict``, "not
    told apart" where adjusted_p is above alpha. told_apart: the winner is significantly better at the comparison's own
    level, as ``resolved`` asks of each. None where n is too small.

    In a study with a margin the verdict is "equivalent" where two one-sided tests at alpha find the difference smaller
    than the margin (Schuirmann 1987): its 90 % interval lies within. Otherwise it is as above, and "undecided" instead
    of "not told apart". units_to_decide: how many units would decide with a chance of about one half, if difference and
    variance stay as they are; None where it is decided, or can't be known.
    """

    n: int
    units: int
    df: float | None
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    adjusted_p: float | None
    failures_p: float | None
    probability: float | None
    probability_low: float | None
    probability_high: float | None
    verdict: str
    told_apart: bool
    units_to_decide: int | None


def learnt(found: Mapping[int, float | None]) -> dict[int, float]:
    """The values of the replicates that learnt, by replicate."""
    return {replicate: value for replicate, value in found.items() if value is not None}


def unit_means(found: Mapping[int, float | None], plan: Plan) -> dict[int, float]:
    """The mean of a cell's values in each unit that has any."""
    grouped: dict[int, list[float]] = {}
    for replicate, value in learnt(found).items():
        grouped.setdefault(plan.unit(replicate), []).append(value)
    return {unit: math.fsum(values) / len(values) for unit, values in grouped.items()}


def leader(values: Values[Key], plan: Plan) -> Key | None:
    """The cell with the best mean among those with the highest replicate, of equal ones the first; None without values.

    The mean is over the units, of what has learnt. A cell that failed to learn in more than half of its replicates
    leads only where all do. A replicate without an entry, since its training could not be run, doesn't count.
    """
    most = max((max(found, default=0) for found in values.values()), default=0)
    raced = {cell: found for cell, found in values.items() if most and max(found, default=0) == most}
    counted = {cell: learnt(found) for cell, found in raced.items()}
    fit = [cell for cell, found in counted.items() if 2 * len(found) >= len(raced[cell])]
    able = [cell for cell in fit or counted if counted[cell]]
    sign = 1.0 if plan.direction == "maximize" else -1.0
    means = {cell: math.fsum(units.values()) / len(units) for cell in able if (units := unit_means(raced[cell], plan))}
    return max(means, key=lambda cell: sign * means[cell], default=None)


def resolved(comparisons: Collection[Comparison]) -> bool | None:
    """Whether the winner is shown to be better than every other cell; None where there is no other.

    The claim holds only where every single comparison is significant: an intersection-union test (Berger 1982), which
    needs no correction for their number. Nor does it need one for choosing the winner by the same values: the two-sided
    test of the winner against the runner-up keeps its level for any number of cells (Gutmann & Maymin 1987; Hung &
    Fithian 2019), as a cell that isn't the best would have to beat all others by that much. benchmarks/calibration.py
    measures the level.
    """
    return all(one.told_apart for one in comparisons) if comparisons else None


def compare(values: Values[Key], plan: Plan, alpha: float = ALPHA) -> tuple[Key | None, dict[Key, Comparison]]:
    """The leader, and its comparisons with all other cells that have replicates, by cell, the closest rival first.

    values: of each cell by replicate; None for one that diverged or learnt nothing.
    """
    winner = leader(values, plan)
    if winner is None:
        return None, {}
    others = [cell for cell in values if cell != winner and values[cell]]
    tests = paired_tests({cell: values[cell] for cell in (winner, *others)}, winner, plan)
    seeds = {cell: _last_common(values[cell], values[winner]) for cell in others}
    adjusted = _adjusted(tests, seeds, plan)
    own = unit_means(values[winner], plan)
    paired = [
        [(own[unit], value) for unit, value in unit_means(values[cell], plan).items() if unit in own] for cell in others
    ]
    found = {}
    chances = probability_of_improvement(paired, plan.direction)
    for cell, (probability, low, high) in zip(others, chances, strict=True):
        test, p = tests[cell], adjusted[cell]
        judged = NOT_TOLD_APART
        if p is not None and p <= alpha:
            alone = low is None and _leader_is_better(test)  # too few units for P(A>B): adjusted p alone decides
            judged = "fails more often" if test.units < 2 else BETTER if alone else verdict(low, high)
        if plan.margin is not None:
            judged = "equivalent" if _is_equivalent(test, plan.margin, alpha * plan.share(seeds[cell])) else judged
            judged = UNDECIDED if judged == NOT_TOLD_APART else judged
        found[cell] = Comparison(
            **vars(test),
            adjusted_p=p,
            failures_p=failures_p(values[winner], values[cell], plan),
            probability=probability,
            probability_low=low,
            probability_high=high,
            verdict=judged,
            told_apart=_leader_is_better(test)
            and test.p is not None
            and test.p <= alpha * _share(test, seeds[cell], plan),
            units_to_decide=units_to_decide(test, plan, seeds[cell], alpha)
            if judged in (NOT_TOLD_APART, UNDECIDED)
            else None,
        )
    closest = sorted(found.items(), key=lambda one: _closeness(one[1]))
    return winner, dict(closest)


def chosen_interval(
    winner: Mapping[int, float],
    ties: Sequence[Mapping[int, float]],
    confidence: float = 0.95,
    overlap: float = 0.0,
) -> tuple[float | None, float | None]:
    """The interval of the winner's mean as the best of itself and its *ties*: (low, high), None for fewer than two.

    Values by unit. Bonferroni over the cells among which it was chosen, with their variances moderated: of 36 equal
    cells the plain interval of the best one covers its mean in 71 % of studies.
    """
    import numpy as np
    from scipy.special import stdtrit

    counted = [winner, *ties]
    if len(winner) < 2:
        return None, None
    df = np.array([max(len(found) - 1, 0) for found in counted], dtype=float)
    spread = [float(np.var(list(found.values()), ddof=1)) if len(found) > 1 else 0.0 for found in counted]
    variances, total = moderated(np.array(spread), df)
    mean = math.fsum(winner.values()) / len(winner)
    level = 1.0 - (1.0 - confidence) / 2 / len(counted)
    half = float(stdtrit(total[0], level)) * math.sqrt(float(variances[0])) * error_factor(len(winner), overlap)
    return mean - half, mean + half


def _closeness(one: Comparison) -> float:
    if one.difference is None:
        return math.inf if one.told_apart else -math.inf
    return one.difference


@dataclass(frozen=True)
class _Test:
    n: int
    units: int = 0
    df: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None


def _leader_is_better(test: _Test) -> bool:
    """By the mean, or where too few seeds learnt for one, by the failures."""
    return test.units < 2 or (test.difference is not None and test.difference > 0)


def _last_common(one: Mapping[int, float | None], other: Mapping[int, float | None]) -> int:
    """The last seed at which both cells were run, learnt or not; 0 without any."""
    return max(one.keys() & other.keys(), default=0)


def _adjusted(tests: Mapping[Key, _Test], seeds: Mapping[Key, int], plan: Plan) -> dict[Key, float | None]:
    """Adjusted p of each test. seeds: the last one at which both cells were run."""
    shares = [_share(test, seeds[cell], plan) for cell, test in tests.items()]
    found = adjusted_p_values([test.p for test in tests.values()], shares)
    return dict(zip(tests, found, strict=True))


def _share(test: _Test, seeds: int, plan: Plan) -> float:
    """The share of alpha of one comparison.

    All of it for the failures of several searches: fewer than two searches learn at a look only if no more did at each
    look before, so that looking again adds no error.
    """
    return 1.0 if plan.searches > 1 and test.units < 2 else plan.share(seeds)


def contenders(values: Values[Key], plan: Plan, alpha: float = ALPHA) -> list[Key]:
    """The leader, and the cells that are not significantly worse: a race continues while these are more than one.

    Significantly worse: adjusted p of the comparison is at most alpha, so that a cell stays until it is worse after the
    correction for the number of cells, too (docs/method.md has the figures). Nor is a cell of several searches a
    contender of which no replicate has learnt, of LEAST_TO_LEAVE or more: it can't lead, and further seeds are of the
    same searches, so that the test of its failures can't show more. Give all cells that ever raced, also those that
    dropped out: where the leader changes, one of them may return.
    """
    first = leader(values, plan)
    if first is None:
        return list(values)
    tests = paired_tests(values, first, plan)
    adjusted = _adjusted(tests, {cell: _last_common(values[cell], values[first]) for cell in tests}, plan)
    worse = {cell for cell, p in adjusted.items() if p is not None and p <= alpha and _leader_is_better(tests[cell])}
    if plan.searches > 1:
        worse |= {cell for cell in tests if len(values[cell]) >= LEAST_TO_LEAVE and not learnt(values[cell])}
    return [cell for cell in values if cell not in worse]


def _is_equivalent(test: _Test, margin: float, alpha: float) -> bool:
    from scipy.special import stdtrit

    if test.df is None or test.difference is None or test.high is None:
        return test.difference is not None and test.units > 1 and abs(test.difference) < margin
    half = (test.high - test.difference) * float(stdtrit(test.df, 1.0 - alpha) / stdtrit(test.df, 0.975))
    return abs(test.difference) + half < margin


def units_to_decide(test: _Test, plan: Plan, seeds: int, alpha: float) -> int | None:
    """The units at which the difference would be significant, or shown to lie within the margin.

    seeds: the last one at which both cells were run. Of one search the units are the seeds to which the race would be
    extended. None beyond MOST_UNITS, and where nothing is known of the variance.
    """
    import numpy as np
    from scipy.special import stdtrit

    if not test.df or test.difference is None or test.high is None:
        return None
    error = (test.high - test.difference) / float(stdtrit(test.df, 0.975))  # of the mean of test.units
    units = np.arange(test.units + 1, MOST_UNITS + 1)
    scaled = error * np.sqrt((1.0 / units + plan.overlap) / (1.0 / test.units + plan.overlap))
    level = np.full(len(units), alpha)
    if plan.searches == 1 and plan.looks:
        ends = units + max(seeds - test.units, 0)  # some seeds haven't learnt
        level = np.where(ends > plan.looks[-1], alpha * plan.extension_share(ends), alpha)
    gap, within = abs(test.difference), (plan.margin or 0.0) - abs(test.difference)
    decided = stdtrit(units - 1, 1.0 - level / 2) * scaled < gap
    decided |= stdtrit(units - 1, 1.0 - level) * scaled < within
    return int(units[decided][0]) if decided.any() else None


def paired_tests(values: Values[Key], winner: Key, plan: Plan) -> dict[Key, _Test]:
    """The paired t test of the winner against each other cell over their units, with moderated variances.

    A pair is of a seed at which both learnt. Where these are of fewer than two units, and the winner fails less often,
    p is that of Fisher's test of the failures.
    """
    import numpy as np

    own, sign = learnt(values[winner]), 1.0 if plan.direction == "maximize" else -1.0
    others = [cell for cell in values if cell != winner]
    pairs, units = [], []
    for cell in others:
        other = learnt(values[cell])
        pairs.append([(own[replicate], other[replicate]) for replicate in own if replicate in other])
        better = {replicate: sign * (own[replicate] - other[replicate]) for replicate in own if replicate in other}
        units.append(np.array(list(unit_means(better, plan).values())))
    df = np.array([max(len(each) - 1, 0) for each in units], dtype=float)
    varies = np.array(
        [len(each) > 1 and float(np.ptp(each)) > ROUND_OFF * _size(of) for each, of in zip(units, pairs, strict=True)]
    )
    variances = np.array([float(each.var(ddof=1)) if vary else 0.0 for each, vary in zip(units, varies, strict=True)])
    steadied, total = moderated(variances, df)
    tests = {}
    for cell, each, of, vary, variance, freedom in zip(others, units, pairs, varies, steadied, total, strict=True):
        known = float(freedom) if vary or variance > 0.0 else 0.0
        test = _test(each, len(of), float(variance), known, _size(of), plan.overlap)
        if test.units < 2:
            p = failures_p(values[winner], values[cell], plan)
            failing = len(own) * len(values[cell]) > len(learnt(values[cell])) * len(values[winner])
            test = replace(test, p=p if failing else None)
        tests[cell] = test
    return tests


def _size(pairs: Sequence[tuple[float, float]]) -> float:
    """The size of the values behind differences, to know those from round-off."""
    return max((abs(a) for a, _ in pairs), default=0.0) + max((abs(b) for _, b in pairs), default=0.0)


def _test(units: np.ndarray[Any, Any], n: int, variance: float, df: float, size: float, overlap: float) -> _Test:
    """Two-sided t test and 95 % interval of the mean of *units*, with this variance of each; n: pairs behind them.

    Without any variance there is no t test: p is 1 where all differences are 0, else that of the sign test.
    """
    from scipy.special import stdtr, stdtrit
    from scipy.stats import binomtest

    if not len(units):
        return _Test(n)
    mean = float(units.mean())
    if len(units) == 1:
        return _Test(n, 1, difference=mean)
    if df == 0.0:
        equal = float(abs(units).max()) <= ROUND_OFF * size
        p = 1.0 if equal else float(binomtest(len(units), len(units)).pvalue)
        return _Test(n, len(units), None, mean, mean, mean, p)
    error = math.sqrt(variance) * error_factor(len(units), overlap)
    half = float(stdtrit(df, 0.975)) * error
    return _Test(n, len(units), df, mean, mean - half, mean + half, float(2.0 * stdtr(df, -abs(mean) / error)))


def adjusted_p_values(p_values: Sequence[float | None], shares: Sequence[float] | None = None) -> list[float | None]:
    """Adjusted p of the winner's comparisons with the others: Holm's step-down over all pairs of the cells left.

    Holm (1979) would multiply the smallest of r p-values by r. Here the winner was chosen by the same values, so its
    difference from the last cell is the largest of *any* two cells: at a step with r comparisons left, r + 1 cells
    aren't separated yet, and the family is their r (r + 1) / 2 pairs (the step-down over pairs of Shaffer 1986, of
    which only the winner's are reported). No result is above the largest plain p, as the claim of ``resolved`` needs no
    correction: all are at most alpha exactly where the winner is resolved. For two cells it is the plain p.

    shares: ``Plan.share`` of each comparison, by which its p is divided first. Where p is None the comparison stays in
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
) -> list[tuple[float | None, float | None, float | None]]:
    """P(A>B) of each comparison, given as pairs (a, b), with a 95 % Wilson interval: (probability, low, high).

    Without pairs all are None; low and high are for fewer than FEWEST_TO_COUNT. That all of 4 pairs agree has
    probability 0.125 by chance, but Wilson's interval would be 0.51 to 1.

    The share of the pairs in which a is better, ties counted half. Bouthillier 2021 takes the
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
        (won / count if count else None, *(interval if count >= FEWEST_TO_COUNT else (None, None)))
        for won, count, interval in zip(wins, counts, intervals, strict=True)
    ]


def verdict(low: float | None, high: float | None) -> str:
    """Bouthillier 2021: ``better`` where the interval of P(A>B) excludes 0.5 and passes 0.75."""
    if low is None or high is None or low <= 0.5:
        return NOT_TOLD_APART
    return BETTER if high > WORTHWHILE else "slightly better"
