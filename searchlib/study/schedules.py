"""Learning-rate schedules by name: the rate of each epoch, in closed form.

A schedule is a function ``(config, epoch) -> rate`` of the hyperparameters and of the epoch, counted from 1; the rate
is constant within an epoch. To add one: write the function and add it to ``SCHEDULES`` (docs/parts.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol


class Settings(Protocol):
    """The hyperparameters that a schedule may read; ``TrialConfig`` has them all."""

    @property
    def learning_rate(self) -> float: ...
    @property
    def lr_decay(self) -> float: ...
    @property
    def lr_step(self) -> int: ...
    @property
    def epochs(self) -> int: ...


def constant(config: Settings, epoch: int) -> float:
    """``learning_rate`` in every epoch."""
    return config.learning_rate


def cosine(config: Settings, epoch: int) -> float:
    """``learning_rate`` (1 + cos(pi (epoch - 1) / ``epochs``)) / 2: from ``learning_rate`` to 0 along half a cosine.

    Loshchilov & Hutter 2017, equation 5, one period; ``torch.optim.lr_scheduler.CosineAnnealingLR``.
    """
    return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * (epoch - 1) / config.epochs))


def step(config: Settings, epoch: int) -> float:
    """``learning_rate`` times ``lr_decay`` every ``lr_step`` epochs; with ``lr_decay`` 1, its default, it is constant.

    ``torch.optim.lr_scheduler.StepLR``.
    """
    return config.learning_rate * config.lr_decay ** ((epoch - 1) // config.lr_step)


SCHEDULES: dict[str, Callable[[Settings, int], float]] = {
    "constant": constant,
    "cosine": cosine,
    "step": step,
}
