"""Checks of what Optuna says of the trials, and of which run in MLflow is a trial's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from searchlib.analysis import correct_examples, outcome
from searchlib.errors import StudyError
from searchlib.results.audit import FIXED, Audit, Repair, counted, listed
from searchlib.seeds import replicate_seed, trial_seed
from searchlib.stores import (
    REPAIRED,
    REPLACES,
    FinishedRun,
    StoredRun,
    amend_run,
    enqueued_values,
    restore_run,
    run_of,
    withdraw,
    write_again,
)
from searchlib.study import CORRECT, Study, TrialConfig, TrialRecord

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

ATTRIBUTES = ("mlflow_run_id", "outcome", "signature", "seed", "epochs_run")  # of every finished trial
STATES = {"completed": "COMPLETE", "diverged": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
LOST = "written again from Optuna: losses by epoch other than the objective, figures by step, diagnostics, files"


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A finished trial of the Optuna study *home*, the run that MLflow has of it, and the one that it should have."""

    home: str
    trial: FrozenTrial
    expected: FinishedRun
    run: StoredRun


def check_trials(audit: Audit, home: str) -> Iterator[Recorded]:
    """Whether each finished trial of the Optuna study *home* is one of the study and has a run; those that have one."""
    trials = audit.homes[home]
    numbers = {*(trial.number for trial in trials), *audit.foreign[home]}
    if gaps := sorted({*range(max(numbers, default=-1) + 1)} - numbers):
        audit.differs("trial", f"Optuna's study {home} lacks the numbers {listed(gaps)}", FIXED)
    namesakes = _by_number(audit, home)
    repeated: dict[tuple[Any, Any], int] = {}
    for trial in trials:
        if trial.state.name == "WAITING":
            _check_enqueued(audit, trial)
        if not trial.state.is_finished():
            continue
        try:
            config = audit.study.config(_searched(audit.study, trial))
        except StudyError as error:
            problem = f"its parameters aren't the study's ({error})"
            audit.differs("trial", problem, FIXED, home=home, trial=trial.number)
            audit.owned.add(trial.user_attrs.get("mlflow_run_id") or "")
            continue
        wrong = list(_wrong(audit.study, trial, config))
        if home == audit.repeats:
            wrong += _wrong_replicate(audit, trial, repeated)
        if wrong:
            audit.differs("trial", "; ".join(wrong), FIXED, home=home, trial=trial.number)
        expected = _expected(audit, home, trial, config)
        run = _run_of(audit, home, trial, expected, namesakes.get(trial.number, ()))
        if run is not None:
            audit.owned.add(run.run_id)
            yield Recorded(home=home, trial=trial, expected=expected, run=run)


def _check_enqueued(audit: Audit, trial: FrozenTrial) -> None:
    """Whether the study can train what waits in Optuna's queue."""
    try:
        enqueued_values(audit.study, trial)
    except StudyError as error:
        repair = partial(withdraw, audit.search, trial)
        audit.differs("trial", f"it was enqueued with {error}", "withdraws it", repair, trial=trial.number)


def _searched(study: Study, trial: FrozenTrial) -> dict[str, Any]:
    """The parameters of a trial; of a replicate without its number."""
    return {name: value for name, value in trial.params.items() if name in study.dimensions}


def _wrong(study: Study, trial: FrozenTrial, config: TrialConfig) -> Iterator[str]:
    """What a finished trial says of itself that can't be."""
    noted, curve = trial.user_attrs, trial.intermediate_values
    if missing := [name for name in ATTRIBUTES if noted.get(name) is None]:
        yield f"Optuna lacks its {', '.join(missing)}"
    replicate = trial.params.get("replicate")
    seed = trial_seed(study.seed, trial.number)
    if replicate is not None:
        seed = replicate_seed(study.seed, replicate)
    for name, value in (("seed", seed), ("signature", config.signature)):
        if noted.get(name, value) != value:
            yield f"its {name} is {noted[name]} in Optuna, and should be {value} (by this version of searchlib)"
    ended = outcome(trial)
    if STATES.get(ended) != trial.state.name:
        yield f"its state is {trial.state.name} in Optuna, its outcome {ended}"
    epochs = noted.get("epochs_run", len(curve))
    if ended in ("completed", "pruned") and len(curve) != epochs:
        yield f"Optuna has {study.metric} of {len(curve)} of its {counted(epochs, 'epoch')}"
    best = curve.get(noted.get("best_epoch", 0))
    if ended == "completed" and trial.values and best not in (None, trial.values[0]):
        yield f"its value is {trial.values[0]} in Optuna, in its best epoch {best}"
    if CORRECT in trial.system_attrs and trial.values:
        correct = correct_examples(trial)
        if correct is None:
            yield "which validation examples it classifies correctly can't be read in Optuna"
        elif correct.mean() != trial.values[0]:
            yield f"its value is {trial.values[0]} in Optuna, with {correct.sum()} of {len(correct)} examples correct"


