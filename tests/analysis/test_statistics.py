"""Intervals, R², expected bests and effects, against scipy, scikit-learn, statsmodels, enumeration and by hand."""

from __future__ import annotations

import itertools
import math
from statistics import mean

import numpy as np
import pandas
import pytest
import torch
from scipy import stats
from sklearn.metrics import r2_score
from support.series import noisy, series

from searchlib.analysis.statistics import (
    effects,
    expected_best,
    mean_interval,
    prediction_interval,
    proportion_interval,
    proportion_intervals,
    r_squared,
)


def test_the_interval_of_a_mean_is_the_t_interval() -> None:
    values = [0.81, 0.84, 0.79, 0.83]
    found = mean_interval(values)
    wanted = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert found == pytest.approx((np.mean(values), np.std(values, ddof=1), *wanted))
    assert mean_interval([0.5]) == (0.5, None, None, None)
    assert mean_interval([0.5, 0.5]) == (0.5, 0.0, 0.5, 0.5)


def test_the_prediction_interval_holds_one_further_value() -> None:
    """Of a normal sample: at the level it says, and wider than the interval of the mean by sqrt(n + 1)."""
    rng = np.random.default_rng(3)
    samples = rng.standard_normal((2000, 6))
    intervals = [prediction_interval(sample[:5].tolist()) for sample in samples]
    inside = sum(low <= further <= high for (low, high), further in zip(intervals, samples[:, 5], strict=True))
    assert abs(inside - 1900) < 4 * math.sqrt(2000 * 0.95 * 0.05)
    average, _, low, high = mean_interval([0.81, 0.84, 0.79, 0.83])
    wide = prediction_interval([0.81, 0.84, 0.79, 0.83])
    assert wide == pytest.approx((average - math.sqrt(5) * (average - low), average + math.sqrt(5) * (high - average)))
    assert prediction_interval([0.5]) is None


@pytest.mark.parametrize(("successes", "total"), [(0, 1), (1, 1), (0, 29), (29, 29), (3, 7), (8800, 10_000)])
def test_the_interval_of_a_proportion_is_wilsons(successes: int, total: int) -> None:
    wanted = stats.binomtest(successes, total).proportion_ci(0.95, method="wilson")
    low, high = proportion_interval(successes, total)
    assert (low, high) == pytest.approx((wanted.low, wanted.high), abs=1e-14)
    assert 0.0 <= low < high <= 1.0


def test_half_a_success_lies_between_none_and_one() -> None:
    none, half, one = proportion_intervals([0, 0.5, 1], [5, 5, 5])
    assert none < half < one
    assert proportion_intervals([], []) == []


