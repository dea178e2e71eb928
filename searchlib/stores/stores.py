"""The three places in which a study lives, each opened once, and what Optuna's storage holds of a study."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from searchlib.data import Split, get_dataset, load_train, split
from searchlib.errors import Command, DataError, StorageError, TrackingError
from searchlib.stores.companions import check_replicates, check_search, foreign_numbers, own_replicates, own_trials
from searchlib.stores.journal import DEFAULT_STORAGE
from searchlib.stores.locks import StudyLock, at_work
from searchlib.stores.places import file_of, real_address, real_path, sqlite_file
from searchlib.stores.storage import count_trials, open_storage, replicates_name, storage_errors, storage_exists
from searchlib.study import Ledger, Study, refuse_if_changed
from searchlib.text import mask

if TYPE_CHECKING:
    import optuna
    from mlflow import MlflowClient
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

Opened = TypeVar("Opened")


class _Once(Generic[Opened]):
    """Something that is opened when it is first needed, by whichever thread needs it first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key: object = None
        self._value: Opened | None = None

    def __call__(self, opening: Callable[[], Opened], key: object = None) -> Opened:
        """What *opening* gave at the first call; it is called again only for another *key* than last time."""
        with self._lock:
            if self._value is None or self._key != key:
                self._value, self._key = opening(), key
            return self._value


@dataclass(frozen=True, kw_only=True)
class StoredStudy:
    """What Optuna's storage holds of a study and of its replicates at one moment; empty where it has not begun.

    search: Optuna's own study, to write to. trials, replicates: in the order of their numbers. race: what was noted of
    the replicates' race. attributes: the user attributes of *search*. foreign, foreign_replicates: the numbers of the
    trials in the two Optuna studies that another program made; they are no part of the study.
    """

    search: optuna.Study | None = None
    trials: Sequence[FrozenTrial] = ()
    replicates: Sequence[FrozenTrial] = ()
    race: Mapping[str, Any] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    foreign: Sequence[int] = ()
    foreign_replicates: Sequence[int] = ()

    @property
    def ledger(self) -> Ledger | None:
        """The ledger of the test set; None where nobody claimed it."""
        noted = self.attributes.get("test_ledger")
        return Ledger.read(noted) if noted else None

    @property
    def target(self) -> int | None:
        """How many trials the last search was to have."""
        return self.attributes.get("target")

    @property
    def champion_note(self) -> str:
        """Where the registered champion has no exported program: that, and why. "" otherwise."""
        why = self.attributes.get("champion_no_program")
        return f"stored as its checkpoint, which searchlib alone can run: {why}" if why else ""

    @property
    def run_id(self) -> str:
        """The study's parent run in MLflow; "" where there is none."""
        return str(self.attributes.get("mlflow_run_id") or "")


