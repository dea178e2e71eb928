"""Configurations in Optuna's queue: each becomes a trial of the study, or is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial
from support import STORAGE, prepare, run, search_all, small_study, stored
from support.elsewhere import PART, REMOTE, SAMPLERS, WHOLE, made_elsewhere

from searchlib import Choice, IntUniform, LogUniform, Study, StudyError, Uniform
from searchlib.analysis import study_status
from searchlib.cli.terminal import show_status
from searchlib.errors import StorageError
from searchlib.results.verification import repair, verify
from searchlib.search.samplers import ask_round
from searchlib.seeds import trial_seed
from searchlib.stores.storage import open_storage
from searchlib.stores.stores import Stores
from searchlib.study import check_enqueued


@pytest.mark.parametrize(
    ("sampler", "begun", "place"),
    [
        *((sampler, begun, STORAGE) for sampler in SAMPLERS for begun in (False, True)),
        *((sampler, True, "sqlite:///optuna.db") for sampler in SAMPLERS),
        *((sampler, True, STORAGE) for sampler in ("random", "gp", "qmc")),
    ],
)
def test_an_enqueued_configuration_becomes_a_trial(sampler: str, begun: bool, place: str) -> None:
    """With its own seed; what it lacks is filled in."""
    study, stores = small_study(sampler=sampler, trials=8), Stores(place)
    prepare()
    if begun:
        search_all(study, stores, trials=4)
    search = optuna.create_study(
        study_name="small", storage=open_storage(place), direction="maximize", load_if_exists=True
    )
    search.enqueue_trial(WHOLE)
    search.enqueue_trial(PART, user_attrs={"seed": 7})
    search_all(study, stores)
    first = 4 if begun else 0
    trials = stored(study, stores).trials
    assert trials[first].params == WHOLE
    assert {name: trials[first + 1].params[name] for name in PART} == PART
    assert trials[first + 1].params.keys() == WHOLE.keys()
    assert all(trial.user_attrs["seed"] == trial_seed(study.seed, trial.number) for trial in trials)
    assert all(trial.state == TrialState.COMPLETE for trial in trials)
    assert verify(study, stores).differences == []
    if sampler in ("balanced", "qmc"):  # the design is whole beside them
        search_all(study, Stores("alone.journal"))
        drawn = [trial.params for trial in trials if trial.number not in (first, first + 1)]
        assert drawn == [trial.params for trial in stored(study, Stores("alone.journal")).trials]
    else:
        assert len(trials) == 8


def test_an_enqueued_configuration_of_a_grid_and_after_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    study = small_study(sampler="grid", nuisance={}, fixed={"learning_rate": 0.1, "epochs": 1}, trials=4)
    run(study)
    stored(study).enqueue_trial({"activation": "relu", "learning_rate": 0.1})
    waiting = study_status(study, Stores().read(study))
    assert (waiting.enqueued, waiting.trials.running) == (1, 1)
    show_status(study, waiting, at_work=False)
    assert "4 of 4 trials finished: 4 completed; 1 enqueued\n" in capsys.readouterr().out
    run(study)
    last = stored(study).trials[-1]
    assert (last.number, last.state, last.params["activation"]) == (4, TrialState.COMPLETE, "relu")
    status = study_status(study, Stores().read(study))
    assert (status.trials.total, status.trials.target, status.trials.running) == (5, 5, 0)


@pytest.mark.parametrize("pruner", ["within_cell", "median"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_enqueued_configuration_is_pruned_like_others(sampler: str, pruner: str) -> None:
    study = small_study(sampler=sampler, pruner=pruner, trials=8, round_size=4)
    prepare()
    made_elsewhere().enqueue_trial(PART)
    search_all(study)
    assert {name: stored(study).trials[0].params[name] for name in PART} == PART
    assert all(trial.state.is_finished() for trial in stored(study).trials)
    assert verify(study, Stores()).differences == []


def test_a_kill_while_an_enqueued_trial_is_begun_changes_nothing() -> None:
    """Its state is the last of what is written."""
    study = small_study(sampler="tpe", trials=4)
    prepare()
    search = made_elsewhere()
    search.enqueue_trial(PART)
    waiting = search.trials[0]
    kind = FloatDistribution(0.01, 1.0, log=True)
    search._storage.set_trial_param(waiting._trial_id, "learning_rate", 1.0, kind)
    search._storage.set_trial_user_attr(waiting._trial_id, "seed", trial_seed(0, 0))
    search_all(study)
    assert {name: stored(study).trials[0].params[name] for name in PART} == PART


SPACE = Study(
    question="Which one?",
    dataset="digits",
    scientific={"optimizer": Choice("sgd", "adam"), "nesterov": Choice(False, True).when(optimizer="sgd")},
    nuisance={
        "learning_rate": LogUniform(1e-3, 1.0),
        "batch_size": IntUniform(8, 64, step=4),
        "beta1": Uniform(0.8, 0.99).when(optimizer="adam"),
        "momentum": Uniform(0.1, 0.9).when(optimizer="sgd"),
        "hidden": Choice((16,), (16, 8)),
    },
    fixed={"epochs": 1},
)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"learning_rate": 5.0}, "learning_rate=5.0: expected a number from 0.001 to 1.0"),
        ({"learning_rate": "0.1"}, "learning_rate='0.1': expected a number"),
        ({"learning_rate": float("nan")}, "learning_rate=nan: expected a number"),
        ({"learning_rate": True}, "learning_rate=True: expected a number"),
        ({"batch_size": 10}, "batch_size=10: expected a whole number from 8 to 64, in steps of 4"),
        ({"batch_size": 8.5}, "batch_size=8.5: expected a whole number"),
        ({"optimizer": "rmsprop"}, "optimizer='rmsprop': expected one of 'sgd', 'adam'"),
        ({"optimizer": "sgd", "nesterov": 1}, "nesterov=1: expected one of False, True"),
        ({"learning_rat": 0.1}, "learning_rat.*learning_rate"),
        ({"epochs": 9}, "epochs=9: the study fixes epochs=1"),
        ({"optimizer": "adam", "momentum": 0.5}, "momentum=0.5: it exists only beside optimizer 'sgd'"),
        ({"momentum": 0.5}, "momentum=0.5: it exists only beside optimizer 'sgd'"),
    ],
)
def test_what_cannot_be_enqueued(given: dict, words: str) -> None:
    with pytest.raises(StudyError, match=words):
        check_enqueued(SPACE, given)


@pytest.mark.parametrize(
    ("given", "checked"),
    [
        ({"learning_rate": 1, "epochs": 1}, {"learning_rate": 1.0}),
        ({"batch_size": 8.0, "hidden": (16, 8)}, {"batch_size": 8, "hidden": "16-8"}),
        ({"hidden": [16]}, {"hidden": "16"}),
        ({"optimizer": "sgd", "momentum": 0.5, "nesterov": True}, None),
        ({}, {}),
    ],
)
def test_what_can_be_enqueued(given: dict, checked: dict | None) -> None:
    assert check_enqueued(SPACE, given) == (given if checked is None else checked)


@pytest.mark.parametrize("sampler", [*SAMPLERS, "qmc"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_what_is_missing_follows_the_conditions(sampler: str, optimizer: str) -> None:
    study = replace(SPACE, sampler=sampler, name="small", round_size=4)
    search = made_elsewhere()
    for _ in range(4):
        search.enqueue_trial({"optimizer": optimizer})
    for trial in ask_round(study, search, range(4)):
        own = {"sgd": {"nesterov", "momentum"}, "adam": {"beta1"}}[optimizer]
        assert trial.params.keys() == {"optimizer", "learning_rate", "batch_size", "hidden", *own}
        assert trial.params["optimizer"] == optimizer


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_enqueued_configuration_outside_of_the_space_is_refused(sampler: str) -> None:
    """In one line, before a trial is made; repair withdraws it."""
    study = small_study(sampler=sampler, trials=8)
    run(study, trials=4)
    stored(study).enqueue_trial({"learning_rate": 5.0})
    before = Path(STORAGE).read_bytes()
    words = "trial 4 of study 'small' was enqueued with learning_rate=5.0: expected a number from 0.01 to 1.0"
    with pytest.raises(StudyError, match=f"{words}; to withdraw it: searchlib verify --study small --repair"):
        search_all(study)
    assert Path(STORAGE).read_bytes() == before
    (difference,) = verify(study, Stores()).differences
    assert (difference.what, difference.trial, difference.repairable) == ("trial", 4, True)
    assert repair(study, Stores()).differences == []
    search_all(study)
    found = Stores().read(study)
    assert (len(found.trials), found.foreign) == (8, (4,))


def test_before_a_study_has_begun_such_a_configuration_is_refused_too() -> None:
    prepare()
    made_elsewhere().enqueue_trial({"learning_rate": 5.0})
    before = Path(STORAGE).read_bytes()
    with pytest.raises(StudyError, match="trial 0 .* learning_rate=5.0.*; delete the Optuna study, and enqueue again"):
        search_all(small_study())
    assert Path(STORAGE).read_bytes() == before


def test_a_distribution_of_another_program_beside_one_of_the_queue() -> None:
    """Optuna compares the distributions of a queued trial with those that are there, and refuses two kinds."""
    study = small_study(trials=6)
    run(study, trials=4)
    stored(study).add_trial(create_trial(value=0.1, params={"batch_size": 0.5}, distributions={"batch_size": REMOTE}))
    stored(study).enqueue_trial(WHOLE)
    search_all(study)
    found = Stores().read(study)
    assert [trial.number for trial in found.trials] == [0, 1, 2, 3, 5, 6, 7]
    assert found.trials[4].params == WHOLE


def test_a_distribution_of_another_program_that_a_database_cannot_hold() -> None:
    study = small_study()
    search = optuna.create_study(study_name="small", storage=open_storage("sqlite:///optuna.db"), direction="maximize")
    search.add_trial(create_trial(value=0.1, params={"batch_size": 0.5}, distributions={"batch_size": REMOTE}))
    with pytest.raises(StorageError, match="another program's trial in it has other distributions"):
        ask_round(study, search, range(4))
