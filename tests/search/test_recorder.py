"""What the recorder stores equals what MLflow's client and Optuna's own calls would store."""

from __future__ import annotations

import contextlib
import math
import sqlite3
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import optuna
import pytest
import torch
from optuna.trial import TrialState
from support import STORAGE, mlflow_runs, prepare, small_study, stored

from searchlib.errors import StorageError
from searchlib.search import recorder
from searchlib.search.recorder import Recorder
from searchlib.search.samplers import ask_round
from searchlib.stores.journal import written_together
from searchlib.stores.mlflow_store import connect
from searchlib.stores.parent_run import open_parent
from searchlib.stores.sqlite_runs import store_of
from searchlib.stores.storage import open_storage
from searchlib.stores.stores import Stores
from searchlib.stores.tracking import Tracker
from searchlib.stores.trial_runs import log_trials, run_of
from searchlib.study.record import TrialRecord
from searchlib.study.study import Study

OUTCOMES = ("completed", "pruned", "diverged", "failed", "completed")


NOTES = {  # what a record of an outcome has beside that of a completed trial
    "pruned": {"pruner_notes": {"completed_rung_0": 0.1}},
    "diverged": {"value": 1 / 3, "diagnosis": ["diverged at step 3"], "diverged_step": 3},
    "failed": {"error": "Traceback: it failed"},
}


def record_of(study: Study, trial: optuna.Trial, outcome: str) -> TrialRecord:
    started = time.time()
    curves = [
        {
            "epoch": epoch,
            "train_loss": 1.0 / epoch + trial.number,
            "train_accuracy": 0.3 * epoch,
            "val_loss": math.nan if outcome == "diverged" and epoch == 2 else 2.0 / epoch,
            "val_accuracy": math.nan if outcome == "diverged" and epoch == 2 else 0.1 * epoch,
            "learning_rate": 0.1,
            "time": started + epoch,
        }
        for epoch in (1, 2)
    ]
    same = {"train_loss": 0.5, "train_accuracy": 0.3, "val_accuracy": 0.1, "time": started + 1}
    settings = {
        "error": "", "value": 0.2, "diagnosis": [], "diverged_step": None, "pruner_notes": {}, **NOTES.get(outcome, {})
    }  # fmt: skip
    return TrialRecord(
        number=trial.number,
        trial_id=trial._trial_id,
        params=trial.params,
        config=study.config(trial.params),
        seed=trial.user_attrs["seed"],
        outcome=outcome,
        best=0.2,
        best_epoch=2,
        curves=curves,
        steps=[{"step": step, "val_loss": 1.0 / step, **same} for step in (4, 8)],
        diagnostics=[{"dead/layer1": 0.5, "gradient_norm/layer1": 1.5 - step} for step in range(3)],
        started=started,
        ended=started + 3,
        state={"linear0.weight": torch.ones(2, 3)} if trial.number == 4 else None,
        factor=1.0,
        offset=0.0,
        **settings,
    )


def asked(study: Study, place: str | None = None, name: str = "small") -> tuple[optuna.Study, list[TrialRecord]]:
    """A study of Optuna's, with a trial asked for and a record made for each outcome."""
    storage = open_storage(place) if place else None
    made = optuna.create_study(study_name=name, storage=storage, direction="maximize")
    trials = ask_round(study, made, range(len(OUTCOMES)))
    return made, [record_of(study, trial, outcome) for trial, outcome in zip(trials, OUTCOMES, strict=True)]


def runs_of(study: Study) -> dict[str, dict]:
    """All that MLflow's client says of the trials' runs, by name, without what is drawn anew for each."""
    client = connect(None)
    found = {}
    for run in mlflow_runs(study, "trial"):
        info, run_id = dict(run.info), run.info.run_id
        info["artifact_uri"] = info["artifact_uri"].replace(run_id, "RUN")
        del info["run_id"]
        found[run.info.run_name] = {
            "info": info,
            "tags": run.data.tags,
            "params": run.data.params,
            "latest": {metric.key: (metric.step, metric.value, metric.timestamp) for metric in run.data._metric_objs},
            "histories": {
                name: [(point.step, point.value, point.timestamp) for point in client.get_metric_history(run_id, name)]
                for name in run.data.metrics
            },
            "files": sorted(file.path for file in client.list_artifacts(run_id)),
        }
    return found


