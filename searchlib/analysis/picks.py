"""The best configuration that each search found for a cell, and how it did on fresh seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from searchlib.analysis.findings import Pick
from searchlib.analysis.standing import Cell
from searchlib.analysis.statistics import mean_interval
from searchlib.study import Study

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


def picks_of(study: Study, cell: Cell, members: Sequence[FrozenTrial], values: Mapping[int, float]) -> tuple[Pick, ...]:
    """What each search found for a cell. values: of its replicates that learnt."""
    numbered, found = {trial.number: trial for trial in members}, []
    for place, number in enumerate(cell.picks):
        if number is None:
            continue
        trial = numbered[number]
        own = [value for replicate, value in values.items() if (replicate - 1) % study.searches == place]
        scientific = dict(cell.key)
        found.append(
            Pick(
                search=place + 1,
                trial=number,
                nuisance={name: value for name, value in trial.params.items() if name not in scientific},
                search_best=trial.values[0],
                n=len(own),
                mean=mean_interval(own)[0] if own else None,
            )
        )
    return tuple(found)


def best_pick(study: Study, picks: Sequence[Pick]) -> Pick | None:
    """Of the configurations of several searches the best on fresh seeds, of equal ones the first."""
    sign = 1.0 if study.direction == "maximize" else -1.0
    means = [(sign * pick.mean, pick) for pick in picks if pick.mean is not None] if study.searches > 1 else []
    return max(means, key=lambda one: one[0], default=(0.0, None))[1]
