"""K networks of the same shape, trained as one.

Trials lie along the first dimension of every parameter. The first layer is one matrix product for all of them,
``X[B, in] @ W[K * hidden, in]ᵀ``; later layers are batched products over ``[K, out, in]``. Trials are ordered by
activation, so that each activation runs once on a contiguous slice. The loss is the sum over trials of the mean
over the batch: each trial keeps the gradient that it would have alone, and nothing couples one to another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from searchlib.activations import Activation, get_activation
from searchlib.initializers import initialize
from searchlib.models import build_mlp, layer_sizes
from searchlib.space import encode
from searchlib.training.optimizers import OPTIMIZERS
from searchlib.trial import derive_seed

if TYPE_CHECKING:
    from searchlib.trial import TrialConfig

__all__ = ["Member", "Stack", "Trace", "accumulator", "fusion_key", "losses"]


@dataclass(frozen=True)
class Member:
    """One trial in training: who it is (``number``), what it is, and the seed of its weights and noise."""

    number: int
    config: TrialConfig
    seed: int


@dataclass(frozen=True, kw_only=True)
class Trace:
    """The signals of one batch in a stack, in evaluation mode, with autograd's graph through them.

    inputs: the batch, ``[n, inputs]``.
    first: what the first linear layer gives, ``[n, K * width]``: the root of the graph.
    preactivations: what enters each hidden activation (after normalization), ``[n, K, width]`` by layer.
    activations: what leaves it.
    outputs: ``[n, K, outputs]``.
    """

    inputs: Tensor
    first: Tensor
    preactivations: list[Tensor]
    activations: list[Tensor]
    outputs: Tensor


def fusion_key(config: TrialConfig) -> tuple[object, ...]:
    """Trials with equal keys can train as one stack (on the same data and in the same order of batches)."""
    return (
        config.widths,
        config.batch_size,
        config.epochs,
        config.optimizer,
        config.optimizer == "sgd" and config.nesterov,
        config.dropout > 0.0,
        config.batch_norm,
        config.input_scaling,
    )


def losses(outputs: Tensor, targets: Tensor) -> Tensor:
    """The loss of each example and trial, ``[B, K]``, from outputs ``[B, K, C]``.

    Cross-entropy for class indices ``[B]``; for real targets ``[B, C]`` the squared error, averaged over C.
    """
    batch, trials, _ = outputs.shape
    if targets.is_floating_point():
        return (outputs - targets[:, None, :]).square().mean(dim=2)
    repeated = targets[:, None].expand(batch, trials).reshape(-1)
    return F.cross_entropy(outputs.reshape(batch * trials, -1), repeated, reduction="none").view(batch, trials)


def accumulator(count: int, device: torch.device) -> Tensor:
    """Zeros ``[count]`` to sum up in: float64, but on Apple's MPS, which has none, float32."""
    return torch.zeros(count, dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)


