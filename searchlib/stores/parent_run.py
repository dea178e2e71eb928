"""The parent run of a study in MLflow: data inputs, definition, environment, figures and test ledger."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchlib.data import Examples, Split, get_dataset
from searchlib.errors import Command, HoldoutError, TrackingError
from searchlib.files import temporary_folder
from searchlib.stores.mlflow_store import missing_file
from searchlib.stores.provenance import git_state
from searchlib.stores.tracking import UID_TAG, Tracker

if TYPE_CHECKING:
    import optuna
    import torch

    from searchlib.stores.stores import Stores
    from searchlib.study import Study

EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # its UI shows curves, not chat traces
SAMPLING_SECONDS = 2.0  # between two system metrics
LEDGER_TAG = "searchlib.test."  # starts the names of the tags that repeat the ledger


def open_parent(tracker: Tracker, optuna_study: optuna.Study) -> str:
    """The id of the study's parent run: of the one noted in Optuna, or found by its uid, or of a new one.

    Another Optuna storage's study of that name has a run of its own beside it. HoldoutError where MLflow knows of a
    test that *optuna_study* doesn't know of, TrackingError where the run was deleted.
    """
    study = tracker.study
    with tracker.errors("can't be written"):
        run = tracker.find_parent()
        if run is not None and run.info.lifecycle_stage == "deleted":
            raise TrackingError(
                f"the parent run {run.info.run_id} of study {study.name!r} was deleted in MLflow; to restore it: ",
                Command("verify", study.name, ("--repair",)),
            )
        if not optuna_study.user_attrs.get("test_ledger"):
            _refuse_if_opened(tracker)
        if tracker.experiment:
            tracker.readdress()
        if run is None:
            if not tracker.experiment:
                tracker.create_experiment(EXPERIMENT_TAGS)
            tags = {"searchlib.kind": "study", "optuna.study_name": study.name, UID_TAG: str(tracker.uid)}
            if study.path:
                tags["mlflow.source.name"] = str(study.path)
            tags["mlflow.note.content"] = study.question
            run = tracker.client.create_run(tracker.experiment, run_name=study.name, tags=tags)
        tracker.experiment, tracker.parent = run.info.experiment_id, run.info.run_id
    if optuna_study.user_attrs.get("mlflow_run_id") != tracker.parent:  # an error of Optuna's storage is its own
        optuna_study.set_user_attr("mlflow_run_id", tracker.parent)
    return tracker.parent


def refuse_if_opened(study: Study, stores: Stores) -> None:
    """HoldoutError where MLflow has a claim on the test set of a study of that name; for a study without trials."""
    if missing_file(stores.tracking_address) is None:
        with Tracker(study, stores) as tracker:
            _refuse_if_opened(tracker)


def _refuse_if_opened(tracker: Tracker) -> None:
    """The ledger is in two places, so that whoever loses Optuna's can't open the test set of a study again."""
    for run in tracker.parents():
        tags = run.data.tags
        if claimed := tags.get(f"{LEDGER_TAG}claimed_at"):
            raise HoldoutError(
                f"the test set of study {tracker.study.name!r} was opened at {claimed} for trial "
                f"{tags.get(f'{LEDGER_TAG}trial')} (MLflow run {run.info.run_id}), but this Optuna storage has no "
                "record of it; give the storage that has, or save the study under a new name"
            )


@contextlib.contextmanager
def recording(
    tracker: Tracker, optuna_study: optuna.Study, examples: Split, *, tags: Mapping[str, str]
) -> Iterator[None]:
    """The parent run while a search is at work: RUNNING, with data inputs, definition, *tags* and system metrics.

    At the end it is FINISHED, after an error FAILED, after an interruption KILLED.
    """
    open_parent(tracker, optuna_study)
    monitor = None
    try:
        with tracker.errors("can't be written"):
            _describe(tracker, examples, tags)
            monitor = _monitored(tracker)
        yield
    except BaseException as error:
        if not tracker.away:
            with contextlib.suppress(Exception):
                _stop(tracker, "FAILED" if isinstance(error, Exception) else "KILLED", monitor)
        raise
    with tracker.errors("can't be written"):
        _stop(tracker, "FINISHED", monitor)


def _describe(tracker: Tracker, examples: Split, tags: Mapping[str, str]) -> None:
    from mlflow.entities import RunTag

    tracker.client.update_run(tracker.parent, status="RUNNING")
    commit, dirty = git_state()
    everything = {**tags, "searchlib.git.dirty": str(dirty).lower()}
    if commit:
        everything["mlflow.source.git.commit"] = commit
    tracker.client.log_batch(tracker.parent, tags=[RunTag(key, value) for key, value in everything.items()])
    _log_inputs(tracker, examples)
    log_definition(tracker)


def _monitored(tracker: Tracker) -> Any:
    """MLflow's monitor of the system's metrics, started."""
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(
        tracker.parent,
        sampling_interval=SAMPLING_SECONDS,
        resume_logging=True,
        tracking_uri=tracker.client.tracking_uri,
    )
    monitor.start()
    return monitor


def _stop(tracker: Tracker, status: str, monitor: Any) -> None:
    if monitor is not None:
        monitor.finish()
        monitor.collect_metrics()  # a last sample: a search of seconds would otherwise have none
        monitor.publish_metrics(monitor.aggregate_metrics())
        monitor.mlflow_logger.flush()
    _terminate(tracker, status)


def _terminate(tracker: Tracker, status: str) -> None:
    started = tracker.client.get_run(tracker.parent).info.start_time
    ended = max(started, int(time.time() * 1000))  # clocks are set back
    tracker.client.set_terminated(tracker.parent, status, end_time=ended)


def _log_inputs(tracker: Tracker, examples: Split) -> None:
    from mlflow.entities import DatasetInput, InputTag

    inputs = [
        DatasetInput(_dataset_entity(tracker, part, context), [InputTag("mlflow.data.context", context)])
        for part, context in ((examples.train, "training"), (examples.validation, "validation"))
    ]
    tracker.client.log_inputs(tracker.parent, datasets=inputs)


def _dataset_entity(tracker: Tracker, part: Examples, context: str) -> Any:
    """The data as MLflow's own numpy data set would describe it, with our digest and without a copy."""
    from mlflow.entities import Dataset

    study = tracker.study
    dataset = get_dataset(study.dataset)

    def tensor(values: torch.Tensor) -> str:
        spec = {"dtype": str(values.dtype).removeprefix("torch."), "shape": [-1, *values.shape[1:]]}
        return json.dumps([{"type": "tensor", "tensor-spec": spec}])

    split = {"seed": study.split_seed, "validation_fraction": study.validation_fraction}
    return Dataset(
        name=f"{dataset.name}/{context}",
        digest=part.digest[:32],
        source_type="local",
        source=json.dumps({"uri": dataset.title, "split": split}),
        schema=json.dumps({"mlflow_tensorspec": {"features": tensor(part.inputs), "targets": tensor(part.targets)}}),
        profile=json.dumps({"features_shape": list(part.inputs.shape), "targets_shape": list(part.targets.shape)}),
    )


