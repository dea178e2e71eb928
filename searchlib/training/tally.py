"""What the steps of an epoch gave, summed up in bulk."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Tally", "accumulator_dtype"]

STEPS_AT_ONCE = 64


class Tally:
    """The losses and the right examples of each step, summed over its batch.

    What the steps gave is kept as it comes and summed up for ``STEPS_AT_ONCE`` of them: sums in every step would cost
    as much as some of its products. Nothing here makes the host wait for a device.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[Tensor, Tensor | None]] = []
        self._losses: list[Tensor] = []
        self._rights: list[Tensor] = []

    def add(self, losses: Tensor, right: Tensor | None) -> None:
        """What a step gave (``Trainable.step``): each example's loss, and whether it is right, ``[K, B]``."""
        if self._waiting and (len(self._waiting) == STEPS_AT_ONCE or losses.shape != self._waiting[0][0].shape):
            self._sum_up()
        self._waiting.append((losses, right))

    def sums(self) -> tuple[Tensor, Tensor | None]:
        """By step, ``[steps, K]``: the sum of the losses, and how many examples are right, None where no step said it.

        An example whose loss is NaN isn't right.
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
    """What to sum up in: float64, but on Apple's MPS, which has none, float32."""
    return torch.float32 if device.type == "mps" else torch.float64
