"""Examples as a sample: the estimates against other ways to compute them, and the coverage of the intervals."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas
import pytest
from numpy.random import Generator, default_rng
from optuna.trial import TrialState, create_trial
from scipy import stats
from scipy.stats import norm
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from support import STORAGE, small_study
from support.trials import BEST, race, search_trials, store, trial

from searchlib.analysis import analyze
from searchlib.analysis.comparison import compare
from searchlib.analysis.examples import (
    accuracy_difference,
    correct_examples,
    crossed,
    example_part,
    mean_accuracy,
    satterthwaite,
    seen_interval,
    two_networks,
)
from searchlib.analysis.spending import Plan
from searchlib.stores import Stores
from searchlib.study import CORRECT, pack_examples

DRAW = default_rng(5)
FIRST, SECOND = (DRAW.random((6, 40)) < share for share in (0.8, 0.7))


def test_this_validation_set_is_what_the_paired_t_test_over_the_replicates_says() -> None:
    found = accuracy_difference(FIRST, SECOND)
    values = {
        name: {replicate: float(row.mean()) for replicate, row in enumerate(table, 1)}
        for name, table in (("first", FIRST), ("second", SECOND))
    }
    _, compared = compare(values, Plan(direction="maximize", looks=(6,)))
    other, seen = compared["second"], found.seen
    assert (found.mean, seen.low, seen.high) == pytest.approx((other.difference, other.low, other.high))
    assert (seen.p, seen.df) == (pytest.approx(other.p), 5)
    assert (found.replicates, found.examples) == (6, 40)


def test_the_variances_are_those_of_the_two_way_layout() -> None:
    """From statsmodels' mean squares: (MS replicates + MS examples - MS rest) / (R n)."""
    table = FIRST.astype(float) - SECOND
    rows = [{"value": table[r, e], "r": f"r{r}", "e": f"e{e}"} for r, e in np.ndindex(table.shape)]
    squares = anova_lm(ols("value ~ r + e", data=pandas.DataFrame(rows)).fit())["mean_sq"]
    found = crossed(table)
    assert found.replicate_part == pytest.approx(squares["r"] / table.size)
    assert found.example_part == pytest.approx((squares["e"] - squares["Residual"]) / table.size)
    assert found.population.error**2 == pytest.approx(found.replicate_part + found.example_part)
    assert found.population.low < found.seen.low < found.seen.high < found.population.high
    assert 5 < found.population.df < 5 + 39


def test_the_variances_are_unbiased() -> None:
    """A table of normal parts with known variances: 0.04 / R, 0.09 / n, and 0.25 / (R n) of the rest."""
    draw, replicates, examples = default_rng(1), 4, 30
    parts, total, means = [], [], []
    for _ in range(3000):
        table = 0.2 * draw.standard_normal((replicates, 1)) + 0.3 * draw.standard_normal(examples)
        table = table + 0.5 * draw.standard_normal((replicates, examples))
        found = crossed(table)
        parts.append(found.example_part)
        total.append(found.replicate_part + found.example_part)
        means.append(found.mean)
    variance = 0.04 / replicates + 0.09 / examples + 0.25 / (replicates * examples)
    assert np.mean(parts) == pytest.approx(0.09 / examples, rel=0.03)
    assert np.mean(total) == pytest.approx(variance, rel=0.05)
    assert np.var(means) == pytest.approx(variance, rel=0.1)


def test_of_two_given_networks() -> None:
    """Where all replicates agree, the part of the examples is that of two networks."""
    difference, error = two_networks(FIRST[0], SECOND[0])
    p10, p01 = np.mean(FIRST[0] & ~SECOND[0]), np.mean(SECOND[0] & ~FIRST[0])
    assert difference == pytest.approx(p10 - p01)
    assert error**2 == pytest.approx((p10 + p01 - (p10 - p01) ** 2) / 40)
    same = accuracy_difference(FIRST[[0, 0, 0]], SECOND[[0, 0, 0]])
    assert (same.mean, same.replicate_part) == (pytest.approx(difference), pytest.approx(0.0, abs=1e-30))
    assert same.example_part == pytest.approx(error**2 * 40 / 39)
    assert same.population.df == pytest.approx(39)
    assert same.seen.error == pytest.approx(0.0, abs=1e-15)