@dataclass(frozen=True)
class Stores:
    """Optuna's storage, MLflow's store and the folder of data sets. Each is opened when it is first needed, once.

    Threads may share one. What only reads creates nothing.

    storage: the path of a journal file, or a database URL of Optuna's.
    tracking_uri: None is MLflow's own default, ``mlflow.db`` and ``mlruns/`` in the working folder.
    data_root: the folder of data sets, in torchvision's layout.
    folder: the working folder, in which relative paths begin; later changes of it are of no consequence.
    place: the storage as the absolute path, or the address, that its file really has.
    """

    storage: str = DEFAULT_STORAGE
    tracking_uri: str | None = None
    data_root: Path = Path("data")
    folder: Path = field(default_factory=Path.cwd, init=False, repr=False, compare=False)
    place: str = field(default="", init=False, repr=False, compare=False)
    _optuna: _Once[BaseStorage] = field(default_factory=_Once, init=False, repr=False, compare=False)
    _mlflow: _Once[MlflowClient] = field(default_factory=_Once, init=False, repr=False, compare=False)
    _split: _Once[Split] = field(default_factory=_Once, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "place", real_address(self.storage, self.folder))
        object.__setattr__(self, "data_root", real_path(self.data_root, self.folder))

    @property
    def optuna_storage(self) -> BaseStorage:
        """Optuna's storage, created where it is missing. StorageError where it can't be opened."""
        return self._optuna(lambda: open_storage(self.place))

    @property
    def shown(self) -> str:
        """The storage as it may be shown: without a password."""
        return mask(self.storage)

    @property
    def tracking_address(self) -> str:
        """The address of MLflow's store, the same from every folder. TrackingError where it is none."""
        from searchlib.stores.mlflow_store import store_address

        return store_address(self.tracking_uri, self.folder)

    @property
    def read_only(self) -> bool:
        """Whether this user may only read the storage's file, or that of MLflow's store; False where they aren't."""
        files = (file_of(self.place), sqlite_file(self.tracking_address))
        return not all(
            os.access(place, os.W_OK)
            for file in files
            if file and os.path.exists(file)
            for place in (file, os.path.dirname(file))
        )

    def output(self, name: str) -> Path:
        """The path of an output file in the working folder, relative while that is the process's own, too."""
        return Path(name) if Path.cwd() == self.folder else self.folder / name

    def storage_errors(self) -> AbstractContextManager[None]:
        """What the file system, a database or Optuna raise while the storage is in use, as a StorageError."""
        return storage_errors(self.storage)

    def lock(self, study: str, purpose: str, *, shared: bool = False) -> StudyLock:
        """The lock of a study, to hold while its trials or its test set are worked on; see ``StudyLock``.

        purpose: ``optimize``, ``evaluate`` or ``verify``, which a second process is shown. shared: only to read.
        """
        return StudyLock(self.place, study, purpose, shared=shared, folder=self.folder)

    def at_work(self, study: str) -> bool | None:
        """Whether a search is at work on the study; None where that can't be known. Creates nothing."""
        return at_work(self.place, study, self.folder)

    def count_trials(self) -> dict[str, int]:
        """The number of finished trials of each study in the storage, by its name. Creates nothing."""
        return count_trials(self.place)

    def optuna_study(self, name: str) -> optuna.Study | None:
        """The Optuna study of that name, or None where it (or the storage) doesn't exist. Creates nothing."""
        if not storage_exists(self.place):
            return None
        import optuna

        with self.storage_errors():
            try:
                return optuna.load_study(study_name=name, storage=self.optuna_storage)
            except KeyError:
                return None

    def read(self, study: Study) -> StoredStudy:
        """What the storage holds of *study* now. Creates nothing.

        StorageError where it can't be read, and where what it holds under the study's names isn't of this study.
        StudyError for a study of several data sets: each part has its own.
        """
        study.check_single()
        with self.storage_errors():
            search = self.optuna_study(study.name)
            if search is not None:
                check_search(study, search)
            replicated = self.optuna_study(replicates_name(study))
            if replicated is not None:
                check_replicates(study, search, replicated)
            if search is None:
                return StoredStudy()
            trials = own_trials(search)
            replicates = own_replicates(replicated) if replicated else []
            return StoredStudy(
                search=search,
                trials=trials,
                replicates=replicates,
                race=dict(replicated.user_attrs.get("race") or {}) if replicated else {},
                attributes=search.user_attrs,
                foreign=foreign_numbers(search, trials),
                foreign_replicates=foreign_numbers(replicated, replicates) if replicated else (),
            )

    def begun(self, study: Study) -> StoredStudy:
        """What the storage holds of a study that has begun. Creates nothing.

        StorageError where it has not, StudyError where the study has changed since.
        """
        found = self.read(study)
        if "definition" not in found.attributes:
            raise StorageError(
                f"study {study.name!r} has not begun: storage {self.shown!r} holds nothing that searchlib made of it; "
                "run ",
                Command("optimize", study.name),
                ", or give another --storage",
            )
        refuse_if_changed(study, found.attributes["definition"])
        return found

    def mlflow_client(self, study: Study, *, create: bool = False) -> MlflowClient:
        """A client of MLflow's store. TrackingError where it can't be opened.

        create: make the store's file where it isn't there; otherwise that is a TrackingError, which says how the runs
        of *study* can be written again.
        """
        from searchlib.stores.mlflow_store import connect, missing_file, tracking_errors

        def opening() -> MlflowClient:
            with tracking_errors(self.tracking_uri, "can't be opened"):
                if not create and (missing := missing_file(self.tracking_address)):
                    uri = mask(self.tracking_uri or self.tracking_address)
                    raise TrackingError(
                        f"MLflow store {mask(str(missing))!r} isn't there; give the one that holds study "
                        f"{study.name!r} with --tracking-uri or, if it is lost, have the runs written again: ",
                        Command("verify", study.name, ("--repair", "--tracking-uri", uri)),
                    )
                return connect(self.tracking_uri, create=create, folder=self.folder)

        return self._mlflow(opening)

    def examples(self, study: Study, noted: Mapping[str, Any] | None = None, *, fetch: bool = True) -> Split:
        """The training data of *study*, split for it.

        noted: the user attributes of its Optuna study: DataError where their ``data_sha256`` is that of other data.
        fetch: get the data from their sources where they aren't there.
        """
        study.check_single()

        def opening() -> Split:
            examples = load_train(study.dataset, self.data_root, fetch=fetch)
            return split(examples, seed=study.split_seed, fraction=study.validation_fraction)

        examples = self._split(opening, key=(study.dataset, study.split_seed, study.validation_fraction))
        before = (noted or {}).get("data_sha256")
        if before and before != examples.digest:
            name = get_dataset(study.dataset).name
            raise DataError(
                f"study {study.name!r} has changed since its first trial: its training data had SHA-256 "
                f"{before[:12]}, those of {name!r} have {examples.digest[:12]} now; put the old data back to resume, "
                "or save the study under a new name to start again"
            )
        return examples
