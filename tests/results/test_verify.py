"""verify finds each way in which the stores can disagree, repair repairs it, and Optuna's trials stay as they are."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from optuna.trial import TrialState, create_trial
from support import STORAGE, prepare, run, search, search_all, small_study, stored
from support.damage import (
    alter,
    champion_run,
    checkpoint,
    journal,
    kinds,
    look,
    lose_attribute,
    lose_checkpoint,
    lose_point,
    mend,
    parent_id,
    purge,
    register_another,
    replicate_run,
    run_id,
    sql,
    start_run,
    trials_of,
    withdraw_result,
)

from searchlib import Choice, LogUniform, Study, StudyError, function_dataset
from searchlib.data import datasets as data
from searchlib.errors import BusyError, StorageError
from searchlib.results import holdout
from searchlib.results.verification import verify
from searchlib.stores.mlflow_store import connect
from searchlib.stores.stores import Stores
from searchlib.study import CORRECT, pack_examples

Damage = Callable[[Study], object]


def test_a_finished_study_agrees(study: Study) -> None:
    found = look(study)
    assert found.differences == []
    assert (found.trials, found.replicates, found.runs) == (4, 8, 12)
    assert found.checkpoints == len(list(Path("mlruns").rglob("checkpoint.safetensors"))) > 1
    assert list(found.lines()) == [
        f"4 trials, 8 replicates, 12 runs, {found.checkpoints} checkpoints, the champion and the ledger agree"
    ]
    assert mend(study) == found


# ------------------------------------------------------------------------------------------- what repair repairs

MENDABLE: dict[str, tuple[Damage, str, str, int | None]] = {
    "run deleted": (lambda study: connect(None).delete_run(run_id(study, 1)), "run", "small", 1),
    "run purged": (lambda study: purge(replicate_run(study, 2)), "run", "small.replicates", 2),
    "run without a trial": (lambda study: start_run(study, 99), "extra run", "small", None),
    "second run of a trial": (lambda study: start_run(study, 2), "extra run", "small", 2),
    "curve cut short": (lambda study: lose_point(run_id(study, 1), "val_accuracy", 2), "curve", "small", 1),
    "curve altered": (
        lambda study: sql(
            "UPDATE metrics SET value = 0.125 WHERE run_uuid = ? AND key = 'val_accuracy' AND step = 1",
            run_id(study, 2),
        ),
        "curve", "small", 2,
    ),
    "best missing": (
        lambda study: sql(
            "DELETE FROM latest_metrics WHERE run_uuid = ? AND key = 'best_val_accuracy'", run_id(study, 0)
        ),
        "curve", "small", 0,
    ),
    "status differs": (lambda study: connect(None).set_terminated(run_id(study, 3), "FAILED"), "status", "small", 3),
    "run left running": (
        lambda study: sql("UPDATE runs SET status = 'RUNNING', end_time = NULL WHERE run_uuid = ?", run_id(study, 3)),
        "status", "small", 3,
    ),
    "outcome differs": (
        lambda study: connect(None).set_tag(replicate_run(study, 5), "searchlib.outcome", "pruned"),
        "status", "small.replicates", 5,
    ),
    "parent left running": (
        lambda study: connect(None).update_run(parent_id(study), status="RUNNING"), "status", "small", None
    ),
    "parameter altered": (
        lambda study: sql("UPDATE params SET value = 7 WHERE run_uuid = ? AND key = 'batch_size'", run_id(study, 3)),
        "parameters", "small", 3,
    ),
    "parameter missing": (
        lambda study: sql("DELETE FROM params WHERE run_uuid = ? AND key = 'batch_size'", run_id(study, 3)),
        "parameters", "small", 3,
    ),
    "parent deleted": (lambda study: connect(None).delete_run(parent_id(study)), "parent run", "small", None),
    "another champion": (register_another, "champion", "small", -1),
    "champion's files gone": (
        lambda study: shutil.rmtree(next(Path("mlruns").rglob("MLmodel")).parent),
        "champion", "small", -1,
    ),
    "champion not noted": (
        lambda study: stored(study).set_user_attr("champion_checkpoint", None), "champion", "small", -1
    ),
    "test result altered": (
        lambda study: connect(None).log_metric(parent_id(study), "test_accuracy", 0.999), "ledger", "small", -1
    ),
    "ledger's tag altered": (
        lambda study: connect(None).set_tag(parent_id(study), "searchlib.test.trial", "77"), "ledger", "small", -1
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MENDABLE)
def test_each_difference_is_found_and_repaired(case: str, study: Study) -> None:
    """-1 stands for the champion's trial."""
    damage, what, home, number = MENDABLE[case]
    before = trials_of(study)
    damage(study)
    number = stored(study).user_attrs["test_ledger"]["trial"] if number == -1 else number
    found = look(study)
    assert kinds(found) == [(what, home, number, True)]
    done = mend(study)
    assert (done.differences, done.mended) == ([], found.differences)
    assert trials_of(study) == before


