"""The network of a study: a multilayer perceptron, or a function that makes a module."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from searchlib.data import Dataset
from searchlib.study.config import TrialConfig, check_field

if TYPE_CHECKING:
    import torch

ModuleFactory = Callable[["TrialConfig", "Dataset"], "torch.nn.Module"]
"""Makes a new module for each trial: scaled inputs ``[batch, *shape]`` to ``[batch, outputs]``, in float32.

The trial's initializer fills its linear, convolution and attention layers (``training.filling``); docs/studies.md says
what that means for each kind of layer, and what is refused.
"""


@dataclass(frozen=True, kw_only=True)
class MLP:
    """A multilayer perceptron: its hidden widths, where the study's hyperparameters don't say otherwise."""

    hidden: tuple[int, ...] = (100,)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", check_field("hidden", self.hidden))
