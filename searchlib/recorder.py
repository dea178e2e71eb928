"""Recording finished trials off the training thread."""

from __future__ import annotations

import math
import queue
import threading
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState

from searchlib.errors import StorageError
from searchlib.storage import mask

if TYPE_CHECKING:
    from searchlib.tracking import Tracker, TrialRecord

__all__ = ["Recorder"]


class Recorder:
    """Writes finished trials to MLflow and Optuna on a thread of its own, in the order given.

    MLflow first: a trial that Optuna calls finished has its run. An error stops the thread and is raised to
    whoever puts or drains next.
    """

    def __init__(self, optuna_study: optuna.Study, tracker: Tracker) -> None:
        self.optuna_study, self.tracker = optuna_study, tracker
        self.queue: queue.Queue[TrialRecord | None] = queue.Queue()
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._work, name="searchlib-recorder", daemon=True)

    def __enter__(self) -> Recorder:
        self.thread.start()
        return self

    def put(self, record: TrialRecord) -> None:
        self._raise()
        self.queue.put(record)

    def drain(self) -> None:
        """Wait until everything put so far is written."""
        self.queue.join()
        self._raise()

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.queue.put(None)
        self.thread.join()
        if kind is None:
            self._raise()

    def _raise(self) -> None:
        if self.error is not None:
            raise self.error

    def _work(self) -> None:
        while (record := self.queue.get()) is not None:
            try:
                if self.error is None:
                    self._write(record)
            except BaseException as error:
                self.error = error
            finally:
                self.queue.task_done()

    def _write(self, record: TrialRecord) -> None:
        run_id, checkpoint = self.tracker.log_trial(record, self.optuna_study.study_name)
        try:
            trial = optuna.trial.Trial(self.optuna_study, record.trial_id)
            known = self.optuna_study._storage.get_trial(record.trial_id).intermediate_values  # of a killed recorder
            for point in record.curves:
                value = point.get(self.tracker.study.metric, math.nan)
                if math.isfinite(value) and int(point["epoch"]) not in known:
                    trial.report(value, int(point["epoch"]))
            attributes: dict[str, Any] = {
                "mlflow_run_id": run_id,
                "outcome": record.outcome,
                "epochs_run": len(record.curves),
                "best_epoch": record.best_epoch,
                "diagnosis": record.diagnosis,
                **({"diverged_step": record.diverged_step} if record.diverged_step is not None else {}),
                **({"checkpoint_sha256": checkpoint} if checkpoint else {}),
            }
            for name, attribute in attributes.items():
                trial.set_user_attr(name, attribute)
            for name, note in record.pruner_notes.items():
                self.optuna_study._storage.set_trial_system_attr(record.trial_id, name, note)
            if record.outcome in ("pruned", "failed"):
                state = TrialState.PRUNED if record.outcome == "pruned" else TrialState.FAIL
                self.optuna_study.tell(trial, state=state)
            else:
                self.optuna_study.tell(trial, record.value)
        except Exception as error:  # a journal raises OSError, each database its driver's own kinds
            reason = " ".join(str(error).split("\n")[0].split()) or type(error).__name__
            raise StorageError(
                f"trial {record.number} can't be stored ({mask(reason)}); mend the storage or free some space, "
                "then run the same command again: everything before it is saved"
            ) from error
