"""What stands between the linear layers of a stack: which trials share an activation, and noise by trial."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from searchlib.networks import Activation, get_activation
from searchlib.study import TrialConfig, encode


def activation_key(config: TrialConfig) -> tuple[str, ...]:
    """Trials with equal keys share one call of their activation."""
    fields = get_activation(config.activation).fields
    return (str(encode(config.activation)), *(repr(getattr(config, name)) for name in fields))


def shared_activations(configs: Sequence[TrialConfig]) -> Iterator[tuple[int, int, Activation, nn.Module]]:
    """(start, stop, activation, its module) of neighbours that share an activation."""
    start = 0
    for stop in range(1, len(configs) + 1):
        if stop == len(configs) or activation_key(configs[stop]) != activation_key(configs[start]):
            yield start, stop, get_activation(configs[start].activation), configs[start].build_activation().eval()
            start = stop


def rrelu(signal: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """torch.nn.RReLU in training on ``[K, width, B]``, each trial's noise drawn as the module would alone.

    generators: one a trial; the module itself has only torch's global one.
    """
    return torch.stack([_rrelu(one.T, generator).T for one, generator in zip(signal, generators, strict=True)])


def _rrelu(signal: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.empty_like(signal, memory_format=torch.contiguous_format)
    result: Tensor = torch.ops.aten.rrelu_with_noise(signal.contiguous(), noise, 1 / 8, 1 / 3, True, generator)
    return result


def dropout(signal: Tensor, probabilities: Sequence[float], generators: Sequence[torch.Generator]) -> Tensor:
    """torch.nn.Dropout in training on ``[K, width, B]``, each trial's mask drawn as the module would alone."""
    masks = [
        torch.empty_like(one.T, memory_format=torch.contiguous_format)
        .bernoulli_(1.0 - probability, generator=generator)
        .div_(1.0 - probability)
        for one, probability, generator in zip(signal, probabilities, generators, strict=True)
    ]
    return signal * torch.stack(masks).transpose(1, 2)
