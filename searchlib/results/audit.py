"""One look at all that the stores hold of a study: what differs, and what mends each difference.

Optuna is taken at its word, since a finished trial can't be changed there: what MLflow has otherwise is mended from it,
as far as Optuna holds it. Nothing here deletes a trial, trains, or opens test data. Runs are deleted only as MLflow
deletes them: it can restore them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from searchlib.analysis import champion, outcome
from searchlib.errors import Command, Message, StudyError
from searchlib.results.champion import champion_checkpoint
from searchlib.results.holdout import published, republish
from searchlib.seeds import replicate_seed, trial_seed
from searchlib.stores import (
    FIGURES,
    REPAIRED,
    REPLACES,
    UID_TAG,
    StoredRun,
    StoredStudy,
    Tracker,
    amend_run,
    delete_run,
    make_parent,
    replicates_name,
    restore_run,
    run_of,
    write_again,
)
from searchlib.study import TrialRecord

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from searchlib.stores import FinishedRun
    from searchlib.study import Study, TrialConfig

__all__ = ["Audit", "Difference", "counted"]

KINDS = ("parent run", "trial", "run", "extra run", "parameters", "curve", "status", "checkpoint", "champion", "ledger")
ATTRIBUTES = ("mlflow_run_id", "outcome", "signature", "seed", "epochs_run")  # of every finished trial
STATES = {"completed": "COMPLETE", "diverged": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
CHUNK = 500  # runs whose curves are read at once

LOST = "written again from Optuna: losses by epoch other than the objective, figures by step, diagnostics, files"
RENAME = "save the study under a new name and run that"
FIXED = f"nothing mends it, as Optuna keeps a finished trial as it is; restore the storage from a backup, or {RENAME}"

Mend = Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing on which the stores don't agree.

    what: one of ``KINDS``. study: the Optuna study, of the search or of the replicates; trial: its number there, None
    for what is about the whole study. told: what is where. remedy: what repair does or, where that can do nothing,
    what the user can do.
    """

    what: str
    study: str
    trial: int | None
    told: str
    remedy: str
    repairable: bool

    def line(self, by: str = "--repair ") -> Message:
        """The difference for a terminal. by: who does what mends it."""
        home = f" of {self.study}" if self.study.endswith(".replicates") else ""
        where = "" if self.trial is None else f"trial {self.trial}{home}: "
        return Message(f"{self.what}: {where}{self.told}; {by if self.repairable else ''}", self.remedy)


@dataclass(frozen=True, kw_only=True)
class _Recorded:
    """A finished trial of the study *home*, the run that MLflow has of it, and the one that it should have."""

    home: str
    trial: FrozenTrial
    expected: FinishedRun
    run: StoredRun