def test_a_run_written_into_the_file_equals_one_of_the_client() -> None:
    prepare()
    study = small_study()
    optuna_study, records = asked(study)
    with Tracker(study, Stores()) as tracker:
        open_parent(tracker, optuna_study)
        assert tracker.sqlite is not None, "MLflow's tables have changed: see searchlib.stores.sqlite_runs"
        stored = log_trials(tracker, records, study.name)
        written = runs_of(study)
        for run_id, _ in stored:
            tracker.client.delete_run(run_id)
        tracker.sqlite = None
        again = log_trials(tracker, records, study.name)
    for calls in (stored, again):
        assert [checkpoint is not None for _, checkpoint in calls] == [False, False, False, False, True]
        ids = [run_id for run_id, _ in again]
        assert store_of(tracker.client.tracking_uri).histories([*ids, "gone"]) == tracker.histories(ids)
    assert len(written) == len(OUTCOMES)
    assert written == runs_of(study)
    assert written["trial-4"]["files"] == ["checkpoint.safetensors"]
    assert written["trial-3"]["files"] == ["traceback.txt"]
    assert [point[:2] for point in written["trial-0"]["histories"]["step_val_loss"]] == [(4, 0.25), (8, 0.125)]
    assert written["trial-2"]["latest"]["val_loss"][:2] == (1, 2.0), "a value that isn't finite is no metric"


def test_other_stores_are_left_to_the_client() -> None:
    prepare()
    path = Path("mlflow.db").absolute()
    assert store_of(f"sqlite:///{path}") is not None
    assert store_of("sqlite:///mlflow.db") is not None
    for uri in ("sqlite:///nowhere.db", "sqlite:///mlflow.db?timeout=3", "http://127.0.0.1:1", "file:mlruns", ""):
        assert store_of(uri) is None, uri
    assert not Path("nowhere.db").exists()
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE metrics ADD COLUMN unit VARCHAR(32)")
    assert store_of("sqlite:///mlflow.db") is None, "tables of another version"


def test_runs_are_written_all_or_none() -> None:
    prepare()
    study = small_study()
    optuna_study, records = asked(study)
    with Tracker(study, Stores()) as tracker:
        open_parent(tracker, optuna_study)
        runs = [run_of(study, record, study.name, tracker.parent) for record in records]
        runs[-1].tags["searchlib.outcome"] = object()  # type: ignore[index]
        with pytest.raises(sqlite3.Error):
            tracker.sqlite.add(runs, tracker.parent)
    assert runs_of(study) == {}


def former_write(optuna_study: optuna.Study, record: TrialRecord, run_id: str) -> None:
    """Optuna's own calls, one for each thing."""
    trial = optuna.trial.Trial(optuna_study, record.trial_id)
    for point in record.curves:
        if math.isfinite(point["val_accuracy"]):
            trial.report(point["val_accuracy"], point["epoch"])
    notes = {"mlflow_run_id": run_id, "outcome": record.outcome, "diagnosis": record.diagnosis}
    counts = {"epochs_run": 2, "best_epoch": 2, "evaluations": 2}
    diverged = {} if record.diverged_step is None else {"diverged_step": record.diverged_step}
    for name, value in {**notes, **counts, **diverged}.items():
        trial.set_user_attr(name, value)
    for name, note in record.pruner_notes.items():
        optuna_study._storage.set_trial_system_attr(record.trial_id, name, note)
    states = {"pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
    if record.outcome in states:
        optuna_study.tell(trial, state=states[record.outcome])
    else:
        optuna_study.tell(trial, record.value)


@dataclass
class NoTracker:
    """Of a store in which nothing is recorded; see ``no_runs``."""

    study: Study


@pytest.fixture
def no_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every trial gets the id of a run and no checkpoint."""
    monkeypatch.setattr(
        recorder, "log_trials", lambda tracker, records, home: [(f"run{one.number}", None) for one in records]
    )


def test_training_waits_for_a_recorder_that_is_behind_and_an_interrupt_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who puts more than may wait, waits; it hears of an error; and it gets away while nothing is written."""
    monkeypatch.setattr(recorder, "GRACE", 0.2)
    slow, reached = threading.Event(), []
    made = Recorder(optuna.create_study(), None, begin=slow.wait)

    def put_all() -> None:
        for number in range(recorder.MOST_WAITING + 1):
            made.put(lambda: None)
            reached.append(number)

    thread = threading.Thread(target=put_all)

    def interrupted() -> None:
        with made:
            thread.start()
            thread.join(0.5)
            assert len(reached) == recorder.MOST_WAITING
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with pytest.raises(StorageError, match="before a server had stored"):
        made.put(lambda: None)
    slow.set()
    thread.join()
    made.queue.put(None)
    made.thread.join()


def test_an_error_reaches_who_waits_for_his_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "MOST_WAITING", 1)

    def fail() -> None:
        time.sleep(0.2)
        raise StorageError("the disk is full")

    def put_all() -> None:
        with Recorder(optuna.create_study(), None) as made:
            for _ in range(1000):
                made.put(fail)

    with pytest.raises(StorageError, match="the disk is full"):
        put_all()


