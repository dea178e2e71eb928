"""Sums of the losses and correct predictions of an epoch's steps."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Tally", "accumulator_dtype"]

STEPS_AT_ONCE = 64


class Tally:
    """The sum of losses and the number of correct predictions of each step.

    Results are summed for ``STEPS_AT_ONCE`` steps at a time: a sum in every step would cost as much as some of its
    matrix products. Nothing here makes the host wait for a device.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[Tensor, Tensor | None]] = []
        self._losses: list[Tensor] = []
        self._rights: list[Tensor] = []

    def add(self, losses: Tensor, right: Tensor | None) -> None:
        """Add a step (``Trainable.step``): each example's loss, and whether its prediction is correct, ``[K, B]``."""
        if self._waiting and (len(self._waiting) == STEPS_AT_ONCE or losses.shape != self._waiting[0][0].shape):
            self._sum_up()
        self._waiting.append((losses, right))

    def sums(self) -> tuple[Tensor, Tensor | None]:
        """The sum of losses and the number of correct predictions of each step, ``[steps, K]``; the latter None for
        regression.

        A prediction whose loss is NaN isn't correct.
        """
        self._sum_up()
        return torch.cat(self._losses), torch.cat(self._rights) if self._rights else None

    def _sum_up(self) -> None:
        losses = torch.stack([loss for loss, _ in self._waiting])
        self._losses.append(losses.to(accumulator_dtype(losses.device)).sum(dim=2))
        if told := [right for _, right in self._waiting if right is not None]:
            self._rights.append((torch.stack(told) & ~losses.isnan()).sum(dim=2))
        self._waiting = []


def accumulator_dtype(device: torch.device) -> torch.dtype:
    """The dtype of sums: float64, or float32 on Apple's MPS, which has no float64."""
    return torch.float32 if device.type == "mps" else torch.float64