def _wrong_replicate(audit: Audit, trial: FrozenTrial, repeated: dict[tuple[Any, Any], int]) -> Iterator[str]:
    """What is wrong with a replicate as one of a trial of the search. *repeated* remembers those seen."""
    source, replicate = trial.user_attrs.get("source"), trial.params.get("replicate")
    params = next((each.params for each in audit.stored.trials if each.number == source), None)
    if params != _searched(audit.study, trial):
        yield f"it repeats trial {source}, which has other parameters or isn't there"
    first = repeated.setdefault((source, replicate), trial.number)
    if first != trial.number:
        yield f"it is seed {replicate} of trial {source}, as trial {first} is"


def _expected(audit: Audit, home: str, trial: FrozenTrial, config: TrialConfig) -> FinishedRun:
    """The run that a trial should have, as far as Optuna knows it."""
    noted, curve, metric = trial.user_attrs, trial.intermediate_values, audit.study.metric
    started, ended = (
        moment.timestamp() if moment else 0.0 for moment in (trial.datetime_start, trial.datetime_complete)
    )
    best_epoch = noted.get("best_epoch", 0)
    record = TrialRecord(
        number=trial.number,
        trial_id=trial._trial_id,
        params=trial.params,
        config=config,
        seed=noted.get("seed", 0),
        outcome=outcome(trial),
        value=trial.values[0] if trial.values else math.nan,
        best=curve.get(best_epoch),
        best_epoch=best_epoch,
        curves=[
            {"epoch": epoch, metric: value, "learning_rate": config.learning_rate_at(epoch), "time": ended}
            for epoch, value in sorted(curve.items())
        ],
        diagnosis=noted.get("diagnosis", []),
        diverged_step=noted.get("diverged_step"),
        started=started,
        ended=ended,
    )
    run = run_of(audit.study, record, home, audit.tracker.parent)
    tags = {**run.tags, "searchlib.signature": noted.get("signature", config.signature)}
    return replace(run, tags={name: value for name, value in tags.items() if value})


def _by_number(audit: Audit, home: str) -> Mapping[int, Sequence[StoredRun]]:
    """The active runs of the trials of *home*, by the number in their tags."""
    found: dict[int, list[StoredRun]] = {}
    for run in audit.active("trial", "replicate"):
        number = run.tags.get("optuna.trial_number", "")
        if run.tags.get("optuna.study_name") == home and number.isdecimal():
            found.setdefault(int(number), []).append(run)
    return found


def _run_of(
    audit: Audit, home: str, trial: FrozenTrial, expected: FinishedRun, namesakes: Sequence[StoredRun]
) -> StoredRun | None:
    """The run that Optuna notes of a trial, or the one that took its place. *namesakes* have the trial's number."""
    noted: str = trial.user_attrs.get("mlflow_run_id") or ""
    run = audit.runs.get(noted)
    if run is not None and not run.deleted:
        return run
    heir = next((other for other in namesakes if other.tags.get(REPLACES) == noted), None)
    if heir is not None:
        return heir
    repair: Repair
    if run is not None:
        problem, remedy = f"its run {noted} was deleted in MLflow", "restores it"
        repair = partial(restore_run, audit.tracker, noted)
    else:
        problem = f"MLflow has no run {noted}" if noted else "Optuna notes no run"
        if namesakes:
            other = namesakes[0].run_id
            problem, remedy = f"{problem}, but run {other} of the same number", "takes that in its place"
            repair = partial(amend_run, audit.tracker, other, tags={REPLACES: noted})
            audit.owned.add(other)
        else:
            remedy = "writes it again from Optuna, without what MLflow alone had (losses, diagnostics, files)"
            again = replace(expected, tags={**expected.tags, REPAIRED: LOST})
            repair = partial(write_again, audit.tracker, again, noted)
    audit.differs("run", problem, remedy, repair, home=home, trial=trial.number)
    return None


def check_extra_runs(audit: Audit) -> None:
    """Whether each run is the one of a trial, once ``check_trials`` knows which have an owner."""
    finished = {
        (home, str(trial.number)): trial.state.is_finished() for home, trials in audit.homes.items() for trial in trials
    }
    for run in audit.active("trial", "replicate"):
        home, number = run.tags.get("optuna.study_name", ""), run.tags.get("optuna.trial_number", "")
        if run.run_id in audit.owned or finished.get((home, number)) is False:
            continue  # the run of an unfinished trial is discarded by optimize, which resumes the trial
        if (home, number) in finished:
            audit.extra(run, f"run {run.run_id} is a second run of it", home=home, trial=int(number))
        else:
            audit.extra(run, f"run {run.run_id} is of trial {number} of {home}, which Optuna doesn't have")
