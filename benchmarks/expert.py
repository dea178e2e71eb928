"""The expert loop: plain torch.nn and torch.optim, the data as tensors in memory, one thread, a process a core."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.problem import Data, model, order, tensors
from searchlib.study.config import TrialConfig
from searchlib.training.loop import Tensors
from searchlib.training.stack import Member


def prepare(data: Data) -> None:
    """Once a process: one thread, no denormals, the data in memory, the code warm."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    tensors(data)


def expert_optimizer(module: torch.nn.Module, config: TrialConfig) -> torch.optim.SGD:
    """Fused: the fastest here of fused, foreach and neither."""
    return torch.optim.SGD(
        module.parameters(), config.learning_rate, momentum=config.momentum, nesterov=config.nesterov, fused=True
    )


def expert_epoch(
    module: torch.nn.Module, optimizer: torch.optim.Optimizer, data: Tensors, order: Tensor, batch_size: int
) -> None:
    """Train through the data once.

    Batches are gathered one by one: a small one stays in the cache, and the whole epoch at once is no faster.
    """
    for batch in order.split(batch_size):
        optimizer.zero_grad(set_to_none=True)
        inputs, targets = data.train_inputs.index_select(0, batch), data.train_targets.index_select(0, batch)
        F.cross_entropy(module(inputs), targets).backward()
        optimizer.step()


@torch.inference_mode()
def expert_evaluation(module: torch.nn.Module, data: Tensors) -> tuple[float, float]:
    """Mean loss and accuracy on the validation images."""
    loss, correct = 0.0, 0
    for inputs, targets in zip(data.val_inputs.split(2000), data.val_targets.split(2000), strict=True):
        outputs = module(inputs)
        loss += float(F.cross_entropy(outputs, targets, reduction="sum"))
        correct += int((outputs.argmax(dim=1) == targets).sum())
    return loss / len(data.val_targets), correct / len(data.val_targets)


def expert_trial(
    member: Member, data: Tensors, epochs: int, report: Callable[[float], None] = lambda accuracy: None
) -> list[float]:
    """One trial: its validation accuracy after each epoch, which *report* is told too."""
    module = model(member, data)
    optimizer = expert_optimizer(module, member.config)
    accuracy = []
    for epoch in range(1, epochs + 1):
        expert_epoch(module, optimizer, data, order(0, epoch, len(data.train_inputs)), member.config.batch_size)
        accuracy.append(expert_evaluation(module, data)[1])
        report(accuracy[-1])
    return accuracy


def expert_job(member: Member, data: Data, epochs: int) -> tuple[int, list[float]]:
    """``expert_trial`` in a process of ``prepare``: the trial's number and its accuracies."""
    return member.number, expert_trial(member, tensors(data), epochs)
