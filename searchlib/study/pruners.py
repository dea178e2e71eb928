"""Pruners by name, without Optuna: what ``searchlib.search`` builds for each.

Pruning compares trials of one scientific cell only, whichever pruner decides. To add one of Optuna's: add one line to
``PRUNERS`` (docs/parts.md). A study file may also pass a function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Pruner:
    """Which trials stop early: those that a pruner of Optuna stops, or the worse half of each cell's at each rung.

    summary: its line in the reference.
    optuna: the name of a class in ``optuna.pruners``.
    arguments: its arguments.
    epochs: its argument that takes the most epochs of a trial.
    bracket: of successive halving, the least number of trials of a cell that compete with each other; 0: no halving.
    function: used instead of a class, for a pruner of a study file: from nothing to Optuna's pruner.
    """

    summary: str = ""
    optuna: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    epochs: str = ""
    bracket: int = 0
    function: Callable[[], Any] | None = None


PRUNERS: dict[str, Pruner] = {
    "asha": Pruner(
        summary="Asynchronous successive halving (Li et al. 2020).",
        optuna="SuccessiveHalvingPruner",
        arguments={"min_resource": 1},
    ),
    "hyperband": Pruner(
        summary="Successive halving in several brackets (Li et al. 2018).",
        optuna="HyperbandPruner",
        arguments={"min_resource": 1},
        epochs="max_resource",
    ),
    "median": Pruner(
        summary="A trial stops when its best value so far is worse than the median of the others at that epoch.",
        optuna="MedianPruner",
    ),
    "none": Pruner(
        summary="Every trial runs to its end.",
    ),
    "within_cell": Pruner(
        summary="Synchronous successive halving among the points of each cell (Jamieson & Talwalkar 2016).",
        bracket=8,
    ),
}


def get_pruner(name: str | Callable[[], Any]) -> Pruner:
    """The pruner of that name, or a function of a study file wrapped as one."""
    return PRUNERS[name] if isinstance(name, str) else Pruner(function=name)
