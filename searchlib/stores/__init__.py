"""Where studies are kept: Optuna's storage with its locks, MLflow, the data; each is opened once, by Stores."""

from searchlib.stores.journal import written_together
from searchlib.stores.mlflow_store import without_autologging
from searchlib.stores.parent_run import (
    LEDGER_TAG,
    UID_TAG,
    end_parent,
    log_file,
    log_summary,
    open_parent,
    recording,
    remove_tags,
)
from searchlib.stores.places import LOCK_FOLDER
from searchlib.stores.provenance import code_version, environment, now
from searchlib.stores.repair import (
    REPAIRED,
    REPLACES,
    amend_run,
    delete_run,
    make_parent,
    restore_run,
    write_again,
)
from searchlib.stores.sqlite_runs import FinishedRun
from searchlib.stores.storage import replicates_name
from searchlib.stores.stores import StoredStudy, Stores
from searchlib.stores.tracking import StoredRun, Tracker
from searchlib.stores.trial_runs import FIGURES, discard_runs, log_trials, run_of

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
    "Tracker",
    "amend_run",
    "code_version",
    "delete_run",
    "discard_runs",
    "end_parent",
    "environment",
    "log_file",
    "log_summary",
    "log_trials",
    "make_parent",
    "now",
    "open_parent",
    "recording",
    "remove_tags",
    "replicates_name",
    "restore_run",
    "run_of",
    "without_autologging",
    "write_again",
    "written_together",
]
