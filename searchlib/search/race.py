"""Replicates: the best configuration of each cell again, on fresh seeds, as a race.

They are trials of an Optuna study of their own, ``<study>.replicates``, with the searched parameters and one more,
``replicate``: the seed, counted from 1. It alone decides on weights, noise and order of examples (and, if the study
asks for it, on the split), so replicate r of one cell is paired with replicate r of every other. The race looks at the
values after 5 seeds, 10, 20, ...; a cell told apart from the leader gets no more seeds while it is, and the race ends
when the leader is alone or ``replicates`` seeds are reached. With ``replicate_race=False`` there is one look, when all
cells have all seeds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from searchlib.analysis import cells, looks, next_runs, outcome
from searchlib.data import redraw
from searchlib.search.recorder import Recorder
from searchlib.search.samplers import distribution
from searchlib.seeds import replicate_seed
from searchlib.stores import discard_runs, replicates_name
from searchlib.study import Progress
from searchlib.training import Deadline, Engine, Run, Shelf, StackRun, Workers

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from searchlib.stores import Tracker
    from searchlib.study import Study, TrialRecord

__all__ = ["Race"]

Guard = Callable[[], None]

STACKS = 4  # that a race forms between two looks at least, so that as many cores have work
MOST_REPLICATES = 1_000_000  # the upper end of the dimension ``replicate``, the same for all trials


class Race:
    """The replicates of one study: which are wanted, which are there, and the training of the rest."""

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

    def run(
        self, engine: Engine, workers: Workers, tracker: Tracker, guard: Guard, shelf: Shelf, deadline: Deadline
    ) -> Generator[Progress, None, None]:
        """Run what is missing. OutOfTimeError when the deadline passes; what was recorded stays."""
        if self.finished:
            return
        stored = self._open(create=True)
        assert stored is not None
        self.stored, self.engine, self.workers, self.shelf, self.deadline = stored, engine, workers, shelf, deadline
        discard_runs(
            tracker, stored.study_name, [trial.number for trial in self._trials() if not trial.state.is_finished()]
        )
        self.best = self._best_by_source()
        self.engines: dict[StackRun, Engine] = {}  # of the stacks in training
        candidates = self._candidates()
        with Recorder(stored, tracker, guard=guard) as recorder:
            self.recorder = recorder
            if all(trial.state.is_finished() for trial in self._trials()):
                self._note(candidates)  # an earlier run may have ended before it could
            while batch := self._next_batch(candidates):
                yield from self._train(batch)
                recorder.drain()
                self._note(candidates)
            self._note(candidates)

    def _trials(self) -> list[FrozenTrial]:
        return self.stored.get_trials(deepcopy=False)

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
        import optuna

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
        return made

    def _candidates(self) -> list[int]:
        """The search trials to repeat: the best of each cell, or of the leading cells, best first."""
        leading = [
            cell.trial for cell in cells(self.study, self.search.get_trials(deepcopy=False)) if cell.trial is not None
        ]
        return leading[: self.study.replicate_cells]

    def _next_batch(self, candidates: Sequence[int]) -> list[FrozenTrial]:
        """The trials to train next, created where they aren't there, each with all its parameters by one write.

        An interrupted batch comes first, and is completed: it was made by what was known before it.
        """
        from optuna.distributions import IntDistribution
        from optuna.trial import TrialState, create_trial

        trials = self._trials()
        batch = next((t.user_attrs["batch"] for t in trials if not t.state.is_finished()), len(trials))
        _, _, wanted = self._plan(candidates, [trial for trial in trials if trial.user_attrs["batch"] != batch])
        there = {(t.user_attrs["source"], t.params["replicate"]) for t in trials if t.user_attrs["batch"] == batch}
        repeated = self.search.get_trials(deepcopy=False)
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
        """Train what is open of a batch, in stacks that are formed as before an interruption."""
        self.done, self.target = sum(trial.state.is_finished() for trial in trials), len(trials)
        for stack, finished, others in self.workers.finish(self._stacks(trials), deadline=self.deadline):
            if (not stack.alive and stack not in finished) or self.shelf.is_due([stack]):
                self.shelf.put([stack])
            records = [record for over in finished for record in self._record(over)]
            for over in finished:
                self.recorder.put(functools.partial(self.shelf.remove, [over]))
            self.done += len(records)
            yield self._progress(stack, others, records)

    def _stacks(self, trials: Sequence[FrozenTrial]) -> Iterator[StackRun]:
        """Stacks of all seeds together, the slowest first; of each seed alone where it draws a split of its own."""
        seeds = sorted(trials, key=lambda trial: trial.params["replicate"])
        alone = [list(paired) for _, paired in groupby(seeds, key=lambda trial: trial.params["replicate"])]
        at_least = 1 if self.study.replicate_split else STACKS
        for paired in alone if self.study.replicate_split else [seeds]:
            if all(trial.state.is_finished() for trial in paired):
                continue
            engine = self._engine(paired[0].params["replicate"])
            groups = engine.group(paired, at_least=at_least)
            for group in sorted(groups, key=lambda group: engine.config(group[0]).batch_size):
                if any(not trial.state.is_finished() for trial in group):
                    stack = engine.start(group, order_seed=None, keeps=self._leads)
                    self.engines[stack] = engine
                    self.shelf.take([stack])
                    yield stack

    def _record(self, stack: StackRun) -> list[TrialRecord]:
        """Record a stack at its end."""
        engine = self.engines.pop(stack)
        records = []
        for run in stack.runs.values():
            if not run.trial.state.is_finished():
                leads = run.outcome == "completed" and run.best is not None and self._leads(run, run.best)
                if leads and run.best is not None:
                    self.best[run.trial.user_attrs["source"]] = run.best
                records.append(engine.record(run, keep_state=leads))
                self.recorder.put(records[-1])
        return records

    def _engine(self, replicate: int) -> Engine:
        """The search's own, or one on a split that this replicate draws."""
        if not self.study.replicate_split:
            return self.engine
        drawn = redraw(self.engine.examples, split_seed=self.study.split_seed, replicate=replicate)
        return Engine(self.study, drawn, self.engine.device)

    def _best_by_source(self) -> dict[int, float]:
        """The best replicate so far of each repeated trial."""
        best: dict[int, float] = {}
        for trial in self.stored.get_trials(deepcopy=False):
            if outcome(trial) == "completed" and trial.values:
                source, value = trial.user_attrs["source"], trial.values[0]
                if source not in best or self.study.better(value, best[source]):
                    best[source] = value
        return best

    def _leads(self, run: Run, value: float) -> bool:
        """Whether a run is the best replicate of its cell so far: only such weights can become the champion's."""
        source: int = run.trial.user_attrs["source"]
        return source not in self.best or self.study.better(value, self.best[source])

    def _progress(self, stack: StackRun, under_way: Sequence[StackRun], finished: Sequence[TrialRecord]) -> Progress:
        trained = sum(len(each.runs) * each.epoch / each.epochs for each in under_way)
        return Progress(
            phase="replicates",
            done=self.done,
            target=self.target,
            fraction=min((self.done + trained) / self.target, 1.0),
            stack=len(stack.alive),
            epoch=stack.epoch,
            epochs=stack.epochs,
            finished=finished,
        )
