"""Networks as plain ``torch.nn`` modules: what a stack's slice is, rebuilt alone.

The names of the parts (``linear0.weight``, ``norm0.running_mean``, ``activation0.weight``) are those of a stack's
parameters too, so one trial's slice of a stack is the state dict of ``build_mlp``'s module.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from typing import TYPE_CHECKING

from searchlib.data import Dataset
from searchlib.errors import StudyError
from searchlib.networks import BIASES, Layer, get_initializer, recommended_gain
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

    fill = get_initializer(config.initializer)
    activation = config.build_activation().eval()
    layers: list[tuple[torch.Tensor, torch.Tensor]] = []

    @torch.no_grad()
    def inputs() -> torch.Tensor:
        signal = probe.float()
        for weight, bias in layers:
            signal = signal @ weight.T + bias
            if config.batch_norm:
                signal = torch.nn.functional.batch_norm(signal, None, None, training=True)
            signal = activation(signal)
        return signal

    with torch.no_grad():
        for index, (fan_in, fan_out) in enumerate(pairwise(sizes)):
            last = index == len(sizes) - 2
            layer = Layer(
                index=index, last=last, config=config, gain=_gain(config, last), generator=generator, inputs=inputs
            )
            weight = torch.empty(fan_out, fan_in)
            fill(weight, layer)
            bias = torch.empty(fan_out)
            _fill_bias(bias, fan_in, layer)
            layers.append((weight, bias))
    return [(weight.to(dtype), bias.to(dtype)) for weight, bias in layers]


def initialize_layer(
    module: torch.nn.Linear | torch.nn.modules.conv._ConvNd,
    config: TrialConfig,
    *,
    index: int,
    last: bool,
    generator: torch.Generator,
) -> None:
    """Fill one layer of a module of the study's own; a convolution's fan_in is channels times kernel size."""
    import torch

    def inputs() -> torch.Tensor:
        raise StudyError(f"initializer {config.initializer!r} looks at data, which works for an MLP only")

    fill = get_initializer(config.initializer)
    layer = Layer(index=index, last=last, config=config, gain=_gain(config, last), generator=generator, inputs=inputs)
    with torch.no_grad():
        weight = torch.empty(module.weight.shape[0], module.weight[0].numel())
        fill(weight, layer)
        module.weight.copy_(weight.view(module.weight.shape))
        if module.bias is not None:
            bias = torch.empty(weight.shape[0])
            _fill_bias(bias, weight.shape[1], layer)
            module.bias.copy_(bias)


def _fill_bias(bias: torch.Tensor, fan_in: int, layer: Layer) -> None:
    kind = layer.config.bias_init
    law = get_initializer(layer.config.initializer).bias if kind == "default" else BIASES[kind]
    law(bias, fan_in, layer)


def _gain(config: TrialConfig, last: bool) -> float:
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
    return module


def check_outputs(outputs: object, count: int, width: int) -> None:
    """ValueError unless *outputs*, what a module returned for *count* inputs, is a tensor ``[count, width]``."""
    import torch

    if not isinstance(outputs, torch.Tensor) or outputs.shape != (count, width):
        found = list(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
        raise ValueError(f"it returned {found}, expected a tensor [{count}, {width}]: [examples, outputs]")
