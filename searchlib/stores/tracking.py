"""One study in MLflow: its experiment and parent run, and what its runs hold.

Everything goes through ``MlflowClient`` on an explicit store, but for finished runs in MLflow's own SQLite file, which
``sqlite_runs`` reads and writes; no global state of MLflow is set. ``parent_run``, ``trial_runs`` and ``repair`` write
to what is opened here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from searchlib.errors import TrackingError
from searchlib.stores.artifacts import Artifacts, artifacts_of, place_beside
from searchlib.stores.mlflow_store import tracking_errors
from searchlib.stores.places import refuse_hard_links, sqlite_file
from searchlib.stores.sqlite_runs import SqliteRuns, store_of
from searchlib.stores.stores import Stores
from searchlib.study import Study

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

CHECKPOINT = "checkpoint.safetensors"
PAGE = 5000  # runs in one answer
MOST_EXPERIMENTS = 10_000
UID_TAG = "searchlib.study_uid"  # tag of a parent run, and of a champion: which Optuna storage's study it is of


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """A run as MLflow has it.

    ended: in ms, None while it is running. metrics: the latest value of each. artifacts: the address of its files.
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
    """The MLflow side of one study. Use as a context, which opens the store; TrackingError where it can't be opened.

    create: make the store's file where it isn't there, which is a TrackingError otherwise.

    client: MLflow's, on the store. experiment: the id of the study's experiment, "" before its first run. parent: the
    id of its parent run, once that is open. uid: of the search study in Optuna, None where there is none. sqlite: the
    store as an SQLite file, if it is one. artifacts: the files of its runs and models. away: whether a server was away
    at the last attempt to write. left: whether the context was left; then nobody waits for a server any more.
    """

    client: MlflowClient
    experiment: str
    uid: str | None
    sqlite: SqliteRuns | None
    artifacts: Artifacts

    def __init__(self, study: Study, stores: Stores, *, create: bool = False) -> None:
        address = stores.tracking_address  # what can be seen to be wrong is said before any training
        if create and (file := sqlite_file(address)):
            refuse_hard_links(file, "MLflow store", TrackingError)
        self.study, self.stores, self.create = study, stores, create
        self.parent = ""
        self.away = self.left = False

    def __enter__(self) -> Tracker:
        self.client = self.stores.mlflow_client(self.study, create=self.create)
        with self.errors("can't be opened"):
            self.experiment = self._experiment()
            self.sqlite = store_of(self.client.tracking_uri)
            self.artifacts = artifacts_of(self.client, self.experiment)
        self.left = False
        return self

    def __exit__(self, *exception: object) -> None:
        self.left = True

    def errors(self, what: str) -> AbstractContextManager[None]:
        """What MLflow and the libraries below it raise, as a TrackingError of one line. what: the store can't do."""
        return tracking_errors(self.stores.tracking_uri, what)

    def _experiment(self) -> str:
        """The study's experiment: that of its parent run, as one can be renamed in MLflow, or the one of its name."""
        parent = self.find_parent()
        found = None
        if parent is not None:
            found = self.client.get_experiment(parent.info.experiment_id)
        found = found or self.client.get_experiment_by_name(self.study.name)
        if found is None:
            return ""
        if found.lifecycle_stage == "deleted":
            raise TrackingError(
                f"MLflow experiment {found.name!r} of study {self.study.name!r} was deleted; restore it (mlflow "
                f"experiments restore --experiment-id {found.experiment_id}) or rename the study"
            )
        return str(found.experiment_id)

    def create_experiment(self, tags: Mapping[str, str]) -> None:
        """Create the study's experiment; its files are to lie beside an SQLite store."""
        self.experiment = self.client.create_experiment(self.study.name, tags=dict(tags))
        place_beside(self.client, self.client.get_experiment(self.experiment))

    def readdress(self) -> None:
        """Make MLflow's addresses of files that were moved with the store those of their place."""
        self.artifacts.readdress()
        self.artifacts = artifacts_of(self.client, self.experiment)

    def find_parent(self) -> MlflowRun | None:
        """The parent run that Optuna notes, if it is of this study, or one with its uid; also a deleted one."""
        from mlflow.exceptions import MlflowException

        search = self.stores.optuna_study(self.study.name)
        noted = search.user_attrs if search else {}
        self.uid = noted.get("uid")
        if not self.uid:
            return None
        try:
            run: MlflowRun | None = self.client.get_run(noted["mlflow_run_id"]) if "mlflow_run_id" in noted else None
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            run = None
        if run and run.data.tags.get("optuna.study_name") == self.study.name and self.uid_of(run) in (None, self.uid):
            return run
        found = self.parents(f"tags.`{UID_TAG}` = '{self.uid}'")
        return min(found, key=lambda run: (run.info.lifecycle_stage == "deleted", run.info.start_time), default=None)

    def uid_of(self, run: MlflowRun) -> str | None:
        """The uid of the study of which *run* is the parent run; None where it has none."""
        return str(run.data.tags[UID_TAG]) if UID_TAG in run.data.tags else None

    def parents(self, condition: str = "") -> list[MlflowRun]:
        """The parent runs of studies of this name that meet MLflow's *condition*, in any experiment, deleted or not."""
        from mlflow.entities import ViewType

        experiments = self.client.search_experiments(view_type=ViewType.ALL, max_results=MOST_EXPERIMENTS)
        wanted = [
            "tags.`searchlib.kind` = 'study'",
            f"tags.`optuna.study_name` = '{self.study.name}'",
            *filter(None, [condition]),
        ]
        found: list[MlflowRun] = self.client.search_runs(
            [each.experiment_id for each in experiments], " and ".join(wanted), run_view_type=ViewType.ALL
        )
        return found

    def is_active(self, run_id: str) -> bool:
        """Whether there is such a run, and it wasn't deleted."""
        from mlflow.exceptions import MlflowException

        try:
            return bool(self.client.get_run(run_id).info.lifecycle_stage == "active")
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    def find(self, query: str) -> str:
        """The id of the oldest run that MLflow's *query* selects in the experiment; "" where there is none."""
        runs = self.client.search_runs([self.experiment], query, max_results=1, order_by=["attributes.start_time ASC"])
        return runs[0].info.run_id if runs else ""

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

    def histories(
        self, run_ids: Sequence[str], names: Sequence[str] = ()
    ) -> dict[str, dict[str, list[tuple[int, float]]]]:
        """By run every metric, or those of *names* that it has, as (step, value) in order of the steps."""
        with self.errors("can't be read"):
            found = self.sqlite.histories(run_ids, names) if self.sqlite else {}
            return {run_id: found[run_id] if run_id in found else self._history(run_id, names) for run_id in run_ids}

    def _history(self, run_id: str, names: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
        found = {
            name: sorted((point.step, point.value) for point in self.client.get_metric_history(run_id, name))
            for name in names or sorted(self.client.get_run(run_id).data.metrics)
        }
        return {name: points for name, points in found.items() if points}

    def tags(self, run_id: str) -> dict[str, str]:
        """The tags of a run."""
        with self.errors("can't be read"):
            return dict(self.client.get_run(run_id).data.tags)

    def checkpoint(self, run_id: str) -> bytes:
        """The checkpoint of a trial's run."""
        with self.errors("has no checkpoint of the champion"):
            return self.artifacts.read(self.client.get_run(run_id).info.artifact_uri, CHECKPOINT)

    def log_artifact(self, run_id: str, path: Path, folder: str | None = None) -> None:
        """Add a file to the artifacts of a run, in *folder* of them."""
        self.artifacts.repository(self.client.get_run(run_id).info.artifact_uri).log_artifact(str(path), folder)

    def stored_checkpoint(self, run_id: str) -> bytes | None:
        """The checkpoint of a run, None where there is no such run, or it has none."""
        from mlflow.exceptions import MlflowException

        with self.errors("can't be read"):
            try:
                return self._checkpoint_at(self.client.get_run(run_id).info.artifact_uri)
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return None
                raise

    def checkpoint_hash(self, run: StoredRun) -> str | None:
        """The SHA-256 of the checkpoint that a run has, None where it has none."""
        with self.errors("can't be read"):
            content = self._checkpoint_at(run.artifacts)
        return None if content is None else hashlib.sha256(content).hexdigest()

    def _checkpoint_at(self, address: str) -> bytes | None:
        return self.artifacts.read(address, CHECKPOINT) if CHECKPOINT in self.artifacts.names(address) else None
