"""Median tuning curves and their bands: against counting, by simulation, and none where points aren't independent."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import beta
from support import STORAGE, small_study
from support.trials import BEST, race, replicates_of, search_trials, store, trial

from searchlib import SAMPLERS, Choice, Study
from searchlib.analysis import analyze
from searchlib.analysis.tuning import chance_inside, median_tuning_curve, order_statistic_intervals
from searchlib.report.exhibits.budget import budget_curves
from searchlib.report.exhibits.budget import draw as draw_budget
from searchlib.report.exhibits.exhibit import Missing
from searchlib.stores import Stores

RANDOM = {"sampler": "random", "trials": 12}


def test_the_chance_that_all_order_statistics_lie_in_their_intervals() -> None:
    assert chance_inside(np.array([0.2]), np.array([0.7])) == pytest.approx(0.5)
    low, high = np.array([0.1, 0.3]), np.array([0.6, 0.9])  # twice the area of 0.1 < u < 0.6, 0.3 < v < 0.9, u < v
    assert chance_inside(low, high) == pytest.approx(2 * (0.5 * 0.6 - 0.3 * 0.3 / 2))
    drawn = np.sort(np.random.default_rng(0).random((40_000, 7)), axis=1)
    ranks = np.arange(1, 8)
    low, high = beta.ppf(0.03, ranks, 8 - ranks), beta.ppf(0.99, ranks, 8 - ranks)
    share = ((drawn >= low) & (drawn <= high)).all(axis=1).mean()
    assert chance_inside(low, high) == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize("count", [1, 2, 9, 64, 500])
def test_the_intervals_hold_all_at_once_at_their_level(count: int) -> None:
    low, high = order_statistic_intervals(count)
    assert chance_inside(low, high) == pytest.approx(0.95, abs=1e-4)
    ranks = np.arange(1, count + 1)
    tails = beta.cdf(low, ranks, count + 1 - ranks)
    assert tails == pytest.approx(np.full(count, tails[0])), "each misses as often"
    assert beta.sf(high, ranks, count + 1 - ranks) == pytest.approx(tails)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize("count", [6, 20])
def test_a_band_holds_the_whole_curve_as_often_as_it_says(count: int, direction: str) -> None:
    """The quantile 2^(-1/n) of a log-normal distribution, for n = 1 .. N at once; and exactly so for every quantile."""
    rng = np.random.default_rng(count)
    studies = 800
    whole = 0
    lows, highs = order_statistic_intervals(count)
    quantiles = 0.5 ** (1.0 / np.arange(1, count + 1))
    inside = 0
    for uniform in rng.random((studies, count)):
        inside += bool(((np.sort(uniform) >= lows) & (np.sort(uniform) <= highs)).all())
        values = np.exp(uniform if direction == "maximize" else -uniform)
        truth = np.exp(quantiles if direction == "maximize" else -quantiles)
        _, low, high = median_tuning_curve(values.tolist(), direction)
        whole += all(
            (a is None or a <= true) and (b is None or true <= b) for a, true, b in zip(low, truth, high, strict=True)
        )
    error = math.sqrt(studies * 0.95 * 0.05)
    assert abs(inside - 0.95 * studies) < 3.5 * error
    assert whole >= inside, "whole numbers of points are some of the quantiles"
    assert whole < studies, "a band that is never wrong is too wide"


def test_the_median_of_the_best_of_n() -> None:
    """Of 8 points: the least rank with at least 2^(-1/n) of them up to it."""
    values = [0.3, 0.8, 0.1, 0.7, 0.5, 0.2, 0.6, 0.4]
    median, low, high = median_tuning_curve(values, "maximize")
    assert median == (0.4, 0.6, 0.7, 0.7, 0.7, 0.8, 0.8, 0.8)
    assert low[0] == 0.1, "the median is above the least of 8"
    assert high[0] == 0.8
    assert high[1:] == (None,) * 7, "eight points have no upper bound for the 71 % quantile"
    known = [one for one in low if one is not None]
    assert known == sorted(known)
    mirrored = median_tuning_curve([-value for value in values], "minimize")
    assert mirrored == tuple(tuple(None if one is None else -one for one in curve) for curve in (median, high, low)), (
        "a loss is an accuracy upside down"
    )
    assert median_tuning_curve([], "maximize") == ((), (), ())
    assert median_tuning_curve([0.5], "maximize") == ((0.5,), (None,), (None,))


def budgets(known: list | None = None, **settings) -> list:
    study = small_study(**settings)
    store(study, known or search_trials())
    return [cell.budget for cell in analyze(study, Stores(STORAGE).read(study)).cells]


def material_of(study: Study) -> SimpleNamespace:
    return SimpleNamespace(findings=analyze(study, Stores(STORAGE).read(study)), definition=study.definition())


def test_independent_points_have_a_band() -> None:
    params = search_trials()[0].params
    trials = [trial({**params, "learning_rate": 0.01 * (1 + n)}, 0.5 + n / 100) for n in range(40)]
    (found,) = budgets(trials, **RANDOM)
    assert found.no_band is None
    values = [one.values[0] for one in trials]
    assert (found.median, found.median_low, found.median_high) == median_tuning_curve(values, "maximize")
    study = small_study(**RANDOM)
    plot = budget_curves(analyze(study, Stores(STORAGE).read(study)))
    (band,) = [trace for trace in plot.figure().data if trace.fill == "toself"]
    bounds = [n for n, high in enumerate(found.median_high, start=1) if high is not None]
    assert 1 < len(bounds) < 40
    assert list(band.x) == bounds + bounds[::-1]
    caption = draw_budget(material_of(study)).caption
    assert "95 % confidence band" in caption
    assert "No confidence band" not in caption
    assert list(band.y) == [*found.median_low[: len(bounds)], *found.median_high[: len(bounds)][::-1]]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        *(({"sampler": name}, f"sampler {name} aren't independent") for name in SAMPLERS if name != "random"),
        ({**RANDOM, "searches": 2}, "its own order of the examples"),
    ],
)
def test_other_points_have_none_and_it_is_said_why(settings: dict, reason: str) -> None:
    if settings["sampler"] == "grid":
        settings = {**settings, "nuisance": {"learning_rate": Choice(0.05, 0.1, 0.15), "batch_size": Choice(16)}}
    for found in budgets(**settings):
        assert len(found.unbiased) > 0, "there is a curve"
        assert (found.median, found.median_low, found.median_high) == ((), (), ())
        assert reason in found.no_band


def test_with_a_pruner_there_is_no_curve_and_no_flag() -> None:
    """Without one, these cells are flagged: their second half of the points brought 0.02, and seeds differ by 0."""
    trials = search_trials()
    trials.append(trial({**trials[0].params, "learning_rate": 0.9}, 0.4, "pruned"))
    found = {}
    for pruner in ("none", "within_cell"):
        study = small_study(name=pruner, pruner=pruner, replicates=2)
        store(
            study, trials, replicates_of(trials, BEST, 2, np.random.default_rng(0), sd=0.0), race(2, BEST, looks=(2,))
        )
        found[pruner] = analyze(study, Stores(STORAGE).read(study))
    assert all(cell.budget.enough is False and "budget short" in cell.flags for cell in found["none"].cells)
    for cell in found["within_cell"].cells:
        assert (cell.budget.biased, cell.budget.unbiased, cell.budget.median) == ((), (), ())
        assert (cell.budget.gain, cell.budget.enough) == (None, None)
        assert "budget short" not in cell.flags
        assert "a result depends on other points" in cell.budget.no_band
    missing = draw_budget(material_of(study))
    assert isinstance(missing, Missing)
    assert "There is no budget curve with a pruner" in missing.reason


def test_an_enqueued_point_leaves_its_cell_without_a_band() -> None:
    trials = search_trials()
    trials[0].user_attrs["enqueued"] = True
    found = budgets(trials, **RANDOM)
    assert sorted(one.no_band or "" for one in found) == ["", "", "", "some points were enqueued instead of drawn"]
    study = small_study(**RANDOM)
    caption = draw_budget(material_of(study)).caption
    assert "No confidence band in some cells: some points were enqueued instead of drawn." in caption