def test_what_does_not_vary() -> None:
    same = accuracy_difference(FIRST, FIRST)
    assert (same.mean, same.population.error, same.population.p, same.seen.p) == (0.0, 0.0, 1.0, 1.0)
    assert same.population.df == math.inf
    always = mean_accuracy(np.ones((3, 8)))
    assert (always.population.low, always.population.high, always.population.p) == (1.0, 1.0, None)


def test_new_examples_are_never_surer_than_these() -> None:
    """Two rows, and examples that vary as much: the sum has more degrees of freedom, and alone a shorter interval."""
    table = np.vstack([np.arange(20) < 10, np.arange(20) < 14])
    found = crossed(table)
    alone = stats.t.interval(0.95, found.population.df, found.mean, found.population.error)
    assert found.population.df > 2.0
    assert found.seen.low < alone[0], "so that it would be narrower"
    assert (found.population.low, found.population.high) == (found.seen.low, found.seen.high)
    assert found.population.p == found.seen.p > 2 * stats.t.sf(found.mean / found.population.error, found.population.df)
    varied = crossed(FIRST.astype(float) - SECOND)
    assert varied.population.high > varied.seen.high, "and wider where examples add more"


def test_moderated_variances_count_for_new_examples() -> None:
    """What a comparison says of these examples is kept: its error, its degrees of freedom, and p."""
    draw = default_rng(3)
    values = {cell: {r: float(v) for r, v in enumerate(0.8 + 0.02 * draw.standard_normal(4), 1)} for cell in "abcdef"}
    one = compare(values, Plan(direction="maximize", looks=(4,)))[1]["b"]
    seen = seen_interval(one)
    assert one.df > 3
    assert (seen.low, seen.high, seen.p, seen.df) == (one.low, one.high, one.p, one.df)
    assert one.p == pytest.approx(2 * stats.t.sf(one.difference / seen.error, one.df))
    table = one.difference + 0.001 * draw.standard_normal((4, 30))
    found = crossed(table, seen=seen)
    assert (found.seen, found.replicate_part) == (seen, seen.error**2)
    assert found.population.error**2 == pytest.approx(seen.error**2 + found.example_part)
    assert seen_interval(replace(one, low=None, high=None)) is None
    same = seen_interval(replace(one, low=0.1, high=0.1, difference=0.1, df=None, p=0.125))
    assert (same.error, same.df) == (0.0, 3.0)
    assert crossed(0.1 + draw.random((4, 30)), seen=same).population.p >= 0.125


def test_each_comparison_of_a_study_is_no_surer_of_new_examples() -> None:
    study, trials, draw = small_study(replicates=4), search_trials(), default_rng(2)
    tables = {source: draw.random((4, 200)) < 0.9 - 0.01 * source for source in BEST}
    repeated = []
    for source, table in tables.items():
        for replicate, row in enumerate(table, 1):
            params = {**trials[source].params, "replicate": replicate}
            repeated.append(trial(params, float(row.mean()), source=source))
            repeated[-1].system_attrs[CORRECT] = pack_examples(row)
    store(study, trials, repeated, race(4, BEST, looks=(4,)))
    found = analyze(study, Stores(STORAGE).read(study))
    numbers = {cell.label: cell.trial for cell in found.cells}
    assert len(found.comparisons) == 3
    for one in found.comparisons:
        table = tables[numbers[one.cell_label]].astype(float) - tables[numbers[one.against_label]]
        wanted = crossed(table, seen=seen_interval(one)).population
        assert one.df > 3, "moderated"
        assert (one.population_low, one.population_high) == pytest.approx((wanted.low, wanted.high))
        assert one.population_p == pytest.approx(wanted.p)
        assert one.population_low <= one.low < one.high <= one.population_high
        assert one.population_p >= one.p


