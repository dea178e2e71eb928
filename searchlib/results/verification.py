"""Whether Optuna, MLflow, checkpoints, registered champion and test ledger agree; and repairing what doesn't."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from searchlib.errors import Command, Message, TrackingError
from searchlib.results.audit import Audit, Difference, check_parent, check_place, counted
from searchlib.results.audit_champion import check_champion
from searchlib.results.audit_runs import check_runs
from searchlib.results.audit_trials import check_extra_runs, check_trials
from searchlib.stores import Stores, Tracker
from searchlib.study import Study
from searchlib.text import mask

ROUNDS = 4  # of checks and repairs: one repair may show what was hidden behind it


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What ``verify`` found, or what ``repair`` repaired (*mended*) and left.

    notes: what is unfinished, which is no difference. trials, replicates: those finished; runs: theirs in MLflow;
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
        yield from (Message("repaired: ", difference.line(by="")) for difference in self.mended)
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
        repairable = sum(difference.repairable for difference in self.differences)
        if not repairable:
            return Message(f"{found}, which --repair can't repair; follow the advice on each")
        them = f"{repairable} of them" if repairable < len(self.differences) else "it" if repairable == 1 else "them"
        return Message(f"{found}; run ", Command("verify", self.study, ("--repair",)), f" to repair {them}")

    def to_json(self) -> dict[str, Any]:
        """The object that ``verify --json`` prints."""
        named = {name: [one.to_json() for one in getattr(self, name)] for name in ("differences", "mended")}
        return {"agree": not self.differences, **asdict(self), **named}


def verify(study: Study, stores: Stores) -> Verification:
    """Compare all that the stores hold of *study* and its replicates. Changes nothing.

    Raises StorageError for a study that has not begun, StudyError for one whose file has changed since, BusyError
    while another process is at work on it.
    """
    with _opened(study, stores, shared=True) as tracker:
        return _result(_audit(study, stores, tracker))


def repair(study: Study, stores: Stores, *, anew: bool = False) -> Verification:
    """Repair what can be repaired, and say what is left. Never deletes a trial, never opens test data.

    The registration of a champion needs an example of the training data. anew: write all runs again where MLflow has
    none of the study; without it that is a TrackingError, as the store may be the wrong one. Raises what ``verify``
    raises, and the error of a store that can't be written; what was repaired before it stays so.
    """
    repaired: list[Difference] = []
    with _opened(study, stores, anew=anew) as tracker:
        audit = _audit(study, stores, tracker)
        if not anew and not audit.runs and audit.repairs():
            uri = mask(stores.tracking_uri or stores.tracking_address)
            raise TrackingError(
                f"MLflow store {uri!r} has no run of study {study.name!r}; give the one that has them with "
                "--tracking-uri, or name this one to have them written again there: ",
                Command("verify", study.name, ("--repair", "--tracking-uri", uri)),
            )
        for _ in range(ROUNDS):
            todo = audit.repairs()
            if not todo:
                break
            for difference, mending in todo:
                mending()
                repaired.append(difference)
            audit = _audit(study, stores, tracker)
        return _result(audit, repaired)


@contextlib.contextmanager
def _opened(study: Study, stores: Stores, *, anew: bool = False, shared: bool = False) -> Iterator[Tracker]:
    stores.begun(study)
    with (
        stores.storage_errors(),
        stores.lock(study.name, "verify", shared=shared),
        Tracker(study, stores, create=anew) as tracker,
    ):
        yield tracker


def _audit(study: Study, stores: Stores, tracker: Tracker) -> Audit:
    audit = Audit(study, stores.read(study), tracker)
    check_place(audit)
    check_parent(audit)
    recorded = [each for home in audit.homes for each in check_trials(audit, home)]
    check_extra_runs(audit)
    check_runs(audit, recorded)
    check_champion(audit, recorded)
    return audit


def _result(audit: Audit, repaired: Sequence[Difference] = ()) -> Verification:
    left, ledger = audit.differences(), audit.stored.ledger
    return Verification(
        study=audit.study.name,
        differences=left,
        mended=[difference for difference in dict.fromkeys(repaired) if difference not in left],
        notes=audit.notes(),
        trials=sum(trial.state.is_finished() for trial in audit.stored.trials),
        replicates=sum(trial.state.is_finished() for trial in audit.stored.replicates),
        runs=len(audit.owned),
        checkpoints=len(audit.intact),
        seal="sealed" if ledger is None else "evaluated" if ledger.result else "claimed",
    )
