"""The rounds of a search: trials asked together, trained in stacks, pruned, recorded."""

from __future__ import annotations

import functools
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from searchlib.analysis import best_trial
from searchlib.search.design import is_adaptive, round_length
from searchlib.search.overlay import OverlayStorage
from searchlib.search.pruning import halve, halving_rungs, make_pruner, prunes
from searchlib.search.recorder import Recorder
from searchlib.search.samplers import ask_round
from searchlib.study import Progress, Study, TrialRecord
from searchlib.training import Deadline, Engine, Run, Shelf, StackRun, Workers

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial


class _Search:
    """The rounds of one study."""

    def __init__(
        self,
        study: Study,
        optuna_study: optuna.Study,
        engine: Engine,
        workers: Workers,
        recorder: Recorder,
        shelf: Shelf,
        target: int,
        deadline: Deadline,
    ) -> None:
        self.study, self.optuna_study, self.engine, self.recorder = study, optuna_study, engine, recorder
        self.workers, self.shelf, self.target, self.deadline = workers, shelf, target, deadline
        self.done = sum(trial.state.is_finished() for trial in optuna_study.get_trials(deepcopy=False))
        leader = best_trial(study, optuna_study.get_trials(deepcopy=False))
        self.best = (leader.values[0], leader.number) if leader and leader.values else None

    def run(self) -> Generator[Progress, None, None]:
        if is_adaptive(self.study) or self.study.pruner != "none":  # what comes next depends on every result so far
            for trials in self._rounds():
                stacks = self._stacks(trials)
                yield from self._train_apart(stacks) if self.study.pruner == "none" else self._train_in_step(stacks)
                self.recorder.drain()
        else:
            yield from self._train_apart(stack for trials in self._rounds() for stack in self._stacks(trials))

    def _rounds(self) -> Iterator[list[FrozenTrial]]:
        """The trials of each round that isn't finished, created where they aren't there."""
        length = round_length(self.study)
        trials = self.optuna_study.get_trials(deepcopy=False)
        first_open = next((trial.number for trial in trials if not trial.state.is_finished()), len(trials))
        for start in range(first_open - first_open % length, self.target, length):
            numbers = range(start, min(start + length, self.target))
            trials = self.optuna_study.get_trials(deepcopy=False)
            missing = range(max(start, len(trials)), numbers.stop)
            trials.extend(ask_round(self.study, self.optuna_study, missing))
            yield [trials[number] for number in numbers if number < len(trials)]

    def _stacks(self, trials: list[FrozenTrial]) -> Iterator[StackRun]:
        """The stacks of a round that aren't finished.

        A stack trains whole, also where some of it was told before: round-off depends on its make-up. So does a
        round with a pruner, whose decisions depend on all of it.
        """
        whole = self.study.pruner != "none" and any(not trial.state.is_finished() for trial in trials)
        for group in self.engine.group(trials):
            if whole or any(not trial.state.is_finished() for trial in group):
                yield self.engine.start(
                    group, order_seed=self.study.seed, keeps=lambda run, value: self._leads(value, run.number)
                )

    def _train_apart(self, stacks: Iterator[StackRun]) -> Iterator[Progress]:
        """Stacks side by side, none of which minds the others."""
        for stack, finished, others in self.workers.finish(map(self._taken_up, stacks), deadline=self.deadline):
            waits = not stack.alive and stack not in finished  # for a slower one that came before it
            if waits or self.shelf.is_due([stack]):
                self.shelf.put([stack])
            records = []
            for over in finished:
                records += [self._record_of(run) for run in over.runs.values() if not run.trial.state.is_finished()]
            progress = self._store(records, others, stack)
            for over in finished:
                self.recorder.put(functools.partial(self.shelf.remove, [over]))
            yield progress

    def _taken_up(self, stack: StackRun) -> StackRun:
        self.shelf.take([stack])
        return stack

    def _train_in_step(self, stacks: Iterator[StackRun]) -> Iterator[Progress]:
        """The stacks of a round in step, epoch by epoch, so that pruning compares equals.

        Each pruner looks at the trials in the order of their stacks.
        """
        together = list(stacks)
        runs = [run for stack in together for run in stack.runs.values()]
        if not runs:
            return
        view = OverlayStorage(
            self.optuna_study._storage, self.optuna_study._study_id, self.optuna_study.get_trials(deepcopy=False)
        )
        for run in runs:
            view.insert(_as_running(run.trial))
        epochs = max(stack.epochs for stack in together)
        pruner = make_pruner(self.study, epochs)
        rungs = halving_rungs(self.study, epochs)
        reached = 0
        if self.shelf.take(together):
            reached = max(stack.epoch for stack in together)
            self._remind(runs, view)
            yield self._store(self._records_in_step(together, view), together, None)
        for epoch in range(reached + 1, epochs + 1):
            going = [stack for stack in together if stack.alive]
            went: dict[int, tuple[StackRun, Run]] = {}
            for stack, through in self.workers.advance(going, deadline=self.deadline, until=epoch):
                went |= {run.number: (stack, run) for run in through}
                yield self._progress(together, stack)
            if pruner is not None:
                for number in (number for stack in going for number in stack.runs if number in went):
                    if went[number][1].outcome == "completed":  # and hasn't diverged on its second way, in a half
                        self._prune(pruner, *went[number], view)
            elif epoch in rungs:
                before = max((rung for rung in rungs if rung < epoch), default=0)
                self._halve(together, [run for run in runs if len(run.curves) > before])
            records = self._records_in_step(together, view)
            if records:
                yield self._store(records, together, None)
            if self.shelf.is_due(together):
                for run in runs:
                    run.notes = _pruner_notes(run, view)
                self.shelf.put(together)
        for stack in together:
            stack.close()
        self.recorder.put(functools.partial(self.shelf.remove, together))

    def _remind(self, runs: Sequence[Run], view: OverlayStorage) -> None:
        """Let the pruners see what they had seen when the round was put down."""
        for run in runs:
            points = run.curves[:-1] if run.outcome == "diverged" else run.curves
            for point in points:
                view.set_trial_intermediate_value(run.trial._trial_id, int(point["epoch"]), point[self.study.metric])
            for name, note in run.notes.items():
                view.set_trial_system_attr(run.trial._trial_id, name, note)

    def _halve(self, stacks: Sequence[StackRun], entered: Sequence[Run]) -> None:
        """Drop the worse half of each cell's points among the runs that *entered* the rung."""
        going = {run.number for stack in stacks for run in stack.alive}
        # one that diverged since the last rung is among those that leave; one that is through is out of it
        raced = [run for run in entered if run.number in going or run.outcome == "diverged"]
        losers = halve(
            self.study, [(run.number, run.trial.params, run.best if run.number in going else None) for run in raced]
        )
        for stack in stacks:
            stack.drop(losers)

    def _prune(self, pruner: optuna.pruners.BasePruner | None, stack: StackRun, run: Run, view: OverlayStorage) -> None:
        if pruner is None:
            return
        view.set_trial_intermediate_value(run.trial._trial_id, stack.epoch, run.curves[-1][self.study.metric])
        if stack.epoch < stack.epochs and prunes(pruner, self.study, self.optuna_study, view, run.trial._trial_id):
            stack.drop({run.number})

    def _records_in_step(self, stacks: Sequence[StackRun], view: OverlayStorage) -> list[TrialRecord]:
        """The records of what has ended since the last call; the pruners see it finished from now on."""
        records = []
        in_training = {run.number for stack in stacks for run in stack.alive}
        for run in (run for stack in stacks for run in stack.runs.values()):
            if run.number in in_training or run.recorded:
                continue
            run.recorded = True
            if run.trial.state.is_finished():  # told by an earlier run: seen as it was then
                view.insert(run.trial)
                continue
            run.notes = _pruner_notes(run, view)
            records.append(self._record_of(run))
            view.insert(_as_finished(view.get_trial(run.trial._trial_id), records[-1]))
        return records

    def _record_of(self, run: Run) -> TrialRecord:
        leads = run.outcome == "completed" and run.state is not None and self._leads(run.best, run.number)
        if leads and run.best is not None:
            self.best = (run.best, run.number)
        return self.engine.record(run, keep_state=leads)

    def _store(self, records: Sequence[TrialRecord], under_way: Sequence[StackRun], stack: StackRun | None) -> Progress:
        for record in records:
            self.recorder.put(record)
        self.done += len(records)
        return self._progress(under_way, stack, records)

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
    fresh._system_attrs = {key: value for key, value in fresh.system_attrs.items() if not _is_of_a_pruner(key)}
    return fresh


def _is_of_a_pruner(key: str) -> bool:
    return "rung" in key  # of Optuna's pruners successive halving writes anything down, as does Hyperband through it


def _pruner_notes(run: Run, view: OverlayStorage) -> dict[str, Any]:
    """What a pruner has written down of a run."""
    noted = view.get_trial_system_attrs(run.trial._trial_id)
    return {key: note for key, note in noted.items() if key not in run.trial.system_attrs or _is_of_a_pruner(key)}


def _as_finished(trial: FrozenTrial, record: TrialRecord) -> FrozenTrial:
    from optuna.trial import TrialState

    states = {"pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
    trial.state = states.get(record.outcome, TrialState.COMPLETE)
    trial.values = None if record.outcome == "failed" else [record.value]
    return trial
