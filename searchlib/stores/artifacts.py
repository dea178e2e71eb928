"""The files of MLflow's runs and models: where they lie now, and reading and writing them there.

MLflow notes an absolute address of each run's and model's folder, and keeps it when the folder above is moved. The rule
here: the files of an SQLite store lie in ``mlruns`` beside it. Where MLflow's addresses name another folder, but files
of the same runs are beside the store, the store was moved or copied with them: then nothing is read or written in the
other folder, even if it is still there, and ``readdress`` makes the addresses those of the new place.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchlib.files import temporary_folder
from searchlib.stores.places import sqlite_file
from searchlib.stores.sqlite_runs import store_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

FOLDER = "mlruns"
MOST = 20  # runs looked for, to learn whose a folder is


@dataclass(frozen=True)
class Artifacts:
    """The files of the MLflow store at the address *store*.

    home: the folder of an SQLite store's files, None for other stores. before: the folder that MLflow's addresses name
    in its place, None where they name none.
    """

    store: str
    home: Path | None = None
    before: Path | None = None

    def path(self, address: str) -> Path | None:
        """The folder or file at an address, if it is a local one."""
        path = _local(address)
        if path is not None and self.before is not None and self.home is not None and path.is_relative_to(self.before):
            return self.home / path.relative_to(self.before)
        return path

    def address(self, address: str) -> str:
        """The address of the place where the files at *address* lie now, as MLflow quotes it."""
        from mlflow.utils.file_utils import path_to_local_file_uri

        path = self.path(address)
        return address if path is None else str(path_to_local_file_uri(path))

    def repository(self, address: str) -> Any:
        """MLflow's repository of the files at an address. (Its client keeps one for each run, under the old place.)"""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        return get_artifact_repository(self.address(address), tracking_uri=self.store)

    def names(self, address: str) -> list[str]:
        """The names of the files and folders in the folder at an address; none where it isn't there."""
        return [Path(file.path).name for file in self.repository(address).list_artifacts()]

    def read(self, address: str, name: str) -> bytes:
        """The content of a file in the folder at an address. OSError or what MLflow raises where it isn't there."""
        path = self.path(address)
        if path is not None:
            return (path / name).read_bytes()
        with temporary_folder() as folder:
            return Path(self.repository(address).download_artifacts(name, dst_path=folder)).read_bytes()

    @contextlib.contextmanager
    def opened(self, address: str) -> Iterator[Path]:
        """The folder at an address, where it lies or as a copy.

        Where MLflow loads a model from a path, it reads a percent sign in it as that of an address.
        """
        path = self.path(address)
        if path is not None and "%" not in str(path):
            yield path
            return
        with temporary_folder() as folder:
            yield Path(self.repository(address).download_artifacts("", dst_path=folder))

    def readdress(self) -> None:
        """Make MLflow's addresses of moved files those of their place, in all experiments of the store."""
        store = store_of(self.store)
        if store is not None and self.before is not None:
            before = self.before
            store.readdress(lambda old: self.address(old) if (_local(old) or Path()).is_relative_to(before) else old)


def artifacts_of(client: MlflowClient, experiment: str) -> Artifacts:
    """The files of a store, in which *experiment* is the id of the study's experiment, "" where there is none."""
    store = client.tracking_uri
    file = sqlite_file(store)
    if file is None:
        return Artifacts(store)
    home = Path(file).parent / FOLDER
    if experiment:
        noted = _local(client.get_experiment(experiment).artifact_location)
        if noted is not None and _was_moved(client, noted, home / noted.name):
            return Artifacts(store, home, noted.parent)
    return Artifacts(store, home)


def _was_moved(client: MlflowClient, noted: Path, here: Path) -> bool:
    """Whether the files of an experiment aren't those in the folder *noted*, but those in *here*, beside the store."""
    if noted.parent.name != FOLDER or os.path.realpath(noted) == os.path.realpath(here):
        return False
    return here.is_dir() and any(_is_run(client, name) for name in sorted(os.listdir(here))[:MOST])


def _is_run(client: MlflowClient, name: str) -> bool:
    from mlflow.exceptions import MlflowException

    with contextlib.suppress(MlflowException):
        return bool(client.get_run(name))
    return False


def _local(address: str) -> Path | None:
    """The path in a local address. One that is a bare path was written unquoted, and by MLflow is read as if quoted."""
    from mlflow.utils.file_utils import local_file_uri_to_path
    from mlflow.utils.uri import is_local_uri

    if address.startswith("/") and ("%" not in address or os.path.exists(address)):
        return Path(address)
    return Path(local_file_uri_to_path(address)) if is_local_uri(address, is_tracking_or_registry_uri=False) else None


def place_beside(client: MlflowClient, experiment: Experiment) -> None:
    """Have the files of a new experiment beside its SQLite store, at an address that is quoted."""
    from mlflow.utils.file_utils import path_to_local_file_uri

    store, file = store_of(client.tracking_uri), sqlite_file(client.tracking_uri)
    noted = _local(experiment.artifact_location)
    if store is not None and file is not None and noted is not None:
        address = str(path_to_local_file_uri(Path(file).parent / FOLDER / noted.name))
        store.readdress(lambda old: address if old == experiment.artifact_location else old)
