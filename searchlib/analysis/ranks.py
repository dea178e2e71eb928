"""Ranks of cells on several data sets: Friedman's test and Nemenyi's critical difference.

Demsar 2006, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7, section 3.2.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from searchlib.analysis.comparison import ALPHA

if TYPE_CHECKING:
    from numpy.typing import NDArray

ORDERS = 20_000  # of the null distribution of Friedman's test: all that there are, or as many random ones


@dataclass(frozen=True, kw_only=True)
class RankTest:
    """Friedman's test on ranks of *cells* cells on *datasets* data sets.

    p: exact, where ``exact``, else by random orders of each data set's ranks. agreement: Kendall's W of the data sets,
    from 0 to 1. critical_difference: by which two mean ranks have to differ (Nemenyi), if p is at most alpha.
    significant: p is at most alpha. least: the fewest data sets with which two cells could differ significantly.
    """

    datasets: int
    cells: int
    p: float
    exact: bool
    agreement: float
    critical_difference: float
    significant: bool
    least: int


def rank_test(ranks: Sequence[Sequence[float]], alpha: float = ALPHA) -> RankTest:
    """Friedman's test and Nemenyi's critical difference. ranks: [data sets, cells], at least two of each.

    The chi-squared approximation of Friedman's test is bad for few data sets. So its p is the share of all orders
    of the cells within data sets at which the rank sums differ at least as much; of ORDERS random ones where there are
    more. The critical difference is q sqrt(k (k + 1) / 6 N) for k cells and N data sets, with q of the studentized
    range (Demsar 2006, equation 4); it counts only where Friedman's test is significant.
    """
    import numpy as np

    table = np.asarray(ranks, dtype=float)
    datasets, cells = table.shape
    centred = table - (cells + 1) / 2
    sums, exact = _orders(tuple(map(tuple, np.sort(centred, axis=1).tolist())))
    spread = float((centred.sum(axis=0) ** 2).sum())
    extreme = int(((sums**2).sum(axis=1) >= spread).sum())  # halves and their squares have no round-off
    p = extreme / len(sums) if exact else (extreme + 1) / (len(sums) + 1)
    within = float((centred**2).sum())
    return RankTest(
        datasets=datasets,
        cells=cells,
        p=p,
        exact=exact,
        agreement=spread / (datasets * within) if within else 0.0,
        critical_difference=critical_difference(cells, datasets, alpha),
        significant=p <= alpha,
        least=least_datasets(cells, alpha),
    )


@functools.lru_cache(maxsize=2)
def _orders(ranks: tuple[tuple[float, ...], ...]) -> tuple[NDArray[Any], bool]:
    """The sums over data sets, [orders, cells], of *ranks* in any order within each data set; whether these are all.

    The first data set keeps its order: only how the orders differ counts.
    """
    import numpy as np

    first, *others = map(np.array, ranks)
    if math.factorial(len(first)) ** len(others) <= ORDERS:
        sums = first[None]
        for row in others:
            sums = (sums[:, None] + np.array(list(itertools.permutations(row)))).reshape(-1, len(first))
        return sums, True
    generator, sums = np.random.default_rng(0), np.zeros((ORDERS, len(first)))
    for each in ranks:
        sums += generator.permuted(np.tile(each, (ORDERS, 1)), axis=1)
    return sums, False


@functools.cache
def critical_difference(cells: int, datasets: int, alpha: float = ALPHA) -> float:
    """Nemenyi's, of two mean ranks: q / sqrt(2) times the standard error of a difference (Demsar 2006, table 5)."""
    from scipy.stats import studentized_range

    quantile = float(studentized_range.ppf(1.0 - alpha, cells, math.inf)) / math.sqrt(2.0)
    return quantile * math.sqrt(cells * (cells + 1) / (6.0 * datasets))


@functools.cache
def least_datasets(cells: int, alpha: float = ALPHA) -> int:
    """The fewest data sets with which two of so many cells differ significantly, if all data sets agree.

    Friedman's exact p is then 1 / k!^(N - 1), and the mean ranks of the best and the worst cell differ by k - 1.
    """
    datasets = 2
    while (
        math.factorial(cells) ** (datasets - 1) < 1.0 / alpha or critical_difference(cells, datasets, alpha) > cells - 1
    ):
        datasets += 1
    return datasets
