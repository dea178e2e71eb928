"""The rounds of a search: trials asked together, trained in stacks, pruned, recorded."""

from __future__ import annotations

import functools
from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import groupby

import optuna
from optuna.trial import FrozenTrial

from searchlib.analysis import best_trial, search_of
from searchlib.search.design import is_adaptive, round_length
from searchlib.search.pruned_round import PrunedRound
from searchlib.search.recorder import Recorder
from searchlib.search.samplers import ask_round
from searchlib.search.trainer import Trainer, progress, task_of
from searchlib.stores import own_trials
from searchlib.study import Progress, Study, TrialRecord
from searchlib.training import Run, StackRun


class Rounds:
    """The rounds of one study's search, up to *target* trials."""

    def __init__(
        self, study: Study, optuna_study: optuna.Study, target: int, trainer: Trainer, recorder: Recorder
    ) -> None:
        self.study, self.optuna_study, self.target = study, optuna_study, target
        self.trainer, self.recorder = trainer, recorder
        trials = own_trials(optuna_study)
        self.done = sum(trial.state.is_finished() for trial in trials)
        leader = best_trial(study, trials)
        self.best = (leader.values[0], leader.number) if leader and leader.values else None

    def run(self) -> Generator[Progress, None, None]:
        """Ask, train and record what is missing. OutOfTimeError when the deadline passes; what was recorded stays."""
        if self.study.pruner != "none":
            for trials in self._rounds():
                yield from self._train_in_step(trials)
                self.recorder.drain()
        elif is_adaptive(self.study):  # what comes next depends on every result so far
            for trials in self._rounds():
                yield from self._train_apart(self._stacks(trials))
                self.recorder.drain()
        else:
            yield from self._train_apart(stack for trials in self._rounds() for stack in self._stacks(trials))

    def _rounds(self) -> Iterator[list[FrozenTrial]]:
        """The trials of each round that isn't finished, created where they are missing.

        Rounds count the study's own trials: where no other program has added any, by their numbers.
        """
        length = round_length(self.study)
        trials = own_trials(self.optuna_study)
        first_open = next((place for place, trial in enumerate(trials) if not trial.state.is_finished()), len(trials))
        for start in range(first_open - first_open % length, self.target, length):
            yield ask_round(self.study, self.optuna_study, range(start, min(start + length, self.target)))

    def _stacks(self, trials: Sequence[FrozenTrial], *, whole: bool = False) -> Iterator[StackRun]:
        """The stacks of a round that aren't finished; with *whole* all of them.

        A stack trains whole, also where some of it is recorded: its round-off depends on its trials.
        """
        tasks = [task_of(self.study, trial) for trial in sorted(trials, key=search_of)]  # those of one order together
        for split, alike in groupby(tasks, key=lambda task: task.split):
            engine = self.trainer.engine_of(split)
            for group in engine.group(list(alike)):
                if whole or any(not task.finished for task in group):
                    yield engine.start(group, keeps=lambda run, value: self._leads(value, run.number))

    def _train_apart(self, stacks: Iterable[StackRun]) -> Iterator[Progress]:
        """Stacks side by side, none of which depends on another."""
        for stack, others, records in self.trainer.train(stacks, self.recorder, self._records_of):
            self.done += len(records)
            yield progress("search", self.done, self.target, stack, others, records)

    def _records_of(self, stack: StackRun) -> list[TrialRecord]:
        return [self._record_of(run) for run in stack.runs.values() if not run.task.finished]

    def _train_in_step(self, trials: Sequence[FrozenTrial]) -> Iterator[Progress]:
        """The stacks of a round in step, whole: the decisions of a pruner depend on all of them."""
        if all(trial.state.is_finished() for trial in trials):
            return
        stacks = list(self._stacks(trials, whole=True))
        snapshots = self.trainer.snapshots
        pruned = PrunedRound(self.study, self.optuna_study, trials, stacks)
        reached = 0
        if snapshots.load(stacks):
            reached = max(stack.epoch for stack in stacks)
            pruned.resume()
            yield self._store(pruned.records(self._record_of), stacks)
        for epoch in range(reached + 1, pruned.epochs + 1):
            trained: set[int] = set()
            in_training = [stack for stack in stacks if stack.alive]
            for stack, runs in self.trainer.workers.advance(in_training, deadline=self.trainer.deadline, until=epoch):
                trained |= {run.number for run in runs}
                yield progress("search", self.done, self.target, stack, stacks)
            pruned.stop_some(epoch, trained)
            if records := pruned.records(self._record_of):
                yield self._store(records, stacks)
            if snapshots.is_due(stacks):
                pruned.note()
                snapshots.save(stacks)
        for stack in stacks:
            stack.close()
        self.recorder.put(functools.partial(snapshots.remove, stacks))

    def _store(self, records: Sequence[TrialRecord], stacks: Sequence[StackRun]) -> Progress:
        for record in records:
            self.recorder.put(record)
        self.done += len(records)
        return progress("search", self.done, self.target, None, stacks, records)

    def _record_of(self, run: Run) -> TrialRecord:
        leads = run.outcome == "completed" and run.state is not None and self._leads(run.best, run.number)
        if leads and run.best is not None:
            self.best = (run.best, run.number)
        return self.trainer.engine_of(run.task.split).record(run, keep_state=leads)

    def _leads(self, value: float | None, number: int) -> bool:
        """Whether a trial would be the study's best; of equal ones the first is."""
        if self.best is None or value is None:
            return value is not None
        best_value, best_number = self.best
        return self.study.better(value, best_value) or (value == best_value and number < best_number)
