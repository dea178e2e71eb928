"""One trial while it trains: what is known of it after each epoch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from optuna.trial import FrozenTrial

    from searchlib.study import TrialConfig

__all__ = [
    "Keeps",
    "Run",
]


WRITTEN = (
    "started",
    "curves",
    "steps",
    "diagnostics",
    "best",
    "best_epoch",
    "outcome",
    "diverged_step",
    "error",
    "halved",
    "notes",
)


@dataclass
class Run:
    """One trial while it trains.

    order_seed: of the order in which it sees the examples. curves: a point an epoch. steps: a point an evaluation,
    where the study has ``eval_every``. diagnostics: a snapshot at initialization and one an epoch. state: the weights
    of the best epoch, where the run's owner wants them kept. halved: how often its stack was halved for want of
    memory. notes: what a pruner wrote down of it.
    """

    trial: FrozenTrial
    config: TrialConfig
    started: float
    order_seed: int
    curves: list[dict[str, float]] = field(default_factory=list)
    steps: list[dict[str, float]] = field(default_factory=list)
    diagnostics: list[dict[str, float]] = field(default_factory=list)
    best: float | None = None
    best_epoch: int = 0
    state: dict[str, torch.Tensor] | None = None
    outcome: str = "completed"
    diverged_step: int | None = None
    error: str = ""
    halved: int = 0
    notes: dict[str, Any] = field(default_factory=dict)
    recorded: bool = False

    @property
    def number(self) -> int:
        return self.trial.number

    def now(self) -> float:
        """The time, or where the machine's clock was set back, the latest that the run has seen."""
        return self.not_before(time.time())

    def not_before(self, moment: float) -> float:
        """*moment*, or the end of the last epoch where that was later by the machine's clock."""
        return max(moment, self.curves[-1]["time"] if self.curves else self.started)

    def restart(self) -> None:
        """Forget what was found: the run trains again from its start."""
        self.curves, self.steps, self.diagnostics = [], [], []
        self.best, self.best_epoch, self.state = None, 0, None


Keeps = Callable[[Run, float], bool]
