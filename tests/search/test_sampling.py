"""Sampling: every cell gets the same points, and the sequence of trials survives kills and restarts."""

from __future__ import annotations

import functools
import shutil
import tempfile
import warnings
from collections import Counter

import optuna
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from scipy.stats import qmc

from searchlib import Choice, IntUniform, LogUniform, Study, StudyError, Uniform
from searchlib.search.design import Design, is_adaptive, round_length
from searchlib.search.samplers import ask_round, distribution, sampler_factory
from searchlib.stores.storage import open_storage
from searchlib.study import SAMPLERS


def make_study(**changes) -> Study:
    settings = {
        "question": "Which one?",
        "dataset": "digits",
        "scientific": {"activation": Choice("tanh", "relu", "gelu"), "hidden": Choice((8,), (8, 8))},
        "nuisance": {"learning_rate": LogUniform(1e-3, 1.0), "batch_size": Choice(16, 32, 64)},
        "seed": 7,
        "trials": 12,
    }
    return Study(**{**settings, **changes})


# ------------------------------------------------------------------------------------------------------------ design


def test_every_cell_gets_the_same_nuisance_points() -> None:
    study = make_study()
    design, cells = Design(study), len(study.cells)
    assert cells == 6
    points = []
    for block in range(70):
        rows = [design[block * cells + position] for position in range(cells)]
        assert [{name: row[name] for name in study.scientific} for row in rows] == study.cells
        (point,) = {tuple(row[name] for name in study.nuisance) for row in rows}
        points.append(point)
    assert len(set(points)) == len(points), "each block has a point of its own"


def test_the_points_fill_the_nuisance_space_evenly() -> None:
    """64 points of a Sobol sequence: as many in each half of every dimension, and far more even than random ones."""
    study = make_study(sampler="qmc", scientific={}, nuisance={"dropout": Uniform(0, 0.5), "momentum": Uniform(0, 0.9)})
    design = Design(study)
    points = [(design[k]["dropout"] / 0.5, design[k]["momentum"] / 0.9) for k in range(64)]
    quarters = Counter((int(x * 8), int(y * 8)) for x, y in points)
    assert set(quarters.values()) == {1}, "one point in each of 8 x 8 squares"
    assert qmc.discrepancy(points) < 1e-3


@settings(deadline=None, max_examples=30)
@example("qmc", [62, 63, 64, 65, 127, 128])
@given(st.sampled_from(["balanced", "qmc"]), st.lists(st.integers(0, 900), min_size=2, max_size=6))
def test_a_point_does_not_depend_on_how_many_are_asked_for(sampler: str, numbers: list[int]) -> None:
    """Across 64, 128, ... as well, where a longer Sobol sequence is drawn."""
    together = Design(make_study(sampler=sampler))
    drawn = {number: together[number] for number in numbers}
    for number in reversed(numbers):
        assert Design(make_study(sampler=sampler))[number] == drawn[number]


def test_the_seed_of_the_study_moves_the_points() -> None:
    assert Design(make_study(seed=1))[0] != Design(make_study(seed=2))[0]


def test_a_grid_holds_every_combination_once() -> None:
    study = make_study(
        sampler="grid",
        scientific={"optimizer": Choice("sgd", "adam"), "momentum": Choice(0.0, 0.9).when(optimizer="sgd")},
        nuisance={"batch_size": Choice(16, 32), "depth": IntUniform(1, 3)},
        trials=18,
    )
    design = Design(study)
    rows = [tuple(sorted(design[number].items())) for number in range(18)]
    expected = {
        tuple(sorted({**cell, "batch_size": batch, "depth": depth}.items()))
        for cell in (
            {"optimizer": "sgd", "momentum": 0.0},
            {"optimizer": "sgd", "momentum": 0.9},
            {"optimizer": "adam"},
        )
        for batch in (16, 32)
        for depth in (1, 2, 3)
    }
    assert set(rows) == expected
    assert len(rows) == len(expected) == 18


def test_a_grid_has_an_end() -> None:
    """--trials can ask for more than the study file says; the grid must not start again from its first point."""
    study = make_study(sampler="grid", nuisance={}, trials=6)
    with pytest.raises((StudyError, IndexError), match="grid"):
        Design(study)[6]


def test_round_length() -> None:
    assert round_length(make_study(round_size=32)) == 36
    assert round_length(make_study(round_size=36)) == 36
    assert round_length(make_study(round_size=1)) == 6
    assert round_length(make_study(round_size=32, sampler="tpe")) == 32
    assert round_length(make_study(round_size=5, scientific={})) == 5


