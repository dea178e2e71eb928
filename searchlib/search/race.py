"""Replicates: the best configuration of each cell again, on fresh seeds, as a race.

They are trials of an Optuna study of their own, ``<study>.replicates``, with the searched parameters and one more,
``replicate``: the seed, counted from 1. It alone decides on weights, noise and order of examples (and, if the study
asks for it, on the split), so replicate r of one cell is paired with replicate r of every other. The race looks at the
values after 5 seeds, 10, 20, ...: a cell that is significantly worse than the leader gets no more seeds as long as it
is, and the race ends when the leader is alone or ``replicates`` seeds are reached. With ``replicate_race=False`` there
is one look, when all cells have all seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

import optuna
from optuna.distributions import IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from searchlib.analysis import cells, looks, next_runs, outcome
from searchlib.data import redraw
from searchlib.search.kept import Kept
from searchlib.search.recorder import Recorder
from searchlib.search.samplers import distribution
from searchlib.search.trainer import Trainer, progress, task_of
from searchlib.seeds import replicate_seed
from searchlib.stores import STUDY_UID, Tracker, discard_runs, own_replicates, own_trials, replicates_name
from searchlib.study import Progress, Study, TrialRecord
from searchlib.training import Engine, Run, StackRun, Task

Guard = Callable[[], None]

STACKS = 4  # at least between two looks, so that as many cores have work
MOST_REPLICATES = 1_000_000  # the upper end of the dimension ``replicate``, the same for all trials


class Race:
    """The replicates of one study: which are wanted, which are stored, and the training of the rest."""

    def __init__(self, study: Study, optuna_study: optuna.Study) -> None:
        self.study, self.search = study, optuna_study
        self.looks = looks(study.replicates, race=study.replicate_race)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to run, for the search as it stands."""
        if not self.looks:
            return True
        stored = self._open(create=False)
        noted = stored.user_attrs.get("race", {}) if stored else {}
        wanted = {"looks": list(self.looks), "candidates": self._candidates(), "finished": True}
        return all(noted.get(name) == value for name, value in wanted.items())

    def run(self, trainer: Trainer, tracker: Tracker, guard: Guard) -> Generator[Progress, None, None]:
        """Run what is missing. OutOfTimeError when the deadline passes; what was recorded stays.

        guard: called before each write, to raise where another process has the study by now.
        """
        if self.finished:
            return
        stored = self._open(create=True)
        assert stored is not None
        self.stored, self.trainer = stored, trainer
        discard_runs(
            tracker, stored.study_name, [trial.number for trial in self._trials() if not trial.state.is_finished()]
        )
        self.best = self._best_by_source()
        candidates = self._candidates()
        with Recorder(stored, tracker, guard=guard) as self.recorder:
            if all(trial.state.is_finished() for trial in self._trials()):
                self._note(candidates)  # an earlier run may have ended before it could
            while batch := self._next_batch(candidates):
                yield from self._train(batch)
                self.recorder.drain()
                self._note(candidates)
            self._note(candidates)

    def _trials(self) -> list[FrozenTrial]:
        return own_replicates(self.stored)

    def _plan(
        self, candidates: Sequence[int], known: Sequence[FrozenTrial]
    ) -> tuple[int, list[int], list[tuple[int, int]]]:
        """Where the race stands by the trials *known*, and which (search trial, replicate) to run: ``next_runs``."""
        values: dict[int, dict[int, float]] = {}
        ran = set()
        for trial in known:
            source, replicate = trial.user_attrs["source"], trial.params["replicate"]
            ran.add((source, replicate))
            if trial.values:
                values.setdefault(source, {})[replicate] = trial.values[0]
        return next_runs(candidates, values, ran, self.study.direction, self.looks)

    def _note(self, candidates: Sequence[int]) -> None:
        reached, left, wanted = self._plan(candidates, self._trials())
        over = set(self.stored.user_attrs.get("race", {}).get("undecided", ()))
        self.stored.set_user_attr(
            "race",
            {
                "looks": list(self.looks),
                "reached": reached,
                "candidates": list(candidates),
                "contenders": left,
                "finished": not wanted,
                "undecided": sorted(over | ({reached} if not wanted and len(left) > 1 else set())),
            },
        )

    def _open(self, *, create: bool) -> optuna.Study | None:
        storage, name = self.search._storage, replicates_name(self.study)
        if not create:
            try:
                return optuna.load_study(study_name=name, storage=storage)
            except KeyError:
                return None
        made = optuna.create_study(
            study_name=name, storage=storage, direction=self.study.direction, load_if_exists=True
        )
        if "question" not in made.user_attrs:
            made.set_user_attr("question", f"Replicates of {self.study.name}: {self.study.question}")
        if STUDY_UID not in made.user_attrs:
            made.set_user_attr(STUDY_UID, self.search.user_attrs["uid"])
        return made

    def _candidates(self) -> list[int]:
        """The search trials to repeat: the best of each cell, or of the leading cells, best first."""
        leading = [cell.trial for cell in cells(self.study, own_trials(self.search)) if cell.trial is not None]
        return leading[: self.study.replicate_cells]

    def _next_batch(self, candidates: Sequence[int]) -> list[FrozenTrial]:
        """The trials to train next, created where they aren't there, each with all its parameters by one write.

        An interrupted batch comes first, and is completed: it was made by what was known before it.
        """
        trials = self._trials()
        batch = next((t.user_attrs["batch"] for t in trials if not t.state.is_finished()), len(trials))
        _, _, wanted = self._plan(candidates, [trial for trial in trials if trial.user_attrs["batch"] != batch])
        there = {(t.user_attrs["source"], t.params["replicate"]) for t in trials if t.user_attrs["batch"] == batch}
        repeated = {trial.number: trial for trial in own_trials(self.search)}
        for source, replicate in wanted:
            if (source, replicate) in there:
                continue
            params = repeated[source].params
            kinds = {name: distribution(self.study.dimensions[name]) for name in params}
            self.stored.add_trial(
                create_trial(
                    state=TrialState.RUNNING,
                    params={**params, "replicate": replicate},
                    distributions={**kinds, "replicate": IntDistribution(1, MOST_REPLICATES)},
                    user_attrs={
                        "seed": replicate_seed(self.study.seed, replicate),
                        "signature": self.study.config(params).signature,
                        "source": source,
                        "batch": batch,
                    },
                )
            )
        return [trial for trial in self._trials() if trial.user_attrs["batch"] == batch]

    def _train(self, trials: Sequence[FrozenTrial]) -> Iterator[Progress]:
        """Train what is missing of a batch, in stacks that are formed as before an interruption."""
        self.sources = {trial.number: trial.user_attrs["source"] for trial in trials}
        self.engines: dict[StackRun, Engine] = {}  # of the stacks in training
        self.kept = Kept(self.study, trials, self._trials())
        done = sum(trial.state.is_finished() for trial in trials)
        for stack, others, records in self.trainer.train(self._stacks(trials), self.recorder, self._records_of):
            done += len(records)
            yield progress("replicates", done, len(trials), stack, others, records)

    def _stacks(self, trials: Sequence[FrozenTrial]) -> Iterator[StackRun]:
        """Stacks of all seeds together, the slowest first; of each seed alone where it draws a split of its own."""
        tasks = sorted((task_of(self.study, trial) for trial in trials), key=_replicate)
        together = (
            [list(alike) for _, alike in groupby(tasks, key=_replicate)] if self.study.replicate_split else [tasks]
        )
        for part in together:
            if all(task.finished for task in part):
                continue
            engine = self._engine(_replicate(part[0]))
            groups = engine.group(part, at_least=1 if self.study.replicate_split else STACKS)
            for group in sorted(groups, key=lambda group: group[0].config.batch_size):
                if not all(task.finished for task in group):
                    stack = engine.start(group, order_seed=None, keeps=lambda run, value: True)
                    self.engines[stack] = engine
                    yield stack

    def _records_of(self, stack: StackRun) -> list[TrialRecord]:
        engine = self.engines.pop(stack)
        records = []
        for run in stack.runs.values():
            if run.task.finished:
                continue
            kept, leads = None, False
            if run.outcome == "completed" and run.best is not None:
                source = self.sources[run.number]
                kept, leads = self.kept.room_for(source, run.state), self._leads(run, run.best)
                if leads:
                    self.best[source] = run.best
            record = engine.record(run, keep_state=leads or kept is not None)
            records.append(replace(record, kept_bytes=kept))
        return records

    def _engine(self, replicate: int) -> Engine:
        """The search's own, or one on a split that this replicate draws."""
        engine = self.trainer.engine
        if not self.study.replicate_split:
            return engine
        drawn = redraw(engine.examples, split_seed=self.study.split_seed, replicate=replicate)
        return Engine(self.study, drawn, engine.device)

    def _best_by_source(self) -> dict[int, float]:
        """The best replicate so far of each repeated trial."""
        best: dict[int, float] = {}
        for trial in self._trials():
            if outcome(trial) == "completed" and trial.values:
                source, value = trial.user_attrs["source"], trial.values[0]
                if source not in best or self.study.better(value, best[source]):
                    best[source] = value
        return best

    def _leads(self, run: Run, value: float) -> bool:
        """Whether a run is the best replicate of its cell so far: such weights can become the champion's."""
        source = self.sources[run.number]
        return source not in self.best or self.study.better(value, self.best[source])


def _replicate(task: Task) -> int:
    number: int = task.params["replicate"]
    return number
