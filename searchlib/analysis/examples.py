"""What the validation examples, as a sample, add to the variance of a mean accuracy or of a difference of two.

The correctness of R replicates on the same n validation examples is a table with two crossed factors, both random: the
replicates are drawn from all seeds, the examples from the population that the data come from. A claim about *this
validation set* is one for these examples, and only the replicates vary; a claim about *the population* is one for new
examples, too, with the same training set.

A value of the table, the correctness of one network or the difference of two paired ones, is modelled as

    value[r, e] = mean + replicate[r] + example[e] + rest[r, e]

and the three mean squares of this two-way layout without repetition give unbiased estimates of all variances
(Cornfield & Tukey 1956; Searle, Casella & McCulloch, Variance Components, 1992, chapter 4; as U-statistics they need no
normal distributions, Owen 2007, The pigeonhole bootstrap, section 2). All variances here are of means, in the squared
unit of the values: accuracies from 0 to 1.

New examples are those that nothing was chosen by. The configurations and the best epochs were chosen on the examples at
hand, and what a value gains by that isn't part of these intervals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from searchlib.analysis.comparison import Comparison
from searchlib.analysis.spending import Plan
from searchlib.analysis.standing import CellKey, has_learnt
from searchlib.study import CORRECT, unpack_examples

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import ArrayLike, NDArray
    from optuna.trial import FrozenTrial


def correct_examples(trial: FrozenTrial) -> NDArray[np.bool_] | None:
    """Which validation examples a replicate's best epoch classifies correctly, ``[n]``; their mean is its accuracy.

    The examples have the order of the validation split: the same ones for all replicates of a study, but for
    ``replicate_split`` and ``search_split``, where replicates or searches have their own. None for trials of the
    search, of a regression, that didn't complete, and of versions that didn't keep it; and where what is stored can't
    be read, as ``verify`` tells.
    """
    try:
        return unpack_examples(trial.system_attrs[CORRECT])
    except (KeyError, ValueError):
        return None


def correct_by_unit(
    repeated: Mapping[int, CellKey], replicates: Sequence[FrozenTrial], most: float, plan: Plan
) -> dict[CellKey, dict[int, NDArray[np.float64]]]:
    """The share of right answers to each validation example, by cell and unit: the mean over the unit's seeds.

    Of the replicates that learnt, up to *most*; as ``unit_means``, by example. A cell is left out where of one of its
    replicates it isn't known, and all are where replicates or searches have splits, and so examples, of their own.
    """
    rows: dict[CellKey, dict[int, list[NDArray[np.float64]]]] = {}
    unknown = set()
    for trial in replicates if plan.overlap == 0.0 else ():
        cell, replicate = repeated.get(trial.user_attrs.get("source", -1)), trial.params["replicate"]
        if cell is None or replicate > most or not trial.values or not has_learnt(trial):
            continue
        found = correct_examples(trial)
        if found is None:
            unknown.add(cell)
        else:
            rows.setdefault(cell, {}).setdefault(plan.unit(replicate), []).append(found.astype(float))
    return {
        cell: {unit: sum(of[1:], of[0]) / len(of) for unit, of in units.items()}
        for cell, units in rows.items()
        if cell not in unknown
    }


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean with what is known of its error.

    error: its standard error; df: the degrees of freedom of that. low, high: the t interval. p: of the two-sided t
    test that the mean is 0. Where nothing varies the error is 0, and p is 1 for a mean of 0, else None. One for the
    population is at least as wide as that for these examples, and its p at least as large (``_no_surer``).
    """

    error: float
    df: float
    low: float
    high: float
    p: float | None


@dataclass(frozen=True, kw_only=True)
class Crossed:
    """A mean over *replicates* and *examples*, for these examples and for their population.

    mean: over the whole table. replicate_part, example_part: of the variance of the mean, what replicates as a sample
    add to it, and what examples do; their sum is the variance for the population. seen: the interval for this
    validation set, where replicates alone vary. population: that for the population of the examples.
    """

    mean: float
    replicates: int
    examples: int
    replicate_part: float
    example_part: float
    seen: Interval
    population: Interval


def mean_accuracy(correct: ArrayLike, confidence: float = 0.95) -> Crossed:
    """One cell's mean accuracy. correct: ``[R, n]``, 0 or 1 by replicate and example; R and n at least 2."""
    return crossed(correct, confidence)


def accuracy_difference(first: ArrayLike, second: ArrayLike, confidence: float = 0.95) -> Crossed:
    """The difference of two cells' mean accuracies, positive where the first is better.

    first, second: ``[R, n]`` each, 0 or 1, of the R replicates that both have, in the same order, on the same examples.
    Both factors are paired: what a seed or an example does to both cells alike cancels (Bouthillier 2021, section 3).
    """
    import numpy as np

    one, other = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if one.shape != other.shape:
        raise ValueError(f"tables of two shapes, {one.shape} and {other.shape}, aren't paired")
    return crossed(one - other, confidence)


