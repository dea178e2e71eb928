"""The three places in which a study lives, each opened once, and what Optuna's holds of a study, read once."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchlib.data import load_train, split
from searchlib.errors import Command, StorageError
from searchlib.stores.journal import DEFAULT_STORAGE
from searchlib.stores.storage import open_storage, replicates_name, storage_exists
from searchlib.study import refuse_if_changed
from searchlib.text import mask

if TYPE_CHECKING:
    import optuna
    from mlflow import MlflowClient
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

    from searchlib.data import Split
    from searchlib.study import Study

__all__ = ["StoredStudy", "Stores"]


@dataclass(frozen=True, kw_only=True)
class StoredStudy:
    """What Optuna's storage holds of a study and of its replicates at one moment; empty where it has not begun.

    search: Optuna's own study, to write to. trials, replicates: in the order of their numbers. race: what was noted of
    the replicates' race. attributes: the user attributes of *search*.
    """

    search: optuna.Study | None = None
    trials: Sequence[FrozenTrial] = ()
    replicates: Sequence[FrozenTrial] = ()
    race: Mapping[str, Any] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ledger(self) -> dict[str, Any] | None:
        """The ledger of the test set; None where nobody claimed it."""
        return self.attributes.get("test_ledger")

    @property
    def target(self) -> int | None:
        """How many trials the last search was to have."""
        return self.attributes.get("target")

    @property
    def run_id(self) -> str:
        """The study's parent run in MLflow; "" where there is none."""
        return str(self.attributes.get("mlflow_run_id") or "")


@dataclass(frozen=True)
class Stores:
    """Optuna's storage, MLflow's store and the folder of data sets. Each is opened when it is first needed, once.

    storage: the path of a journal file, or a database URL of Optuna's.
    tracking_uri: None is MLflow's own default, ``mlflow.db`` and ``mlruns/`` in the working folder.
    data_root: the folder of data sets, in torchvision's layout.
    """

    storage: str = DEFAULT_STORAGE
    tracking_uri: str | None = None
    data_root: Path = Path("data")
    _opened: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @functools.cached_property
    def optuna_storage(self) -> BaseStorage:
        """Optuna's storage, created where it is missing. StorageError where it can't be opened."""
        return open_storage(self.storage)

    @property
    def shown(self) -> str:
        """The storage as it may be shown: without a password."""
        return mask(self.storage)

    def optuna_study(self, name: str) -> optuna.Study | None:
        """The Optuna study of that name, or None where it (or the storage) doesn't exist. Creates nothing."""
        if not storage_exists(self.storage):
            return None
        import optuna

        try:
            return optuna.load_study(study_name=name, storage=self.optuna_storage)
        except KeyError:
            return None

    def read(self, study: Study) -> StoredStudy:
        """What the storage holds of *study* now. Creates nothing."""
        search = self.optuna_study(study.name)
        if search is None:
            return StoredStudy()
        replicated = self.optuna_study(replicates_name(study))
        return StoredStudy(
            search=search,
            trials=search.get_trials(deepcopy=False),
            replicates=replicated.get_trials(deepcopy=False) if replicated else (),
            race=dict(replicated.user_attrs.get("race") or {}) if replicated else {},
            attributes=search.user_attrs,
        )

    def begun(self, study: Study) -> optuna.Study:
        """The Optuna study that was begun with *study*. Creates nothing.

        StorageError where there is none, StudyError where the study has changed since.
        """
        found = self.optuna_study(study.name)
        if found is None or "definition" not in found.user_attrs:
            raise StorageError(
                f"study {study.name!r} has not begun: storage {self.shown!r} holds nothing that searchlib made of it; "
                "run ",
                Command("optimize", study.name),
                ", or give another --storage",
            )
        refuse_if_changed(study, found.user_attrs["definition"])
        return found

    def mlflow_client(self, *, create: bool = False) -> MlflowClient:
        """A client of MLflow's store. create: make its file where it isn't there; without it the file must be there."""
        from searchlib.stores.mlflow_store import connect

        if "mlflow" not in self._opened:
            self._opened["mlflow"] = connect(self.tracking_uri, create=create)
        client: MlflowClient = self._opened["mlflow"]
        return client

    def examples(self, study: Study, *, fetch: bool = True) -> Split:
        """The training data of *study*, split for it. fetch: get them from their sources where they aren't there."""
        key = (study.dataset, study.split_seed, study.validation_fraction)
        if self._opened.get("split key") != key:
            examples = load_train(study.dataset, self.data_root, fetch=fetch)
            self._opened["split"] = split(examples, seed=study.split_seed, fraction=study.validation_fraction)
            self._opened["split key"] = key
        found: Split = self._opened["split"]
        return found
