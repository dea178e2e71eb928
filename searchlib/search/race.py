"""Replicates: the best configuration of each cell again, on fresh seeds, as a race.

They are trials of an Optuna study of their own, ``<study>.replicates``, with the searched parameters and one more,
``replicate``: the seed, counted from 1. It alone decides on weights, noise and order of examples (and, if the study
asks for it, on the split), so replicate r of one cell is paired with replicate r of every other. Where the study has
several searches, their best configurations take turns: replicate r repeats that of search (r - 1) % searches + 1. The
race looks at the values after a few seeds, then more: a cell that is significantly worse than the leader gets no more
seeds as long as it is, and the race ends when the leader is alone or ``replicates`` seeds are reached. It goes on where
``replicates`` is raised afterwards, with a small share of alpha for all that follows (``analysis/spending.py``). With
``replicate_race=False`` there is one look, when all cells have all seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import optuna
from optuna.distributions import IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from searchlib.analysis import (
    Cell,
    CellKey,
    cells,
    next_runs,
    outcome,
    plan,
    race_is_over,
    raced_cells,
    replicate_values,
    sources,
)
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
        self.plan = plan(study, self._noted())

    @property
    def finished(self) -> bool:
        """Whether nothing is left to run, for the search as it stands."""
        if not self.study.replicates:
            return True
        return race_is_over(self.study, self._noted(), cells(self.study, own_trials(self.search)))

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
        candidates = raced_cells(self.study, cells(self.study, own_trials(self.search)))
        with Recorder(stored, tracker, guard=guard) as self.recorder:
            if all(trial.state.is_finished() for trial in self._trials()):
                self._note(candidates)  # an earlier run may have ended before it could
            while batch := self._next_batch(candidates):
                yield from self._train(batch)
                self.recorder.drain()
                self._note(candidates)
            self._note(candidates)

    def _noted(self) -> Mapping[str, Any]:
        stored = self._open(create=False)
        return stored.user_attrs.get("race", {}) if stored else {}

    def _trials(self) -> list[FrozenTrial]:
        return own_replicates(self.stored)

    def _state(
        self, candidates: Sequence[Cell], known: Sequence[FrozenTrial]
    ) -> tuple[int, list[CellKey], list[tuple[int, int]]]:
        """Where the race stands by the trials *known*, and which (search trial, replicate) to run: ``next_runs``.

        The replicates of a search in which no trial of a cell completed count as run, without a value.
        """
        repeated, searches = sources(candidates), self.study.searches
        picks = {cell.key: cell.picks for cell in candidates}
        ran = {(repeated[found], t.params["replicate"]) for t in known if (found := t.user_attrs["source"]) in repeated}
        ran |= {
            (cell.key, replicate)
            for cell in candidates
            for replicate in range(1, self.study.replicates + 1)
            if cell.picks[(replicate - 1) % searches] is None
        }
        reached, left, wanted = next_runs(list(picks), replicate_values(repeated, known), ran, self.plan)
        trials = [(picks[cell][(replicate - 1) % searches], replicate) for cell, replicate in wanted]
        return reached, left, [(source, replicate) for source, replicate in trials if source is not None]

    def _note(self, candidates: Sequence[Cell]) -> None:
        reached, left, wanted = self._state(candidates, self._trials())
        repeated = sources(candidates)
        over = set(self._noted().get("undecided", ()))
        end = not wanted and reached >= (self.plan.planned_end or 0)  # not where replicates was lowered
        self.stored.set_user_attr(
            "race",
            {
                "looks": list(self.plan.looks),
                "planned_end": self.plan.planned_end or (None if wanted else self.plan.looks[-1]),
                "reached": reached,
                "candidates": list(repeated),
                "contenders": [source for source, cell in repeated.items() if cell in left],
                "finished": not wanted,
                "undecided": sorted(over | ({reached} if end and len(left) > 1 else set())),
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

    def _next_batch(self, candidates: Sequence[Cell]) -> list[FrozenTrial]:
        """The trials to train next, created where they aren't there, each with all its parameters by one write.

        An interrupted batch comes first, and is completed: it was made by what was known before it.
        """
        trials = self._trials()
        batch = next((t.user_attrs["batch"] for t in trials if not t.state.is_finished()), len(trials))
        _, _, wanted = self._state(candidates, [trial for trial in trials if trial.user_attrs["batch"] != batch])
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
        """Stacks of all seeds of one split together, the slowest first."""
        tasks = sorted((task_of(self.study, trial) for trial in trials), key=_place)
        together = [list(alike) for _, alike in groupby(tasks, key=lambda task: task.split)]
        for part in together:
            if all(task.finished for task in part):
                continue
            engine = self.trainer.engine_of(part[0].split)
            groups = engine.group(part, at_least=1 if self.study.replicate_split else -(-STACKS // len(together)))
            for group in sorted(groups, key=lambda group: group[0].config.batch_size):
                if not all(task.finished for task in group):
                    stack = engine.start(group, keeps=lambda run, value: True, keep_examples=True)
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
                kept, leads = (
                    self.kept.room_for(self.study.cell_of(run.task.params), run.state),
                    self._leads(run, run.best),
                )
                if leads:
                    self.best[source] = run.best
            record = engine.record(run, keep_state=leads or kept is not None)
            records.append(replace(record, kept_bytes=kept))
        return records

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


def _place(task: Task) -> tuple[int, int]:
    """Its place in the order of training: by its split, then by its seed."""
    return task.split, task.params["replicate"]
