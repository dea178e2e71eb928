"""Trained networks as bytes, and back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from searchlib.data import Dataset
from searchlib.errors import StudyError
from searchlib.seeds import seeded
from searchlib.study import MLP, ModuleFactory, TrialConfig
from searchlib.training.network import build_module, check_outputs

if TYPE_CHECKING:
    import torch


def predictor(module: torch.nn.Module, *, factor: float, offset: float, classify: bool) -> torch.nn.Module:
    """*module* with its input scaling in front and, with *classify*, softmax behind: raw inputs to soft decisions.

    It computes in float32 on the CPU, whatever type and device the module was made for, as it was trained.
    """
    import torch
    from torch import nn

    class Predictor(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module.to("cpu", torch.float32)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            outputs: Any = self.module(inputs.float() * factor + offset)
            outputs = outputs.float() if isinstance(outputs, torch.Tensor) else outputs  # check_outputs refuses others
            return torch.softmax(outputs, dim=-1) if classify else outputs

    return Predictor().eval()


@dataclass(frozen=True)
class Restored:
    """The network of a checkpoint, in float32 on the CPU, in evaluation mode.

    module: from scaled inputs to outputs. scaling: the factor and the offset that scale raw inputs.
    """

    module: torch.nn.Module
    scaling: tuple[float, float]


def restore_module(content: bytes, model: MLP | ModuleFactory, config: TrialConfig, dataset: Dataset) -> Restored:
    """What a checkpoint holds; content: its bytes, as ``tracking`` wrote them.

    StudyError where the model, as the study file makes it now, has no place for them.
    """
    import torch
    from safetensors.torch import load

    try:
        header_size = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + header_size])["__metadata__"]
        with seeded(0):  # whatever the factory draws is overwritten
            module = build_module(model, config, dataset)
        module.load_state_dict(load(content))
    except Exception as error:  # the factory may raise whatever it likes
        said = " ".join(str(error).split())[:300]
        raise StudyError(f"model: the checkpoint can't be loaded into it ({said}); restore the study file") from error
    return Restored(module.to("cpu", torch.float32).eval(), (float(metadata["factor"]), float(metadata["offset"])))


def restore(
    content: bytes, model: MLP | ModuleFactory, config: TrialConfig, dataset: Dataset, *, classify: bool
) -> torch.nn.Module:
    """The ``predictor`` that a checkpoint holds; otherwise like ``restore_module``."""
    restored = restore_module(content, model, config, dataset)
    factor, offset = restored.scaling
    return predictor(restored.module, factor=factor, offset=offset, classify=classify)


def try_network(network: torch.nn.Module, inputs: torch.Tensor, dataset: Dataset, *, single: bool) -> None:
    """ValueError unless a ``predictor`` without softmax can be a champion: on the CPU, in evaluation mode, for a batch.

    inputs: a few raw ones ``[N, *shape]``. single: whether it must work for one example too, as a new study's has to.
    torch's random numbers stay as they are.
    """
    import torch

    for batch in (inputs, inputs[:1]) if single else (inputs,):
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                check_outputs(network(batch.clone()), len(batch), dataset.outputs)
        except Exception as error:  # the module is code of the study's own
            said = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            raise ValueError(
                f"the module can't be evaluated on the CPU with a batch of {len(batch)} ({said})"
            ) from error
