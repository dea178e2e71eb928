"""Networks as plain ``torch.nn`` modules: what a stack's slice is, rebuilt alone.

The names of the parts (``linear0.weight``, ``norm0.running_mean``, ``activation0.weight``) are those of a stack's
parameters too, so one trial's slice of a stack is the state dict of ``build_mlp``'s module.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import TYPE_CHECKING

from searchlib.data import Dataset
from searchlib.errors import StudyError
from searchlib.networks import BIASES, Layer, get_initializer, is_own, recommended_gain
from searchlib.seeds import derive_seed, seeded
from searchlib.study import MLP, ModuleFactory, TrialConfig

if TYPE_CHECKING:
    import torch


def initialize(
    config: TrialConfig,
    sizes: tuple[int, ...],
    *,
    generator: torch.Generator,
    probe: torch.Tensor,
    dtype: torch.dtype,
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Draw the weights and biases of one network, on the CPU.

    sizes: units by layer, ``(inputs, *hidden, outputs)``.
    generator: the trial's own; layers are drawn in order, each weight before its bias.
    probe: a batch of scaled training inputs ``[batch, inputs]`` for initializers that look at data.
    Returns ``(weight [out, in], bias [out])`` by layer.

    Drawn in float32 whatever the dtype, so that a float64 network starts from the same numbers.
    """
    import torch

    activation = config.build_activation().eval()
    layers: list[tuple[torch.Tensor, torch.Tensor]] = []

    @torch.no_grad()
    def inputs() -> torch.Tensor:
        from searchlib.training.elementwise import drawing_in_evaluation

        signal = probe.float()
        for weight, bias in layers:
            signal = signal @ weight.T + bias
            if config.batch_norm:
                signal = torch.nn.functional.batch_norm(signal, None, None, training=True)
            if callable(config.activation):  # it may draw random numbers
                with drawing_in_evaluation():
                    signal = activation(signal)
            else:
                signal = activation(signal)
        return signal

    with torch.no_grad(), own_draws(config, generator):
        for index, (fan_in, fan_out) in enumerate(pairwise(sizes)):
            last = index == len(sizes) - 2
            layer = Layer(
                index=index,
                last=last,
                config=config,
                gain=gain_of(config, last),
                fan_in=fan_in,
                fan_out=fan_out,
                generator=generator,
                inputs=inputs,
            )
            weight = draw_weight(fan_out, fan_in, layer)
            layers.append((weight, draw_bias(fan_out, layer)))
    return [(weight.to(dtype), bias.to(dtype)) for weight, bias in layers]


def draw_weight(rows: int, columns: int, layer: Layer) -> torch.Tensor:
    """A weight ``[rows, columns]`` by the trial's initializer."""
    import torch

    weight = torch.empty(rows, columns)
    get_initializer(layer.config.initializer)(weight, layer)
    return weight


def draw_bias(size: int, layer: Layer) -> torch.Tensor:
    """A bias ``[size]`` by ``bias_init``."""
    import torch

    kind = layer.config.bias_init
    law = get_initializer(layer.config.initializer).bias if kind == "default" else BIASES[kind]
    bias = torch.empty(size)
    law(bias, layer)
    return bias


def own_draws(config: TrialConfig, generator: torch.Generator) -> AbstractContextManager[None]:
    """While a network is drawn: what a study's own initializer draws from global generators follows from the trial."""
    if not is_own(config.initializer):
        return contextlib.nullcontext()
    return seeded(derive_seed(generator.initial_seed(), "initializer"))


def gain_of(config: TrialConfig, last: bool) -> float:
    """The multiplier of a layer's weights; last: whether it is the output layer."""
    if config.init_gain != "recommended":
        return float(config.init_gain)
    if last or get_initializer(config.initializer).knows_activation:
        return 1.0
    return recommended_gain(config.activation, **config.activation_fields)


def layer_sizes(config: TrialConfig, inputs: int, outputs: int) -> tuple[int, ...]:
    """Units by layer: ``(inputs, *hidden, outputs)``."""
    return (inputs, *config.widths, outputs)


def build_mlp(config: TrialConfig, inputs: int, outputs: int) -> torch.nn.Sequential:
    """The network of *config*, untrained: [batch, ...] of *inputs* numbers to [batch, outputs].

    Each hidden layer is Linear, BatchNorm1d (with ``batch_norm``), activation, Dropout (with ``dropout``).
    """
    from torch import nn

    sizes = layer_sizes(config, inputs, outputs)
    parts: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for index, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        parts[f"linear{index}"] = nn.Linear(fan_in, fan_out)
        if index == len(sizes) - 2:
            break
        if config.batch_norm:
            parts[f"norm{index}"] = nn.BatchNorm1d(fan_out)
        parts[f"activation{index}"] = config.build_activation()
        if config.dropout:
            parts[f"dropout{index}"] = nn.Dropout(config.dropout)
    return nn.Sequential(parts)


def build_module(model: MLP | ModuleFactory, config: TrialConfig, dataset: Dataset) -> torch.nn.Module:
    """The module of one trial: the study's MLP, or what the study's own factory makes of the configuration."""
    if isinstance(model, MLP):
        return build_mlp(config, dataset.inputs, dataset.outputs)
    from torch import nn

    module = model(config, dataset)
    if not isinstance(module, nn.Module):
        raise StudyError(f"model: the factory returned {type(module).__name__}; expected a torch.nn.Module")
    if lazy := [name for name, value in module.state_dict().items() if nn.parameter.is_lazy(value)]:
        raise StudyError(
            f"model: {lazy[0]} has no shape before the first batch; in the factory, run a batch through the module "
            "before returning it: module(torch.zeros(2, *dataset.shape))"
        )
    return module


def check_outputs(outputs: object, count: int, width: int) -> None:
    """ValueError unless *outputs*, what a module returned for *count* inputs, is a tensor ``[count, width]``."""
    import torch

    if not isinstance(outputs, torch.Tensor) or outputs.shape != (count, width):
        found = list(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
        raise ValueError(f"it returned {found}, expected a tensor [{count}, {width}]: [examples, outputs]")
