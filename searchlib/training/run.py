"""One trial in training: what it is, and what is known of it after each epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from searchlib.study import TrialConfig

if TYPE_CHECKING:
    import torch

IN_SNAPSHOT = (  # the fields of a run that a snapshot holds, beside its weights
    "started",
    "curves",
    "steps",
    "diagnostics",
    "best",
    "best_epoch",
    "outcome",
    "diverged_step",
    "error",
    "reason",
    "halved",
    "notes",
)


@dataclass(frozen=True, kw_only=True)
class Task:
    """A trial to train.

    number, trial_id: in its study, and in the storage.
    params: its (encoded) parameters; of a replicate with ``replicate``. config: the configuration that follows.
    seed: of its weights and noise. order_seed: of the order in which it sees the examples. signature: of its
    configuration, as it is stored. split: the number of the split that it trains on, 0 for the study's own (trials of
    one stack share it). finished: whether its result is stored. Such a trial trains again where others of
    its stack are unfinished, since the round-off of a stack depends on all its trials.
    """

    number: int
    trial_id: int
    params: Mapping[str, Any]
    config: TrialConfig
    seed: int
    order_seed: int
    signature: str
    split: int = 0
    finished: bool = False


@dataclass
class Run:
    """One trial while it trains.

    curves: a point an epoch. steps: a point an evaluation,
    where the study has ``eval_every``. diagnostics: one at initialization and one an epoch. state: the weights of the
    best epoch, where ``Keeps`` asked for them. correct: which validation examples these weights classify correctly,
    ``[N]``, where the stack keeps that. halved: how often its stack was halved for want of memory. notes: what a pruner
    wrote of it. error: the traceback of a failed trial; reason: the same in one line. recorded: whether it ended and
    its record was made.
    """

    task: Task
    started: float = field(default_factory=time.time)
    curves: list[dict[str, float]] = field(default_factory=list)
    steps: list[dict[str, float]] = field(default_factory=list)
    diagnostics: list[dict[str, float]] = field(default_factory=list)
    best: float | None = None
    best_epoch: int = 0
    state: dict[str, torch.Tensor] | None = None
    correct: torch.Tensor | None = None
    outcome: str = "completed"
    diverged_step: int | None = None
    error: str = ""
    reason: str = ""
    halved: int = 0
    notes: dict[str, Any] = field(default_factory=dict)
    recorded: bool = False

    @property
    def number(self) -> int:
        return self.task.number

    @property
    def config(self) -> TrialConfig:
        return self.task.config

    def now(self) -> float:
        """The time, or where the machine's clock was set back, the latest that the run has seen."""
        return self.not_before(time.time())

    def not_before(self, moment: float) -> float:
        """*moment*, or the end of the last epoch where that was later by the machine's clock."""
        return max(moment, self.curves[-1]["time"] if self.curves else self.started)

    def restart(self) -> None:
        """Forget all results: the run trains again from its start."""
        self.curves, self.steps, self.diagnostics = [], [], []
        self.best, self.best_epoch, self.state, self.correct = None, 0, None, None


Keeps = Callable[[Run, float], bool]
"""Whether to keep the weights of a run that has just reached this value, its best so far."""