def test_distributions_hold_the_same_values() -> None:
    assert distribution(Choice("a", (2, 3))) == CategoricalDistribution(("a", "2-3"))
    assert distribution(Uniform(0, 1)) == FloatDistribution(0.0, 1.0)
    assert distribution(LogUniform(0.1, 1.0)) == FloatDistribution(0.1, 1.0, log=True)
    assert distribution(IntUniform(1, 9, step=2)) == IntDistribution(1, 9, step=2)
    assert distribution(IntUniform(1, 9, log=True)) == IntDistribution(1, 9, log=True)


def test_a_sampler_of_the_study_counts_as_adaptive() -> None:
    assert is_adaptive(make_study(sampler=lambda seed: optuna.samplers.RandomSampler(seed=seed)))


# -------------------------------------------------------------------------------------------------------- ask_round


def open_study(study: Study, path: str) -> optuna.Study:
    return optuna.create_study(
        study_name="s", storage=open_storage(path), direction=study.direction, load_if_exists=True
    )


def value_of(params: dict) -> float:
    """A stand-in for training, smooth enough for a sampler to learn from."""
    return 1.0 - (params.get("learning_rate", 0.1) - 0.2) ** 2 - 0.01 * len(str(params))


def tell(optuna_study: optuna.Study, number: int, sign: float = 1.0) -> None:
    frozen = optuna_study.trials[number]
    optuna_study.tell(optuna.trial.Trial(optuna_study, frozen._trial_id), sign * value_of(frozen.params))


def row_of(trial) -> tuple:
    return trial.number, tuple(trial.params.items()), tuple(sorted(trial.user_attrs.items()))


def rows_of(optuna_study: optuna.Study) -> list[tuple]:
    return [row_of(trial) for trial in optuna_study.trials]


def search_in_one_go(study: Study, path: str, rounds: int, length: int, *, sign: float = 1.0) -> list[tuple]:
    optuna_study = open_study(study, path)
    for start in range(0, rounds * length, length):
        asked = list(ask_round(study, optuna_study, range(start, start + length)))
        assert [trial.number for trial in asked] == list(range(start, start + length))
        for trial in asked:
            tell(optuna_study, trial.number, sign)
    return rows_of(optuna_study)


ROUNDS = 3


def study_for(sampler: str) -> Study:
    """A study that a sampler can search."""
    if SAMPLERS[sampler].enumerates == "all":
        return make_study(sampler=sampler, nuisance={"batch_size": Choice(16, 32, 64)}, trials=18, round_size=6)
    if sampler == "cmaes":  # for numbers only
        return make_study(
            sampler=sampler,
            scientific={},
            nuisance={"learning_rate": LogUniform(1e-3, 1.0), "dropout": Uniform(0.0, 0.5), "width": IntUniform(4, 64)},
            round_size=8,
        )
    if SAMPLERS[sampler].refines:  # with few cells, so that there are rounds after the first points
        return make_study(sampler=sampler, scientific={"activation": Choice("tanh", "relu")}, round_size=6)
    return make_study(sampler=sampler, round_size=6)


@functools.cache
def whole_search(sampler: str, sign: float = 1.0) -> list[tuple]:
    study = study_for(sampler)
    assert round_length(study) == study.round_size
    with tempfile.TemporaryDirectory() as folder:
        return search_in_one_go(study, f"{folder}/whole.journal", ROUNDS, study.round_size, sign=sign)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_sequence_survives_a_kill_in_the_middle_of_a_round(sampler: str) -> None:
    """Another process asks for the rest; the results of those that were told before must not leak into it."""
    study, whole = study_for(sampler), whole_search(sampler)
    assert len({params for _, params, _ in whole}) > len(whole) // 2, "no round repeats the points of another"
    length = study.round_size
    search_in_one_go(study, "begun.journal", ROUNDS - 1, length)
    start = (ROUNDS - 1) * length
    for asked, told in ((2, 0), (3, 2)):
        shutil.copy("begun.journal", "broken.journal")
        stopped = open_study(study, "broken.journal")
        list(ask_round(study, stopped, range(start, start + asked)))
        for number in range(start, start + told):
            tell(stopped, number)
        resumed = open_study(study, "broken.journal")
        list(ask_round(study, resumed, range(start + asked, start + length)))
        assert rows_of(resumed) == whole


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_adaptive_sampler_is_one_whose_points_depend_on_results(sampler: str) -> None:
    differ = whole_search(sampler) != whole_search(sampler, -1.0)
    assert differ is is_adaptive(study_for(sampler)) is SAMPLERS[sampler].adaptive


