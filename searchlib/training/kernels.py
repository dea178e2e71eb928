"""Activations whose derivative torch offers as a kernel of its own: in training they need no autograd.

A graph, its nodes and its fresh memory cost more than these functions themselves do on a small batch. What isn't
here (an activation of a study's own, one with a parameter, a noisy one) runs through autograd, with the same result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["KERNELS", "Kernel"]

aten = torch.ops.aten


@dataclass(frozen=True)
class Kernel:
    """An element-wise function phi and its derivative, both without autograd and without memory of their own.

    forward: (module, x, y) writes phi(x) into y.
    backward: (module, gradient, x, y) multiplies the gradient by phi'(x), in place.
    """

    forward: Callable[[Any, Tensor, Tensor], object]
    backward: Callable[[Any, Tensor, Tensor, Tensor], object]


def _elu(constants: Callable[[Any], tuple[float, float, float]]) -> Kernel:
    """ELU, CELU and SELU are one function: scale * (x if x > 0 else alpha * (exp(input_scale * x) - 1))."""
    return Kernel(
        lambda m, x, y: aten.elu.out(x, *constants(m), out=y),
        lambda m, g, x, y: aten.elu_backward.grad_input(g, *constants(m), False, x, grad_input=g),
    )


KERNELS: dict[type[nn.Module], Kernel] = {
    nn.CELU: _elu(lambda m: (m.alpha, 1.0, 1.0 / m.alpha)),
    nn.ELU: _elu(lambda m: (m.alpha, 1.0, 1.0)),
    nn.GELU: Kernel(
        lambda m, x, y: aten.gelu.out(x, out=y),
        lambda m, g, x, y: aten.gelu_backward.grad_input(g, x, grad_input=g),
    ),
    nn.LeakyReLU: Kernel(
        lambda m, x, y: aten.leaky_relu.out(x, m.negative_slope, out=y),
        lambda m, g, x, y: aten.leaky_relu_backward.grad_input(g, x, m.negative_slope, False, grad_input=g),
    ),
    nn.ReLU: Kernel(
        lambda m, x, y: torch.clamp_min(x, 0.0, out=y),
        lambda m, g, x, y: aten.threshold_backward.grad_input(g, x, 0.0, grad_input=g),
    ),
    # the constants of Klambauer et al. 2017, page 4, with the digits of torch
    nn.SELU: _elu(lambda m: (1.6732632423543772848170429916717, 1.0507009873554804934193349852946, 1.0)),
    nn.SiLU: Kernel(
        lambda m, x, y: aten.silu.out(x, out=y),
        lambda m, g, x, y: aten.silu_backward.grad_input(g, x, grad_input=g),
    ),
    nn.Sigmoid: Kernel(
        lambda m, x, y: torch.sigmoid(x, out=y),
        lambda m, g, x, y: aten.sigmoid_backward.grad_input(g, y, grad_input=g),
    ),
    nn.Tanh: Kernel(
        lambda m, x, y: torch.tanh(x, out=y),
        lambda m, g, x, y: aten.tanh_backward.grad_input(g, y, grad_input=g),
    ),
}
