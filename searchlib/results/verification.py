"""Whether Optuna, MLflow, checkpoints, registry and test ledger agree; and mending what doesn't. ``audit`` looks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from searchlib.errors import Command, Message, TrackingError
from searchlib.results.audit import Audit, Difference, counted
from searchlib.stores import Stores, Tracker
from searchlib.text import mask

if TYPE_CHECKING:
    from searchlib.study import Study

__all__ = ["Difference", "Verification", "repair", "verify"]

ROUNDS = 4  # of looking and mending: what was behind a difference shows when that is mended


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What ``verify`` found, or what ``repair`` mended and left.

    notes: what is unfinished, which is in order. trials, replicates: those finished; runs: theirs in MLflow;
    checkpoints: those that are what was noted of them. seal: whether the test set is ``sealed``, ``claimed`` or
    ``evaluated``.
    """

    study: str
    differences: Sequence[Difference]
    mended: Sequence[Difference]
    notes: Sequence[str]
    trials: int
    replicates: int
    runs: int
    checkpoints: int
    seal: str

    def lines(self) -> Iterator[Message]:
        """What was found for a terminal, a difference a line."""
        yield from (Message("mended: ", difference.line(by="")) for difference in self.mended)
        yield from (difference.line() for difference in self.differences)
        yield from (Message("note: ", note) for note in self.notes)
        if not self.differences:
            kinds = {"trial": self.trials, "replicate": self.replicates, "run": self.runs}
            kinds["checkpoint"] = self.checkpoints
            things = ", ".join(counted(number, thing) for thing, number in kinds.items() if number)
            ends = {"evaluated": ", the champion and the ledger agree", "sealed": " agree; the test set is sealed"}
            yield Message((things or "0 trials") + ends[self.seal])

    def verdict(self) -> Message:
        """How many differences there are, and what to do, in one line."""
        found = f"{counted(len(self.differences), 'difference')} in study {self.study!r}"
        mendable = sum(difference.repairable for difference in self.differences)
        if not mendable:
            return Message(f"{found}, which --repair can't mend; do what is said of each")
        mended = f"{mendable} of them" if mendable < len(self.differences) else "it" if mendable == 1 else "them"
        return Message(f"{found}; ", Command("verify", self.study, ("--repair",)), f" mends {mended}")

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON."""
        return {"agree": not self.differences, **asdict(self)}


def verify(study: Study, stores: Stores) -> Verification:
    """Compare all that the stores hold of *study* and its replicates. Changes nothing.

    Raises StorageError for a study that has not begun, StudyError for one whose file has changed since, BusyError
    while another process is at work on it.
    """
    with _opened(study, stores) as tracker:
        return _result(Audit(study, stores.read(study), tracker))


def repair(study: Study, stores: Stores, *, anew: bool = False) -> Verification:
    """Mend what can be mended, and say what is left. Never deletes a trial, never opens test data.

    The registration of a champion needs an example of the training data. anew: make all
    runs where MLflow has none of the study; without it that is a TrackingError, as the store may be the wrong one.
    Raises what ``verify`` raises, and the error of a store that can't be written; what was mended before it stays so.
    """
    mended: list[Difference] = []
    with _opened(study, stores, anew) as tracker:
        audit = Audit(study, stores.read(study), tracker)
        if not anew and not audit.runs and audit.mendable():
            uri = mask(tracker.client.tracking_uri)
            raise TrackingError(
                f"MLflow store {uri!r} has no run of study {study.name!r}; give the one that has them with "
                "--tracking-uri, or name this one to have them made anew in it: ",
                Command("verify", study.name, ("--repair", "--tracking-uri", uri)),
            )
        for _ in range(ROUNDS):
            todo = audit.mendable()
            if not todo:
                break
            for difference, mend in todo:
                mend()
                mended.append(difference)
            audit = Audit(study, stores.read(study), tracker)
        return _result(audit, mended)


@contextlib.contextmanager
def _opened(study: Study, stores: Stores, anew: bool = False) -> Iterator[Tracker]:
    stores.begun(study)
    with (
        stores.storage_errors(),
        stores.lock(study.name, "verify"),
        Tracker(study, stores, create=anew) as tracker,
    ):
        yield tracker


def _result(audit: Audit, mended: Sequence[Difference] = ()) -> Verification:
    left = audit.differences()
    return Verification(
        study=audit.study.name,
        differences=left,
        mended=[difference for difference in dict.fromkeys(mended) if difference not in left],
        notes=audit.notes(),
        trials=sum(trial.state.is_finished() for trial in audit.trials),
        replicates=sum(trial.state.is_finished() for trial in audit.replicates),
        runs=len(audit.owned),
        checkpoints=len(audit.intact),
        seal="evaluated" if audit.ledger.get("result") else "claimed" if audit.ledger else "sealed",
    )
