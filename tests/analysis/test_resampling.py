"""Values on splits that overlap: the level of the corrected test and the coverage of the corrected interval."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.random import Generator, default_rng
from scipy.stats import t, ttest_rel
from support.studies import study

from searchlib.analysis import next_runs, plan
from searchlib.analysis.comparison import compare, contenders, paired_tests
from searchlib.analysis.effects import effects
from searchlib.analysis.resampling import error_factor, split_overlap
from searchlib.analysis.spending import Plan
from searchlib.analysis.statistics import mean_interval

DRAW = default_rng(3)
VALUES = {name: dict(enumerate(DRAW.normal(mean, 0.05, 8).tolist(), 1)) for name, mean in (("a", 0.9), ("b", 0.85))}


def planned(overlap: float) -> Plan:
    return Plan(direction="maximize", overlap=overlap)


def test_the_overlap_of_a_study() -> None:
    assert split_overlap(study()) == 0.0, "one split for all replicates"
    assert split_overlap(study(replicate_split=True)) == pytest.approx(0.2), "1/6 over 5/6"
    assert split_overlap(study(replicate_split=True, validation_fraction=0.5)) == pytest.approx(1.0)
    drawn = study(searches=4, trials=8, search_split=True)
    assert split_overlap(drawn) == pytest.approx(0.2), "of the searches, which are the units"
    assert plan(drawn).overlap == split_overlap(drawn)


def test_the_corrected_test_is_nadeau_and_bengios() -> None:
    """Its t is the paired one with 1/J + overlap in place of 1/J; everything else is Student's."""
    first, second = (np.array(list(of.values())) for of in VALUES.values())
    plain, corrected = (paired_tests(VALUES, "a", planned(overlap))["b"] for overlap in (0.0, 0.2))
    expected = ttest_rel(first, second)
    assert plain.p == pytest.approx(expected.pvalue)
    assert (plain.low, plain.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    shrunk = expected.statistic / math.sqrt(1.0 + 8 * 0.2)
    assert corrected.p == pytest.approx(2 * t.sf(abs(shrunk), 7))
    assert corrected.difference == plain.difference
    assert corrected.difference is not None
    assert corrected.low is not None
    error = (first - second).std(ddof=1) * math.sqrt(1 / 8 + 0.2)
    assert corrected.low == pytest.approx(corrected.difference - t.ppf(0.975, 7) * error)
    found = compare(VALUES, Plan(direction="maximize", looks=(8,), overlap=0.2))[1]["b"]
    assert (found.p, found.low, found.high) == (corrected.p, corrected.low, corrected.high)


def test_the_corrected_interval_of_a_mean() -> None:
    values = list(VALUES["a"].values())
    mean, deviation, low, high = mean_interval(values, overlap=0.2)
    assert (mean, deviation) == mean_interval(values)[:2]
    assert deviation is not None
    assert low is not None
    assert high is not None
    assert (high - low) / 2 == pytest.approx(t.ppf(0.975, 7) * deviation * math.sqrt(1 / 8 + 0.2))
    assert error_factor(8, 0.0) == pytest.approx(1 / math.sqrt(8))
    assert mean_interval([0.5], overlap=0.2) == (0.5, None, None, None)


def test_the_race_uses_the_corrected_test() -> None:
    """b is told apart by the plain test at the first look, and stays in the race by the corrected one."""
    values = {"a": {}, "b": {}} | {name: {n: of[n] for n in range(1, 6)} for name, of in VALUES.items()}
    values["b"] = {n: value - 0.1 - 0.04 * n for n, value in values["a"].items()}
    plain, corrected = (paired_tests(values, "a", planned(overlap))["b"].p for overlap in (0.0, 0.2))
    assert plain is not None
    assert corrected is not None
    assert plain < 0.01 / 2 < corrected, "a fifth of alpha, by two looks before the last"
    looks = (5, 10, 20)
    assert contenders(values, Plan(direction="maximize", looks=looks)) == ["a"]
    assert contenders(values, Plan(direction="maximize", looks=looks, overlap=0.2)) == ["a", "b"]
    ran = {(name, n) for name, of in values.items() for n in of}
    assert next_runs(["a", "b"], values, ran, Plan(direction="maximize", looks=looks))[1:] == (["a"], [])
    _, left, wanted = next_runs(["a", "b"], values, ran, Plan(direction="maximize", looks=looks, overlap=0.2))
    assert (left, len(wanted)) == (["a", "b"], 10)


def test_the_effects_of_two_cells_are_their_corrected_test() -> None:
    """Two cells by one factor: F is the square of the corrected paired t."""
    cells = [{"activation": name} for name in VALUES]
    for overlap in (0.0, 0.2):
        (effect,), _ = effects(cells, list(VALUES.values()), ["activation"], overlap)
        test = paired_tests(VALUES, "a", planned(overlap))["b"]
        assert effect.f == pytest.approx(t.isf(test.p / 2, 7) ** 2)


# --------------------------------------------------------------------------------------- real learners, drawn splits

EXAMPLES, VALIDATION, FEATURES = 120, 20, 5
OVERLAP = VALIDATION / (EXAMPLES - VALIDATION)


def errors(draw: Generator, splits: int, learner: str) -> list[np.ndarray]:
    """Validation errors ``[splits]`` of two learners that are equally good for the population, on one drawn data set.

    Each sees one of two groups of features, and the targets are symmetric in these.
    """
    inputs = draw.standard_normal((2, EXAMPLES, FEATURES))
    targets = inputs.sum(axis=(0, 2)) / math.sqrt(FEATURES) + draw.standard_normal(EXAMPLES)
    orders = draw.permuted(np.tile(np.arange(EXAMPLES), (splits, 1)), axis=1)
    held, fitted = orders[:, :VALIDATION], orders[:, VALIDATION:]
    return [LEARNERS[learner](x[fitted], targets[fitted], x[held], targets[held]) for x in inputs]


def ridge(x: np.ndarray, y: np.ndarray, held_x: np.ndarray, held_y: np.ndarray) -> np.ndarray:
    """The mean squared error of ridge regression."""
    weights = np.linalg.solve(x.mT @ x + np.eye(FEATURES), x.mT @ y[..., None])
    return ((held_x @ weights)[..., 0] - held_y) ** 2 @ np.full(VALIDATION, 1 / VALIDATION)


def nearest_centroid(x: np.ndarray, y: np.ndarray, held_x: np.ndarray, held_y: np.ndarray) -> np.ndarray:
    """The share of wrong signs of the targets."""
    high, low = (
        (x * part[..., None]).sum(axis=1, keepdims=True) / part.sum(axis=1)[:, None, None] for part in (y > 0, y <= 0)
    )
    nearer = ((held_x - high) ** 2).sum(axis=2) < ((held_x - low) ** 2).sum(axis=2)
    return (nearer != (held_y > 0)).mean(axis=1)


LEARNERS = {"ridge": ridge, "nearest centroid": nearest_centroid}
PLAIN = {4: 0.06, 5: 0.08, 10: 0.16, 29: 0.35}  # at least: the level of the plain test


@pytest.mark.slow
@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("splits", PLAIN)
def test_the_level_of_the_test_and_the_coverage_of_the_interval(splits: int, learner: str) -> None:
    """For the population: the level is 0.05, to within Monte Carlo errors, and the plain test's is many times that."""
    draw, studies = default_rng([splits, len(learner)]), 800
    rejected, means, intervals = {0.0: 0, OVERLAP: 0}, [], []
    for _ in range(studies):
        first, second = errors(draw, splits, learner)
        values = {"a": dict(enumerate(first.tolist())), "b": dict(enumerate(second.tolist()))}
        for overlap in rejected:
            p = paired_tests(values, "a", Plan(direction="minimize", overlap=overlap))["b"].p
            assert p is not None
            rejected[overlap] += p <= 0.05
        mean, _, low, high = mean_interval(first.tolist(), overlap=OVERLAP)
        means.append(mean)
        intervals.append((low, high))
    error = math.sqrt(0.05 * 0.95 / studies)
    assert rejected[OVERLAP] / studies <= 0.06 + 3 * error
    assert rejected[0.0] / studies >= PLAIN[splits]
    truth = np.mean(means)
    covered = np.mean([low <= truth <= high for low, high in intervals])
    assert covered >= 0.93 - 3 * error