def test_all_of_it_at_once(study: Study) -> None:
    before = trials_of(study)
    alone = ("parent deleted", "parameter missing", "run left running")  # on a run that another damage is done to
    together = [entry for case, entry in MENDABLE.items() if case not in alone]
    for damage, *_ in together:
        damage(study)
    found = look(study)
    assert {(each.what, each.study) for each in found.differences} == {(what, home) for _, what, home, _ in together}
    assert look(study) == found, "looking changes nothing"
    assert mend(study).differences == []
    assert look(study).differences == []
    assert trials_of(study) == before


# -------------------------------------------------------------------------------------- what repair can't mend


def alter_seed(line: dict) -> dict:
    if line["op_code"] == 4 and line["user_attrs"].get("source") is None:
        return {**line, "user_attrs": {**line["user_attrs"], "seed": 5}}
    return line


def alter_value(line: dict) -> dict:
    return {**line, "values": [0.015625]} if line["op_code"] == 6 and line["trial_id"] == 1 else line


def alter_correct_examples(line: dict) -> dict:
    """Of each replicate: all of them correct."""
    if CORRECT not in line.get("system_attr", {}):
        return line
    return {**line, "system_attr": {CORRECT: pack_examples(np.ones(40, dtype=bool))}}


def break_correct_examples(line: dict) -> dict:
    return {**line, "system_attr": {CORRECT: "40 bits"}} if CORRECT in line.get("system_attr", {}) else line


