"""A round of trials of which some stop early: which of them, after each epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from searchlib.search.overlay import OverlayStorage, as_running, is_of_a_pruner, numbered
from searchlib.search.pruning import halve, halving_rungs, make_pruner, prunes
from searchlib.study import Study, TrialRecord
from searchlib.training import Run, StackRun

STATES = {"pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


class PrunedRound:
    """The trials of a round whose stacks train in step, epoch by epoch, so that pruning compares equals.

    A pruner of Optuna's looks at the trials in the order of their stacks. It sees the earlier rounds as they are
    stored and this one as it trains, in memory.
    """

    def __init__(
        self, study: Study, optuna_study: optuna.Study, trials: Sequence[FrozenTrial], stacks: Sequence[StackRun]
    ) -> None:
        self.study, self.stacks = study, stacks
        self.runs = [run for stack in stacks for run in stack.runs.values()]
        self.epochs = max(stack.epochs for stack in stacks)
        self.pruner, self.rungs = make_pruner(study, self.epochs), halving_rungs(study, self.epochs)
        self.stored = {trial.number: trial for trial in trials}
        self.view = OverlayStorage(optuna_study, numbered(optuna_study))
        for run in self.runs:
            self.view.put(as_running(self.stored[run.number]))

    def resume(self) -> None:
        """Show the pruner what it had seen of the runs when their snapshot was taken."""
        for run in self.runs:
            points = run.curves[:-1] if run.outcome == "diverged" else run.curves
            for point in points:
                self._report(run, int(point["epoch"]), point)
            for name, note in run.notes.items():
                self.view.set_trial_system_attr(run.task.trial_id, name, note)

    def stop_some(self, epoch: int, trained: set[int]) -> None:
        """Take those out of training that stop after *epoch*. trained: the numbers of the runs that trained in it."""
        if self.pruner is not None:
            for stack in self.stacks:
                for run in stack.runs.values():
                    if run.number in trained and run.outcome == "completed":
                        self._prune(self.pruner, stack, run)
        elif epoch in self.rungs:
            before = max((rung for rung in self.rungs if rung < epoch), default=0)
            self._halve([run for run in self.runs if len(run.curves) > before])

    def records(self, record_of: Callable[[Run], TrialRecord]) -> list[TrialRecord]:
        """The records of what has ended since the last call; a pruner sees it finished from now on."""
        made = []
        in_training = {run.number for stack in self.stacks for run in stack.alive}
        for run in self.runs:
            if run.number in in_training or run.recorded:
                continue
            run.recorded = True
            if run.task.finished:  # recorded by an earlier process: seen as it was then
                self.view.put(self.stored[run.number])
                continue
            run.notes = self._notes(run)
            made.append(record_of(run))
            outcome, value = made[-1].outcome, made[-1].value
            self.view.set_trial_state_values(
                run.task.trial_id,
                STATES.get(outcome, TrialState.COMPLETE),
                None if outcome == "failed" else [value],
            )
        return made

    def note(self) -> None:
        """Write what the pruner has written of each run into the run, for a snapshot."""
        for run in self.runs:
            run.notes = self._notes(run)

    def _notes(self, run: Run) -> dict[str, Any]:
        known = self.stored[run.number].system_attrs
        attributes = self.view.get_trial_system_attrs(run.task.trial_id)
        return {key: note for key, note in attributes.items() if key not in known or is_of_a_pruner(key)}

    def _report(self, run: Run, epoch: int, point: dict[str, float]) -> None:
        self.view.set_trial_intermediate_value(run.task.trial_id, epoch, point[self.study.metric])

    def _prune(self, pruner: optuna.pruners.BasePruner, stack: StackRun, run: Run) -> None:
        self._report(run, stack.epoch, run.curves[-1])
        if stack.epoch < stack.epochs and prunes(pruner, self.study, self.view, run.task.trial_id):
            stack.drop({run.number})

    def _halve(self, entered: Sequence[Run]) -> None:
        """Drop the worse half of each cell's points among the runs that *entered* the rung."""
        in_training = {run.number for stack in self.stacks for run in stack.alive}
        # one that diverged since the last rung is among those that leave; one at its last epoch isn't compared
        compared = [run for run in entered if run.number in in_training or run.outcome == "diverged"]
        losers = halve(
            self.study,
            [(self.stored[run.number], run.best if run.number in in_training else None) for run in compared],
        )
        for stack in self.stacks:
            stack.drop(losers)