@pytest.mark.parametrize("place", [STORAGE, "sqlite:///optuna.db"])
@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.usefixtures("no_runs")
def test_a_recorded_trial_equals_one_told_by_optunas_own_calls(place: str, killed: bool) -> None:
    study = small_study()
    told = []
    for name in ("recorder", "former"):
        optuna_study, records = asked(study, place, name)
        if name == "former":
            for record in records:
                former_write(optuna_study, record, f"run{record.number}")
        else:
            if killed:  # by a recorder before: what it reported of one trial is there already
                optuna_study._storage.set_trial_intermediate_value(records[0].trial_id, 1, 0.1)
            with Recorder(optuna_study, NoTracker(study)) as recorder:  # type: ignore[arg-type]
                for record in records:
                    recorder.put(record)
        again = optuna.load_study(study_name=name, storage=open_storage(place))
        told.append(
            [
                (t.number, t.state, t.values, t.params, t.intermediate_values, t.user_attrs, t.system_attrs)
                for t in again.trials
            ]
        )
    assert told[0] == told[1]
    assert [trial[1].name for trial in told[0]] == ["COMPLETE", "PRUNED", "COMPLETE", "FAIL", "COMPLETE"]
    assert told[0][1][2] == [0.2], "a pruned trial has its last report as its value"


@pytest.mark.usefixtures("no_runs")
def test_trials_that_wait_are_written_by_two_appends_and_in_order() -> None:
    study = small_study()
    optuna_study, records = asked(study, STORAGE)
    backend = optuna_study._storage._backend._backend
    appended, append = [], backend.append_logs
    backend.append_logs = lambda logs: (appended.append(logs), append(logs))
    recorder = Recorder(optuna_study, NoTracker(study))  # type: ignore[arg-type]
    for record in records:
        recorder.put(record)
    with recorder:
        recorder.drain()
    assert len(appended) == 2
    assert [log["trial_id"] for log in appended[1]] == [record.trial_id for record in records]
    assert all(trial.state.is_finished() for trial in optuna_study.trials)


def test_without_its_run_no_trial_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    study = small_study()
    optuna_study, records = asked(study, STORAGE)

    def broken(tracker, records, home):
        raise OSError("no space")

    monkeypatch.setattr(recorder, "log_trials", broken)
    made = Recorder(optuna_study, NoTracker(study))  # type: ignore[arg-type]
    with pytest.raises(OSError, match="no space"), made:
        made.put(records[0])
    assert not any(trial.state.is_finished() for trial in optuna_study.trials)


@pytest.mark.usefixtures("no_runs")
def test_a_storage_that_fails_leaves_no_trial_half_told() -> None:
    study = small_study()
    optuna_study, records = asked(study, STORAGE)
    backend = optuna_study._storage._backend._backend

    def full(logs: object) -> None:
        raise OSError(28, "No space left on device")

    backend.append_logs = full
    recorder = Recorder(optuna_study, NoTracker(study))  # type: ignore[arg-type]
    with pytest.raises(OSError, match="No space left"), recorder:
        recorder.put(records[0])
    assert not any(trial.state.is_finished() or trial.intermediate_values for trial in stored(study).trials)


@pytest.mark.parametrize("place", [STORAGE, "sqlite:///optuna.db"])
def test_writes_made_together(place: str) -> None:
    optuna_study = optuna.create_study(study_name="s", storage=open_storage(place))
    trial_id = optuna_study.ask()._trial_id
    storage = optuna_study._storage
    with written_together(storage):
        for step in range(3):
            storage.set_trial_intermediate_value(trial_id, step, 0.5)
    assert optuna_study.trials[0].intermediate_values == {0: 0.5, 1: 0.5, 2: 0.5}
    with contextlib.suppress(RuntimeError), written_together(storage):
        storage.set_trial_user_attr(trial_id, "a", 1)
        raise RuntimeError
    if place == STORAGE:
        assert optuna_study.trials[0].user_attrs == {}
    storage.set_trial_user_attr(trial_id, "b", 2)
    assert optuna_study.trials[0].user_attrs["b"] == 2
