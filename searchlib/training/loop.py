"""The training loop: a generator of epochs. It knows nothing of Optuna, MLflow or the terminal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from searchlib.errors import StudyError
from searchlib.seeds import derive_seed
from searchlib.training.tally import Tally

if TYPE_CHECKING:
    from searchlib.data import Dataset, Examples, Split
    from searchlib.training.stack import Member

__all__ = [
    "EpochResult",
    "HaltedError",
    "StepResult",
    "Tensors",
    "Trainable",
    "Watcher",
    "denormals_flushed",
    "input_scale",
    "prepare",
    "train",
]


PROBE_SIZE = 512


@dataclass(frozen=True, kw_only=True)
class Tensors:
    """A split as tensors on one device: scaled inputs ``[N, inputs]``, targets ``[N]`` or ``[N, outputs]``."""

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
    """Scale a split and copy it to the device. The scale is computed from the training split alone."""
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
    """What the loop trains: a fused ``Stack``, or the study's own modules, one after another."""

    members: list[Member]
    orders: list[int]  # the seeds of the orders in which the members see the examples
    device: torch.device
    dtype: torch.dtype

    def step(self, inputs: Tensor, targets: Tensor, learning_rate: Tensor) -> tuple[Tensor, Tensor | None]: ...
    def evaluate(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | None]: ...
    def keep(self, kept: Sequence[bool]) -> None: ...
    def state(self, position: int) -> dict[str, Tensor]: ...
    def training_state(self) -> dict[str, Tensor]: ...
    def resume(self, state: Mapping[str, Tensor]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """The results of one evaluation within or at the end of an epoch, in the order of the stack's members.

    step: counted from 1 over the whole training.
    train_loss, train_accuracy: over the examples since the previous evaluation (the end of an epoch is one), each
    computed before the update of its own step.
    val_loss, val_accuracy: over the validation split after the step. Accuracies are None for regression.
    time: of the evaluation, in seconds since the epoch of Unix.
    """

    step: int
    train_loss: list[float]
    train_accuracy: list[float] | None
    val_loss: list[float]
    val_accuracy: list[float] | None
    time: float


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """The results of one epoch, in the order of the stack's members at its end.

    train_loss, train_accuracy: over the epoch's examples, each computed before the update of its own step.
    val_loss, val_accuracy: over the validation split after the epoch. Accuracies are None for regression.
    val_right: which of the N validation examples are then classified correctly, ``[K, N]``, on the stack's device;
    ``val_accuracy`` is its mean. None for regression. Equality leaves it out.
    last_finite_step: the last step, counted from 1 over the whole training, before the first infinite or NaN training
    loss; the number of steps so far where there was none.
    diagnostics: the statistics of each member's network; empty without a watch.
    steps: the evaluations after steps whose number is a multiple of ``eval_every``.
    seconds: duration of the epoch, validation included.
    """

    epoch: int
    train_loss: list[float]
    train_accuracy: list[float] | None
    val_loss: list[float]
    val_accuracy: list[float] | None
    val_right: Tensor | None = field(compare=False)
    learning_rate: list[float]
    last_finite_step: list[int]
    diagnostics: list[dict[str, float]]
    steps: list[StepResult]
    seconds: float


class Watcher(Protocol):
    """Measures networks while they train without changing them (``searchlib.training.watch.Watch``)."""

    def remember(self, stack: Trainable) -> None: ...
    def measure(self, stack: Trainable) -> list[dict[str, float]]: ...


class HaltedError(Exception):
    """Training was stopped in the middle of an epoch, whose results are lost."""


def train(
    stack: Trainable,
    data: Tensors,
    *,
    watch: Watcher | None = None,
    halted: Callable[[], bool] = lambda: False,
    first: int = 1,
    eval_every: int | None = None,
) -> Iterator[EpochResult]:
    """Train all members of *stack* for their number of epochs; yield the results of each epoch.

    Between two epochs the caller may drop members with ``stack.keep``; training ends when none is left. The order of
    the examples depends on (order_seed, epoch) alone: all members with one seed see the same batches.

    watch: called with the stack before the last step of each epoch and after it.
    halted: called before each step; HaltedError is raised when it returns True.
    first: the first epoch to train, for a stack that resumes.
    eval_every: also evaluate after each step whose number is a multiple of it. The training stays the same bit for bit.
    """
    for epoch in range(first, stack.members[0].config.epochs + 1):
        if not stack.members:
            return
        yield _epoch(stack, data, epoch, watch, halted, eval_every)


def _epoch(
    stack: Trainable,
    data: Tensors,
    epoch: int,
    watch: Watcher | None,
    halted: Callable[[], bool],
    eval_every: int | None,
) -> EpochResult:
    started = time.perf_counter()
    count, batch_size = len(data.train_inputs), stack.members[0].config.batch_size
    rates = [member.config.learning_rate_at(epoch) for member in stack.members]
    rate = torch.tensor(rates, dtype=stack.dtype, device=stack.device)
    order = torch.stack([_order(seed, epoch, count) for seed in stack.orders]).to(stack.device)
    batches = order.split(batch_size, dim=1)
    before = (epoch - 1) * len(batches)
    evaluated: list[_Evaluated] = []
    tally = Tally()
    with denormals_flushed():
        for step, batch in enumerate(batches):
            if halted():
                raise HaltedError
            if watch is not None and step == len(batches) - 1:
                watch.remember(stack)
            examples = batch.flatten()
            inputs, targets = (tensor.index_select(0, examples) for tensor in (data.train_inputs, data.train_targets))
            tally.add(*stack.step(inputs, targets, rate))
            if eval_every and (before + step + 1) % eval_every == 0 and step < len(batches) - 1:
                drawing = [stack.device] if stack.device.type == "cuda" else []
                with torch.random.fork_rng(devices=drawing):  # own code may draw random numbers
                    evaluated.append(_evaluate(stack, data, step + 1)[0])
        last, val_right = _evaluate(stack, data, len(batches))
        evaluated.append(last)
        diagnostics: list[dict[str, float]] = [{} for _ in rates] if watch is None else watch.measure(stack)
    losses, rights = tally.sums()

    def trained(start: int, stop: int) -> tuple[list[float], list[float] | None]:
        """The training loss and accuracy over the examples of these steps."""
        examples = min(stop * batch_size, count) - start * batch_size
        right = None if rights is None else rights[start:stop].sum(dim=0)
        return (losses[start:stop].sum(dim=0) / examples).tolist(), _shares(right, examples)

    found, start = [], 0
    for one in evaluated:
        train_loss, train_accuracy = trained(start, one.step)
        found.append(
            StepResult(
                step=before + one.step,
                train_loss=train_loss,
                train_accuracy=train_accuracy,
                val_loss=one.loss.tolist(),
                val_accuracy=_shares(one.right, len(data.val_inputs)),
                time=one.time,
            )
        )
        start = one.step
    train_loss, train_accuracy = trained(0, len(batches))
    healthy = losses.isfinite().long().cumprod(dim=0).sum(dim=0)
    return EpochResult(
        epoch=epoch,
        train_loss=train_loss,
        train_accuracy=train_accuracy,
        val_loss=found[-1].val_loss,
        val_accuracy=found[-1].val_accuracy,
        val_right=val_right,
        learning_rate=rates,
        last_finite_step=(healthy + before).tolist(),
        diagnostics=diagnostics,
        steps=[one for one in found if eval_every and one.step % eval_every == 0],
        seconds=time.perf_counter() - started,
    )


def _order(seed: int, epoch: int, count: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(derive_seed(seed, "order", epoch)))


@dataclass(frozen=True)
class _Evaluated:
    """An evaluation after a step of an epoch, counted from 1; its tensors are still on the device.

    loss: the mean, ``[K]``. right: how many examples each member gets right, ``[K]``; None for regression.
    """

    step: int
    loss: Tensor
    right: Tensor | None
    time: float


def _evaluate(stack: Trainable, data: Tensors, step: int) -> tuple[_Evaluated, Tensor | None]:
    """An evaluation, and which examples it found right, ``[K, N]``."""
    loss, right = stack.evaluate(data.val_inputs, data.val_targets)
    return _Evaluated(step, loss, None if right is None else right.sum(dim=1), time.time()), right


def _shares(right: Tensor | None, examples: int) -> list[float] | None:
    return None if right is None else [number / examples for number in right.tolist()]


@contextlib.contextmanager
def denormals_flushed() -> Iterator[None]:
    """Round denormal floats to 0: with them a network with vanishing signals trains many times slower.

    torch's worker threads copy this mode when they start and keep it: enter it before the first parallel operation.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def input_scale(kind: str, dataset: Dataset, train: Examples) -> tuple[float, float]:
    """(factor, offset) of the linear map from raw inputs to what the network sees.

    'unit' maps the range of raw values, from ``dataset.low`` (0 by default) to ``dataset.scale``, to [0, 1], and
    'symmetric' to [-1, 1]. 'standard' subtracts the mean of all inputs of the *training* split and divides by their
    standard deviation, one number each.

    StudyError for 'standard' where all training inputs are equal.
    """
    unit = 1.0 / (dataset.scale - dataset.low)
    if kind == "unit":
        return unit, 0.0 - dataset.low * unit
    if kind == "symmetric":
        return 2.0 * unit, -1.0 - 2.0 * dataset.low * unit
    mean, std = _mean_and_deviation(train.inputs)
    if std == 0.0:
        raise StudyError("input_scaling='standard': the training inputs are all equal; use 'unit'")
    return 1.0 / std, -mean / std


def _mean_and_deviation(inputs: torch.Tensor) -> tuple[float, float]:
    """Mean and standard deviation in float64, block by block, so that no float64 copy of the data is made."""
    count, total, squares = inputs.numel(), 0.0, 0.0
    for block in inputs.split(4096):
        values = block.double()
        total += float(values.sum())
        squares += float((values * values).sum())
    mean = total / count
    return mean, max(squares / count - mean**2, 0.0) ** 0.5
