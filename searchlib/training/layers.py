"""The parts of a stack in training, each with its way back: gradients by hand, in memory that stays.

A signal goes forward through the parts as ``[K, width, B]``; the loss's gradient comes back through them in reverse.
Tensors and their views are made once for each batch size: fresh memory, and Python's making of views, would cost as
much as some of the products do. A part's ``forward`` and ``backward`` run without autograd, in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from searchlib.networks import Kernel


class Part(Protocol):
    """One part of the networks of a stack."""

    def forward(self, signal: Tensor) -> Tensor:
        """What the part gives. It stays valid until the next call with the same batch size."""

    def backward(self, gradient: Tensor) -> Tensor:
        """From the gradient by what ``forward`` gave last to the gradient by what it got.

        *gradient* may be overwritten. The gradients of the part's own parameters are put where they belong.
        """


class FirstLinear:
    """The first linear layer, ``[G * B, in]`` to ``[K, out, B]``: a product for all trials that see the same batch.

    weight, weight_gradient: ``[K, out, in]``; bias, bias_gradient: ``[K, out]``; all contiguous. groups: how many
    trials see the first of G batches, the second, and so on.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor, weight_gradient: Tensor, bias_gradient: Tensor, *, groups: Sequence[int]
    ) -> None:
        self.shape = weight.shape[:2]
        self.rows = [count * weight.shape[1] for count in groups]
        self.weights, self.bias = weight.flatten(0, 1).split(self.rows), bias.view(-1, 1)
        self.weight_gradients = weight_gradient.flatten(0, 1).split(self.rows)
        self.bias_gradient = bias_gradient.view(-1)
        self.memory: dict[int, tuple[Tensor, tuple[Tensor, ...], Tensor]] = {}

    def forward(self, signal: Tensor) -> Tensor:
        batch = len(signal) // len(self.rows)
        if batch not in self.memory:
            flat = self.bias.new_empty(len(self.bias), batch)
            self.memory[batch] = flat, flat.split(self.rows), flat.view(*self.shape, batch)
        flat, pieces, output = self.memory[batch]
        self.inputs = signal.split(batch)
        for weight, inputs, piece in zip(self.weights, self.inputs, pieces, strict=True):
            torch.mm(weight, inputs.T, out=piece)
        flat.add_(self.bias)
        return output

    def backward(self, gradient: Tensor) -> Tensor:
        flat = gradient.view(len(self.bias), -1)
        for place, inputs, piece in zip(self.weight_gradients, self.inputs, flat.split(self.rows), strict=True):
            torch.mm(piece, inputs, out=place)
        torch.sum(flat, dim=1, out=self.bias_gradient)
        return gradient  # nobody asks for the gradient by the inputs


class Linear:
    """A later linear layer, ``[K, in, B]`` to ``[K, out, B]``.

    weight, weight_gradient: ``[K, out, in]``; bias, bias_gradient: ``[K, out]``.
    """

    def __init__(self, weight: Tensor, bias: Tensor, weight_gradient: Tensor, bias_gradient: Tensor) -> None:
        self.weight, self.transposed, self.bias = weight, weight.transpose(1, 2), bias[:, :, None]
        self.weight_gradient, self.bias_gradient = weight_gradient, bias_gradient
        self.memory: dict[int, tuple[Tensor, Tensor]] = {}

    def forward(self, signal: Tensor) -> Tensor:
        self.signal = signal
        trials, width, fan_in = self.weight.shape
        batch = signal.shape[2]
        if batch not in self.memory:
            self.memory[batch] = signal.new_empty(trials, width, batch), signal.new_empty(trials, fan_in, batch)
        output, self.before = self.memory[batch]
        return torch.baddbmm(self.bias, self.weight, signal, out=output)

    def backward(self, gradient: Tensor) -> Tensor:
        torch.bmm(gradient, self.signal.transpose(1, 2), out=self.weight_gradient)
        torch.sum(gradient, dim=2, out=self.bias_gradient)
        return torch.bmm(self.transposed, gradient, out=self.before)


class Activations:
    """Hidden activations that have kernels, each on its slice of trials.

    slices: (start, stop, kernel, module) by activation, in the order of the trials.
    """

    def __init__(self, slices: Sequence[tuple[int, int, Kernel, nn.Module]]) -> None:
        self.slices = slices
        self.kernels = [(kernel, module) for _, _, kernel, module in slices]
        self.memory: dict[int, Tensor] = {}
        self.views: dict[tuple[str, int], tuple[Tensor, list[Tensor]]] = {}

    def forward(self, signal: Tensor) -> Tensor:
        batch = signal.shape[2]
        if batch not in self.memory:
            self.memory[batch] = torch.empty_like(signal)
        self.x, self.y = self._cut("x", signal), self._cut("y", self.memory[batch])
        for (kernel, module), x, y in zip(self.kernels, self.x, self.y, strict=True):
            kernel.forward(module, x, y)
        return self.memory[batch]

    def backward(self, gradient: Tensor) -> Tensor:
        pieces = zip(self.kernels, self._cut("gradient", gradient), self.x, self.y, strict=True)
        for (kernel, module), piece, x, y in pieces:
            kernel.backward(module, piece, x, y)
        return gradient

    def _cut(self, role: str, tensor: Tensor) -> list[Tensor]:
        """The slices of *tensor*; where the same one comes in each step, they needn't be made again."""
        key = (role, tensor.shape[2])
        known, slices = self.views.get(key, (None, []))
        if known is not tensor:
            slices = [tensor[start:stop] for start, stop, *_ in self.slices]
            self.views[key] = tensor, slices
        return slices


class ByAutograd:
    """What stands between two linear layers and has no kernel.

    function: from the one's output to the other's input, ``[K, width, B]``, differentiable.
    parameters: those that it uses, each with the place for its gradient.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], parameters: Sequence[tuple[Tensor, Tensor]]) -> None:
        self.function, self.parameters = function, parameters

    def forward(self, signal: Tensor) -> Tensor:
        with torch.enable_grad():
            start = signal.detach().requires_grad_()
            output = self.function(start)
        self.graph = start, output
        return output.detach().contiguous()

    def backward(self, gradient: Tensor) -> Tensor:
        start, output = self.graph
        del self.graph
        if not output.requires_grad:  # a function of the study's own without a gradient
            for _, place in self.parameters:
                place.zero_()
            return torch.zeros_like(start)
        before, *rest = torch.autograd.grad(
            output, [start, *(parameter for parameter, _ in self.parameters)], gradient, materialize_grads=True
        )
        for (_, place), value in zip(self.parameters, rest, strict=True):
            place.copy_(value)
        return before.contiguous()
