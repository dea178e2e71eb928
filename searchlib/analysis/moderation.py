"""Variances estimated from few values, steadied by those of the other cells (Smyth 2004, Statistical Applications in
Genetics and Molecular Biology 3:3)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

LEAST = 1e-5  # of the median: a variance below is taken as this, since its logarithm would decide alone


def prior_variance(variances: np.ndarray[Any, Any], df: np.ndarray[Any, Any]) -> tuple[float, float]:
    """(d0, s0²): how variances are distributed, as a scaled inverse chi-square distribution fitted by its moments.

    variances, df: two or more estimates, with the degrees of freedom of each. d0 is infinite where they differ by no
    more than chance. Smyth 2004, section 6.2, on the logarithms.
    """
    import numpy as np
    from scipy.special import digamma, polygamma

    logs = np.log(np.maximum(variances, LEAST * np.median(variances)))
    centered = logs - digamma(df / 2) + np.log(df / 2)
    mean, spread = float(centered.mean()), float(centered.var(ddof=1) - polygamma(1, df / 2).mean())
    if spread <= 1e-9:
        return math.inf, math.exp(mean)
    d0 = 2.0 * _inverse_trigamma(spread)
    return d0, math.exp(mean + float(digamma(d0 / 2)) - math.log(d0 / 2))


def _inverse_trigamma(value: float) -> float:
    """The positive y whose trigamma is *value*, by Newton's iteration of Smyth 2004, appendix."""
    from scipy.special import polygamma

    if value > 1e7:
        return 1.0 / math.sqrt(value)
    if value < 1e-6:
        return 1.0 / value
    y = 0.5 + 1.0 / value
    for _ in range(50):
        trigamma = float(polygamma(1, y))
        step = trigamma * (1.0 - trigamma / value) / float(polygamma(2, y))
        y += step
        if -step < 1e-9 * y:
            break
    return y


def moderated(
    variances: np.ndarray[Any, Any], df: np.ndarray[Any, Any]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The variances of several comparisons, each drawn towards what they have in common, and their degrees of freedom.

    (d0 s0² + df s²) / (d0 + df), with d0 + df degrees of freedom. d0 is half of the fitted one; and with up to six
    comparisons, since all share the winner, at most the df of the comparison itself, with more that many sixths of it;
    those without a variance of their own, as of failures, don't count. So the level holds where the cells' deviations
    differ tenfold (docs/method.md has the figures). Variances that have
    less in common (a fitted d0 below 2) stay as they are, as does that of a single comparison.
    """
    import numpy as np

    usable = (df > 0) & (variances > 0.0)
    if usable.sum() < 2:
        return variances, df
    d0, s0 = prior_variance(variances[usable], df[usable])
    if d0 < 2.0:
        return variances, df
    weight = np.where(df > 0, np.minimum(d0 / 2, df * max(1.0, usable.sum() / 6)), 0.0)
    return (weight * s0 + df * variances) / np.maximum(weight + df, 1.0), weight + df
