"""Which trials stop early: Optuna's pruners and successive halving, within a cell only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from searchlib.analysis import search_of
from searchlib.search.overlay import OverlayStorage
from searchlib.search.samplers import checked_kind
from searchlib.study import Study, get_pruner


def make_pruner(study: Study, epochs: int) -> optuna.pruners.BasePruner | None:
    """The study's pruner, or None. *epochs* is the most that a trial runs: rungs don't depend on what ran before."""
    entry = get_pruner(study.pruner)
    if entry.function is not None:
        own: optuna.pruners.BasePruner = checked_kind(entry.function(), optuna.pruners.BasePruner, "pruner")
        return own
    if not entry.optuna:  # with successive halving whole brackets train in step: see halving_rungs and halve
        return None
    named: optuna.pruners.BasePruner = getattr(optuna.pruners, entry.optuna)(
        **entry.arguments, **({entry.epochs: epochs} if entry.epochs else {})
    )
    return named


def halving_rungs(study: Study, epochs: int) -> list[int]:
    """The epochs after which successive halving drops half of each cell's points: 1, 2, 4, ... below *epochs*."""
    if not get_pruner(study.pruner).bracket:
        return []
    return [2**power for power in range(epochs.bit_length()) if 2**power < epochs]


def halve(study: Study, points: Sequence[tuple[FrozenTrial, float | None]]) -> set[int]:
    """Numbers of the trials that leave at a rung: the worse half of each cell of each search, rounded down.

    points: the trials that entered the rung, each with its best value so far, or None. Successive halving (Jamieson &
    Talwalkar 2016) with eta = 2, every cell a bracket of its own; of equal values the first stays.
    """
    cells: dict[Any, list[tuple[float, int]]] = {}
    sign = -1.0 if study.direction == "maximize" else 1.0
    for trial, value in points:
        rank = float("inf") if value is None else sign * value
        cells.setdefault((search_of(trial), study.cell_of(trial.params)), []).append((rank, trial.number))
    return {number for members in cells.values() for _, number in sorted(members)[(len(members) + 1) // 2 :]}


def prunes(pruner: optuna.pruners.BasePruner, study: Study, view: OverlayStorage, trial_id: int) -> bool:
    """Whether *pruner* would stop a trial, seeing only trials of the same scientific cell."""
    trial = view.get_trial(trial_id)
    view.cell, view.search = dict(study.cell_of(trial.params)), search_of(trial)
    try:
        return pruner.prune(view.study(pruner=pruner), trial)
    finally:
        view.cell, view.search = {}, 0
