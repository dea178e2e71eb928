"""Activations of a study's own, of many kinds, and a trial of one alone: the function itself in plain torch.nn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from searchlib.training.loop import Tensors
from searchlib.training.stack import Member
from support.alone import DATA, plain_network, train_alone

WIDTH = 6


def gated(x):
    return x * torch.softmax(x, dim=1)


def gated_last(x):
    return x * torch.softmax(x, dim=-1)


def over_the_batch(x):
    return x * torch.softmax(x, dim=0)


def inplace(x):
    return F.relu(x, inplace=True)


def normed(x):
    return F.layer_norm(x, (WIDTH,))


def centred(x):
    return torch.tanh(x - x.mean(dim=1, keepdim=True))


def centred_over_the_batch(x):
    return torch.tanh(x - x.mean(dim=0))


def standardized(x):
    return torch.tanh((x - x.mean()) / (x.std() + 1.0))


def summed(x):
    return x.cumsum(dim=1).tanh()


def ordered(x):
    return torch.sort(x, dim=1).values.tanh()


def largest(x):
    return torch.where(x >= x.topk(2, dim=1).values[:, -1:], x, 0.0 * x)


def in_pairs(x):
    return x.view(len(x), -1, 2).amax(dim=2).repeat_interleave(2, dim=1)


def by_place(x):
    return x * torch.linspace(0.5, 1.5, x.shape[1], dtype=x.dtype)


def by_count(x):
    return x.tanh() / len(x)


def by_branch(x):
    return torch.tanh(x) if bool(x.mean() > 0) else torch.relu(x)


def mixed(x):
    return torch.tanh(x @ torch.ones(x.shape[1], x.shape[1], dtype=x.dtype) / x.shape[1])


def by_dimensions(x):
    return x * torch.softmax(x, dim=1) if x.dim() == 2 else torch.relu(x)


def by_width(x):
    return x * torch.softmax(x, dim=1) if x.shape[-1] == WIDTH else torch.relu(x)


def finite_only(x):
    return torch.tanh(x) if bool(x.isfinite().all()) else torch.relu(x)


class Bent(torch.autograd.Function):
    """tanh, whose gradient isn't linear in the gradient that comes in: *bend* changes it."""

    @staticmethod
    def forward(ctx, x, bend):
        y = torch.tanh(x)
        ctx.save_for_backward(y)
        ctx.bend = bend
        return y

    @staticmethod
    def backward(ctx, gradient):
        (y,) = ctx.saved_tensors
        return ctx.bend(gradient * (1 - y * y)), None


def shortened(x):
    """The gradient is cut to the length 0.1 over the whole tensor."""
    return Bent.apply(x, lambda gradient: gradient * min(1.0, float(0.1 / gradient.norm().clamp(min=1e-12))))


def clipped(x):
    return Bent.apply(x, lambda gradient: gradient.clamp(-1e-3, 1e-3))


def step_function(x):
    return (x > 0).to(x.dtype)


def noisy(x):
    return x.tanh() + 0.1 * torch.randn_like(x)


def dropping(x):
    return F.dropout(torch.relu(x), 0.3)


def seldom_dropping(x):
    return F.dropout(torch.relu(x), 1e-7)


ALONE: list[Callable[[Any], Any]] = [
    gated, gated_last, over_the_batch, normed, centred, centred_over_the_batch, standardized, summed, ordered, largest,
    in_pairs, by_place, by_count, by_branch, mixed, by_dimensions, by_width, finite_only, shortened, noisy, dropping,
    seldom_dropping,
]  # fmt: skip


def wave(x):
    return 0.5 * x + torch.sin(3.0 * x)


def steep(x):
    return x.sub_(0.1).mul_(2.0).tanh_()


def piecewise(x):
    return torch.where(x > 1.0, x, x**3)


def by_mode(x):
    return torch.tanh(x) if torch.is_grad_enabled() else torch.relu(x)


ELEMENTWISE: list[Callable[[Any], Any]] = [
    inplace, wave, steep, piecewise, by_mode, clipped, step_function, F.gelu, torch.sin, F.softsign,
]  # fmt: skip


class Raw(nn.Module):
    """An activation as a user writes it into nn.Module.forward."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Plain(nn.Module):
    """A plain network in which own functions stand as they are; each evaluation draws from torch's seed 0."""

    def __init__(self, member: Member, data: Tensors) -> None:
        super().__init__()
        layers = list(plain_network(member, data))
        own = callable(member.config.activation)
        linear = (nn.Linear, nn.BatchNorm1d, nn.Dropout)
        raw = [layer if isinstance(layer, linear) or not own else Raw(member.config.activation) for layer in layers]
        self.layers = nn.Sequential(*raw)

    def forward(self, x):
        if self.training:
            return self.layers(x)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.layers(x)


def train_plain(member: Member, data: Tensors = DATA) -> tuple[nn.Module, list[dict[str, float]]]:
    return train_alone(member, data, network=Plain(member, data))