def log_definition(tracker: Tracker) -> None:
    """Add the study, with all that it leaves to defaults, and its file to the artifacts of the parent run."""
    study = tracker.study
    resolved = {
        "name": study.name,
        "question": study.question,
        "trials": study.trials,
        "replicates": study.replicates,
        "identity": study.identity,
        **study.definition(),
    }
    with temporary_folder() as folder:
        path = folder / "study.json"
        path.write_text(json.dumps(resolved, indent=2) + "\n")
        tracker.log_artifact(tracker.parent, path, "study")
    if study.path:
        tracker.log_artifact(tracker.parent, study.path, "study")


def end_parent(tracker: Tracker, run_id: str) -> None:
    """Mark the parent run as finished where a search that was killed after its last trial left it running."""
    with tracker.errors("can't be written"):
        if tracker.is_active(run_id) and tracker.client.get_run(run_id).info.status == "RUNNING":
            tracker.client.set_terminated(run_id, "FINISHED")


def log_summary(tracker: Tracker, metrics: Mapping[str, float], *, tags: Mapping[str, str]) -> None:
    """Figures of the whole study, on the parent run, in one batch; a figure already there isn't repeated."""
    from mlflow.entities import Metric, RunTag

    with tracker.errors("can't be written"):
        run = tracker.client.get_run(tracker.parent)
        known = run.data.metrics
        latest = max((point.timestamp + 1 for point in run.data._metric_objs), default=0)
        now = max(int(time.time() * 1000), latest)  # by a clock set back the old figure would stay the latest
        tracker.client.log_batch(
            tracker.parent,
            metrics=[Metric(name, value, now, 0) for name, value in metrics.items() if known.get(name) != value],
            tags=[RunTag(key, value) for key, value in tags.items()],
        )
        if run.info.status == "RUNNING":  # its search was killed after the last trial
            _terminate(tracker, "FINISHED")


def remove_tags(tracker: Tracker, names: Iterable[str]) -> None:
    """Take tags off the parent run."""
    with tracker.errors("can't be written"):
        known = tracker.client.get_run(tracker.parent).data.tags
        for name in known.keys() & set(names):
            tracker.client.delete_tag(tracker.parent, name)


def log_file(tracker: Tracker, run_id: str, path: Path) -> None:
    """Add a file to the artifacts of a run, in the place of one of the same name."""
    with tracker.errors("can't be written"):
        tracker.log_artifact(run_id, path)
