"""What a search and its race share: trials as tasks, stacks trained side by side, progress."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from optuna.trial import FrozenTrial

from searchlib.analysis import drawn_split, search_of, split_of
from searchlib.search.recorder import Recorder
from searchlib.seeds import search_seed
from searchlib.study import Progress, Study, TrialRecord
from searchlib.training import Deadline, Engine, Snapshots, StackRun, Task, Workers

MOST_ENGINES = 8  # whose splits stay in memory, where each search draws its own


def task_of(study: Study, trial: FrozenTrial) -> Task:
    """A stored trial of the search, or a replicate, which has one parameter more, as the training takes it."""
    seed: int = trial.user_attrs["seed"]
    return Task(
        number=trial.number,
        trial_id=trial._trial_id,
        params=trial.params,
        config=study.config({name: value for name, value in trial.params.items() if name in study.dimensions}),
        seed=seed,
        order_seed=seed if "replicate" in trial.params else search_seed(study.seed, search_of(trial)),
        signature=trial.user_attrs["signature"],
        split=split_of(study, trial),
        finished=trial.state.is_finished(),
    )


@dataclass(frozen=True)
class Trainer:
    """Trains stacks, with snapshots, until the deadline. engine: of the study's own split."""

    engine: Engine
    workers: Workers
    snapshots: Snapshots
    deadline: Deadline
    _engines: dict[int, Engine] = field(default_factory=dict)

    def engine_of(self, split: int) -> Engine:
        """The engine of the split with that number (``analysis.split_number``); 0 is the study's own."""
        if split == 0:
            return self.engine
        if split not in self._engines:
            study = self.engine.study
            if len(self._engines) >= (min(study.searches, MOST_ENGINES) if study.search_split else 1):
                del self._engines[next(iter(self._engines))]
            drawn = drawn_split(study, self.engine.examples, split)
            self._engines[split] = Engine(study, drawn, self.engine.device)
        return self._engines[split]

    def train(
        self, stacks: Iterable[StackRun], recorder: Recorder, records_of: Callable[[StackRun], list[TrialRecord]]
    ) -> Iterator[tuple[StackRun, list[StackRun], list[TrialRecord]]]:
        """Train stacks side by side, none of which depends on another; resume those that have a snapshot.

        Yields after each epoch: its stack, the stacks that aren't finished, and the records of those that are.
        Stacks finish in the order in which they come; recorder gets their records in this order. OutOfTimeError when
        the deadline passes.
        """
        for stack, finished, others in self.workers.finish(map(self._resumed, stacks), deadline=self.deadline):
            waits = not stack.alive and stack not in finished  # for a slower one that came before it
            if waits or self.snapshots.is_due([stack]):
                self.snapshots.save([stack])
            records = [record for each in finished for record in records_of(each)]
            for record in records:
                recorder.put(record)
            for each in finished:
                recorder.put(functools.partial(self.snapshots.remove, [each]))
            yield stack, others, records

    def _resumed(self, stack: StackRun) -> StackRun:
        self.snapshots.load([stack])
        return stack


def progress(
    phase: str,
    done: int,
    target: int,
    stack: StackRun | None,
    under_way: Iterable[StackRun],
    finished: Sequence[TrialRecord] = (),
) -> Progress:
    """Progress after an epoch of *stack*, or after a round (None). under_way: stacks that aren't finished."""
    trained = sum(
        each.epoch / each.epochs
        for each in under_way
        for run in each.runs.values()
        if not run.recorded and not run.task.finished
    )
    return Progress(
        phase=phase,
        done=done,
        target=target,
        fraction=(done + trained) / target,
        stack=len(stack.alive) if stack else 0,
        epoch=stack.epoch if stack else 0,
        epochs=stack.epochs if stack else 0,
        finished=finished,
    )
