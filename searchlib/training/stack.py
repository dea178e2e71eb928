"""K networks of the same shape, trained as one.

The first dimension of every tensor is the trial, the last is the example: a signal is ``[K, width, B]``. The first
layer is then one matrix product for all trials, ``W[K * width, in] @ X[B, in]ᵀ``; later layers are batched products,
and none needs a transposed copy. Trials are sorted by activation, so that each activation is computed once on a
contiguous slice. The loss is the sum over trials of the mean over the batch, so each trial has the gradient that it
would have alone.

Trials of one search see the same batches in the same order. Replicates with different seeds see different orders: they
are sorted by order first, and the first layer has one product for each order.

``Stack.step`` computes gradients layer by layer, without autograd where it can (``searchlib.training.layers``).
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from searchlib.networks import OPTIMIZERS, get_activation
from searchlib.seeds import derive_seed
from searchlib.training.elementwise import HiddenActivations, activation_key, dropout
from searchlib.training.grouping import fusion_key
from searchlib.training.layers import Activations, ByAutograd, FirstLinear, Linear, Part
from searchlib.training.losses import is_right, losses, losses_and_gradients, predicted
from searchlib.training.network import build_mlp, initialize, layer_sizes
from searchlib.training.tally import accumulator_dtype

if TYPE_CHECKING:
    from searchlib.study import TrialConfig

__all__ = ["Member", "Stack", "Trace"]


@dataclass(frozen=True)
class Member:
    """One trial of a stack.

    seed: of its initial weights and its noise. order_seed: of the order of its training examples.
    """

    number: int
    config: TrialConfig
    seed: int
    order_seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Trace:
    """The signals of one batch in a stack, in evaluation mode, with autograd's graph.

    inputs: the batch, ``[n, inputs]``.
    first: the output of the first linear layer, ``[K, width, n]``, the root of the graph.
    preactivations: the input of each hidden activation (after normalization), ``[K, width, n]`` by layer.
    activations: its output, likewise.
    outputs: ``[K, outputs, n]``.
    failed: positions of members whose activation can't take this batch: from there on their signals are NaN.
    """

    inputs: Tensor
    first: Tensor
    preactivations: list[Tensor]
    activations: list[Tensor]
    outputs: Tensor
    failed: set[int]


class Stack:
    """The networks of *members* as one.

    members: the attribute has the stack's own order, which is that of all results.
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
        self.members = sorted(members, key=lambda m: (m.order_seed, *activation_key(m.config), m.number))
        self.device, self.dtype = torch.device(device), dtype
        config = self.members[0].config
        self.batch_norm, self.has_dropout = config.batch_norm, config.dropout > 0.0
        sizes = layer_sizes(config, probe.shape[1], outputs)
        self.depth = len(sizes) - 2
        self.parameters, self.buffers = self._draw(sizes, probe.cpu())
        self.noise = [torch.Generator(self.device).manual_seed(derive_seed(m.seed, "noise")) for m in self.members]
        self.batches = 0
        self._refresh()
        self.optimizer = OPTIMIZERS[config.optimizer].stacked(self.parameters, self.gradients, self._configs)

    def _draw(self, sizes: tuple[int, ...], probe: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Parameters and buffers by name, ``[K, ...]``; each trial's weights are drawn from its own generator."""
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

        trained = any(get_activation(member.config.activation).trained for member in self.members)
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

    @property
    def _configs(self) -> list[TrialConfig]:
        return [member.config for member in self.members]

    def _refresh(self) -> None:
        """Recompute what depends on the members: groups, slices, gradient buffers, layers."""
        by_order = Counter(member.order_seed for member in self.members)
        self.orders, groups = list(by_order), torch.tensor(list(by_order.values()), dtype=torch.int64)
        self._order_of = torch.arange(len(groups)).repeat_interleave(groups).to(self.device)
        self._dropout = [config.dropout for config in self._configs]
        self.activations = HiddenActivations(self._configs)
        self.gradients = {name: torch.zeros_like(value) for name, value in self.parameters.items()}
        for name, parameter in self.parameters.items():
            parameter.requires_grad_(not name.startswith("linear0."))
        with torch.no_grad():
            self.parts = self._make_parts(groups.tolist())

    # ------------------------------------------------------------------------------------------------ one step

    @torch.no_grad()
    def step(self, inputs: Tensor, targets: Tensor, learning_rate: Tensor) -> tuple[Tensor, Tensor | None]:
        """One optimizer step.

        inputs, targets: a batch for each of ``orders``, concatenated: ``[orders * B, inputs]``, ``[orders * B, ...]``.
        learning_rate: of each trial, ``[K]``; the same tensor until the rates change.

        Returns each example's loss before the update ``[K, B]``, and whether its prediction is correct ``[K, B]``
        (meaningless where the loss is NaN), None for regression.
        """
        outputs = inputs
        for part in self.parts:
            outputs = part.forward(outputs)
        batch = outputs.shape[2]
        if len(self.orders) > 1:  # from targets by order to targets by trial
            targets = targets.unflatten(0, (-1, batch)).index_select(0, self._order_of)
        loss, gradient = losses_and_gradients(outputs, targets)
        right = None if targets.is_floating_point() else predicted(outputs) == targets
        scale = self.optimizer.gradient_scale(learning_rate)
        # an own function may define its own gradient, which needn't be linear in the loss
        early = scale is not None and not self.activations.own
        gradient.mul_((scale / batch).view(-1, 1, 1) if scale is not None and early else 1.0 / batch)
        for part in reversed(self.parts):
            gradient = part.backward(gradient)
        if scale is not None and not early:
            for value in self.gradients.values():
                value.mul_(scale.view(-1, *(1,) * (value.dim() - 1)))
        self.optimizer.step(learning_rate)
        self.batches += 1
        return loss, right

    def _make_parts(self, groups: Sequence[int]) -> list[Part]:
        """The layers in training mode, first to last. groups: the number of trials of each order."""
        slices = self.activations.kernels()
        by_kernel = slices is not None and not self.batch_norm and not self.has_dropout
        parts: list[Part] = []
        for index in range(self.depth + 1):
            names = (f"linear{index}.weight", f"linear{index}.bias")
            tensors = [by_name[name] for by_name in (self.parameters, self.gradients) for name in names]
            parts.append(Linear(*tensors) if index else FirstLinear(*tensors, groups=groups))
            if index < self.depth:
                parts.append(Activations(slices) if slices and by_kernel else self._by_autograd(index))
        return parts

    def _by_autograd(self, index: int) -> ByAutograd:
        """Normalization, activation and dropout between two linear layers, in training mode."""
        stack = weakref.proxy(self)  # no reference cycle: an unused stack is freed at once

        def between(signal: Tensor) -> Tensor:
            if stack.batch_norm:
                signal = stack._normalize(signal, index, stack.buffers, training=True)
            signal = stack.activate(signal, index, stack.noise, training=True)
            return dropout(signal, stack._dropout, stack.noise) if stack.has_dropout else signal

        own = (f"norm{index}.weight", f"norm{index}.bias", f"activation{index}.weight")
        return ByAutograd(
            between, [(self.parameters[name], self.gradients[name]) for name in own if name in self.parameters]
        )

    # ------------------------------------------------------------------------------------ evaluation and a trace

    def _first(self, inputs: Tensor) -> Tensor:
        """The first layer of all trials as one product, ``[K, width, B]``."""
        weight, bias = self.parameters["linear0.weight"], self.parameters["linear0.bias"]
        product = torch.mm(weight.flatten(0, 1), inputs.T)
        return product.view(*bias.shape, -1).add_(bias[:, :, None])

    def _linear(self, signal: Tensor, index: int) -> Tensor:
        weight, bias = self.parameters[f"linear{index}.weight"], self.parameters[f"linear{index}.bias"]
        return torch.baddbmm(bias[:, :, None], weight, signal)

    def _normalize(self, signal: Tensor, index: int, buffers: dict[str, Tensor], training: bool) -> Tensor:
        return F.batch_norm(
            signal.reshape(1, -1, signal.shape[2]),
            buffers[f"norm{index}.running_mean"].view(-1),
            buffers[f"norm{index}.running_var"].view(-1),
            self.parameters[f"norm{index}.weight"].view(-1),
            self.parameters[f"norm{index}.bias"].view(-1),
            training=training,
        ).view(signal.shape)

    def activate(
        self,
        signal: Tensor,
        index: int,
        noise: Sequence[torch.Generator],
        *,
        training: bool = False,
        failed: set[int] | None = None,
    ) -> Tensor:
        """Each member's activation of hidden layer *index* (from 0) on a signal ``[K, width, n]``."""
        slopes = self.parameters.get(f"activation{index}.weight")
        return self.activations.apply(signal, slopes, noise, training=training, failed=failed)

    def curves(self, x: Tensor, index: int) -> Tensor:
        """Each member's phi(x) in hidden layer *index*, at numbers x ``[K, any, n]``; x where it isn't element-wise."""
        return self.activations.curves(x, self.parameters.get(f"activation{index}.weight"))

    def trace(self, inputs: Tensor, *, statistics: dict[str, Tensor] | None = None) -> Trace:
        """The signals of a batch ``[n, inputs]`` in evaluation mode. The stack doesn't change.

        statistics: normalize with these instead of the stack's running statistics (names as in ``buffers``); missing
        ones are measured on the batch and added to it. Before the first step, running statistics mean nothing. Either
        way they are constants to autograd, so that no example's gradient reaches another.
        """
        buffers = self.buffers if statistics is None else statistics
        first = self._first(inputs).requires_grad_()
        signal = first
        preactivations, activations = [], []
        noise, failed = self.activations.evaluation_noise(self.device), set[int]()
        for index in range(self.depth):
            if self.batch_norm:
                if f"norm{index}.running_mean" not in buffers:
                    variance, mean = torch.var_mean(signal.detach(), dim=2, correction=0)
                    buffers |= {f"norm{index}.running_mean": mean, f"norm{index}.running_var": variance}
                signal = self._normalize(signal, index, buffers, training=False)
            preactivations.append(signal)
            signal = self.activate(signal, index, noise, failed=failed)
            activations.append(signal)
            signal = self._linear(signal, index + 1)
        return Trace(
            inputs=inputs,
            first=first,
            preactivations=preactivations,
            activations=activations,
            outputs=signal,
            failed=failed,
        )

    def weight_gradients(self, trace: Trace, targets: Tensor) -> list[Tensor]:
        """The gradient of each member's mean loss with respect to its weights, ``[K, out, in]`` by layer.

        Frees the graph of *trace*.
        """
        later = [self.parameters[f"linear{index}.weight"] for index in range(1, self.depth + 1)]
        mean = losses(trace.outputs, targets).mean(dim=1)
        signal, *rest = torch.autograd.grad(mean.sum(), [trace.first, *later], materialize_grads=True)
        first = torch.mm(signal.flatten(0, 1), trace.inputs)
        return [first.view_as(self.parameters["linear0.weight"]), *rest]

    @torch.no_grad()
    def evaluate(self, inputs: Tensor, targets: Tensor, *, batch_size: int = 1000) -> tuple[Tensor, Tensor | None]:
        """Mean loss ``[K]`` over a split, and which of its N examples are classified correctly, ``[K, N]``.

        In evaluation mode. The latter is None for regression.
        """
        loss = torch.zeros(len(self.members), dtype=accumulator_dtype(self.device), device=self.device)
        right: list[Tensor] = []
        noise = self.activations.evaluation_noise(self.device)
        for x, y in zip(inputs.split(batch_size), targets.split(batch_size), strict=True):
            outputs = self._outputs(x, noise)
            loss += losses(outputs, y).sum(dim=1)
            if not y.is_floating_point():
                right.append(is_right(outputs, y))
        return loss / len(inputs), torch.cat(right, dim=1) if right else None

    def _outputs(self, inputs: Tensor, noise: Sequence[torch.Generator]) -> Tensor:
        """The networks' outputs in evaluation mode, ``[B, inputs]`` to ``[K, outputs, B]``."""
        signal = self._first(inputs)
        for index in range(self.depth):
            if self.batch_norm:
                signal = self._normalize(signal, index, self.buffers, training=False)
            signal = self._linear(self.activate(signal, index, noise), index + 1)
        return signal

    def keep(self, kept: Sequence[bool]) -> None:
        """Drop the members where *kept* is False, and free their memory."""
        index = torch.tensor([k for k, stays in enumerate(kept) if stays], dtype=torch.int64, device=self.device)
        self.members = [member for member, stays in zip(self.members, kept, strict=True) if stays]
        self.noise = [generator for generator, stays in zip(self.noise, kept, strict=True) if stays]
        with torch.no_grad():
            self.parameters = {name: value[index] for name, value in self.parameters.items()}
            self.buffers = {name: value[index] for name, value in self.buffers.items()}
        self._refresh()
        self.optimizer.keep(index, self.parameters, self.gradients, self._configs)

    def state(self, position: int) -> dict[str, Tensor]:
        """The state dict of the ``torch.nn`` module of ``members[position]``, copied to the CPU."""
        shapes = build_mlp_state(self.members[position].config, self.parameters["linear0.weight"].shape[2], self._out())
        everything = {**self.parameters, **self.buffers}
        return {
            name: torch.tensor(self.batches)
            if name.endswith("num_batches_tracked")
            else everything[name][position].detach().reshape(shape).cpu().clone()
            for name, shape in shapes.items()
        }

    def training_state(self) -> dict[str, Tensor]:
        """All tensors that training changes, by name: with them ``resume`` continues bit for bit."""
        return {
            **{f"parameter.{name}": value for name, value in self.parameters.items()},
            **{f"buffer.{name}": value for name, value in self.buffers.items()},
            **{f"noise.{k}": generator.get_state() for k, generator in enumerate(self.noise)},
            **{f"optimizer.{name}": value for name, value in self.optimizer.training_state().items()},
            "batches": torch.tensor(self.batches),
        }

    @torch.no_grad()
    def resume(self, state: Mapping[str, Tensor]) -> None:
        """Restore a ``training_state`` of a stack of the same members."""
        for kind, tensors in (("parameter", self.parameters), ("buffer", self.buffers)):
            for name, value in tensors.items():
                value.copy_(state[f"{kind}.{name}"])
        for k, generator in enumerate(self.noise):
            generator.set_state(state[f"noise.{k}"])
        prefix = "optimizer."
        self.optimizer.resume(
            {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        )
        self.batches = int(state["batches"])

    def _out(self) -> int:
        return self.parameters[f"linear{self.depth}.weight"].shape[1]


def build_mlp_state(config: TrialConfig, inputs: int, outputs: int) -> dict[str, torch.Size]:
    """Names and shapes of the state dict of ``build_mlp``'s module, without allocating it."""
    with torch.device("meta"):
        return {name: value.shape for name, value in build_mlp(config, inputs, outputs).state_dict().items()}