@pytest.mark.parametrize("shape", [(50,), (50, 1), (50, 3)])
def test_r_squared_is_that_of_scikit_learn(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    targets = rng.standard_normal(shape)
    outputs = targets + 0.3 * rng.standard_normal(shape)
    assert r_squared(outputs, targets) == pytest.approx(r2_score(targets, outputs, multioutput="variance_weighted"))
    assert r_squared(targets, targets) == 1.0
    assert r_squared(-targets, targets) < 0.0, "worse than the mean of the targets"
    assert r_squared(outputs, np.full(shape, 0.1)) is None, "nothing to explain"
    assert r_squared(torch.tensor(outputs), torch.tensor(targets)) == r_squared(outputs, targets)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_expected_best_is_what_enumeration_gives(direction) -> None:
    values = [0.7, 0.9, 0.7, 0.85, 0.1]
    best = max if direction == "maximize" else min
    biased, unbiased = expected_best(values, direction)
    for n in range(1, 6):
        assert biased[n - 1] == pytest.approx(mean(best(drawn) for drawn in itertools.product(values, repeat=n)))
        assert unbiased[n - 1] == pytest.approx(mean(best(drawn) for drawn in itertools.combinations(values, n)))
    assert expected_best([], direction) == ([], [])
    assert expected_best([0.5], direction) == ([0.5], [0.5])


def test_expected_best_of_many_points_is_exact() -> None:
    values = sorted(np.random.default_rng(5).normal(size=400).tolist())
    biased, unbiased = expected_best(values, "maximize")
    for n in (1, 2, 20, 200, 399, 400):
        chances = [math.comb(i - 1, n - 1) / math.comb(400, n) for i in range(1, 401)]
        assert unbiased[n - 1] == pytest.approx(
            math.fsum(p * v for p, v in zip(chances, values, strict=True)), abs=1e-10
        )
        powers = [(i / 400) ** n - ((i - 1) / 400) ** n for i in range(1, 401)]
        assert biased[n - 1] == pytest.approx(math.fsum(p * v for p, v in zip(powers, values, strict=True)), abs=1e-10)
    assert unbiased[-1] == pytest.approx(max(values), abs=1e-12)
    assert all(below <= above + 1e-12 for below, above in itertools.pairwise(unbiased))


def factorial(*levels: tuple[str, tuple], seeds: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    names = [name for name, _ in levels]
    cells = [dict(zip(names, of, strict=True)) for of in itertools.product(*(values for _, values in levels))]
    return cells, [noisy(rng, seeds, float(position)) for position, _ in enumerate(cells)]


def test_effects_by_hand() -> None:
    """Sums of squares of a balanced two-way layout with blocks, from the marginal means."""
    cells, values = factorial(("f", ("x", "y", "z")), ("g", (1, 2)), seeds=4)
    found, note = effects(cells, values, ["f", "g"])
    assert note is None
    data = np.array([[list(v.values()) for v in values[2 * i : 2 * i + 2]] for i in range(3)])  # [3, 2, 4]
    grand = data.mean()
    f = data.mean(axis=(1, 2)) - grand
    g = data.mean(axis=(0, 2)) - grand
    both = data.mean(axis=2) - grand - f[:, None] - g[None, :]
    block = data.mean(axis=(0, 1)) - grand
    sums = {"f": 8 * (f**2).sum(), "g": 12 * (g**2).sum(), "f:g": 4 * (both**2).sum()}
    total = ((data - grand) ** 2).sum()
    residual = total - sum(sums.values()) - 6 * (block**2).sum()
    df = {"f": 2, "g": 1, "f:g": 2}
    assert [effect.term for effect in found] == ["f", "g", "f:g"]
    for effect in found:
        name = effect.term
        ratio = (sums[name] / df[name]) / (residual / 15)
        assert effect.df == df[name]
        assert effect.sum_sq == pytest.approx(sums[name])
        assert effect.f == pytest.approx(ratio)
        assert effect.p == pytest.approx(stats.f.sf(ratio, df[name], 15))
        assert effect.partial_eta_squared == pytest.approx(sums[name] / (sums[name] + residual))
        omega = (sums[name] - df[name] * residual / 15) / (total + residual / 15)
        assert effect.omega_squared == pytest.approx(max(0.0, omega))


def test_one_factor_is_a_repeated_measures_analysis() -> None:
    from statsmodels.stats.anova import AnovaRM

    cells, values = factorial(("f", (None, True, 2.5)), seeds=6)
    found, _ = effects(cells, values, ["f"])
    table = pandas.DataFrame(
        [
            {"level": str(cell["f"]), "seed": seed, "value": value}
            for cell, of in zip(cells, values, strict=True)
            for seed, value in of.items()
        ]
    )
    wanted = AnovaRM(table, "value", "seed", within=["level"]).fit().anova_table
    assert [effect.term for effect in found] == ["f"]
    assert found[0].f == pytest.approx(wanted["F Value"].item())
    assert found[0].p == pytest.approx(wanted["Pr > F"].item())


def test_three_factors_have_two_way_interactions_only() -> None:
    cells, values = factorial(("a", (1, 2)), ("b", (1, 2)), ("c", (1, 2)), seeds=3)
    found, note = effects(cells, values, ["a", "b", "c"])
    assert note is None
    assert [effect.term for effect in found] == ["a", "b", "c", "a:b", "a:c", "b:c"]


def test_effects_use_the_seeds_that_all_cells_share() -> None:
    cells, values = factorial(("f", (1, 2)), ("g", (1, 2)), seeds=5)
    more = [{**of, 6: 100.0} if position else of for position, of in enumerate(values)]
    assert effects(cells, more, ["f", "g"]) == effects(cells, values, ["f", "g"])


def test_effects_that_cannot_be_computed_say_why() -> None:
    cells, values = factorial(("f", (1, 2)), ("g", (1, 2)), seeds=3)
    for arguments, reason in [
        (([{}], values[:1], []), "no scientific dimension"),
        (([], [], ["f"]), "fewer than two cells"),
        ((cells[:3], values[:3], ["f", "g"]), "not all combinations"),
        (([*cells[:3], {"f": 2}], values, ["f", "g"]), "conditional"),
        ((cells, [{1: value[1]} for value in values], ["f", "g"]), "fewer than two seeds"),
        ((cells, [*values[:3], {9: 1.0, 10: 2.0}], ["f", "g"]), "fewer than two seeds"),
        ((cells, [series(0.5, 0.5)] * 4, ["f", "g"]), "same value"),
        ((cells, [series(i, i) for i in range(4)], ["f", "g"]), "don't vary"),
    ]:
        found, note = effects(*arguments)
        assert found == []
        assert reason in note


def test_a_dimension_with_one_value_has_no_effect_and_spoils_none() -> None:
    cells, values = factorial(("f", ("only",)), ("g", (1, 2)), seeds=4)
    found, _ = effects(cells, values, ["f", "g"])
    assert [effect.term for effect in found] == ["g"]
