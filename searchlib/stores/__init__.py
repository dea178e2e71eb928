"""Where studies are kept: Optuna's storage with its locks, MLflow, the data; each is opened once, by Stores."""

from searchlib.stores.companions import (
    FIXED,
    STUDY_UID,
    check_queue,
    enqueued_values,
    own_replicates,
    own_trials,
    withdraw,
)
from searchlib.stores.journal import written_together
from searchlib.stores.mlflow_store import without_autologging
from searchlib.stores.parent_run import (
    LEDGER_TAG,
    end_parent,
    log_file,
    log_summary,
    open_parent,
    recording,
    refuse_if_opened,
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
from searchlib.stores.tracking import UID_TAG, StoredRun, Tracker
from searchlib.stores.trial_runs import FIGURES, discard_runs, log_trials, run_of

__all__ = [
    "FIGURES",
    "FIXED",
    "LEDGER_TAG",
    "LOCK_FOLDER",
    "REPAIRED",
    "REPLACES",
    "STUDY_UID",
    "UID_TAG",
    "FinishedRun",
    "StoredRun",
    "StoredStudy",
    "Stores",
    "Tracker",
    "amend_run",
    "check_queue",
    "code_version",
    "delete_run",
    "discard_runs",
    "end_parent",
    "enqueued_values",
    "environment",
    "log_file",
    "log_summary",
    "log_trials",
    "make_parent",
    "now",
    "open_parent",
    "own_replicates",
    "own_trials",
    "recording",
    "refuse_if_opened",
    "remove_tags",
    "replicates_name",
    "restore_run",
    "run_of",
    "withdraw",
    "without_autologging",
    "write_again",
    "written_together",
]
