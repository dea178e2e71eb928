"""Intervals, expected bests and effects of numbers, computed by scipy and statsmodels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from searchlib.analysis.resampling import error_factor

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

ROUND_OFF = 1e-12  # relative: 0.90 - 0.89 and 0.80 - 0.79 differ by less, and are the same difference
Direction = Literal["maximize", "minimize"]


def mean_interval(
    values: Sequence[float], confidence: float = 0.95, overlap: float = 0.0
) -> tuple[float, float | None, float | None, float | None]:
    """(mean, deviation, low, high) with the t interval of the mean; None for all but the mean of a single value.

    overlap: of the splits that the values were measured on (``split_overlap``).
    """
    import numpy as np
    from scipy.stats import t

    array = np.asarray(values, dtype=float)
    mean = math.fsum(values) / len(array)
    if len(array) < 2:
        return mean, None, None, None
    deviation = float(array.std(ddof=1))
    half = float(t.ppf(0.5 + confidence / 2, len(array) - 1)) * deviation * error_factor(len(array), overlap)
    return mean, deviation, mean - half, mean + half


def within_limits(metric: str, low: float | None, high: float | None) -> tuple[float | None, float | None]:
    """An interval, of an accuracy kept within 0 and 1."""
    if not metric.endswith("_accuracy") or low is None or high is None:
        return low, high
    return max(low, 0.0), min(high, 1.0)


def prediction_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """Where one further value of the same kind falls: mean ± t s sqrt(1 + 1/n); None with fewer than two values."""
    from scipy.stats import t

    if len(values) < 2:
        return None
    mean, deviation, _, _ = mean_interval(values, confidence)
    assert deviation is not None
    half = float(t.ppf(0.5 + confidence / 2, len(values) - 1)) * deviation * math.sqrt(1.0 + 1.0 / len(values))
    return mean - half, mean + half


def expected_best(values: Sequence[float], direction: Direction) -> tuple[list[float], list[float]]:
    """Expected best of n of the N points given, for n = 1..N: (with replacement, without).

    With replacement, and biased low: Dodge 2019. Without, and unbiased: Tang 2020 (and Dodge 2021),
    P(the best of n is the i-th from below) = C(i-1, n-1) / C(N, n), here by logarithms of the gamma function.
    """
    import numpy as np
    from scipy.special import gammaln

    sign = 1.0 if direction == "maximize" else -1.0
    ordered = np.sort(sign * np.asarray(values, dtype=float))
    count = len(ordered)
    if count == 0:
        return [], []
    factorials = gammaln(np.arange(count + 1) + 1.0)  # log i! at place i
    biased, unbiased = [], []
    for n in range(1, count + 1):
        low = max(0, count - 45 * count // n - 1)  # those below are the best of n with a chance of less than e^-45
        ranks = np.arange(max(low + 1, n), count + 1)  # without replacement the best of n is at least the n-th
        log_chance = factorials[ranks - 1] - factorials[n - 1] - factorials[ranks - n]
        chance = np.exp(log_chance - (factorials[count] - factorials[n] - factorials[count - n]))
        unbiased.append(sign * float(ordered[ranks - 1] @ chance / chance.sum()))
        biased.append(sign * float(ordered[low:] @ np.diff((np.arange(low, count + 1) / count) ** n)))
    return biased, unbiased


def proportion_intervals(successes: Sequence[float], totals: Sequence[int]) -> list[tuple[float, float]]:
    """The 95 % Wilson score interval (Wilson 1927) of each proportion, from statsmodels.

    A success may count half, as a tie does. Each total is at least 1.
    """
    import numpy as np
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(np.asarray(successes), np.asarray(totals), alpha=0.05, method="wilson")
    return list(zip(low.tolist(), high.tolist(), strict=True))


def proportion_interval(successes: float, total: int) -> tuple[float, float]:
    """The same of a single proportion: (low, high)."""
    return proportion_intervals([successes], [total])[0]


def r_squared(outputs: ArrayLike, targets: ArrayLike) -> float | None:
    """The share of the targets' variance that *outputs* explain, over all columns; None where they don't vary.

    outputs, targets: [examples, ...], arrays or tensors on the CPU. scikit-learn's ``r2_score`` with
    ``multioutput="variance_weighted"``.
    """
    import numpy as np

    predicted, true = np.asarray(outputs, dtype=float), np.asarray(targets, dtype=float)
    if (true == true[0]).all():
        return None
    return 1.0 - float(((predicted - true) ** 2).sum()) / float(((true - true.mean(axis=0)) ** 2).sum())