def test_a_study_that_learns_uses_its_results() -> None:
    """Otherwise the tests above would hold for any sampler that ignores the storage."""
    study = make_study(sampler="tpe", scientific={}, nuisance={"learning_rate": Uniform(0.001, 1.0)}, round_size=10)
    whole = search_in_one_go(study, "whole.journal", 5, 10)
    rates = [dict(params)["learning_rate"] for _, params, _ in whole]
    early = sum(abs(rate - 0.2) for rate in rates[:10]) / 10
    late = sum(abs(rate - 0.2) for rate in rates[-20:]) / 20
    assert late < 0.7 * early


def test_a_trial_is_recorded_whole_by_one_write() -> None:
    study = make_study(sampler="tpe")
    optuna_study = open_study(study, "one.journal")
    with open("one.journal") as file:
        before = len(file.readlines())
    trial, *_ = ask_round(study, optuna_study, range(4))
    with open("one.journal") as file:
        assert len(file.readlines()) == before + 4
    assert trial.state is TrialState.RUNNING
    assert list(trial.params) == ["activation", "hidden", "learning_rate", "batch_size"]
    assert trial.user_attrs["signature"] == study.config(trial.params).signature
    assert trial.user_attrs["seed"] < 2**53


@pytest.mark.parametrize("sampler", ["balanced", "qmc", "tpe", "random", "gp"])
def test_an_inactive_dimension_is_absent(sampler: str) -> None:
    study = make_study(
        sampler=sampler,
        scientific={"optimizer": Choice("sgd", "adam")},
        nuisance={
            "momentum": Uniform(0.1, 0.9).when(optimizer="sgd"),
            "beta1": Uniform(0.8, 0.99).when(optimizer="adam"),
        },
        round_size=8,
    )
    rows = [dict(params) for _, params, _ in search_in_one_go(study, "whole.journal", 2, 8)]
    assert {row["optimizer"] for row in rows} == {"sgd", "adam"}
    for row in rows:
        assert list(row) == ["optimizer", "momentum" if row["optimizer"] == "sgd" else "beta1"]


def test_a_combination_that_no_trial_can_have_is_not_recorded() -> None:
    study = make_study(scientific={"nesterov": Choice(False, True)}, nuisance={}, fixed={"momentum": 0.5}, trials=2)
    object.__setattr__(study, "fixed", {"momentum": 0.0})  # as if the check of the study had missed it
    optuna_study = open_study(study, "one.journal")
    with pytest.raises(StudyError, match="nesterov"):
        list(ask_round(study, optuna_study, range(2)))
    assert len(optuna_study.trials) == 1


# ------------------------------------------------------------------------------------------------- samplers of its own


def seeded(seed: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.RandomSampler(seed=seed)


def unseeded() -> optuna.samplers.BaseSampler:
    return optuna.samplers.RandomSampler(seed=3)


def wrong(seed: int) -> str:
    return "tpe"


def quasi(seed: int) -> optuna.samplers.BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.QMCSampler(scramble=True, seed=3)


@pytest.mark.parametrize("function", [seeded, quasi, unseeded])
def test_a_function_may_bring_any_sampler(function) -> None:
    """Without a seed, too: made anew for each round it would repeat its points, so it is made once."""
    study = make_study(sampler=function, scientific={}, nuisance={"dropout": Uniform(0.0, 0.5)}, round_size=5)
    rows = search_in_one_go(study, "whole.journal", 3, 5)
    assert len({params for _, params, _ in rows}) == 15, "no round repeats the points of another"


def test_a_function_with_a_seed_gets_another_one_each_trial_and_study() -> None:
    first = search_in_one_go(make_study(sampler=seeded), "a.journal", 1, 5)
    assert first == search_in_one_go(make_study(sampler=seeded), "b.journal", 1, 5)
    assert first != search_in_one_go(make_study(sampler=seeded, seed=8), "c.journal", 1, 5)


def test_a_function_that_returns_something_else() -> None:
    with pytest.raises(StudyError, match="sampler: the function returned str; expected a BaseSampler of Optuna"):
        sampler_factory(make_study(sampler=wrong))(0)