class Stack:
    """The networks of *members* as one.

    members: after construction in the stack's own order; every result is aligned with it.
    probe: ``[n, inputs]`` scaled training inputs, for initializers that look at data.
    outputs: units of the output layer.
    """

    def __init__(
        self,
        members: Sequence[Member],
        *,
        outputs: int,
        probe: Tensor,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        keys = {fusion_key(member.config) for member in members}
        if len(keys) != 1:
            raise ValueError(f"a stack needs trials of one fusion key, got {len(keys)}")
        self.members = sorted(members, key=lambda member: (*_activation_key(member.config), member.number))
        self.device, self.dtype = torch.device(device), dtype
        config = self.members[0].config
        self.batch_norm, self.has_dropout = config.batch_norm, config.dropout > 0.0
        sizes = layer_sizes(config, probe.shape[1], outputs)
        self.depth = len(sizes) - 2
        self.parameters, self.buffers = self._draw(sizes, probe.cpu())
        self.noise = [torch.Generator(self.device).manual_seed(derive_seed(m.seed, "noise")) for m in self.members]
        self.batches = 0
        self.optimizer = OPTIMIZERS[config.optimizer](self.parameters, [member.config for member in self.members])
        self._refresh()

    def _draw(self, sizes: tuple[int, ...], probe: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Parameters and buffers by name, ``[K, ...]``, each trial's drawn alone from its own generator."""
        parameters: dict[str, Tensor] = {}
        buffers: dict[str, Tensor] = {}
        drawn = [
            initialize(
                member.config,
                sizes,
                generator=torch.Generator().manual_seed(member.seed),
                probe=probe,
                dtype=self.dtype,
            )
            for member in self.members
        ]
        trials = len(self.members)

        def full(width: int, value: float) -> Tensor:
            return torch.full((trials, width), value, dtype=self.dtype, device=self.device)

        trained = any(_activation(member.config).trained for member in self.members)
        for index in range(len(sizes) - 1):
            parameters[f"linear{index}.weight"] = torch.stack([layers[index][0] for layers in drawn]).to(self.device)
            parameters[f"linear{index}.bias"] = torch.stack([layers[index][1] for layers in drawn]).to(self.device)
            if index == self.depth:
                break
            width = sizes[index + 1]
            if self.batch_norm:
                parameters[f"norm{index}.weight"] = full(width, 1.0)
                parameters[f"norm{index}.bias"] = full(width, 0.0)
                buffers[f"norm{index}.running_mean"] = full(width, 0.0)
                buffers[f"norm{index}.running_var"] = full(width, 1.0)
            if trained:
                parameters[f"activation{index}.weight"] = full(1, 0.25)
        return parameters, buffers

    def _refresh(self) -> None:
        """Recompute what follows from the members: slices by activation, the first gradient's place, who is trained."""
        self._slices = list(_slices([member.config for member in self.members]))
        self._first_gradient = torch.empty_like(self.parameters["linear0.weight"])
        for name, parameter in self.parameters.items():
            parameter.requires_grad_(not name.startswith("linear0."))

    def forward(self, inputs: Tensor, *, training: bool) -> Tensor:
        """``[B, inputs]`` to ``[B, K, outputs]``."""
        return self._after_first(self._first(inputs), training)

    def _first(self, inputs: Tensor) -> Tensor:
        """The first layer of all trials as one product, ``[B, K * width]``."""
        weight, bias = self.parameters["linear0.weight"], self.parameters["linear0.bias"]
        return torch.addmm(bias.view(-1), inputs, weight.view(-1, weight.shape[2]).T)

    def _after_first(self, signal: Tensor, training: bool) -> Tensor:
        signal = signal.view(len(signal), len(self.members), -1)
        for index in range(self.depth):
            if self.batch_norm:
                signal = self._normalize(signal, index, self.buffers, training)
            signal = self.activate(signal, index, training=training)
            if self.has_dropout and training:
                signal = self._drop(signal)
            signal = self._linear(signal, index + 1)
        return signal

    def _linear(self, signal: Tensor, index: int) -> Tensor:
        weight, bias = self.parameters[f"linear{index}.weight"], self.parameters[f"linear{index}.bias"]
        return torch.baddbmm(bias[:, None, :], signal.transpose(0, 1), weight.transpose(1, 2)).transpose(0, 1)

    def _normalize(self, signal: Tensor, index: int, buffers: dict[str, Tensor], training: bool) -> Tensor:
        return F.batch_norm(
            signal.reshape(len(signal), -1),
            buffers[f"norm{index}.running_mean"].view(-1),
            buffers[f"norm{index}.running_var"].view(-1),
            self.parameters[f"norm{index}.weight"].view(-1),
            self.parameters[f"norm{index}.bias"].view(-1),
            training=training,
        ).view(signal.shape)

    def activate(self, signal: Tensor, index: int, *, training: bool = False) -> Tensor:
        """Each member's activation of hidden layer *index* (from 0) on a signal ``[n, K, any]``."""
        pieces = signal.split([stop - start for start, stop, _, _ in self._slices], dim=1)
        parts = [
            self._activate(piece, slice(start, stop), activation, module, index, training)
            for piece, (start, stop, activation, module) in zip(pieces, self._slices, strict=True)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _drop(self, signal: Tensor) -> Tensor:
        masks = [
            torch.empty_like(signal[:, k]).bernoulli_(kept, generator=self.noise[k]).div_(kept)
            for k, kept in enumerate(1.0 - member.config.dropout for member in self.members)
        ]
        return signal * torch.stack(masks, dim=1)

    def _activate(
        self, signal: Tensor, trials: slice, activation: Activation, module: torch.nn.Module, index: int, training: bool
    ) -> Tensor:
        if activation.trained:
            return F.prelu(signal, self.parameters[f"activation{index}.weight"][trials].view(-1))
        if activation.noisy and training:
            return torch.stack(
                [
                    _rrelu(signal[:, offset], self.noise[trial])
                    for offset, trial in enumerate(range(trials.start, trials.stop))
                ],
                dim=1,
            )
        output: Tensor = module(signal)
        return output

    def step(self, inputs: Tensor, targets: Tensor, learning_rate: Tensor) -> Tensor:
        """One optimizer step on a batch, each trial at its own rate ``[K]``; returns their mean losses ``[K]``."""
        first = self._first(inputs).requires_grad_()
        mean = losses(self._after_first(first, training=True), targets).mean(dim=0)
        gradients = self._gradients(mean, first, inputs)
        with torch.no_grad():
            self.optimizer.step(self.parameters, gradients, learning_rate)
        self.batches += 1
        return mean.detach()

    def _gradients(self, mean: Tensor, first: Tensor, inputs: Tensor) -> dict[str, Tensor]:
        """The gradient of each member's mean loss by its own parameters; the first weight's lasts until the next call.

        The first layer holds most of the numbers. Its gradient is written by hand, always into the same memory:
        autograd would have the system map and clear megabytes anew in each step, at several times the cost.
        """
        later = {name: parameter for name, parameter in self.parameters.items() if parameter.requires_grad}
        signal, *rest = torch.autograd.grad(mean.sum(), [first, *later.values()], materialize_grads=True)
        with torch.no_grad():
            gradient = self._first_gradient
            torch.mm(signal.T, inputs, out=gradient.view(-1, gradient.shape[2]))
            bias = signal.sum(dim=0).view_as(self.parameters["linear0.bias"])
        return {"linear0.weight": gradient, "linear0.bias": bias, **dict(zip(later, rest, strict=True))}

    def trace(self, inputs: Tensor, *, statistics: dict[str, Tensor] | None = None) -> Trace:
        """Follow a batch ``[n, inputs]`` through the stack in evaluation mode, without a trace left in it.

        statistics: normalizes with these instead of the stack's running ones (names as in ``buffers``); what is
        missing is measured on the batch and put in. Before the first step the running ones say nothing yet. Either
        way they count as constants, so that no example's gradient reaches another.
        """
        buffers = self.buffers if statistics is None else statistics
        first = self._first(inputs).requires_grad_()
        signal = first.view(len(first), len(self.members), -1)
        preactivations, activations = [], []
        for index in range(self.depth):
            if self.batch_norm:
                if f"norm{index}.running_mean" not in buffers:
                    variance, mean = torch.var_mean(signal.detach(), dim=0, correction=0)
                    buffers |= {f"norm{index}.running_mean": mean, f"norm{index}.running_var": variance}
                signal = self._normalize(signal, index, buffers, training=False)
            preactivations.append(signal)
            signal = self.activate(signal, index)
            activations.append(signal)
            signal = self._linear(signal, index + 1)
        return Trace(inputs=inputs, first=first, preactivations=preactivations, activations=activations, outputs=signal)

    def weight_gradients(self, trace: Trace, targets: Tensor) -> list[Tensor]:
        """The gradient of each member's mean loss by its weights, ``[K, out, in]`` by layer.

        Uses the trace's graph up. The first tensor is overwritten by the next step.
        """
        gradients = self._gradients(losses(trace.outputs, targets).mean(dim=0), trace.first, trace.inputs)
        return [gradients[f"linear{index}.weight"] for index in range(self.depth + 1)]

    @torch.no_grad()
    def evaluate(self, inputs: Tensor, targets: Tensor, *, batch_size: int = 2000) -> tuple[Tensor, Tensor | None]:
        """Mean loss ``[K]`` and accuracy ``[K]`` (None for real targets) over a whole split, in evaluation mode."""
        loss = accumulator(len(self.members), self.device)
        correct = torch.zeros(len(self.members), dtype=torch.int64, device=self.device)
        for x, y in zip(inputs.split(batch_size), targets.split(batch_size), strict=True):
            outputs = self.forward(x, training=False)
            loss += losses(outputs, y).sum(dim=0)
            if not y.is_floating_point():
                correct += (outputs.argmax(dim=2) == y[:, None]).sum(dim=0)
        accuracy = None if targets.is_floating_point() else correct.cpu().double() / len(inputs)
        return loss / len(inputs), accuracy

    def keep(self, kept: Sequence[bool]) -> None:
        """Go on with the members where *kept* is true; the others' memory and work are given back."""
        index = torch.tensor([k for k, stays in enumerate(kept) if stays], dtype=torch.int64, device=self.device)
        self.members = [member for member, stays in zip(self.members, kept, strict=True) if stays]
        self.noise = [generator for generator, stays in zip(self.noise, kept, strict=True) if stays]
        with torch.no_grad():
            self.parameters = {name: value[index] for name, value in self.parameters.items()}
            self.buffers = {name: value[index] for name, value in self.buffers.items()}
            self.optimizer.keep(index)
        self._refresh()

    def state(self, position: int) -> dict[str, Tensor]:
        """The state dict of the plain module of ``members[position]``: copies, on the CPU."""
        shapes = build_mlp_state(self.members[position].config, self.parameters["linear0.weight"].shape[2], self._out())
        everything = {**self.parameters, **self.buffers}
        return {
            name: torch.tensor(self.batches)
            if name.endswith("num_batches_tracked")
            else everything[name][position].detach().reshape(shape).cpu().clone()
            for name, shape in shapes.items()
        }

    def _out(self) -> int:
        return self.parameters[f"linear{self.depth}.weight"].shape[1]


def build_mlp_state(config: TrialConfig, inputs: int, outputs: int) -> dict[str, torch.Size]:
    """Names and shapes of the state dict of ``build_mlp``'s module, without its numbers."""
    with torch.device("meta"):
        return {name: value.shape for name, value in build_mlp(config, inputs, outputs).state_dict().items()}


def _activation(config: TrialConfig) -> Activation:
    return get_activation(config.activation)


def _activation_key(config: TrialConfig) -> tuple[str, ...]:
    """Trials with equal keys share one call of their activation."""
    fields = _activation(config).fields
    return (str(encode(config.activation)), *(repr(getattr(config, name)) for name in fields))


def _slices(configs: Sequence[TrialConfig]) -> Iterator[tuple[int, int, Activation, torch.nn.Module]]:
    start = 0
    for stop in range(1, len(configs) + 1):
        if stop == len(configs) or _activation_key(configs[stop]) != _activation_key(configs[start]):
            activation = _activation(configs[start])
            yield start, stop, activation, activation.build(configs[start]).eval()
            start = stop


def _rrelu(signal: Tensor, generator: torch.Generator) -> Tensor:
    """torch.nn.RReLU while training, with a generator of its own (the module has only the global one)."""
    noise = torch.empty_like(signal, memory_format=torch.contiguous_format)
    result: Tensor = torch.ops.aten.rrelu_with_noise(signal.contiguous(), noise, 1 / 8, 1 / 3, True, generator)
    return result
