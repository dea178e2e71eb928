"""The training loop: a generator of epochs. It knows nothing of Optuna, MLflow or the terminal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from searchlib.models import input_scale
from searchlib.training.stack import accumulator
from searchlib.trial import derive_seed

if TYPE_CHECKING:
    from searchlib.data import Dataset, Examples, Split
    from searchlib.training.stack import Member

__all__ = ["EpochResult", "Tensors", "Trainable", "prepare", "train"]

PROBE_SIZE = 512


@dataclass(frozen=True, kw_only=True)
class Tensors:
    """A split as tensors on the device: scaled inputs ``[N, inputs]``, targets ``[N]`` or ``[N, outputs]``."""

    train_inputs: Tensor
    train_targets: Tensor
    val_inputs: Tensor
    val_targets: Tensor
    factor: float
    offset: float

    @property
    def probe(self) -> Tensor:
        """A fixed batch of training inputs, for initializers that look at data."""
        return self.train_inputs[:PROBE_SIZE]


def prepare(
    split: Split,
    dataset: Dataset,
    scaling: str,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    flatten: bool = True,
) -> Tensors:
    """Scale a split and put it on the device, whole. The scale comes from the training split alone."""
    factor, offset = input_scale(scaling, dataset, split.train)

    def inputs(examples: Examples) -> Tensor:
        values = examples.inputs.to(device=device, dtype=dtype, copy=True).mul_(factor).add_(offset)
        return values.flatten(1) if flatten else values

    def targets(examples: Examples) -> Tensor:
        values = examples.targets.to(device)
        return values.to(dtype) if values.is_floating_point() else values

    return Tensors(
        train_inputs=inputs(split.train),
        train_targets=targets(split.train),
        val_inputs=inputs(split.validation),
        val_targets=targets(split.validation),
        factor=factor,
        offset=offset,
    )


class Trainable(Protocol):
    """What the loop trains: a fused ``Stack``, or modules of a study's own, one after another."""

    members: list[Member]
    device: torch.device
    dtype: torch.dtype

    def step(self, inputs: Tensor, targets: Tensor, learning_rate: Tensor) -> Tensor: ...
    def evaluate(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | None]: ...
    def keep(self, kept: Sequence[bool]) -> None: ...
    def state(self, position: int) -> dict[str, Tensor]: ...


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """What one epoch gave, aligned with the stack's members at its end.

    train_loss: mean over the epoch's examples of the loss that each step saw (before its update).
    val_loss, val_accuracy: over the validation split after the epoch; accuracy is None for regression.
    seconds: of the epoch, validation included.
    """

    epoch: int
    train_loss: list[float]
    val_loss: list[float]
    val_accuracy: list[float] | None
    learning_rate: list[float]
    seconds: float


def train(stack: Trainable, data: Tensors, *, order_seed: int) -> Iterator[EpochResult]:
    """Train all members of *stack* for their number of epochs; yield after each.

    Between two epochs the caller may drop members with ``stack.keep``; when none is left the training ends. The
    order of the examples depends on (order_seed, epoch) alone: all trials with one seed see the same batches.
    """
    first = stack.members[0].config
    count = len(data.train_inputs)
    with _denormals_flushed():
        for epoch in range(1, first.epochs + 1):
            if not stack.members:
                return
            started = time.perf_counter()
            rates = [member.config.learning_rate_at(epoch) for member in stack.members]
            rate = torch.tensor(rates, dtype=stack.dtype, device=stack.device)
            generator = torch.Generator().manual_seed(derive_seed(order_seed, "order", epoch))
            order = torch.randperm(count, generator=generator).to(stack.device)
            total = accumulator(len(stack.members), stack.device)
            for batch in order.split(first.batch_size):
                loss = stack.step(data.train_inputs[batch], data.train_targets[batch], rate)
                total += loss * len(batch)
            val_loss, val_accuracy = stack.evaluate(data.val_inputs, data.val_targets)
            yield EpochResult(
                epoch=epoch,
                train_loss=(total / count).tolist(),
                val_loss=val_loss.tolist(),
                val_accuracy=None if val_accuracy is None else val_accuracy.tolist(),
                learning_rate=rates,
                seconds=time.perf_counter() - started,
            )


@contextlib.contextmanager
def _denormals_flushed() -> Iterator[None]:
    """Numbers too small for a normalized float count as 0: a vanishing network would train many times slower."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
