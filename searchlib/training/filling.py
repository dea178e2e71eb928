"""The initializer on a module of the study's own: which of its weights are filled, and how each is set.

Filled are the weights of linear maps: ``Linear``, ``Conv1d`` to ``Conv3d``, ``ConvTranspose1d`` to ``ConvTranspose3d``
and the projections of ``MultiheadAttention``. All other parameters (embeddings, recurrent and bilinear layers,
normalization), and those that the module froze, stay as the module made them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from searchlib.errors import StudyError
from searchlib.networks import Layer
from searchlib.study import TrialConfig
from searchlib.training.network import draw_bias, draw_weight, gain_of, own_draws

POWER_ITERATIONS = 15  # as many as torch's spectral norm makes when it is attached


@dataclass(frozen=True)
class Target:
    """A tensor of a layer that holds one or more weights.

    name: of the weight, for messages. maps: how many weights of equal shape it holds, one below the other. bias: the
    attribute with the bias, which is shared by *shares* equal maps, of which the target's first is number *first*.
    """

    name: str
    layer: nn.Module
    weight: str
    maps: int = 1
    bias: str = "bias"
    shares: int = 1
    first: int = 0


def fill(module: nn.Module, config: TrialConfig, generator: torch.Generator) -> None:
    """Fill the layers of *module* by the trial's initializer, in the order of ``modules()``.

    Nothing is filled where the initializer, its gain and the bias are torch's defaults: torch's own layers have them.

    StudyError where the module has no layer to fill, and where the initializer can't act on one.
    """
    if (config.initializer, config.init_gain, config.bias_init) == ("pytorch_default", 1.0, "default"):
        return
    found = list(targets(module))
    if not found:
        raise StudyError(
            "model: the module has no linear, convolution or attention layer for the initializer to fill; remove "
            "initializer, init_gain and bias_init from the study"
        )
    with torch.no_grad(), own_draws(config, generator):
        for index, target in enumerate(found):
            initialize_layer(target, config, index=index, last=index == len(found) - 1, generator=generator)


def targets(module: nn.Module) -> Iterator[Target]:
    """The weights that an initializer fills, each once, in the order of ``modules()``."""
    seen: set[int] = set()
    for name, layer in module.named_modules():
        for target in _of_layer(name, layer):
            stored = _stored(layer, target.weight)
            free = [value for value in stored if value.requires_grad and value.is_floating_point()]
            if not stored or any(id(value) not in seen for value in free):
                yield target
            seen.update(map(id, stored))


def _stored(layer: nn.Module, attribute: str) -> list[nn.Parameter]:
    """The parameters that a layer's weight is, or is computed from by torch's own means."""
    if parametrize.is_parametrized(layer, attribute):
        return list(layer.get_submodule(f"parametrizations.{attribute}").parameters())
    names = (attribute, f"{attribute}_g", f"{attribute}_v", f"{attribute}_orig")
    return [value for name in names if (value := layer._parameters.get(name)) is not None]


def _of_layer(name: str, layer: nn.Module) -> Iterator[Target]:
    def target(weight: str, **changes: Any) -> Target:
        return Target(f"{name}.{weight}".lstrip("."), layer, weight, **changes)

    if isinstance(layer, (nn.Linear, nn.modules.conv._ConvNd)):
        yield target("weight")
    elif isinstance(layer, nn.MultiheadAttention):
        own = {"bias": "in_proj_bias", "shares": 3}
        if layer.in_proj_weight is not None:
            yield target("in_proj_weight", maps=3, **own)
        else:
            for first, letter in enumerate("qkv"):
                yield target(f"{letter}_proj_weight", first=first, **own)


def initialize_layer(
    target: Target, config: TrialConfig, *, index: int, last: bool, generator: torch.Generator
) -> None:
    """Fill one layer, each of its weights before its bias, with the fans that ``torch.nn.init`` has for the weight.

    A law sees the matrix whose rows are ``weight[i].flatten()``; a transposed convolution's weight is
    ``[in, out / groups, *kernel]``.
    """

    def inputs() -> Tensor:
        raise StudyError(f"initializer {config.initializer!r} looks at data, which works for an MLP only")

    weight = getattr(target.layer, target.weight).detach().clone()
    bias = getattr(target.layer, target.bias)
    trained = any(value.requires_grad for value in _stored(target.layer, target.bias))
    bias = bias.detach().clone() if bias is not None and trained else None
    for place, part in enumerate(weight.chunk(target.maps), start=target.first):
        layer = Layer(
            index=index,
            last=last,
            config=config,
            gain=gain_of(config, last),
            fan_in=part[0].numel(),
            fan_out=len(part) * part[0, 0].numel(),
            generator=generator,
            inputs=inputs,
        )
        part.copy_(draw_weight(len(part), layer.fan_in, layer).view(part.shape))
        if bias is not None:
            own = bias.chunk(target.shares)[place]
            own.copy_(draw_bias(len(own), layer))
    _assign(target, target.weight, weight)
    if bias is not None:
        _assign(target, target.bias, bias)


def _assign(target: Target, attribute: str, value: Tensor) -> None:
    """Make *value* what the layer computes with, also where that is computed from other parameters."""
    layer = target.layer
    if attribute in layer._parameters:
        getattr(layer, attribute).copy_(value)
        return
    try:
        if parametrize.is_parametrized(layer, attribute):
            setattr(layer, attribute, value)
        else:
            _assign_hooked(layer, attribute, value)
    except Exception as error:
        raise StudyError(
            f"model: {target.name} is computed from other parameters, and the initializer can't set it "
            f"({type(error).__name__}: {' '.join(str(error).split())[:200]}); use a parametrization with a "
            "right_inverse, or initialize the layer in the model and remove the initializer from the study"
        ) from error
    if not bool(used(layer, attribute, iterations=POWER_ITERATIONS).isfinite().all()):
        raise ValueError(
            f"model: {target.name} is normalized, and not finite after the initializer, as happens where all weights "
            "of a unit are 0; take another initializer, or a layer without the normalization"
        )


def _assign_hooked(layer: nn.Module, attribute: str, value: Tensor) -> None:
    """Set what torch's older hooks compute the weight from: ``weight_norm``, ``spectral_norm``, ``prune``."""
    own = layer._parameters
    if (length := own.get(f"{attribute}_g")) is not None and (direction := own.get(f"{attribute}_v")) is not None:
        direction.copy_(value)
        over = [d for d in range(length.dim()) if length.shape[d] == 1]
        length.copy_(value.square().sum(over, keepdim=True).sqrt() if over else value.norm())
    elif (original := own.get(f"{attribute}_orig")) is not None:
        original.copy_(value)
    else:
        raise ValueError(f"{type(layer).__name__} has no parameter {attribute!r}")


def used(layer: nn.Module, attribute: str = "weight", *, iterations: int = 1) -> Tensor:
    """The weight that the layer computes with now.

    iterations: of spectral norms, whose vectors are brought up to date where this is more than 1.
    """
    hooks = [
        hook
        for hook in layer._forward_pre_hooks.values()
        if getattr(hook, "name", getattr(hook, "_tensor_name", None)) == attribute
        and (hasattr(hook, "compute_weight") or isinstance(hook, prune.BasePruningMethod))
    ]
    with torch.no_grad():
        for _ in range(iterations):
            for hook in hooks:
                hook(layer, ())
            value: Tensor = getattr(layer, attribute)
    return value.detach()


def matrices(module: nn.Module) -> dict[str, Tensor]:
    """The weights of more than one dimension that the layers compute with, by name, in the order of ``modules()``."""
    found = {}
    for name, layer in module.named_modules():
        own = [attribute for attribute in layer._parameters if attribute.endswith("weight")]
        for attribute in own or ["weight"]:
            if isinstance(getattr(layer, attribute, None), Tensor) and (value := used(layer, attribute)).dim() > 1:
                found[f"{name}.{attribute}".lstrip(".")] = value
    return found
