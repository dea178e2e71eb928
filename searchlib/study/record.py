"""What one trial gave, and where the work stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from searchlib.study.config import TrialConfig

__all__ = [
    "Progress",
    "TrialRecord",
]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where the work stands after an epoch of a stack or after a stack.

    phase: ``search`` or ``replicates``; the counts are the phase's own. done: trials finished; target: trials
    wanted. fraction: of the phase, epochs counted. stack: trials in training, epoch of epochs. finished: what ended.
    """

    phase: str
    done: int
    target: int
    fraction: float
    stack: int
    epoch: int
    epochs: int
    finished: Sequence[TrialRecord] = ()


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """What one trial gave.

    value: the objective as Optuna gets it; best: the best epoch's, None if no epoch was finite.
    curves: by epoch, each with epoch, train_loss, val_loss, learning_rate, time (seconds) and, for classification,
    train_accuracy and val_accuracy. steps: the same by evaluation, with step instead of epoch and without the learning
    rate, where the study has ``eval_every``. diagnostics: a snapshot at initialization, then one an epoch; diagnosis:
    what they say, in words.
    diverged_step: the step at which the loss first became infinite or NaN.
    pruner_notes: what the pruner wrote down of the trial, for its later decisions.
    state: the best epoch's weights, for a trial that led the study when it ended.
    """

    number: int
    trial_id: int
    params: dict[str, Any]
    config: TrialConfig
    seed: int
    outcome: str
    error: str
    value: float
    best: float | None
    best_epoch: int
    curves: list[dict[str, float]]
    diagnostics: list[dict[str, float]]
    diagnosis: list[str]
    diverged_step: int | None
    started: float
    ended: float
    pruner_notes: dict[str, Any]
    state: dict[str, torch.Tensor] | None
    factor: float
    offset: float
    steps: list[dict[str, float]] = field(default_factory=list)
