"""MLflow: one parent run a study, one nested run a trial. With ``registry`` the only module that imports mlflow.

Everything goes through ``MlflowClient`` on an explicit store, but for finished runs in MLflow's own SQLite file, which
``sqlite_runs`` writes. No global state of MLflow is set.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from searchlib.data import get_dataset
from searchlib.errors import Command, HoldoutError, SearchlibError, TrackingError
from searchlib.stores.mlflow_store import check_uri, is_gone, missing_file
from searchlib.stores.provenance import git_state
from searchlib.stores.sqlite_runs import FinishedRun, store_of
from searchlib.study import encode
from searchlib.text import mask

if TYPE_CHECKING:
    import optuna
    import torch

    from searchlib.data import Examples, Split
    from searchlib.stores.stores import Stores
    from searchlib.study import Study, TrialRecord

__all__ = [
    "CHECKPOINT",
    "REPAIRED",
    "REPLACES",
    "StoredRun",
    "Tracker",
]


CHECKPOINT = "checkpoint.safetensors"
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # its UI shows curves, not chat traces
SAMPLING_SECONDS = 2.0  # between two system metrics
PATIENCE = 90.0  # seconds that a tracking server may be gone, after MLflow's own retries
PAUSE = 1.0  # seconds between two tries
BATCH = 800  # metrics in one call: MLflow takes 1,000 things, parameters and tags among them
TAG_LENGTH = 5000  # MLflow's own limit
PAGE = 5000  # runs in one answer
FIGURES = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")  # by epoch, and as step_<name> by evaluation
REPAIRED = "searchlib.repaired"  # tag: what of a run written again is lost
REPLACES = "searchlib.replaces"  # tag: the id, noted by Optuna, of the run in whose place this one is
UID_TAG = "searchlib.study_uid"  # tag of a parent run: which Optuna storage's study it is of
LEDGER_TAG = "searchlib.test."  # starts the names of the tags that repeat the ledger


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """A run as MLflow has it.

    ended: in ms, None while it goes on. metrics: the latest value of each. artifacts: the address of its files.
    """

    run_id: str
    deleted: bool
    status: str
    ended: int | None
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    artifacts: str


class Tracker:
    """The MLflow side of one study. Use as a context, which opens the store; ``start`` is for a search.

    create: make the store's file where it isn't there, which is a TrackingError otherwise.
    """

    def __init__(self, study: Study, stores: Stores, *, create: bool = False) -> None:
        check_uri(stores.tracking_uri)
        self.study, self.stores, self.uri, self.create = study, stores, stores.tracking_uri, create
        self.parent = ""
        self._started = False
        self._left = self._away = False  # this context was left; the server is gone
        self._monitor: Any = None

    def __enter__(self) -> Tracker:
        self._left = False
        with self.errors("can't be opened"):
            if not self.create and (missing := missing_file(self.uri)):
                place = mask(self.uri or f"sqlite:///{missing}")
                raise TrackingError(
                    f"MLflow store {mask(str(missing))!r} isn't there; give the one of study {self.study.name!r} with "
                    "--tracking-uri, or, if it is lost, have its runs made anew: ",
                    Command("verify", self.study.name, ("--repair", "--tracking-uri", place)),
                )
            self.client = self.stores.mlflow_client(create=self.create)
            self.experiment = self._experiment()
            self._sqlite = store_of(self.client.tracking_uri)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left = True
        if not self._started or (kind and self._away):
            return
        with contextlib.suppress(Exception) if kind else self.errors("can't be written"):
            if self._monitor is not None:
                self._monitor.finish()
                self._monitor.collect_metrics()  # a last sample: a search of seconds would otherwise have none
                self._monitor.publish_metrics(self._monitor.aggregate_metrics())
                self._monitor.mlflow_logger.flush()
            interrupted = kind is None or not issubclass(kind, Exception)
            status = "FINISHED" if kind is None else "KILLED" if interrupted else "FAILED"
            self._end_parent(status)

    def _end_parent(self, status: str) -> None:
        started = self.client.get_run(self.parent).info.start_time
        self.client.set_terminated(self.parent, status, end_time=max(started, _ms(time.time())))  # clocks are set back

    @contextlib.contextmanager
    def errors(self, what: str) -> Iterator[None]:
        """Whatever MLflow and the libraries below it raise, as one line."""
        try:
            yield
        except SearchlibError:
            raise
        except Exception as error:
            said = str(error).strip() or type(error).__name__
            if self.uri:
                said = said.replace(self.uri, mask(self.uri))
            reason = mask(said.splitlines()[0])[:300]
            raise TrackingError(
                f"MLflow store {mask(self.uri or 'mlflow.db')!r} {what} ({reason}); check --tracking-uri, the server "
                "or the disk, then run the same command again: what was recorded stays"
            ) from None

    def _experiment(self) -> str:
        """The id of the study's experiment, or "" before its first run."""
        found = self.client.get_experiment_by_name(self.study.name)
        if found is None:
            return ""
        if found.lifecycle_stage == "deleted":
            raise TrackingError(
                f"MLflow experiment {self.study.name!r} was deleted; restore it (mlflow experiments restore "
                f"--experiment-id {found.experiment_id}) or rename the study"
            )
        return str(found.experiment_id)

    # ------------------------------------------------------------------------------------------ the parent run

    def open_parent(self, optuna_study: optuna.Study) -> str:
        """The study's parent run: the one noted in Optuna, or found by its tags, or a new one.

        Another Optuna storage's study of that name has a run of its own beside it.
        """
        known, uid = (optuna_study.user_attrs.get(name) for name in ("mlflow_run_id", "uid"))
        with self.errors("can't be written"):
            self.experiment = self.experiment or self.client.create_experiment(self.study.name, tags=EXPERIMENT_TAGS)
            if not (known and self._is_active(known)):
                known = self._find(f"tags.`searchlib.kind` = 'study' and tags.`{UID_TAG}` = '{uid}'")
            if not optuna_study.user_attrs.get("test_ledger"):
                self._refuse_if_opened()
            if not known:
                tags = {
                    "searchlib.kind": "study",
                    "optuna.study_name": self.study.name,
                    UID_TAG: str(uid),
                }
                if self.study.path:
                    tags["mlflow.source.name"] = str(self.study.path)
                tags["mlflow.note.content"] = self.study.question
                known = self.client.create_run(self.experiment, run_name=self.study.name, tags=tags).info.run_id
        if optuna_study.user_attrs.get("mlflow_run_id") != known:  # out here an error of Optuna's storage is its own
            optuna_study.set_user_attr("mlflow_run_id", known)
        self.parent = known
        return known

    def _refuse_if_opened(self) -> None:
        """The ledger is in two places, so that whoever loses Optuna's can't open the test set of a study again."""
        query = f"tags.`searchlib.kind` = 'study' and tags.`optuna.study_name` = '{self.study.name}'"
        for run in self.client.search_runs([self.experiment], query):
            tags = run.data.tags
            if claimed := tags.get(f"{LEDGER_TAG}claimed_at"):
                raise HoldoutError(
                    f"the test set of study {self.study.name!r} was opened at {claimed} for trial "
                    f"{tags.get(f'{LEDGER_TAG}trial')} (MLflow run {run.info.run_id}), and this Optuna storage doesn't "
                    "know of it; go on with the storage that does, or save the study under a new name"
                )

    def end_parent(self, run_id: str) -> None:
        """Mark the study's parent run as finished where a killed search, after its last trial, left it running."""
        with self, self.errors("can't be written"):
            if self._is_active(run_id) and self.client.get_run(run_id).info.status == "RUNNING":
                self.client.set_terminated(run_id, "FINISHED")

    def _is_active(self, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return bool(self.client.get_run(run_id).info.lifecycle_stage == "active")
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    def _find(self, query: str) -> str:
        runs = self.client.search_runs([self.experiment], query, max_results=1, order_by=["attributes.start_time ASC"])
        return runs[0].info.run_id if runs else ""

    def start(self, optuna_study: optuna.Study, examples: Split, *, tags: dict[str, str]) -> None:
        """Open the parent run for a search: data inputs, study file, resolved study, tags, system metrics."""
        self.open_parent(optuna_study)
        with self.errors("can't be written"):
            from mlflow.entities import RunTag
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            self.client.update_run(self.parent, status="RUNNING")
            self._started = True
            commit, dirty = git_state()
            everything = {**tags, "searchlib.git.dirty": str(dirty).lower()}
            if commit:
                everything["mlflow.source.git.commit"] = commit
            run_tags = [RunTag(key, value) for key, value in everything.items()]
            self.client.log_batch(self.parent, tags=run_tags)
            self._log_inputs(examples)
            self._log_definition()
            self._monitor = SystemMetricsMonitor(
                self.parent,
                sampling_interval=SAMPLING_SECONDS,
                resume_logging=True,
                tracking_uri=self.client.tracking_uri,
            )
            self._monitor.start()

    def _log_inputs(self, examples: Split) -> None:
        from mlflow.entities import DatasetInput, InputTag

        inputs = [
            DatasetInput(self._dataset_entity(part, context), [InputTag("mlflow.data.context", context)])
            for part, context in ((examples.train, "training"), (examples.validation, "validation"))
        ]
        self.client.log_inputs(self.parent, datasets=inputs)

    def _dataset_entity(self, part: Examples, context: str) -> Any:
        """The data as MLflow's own numpy data set would describe it, with our digest and without a copy."""
        from mlflow.entities import Dataset

        dataset = get_dataset(self.study.dataset)

        def tensor(values: torch.Tensor) -> str:
            spec = {"dtype": str(values.dtype).removeprefix("torch."), "shape": [-1, *values.shape[1:]]}
            return json.dumps([{"type": "tensor", "tensor-spec": spec}])

        split = {"seed": self.study.split_seed, "validation_fraction": self.study.validation_fraction}
        return Dataset(
            name=f"{dataset.name}/{context}",
            digest=part.digest[:32],
            source_type="local",
            source=json.dumps({"uri": dataset.title, "split": split}),
            schema=json.dumps(
                {"mlflow_tensorspec": {"features": tensor(part.inputs), "targets": tensor(part.targets)}}
            ),
            profile=json.dumps({"features_shape": list(part.inputs.shape), "targets_shape": list(part.targets.shape)}),
        )

    def _log_definition(self) -> None:
        study = self.study
        resolved = {
            "name": study.name,
            "question": study.question,
            "trials": study.trials,
            "replicates": study.replicates,
            "identity": study.identity,
            **study.definition(),
        }
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "study.json"
            path.write_text(json.dumps(resolved, indent=2) + "\n")
            self.client.log_artifact(self.parent, str(path), "study")
        if study.path:
            self.client.log_artifact(self.parent, str(study.path), "study")

    # -------------------------------------------------------------------------------------------------- trials

    def discard_runs_of(self, study_name: str, numbers: Iterable[int]) -> None:
        """Delete (MLflow can restore them) runs of trials that a killed search recorded but never finished."""
        with self.errors("can't be written"):
            self._discard_runs_of(study_name, numbers)

    def _discard_runs_of(self, study_name: str, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._discard(study_name, f"tags.`optuna.trial_number` = '{number}'")

    def _discard(self, study_name: str, condition: str) -> None:
        runs = f"tags.mlflow.parentRunId = '{self.parent}' and tags.`optuna.study_name` = '{study_name}'"
        while run_id := self._find(f"{runs} and {condition}"):
            self.client.delete_run(run_id)

    def log_trials(self, records: Sequence[TrialRecord], study_name: str) -> list[tuple[str, str | None]]:
        """Record finished trials of an Optuna study (the search, or its replicates), each as a nested run.

        Returns (run id, SHA-256 of its checkpoint or None) of each. A server that is gone is waited for, PATIENCE
        seconds: what it has of these trials by then is discarded, and all of them are recorded again.
        """
        with self.errors("can't be written"):
            gone_since: float | None = None
            while True:
                try:
                    if gone_since is not None:
                        self._discard_runs_of(study_name, [record.number for record in records])
                    stored = self._log_trials(records, study_name)
                    self._away = False
                    return stored
                except Exception as error:
                    self._away = is_gone(error)
                    gone_since = gone_since or time.monotonic()
                    if self._left or not self._away or time.monotonic() - gone_since > PATIENCE:
                        raise
                    time.sleep(PAUSE)

    def _log_trials(self, records: Sequence[TrialRecord], study_name: str) -> list[tuple[str, str | None]]:
        runs = [self.run_of(record, study_name) for record in records]
        ids = self._sqlite.add(runs, self.parent) if self._sqlite else [self._add(run) for run in runs]
        checkpoints = []
        for record, run_id in zip(records, ids, strict=True):
            checkpoints.append(self._save_checkpoint(run_id, record) if record.state else None)
            if record.error:
                self._log_text(run_id, record.error, "traceback.txt")
        if not self._sqlite:  # a run made twice, where the server's answer was lost and MLflow asked again
            self._discard(study_name, "attributes.status = 'RUNNING'")
        return list(zip(ids, checkpoints, strict=True))

    def run_of(self, record: TrialRecord, study_name: str) -> FinishedRun:
        """The run of a trial, as it is stored."""
        kind = "trial" if study_name == self.study.name else "replicate"
        tags = {
            "mlflow.parentRunId": self.parent,
            "searchlib.kind": kind,
            "searchlib.outcome": record.outcome,
            "searchlib.seed": str(record.seed),
            "searchlib.signature": record.config.signature,
            "optuna.study_name": study_name,
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
            metrics.append((f"best_{self.study.metric}", record.best, ended, record.best_epoch))
            metrics.append(("best_epoch", record.best_epoch, ended, record.best_epoch))
        chosen = {name: encode(getattr(record.config, name)) for name in self._parameter_names()}
        return FinishedRun(
            name=f"{kind}-{record.number}",
            status={"pruned": "KILLED", "failed": "FAILED"}.get(record.outcome, "FINISHED"),
            started=_ms(record.started),
            ended=_ms(record.ended),
            tags=tags,
            params={name: str(value) for name, value in {**chosen, **record.params}.items()},
            metrics=[metric for metric in metrics if math.isfinite(metric[1])],
        )

    def _add(self, run: FinishedRun) -> str:
        """Store a run through MLflow's client; its id."""
        from mlflow.entities import Metric, Param

        made = self.client.create_run(self.experiment, start_time=run.started, run_name=run.name, tags=dict(run.tags))
        run_id: str = made.info.run_id
        metrics = [Metric(*metric) for metric in run.metrics]
        params = [Param(name, value) for name, value in run.params.items()]
        self.client.log_batch(run_id, metrics=metrics[:BATCH], params=params)
        for start in range(BATCH, len(metrics), BATCH):
            self.client.log_batch(run_id, metrics=metrics[start : start + BATCH])
        self.client.set_terminated(run_id, run.status, end_time=run.ended)
        return run_id

    def histories(
        self, run_ids: Sequence[str], names: Sequence[str] = ()
    ) -> dict[str, dict[str, list[tuple[int, float]]]]:
        """By run every metric, or those of *names* that it has, as (step, value) in order of the steps."""
        with self.errors("can't be read"):
            found = self._sqlite.histories(run_ids, names) if self._sqlite else {}
            return {run_id: found[run_id] if run_id in found else self._history(run_id, names) for run_id in run_ids}

    def _history(self, run_id: str, names: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
        found = {
            name: sorted((point.step, point.value) for point in self.client.get_metric_history(run_id, name))
            for name in names or sorted(self.client.get_run(run_id).data.metrics)
        }
        return {name: points for name, points in found.items() if points}

    def runs(self) -> dict[str, StoredRun]:
        """Every run of the study's experiment by its id, oldest first, deleted ones too."""
        found: dict[str, StoredRun] = {}
        with self.errors("can't be read"):
            from mlflow.entities import ViewType

            token = None
            while self.experiment:
                page = self.client.search_runs(
                    [self.experiment],
                    run_view_type=ViewType.ALL,
                    max_results=PAGE,
                    order_by=["attributes.start_time ASC"],
                    page_token=token,
                )
                for run in page:
                    info, data = run.info, run.data
                    found[info.run_id] = StoredRun(
                        run_id=info.run_id,
                        deleted=info.lifecycle_stage == "deleted",
                        status=info.status,
                        ended=info.end_time,
                        tags=data.tags,
                        params=data.params,
                        metrics=data.metrics,
                        artifacts=info.artifact_uri,
                    )
                token = page.token
                if not token:
                    break
        return found

    def checkpoint_hash(self, run: StoredRun) -> str | None:
        """The SHA-256 of the checkpoint that a run has, None where it has none."""
        with self.errors("can't be read"), tempfile.TemporaryDirectory() as folder:
            import mlflow

            store = self.client.tracking_uri
            files = mlflow.artifacts.list_artifacts(artifact_uri=run.artifacts, tracking_uri=store)
            if all(Path(file.path).name != CHECKPOINT for file in files):
                return None
            path = mlflow.artifacts.download_artifacts(
                artifact_uri=f"{run.artifacts}/{CHECKPOINT}", dst_path=folder, tracking_uri=store
            )
            return hashlib.sha256(Path(path).read_bytes()).hexdigest()

    def tags(self, run_id: str) -> dict[str, str]:
        """The tags of a run."""
        with self.errors("can't be read"):
            return dict(self.client.get_run(run_id).data.tags)

    def log_file(self, run_id: str, path: Path) -> None:
        """Add a file to a run's artifacts, in the place of one of the same name."""
        with self.errors("can't be written"):
            self.client.log_artifact(run_id, str(path))

    def _parameter_names(self) -> list[str]:
        return list(dict.fromkeys(["hidden", *self.study.fixed]))

    def _save_checkpoint(self, run_id: str, record: TrialRecord) -> str:
        from safetensors.torch import save

        assert record.state is not None
        metadata = {
            "study": self.study.name,
            "trial": str(record.number),
            "epoch": str(record.best_epoch),
            "params": json.dumps(record.params),
            "factor": repr(record.factor),
            "offset": repr(record.offset),
        }
        content = save({name: value.contiguous() for name, value in record.state.items()}, metadata)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / CHECKPOINT
            path.write_bytes(content)
            self.client.log_artifact(run_id, str(path))
        return hashlib.sha256(content).hexdigest()

    def _log_text(self, run_id: str, text: str, name: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_text(text)
            self.client.log_artifact(run_id, str(path))

    def log_summary(self, metrics: dict[str, float], *, tags: dict[str, str]) -> None:
        """Figures of the whole study, on the parent run, in one batch; a figure already there isn't repeated."""
        from mlflow.entities import Metric, RunTag

        with self.errors("can't be written"):
            run = self.client.get_run(self.parent)
            known = run.data.metrics
            latest = max((point.timestamp + 1 for point in run.data._metric_objs), default=0)
            now = max(_ms(time.time()), latest)  # by a clock set back the old figure would stay the latest
            self.client.log_batch(
                self.parent,
                metrics=[Metric(name, value, now, 0) for name, value in metrics.items() if known.get(name) != value],
                tags=[RunTag(key, value) for key, value in tags.items()],
            )
            if run.info.status == "RUNNING":  # its search was killed after the last trial
                self._end_parent("FINISHED")

    def remove_tags(self, names: Iterable[str]) -> None:
        """Take tags off the parent run."""
        with self.errors("can't be written"):
            known = self.client.get_run(self.parent).data.tags
            for name in known.keys() & set(names):
                self.client.delete_tag(self.parent, name)

    def checkpoint(self, run_id: str) -> bytes:
        """The checkpoint of a trial's run."""
        with self.errors("has no checkpoint of the champion"), tempfile.TemporaryDirectory() as folder:
            return Path(self.client.download_artifacts(run_id, CHECKPOINT, folder)).read_bytes()

    # ----------------------------------------------------------------------------------------------- mending

    def amend(
        self,
        run_id: str,
        *,
        status: str | None = None,
        ended: int | None = None,
        tags: Mapping[str, str] = {},
        params: Mapping[str, str] = {},
        metrics: Sequence[tuple[str, float, int, int]] = (),
    ) -> None:
        """Give a run a status (with its end in ms, now unless said), tags, parameters, metrics; the rest stays."""
        with self.errors("can't be written"):
            from mlflow.entities import Metric, Param, RunTag

            points = [Metric(*metric) for metric in metrics]
            for start in range(0, max(len(points), 1), BATCH):
                self.client.log_batch(
                    run_id,
                    metrics=points[start : start + BATCH],
                    params=[Param(name, value) for name, value in params.items()],
                    tags=[RunTag(name, value) for name, value in tags.items()],
                )
            if status:
                self.client.set_terminated(run_id, status, end_time=ended)

    def write_again(self, run: FinishedRun, lost: str) -> None:
        """Store the run in the place of the lost one: under its id where the store allows it, and else under a new one.

        That is tagged with the old id (``REPLACES``), since Optuna keeps noting it.
        """
        with self.errors("can't be written"):
            if self._sqlite and lost:
                with contextlib.suppress(sqlite3.IntegrityError):  # the id is taken
                    self._sqlite.add([run], self.parent, [lost])
                    return
            self._add(replace(run, tags={**run.tags, REPLACES: lost}))

    def make_parent(self, optuna_study: optuna.Study) -> None:
        """Open a parent run in the place of a lost one: one found by its tags, or a new one."""
        run_id = self.open_parent(optuna_study)
        with self.errors("can't be written"):
            self._log_definition()
            self.client.set_tag(run_id, REPAIRED, "found or made again: data inputs, environment may be lost")

    def delete(self, run_id: str) -> None:
        """Delete a run, as MLflow does: ``restore`` gets it back."""
        with self.errors("can't be written"):
            self.client.delete_run(run_id)

    def restore(self, run_id: str) -> None:
        """Get a deleted run back."""
        with self.errors("can't be written"):
            self.client.restore_run(run_id)


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