def test_what_is_no_table() -> None:
    with pytest.raises(ValueError, match="two shapes"):
        accuracy_difference(FIRST, SECOND[:5])
    for table in (FIRST[:1], FIRST[:, :1], FIRST[0]):
        with pytest.raises(ValueError, match="at least two replicates by two examples"):
            example_part(table)
    with pytest.raises(ValueError, match="same examples"):
        two_networks(FIRST, SECOND)


def test_degrees_of_freedom() -> None:
    assert satterthwaite(2.0, 7.0) == pytest.approx(7.0)
    assert satterthwaite(1.0, 4.0, 1.0, 4.0) == pytest.approx(8.0), "two equal variances pool"
    assert satterthwaite(1.0, 4.0, 0.0, 99.0) == pytest.approx(4.0)
    assert satterthwaite(0.0, 4.0) == math.inf


def test_the_bits_of_a_trial() -> None:
    note = {CORRECT: pack_examples(FIRST[0])}
    trial = create_trial(state=TrialState.COMPLETE, value=0.5, system_attrs=note)
    found = correct_examples(trial)
    assert found is not None
    assert found.tolist() == FIRST[0].tolist()
    for broken in ({}, {CORRECT: "40 abc"}, {CORRECT: 3}):
        assert correct_examples(create_trial(state=TrialState.COMPLETE, value=0.5, system_attrs=broken)) is None


# ------------------------------------------------------------------------------------------------------ coverage


def draw_tables(draw: Generator, shape: tuple[int, int], accuracies: tuple[float, ...], seeds: float) -> list:
    """Correctness of each cell: examples differ in difficulty, to all and to each cell; seeds by *seeds*.

    A network is right where a normal variable with these parts is positive, so that the accuracy over all seeds and all
    of the population is known.
    """
    replicates, examples = shape
    difficulty, own = 1.5 * draw.standard_normal(examples), 0.5
    deviation = math.sqrt(1.0 + 1.5**2 + own**2 + seeds**2)
    return [
        norm.ppf(accuracy) * deviation
        + difficulty
        + own * draw.standard_normal(examples)
        + seeds * draw.standard_normal((replicates, 1))
        + draw.standard_normal(shape, dtype=np.float32)
        > 0.0
        for accuracy in accuracies
    ]


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [0.02, 0.2], ids=["examples vary more", "seeds vary more"])
@pytest.mark.parametrize(("replicates", "examples"), [(4, 500), (5, 500), (10, 500), (4, 10_000), (10, 10_000)])
def test_the_intervals_cover_the_truth_of_the_population(replicates: int, examples: int, seeds: float) -> None:
    """In 93 to 97 % of the studies, and three Monte Carlo standard errors; over the replicates alone, in far fewer."""
    draw, truth = default_rng([replicates, examples]), (0.9, 0.88)
    studies = 400 if examples == 500 else 100
    covered = dict.fromkeys(("difference", "mean", "difference, seen", "mean, seen"), 0)
    for _ in range(studies):
        first, second = draw_tables(draw, (replicates, examples), truth, seeds)
        for name, found, true in (
            ("difference", accuracy_difference(first, second), truth[0] - truth[1]),
            ("mean", mean_accuracy(first), truth[0]),
        ):
            covered[name] += found.population.low <= true <= found.population.high
            covered[f"{name}, seen"] += found.seen.low <= true <= found.seen.high
    error = math.sqrt(0.95 * 0.05 / studies)
    shares = {name: count / studies for name, count in covered.items()}
    assert shares["difference"] == pytest.approx(0.95, abs=0.02 + 3 * error)
    assert shares["mean"] == pytest.approx(0.95, abs=0.02 + 3 * error)
    if seeds < 0.1:
        assert shares["mean, seen"] < 0.87
        assert replicates < 10 or shares["difference, seen"] < 0.92
