"""The search: ask a round, train it in stacks, report, prune, record; then the replicates. Goes on where it stopped.

``optimize`` is a generator of ``Progress``; whoever runs it decides what to show. A round's trials are all created
before any of them is told, and everything that a trial does depends on (study, number) alone, so a run that was
interrupted goes on as if it had not been: its open trials are adopted, their stacks formed as before.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchlib.analysis import best_trial
from searchlib.data import Split, get_dataset, load_train, split
from searchlib.engines import (
    Deadline,
    Engine,
    OutOfTimeError,
    Progress,
    Run,
    StackRun,
    resolve_device,
)
from searchlib.errors import StorageError, StudyError
from searchlib.provenance import environment
from searchlib.recorder import Recorder
from searchlib.replicates import Race
from searchlib.sampling import ask_round, halve, halving_rungs, is_adaptive, make_pruner, prunes, round_length, warm_up
from searchlib.storage import OverlayStorage, StudyLock, mask, open_storage
from searchlib.study import Study
from searchlib.tracking import Tracker, TrialRecord

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

__all__ = ["optimize"]


def optimize(
    study: Study,
    *,
    storage: str,
    tracking_uri: str | None,
    data_root: Path,
    trials: int | None = None,
    timeout: float | None = None,
    device: str = "auto",
) -> Iterator[Progress]:
    """Search until the study has *trials* (default: the study's own number), then run its replicates.

    Stops cleanly when *timeout* seconds are over; runs nothing when nothing is left to do. What was recorded stays,
    however this ends. MLflow is opened while the first stack trains; nothing is recorded before. Raises
    SearchlibErrors: a changed study, a closed study, a device or data set that isn't there, a storage or tracking
    server that fails.
    """
    from searchlib.training.loop import denormals_flushed

    deadline = Deadline(timeout)
    target = study.trials if trials is None else trials
    if target < 1:
        raise StudyError(f"trials={target}: expected 1 or more")
    tracker = Tracker(study, tracking_uri)
    device = resolve_device(device)
    with denormals_flushed(), StudyLock(storage, study.name, "optimize"):
        optuna_study = _open_study(study, storage)
        race = Race(study, optuna_study)
        existing = len(optuna_study.get_trials(deepcopy=False))
        unfinished = [trial for trial in optuna_study.get_trials(deepcopy=False) if not trial.state.is_finished()]
        searched = existing >= target and not unfinished
        if searched and (race.finished or optuna_study.user_attrs.get("test_ledger")):
            return
        _refuse_if_closed(study, optuna_study, existing, target)
        examples = split(
            load_train(study.dataset, data_root), seed=study.split_seed, fraction=study.validation_fraction
        )
        _check_against_data(study, examples)
        optuna_study.set_user_attr("target", max(target, existing))
        engine = Engine(study, examples, device)
        warm_up(study)  # before another thread competes for the interpreter
        tags = {**environment(), "device": device, "optuna.storage": mask(storage)}
        with contextlib.ExitStack() as opened:

            def open_tracker() -> None:  # seconds, in which the first stack trains
                opened.enter_context(tracker)
                tracker.start(optuna_study, examples, tags={f"searchlib.{key}": value for key, value in tags.items()})
                tracker.discard_runs_of(study.name, [trial.number for trial in unfinished])

            with contextlib.suppress(OutOfTimeError):
                with Recorder(optuna_study, tracker, begin=open_tracker) as recorder:
                    search = _Search(study, optuna_study, engine, recorder, max(target, existing), deadline)
                    for progress in search.run():
                        recorder.check()
                        yield progress
                yield from race.run(engine, tracker, deadline)


def _open_study(study: Study, storage: str) -> optuna.Study:
    """Create or load the Optuna study; StudyError where the stored one was defined otherwise."""
    import optuna

    opened = open_storage(storage)
    try:
        made = optuna.create_study(
            study_name=study.name, storage=opened, direction=study.direction, load_if_exists=True
        )
        stored = made.user_attrs.get("definition")
        if stored is None and made.get_trials(deepcopy=False):
            raise StorageError(
                f"the storage holds a study {study.name!r} that searchlib did not make; rename the study file or give "
                "another --storage"
            )
        if stored is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                made.set_metric_names([study.metric])
            made.set_user_attr("definition", study.definition())
            made.set_user_attr("question", study.question)
        else:
            _refuse_if_changed(study, stored)
    except OSError as error:
        raise StorageError(
            f"storage {mask(storage)!r} can't be written ({error.strerror}); free some space or give another --storage"
        ) from None
    return made


def _refuse_if_changed(study: Study, stored: dict[str, Any]) -> None:
    current = study.definition()
    before, after = _flat(stored), _flat(current)
    changes = [
        f"{key}: {_short(before.get(key, 'nothing'))} became {_short(after.get(key, 'nothing'))}"
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    ]
    if changes:
        raise StudyError(
            f"study {study.name!r} has changed since its first trial ({'; '.join(changes)}); save it under a new name "
            "to start afresh, or restore the old file to go on"
        )


def _flat(definition: dict[str, Any]) -> dict[str, Any]:
    """One entry a field: ``fixed.epochs`` instead of a dict under ``fixed``."""
    flat: dict[str, Any] = {}
    for key, value in definition.items():
        flat |= {f"{key}.{name}": entry for name, entry in value.items()} if isinstance(value, dict) else {key: value}
    return flat


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 120 else text[:117] + "..."


def _refuse_if_closed(study: Study, optuna_study: optuna.Study, existing: int, target: int) -> None:
    ledger = optuna_study.user_attrs.get("test_ledger")
    if ledger:
        raise StudyError(
            f"study {study.name!r} is closed: its test set was opened at {ledger['claimed_at']} with {existing} "
            f"trials, so going on to {target} would select on a used test set; "
            "save the study under a new name to search more"
        )


def _check_against_data(study: Study, examples: Split) -> None:
    """What only the data can tell: batches that are too large, or too small for batch normalization."""
    count = len(examples.train)
    sizes = _possible(study, "batch_size")
    if max(sizes) > count:
        raise StudyError(
            f"batch_size={max(sizes)} is larger than the training split of {count:,} examples "
            f"({get_dataset(study.dataset).name}); take at most {count}"
        )
    lonely = [size for size in sizes if size == 1 or count % size == 1]
    if True in _possible(study, "batch_norm") and lonely:
        raise StudyError(
            f"batch_size={lonely[0]} leaves a last batch of one example of {count:,}, and batch_norm needs two; take "
            "another batch size"
        )


def _possible(study: Study, name: str) -> list[Any]:
    if name in study.dimensions:
        dimension = study.dimensions[name]
        values = dimension.values()
        return [dimension.decode(value) for value in values] if values is not None else list(dimension.extremes())
    return [getattr(study.config({}) if not study.dimensions else _any_config(study), name)]


def _any_config(study: Study) -> Any:
    params: dict[str, Any] = {}
    for name, dimension in study.dimensions.items():
        if dimension.active({**study.fixed, **params}):
            params[name] = dimension.at(0.5)
    return study.config(params)


class _Search:
    """The rounds of one study."""

    def __init__(
        self,
        study: Study,
        optuna_study: optuna.Study,
        engine: Engine,
        recorder: Recorder,
        target: int,
        deadline: Deadline,
    ) -> None:
        self.study, self.optuna_study, self.engine, self.recorder = study, optuna_study, engine, recorder
        self.target, self.deadline = target, deadline
        self.done = sum(trial.state.is_finished() for trial in optuna_study.get_trials(deepcopy=False))
        leader = best_trial(study, optuna_study.get_trials(deepcopy=False))
        self.best = (leader.values[0], leader.number) if leader and leader.values else None

    def run(self) -> Iterator[Progress]:
        length = round_length(self.study)
        trials = self.optuna_study.get_trials(deepcopy=False)
        first_open = next((trial.number for trial in trials if not trial.state.is_finished()), len(trials))
        for start in range(first_open - first_open % length, self.target, length):
            numbers = range(start, min(start + length, self.target))
            if is_adaptive(self.study) or self.study.pruner != "none":
                self.recorder.drain()  # what comes next depends on every result so far
            trials = self.optuna_study.get_trials(deepcopy=False)
            missing = range(max(start, len(trials)), numbers.stop)
            trials.extend(ask_round(self.study, self.optuna_study, missing))
            yield from self._round([trials[number] for number in numbers if number < len(trials)])

    def _round(self, trials: list[FrozenTrial]) -> Iterator[Progress]:
        view = OverlayStorage(
            self.optuna_study._storage, self.optuna_study._study_id, self.optuna_study.get_trials(deepcopy=False)
        )
        groups = list(self.engine.group(trials))
        # Stacks train one after another; those of a bracket of successive halving in step, rung by rung.
        brackets = [groups] if self.study.pruner == "within_cell" else [[group] for group in groups]
        for bracket in brackets:
            if any(not trial.state.is_finished() for group in bracket for trial in group):
                # All of it trains, also where some was told before: round-off and pruning depend on the make-up.
                yield from self._train(bracket, view)

    def _train(self, bracket: list[list[FrozenTrial]], view: OverlayStorage) -> Iterator[Progress]:
        for trial in (trial for group in bracket for trial in group):
            view.insert(_as_running(trial))
        stacks = [
            self.engine.start(
                group, order_seed=self.study.seed, keeps=lambda run, value: self._leads(value, run.number)
            )
            for group in bracket
        ]
        epochs = max(stack.epochs for stack in stacks)
        pruner = make_pruner(self.study, epochs)
        entered = [run for stack in stacks for run in stack.alive]
        for rung in (*halving_rungs(self.study, epochs), epochs):
            for stack in stacks:
                while stack.alive and stack.epoch < rung:
                    self.deadline.check()
                    for run in stack.advance():
                        self._prune(pruner, stack, run, view)
                    if stack.alive:
                        yield self._progress(stacks, stack)
            if rung < epochs:
                going = {run.number for stack in stacks for run in stack.alive}
                # one that diverged since the last rung is among those that leave; one that is through is out of it
                raced = [run for run in entered if run.number in going or run.outcome == "diverged"]
                losers = halve(
                    self.study,
                    [(run.number, run.trial.params, run.best if run.number in going else None) for run in raced],
                )
                for stack in stacks:
                    stack.drop(losers)
                entered = [run for stack in stacks for run in stack.alive]
            yield from self._record(stacks, view)
        for stack in stacks:
            stack.close()

    def _prune(self, pruner: optuna.pruners.BasePruner | None, stack: StackRun, run: Run, view: OverlayStorage) -> None:
        if pruner is None:
            return
        view.set_trial_intermediate_value(run.trial._trial_id, stack.epoch, run.curves[-1][self.study.metric])
        if stack.epoch < stack.epochs and prunes(pruner, self.study, self.optuna_study, view, run.trial._trial_id):
            stack.drop({run.number})

    def _record(self, stacks: Sequence[StackRun], view: OverlayStorage) -> Iterator[Progress]:
        """Record what has ended since the last call."""
        for stack in stacks:
            in_training = {run.number for run in stack.alive}
            ended = [run for run in stack.runs.values() if run.number not in in_training and not run.recorded]
            for run in ended:
                if run.trial.state.is_finished():  # told by an earlier run: pruners see it finished, as they did then
                    view.insert(run.trial)
            records = [self._record_of(run, view) for run in ended if not run.trial.state.is_finished()]
            for run in ended:
                run.recorded = True
            for record in records:
                view.insert(_as_finished(view.get_trial(record.trial_id), record))
                self.recorder.put(record)
            self.done += len(records)
            if records:
                yield self._progress(stacks, None, records)

    def _record_of(self, run: Run, view: OverlayStorage) -> TrialRecord:
        leads = run.outcome == "completed" and run.state is not None and self._leads(run.best, run.number)
        if leads and run.best is not None:
            self.best = (run.best, run.number)
        notes = {
            name: value
            for name, value in view.get_trial_system_attrs(run.trial._trial_id).items()
            if name not in run.trial.system_attrs
        }
        return self.engine.record(run, keep_state=leads, pruner_notes=notes)

    def _leads(self, value: float | None, number: int) -> bool:
        """Whether a trial would be the study's best; of equal ones the first is."""
        if self.best is None or value is None:
            return value is not None
        best_value, best_number = self.best
        return self.study.better(value, best_value) or (value == best_value and number < best_number)

    def _progress(
        self, stacks: Sequence[StackRun], stack: StackRun | None, finished: Sequence[TrialRecord] = ()
    ) -> Progress:
        under_way = sum(
            each.epoch / each.epochs
            for each in stacks
            for run in each.runs.values()
            if not run.recorded and not run.trial.state.is_finished()
        )
        return Progress(
            phase="search",
            done=self.done,
            target=self.target,
            fraction=(self.done + under_way) / self.target,
            stack=len(stack.alive) if stack else 0,
            epoch=stack.epoch if stack else 0,
            epochs=stack.epochs if stack else 0,
            finished=finished,
        )


def _as_running(trial: FrozenTrial) -> FrozenTrial:
    """A trial as it was before its first epoch: pruning must not see what a killed run had stored of it."""
    import copy

    from optuna.trial import TrialState

    fresh = copy.deepcopy(trial)
    fresh.state, fresh.intermediate_values, fresh.values = TrialState.RUNNING, {}, None
    fresh._system_attrs = {key: value for key, value in fresh.system_attrs.items() if "rung" not in key}
    return fresh


def _as_finished(trial: FrozenTrial, record: TrialRecord) -> FrozenTrial:
    from optuna.trial import TrialState

    states = {"pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
    trial.state = states.get(record.outcome, TrialState.COMPLETE)
    trial.values = None if record.outcome == "failed" else [record.value]
    return trial
