"""Where studies are kept: Optuna's storage, MLflow, locks."""

from searchlib.stores.journal import written_together
from searchlib.stores.locks import LOCK_FOLDER, StudyLock, at_work
from searchlib.stores.provenance import code_version, environment, now
from searchlib.stores.sqlite_runs import FinishedRun
from searchlib.stores.storage import count_trials, is_url, replicates_name, storage_errors, why
from searchlib.stores.stores import StoredStudy, Stores
from searchlib.stores.tracking import FIGURES, LEDGER_TAG, REPAIRED, REPLACES, UID_TAG, StoredRun, Tracker

__all__ = [
    "FIGURES",
    "LEDGER_TAG",
    "LOCK_FOLDER",
    "REPAIRED",
    "REPLACES",
    "UID_TAG",
    "FinishedRun",
    "StoredRun",
    "StoredStudy",
    "Stores",
    "StudyLock",
    "Tracker",
    "at_work",
    "code_version",
    "count_trials",
    "environment",
    "is_url",
    "now",
    "replicates_name",
    "storage_errors",
    "why",
    "written_together",
]
