"""Several searches in one study: their own points, orders and samplers, and replicates that repeat each one's best."""

from __future__ import annotations

import contextlib
import itertools
from collections import defaultdict
from pathlib import Path

import numpy as np
import optuna
import pytest
from scipy import stats
from support import prepare, replicates, run, search, small_study, stored

from searchlib import Choice, LogUniform, Study, StudyError
from searchlib.analysis import analyze, correct_examples, study_status
from searchlib.analysis.examples import accuracy_difference, mean_accuracy
from searchlib.results.verification import verify
from searchlib.search.design import Design, round_length
from searchlib.search.samplers import ask_round
from searchlib.search.trainer import task_of
from searchlib.stores.stores import Stores

TWO = {
    "scientific": {"activation": Choice("tanh", "relu")},
    "nuisance": {"learning_rate": LogUniform(0.004, 0.02), "batch_size": Choice(8, 16)},
    "validation_fraction": 0.5,
    "trials": 8,
    "searches": 2,
    "replicates": 4,
}


GRID = {"sampler": "grid", "nuisance": {"batch_size": Choice(16, 32)}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searches")
    with contextlib.chdir(folder):
        run(small_study(**TWO))
    return folder


@pytest.fixture
def two(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A study of two cells and two searches, to be read."""
    monkeypatch.chdir(finished)
    return small_study(**TWO)


def asked(study: Study) -> list[optuna.trial.FrozenTrial]:
    return ask_round(study, optuna.create_study(direction="maximize"), range(study.trials))


def test_each_search_has_its_own_points_and_order_shared_by_all_cells() -> None:
    study = small_study(trials=24, searches=3)
    points = defaultdict(list)
    for trial in asked(study):
        points[trial.user_attrs["search"], study.cell_of(trial.params)].append(trial.params["learning_rate"])
    assert len(points) == 12
    for number in (1, 2, 3):
        of_cells = {tuple(found) for (each, _), found in points.items() if each == number}
        assert len(of_cells) == 1, "all cells have the same points"
        assert len(*of_cells) == 2
    assert len({rate for found in points.values() for rate in found}) == 6, "no two searches share one"
    orders = {(trial.user_attrs["search"], task_of(study, trial).order_seed) for trial in asked(study)}
    assert len(orders) == len({seed for _, seed in orders}) == 3


def test_the_first_search_is_that_of_a_study_with_one() -> None:
    alone, among = asked(small_study(trials=8)), asked(small_study(trials=16, searches=2))
    first = [trial for trial in among if trial.user_attrs["search"] == 1]
    assert [trial.params for trial in alone] == [trial.params for trial in first]
    assert {task_of(small_study(), trial).order_seed for trial in (*alone, *first)} == {0}
    assert all("search" not in trial.user_attrs for trial in alone)
    assert Design(small_study())[4] == alone[4].params


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes"])
def test_a_sampler_sees_its_own_search_only(sampler: str) -> None:
    study = small_study(sampler=sampler, searches=2, trials=24, round_size=8)
    seen = []

    class Watching(optuna.samplers.RandomSampler):
        def sample_relative(self, study, trial, search_space):
            seen.append((trial.number, {t.number for t in study.get_trials(deepcopy=False)} - {trial.number}))
            return super().sample_relative(study, trial, search_space)

    made = optuna.create_study(direction="maximize")
    watched = small_study(sampler=lambda seed: Watching(seed=seed), searches=2, trials=24, round_size=8)
    ask_round(watched, made, range(24))
    assert len(seen) == 24
    assert all(number % 2 == other % 2 for number, others in seen for other in others)
    assert {trial.user_attrs["search"] for trial in asked(study)} == {1, 2}


def test_a_round_holds_whole_blocks_of_all_searches() -> None:
    assert round_length(small_study(searches=4, trials=32, round_size=1)) == 16
    assert round_length(small_study(searches=4, trials=128, pruner="within_cell", round_size=1)) == 128
    assert round_length(small_study(searches=4, trials=32, sampler="tpe", round_size=6)) == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trials": 12}, r"trials=12: 2 searches of 4 cells get equal numbers of points from a multiple of 8"),
        ({"trials": 9, "sampler": "tpe"}, r"trials=9: 2 searches get equal numbers .* multiple of 2 trials, such as 8"),
        ({"trials": 8, "replicates": 5}, r"replicates=5: the 2 searches take turns, so expected a multiple of 2"),
        ({"searches": 0}, r"searches=0: expected a whole number of 1 or more"),
        (
            {"sampler": "grid", "trials": 8, "nuisance": {"batch_size": Choice(16, 32)}},
            r"each search would have the same points",
        ),
    ],
)
def test_searches_share_evenly_or_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        small_study(**{"searches": 2, **changes})


def test_a_target_that_searches_cannot_share_is_refused() -> None:
    prepare()
    with pytest.raises(StudyError, match="trials=10: 2 searches of 2 cells get equal numbers of points"):
        next(search(small_study(**TWO), trials=10))
    assert Stores().optuna_study("small") is None


def test_replicates_repeat_the_best_of_each_search_in_turn(two: Study) -> None:
    best = {}
    for trial in stored(two).get_trials(deepcopy=False):
        key = trial.user_attrs["search"], two.cell_of(trial.params)
        if key not in best or trial.values[0] > best[key].values[0]:
            best[key] = trial
    assert len(best) == 4
    again = replicates(two)
    assert len(again) == 8
    numbers = {trial.number: key for key, trial in best.items()}
    for trial in again:
        number, cell = numbers[trial.user_attrs["source"]]
        assert number == (trial.params["replicate"] - 1) % 2 + 1
        assert cell == two.cell_of(trial.params)
        assert {**best[number, cell].params, "replicate": trial.params["replicate"]} == trial.params
    assert verify(two, Stores()).differences == []


def test_the_searches_are_the_units_of_the_comparison(two: Study) -> None:
    findings = analyze(two, Stores().read(two))
    one = findings.comparisons[0]
    means = {
        cell.label: [np.mean([cell.values[seed] for seed in turn]) for turn in ((1, 3), (2, 4))]
        for cell in findings.cells
    }
    first, second = means[one.cell_label], means[one.against_label]
    assert (one.n, one.units, one.df) == (4, 2, 1)
    assert one.p == pytest.approx(stats.ttest_rel(first, second).pvalue)
    winner = findings.cells[0]
    assert winner.mean == pytest.approx(np.mean(first))
    low, high = stats.t.interval(0.95, 1, np.mean(first), stats.sem(first))
    assert (winner.low, winner.high) == pytest.approx((max(low, 0.0), min(high, 1.0)))
    assert [pick.search for pick in winner.picks] == [1, 2]
    rows = {}
    for trial in replicates(two):
        cell = ", ".join(str(value) for _, value in two.cell_of(trial.params))
        rows.setdefault((cell, (trial.params["replicate"] - 1) % 2), []).append(correct_examples(trial))
    tables = {
        label: np.array([np.mean(rows[label, unit], axis=0) for unit in (0, 1)])
        for label in (one.cell_label, one.against_label)
    }
    population = accuracy_difference(tables[one.cell_label], tables[one.against_label]).population
    assert (one.population_low, one.population_high) == pytest.approx((population.low, population.high))
    assert one.population_p == pytest.approx(population.p)
    own = mean_accuracy(tables[one.cell_label])
    assert own.mean == pytest.approx(winner.mean)
    limits = max(own.population.low, 0.0), min(own.population.high, 1.0)
    assert (winner.population_low, winner.population_high) == pytest.approx(limits)
    assert winner.trial == max(winner.picks, key=lambda pick: pick.search_best).trial
    assert findings.winner.pick == max(winner.picks, key=lambda pick: pick.mean)
    status = study_status(two, Stores().read(two))
    assert status.replicates.finished
    assert [cell.picks for cell in status.cells] == [
        tuple(pick.trial for pick in cell.picks)
        for cell in sorted(findings.cells, key=lambda c: -max(p.search_best for p in c.picks))
    ]


def test_an_interrupted_study_ends_like_an_uninterrupted_one(two: Study, tmp_path: Path) -> None:
    def table() -> list:
        trials = [*stored(two).get_trials(deepcopy=False), *replicates(two)]
        return [(t.number, t.params, t.values, t.user_attrs["seed"], t.user_attrs.get("source")) for t in trials]

    whole = table()
    with contextlib.chdir(tmp_path):
        prepare()
        for most in (3, 5, 9, 5, 1_000):  # epochs until the next interruption, the third and fourth in the race
            with contextlib.closing(search(two)) as steps:
                for _ in itertools.islice(steps, most):
                    pass
        assert table() == whole


def test_a_search_in_which_nothing_completed_is_left_out() -> None:
    """Its trials of a cell all diverge: the other search's best is repeated on its own seeds only."""
    study = small_study(
        scientific={"activation": Choice("tanh", "relu")},
        nuisance={"learning_rate": LogUniform(0.01, 1.0)},
        trials=8,
        searches=2,
        replicates=4,
    )
    made = run(study)
    relu = [t for t in made.get_trials(deepcopy=False) if t.params["activation"] == "relu"]
    storage = made._storage
    gone = [t for t in relu if t.user_attrs["search"] == 2]
    assert gone
    del storage
    read = Stores().read(study)
    for trial in read.trials:
        if trial.number in {t.number for t in gone}:
            trial.user_attrs["outcome"] = "diverged"
    cells = {cell.label: cell for cell in analyze(study, read).cells}
    assert [pick.search for pick in cells["relu"].picks] == [1]
    assert set(cells["relu"].values) == {1, 3}
    assert set(cells["tanh"].values) == {1, 2, 3, 4}
