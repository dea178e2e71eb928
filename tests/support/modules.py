"""Modules that studies bring, on the inputs and classes of ``support.alone``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.utils import parametrizations

from support.alone import CLASSES, INPUTS

Make = Callable[[], nn.Module]


class Through(nn.Module):
    """Layers by name, and a function that runs inputs through them."""

    def __init__(self, forward: Callable[[Through, torch.Tensor], torch.Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.function = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self, x)


def two_layers(middle: nn.Module | None = None, wrap: Callable[[nn.Module], nn.Module] = lambda layer: layer):
    return nn.Sequential(
        wrap(nn.Linear(INPUTS, 8)), *([middle] if middle else []), nn.Tanh(), wrap(nn.Linear(8, CLASSES))
    )


def frozen() -> nn.Module:
    module = two_layers()
    module[0].requires_grad_(False)
    return module


def tied() -> nn.Module:
    module = nn.Sequential(*(nn.Linear(INPUTS, INPUTS) for _ in range(2)), nn.Tanh(), nn.Linear(INPUTS, CLASSES))
    module[1].weight = module[0].weight
    return module


def with_buffer() -> nn.Module:
    """Scales by the largest input that it has seen in training."""

    def forward(self: Through, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.largest.copy_(torch.maximum(self.largest, x.detach().abs().amax()))
        return self.linear(x / self.largest)

    module = Through(forward, linear=nn.Linear(INPUTS, CLASSES))
    module.register_buffer("largest", torch.ones(()))
    return module


def branching() -> nn.Module:
    def forward(self: Through, x: torch.Tensor) -> torch.Tensor:
        hidden = self.first(x)
        return self.second(hidden.relu() if hidden.sum() > 0 else hidden.tanh())

    return Through(forward, first=nn.Linear(INPUTS, 8), second=nn.Linear(8, CLASSES))


def recurrent() -> nn.Module:
    return Through(
        lambda self, x: self.last(self.cell(x.view(-1, 3, 4))[0][:, -1]),
        cell=nn.GRU(4, 6, batch_first=True),
        last=nn.Linear(6, CLASSES),
    )


def attending() -> nn.Module:
    def forward(self: Through, x: torch.Tensor) -> torch.Tensor:
        x = x.view(-1, 3, 4)
        return self.last(self.attention(x, x, x, need_weights=False)[0].flatten(1))

    return Through(forward, attention=nn.MultiheadAttention(4, 2, batch_first=True), last=nn.Linear(12, CLASSES))


def convolving() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (3, 2, 2)),
        nn.ConvTranspose2d(3, 6, 2, groups=3),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 4, 3, groups=2),
        nn.Flatten(),
        nn.Linear(4, CLASSES),
    )


def embedding() -> nn.Module:
    return Through(
        lambda self, x: self.last(self.table((x * 4).long().clamp(0, 4)).flatten(1)),
        table=nn.Embedding(5, 2),
        last=nn.Linear(2 * INPUTS, CLASSES),
    )


MODULES: dict[str, Make] = {
    "plain": two_layers,
    "dropout": lambda: two_layers(nn.Dropout(0.4)),
    "batch normalization": lambda: two_layers(nn.BatchNorm1d(8)),
    "layer normalization": lambda: two_layers(nn.LayerNorm(8)),
    "works in place": lambda: nn.Sequential(nn.ReLU(inplace=True), *two_layers()),
    "branches by its values": branching,
    "frozen first layer": frozen,
    "tied weights": tied,
    "buffer": with_buffer,
    "weight normalization": lambda: two_layers(wrap=parametrizations.weight_norm),
    "spectral normalization": lambda: two_layers(wrap=parametrizations.spectral_norm),
    "orthogonal": lambda: two_layers(wrap=parametrizations.orthogonal),
    "weight normalization by a hook": lambda: two_layers(wrap=nn.utils.weight_norm),
    "spectral normalization by a hook": lambda: two_layers(wrap=nn.utils.spectral_norm),
    "recurrent": recurrent,
    "attention": attending,
    "convolutions in groups": convolving,
    "embedding": embedding,
}