def crossed(values: ArrayLike, confidence: float = 0.95, seen: Interval | None = None) -> Crossed:
    """The mean of a table ``[R, n]`` of independent replicates by examples; R and n at least 2.

    A row may be a mean itself: where several searches have several seeds each, seeds of one search aren't independent,
    and the rows are the searches, each the mean over its seeds. seen: the interval for these examples where it is known
    better than by the R rows alone, as with moderated variances (``moderation``).
    """
    table = _table(values)
    count, examples = table.shape
    rows = table.mean(axis=1)
    mean = float(table.mean())
    seen = seen or _interval(mean, float(rows.var(ddof=1)) / count, count - 1.0, confidence)
    part, added = seen.error**2, example_part(table)
    df = satterthwaite(part, seen.df, added, examples - 1)
    return Crossed(
        mean=mean,
        replicates=count,
        examples=examples,
        replicate_part=part,
        example_part=added,
        seen=seen,
        population=_no_surer(_interval(mean, part + added, df, confidence), seen),
    )


def example_part(values: ArrayLike) -> float:
    """What examples as a sample add to the variance of the mean of a table ``[R, n]``; R and n at least 2.

    (variance over the examples of their means - what the replicates' noise adds to it) / n, the noise being the mean
    square of ``rest`` over R. Unbiased before it is cut off at 0. With the R rows' own part, variance(row means) / R,
    it gives the variance of the mean for the population without counting ``rest`` twice, which the row means hold.
    """
    table = _table(values)
    count, examples = table.shape
    columns = table.mean(axis=0)
    rest = table - table.mean(axis=1, keepdims=True) - columns + table.mean()
    noise = float((rest**2).sum()) / ((count - 1) * (examples - 1))
    part: float = max(0.0, float(columns.var(ddof=1)) - noise / count) / examples
    return part


def satterthwaite(*parts: float) -> float:
    """Degrees of freedom of a sum of independent variances, given as variance, df, variance, df, ... (Satterthwaite
    1946): (sum of variances)² / sum of (variance² / df). Infinite where all are 0."""
    total = math.fsum(parts[::2])
    below = math.fsum(part * part / df for part, df in zip(parts[::2], parts[1::2], strict=True))
    return total * total / below if below > 0.0 else math.inf


def two_networks(first: ArrayLike, second: ArrayLike) -> tuple[float, float]:
    """(difference of accuracies, its standard error over examples) of two given networks on the same n examples.

    first, second: ``[n]``, 0 or 1. The variance is (p10 + p01 - (p10 - p01)²) / n, with the shares of examples that
    only the first or only the second gets right (McNemar 1947; Dietterich 1998, section 3.1). It is about these two
    networks: what another seed would give, it can't say.
    """
    import numpy as np

    one, other = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if one.shape != other.shape or one.ndim != 1 or one.size == 0:
        raise ValueError(f"not two networks on the same examples: {one.shape} and {other.shape}")
    only_one, only_other = float((one & ~other).mean()), float((other & ~one).mean())
    difference = only_one - only_other
    return difference, math.sqrt(max(0.0, only_one + only_other - difference**2) / one.size)


def _table(values: ArrayLike) -> NDArray[np.float64]:
    import numpy as np

    table: NDArray[Any] = np.asarray(values, dtype=float)
    if table.ndim != 2 or min(table.shape) < 2:
        raise ValueError(f"a table of shape {table.shape}; at least two replicates by two examples are needed")
    return table


def for_new_examples(
    examples: Mapping[CellKey, Mapping[int, NDArray[Any]]],
    compared_by: Plan,
    leading: CellKey | None,
    other: CellKey,
    compared: Comparison,
) -> dict[str, Any]:
    """The interval and p of a difference for new examples, too; None where the examples aren't known.

    compared: the same difference for these examples, whose moderated variance and degrees of freedom count here, too.
    """
    one, two = examples.get(leading or (), {}), examples.get(other, {})
    common = [unit for unit in one if unit in two]
    seen = seen_interval(compared)
    if len(common) < 2 or seen is None:
        return {"population_low": None, "population_high": None, "population_p": None}
    sign = 1.0 if compared_by.direction == "maximize" else -1.0
    found = crossed([sign * (one[unit] - two[unit]) for unit in common], seen=seen).population
    return {"population_low": found.low, "population_high": found.high, "population_p": found.p}


def seen_interval(one: Comparison) -> Interval | None:
    """The interval of a comparison, which is about these examples; None where it has none. Values that don't vary have
    no degrees of freedom, and no error: what is added to it decides."""
    from scipy.special import stdtrit

    if one.difference is None or one.low is None or one.high is None:
        return None
    df = one.df or one.units - 1.0
    error = (one.high - one.difference) / float(stdtrit(df, 0.975))
    return Interval(error=error, df=df, low=one.low, high=one.high, p=one.p)


def _no_surer(found: Interval, seen: Interval) -> Interval:
    """*found*, about the population, widened to hold *seen*, about these examples alone; its p no smaller than theirs.

    Their error has few degrees of freedom, the sum of both may have far more, and so a shorter interval or a smaller p.
    """
    known = [p for p in (found.p, seen.p) if p is not None]
    return replace(
        found, low=min(found.low, seen.low), high=max(found.high, seen.high), p=max(known) if known else None
    )


def _interval(mean: float, variance: float, df: float, confidence: float) -> Interval:
    from scipy.stats import t

    error = math.sqrt(variance)
    if error == 0.0:
        return Interval(error=0.0, df=df, low=mean, high=mean, p=1.0 if mean == 0.0 else None)
    half = float(t.ppf(0.5 + confidence / 2, df)) * error
    return Interval(error=error, df=df, low=mean - half, high=mean + half, p=float(2 * t.sf(abs(mean) / error, df)))