class Audit:
    """What the stores hold at one moment, under the study's lock.

    owned: ids of the runs that are a trial's. intact: hashes of the checkpoints that are what was noted of them.
    """

    def __init__(self, study: Study, stored: StoredStudy, tracker: Tracker) -> None:
        assert stored.search is not None  # the study has begun
        self.study, self.stored, self.search, self.tracker = study, stored, stored.search, tracker
        self.found: list[tuple[Difference, Mend | None]] = []
        self.repeats = replicates_name(study)
        self.trials, self.replicates, self.race = stored.trials, stored.replicates, stored.race
        self.ledger: dict[str, Any] = stored.ledger or {}
        self.champions = self._champions()
        self.runs = _without_others(tracker.runs(), stored.attributes.get("uid"))
        self.owned: set[str] = set()
        self.intact: list[str] = []

        self.parent = self._check_parent()
        recorded = [*self._recorded(study.name, self.trials), *self._recorded(self.repeats, self.replicates)]
        self._check_extra_runs()
        for start in range(0, len(recorded), CHUNK):
            self._check_runs(recorded[start : start + CHUNK])
        self._check_checkpoints(recorded)
        self._check_ledger()

    def differences(self) -> list[Difference]:
        return sorted((difference for difference, _ in self.found), key=lambda each: KINDS.index(each.what))

    def mendable(self) -> list[tuple[Difference, Mend]]:
        """What can be mended now; a missing parent run alone, as everything else hangs on it."""
        todo = [(difference, mend) for difference, mend in self.found if mend is not None]
        return [each for each in todo if each[0].what == "parent run"] or todo

    def notes(self) -> list[Message]:
        """What is unfinished, which is no difference."""
        notes = []
        for home, trials in ((self.study.name, self.trials), (self.repeats, self.replicates)):
            numbers = [trial.number for trial in trials if not trial.state.is_finished()]
            if numbers:
                one = len(numbers) == 1
                ahead = Message(Command("optimize", self.study.name), f" resumes {'it' if one else 'them'}")
                if self.ledger:
                    ahead = Message(f"{'it stays' if one else 'they stay'} so, as the test set was opened")
                notes.append(
                    Message(f"{counted(len(numbers), 'trial')} of {home} unfinished ({_listed(numbers)}): ", ahead)
                )
        return notes

    def _differs(
        self, what: str, told: str, remedy: str, mend: Mend | None = None, *, home: str = "", trial: int | None = None
    ) -> None:
        difference = Difference(
            what=what,
            study=home or self.study.name,
            trial=trial,
            told=told,
            remedy=remedy,
            repairable=mend is not None,
        )
        self.found.append((difference, mend))

    # ------------------------------------------------------------------------------------------ the parent run

    def _check_parent(self) -> StoredRun | None:
        """The study's parent run, if it is there."""
        noted: str = self.search.user_attrs.get("mlflow_run_id") or ""
        self.tracker.parent = noted
        run = self.runs.get(noted)
        if run is None:
            if any(trial.state.is_finished() for trial in self.trials):
                told = f"MLflow has no run {noted}" if noted else "Optuna notes none"
                remedy = "finds it by its tags, or makes it again without its data inputs; check --tracking-uri first"
                self._differs("parent run", told, remedy, partial(make_parent, self.tracker, self.search))
            return None
        if run.deleted:
            told = f"run {noted} was deleted in MLflow"
            self._differs("parent run", told, "restores it", partial(restore_run, self.tracker, noted))
            return None
        if run.status == "RUNNING":
            done = len(self.trials) >= self.search.user_attrs.get("target", 0) and not self.notes()
            status = "FINISHED" if done else "KILLED"
            told = "the parent run is RUNNING in MLflow, and no process is at work on the study"
            self._differs(
                "status", told, f"sets it to {status}", partial(amend_run, self.tracker, noted, status=status)
            )
        for other in self._active("study"):
            if other.run_id != noted:
                self._delete(other, f"run {other.run_id} is a second parent run")
        return run

    def _active(self, *kinds: str) -> Iterator[StoredRun]:
        for run in self.runs.values():
            if not run.deleted and run.tags.get("searchlib.kind") in kinds:
                yield run

    def _delete(self, run: StoredRun, told: str, *, home: str = "", trial: int | None = None) -> None:
        mend = partial(delete_run, self.tracker, run.run_id)
        self._differs("extra run", told, "deletes it in MLflow, which can restore it", mend, home=home, trial=trial)

    # ------------------------------------------------------------------------------------------- Optuna's side

    def _recorded(self, home: str, trials: Sequence[FrozenTrial]) -> Iterator[_Recorded]:
        """The finished trials that have a run, after a check of what Optuna says of them."""
        numbers = {trial.number for trial in trials}
        if gaps := sorted({*range(max(numbers, default=-1) + 1)} - numbers):
            self._differs("trial", f"Optuna's study {home} lacks the numbers {_listed(gaps)}", FIXED)
        namesakes = self._by_number(home)
        repeated: dict[tuple[Any, Any], int] = {}
        for trial in trials:
            if not trial.state.is_finished():
                continue
            try:
                config = self.study.config(_searched(self.study, trial))
            except StudyError as error:
                told = f"its parameters aren't the study's ({error})"
                self._differs("trial", told, FIXED, home=home, trial=trial.number)
                self.owned.add(trial.user_attrs.get("mlflow_run_id") or "")
                continue
            wrong = list(self._wrong(trial, config))
            if home == self.repeats:
                wrong += self._wrong_repeat(trial, repeated)
            if wrong:
                self._differs("trial", "; ".join(wrong), FIXED, home=home, trial=trial.number)
            expected = self._expected(home, trial, config)
            run = self._run_of(home, trial, expected, namesakes.get(trial.number, ()))
            if run is not None:
                self.owned.add(run.run_id)
                yield _Recorded(home=home, trial=trial, expected=expected, run=run)

    def _wrong(self, trial: FrozenTrial, config: TrialConfig) -> Iterator[str]:
        """What a finished trial says of itself that can't be."""
        noted, curve = trial.user_attrs, trial.intermediate_values
        if missing := [name for name in ATTRIBUTES if noted.get(name) is None]:
            yield f"Optuna lacks its {', '.join(missing)}"
        replicate = trial.params.get("replicate")
        seed = trial_seed(self.study.seed, trial.number)
        if replicate is not None:
            seed = replicate_seed(self.study.seed, replicate)
        for name, value in (("seed", seed), ("signature", config.signature)):
            if noted.get(name, value) != value:
                yield f"its {name} is {noted[name]} in Optuna, and should be {value} (by this version of searchlib)"
        ended = outcome(trial)
        if STATES.get(ended) != trial.state.name:
            yield f"its state is {trial.state.name} in Optuna, its outcome {ended}"
        epochs = noted.get("epochs_run", len(curve))
        if ended in ("completed", "pruned") and len(curve) != epochs:
            yield f"Optuna has {self.study.metric} of {len(curve)} of its {counted(epochs, 'epoch')}"
        best = curve.get(noted.get("best_epoch", 0))
        if ended == "completed" and trial.values and best not in (None, trial.values[0]):
            yield f"its value is {trial.values[0]} in Optuna, in its best epoch {best}"

    def _wrong_repeat(self, trial: FrozenTrial, repeated: dict[tuple[Any, Any], int]) -> Iterator[str]:
        """What is wrong with a replicate as one of a trial of the search. *repeated* remembers those seen."""
        source, replicate = trial.user_attrs.get("source"), trial.params.get("replicate")
        params = next((each.params for each in self.trials if each.number == source), None)
        if params != _searched(self.study, trial):
            yield f"it repeats trial {source}, which has other parameters or isn't there"
        first = repeated.setdefault((source, replicate), trial.number)
        if first != trial.number:
            yield f"it is seed {replicate} of trial {source}, as trial {first} is"

    def _expected(self, home: str, trial: FrozenTrial, config: TrialConfig) -> FinishedRun:
        """The run that a trial should have, as far as Optuna knows it."""
        noted, curve, metric = trial.user_attrs, trial.intermediate_values, self.study.metric
        started, ended = (
            moment.timestamp() if moment else 0.0 for moment in (trial.datetime_start, trial.datetime_complete)
        )
        best_epoch = noted.get("best_epoch", 0)
        rates = {epoch: config.learning_rate_at(epoch) for epoch in curve}
        record = TrialRecord(
            number=trial.number,
            trial_id=trial._trial_id,
            params=trial.params,
            config=config,
            seed=noted.get("seed", 0),
            outcome=outcome(trial),
            error="",
            value=trial.values[0] if trial.values else math.nan,
            best=curve.get(best_epoch),
            best_epoch=best_epoch,
            curves=[
                {"epoch": epoch, metric: value, "learning_rate": rates[epoch], "time": ended}
                for epoch, value in sorted(curve.items())
            ],
            diagnostics=[],
            diagnosis=noted.get("diagnosis", []),
            diverged_step=noted.get("diverged_step"),
            started=started,
            ended=ended,
            pruner_notes={},
            state=None,
            factor=1.0,
            offset=0.0,
        )
        run = run_of(self.study, record, home, self.tracker.parent)
        tags = {**run.tags, "searchlib.signature": noted.get("signature", config.signature)}
        return replace(run, tags={name: value for name, value in tags.items() if value})

    # --------------------------------------------------------------------------------------- the trials' runs

    def _by_number(self, home: str) -> dict[int, list[StoredRun]]:
        """The active runs of the trials of *home*, by the number in their tags."""
        found: dict[int, list[StoredRun]] = {}
        for run in self._active("trial", "replicate"):
            number = run.tags.get("optuna.trial_number", "")
            if run.tags.get("optuna.study_name") == home and number.isdecimal():
                found.setdefault(int(number), []).append(run)
        return found

    def _run_of(
        self, home: str, trial: FrozenTrial, expected: FinishedRun, namesakes: Sequence[StoredRun]
    ) -> StoredRun | None:
        """The run that Optuna notes of a trial, or the one that took its place. *namesakes* have the trial's number."""
        noted: str = trial.user_attrs.get("mlflow_run_id") or ""
        run = self.runs.get(noted)
        if run is not None and not run.deleted:
            return run
        heir = next((other for other in namesakes if other.tags.get(REPLACES) == noted), None)
        if heir is not None:
            return heir
        told = f"MLflow has no run {noted}" if noted else "Optuna notes no run"
        remedy = "writes it again from Optuna, without what MLflow alone had (losses, diagnostics, files)"
        again = replace(expected, tags={**expected.tags, REPAIRED: LOST})
        mend: Mend = partial(write_again, self.tracker, again, noted)
        if run is not None:
            told, remedy = f"its run {noted} was deleted in MLflow", "restores it"
            mend = partial(restore_run, self.tracker, noted)
        elif namesakes:
            other = namesakes[0].run_id
            told, remedy = f"{told}, but run {other} of the same number", "takes that in its place"
            mend = partial(amend_run, self.tracker, other, tags={REPLACES: noted})
            self.owned.add(other)
        self._differs("run", told, remedy, mend, home=home, trial=trial.number)
        return None

    def _check_extra_runs(self) -> None:
        homes = {self.study.name: self.trials, self.repeats: self.replicates}
        finished = {(home, str(trial.number)): trial.state.is_finished() for home in homes for trial in homes[home]}
        for run in self._active("trial", "replicate"):
            home, number = run.tags.get("optuna.study_name", ""), run.tags.get("optuna.trial_number", "")
            if run.run_id in self.owned or finished.get((home, number)) is False:
                continue  # the run of an unfinished trial is discarded by optimize, which goes on with the trial
            if (home, number) in finished:
                self._delete(run, f"run {run.run_id} is a second run of it", home=home, trial=int(number))
            else:
                self._delete(run, f"run {run.run_id} is of trial {number} of {home}, which Optuna doesn't have")

    def _check_runs(self, recorded: Sequence[_Recorded]) -> None:
        names = (*FIGURES, *self._step_metrics)
        histories = self.tracker.histories([one.run.run_id for one in recorded], names)
        for one in recorded:
            history = histories[one.run.run_id]
            if self._check_values(one, history.get(self.study.metric, [])):
                self._check_curves(one, history)
                self._check_labels(one)

    @property
    def _step_metrics(self) -> list[str]:
        """The metrics by step that a run has where the study evaluates between epochs."""
        if self.study.eval_every is None:
            return []
        classifies = self.study.metric == "val_accuracy"
        return [f"step_{name}" for name in FIGURES if classifies or not name.endswith("_accuracy")]

    def _check_values(self, one: _Recorded, points: Sequence[tuple[int, float]]) -> bool:
        """Whether parameters and values are Optuna's. In MLflow they can't be changed: it takes another run."""
        run, curve = one.run, one.trial.intermediate_values
        params = [name for name, value in one.expected.params.items() if run.params.get(name, value) != value]
        epochs = sorted({epoch for epoch, value in points if curve.get(epoch, value) != value})
        if not params and not epochs:
            return True
        self._differs(
            "parameters" if params else "curve",
            f"run {run.run_id} has other values than Optuna of "
            + ", ".join([*params, *([f"{self.study.metric} (epochs {_listed(epochs)})"] if epochs else [])]),
            "puts a run with Optuna's in its place, and deletes this one in MLflow, which can restore it",
            partial(self._replace, one),
            home=one.home,
            trial=one.trial.number,
        )
        return False

    def _replace(self, one: _Recorded) -> None:
        """Store a run with Optuna's values, and with what else the old one has; then delete that."""
        old = one.run.run_id
        known = {name for name, *_ in one.expected.metrics}
        kept = [
            (name, value, one.expected.ended, step)
            for name, points in self.tracker.histories([old])[old].items()
            for step, value in dict(points).items()
            if name not in known and math.isfinite(value)
        ]
        own = {name: value for name, value in one.run.tags.items() if name not in ("mlflow.runName", REPLACES)}
        new = replace(one.expected, tags={**own, **one.expected.tags}, metrics=[*kept, *one.expected.metrics])
        write_again(self.tracker, new, one.trial.user_attrs.get("mlflow_run_id") or "")
        delete_run(self.tracker, old)

    def _check_curves(self, one: _Recorded, history: Mapping[str, Sequence[tuple[int, float]]]) -> None:
        """Whether the curves are whole."""
        run, expected, curve, metric = one.run, one.expected, one.trial.intermediate_values, self.study.metric
        differs = partial(self._differs, "curve", home=one.home, trial=one.trial.number)
        there = {epoch for epoch, _ in history.get(metric, [])}
        if lacking := sorted(set(curve) - there):
            told = f"{metric} of run {run.run_id} lacks {counted(len(lacking), 'epoch')} that Optuna has"
            points = [(metric, curve[epoch], expected.ended, epoch) for epoch in lacking]
            differs(told, "completes it", partial(amend_run, self.tracker, run.run_id, metrics=points))
        if more := sorted(there - set(curve)):
            differs(f"{metric} of run {run.run_id} has epochs that Optuna lacks ({_listed(more)})", FIXED)
        epochs = one.trial.user_attrs.get("epochs_run") or 0
        if outcome(one.trial) in ("completed", "pruned") and REPAIRED not in run.tags:
            others = [name for name in ("train_loss", "val_loss") if name != metric]
            others += ["train_accuracy"] if "train_accuracy" in history else []  # runs of older versions have none
            short = [name for name in others if len({epoch for epoch, _ in history.get(name, [])}) < epochs]
            if short:
                told = f"run {run.run_id} lacks some of the {counted(epochs, 'epoch')} of {' and '.join(short)}"
                differs(told, "nothing mends it, as Optuna holds the objective only; restore MLflow from a backup")
            evaluations = one.trial.user_attrs.get("evaluations", 0)
            if short := [name for name in self._step_metrics if len(dict(history.get(name, []))) < evaluations]:
                told = (
                    f"run {run.run_id} lacks some of the {counted(evaluations, 'evaluation')} of {' and '.join(short)}"
                )
                differs(told, "nothing mends it, as Optuna doesn't hold them; restore MLflow from a backup")
        summary = [point for point in expected.metrics if point[0] in (f"best_{metric}", "best_epoch")]
        if wrong := [point for point in summary if run.metrics.get(point[0]) != point[1]]:
            told = f"run {run.run_id} hasn't Optuna's {' and '.join(name for name, *_ in wrong)}"
            differs(told, "writes it", partial(amend_run, self.tracker, run.run_id, metrics=wrong))

    def _check_labels(self, one: _Recorded) -> None:
        """Whether status and tags are Optuna's, and no parameter is missing."""
        run, expected = one.run, one.expected
        differs = partial(self._differs, home=one.home, trial=one.trial.number)
        params = {name: value for name, value in expected.params.items() if name not in run.params}
        if params:
            mend = partial(amend_run, self.tracker, run.run_id, params=params)
            differs("parameters", f"run {run.run_id} lacks {', '.join(params)}", "adds it", mend)
        tags = {name: value for name, value in expected.tags.items() if run.tags.get(name) != value}
        wrong = [f"tag {name} {run.tags.get(name, 'missing')}, not {value}" for name, value in tags.items()]
        if run.status != expected.status:
            wrong.insert(0, f"status {run.status}, not {expected.status}")
        if wrong:
            ended = run.ended or expected.ended
            mend = partial(amend_run, self.tracker, run.run_id, status=expected.status, ended=ended, tags=tags)
            differs("status", f"run {run.run_id} has {', '.join(wrong)}", "sets what Optuna says", mend)

    # ----------------------------------------------------------------------- checkpoints, champion and ledger

    def _champions(self) -> list[FrozenTrial]:
        """The best by the study as its file has it, and as it was raced: ``replicate_cells`` may have changed since."""
        raced = len(self.race.get("candidates", ())) or None
        readings = (self.study, replace(self.study, replicate_cells=raced))
        found = [champion(reading, self.stored) for reading in readings]
        return [best for best in found if best is not None]

    def _check_checkpoints(self, recorded: Sequence[_Recorded]) -> None:
        leading = {best.user_attrs.get("checkpoint_sha256") for best in self.champions}
        leading.add(self.ledger.get("checkpoint_sha256"))
        for one in recorded:
            noted = one.trial.user_attrs.get("checkpoint_sha256")
            if not noted:
                continue
            first = one.trial.user_attrs.get("mlflow_run_id") or ""
            place = self.runs.get(first, one.run)  # a run that was replaced keeps its files
            stored = self.tracker.checkpoint_hash(place)
            if stored == noted:
                self.intact.append(noted)
                continue
            told = f"the checkpoint of run {place.run_id} is missing"
            if stored:
                told = f"the checkpoint of run {place.run_id} was altered (SHA-256 {stored[:12]}, not {noted[:12]})"
            remedy = "nothing mends it; it isn't the champion's: leave it, or restore the file from a backup"
            if noted in leading:
                remedy = f"nothing mends it, and it is the champion's: restore the file from a backup, or {RENAME}"
            self._differs("checkpoint", told, remedy, home=one.home, trial=one.trial.number)
        best = self.champions[0] if self.champions else None
        if best is not None and not self.ledger and not best.user_attrs.get("checkpoint_sha256"):
            home = self.repeats if "replicate" in best.params else self.study.name
            told = "it leads the study, and Optuna notes no checkpoint of it"
            self._differs("checkpoint", told, f"nothing mends it; {RENAME}", home=home, trial=best.number)

    def _check_ledger(self) -> None:
        registered = champion_checkpoint(self.tracker)
        if not self.ledger:
            self._check_sealed(registered)
            return
        claimed = self.ledger["checkpoint_sha256"]
        differs = partial(self._differs, trial=self.ledger["trial"])
        if claimed not in [best.user_attrs.get("checkpoint_sha256") for best in self.champions]:
            best = {f"trial {each.user_attrs.get('source', each.number)}" for each in self.champions}
            leads = " or ".join(sorted(best)) or "none"
            told = f"the test set was opened for it, and by what Optuna has now {leads} leads"
            differs("champion", told, f"nothing mends it, and the result is of that trial; {RENAME}")
        if not self.ledger.get("result"):
            told = f"the test set was claimed for it at {self.ledger['claimed_at']}, and there is no result"
            remedy = Message(Command("evaluate", self.study.name), " finishes it, with the same checkpoint")
            differs("ledger", told, remedy)
            return
        possible = registered == claimed or claimed in self.intact
        again = partial(republish, self.study, self.search, self.tracker) if possible else None
        needed = "restore the trial's checkpoint first: the champion is registered from it"
        wrong = []
        if registered != claimed:
            wrong.append(f"the registered champion {f'is made from {registered[:12]}' if registered else 'is missing'}")
        noted = self.search.user_attrs.get("champion_checkpoint")
        if noted != claimed:
            wrong.append(f"Optuna notes {noted[:12] if noted else 'none'} as the one registered")
        if wrong:
            told = f"the ledger's checkpoint is {claimed[:12]}, but {' and '.join(wrong)}"
            differs("champion", told, "registers it again" if possible else needed, again)
        if self.parent is not None:
            metrics, tags = published(self.ledger)
            shown = [name for name, value in metrics.items() if self.parent.metrics.get(name) != value]
            shown += [name for name, value in tags.items() if self.parent.tags.get(name) != value]
            if shown:
                told = f"MLflow's parent run hasn't the ledger's {', '.join(shown)}"
                differs("ledger", told, "writes what the ledger says" if possible else needed, again)

    def _check_sealed(self, registered: str | None) -> None:
        """Without a claim in the ledger nothing may know of a test."""
        if self.parent is not None:
            tags = [name for name in self.parent.tags if name.startswith("searchlib.test.")]
            if tags or any(name.startswith("test_") for name in self.parent.metrics):
                when = self.parent.tags.get("searchlib.test.claimed_at", "an unknown time")
                told = f"MLflow's parent run shows a test at {when}, of which Optuna's ledger knows nothing"
                self._differs("ledger", told, f"nothing mends it: restore Optuna's storage from a backup, or {RENAME}")
        if registered is not None:
            told = "MLflow has a registered champion, and Optuna's ledger knows of no test"
            remedy = Message(Command("evaluate", self.study.name), " registers the study's own")
            self._differs("champion", told, remedy)


def _without_others(runs: dict[str, StoredRun], uid: str | None) -> dict[str, StoredRun]:
    """Without the runs of other Optuna storages' studies of that name, whose parent runs have another uid."""
    others = {run_id for run_id, run in runs.items() if run.tags.get(UID_TAG, uid) != uid}
    return {
        run_id: run
        for run_id, run in runs.items()
        if run_id not in others and run.tags.get("mlflow.parentRunId") not in others
    }


def counted(number: int, thing: str) -> str:
    """``1 trial``, ``2 trials``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _listed(numbers: Iterable[int], most: int = 10) -> str:
    shown = [str(number) for number in numbers]
    return ", ".join(shown[:most]) + (", ..." if len(shown) > most else "")


def _searched(study: Study, trial: FrozenTrial) -> dict[str, Any]:
    """A trial's parameters without the one that a replicate has more."""
    return {name: value for name, value in trial.params.items() if name in study.dimensions}
