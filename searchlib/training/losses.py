"""Losses and predictions of a stack."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor


def losses(outputs: Tensor, targets: Tensor) -> Tensor:
    """The loss of each trial and example, ``[K, B]``, from outputs ``[K, C, B]``.

    Cross-entropy for class indices ``[B]``; for real targets ``[B, C]`` the squared error, averaged over C. Where each
    trial has targets of its own they are ``[K, B]`` and ``[K, B, C]``.
    """
    trials, _, batch = outputs.shape
    if targets.is_floating_point():
        return (outputs - targets.mT).square().mean(dim=1)
    return F.cross_entropy(outputs, targets.expand(trials, batch), reduction="none")


def is_right(outputs: Tensor, targets: Tensor) -> Tensor:
    """Which examples each trial gets right, ``[K, B]``, from outputs ``[K, C, B]`` and classes, ``[B]`` or ``[K, B]``.

    Right is the class with the largest output, of equal ones the first, as ``argmax`` has it: a network that gives all
    classes the same is right by chance only. An example with a NaN among its outputs is wrong.
    """
    largest, classes = outputs.max(dim=1)
    return (classes == targets) & (largest == largest)


def predicted(outputs: Tensor) -> Tensor:
    """The class of the largest output, of equal ones the first: ``[K, C, B]`` to ``[K, B]``."""
    return outputs.max(dim=1).indices  # on a CPU many times faster than argmax, with the same answer


def losses_and_gradients(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """``losses``, and the gradient of each by its outputs, ``[K, C, B]``."""
    trials, classes, batch = outputs.shape
    if targets.is_floating_point():
        error = outputs - targets.mT
        return error.square().mean(dim=1), error.mul_(2.0 / classes)
    one_hot = _one_hot_rows(classes, outputs.dtype, outputs.device)
    logarithms = outputs.log_softmax(dim=1)
    loss = -logarithms.gather(1, targets.expand(trials, batch).unsqueeze(1)).view(trials, batch)
    rows = one_hot.index_select(0, targets.flatten()).view(*targets.shape, classes)
    return loss, logarithms.exp_().sub_(rows.mT)


@functools.lru_cache(maxsize=8)
def _one_hot_rows(classes: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.eye(classes, dtype=dtype, device=device)
