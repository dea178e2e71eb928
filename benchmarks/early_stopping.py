"""What stopping early saves and what it costs: init_vs_act's search under four rules, as its user waits for it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from optuna.trial import FrozenTrial

from benchmarks.measuring import Settings, Table, in_turn, processes, spread
from benchmarks.problem import Data, init_vs_act
from benchmarks.throughput import data_of
from searchlib import Study

FULL = "all trials to the end"
RULES = {
    FULL: "none",
    "within_cell": "within_cell",
    "asha": "asha",
    "one epoch, then the best of each cell (Egele 2023)": "one epoch, cell",
    "one epoch, then the best of all (Egele 2023)": "one epoch, all",
}
MARGIN = 0.001  # so far below the full search's best validation accuracy counts as reached


@dataclass(frozen=True)
class Search:
    """One search. points: (seconds since its start, validation accuracy) of every epoch of every trial, by time."""

    seconds: float
    points: list[tuple[float, float]]

    @property
    def best(self) -> float:
        return max(value for _, value in self.points)

    def reached(self, value: float) -> float | None:
        """Seconds until some trial was as good as *value*; None if none was."""
        return next((seconds for seconds, accuracy in self.points if accuracy >= value), None)


def search(study: Study, rule: str, data: Data) -> Search:
    """Run the whole search under *rule*, all recorded."""
    from benchmarks.ours import searched

    asked = dataclasses.replace(study, pruner="within_cell" if rule.startswith("one epoch") else rule, name="stopping")
    with ExitStack() as left:
        if rule.startswith("one epoch"):
            left.enter_context(one_epoch(of_each_cell=rule.endswith("cell")))
        clock, started = time.time(), time.perf_counter()
        finished = searched(asked, data)
        seconds = time.perf_counter() - started
    points = [(point["time"] - clock, point["val_accuracy"]) for record in finished for point in record.curves]
    return Search(seconds, sorted(points))


@contextmanager
def one_epoch(*, of_each_cell: bool) -> Iterator[None]:
    """Egele 2023: every trial gets one epoch, the best go on to the end: one of each cell, or as many of all.

    In the place of ``within_cell``'s rungs and its halves: the rest of the search is the same. A bracket has eight
    points a cell, which is the whole of init_vs_act.
    """

    def losers(study: Study, points: Sequence[tuple[FrozenTrial, float | None]]) -> set[int]:
        ranked = [t for t, _ in sorted(points, key=lambda one: -1.0 if one[1] is None else one[1], reverse=True)]
        cells = {study.cell_of(trial.params) for trial in ranked}
        if not of_each_cell:
            return {trial.number for trial in ranked[len(cells) :]}
        best: dict[Any, int] = {}
        for trial in ranked:
            best.setdefault(study.cell_of(trial.params), trial.number)
        return {trial.number for trial in ranked} - set(best.values())

    with (
        mock.patch("searchlib.search.pruned_round.halving_rungs", return_value=[1]),
        mock.patch("searchlib.search.pruned_round.halve", losers),
    ):
        yield


def run(settings: Settings) -> list[Table]:
    """The part ``early_stopping``. A repeat has seeds of its own; without --quick one takes half an hour."""
    data, whole = data_of(settings), init_vs_act()
    epochs = 3 if settings.quick else 6
    study = dataclasses.replace(whole, fixed={**whole.fixed, "epochs": epochs}, trials=72 if settings.quick else 288)
    with processes(1) as pool:
        warm = dataclasses.replace(study, trials=36)
        pool.submit(search, warm, "none", Data(data.root, 600)).result()

        def contender(rule: str) -> Callable[[int], Search]:
            return lambda repeat: pool.submit(search, dataclasses.replace(study, seed=repeat), rule, data).result()

        repeats = settings.repeats if settings.quick else max(1, settings.repeats // 2)
        found = in_turn(repeats, {name: contender(rule) for name, rule in RULES.items()})
    table = Table(f"Early stopping: {study.trials} trials of init_vs_act, at most {epochs} epochs, {data.title}")
    goals = [one.best - MARGIN for one in found[FULL]]
    for name, searches in found.items():
        waits = [one.reached(goal) for one, goal in zip(searches, goals, strict=True)]
        there = [
            (wait, wait / (full.reached(goal) or wait))
            for wait, full, goal in zip(waits, found[FULL], goals, strict=True)
            if wait is not None
        ]
        row = (
            {"seconds_to_the_goal": spread(w for w, _ in there), "of_full": spread(r for _, r in there)}
            if there
            else {}
        )
        table.add(
            rule=name,
            total_seconds=spread(one.seconds for one in searches),
            of_full_total=spread(o.seconds / f.seconds for o, f in zip(searches, found[FULL], strict=True)),
            **row,
            reached=f"{len(there)} of {len(waits)}",
            epochs_trained=spread(len(one.points) for one in searches),
            best_minus_full=spread(o.best - f.best for o, f in zip(searches, found[FULL], strict=True)),
        )
    table.notes.append(
        f"The goal: the full search's best validation accuracy less {100 * MARGIN:.1f} points, on any epoch."
    )
    return [table]
