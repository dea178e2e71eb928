"""Networks as plain ``torch.nn`` modules: what a stack's slice is, rebuilt alone.

The names of the parts (``linear0.weight``, ``norm0.running_mean``, ``activation0.weight``) are those of a stack's
parameters too, so one trial's slice of a stack is the state dict of ``build_mlp``'s module.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from searchlib.activations import get_activation
from searchlib.errors import StudyError
from searchlib.trial import check_field

if TYPE_CHECKING:
    import torch

    from searchlib.data import Dataset, Examples
    from searchlib.trial import TrialConfig

__all__ = ["MLP", "ModuleFactory", "build_mlp", "build_module", "input_scale", "predictor", "restore"]

ModuleFactory = Callable[["TrialConfig", "Dataset"], "torch.nn.Module"]


@dataclass(frozen=True, kw_only=True)
class MLP:
    """A multilayer perceptron: its hidden widths, where the study's hyperparameters don't say otherwise."""

    hidden: tuple[int, ...] = (100,)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", check_field("hidden", self.hidden))


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
        parts[f"activation{index}"] = get_activation(config.activation).build(config)
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


def input_scale(kind: str, dataset: Dataset, train: Examples) -> tuple[float, float]:
    """(factor, offset) of the linear map from raw inputs to what the network sees.

    'unit' and 'symmetric' map the smallest raw value, which is 0 unless the data set says otherwise, to 0 or -1 and the
    largest to 1. 'standard' takes the mean and deviation over all inputs of the *training* split, as one number each.
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
    """Mean and deviation in float64, block by block: no copy of the data at eight bytes a value."""
    count, total, squares = inputs.numel(), 0.0, 0.0
    for block in inputs.split(4096):
        values = block.double()
        total += float(values.sum())
        squares += float((values * values).sum())
    mean = total / count
    return mean, max(squares / count - mean**2, 0.0) ** 0.5


def predictor(module: torch.nn.Module, *, factor: float, offset: float, classify: bool) -> torch.nn.Module:
    """*module* with its input scaling in front and, with *classify*, softmax behind: raw inputs to soft decisions."""
    import torch
    from torch import nn

    class Predictor(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            outputs: Any = self.module(inputs.float() * factor + offset)
            return torch.softmax(outputs, dim=-1) if classify else outputs

    return Predictor().eval()


def restore(
    content: bytes, model: MLP | ModuleFactory, config: TrialConfig, dataset: Dataset, *, classify: bool
) -> torch.nn.Module:
    """The ``predictor`` that a checkpoint holds; content: its bytes, as ``tracking`` wrote them.

    StudyError where the model, as the study file makes it now, has no place for them.
    """
    from safetensors.torch import load

    header_size = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + header_size])["__metadata__"]
    try:
        module = build_module(model, config, dataset)
        module.load_state_dict(load(content))
    except Exception as error:  # the factory may raise whatever it likes
        said = " ".join(str(error).split())[:300]
        raise StudyError(f"model: the checkpoint can't be loaded into it ({said}); restore the study file") from error
    return predictor(module, factor=float(metadata["factor"]), offset=float(metadata["offset"]), classify=classify)
