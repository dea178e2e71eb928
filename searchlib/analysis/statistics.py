"""Intervals, expected bests and effects of numbers, computed by scipy and statsmodels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from searchlib.analysis.resampling import error_factor

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

ROUND_OFF = 1e-12  # relative: 0.90 - 0.89 and 0.80 - 0.79 differ by less, and are the same difference
Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True, kw_only=True)
class Effect:
    """One term of the analysis of variance over the replicates; see ``effects``.

    term: the name of a hyperparameter, or two names joined by a colon for their interaction. df: degrees of freedom.
    f, p: of the F test; p is approximate. partial_eta_squared: SS / (SS + SS residual), from 0 to 1. omega_squared: the
    share of the variance with the small-sample bias removed, at least 0.
    """

    term: str
    df: int
    sum_sq: float
    f: float
    p: float
    partial_eta_squared: float
    omega_squared: float


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


def effects(
    cells: Sequence[Mapping[str, Any]],
    values: Sequence[Mapping[int, float]],
    factors: Sequence[str],
    overlap: float = 0.0,
) -> tuple[list[Effect], str | None]:
    """Main effects and two-way interactions of the *factors*: (terms, None), or ([], why there are none).

    cells: the factors' values of each cell; values: its values by replicate. Analysis of variance (type II) by
    statsmodels over the replicates that all cells share, the replicate being a block. p is approximate: the variances
    of all cells are pooled, and cells with the same seed start from related weights. Each term: df, sum_sq, f, p,
    partial_eta_squared = SS / (SS + SS residual), and omega_squared, at least 0, which is
    (SS - df * MS residual) / (SS total + MS residual) (Hays 1963). overlap: of the replicates' splits; a mean over J of
    them then has the variance (1 / J + overlap) s² instead of s² / J (``resampling``), and f is smaller by that factor.
    """
    if not factors:
        return [], "no effects: the study has no scientific dimension"
    if len(cells) < 2:
        return [], "no effects: fewer than two cells are replicated"
    levels = {name: list(dict.fromkeys(cell.get(name, None) for cell in cells)) for name in factors}
    if any(name not in cell for cell in cells for name in factors):
        return [], "no effects: a scientific dimension is conditional, so that not all cells have all dimensions"
    if len(cells) != math.prod(map(len, levels.values())):
        return [], "no effects: not all combinations of the scientific values are replicated"
    common = sorted(set.intersection(*(set(found) for found in values)))
    if len(common) < 2:
        return [], "no effects: fewer than two seeds are common to all cells"
    varied = [name for name in factors if len(levels[name]) > 1]
    rows: list[dict[str, Any]] = [
        {"value": found[replicate], "block": f"b{replicate}"}
        | {f"f{place}": f"l{levels[name].index(cell[name])}" for place, name in enumerate(varied)}
        for cell, found in zip(cells, values, strict=True)
        for replicate in common
    ]
    if max(row["value"] for row in rows) - min(row["value"] for row in rows) <= 0.0:
        return [], "no effects: all replicates have the same value"
    return _anova(rows, varied, 1.0 + len(common) * overlap)


def _anova(rows: list[dict[str, Any]], factors: Sequence[str], inflation: float) -> tuple[list[Effect], str | None]:
    """inflation: of the variance of a cell's mean, over what the residuals say of it."""
    import pandas
    from scipy.stats import f as f_distribution
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    terms = {f"f{position}": name for position, name in enumerate(factors)}
    terms |= {f"{one}:{other}": f"{terms[one]}:{terms[other]}" for one, other in itertools.combinations(terms, 2)}
    model = ols(f"value ~ {' + '.join(terms)} + block", data=pandas.DataFrame(rows)).fit()
    if model.df_resid < 1 or model.ssr <= ROUND_OFF * model.centered_tss:
        return [], "no effects: the replicates of each cell don't vary"
    table = anova_lm(model, typ=2)
    mean_square = float(model.mse_resid)
    found = []
    for code, name in terms.items():
        df, sum_sq = float(table.loc[code, "df"]), float(table.loc[code, "sum_sq"])
        f = float(table.loc[code, "F"]) / inflation
        found.append(
            Effect(
                term=name,
                df=round(df),
                sum_sq=sum_sq,
                f=f,
                p=float(f_distribution.sf(f, df, model.df_resid)),
                partial_eta_squared=sum_sq / (sum_sq + float(model.ssr)),
                omega_squared=max(0.0, (sum_sq - df * mean_square) / (float(model.centered_tss) + mean_square)),
            )
        )
    return found, None


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
