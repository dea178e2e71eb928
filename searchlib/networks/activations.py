"""Activation functions by name.

Each entry names a ``torch.nn`` module (or holds a function) and the fields of ``TrialConfig`` that it takes. The
same module runs on a whole slice of a stack and, alone, inside the plain ``torch.nn.Sequential`` of one trial.
To add one: add one line to ``ACTIVATIONS``. A study file may also pass a function from tensor to tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["ACTIVATIONS", "Activation", "get_activation"]


@dataclass(frozen=True)
class Activation:
    """An element-wise activation.

    module: the name of a class in ``torch.nn``.
    arguments: its fixed arguments.
    fields: its arguments that are hyperparameters, by the name of the field (``negative_slope``).
    trained: it has a parameter of its own, one a layer and trial (PReLU).
    noisy: it draws random numbers while training (RReLU), from its trial's own generator.
    function: used instead of a module, for an activation defined in a study file.
    """

    module: str = ""
    arguments: tuple[Any, ...] = ()
    fields: tuple[str, ...] = ()
    trained: bool = False
    noisy: bool = False
    function: Callable[[torch.Tensor], torch.Tensor] | None = None

    def build(self, **fields: Any) -> torch.nn.Module:
        """The activation as a plain ``torch.nn`` module, for inputs of any shape, with the values of its ``fields``."""
        from torch import nn

        if self.function is not None:
            return _as_module(self.function)
        made: nn.Module = getattr(nn, self.module)(*self.arguments, **fields)
        return made


ACTIVATIONS: dict[str, Activation] = {
    "celu": Activation("CELU"),
    "elu": Activation("ELU"),
    "gelu": Activation("GELU"),
    "hardshrink": Activation("Hardshrink"),
    "hardsigmoid": Activation("Hardsigmoid"),
    "hardswish": Activation("Hardswish"),
    "hardtanh": Activation("Hardtanh"),
    "identity": Activation("Identity"),
    "leaky_relu": Activation("LeakyReLU", fields=("negative_slope",)),
    "logsigmoid": Activation("LogSigmoid"),
    "mish": Activation("Mish"),
    "prelu": Activation("PReLU", trained=True),
    "relu": Activation("ReLU"),
    "relu6": Activation("ReLU6"),
    "rrelu": Activation("RReLU", noisy=True),
    "selu": Activation("SELU"),
    "sigmoid": Activation("Sigmoid"),
    "silu": Activation("SiLU"),
    "softplus": Activation("Softplus"),
    "softshrink": Activation("Softshrink"),
    "softsign": Activation("Softsign"),
    "tanh": Activation("Tanh"),
    "tanhshrink": Activation("Tanhshrink"),
    "threshold": Activation("Threshold", arguments=(0.1, 0.0)),
}


def get_activation(name: str | Callable[..., Any]) -> Activation:
    """The activation of that name, or a function of a study file wrapped as one."""
    return ACTIVATIONS[name] if isinstance(name, str) else Activation(function=name)


def _as_module(function: Callable[[torch.Tensor], torch.Tensor]) -> torch.nn.Module:
    from torch import nn

    class Function(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return function(x)

    return Function()