HOPELESS: dict[str, tuple[Damage, str, str]] = {
    "champion's checkpoint altered": (
        lambda study: alter(checkpoint(champion_run(study))),
        "checkpoint", "it is the champion's: restore the file from a backup, or save the study under",
    ),
    "checkpoint missing": (lose_checkpoint, "checkpoint", "isn't the champion's: leave it"),
    "curve longer": (
        lambda study: connect(None).log_metric(run_id(study, 1), "val_accuracy", 0.5, step=3),
        "curve", "Optuna changes no finished trial",
    ),
    "losses cut short": (
        lambda study: lose_point(run_id(study, 1), "train_loss", 2), "curve", "Optuna holds the objective only"
    ),
    "training accuracies cut short": (
        lambda study: lose_point(run_id(study, 1), "train_accuracy", 2), "curve", "Optuna holds the objective only"
    ),
    "evaluations cut short": (
        lambda study: lose_point(run_id(study, 1), "step_val_accuracy", 10), "curve", "Optuna doesn't hold them"
    ),
    "claim without a result": (
        withdraw_result, "ledger", "searchlib evaluate --study small finishes it, with the same checkpoint"
    ),
    "ledger lost": (
        lambda study: stored(study).set_user_attr("test_ledger", None),
        "ledger", "restore Optuna's storage from a backup",
    ),
    "epochs not noted": (lambda study: lose_attribute("epochs_run"), "trial", "Optuna changes no finished trial"),
    "run known by its tags only": (
        lambda study: lose_attribute("mlflow_run_id"), "trial", "Optuna changes no finished trial"
    ),
    "seed altered": (lambda study: journal(alter_seed), "trial", "Optuna changes no finished trial"),
    "value altered": (lambda study: journal(alter_value), "trial", "Optuna changes no finished trial"),
    "correct examples altered": (
        lambda study: journal(alter_correct_examples), "trial", "Optuna changes no finished trial"
    ),
    "correct examples broken": (
        lambda study: journal(break_correct_examples), "trial", "Optuna changes no finished trial"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", HOPELESS)
def test_what_cannot_be_repaired_is_said(case: str, study: Study) -> None:
    damage, what, remedy = HOPELESS[case]
    damage(study)
    before = trials_of(study)
    found = [each for each in look(study).differences if each.what == what and remedy in each.remedy]
    assert found, look(study)
    assert not any(each.repairable for each in found)
    left = mend(study).differences
    assert set(found) <= set(left)
    assert not any(each.repairable for each in left)
    assert trials_of(study) == before


def test_a_claim_is_finished_by_evaluate(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    withdraw_result(study)
    assert kinds(look(study))[0][0] == "ledger"
    with monkeypatch.context() as patch:
        patch.setattr(holdout, "load_test", data.load_test)
        holdout.evaluate(study, Stores(STORAGE))
    assert look(study).differences == []


def test_an_altered_checkpoint_makes_no_new_champion(study: Study) -> None:
    alter(checkpoint(champion_run(study)))
    register_another(study)
    found = {each.what: each for each in mend(study).differences}
    assert set(found) == {"checkpoint", "champion"}
    assert "restore the trial's checkpoint first" in found["champion"].remedy


def test_a_champion_that_is_not_the_best(study: Study) -> None:
    """A better trial that came after the ledger, by whatever hand."""
    best = stored(study).trials[0]
    stored(study).add_trial(
        create_trial(
            state=TrialState.COMPLETE,
            params=best.params,
            distributions=best.distributions,
            value=1.5,
            intermediate_values={1: 0.5, 2: 1.5},  # better than any can be
            user_attrs={**best.user_attrs, "best_epoch": 2, "checkpoint_sha256": "0" * 64},
        )
    )
    found = {each.what: each for each in look(study).differences}
    assert "the test set was opened for it, and by what Optuna has now trial 4" in found["champion"].problem
    assert not found["champion"].repairable
    assert "its seed is" in found["trial"].problem, "the seed of a trial is that of its number"


# ------------------------------------------------------------------------------------------- other studies


def sometimes_broken(config, dataset) -> torch.nn.Module:
    width = 7 if config.learning_rate > 0.5 else 36
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(width, 3))


ONE_CELL = {"scientific": {"initializer": Choice("xavier_normal")}, "round_size": 8}
OTHERS = {
    "pruned": {**ONE_CELL, "pruner": "within_cell", "trials": 8},
    "diverged": {**ONE_CELL, "nuisance": {"learning_rate": Choice(0.1, 1e30)}, "sampler": "grid", "trials": 2},
    "failed": {
        **ONE_CELL,
        "model": sometimes_broken,
        "nuisance": {"learning_rate": Choice(0.1, 0.9)},
        "sampler": "grid",
        "trials": 2,
    },
    "regression": {
        **ONE_CELL,
        "dataset": function_dataset("wave", lambda x: (6 * x).sin(), train=120, test=120),
        "nuisance": {"learning_rate": LogUniform(1e-4, 1e-1)},
        "fixed": {"optimizer": "adam", "epochs": 3},
        "trials": 2,
        "replicates": 1,
    },
}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.usefixtures("sealed")
def test_studies_of_every_kind(kind: str) -> None:
    """They agree when they end, not evaluated; and again after all of their runs were purged and written again."""
    study = small_study(**OTHERS[kind])
    run(study)
    found = look(study)
    assert found.differences == []
    assert list(found.lines())[-1].endswith("agree; the test set is sealed")
    before = trials_of(study)
    outcomes = [attributes["outcome"] for *_, attributes, _ in before]
    assert kind == "regression" or kind in outcomes
    for *_, attributes, _ in before:
        purge(attributes["mlflow_run_id"])
    assert len(look(study).differences) == len(before)
    assert mend(study).differences == []
    assert trials_of(study) == before
    statuses = [connect(None).get_run(attributes["mlflow_run_id"]).info.status for *_, attributes, _ in before]
    assert statuses == [{"pruned": "KILLED", "failed": "FAILED"}.get(outcome, "FINISHED") for outcome in outcomes]


def test_a_database_with_a_gap_in_its_numbers() -> None:
    study, place = small_study(trials=4), "sqlite:///optuna.db"
    prepare()
    search_all(study, Stores(storage=place))
    assert verify(study, Stores(storage=place)).differences == []
    found = Stores(place).optuna_study("small")
    assert found is not None
    number = next(number for number in (1, 2) if number != found.best_trial.number)
    with contextlib.closing(sqlite3.connect("optuna.db")) as connection, connection:
        connection.execute("DELETE FROM trials WHERE number = ?", (number,))
    after = verify(study, Stores(storage=place))
    assert kinds(after) == [("trial", "small", None, False), ("extra run", "small", None, True)]
    assert f"lacks the numbers {number}" in after.differences[0].problem


def test_an_interrupted_study_is_no_fault() -> None:
    """Its trials go on; a run that such a trial may have is discarded then."""
    study = small_study(trials=12)
    prepare()
    steps = search(study)
    for _ in itertools.takewhile(lambda at: at.done < 4 or at.epoch > 1, steps):
        pass
    steps.close()
    unfinished = [trial.number for trial in stored(study).trials if not trial.state.is_finished()]
    assert unfinished
    start_run(study, unfinished[0])
    connect(None).update_run(parent_id(study), status="RUNNING")  # as SIGKILL leaves it
    found = mend(study)
    assert [each.remedy for each in found.mended] == ["sets it to KILLED"]
    assert found.differences == []
    assert "unfinished" in found.notes[0]
    assert found.notes[0].endswith("): searchlib optimize --study small resumes them")
    run(study)
    after = look(study)
    assert (after.differences, after.notes, after.runs) == ([], [], 12)


def test_what_is_refused(study: Study) -> None:
    with pytest.raises(StorageError, match="'another' has not begun: .*searchlib optimize --study another"):
        look(dataclasses.replace(study, name="another"))
    with pytest.raises(StudyError, match="momentum.*0.9.*0.5"):
        look(dataclasses.replace(study, fixed={"momentum": 0.5, "epochs": 2}))
    with Stores(STORAGE).lock("small", "optimize"), pytest.raises(BusyError, match="process"):
        look(study)
