"""Tuning curves: the best result of a cell against its number of points, with bands (Lourie, He & Cho 2024).

With N independent draws of a configuration, the i-th smallest result is at the quantile U_(i) of their distribution,
an order statistic of N uniform numbers. Intervals that hold all U_(i) at once are a band for the distribution, and so
for every quantile. The *median tuning curve*, the median of the best of n draws, is the quantile 2^(-1/n): its band is
simultaneous over all n, needs no assumption on the distribution, and is exact for all quantiles together where that is
continuous. With ties, and as only some quantiles are of a whole n, it holds more often. The same intervals bound the
mean of the best of n only where results are bounded, and then mostly by that bound; no band of a mean is given.

Points of a Sobol sequence or of a sampler that learns aren't independent draws, and have no band. With a pruner there
is no curve at all: trials that it stopped have the result of fewer epochs, and which ones it stops depends on other
points, so that the curve would end below what the search found. The package ``opda``
by the same author simulates the level of the intervals, which takes 13 seconds for 300 points; here it is computed.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from searchlib.analysis.findings import Budget, Curve
from searchlib.analysis.standing import is_enqueued
from searchlib.analysis.statistics import Direction, expected_best
from searchlib.study import Study

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from optuna.trial import FrozenTrial

CONFIDENCE = 0.95
MOST = 3000  # points; the level for so many takes some seconds


def budget(study: Study, trials: Sequence[FrozenTrial], noise: float | None) -> Budget:
    """What fewer points would have given a cell with these finished *trials*. noise: the deviation between seeds.

    Enough where doubling half of a search's points gained no more than the noise. With a pruner it isn't known.
    """
    values = [trial.values[0] for trial in trials if trial.values and study.pruner == "none"]
    biased, unbiased = expected_best(values, study.direction)
    points = max(len(unbiased) // study.searches, min(len(unbiased), 1))
    biased, unbiased = biased[:points], unbiased[:points]
    gain = abs(unbiased[-1] - unbiased[len(unbiased) // 2 - 1]) if len(unbiased) > 1 else None
    no_band = why_no_band(study, trials)
    median, low, high = ((), (), ()) if no_band else median_tuning_curve(values, study.direction)
    return Budget(
        biased=tuple(biased),
        unbiased=tuple(unbiased),
        gain=gain,
        enough=None if gain is None or noise is None else gain <= noise,
        median=median,
        median_low=low,
        median_high=high,
        no_band=no_band,
    )


def why_no_band(study: Study, trials: Sequence[FrozenTrial]) -> str | None:
    """Why the points of a cell have no band, in words; None where they are independent draws of one distribution."""
    if study.pruner != "none":
        return "with a pruner, a result depends on other points"
    if study.sampler != "random":
        name = study.sampler if isinstance(study.sampler, str) else "of the study file"
        return f"the points of sampler {name} aren't independent draws"
    if study.searches > 1:
        return "each search has its own order of the examples, so the points aren't draws of one distribution"
    if any(is_enqueued(trial) for trial in trials):
        return "some points were enqueued instead of drawn"
    if len(trials) > MOST:
        return f"a cell has more than {MOST:,} points"
    return None


def median_tuning_curve(values: Sequence[float], direction: Direction) -> tuple[Curve, Curve, Curve]:
    """(median, low, high) of the best of n = 1 .. N draws, *values* being N independent draws.

    low to high is the simultaneous 95 % confidence band (Lourie 2024, section 3). Where the draws give no bound, which
    of the high one (maximizing) is so for large n, the bound is None.
    """
    import numpy as np

    sign = 1.0 if direction == "maximize" else -1.0
    ordered = np.sort(sign * np.asarray(values, dtype=float))
    count = len(ordered)
    if count == 0:
        return (), (), ()
    quantiles = 0.5 ** (1.0 / np.arange(1, count + 1))
    lows, highs = order_statistic_intervals(count)
    known = [None, *(sign * ordered).tolist(), None]
    middle = [known[rank] for rank in np.ceil(count * quantiles).astype(int)]
    worse = [known[rank] for rank in np.searchsorted(highs, quantiles)]  # the best rank surely below the quantile
    better = [known[rank + 1] for rank in np.searchsorted(lows, quantiles)]
    low, high = (worse, better) if direction == "maximize" else (better, worse)
    return tuple(middle), tuple(low), tuple(high)


@functools.lru_cache(maxsize=256)
def order_statistic_intervals(
    count: int, confidence: float = CONFIDENCE
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(low, high), ``[count]`` each: intervals that hold all order statistics of *count* uniform numbers at once.

    The i-th is Beta(i, count + 1 - i); all intervals have equal tails at one level, which is chosen so that the chance
    that all hold is *confidence* (Learned-Miller & DeStefano 2008).
    """
    import numpy as np
    from scipy.optimize import brentq
    from scipy.stats import beta

    ranks = np.arange(1, count + 1)

    def intervals(tail: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        low: NDArray[np.float64] = np.asarray(beta.ppf(tail, ranks, count + 1 - ranks))
        return low, 1.0 - low[::-1]

    missed = 1.0 - confidence  # the tail is at least missed / (2 count), as Bonferroni, and at most missed / 2
    tail = brentq(lambda tail: chance_inside(*intervals(tail)) - confidence, missed / (3 * count), missed, rtol=1e-4)
    return intervals(tail)


def chance_inside(low: NDArray[np.float64], high: NDArray[np.float64]) -> float:
    """The chance that each order statistic of N uniform numbers lies in its interval; low, high: ``[N]``, ascending.

    Uniform numbers are the events of a Poisson process of rate N, given that there are N. Its count is followed from
    bound to bound: at high[i] more than i events have happened, and at low[i] at most i (Moscovich & Nadler 2017).
    """
    import numpy as np
    from scipy.special import gammaln, xlogy

    count = len(low)
    logs = gammaln(np.arange(count + 1) + 1.0)

    def arrivals(time: float, most: int) -> NDArray[np.float64]:
        """The chances of 0 .. most events in this time."""
        numbers = np.arange(most + 1)
        return np.asarray(np.exp(xlogy(numbers, count * time) - count * time - logs[: most + 1]))

    bounds = np.concatenate([low, high])
    chances, first, now, passed = np.ones(1), 0, 0.0, 0  # of first, first + 1, ... events; low bounds passed
    for index in np.argsort(bounds, kind="stable"):
        width = passed - first + 1
        chances = np.convolve(chances, arrivals(bounds[index] - now, width - 1))[:width]
        now = bounds[index]
        if index < count:
            passed += 1
        else:
            needed = index - count + 1
            chances, first = chances[needed - first :], needed
    return float(chances.sum() * np.exp(-count * (1.0 - now)) / arrivals(1.0, count)[count])
