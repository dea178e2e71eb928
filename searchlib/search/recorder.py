"""Recording of finished trials on a thread of its own."""

from __future__ import annotations

import contextlib
import math
import queue
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState

from searchlib.analysis import UNLEARNT
from searchlib.errors import BusyError, StorageError
from searchlib.stores import log_trials, written_together
from searchlib.study import CORRECT
from searchlib.training import OutOfTimeError

if TYPE_CHECKING:
    from searchlib.stores import Tracker
    from searchlib.study import TrialRecord

__all__ = ["Recorder"]

MOST = 64  # trials in one write
MOST_WAITING = 128  # trials in the queue; then training waits, so that an interrupted search is saved soon
GRACE = 30.0  # seconds for an interrupted search to store what is finished
SWITCH_INTERVAL = 0.0002  # seconds that a training thread waits for Python's lock after an operation of torch


class Recorder:
    """Writes finished trials to MLflow and Optuna on a thread of its own, in the order given. A context manager.

    All trials in the queue are one write, MLflow first: a trial that is finished in Optuna has its run. After an error
    nothing more is written; the error is raised by the next ``check``, ``put`` or ``drain``, or at the end of the
    context. A context that ends by an exception waits for at most GRACE seconds; trials that aren't stored by then are
    trained again.

    begin: called on the thread before the first write, for what takes seconds to open.
    guard: called before each write; it raises where another process has taken over the study.
    """

    def __init__(
        self,
        optuna_study: optuna.Study,
        tracker: Tracker,
        begin: Callable[[], None] = lambda: None,
        guard: Callable[[], None] = lambda: None,
    ) -> None:
        self.optuna_study, self.tracker, self.begin, self.guard = optuna_study, tracker, begin, guard
        self.queue: queue.Queue[TrialRecord | Callable[[], None] | None] = queue.Queue(MOST_WAITING)
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._work, name="searchlib-recorder", daemon=True)
        self.over = threading.Event()
        self.switch_interval = sys.getswitchinterval()

    def __enter__(self) -> Recorder:
        sys.setswitchinterval(SWITCH_INTERVAL)
        self.thread.start()
        return self

    def check(self) -> None:
        """Raise the thread's error, if there was one."""
        if self.error is not None:
            raise self.error

    def put(self, one: TrialRecord | Callable[[], None]) -> None:
        """Queue a trial to be written, or a function to be called when everything before it is written."""
        while True:
            self.check()
            with contextlib.suppress(queue.Full):
                return self.queue.put(one, timeout=1.0)

    def drain(self) -> None:
        """Wait until everything put so far is written."""
        self.queue.join()
        self.check()

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None and issubclass(kind, BusyError):
            self.error = self.error or StorageError("another process has taken over the study: nothing more is written")
        orderly = kind is None or issubclass(kind, OutOfTimeError)
        patience = None if orderly else GRACE
        try:
            with contextlib.suppress(queue.Full):
                self.queue.put(None, timeout=patience)
                self.over.wait(patience)  # Thread.join, once interrupted, considers the thread ended
        except KeyboardInterrupt:  # while the last results are written: they have GRACE seconds, too
            with contextlib.suppress(queue.Full):
                self.queue.put(None, timeout=GRACE)
                self.over.wait(GRACE)
            raise
        finally:
            if not self.over.is_set():
                self.error = StorageError("the search ended before a server had stored its results")
            sys.setswitchinterval(self.switch_interval)
        if orderly:
            self.check()

    def _work(self) -> None:
        try:
            self._write_all()
        finally:
            self.over.set()

    def _write_all(self) -> None:
        try:
            self.begin()
        except BaseException as error:
            self.error = error
        going = True
        while going:
            taken = [self.queue.get()]
            with contextlib.suppress(queue.Empty):
                while len(taken) < MOST:
                    taken.append(self.queue.get_nowait())
            try:
                if self.error is None:
                    self._write([one for one in taken if one is not None and not callable(one)])
                    for call in taken:
                        if callable(call):
                            call()
            except BaseException as error:
                self.error = error
            finally:
                going = None not in taken
                for _ in taken:
                    self.queue.task_done()

    def _write(self, records: Sequence[TrialRecord]) -> None:
        if not records:
            return
        self.guard()
        stored = log_trials(self.tracker, records, self.optuna_study.study_name)
        self.guard()
        if self.error is not None:  # the context ended while this waited for a server
            raise self.error
        storage = self.optuna_study._storage
        with written_together(storage):
            for record, (run_id, checkpoint) in zip(records, stored, strict=True):
                self._describe(record, run_id, checkpoint)
        with written_together(storage):  # to tell a pruned trial, Optuna reads its reported values
            for record in records:
                self._tell(record)

    def _describe(self, record: TrialRecord, run_id: str, checkpoint: str | None) -> None:
        """Report the curve and set the attributes, except what a killed recorder has already stored."""
        storage, trial_id = self.optuna_study._storage, record.trial_id
        known = storage.get_trial(trial_id).intermediate_values
        for point in record.curves:
            value = point.get(self.tracker.study.metric, math.nan)
            if math.isfinite(value) and known.get(int(point["epoch"])) != value:
                storage.set_trial_intermediate_value(trial_id, int(point["epoch"]), value)
        evaluations = sum(all(map(math.isfinite, point.values())) for point in record.steps)
        attributes: dict[str, Any] = {
            "mlflow_run_id": run_id,
            "outcome": record.outcome,
            **({} if record.learnt or record.outcome != "completed" else {UNLEARNT: True}),
            "epochs_run": len(record.curves),
            "best_epoch": record.best_epoch,
            **({"evaluations": evaluations} if evaluations else {}),
            "diagnosis": record.diagnosis,
            **({"error": record.reason} if record.reason else {}),
            **({"diverged_step": record.diverged_step} if record.diverged_step is not None else {}),
            **({"checkpoint_sha256": checkpoint} if checkpoint else {}),
            **({"kept_bytes": record.kept_bytes} if checkpoint and record.kept_bytes else {}),
        }
        for name, attribute in attributes.items():
            storage.set_trial_user_attr(trial_id, name, attribute)
        # system attributes: the dashboard shows a column of each user attribute in its list of trials
        for name, note in {**record.pruner_notes, **({CORRECT: record.correct} if record.correct else {})}.items():
            storage.set_trial_system_attr(trial_id, name, note)

    def _tell(self, record: TrialRecord) -> None:
        if record.outcome in ("pruned", "failed"):
            state = TrialState.PRUNED if record.outcome == "pruned" else TrialState.FAIL
            self.optuna_study.tell(record.number, state=state)
        else:
            self.optuna_study.tell(record.number, record.value)
