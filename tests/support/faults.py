"""What the tests of faults have in common: a study, its results without any fault, and when a fault happens."""

from __future__ import annotations

import contextlib
import functools
import itertools
import tempfile
from collections.abc import Callable
from typing import Any

import pytest

from searchlib.errors import SearchlibError
from searchlib.search import recorder
from searchlib.stores.mlflow_store import connect
from searchlib.stores.stores import Stores
from searchlib.stores.tracking import Tracker
from support import mlflow_runs, run, small_study, stored, table

STUDY = small_study(trials=12)


@functools.cache
def uninterrupted() -> list[tuple]:
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        run(STUDY)
        return table(STUDY)


def before_batch(patch: pytest.MonkeyPatch, number: int, fault: Callable[[], Any]) -> None:
    """Have *fault* happen as the recorder is about to write the batch with this number, each of four trials or less."""
    log_trials, batches = recorder.log_trials, itertools.count(1)

    def log(tracker: Tracker, records: Any, home: str) -> Any:
        if next(batches) == number:
            fault()
        return log_trials(tracker, records, home)

    patch.setattr(recorder, "MOST", 4)
    patch.setattr(recorder, "log_trials", log)


def assert_one_line(error: SearchlibError, *expected: str) -> None:
    message = str(error)
    assert "\n" not in message
    assert any(words in message for words in expected), message
    assert "same command again" in message


def assert_nothing_lost(stores: Stores | None = None) -> None:
    """The trials of an uninterrupted search; in MLflow one run a trial, with its whole curves; nothing left running."""
    stores = stores or Stores()
    assert table(STUDY, stores) == uninterrupted()
    study = stored(STUDY, stores)
    client = connect(stores.tracking_uri)
    parents = [(found.info.run_id, found.info.status) for found in mlflow_runs(STUDY, "study", stores.tracking_uri)]
    assert parents == [(study.user_attrs["mlflow_run_id"], "FINISHED")]
    trials = {found.info.run_id: found for found in mlflow_runs(STUDY, "trial", stores.tracking_uri)}
    assert sorted(trials) == sorted(trial.user_attrs["mlflow_run_id"] for trial in study.trials)
    for trial in study.trials:
        found = trials[trial.user_attrs["mlflow_run_id"]]
        assert found.info.status == "FINISHED"
        assert found.info.end_time >= found.info.start_time
        assert found.data.tags["optuna.trial_number"] == str(trial.number)
        curve = client.get_metric_history(found.info.run_id, "val_accuracy")
        assert {point.step: point.value for point in curve} == trial.intermediate_values
        if "checkpoint_sha256" in trial.user_attrs:
            assert [file.path for file in client.list_artifacts(found.info.run_id)] == ["checkpoint.safetensors"]
