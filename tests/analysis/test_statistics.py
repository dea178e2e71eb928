"""Intervals, R², expected bests and effects, against scipy, scikit-learn, statsmodels, enumeration and by hand."""

from __future__ import annotations

import itertools
import math
from statistics import mean

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import r2_score

from searchlib.analysis.statistics import (
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
