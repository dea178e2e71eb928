"""All that the stores hold of a study at one moment, and where they differ; ``verification`` runs the checks.

Optuna is taken at its word, since a finished trial can't be changed there: what MLflow has otherwise is repaired from
it, as far as Optuna holds it. Nothing here deletes a trial, trains, or opens test data. Runs are deleted only as MLflow
deletes them: it can restore them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from searchlib.errors import Command, Message
from searchlib.stores import (
    UID_TAG,
    StoredRun,
    StoredStudy,
    Tracker,
    amend_run,
    delete_run,
    make_parent,
    replicates_name,
    restore_run,
)
from searchlib.study import Study

KINDS = (
    "place",
    "parent run",
    "trial",
    "run",
    "extra run",
    "parameters",
    "curve",
    "status",
    "checkpoint",
    "champion",
    "ledger",
)
RENAME = "save the study under a new name and run that"
FIXED = f"this can't be repaired, as Optuna changes no finished trial; restore the storage from a backup, or {RENAME}"

Repair = Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing on which the stores don't agree.

    what: one of ``KINDS``. study: the Optuna study, of the search or of the replicates; trial: its number there, None
    for what is about the whole study. problem: what each store holds. remedy: what --repair does or, where that can do
    nothing, what the user can do.
    """

    what: str
    study: str
    trial: int | None
    problem: str
    remedy: str
    repairable: bool

    def to_json(self) -> dict[str, Any]:
        """An entry of what ``verify --json`` prints."""
        return {"told" if name == "problem" else name: value for name, value in asdict(self).items()}

    def line(self, by: str = "--repair ") -> Message:
        """The difference for a terminal. by: who repairs it."""
        home = f" of {self.study}" if self.study.endswith(".replicates") else ""
        where = "" if self.trial is None else f"trial {self.trial}{home}: "
        return Message(f"{self.what}: {where}{self.problem}; {by if self.repairable else ''}", self.remedy)


class Audit:
    """What the stores hold at one moment, under the study's lock, and the differences found so far.

    repeats: the name of the replicates' Optuna study. foreign: the numbers of other programs' trials in each. runs:
    MLflow's of this study, by id. parent: the parent run, if it is there. owned: ids of the runs that are a trial's.
    intact: hashes of the checkpoints that are what was noted of them.
    """

    def __init__(self, study: Study, stored: StoredStudy, tracker: Tracker) -> None:
        assert stored.search is not None  # the study has begun
        self.study, self.stored, self.search, self.tracker = study, stored, stored.search, tracker
        self.repeats = replicates_name(study)
        self.homes = {study.name: stored.trials, self.repeats: stored.replicates}
        self.foreign = {study.name: stored.foreign, self.repeats: stored.foreign_replicates}
        self.runs = _without_others(tracker.runs(), stored.attributes.get("uid"))
        self.parent = self.runs.get(stored.run_id)
        self.owned: set[str] = set()
        self.intact: list[str] = []
        self._found: list[tuple[Difference, Repair | None]] = []

    def differs(
        self,
        what: str,
        problem: str,
        remedy: str,
        repair: Repair | None = None,
        *,
        home: str = "",
        trial: int | None = None,
    ) -> None:
        """Note a difference, with the values of a ``Difference``. home: the Optuna study; by default the search's."""
        difference = Difference(
            what=what,
            study=home or self.study.name,
            trial=trial,
            problem=problem,
            remedy=remedy,
            repairable=repair is not None,
        )
        self._found.append((difference, repair))

    def differences(self) -> list[Difference]:
        """What differs, in the order of ``KINDS``."""
        return sorted((difference for difference, _ in self._found), key=lambda each: KINDS.index(each.what))

    def repairs(self) -> list[tuple[Difference, Repair]]:
        """What can be repaired now; a missing parent run alone, as everything else depends on it."""
        todo = [(difference, repair) for difference, repair in self._found if repair is not None]
        return [each for each in todo if each[0].what == "parent run"] or todo

    def notes(self) -> list[Message]:
        """What is unfinished or ignored, which is no difference."""
        notes = []
        for home, foreign in self.foreign.items():
            if foreign:
                count = counted(len(foreign), "trial")
                notes.append(Message(f"{count} of {home} ignored, as another program made them ({listed(foreign)})"))
        for home, trials in self.homes.items():
            numbers = [trial.number for trial in trials if not trial.state.is_finished()]
            if numbers:
                one = len(numbers) == 1
                ahead = Message(Command("optimize", self.study.name), f" resumes {'it' if one else 'them'}")
                if self.stored.ledger:
                    ahead = Message(f"{'it stays' if one else 'they stay'} so, as the test set was opened")
                notes.append(
                    Message(f"{counted(len(numbers), 'trial')} of {home} unfinished ({listed(numbers)}): ", ahead)
                )
        return notes

    def active(self, *kinds: str) -> Iterator[StoredRun]:
        """The runs of these kinds that weren't deleted."""
        for run in self.runs.values():
            if not run.deleted and run.tags.get("searchlib.kind") in kinds:
                yield run

    def extra(self, run: StoredRun, problem: str, *, home: str = "", trial: int | None = None) -> None:
        """Note a run that there should not be."""
        repair = partial(delete_run, self.tracker, run.run_id)
        self.differs("extra run", problem, "deletes it in MLflow, which can restore it", repair, home=home, trial=trial)


