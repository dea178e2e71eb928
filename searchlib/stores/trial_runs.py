"""The runs of trials and replicates in MLflow: what each holds, and writing them."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterable, Sequence

from searchlib.files import temporary_folder
from searchlib.stores.mlflow_store import is_gone
from searchlib.stores.sqlite_runs import FinishedRun
from searchlib.stores.tracking import CHECKPOINT, Tracker
from searchlib.study import Study, TrialRecord, encode

PATIENCE = 90.0  # seconds that a tracking server may be away, after MLflow's own retries
PAUSE = 1.0  # seconds between two tries
BATCH = 800  # metrics in one call: MLflow takes 1,000 things, parameters and tags among them
TAG_LENGTH = 5000  # MLflow's own limit
FIGURES = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")  # by epoch, and as step_<name> by evaluation


def log_trials(tracker: Tracker, records: Sequence[TrialRecord], home: str) -> list[tuple[str, str | None]]:
    """Record finished trials of the Optuna study *home* (the search, or its replicates), each as a nested run.

    Returns (run id, SHA-256 of its checkpoint or None) of each. A server that is away is waited for, PATIENCE seconds:
    what it has of these trials by then is discarded, and all of them are recorded again.
    """
    with tracker.errors("can't be written"):
        away_since: float | None = None
        while True:
            try:
                if away_since is not None:
                    _discard(tracker, home, [record.number for record in records])
                stored = _log_trials(tracker, records, home)
                tracker.away = False
                return stored
            except Exception as error:
                tracker.away = is_gone(error)
                away_since = away_since or time.monotonic()
                if tracker.left or not tracker.away or time.monotonic() - away_since > PATIENCE:
                    raise
                time.sleep(PAUSE)


def _log_trials(tracker: Tracker, records: Sequence[TrialRecord], home: str) -> list[tuple[str, str | None]]:
    runs = [run_of(tracker.study, record, home, tracker.parent) for record in records]
    sqlite = tracker.sqlite
    ids = sqlite.add(runs, tracker.parent) if sqlite else [add_run(tracker, run) for run in runs]
    checkpoints = []
    for record, run_id in zip(records, ids, strict=True):
        checkpoints.append(_save_checkpoint(tracker, run_id, record) if record.state else None)
        if record.error:
            _log_content(tracker, run_id, "traceback.txt", record.error.encode())
    if not sqlite:  # a run made twice, where the server's answer was lost and MLflow asked again
        _discard_where(tracker, home, "attributes.status = 'RUNNING'")
    return list(zip(ids, checkpoints, strict=True))


def run_of(study: Study, record: TrialRecord, home: str, parent: str) -> FinishedRun:
    """The run of a trial of the Optuna study *home*. parent: the id of the parent run."""
    kind = "trial" if home == study.name else "replicate"
    tags = {
        "mlflow.parentRunId": parent,
        "searchlib.kind": kind,
        "searchlib.outcome": record.outcome,
        "searchlib.seed": str(record.seed),
        "searchlib.signature": record.config.signature,
        "optuna.study_name": home,
        "optuna.trial_number": str(record.number),
    }
    if record.diagnosis:
        tags["searchlib.diagnosis"] = "; ".join(record.diagnosis)[:TAG_LENGTH]
    metrics: list[tuple[str, float, int, int]] = [
        (name, point[name], _ms(point["time"]), int(point["epoch"]))
        for point in record.curves
        for name in (*FIGURES, "learning_rate")
        if name in point
    ]
    metrics += [
        (f"step_{name}", point[name], _ms(point["time"]), int(point["step"]))
        for point in record.steps
        for name in FIGURES
        if name in point
    ]
    times = [record.started, *(point["time"] for point in record.curves)]
    metrics += [
        (name, value, _ms(seconds), step)
        for step, (snapshot, seconds) in enumerate(zip(record.diagnostics, times, strict=False))
        for name, value in snapshot.items()
    ]
    if record.best is not None:
        ended = _ms(record.ended)
        metrics.append((f"best_{study.metric}", record.best, ended, record.best_epoch))
        metrics.append(("best_epoch", record.best_epoch, ended, record.best_epoch))
    fixed = dict.fromkeys(["hidden", *study.fixed])
    chosen = {name: encode(getattr(record.config, name)) for name in fixed}
    return FinishedRun(
        name=f"{kind}-{record.number}",
        status={"pruned": "KILLED", "failed": "FAILED"}.get(record.outcome, "FINISHED"),
        started=_ms(record.started),
        ended=_ms(record.ended),
        tags=tags,
        params={name: str(value) for name, value in {**chosen, **record.params}.items()},
        metrics=[metric for metric in metrics if math.isfinite(metric[1])],
    )


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


def add_run(tracker: Tracker, run: FinishedRun) -> str:
    """Store a run through MLflow's client; its id."""
    from mlflow.entities import Metric, Param

    client = tracker.client
    made = client.create_run(tracker.experiment, start_time=run.started, run_name=run.name, tags=dict(run.tags))
    run_id: str = made.info.run_id
    metrics = [Metric(*metric) for metric in run.metrics]
    params = [Param(name, value) for name, value in run.params.items()]
    client.log_batch(run_id, metrics=metrics[:BATCH], params=params)
    for start in range(BATCH, len(metrics), BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + BATCH])
    client.set_terminated(run_id, run.status, end_time=run.ended)
    return run_id


def _save_checkpoint(tracker: Tracker, run_id: str, record: TrialRecord) -> str:
    """Add the trial's checkpoint to its run; the SHA-256 of it."""
    from safetensors.torch import save

    assert record.state is not None
    metadata = {
        "study": tracker.study.name,
        "trial": str(record.number),
        "epoch": str(record.best_epoch),
        "params": json.dumps(record.params),
        "factor": repr(record.factor),
        "offset": repr(record.offset),
    }
    content = save({name: value.contiguous() for name, value in record.state.items()}, metadata)
    _log_content(tracker, run_id, CHECKPOINT, content)
    return hashlib.sha256(content).hexdigest()


def _log_content(tracker: Tracker, run_id: str, name: str, content: bytes) -> None:
    """Add a file to the artifacts of a run."""
    with temporary_folder() as folder:
        path = folder / name
        path.write_bytes(content)
        tracker.log_artifact(run_id, path)


def discard_runs(tracker: Tracker, home: str, numbers: Iterable[int]) -> None:
    """Delete (MLflow can restore them) runs of trials that a killed search recorded but never finished."""
    with tracker.errors("can't be written"):
        _discard(tracker, home, numbers)


def _discard(tracker: Tracker, home: str, numbers: Iterable[int]) -> None:
    for number in numbers:
        _discard_where(tracker, home, f"tags.`optuna.trial_number` = '{number}'")


def _discard_where(tracker: Tracker, home: str, condition: str) -> None:
    runs = f"tags.mlflow.parentRunId = '{tracker.parent}' and tags.`optuna.study_name` = '{home}'"
    while run_id := tracker.find(f"{runs} and {condition}"):
        tracker.client.delete_run(run_id)
