"""Activation functions by name.

Each entry names a ``torch.nn`` module (or holds a function), the fields of ``TrialConfig`` that it takes, and what else
the package must know of it. The same module runs on a whole slice of a stack and, alone, inside the plain
``torch.nn.Sequential`` of one trial. To add one: add one line to ``ACTIVATIONS`` (docs/parts.md). A study file may also
pass a function from tensor to tensor.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from searchlib.networks.functions import is_elementwise

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Kernel:
    """An element-wise function phi and its derivative, both without autograd and without memory of their own.

    forward: (module, x, y) writes phi(x) into y.
    backward: (module, gradient, x, y) multiplies the gradient by phi'(x), in place.
    """

    forward: Callable[[Any, torch.Tensor, torch.Tensor], object]
    backward: Callable[[Any, torch.Tensor, torch.Tensor, torch.Tensor], object]


@dataclass(frozen=True)
class Activation:
    """An activation phi, element-wise unless it is a function of a study's own.

    module: the name of a class in ``torch.nn``.
    arguments: its fixed arguments.
    fields: its arguments that are hyperparameters, by the name of the field (``negative_slope``).
    trained: it has a parameter of its own, one a layer and trial (PReLU).
    noisy: it draws random numbers while training (RReLU), from its trial's own generator.
    function: used instead of a module; it takes a tensor and, by keyword, its ``fields``.
    slope: if phi(x) = x for x > 0 and a x for x < 0: a (its mean, or its initial value), or the field that holds a.
    gain: the recommended gain, where it isn't the one that keeps a unit second moment.
    kernel: a faster phi and phi', made from ``torch`` and ``torch.ops.aten``; without one autograd is used.
    """

    module: str = ""
    arguments: tuple[Any, ...] = ()
    fields: tuple[str, ...] = ()
    trained: bool = False
    noisy: bool = False
    function: Callable[..., torch.Tensor] | None = None
    slope: float | str | None = None
    gain: float | None = None
    kernel: Callable[[Any, Any], Kernel] | None = None

    def build(self, **fields: Any) -> torch.nn.Module:
        """The activation as a plain ``torch.nn`` module, for inputs of any shape, with the values of its ``fields``."""
        from torch import nn

        if self.function is not None:
            return _as_module(functools.partial(self.function, **fields) if fields else self.function)
        made: nn.Module = getattr(nn, self.module)(*self.arguments, **fields)
        return made

    def is_elementwise(self, widths: tuple[int, ...] = (), **fields: Any) -> bool:
        """Whether phi(x) of a number follows from that number alone (``functions.is_elementwise``).

        Others may be called on one network's ``[batch, units]`` only. widths: of the layers in which it stands.
        """
        return self.function is None or is_elementwise(self.function, widths, **fields)

    def curve(self, x: torch.Tensor, **fields: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """(phi(x), phi'(x)) of an element-wise one in evaluation mode, at float64 numbers x of any shape."""
        import torch

        phi = self.build(**fields).eval().double()
        with torch.enable_grad():
            start = x.detach().clone().requires_grad_()
            y = phi(start)
            if not y.requires_grad:  # a function of a study's own without a gradient
                return y, torch.zeros_like(start)
            (slope,) = torch.autograd.grad(y.sum(), start)
        return y.detach(), slope

    def build_kernel(self) -> Kernel | None:
        """Its kernel, for modules made by ``build``; None where it has none."""
        import torch

        return self.kernel(torch, torch.ops.aten) if self.kernel else None

    def left_slope(self, **fields: Any) -> float | None:
        """``slope`` as a number, with the values of its ``fields``; None where phi isn't positively homogeneous."""
        return fields[self.slope] if isinstance(self.slope, str) else self.slope


def _elu(constants: Callable[[Any], tuple[float, float, float]]) -> Callable[[Any, Any], Kernel]:
    """ELU, CELU and SELU are one function: scale * (x if x > 0 else alpha * (exp(input_scale * x) - 1))."""
    return lambda _, aten: Kernel(
        lambda m, x, y: aten.elu.out(x, *constants(m), out=y),
        lambda m, g, x, y: aten.elu_backward.grad_input(g, *constants(m), False, x, grad_input=g),
    )


def _kernel(name: str, *, by_output: bool = False) -> Callable[[Any, Any], Kernel]:
    """torch's function *name*; its derivative is computed from phi(x) with *by_output*, else from x."""

    def make(torch: Any, aten: Any) -> Kernel:
        backward = getattr(aten, f"{name}_backward").grad_input
        if by_output:
            forward = getattr(torch, name)
            return Kernel(lambda m, x, y: forward(x, out=y), lambda m, g, x, y: backward(g, y, grad_input=g))
        out = getattr(aten, name).out
        return Kernel(lambda m, x, y: out(x, out=y), lambda m, g, x, y: backward(g, x, grad_input=g))

    return make


ACTIVATIONS: dict[str, Activation] = {
    "celu": Activation("CELU", kernel=_elu(lambda m: (m.alpha, 1.0, 1.0 / m.alpha))),
    "elu": Activation("ELU", kernel=_elu(lambda m: (m.alpha, 1.0, 1.0))),
    "gelu": Activation("GELU", kernel=_kernel("gelu")),
    "hardshrink": Activation("Hardshrink"),
    "hardsigmoid": Activation("Hardsigmoid"),
    "hardswish": Activation("Hardswish"),
    "hardtanh": Activation("Hardtanh"),
    "identity": Activation("Identity", slope=1.0),
    "leaky_relu": Activation(
        "LeakyReLU",
        fields=("negative_slope",),
        slope="negative_slope",
        kernel=lambda _, aten: Kernel(
            lambda m, x, y: aten.leaky_relu.out(x, m.negative_slope, out=y),
            lambda m, g, x, y: aten.leaky_relu_backward.grad_input(g, x, m.negative_slope, False, grad_input=g),
        ),
    ),
    "logsigmoid": Activation("LogSigmoid"),
    "mish": Activation("Mish"),
    "prelu": Activation("PReLU", trained=True, slope=0.25),
    "relu": Activation(
        "ReLU",
        slope=0.0,
        kernel=lambda torch, aten: Kernel(
            lambda m, x, y: torch.clamp_min(x, 0.0, out=y),
            lambda m, g, x, y: aten.threshold_backward.grad_input(g, x, 0.0, grad_input=g),
        ),
    ),
    "relu6": Activation("ReLU6"),
    "rrelu": Activation("RReLU", noisy=True, slope=(1 / 8 + 1 / 3) / 2),
    "selu": Activation(  # the constants of Klambauer et al. 2017, page 4, with torch's digits; there gain 1, too
        "SELU",
        gain=1.0,
        kernel=_elu(lambda m: (1.6732632423543772848170429916717, 1.0507009873554804934193349852946, 1.0)),
    ),
    # sigmoid's gain is torch.nn.init.calculate_gain's, as tanh's is
    "sigmoid": Activation("Sigmoid", gain=1.0, kernel=_kernel("sigmoid", by_output=True)),
    "silu": Activation("SiLU", kernel=_kernel("silu")),
    "softplus": Activation("Softplus"),
    "softshrink": Activation("Softshrink"),
    "softsign": Activation("Softsign"),
    "tanh": Activation("Tanh", gain=5 / 3, kernel=_kernel("tanh", by_output=True)),
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
            return function(x.clone())  # it may work in place, and x may be a view or a leaf of autograd

    return Function()