def _without_others(runs: dict[str, StoredRun], uid: str | None) -> dict[str, StoredRun]:
    """Without the runs of other Optuna storages' studies of that name, whose parent runs have another uid."""
    others = {run_id for run_id, run in runs.items() if run.tags.get(UID_TAG, uid) != uid}
    return {
        run_id: run
        for run_id, run in runs.items()
        if run_id not in others and run.tags.get("mlflow.parentRunId") not in others
    }


def check_place(audit: Audit) -> None:
    """Whether MLflow's addresses of the runs' files are those of the place where these lie."""
    files = audit.tracker.artifacts
    if files.before is not None:
        problem = f"MLflow notes the files of its runs in {str(files.before)!r}, and they lie in {str(files.home)!r}"
        audit.differs("place", problem, "writes the addresses of the files there", audit.tracker.readdress)


def check_parent(audit: Audit) -> None:
    """Whether the study has one parent run, which isn't running."""
    run, tracker, stored = audit.parent, audit.tracker, audit.stored
    noted = tracker.parent = stored.run_id
    if run is None:
        if any(trial.state.is_finished() for trial in stored.trials):
            problem = f"MLflow has no run {noted}" if noted else "Optuna notes none"
            remedy = "finds it by its tags, or makes it again without its data inputs; check --tracking-uri first"
            audit.differs("parent run", problem, remedy, partial(make_parent, tracker, audit.search))
        return
    if run.deleted:
        problem = f"run {noted} was deleted in MLflow"
        audit.differs("parent run", problem, "restores it", partial(restore_run, tracker, noted))
        audit.parent = None
        return
    if run.status == "RUNNING":
        done = len(stored.trials) >= (stored.target or 0) and not audit.notes()
        status = "FINISHED" if done else "KILLED"
        problem = "the parent run is RUNNING in MLflow, and no process is at work on the study"
        audit.differs("status", problem, f"sets it to {status}", partial(amend_run, tracker, noted, status=status))
    for other in audit.active("study"):
        if other.run_id != noted:
            audit.extra(other, f"run {other.run_id} is a second parent run")


def counted(number: int, thing: str) -> str:
    """``1 trial``, ``2 trials``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def listed(numbers: Iterable[int], most: int = 10) -> str:
    """``1, 2, 3``; no more than *most* of them."""
    shown = [str(number) for number in numbers]
    return ", ".join(shown[:most]) + (", ..." if len(shown) > most else "")
