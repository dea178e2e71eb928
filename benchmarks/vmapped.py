"""torch.func.vmap over models of one batch size: the rest of the stacking is left to PyTorch.

vmap runs one program for all models, and activations differ between them. So each layer is one vmap over all models of
a batch size, and each activation runs on its own models in between. One program for each pair of batch size and
activation (vmap over grad of functional_call, two models each) takes 1.5 times as long.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad, stack_module_state, vmap

from benchmarks.problem import Data, Outcome, members, model, order, tensors
from searchlib import Study
from searchlib.training.loop import Tensors
from searchlib.training.stack import Member

linear = vmap(F.linear)


def prepare(data: Data) -> None:
    """Once a process: no denormals, the data in memory. Threads as torch has them by default."""
    torch.set_flush_denormal(True)
    tensors(data)


class Ensemble:
    """Models of one batch size as stacked parameters, with SGD and Nesterov's momentum by multi-tensor operations."""

    def __init__(self, chosen: Sequence[Member], data: Tensors) -> None:
        self.members = sorted(chosen, key=lambda member: str(member.config.activation))
        models = [model(member, data) for member in self.members]
        parameters, _ = stack_module_state(models)
        self.parameters = {name: value.detach() for name, value in parameters.items()}
        self.depth = len(self.members[0].config.widths)
        self.activations = [
            (module.get_submodule("activation0"), len(list(alike)))
            for module, alike in (
                (models[self.members.index(first)], [first, *rest])
                for _, (first, *rest) in itertools.groupby(self.members, key=lambda member: member.config.activation)
            )
        ]
        self.momentum = self.members[0].config.momentum
        self.buffers = [torch.zeros_like(value) for value in self.parameters.values()]
        rates = torch.tensor([member.config.learning_rate for member in self.members])
        self.rates = [-rates.view(-1, *(1,) * (value.dim() - 1)) for value in self.parameters.values()]
        self.gradient = grad(self._loss)

    def outputs(self, parameters: dict[str, Tensor], inputs: Tensor) -> Tensor:
        """``[K, n, outputs]`` of all models on the same inputs ``[n, inputs]``."""
        weight, bias = parameters["linear0.weight"], parameters["linear0.bias"]
        signal = vmap(F.linear, in_dims=(None, 0, 0))(inputs, weight, bias)
        for layer in range(1, self.depth + 1):
            pieces = signal.split([count for _, count in self.activations])
            signal = torch.cat([module(piece) for (module, _), piece in zip(self.activations, pieces, strict=True)])
            signal = linear(signal, parameters[f"linear{layer}.weight"], parameters[f"linear{layer}.bias"])
        return signal

    def _loss(self, parameters: dict[str, Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
        return vmap(F.cross_entropy, in_dims=(0, None))(self.outputs(parameters, inputs), targets).sum()

    def epoch(self, data: Tensors, order: Tensor) -> None:
        """Train all models through the data once."""
        weights = list(self.parameters.values())
        for batch in order.split(self.members[0].config.batch_size):
            inputs, targets = data.train_inputs.index_select(0, batch), data.train_targets.index_select(0, batch)
            gradient = self.gradient(self.parameters, inputs, targets)
            gradients = list(gradient.values())
            torch._foreach_mul_(self.buffers, self.momentum)
            torch._foreach_add_(self.buffers, gradients)
            torch._foreach_add_(gradients, self.buffers, alpha=self.momentum)
            torch._foreach_addcmul_(weights, gradients, self.rates)

    @torch.inference_mode()
    def evaluate(self, data: Tensors) -> tuple[list[float], list[float]]:
        """Mean loss and accuracy of each model on the validation images."""
        loss, correct = torch.zeros(len(self.members)), torch.zeros(len(self.members))
        for inputs, targets in zip(data.val_inputs.split(2000), data.val_targets.split(2000), strict=True):
            outputs = self.outputs(self.parameters, inputs)
            loss += vmap(lambda output, y: F.cross_entropy(output, y, reduction="sum"), (0, None))(outputs, targets)
            correct += (outputs.argmax(dim=2) == targets).sum(dim=1)
        count = len(data.val_targets)
        return (loss / count).tolist(), (correct / count).tolist()


def vmapped(study: Study, data: Data) -> Outcome:
    """All trials of *study*, a batch size after another."""
    chosen, held = members(study), tensors(data)
    started = time.perf_counter()
    accuracy: dict[int, list[float]] = {member.number: [] for member in chosen}
    for size in sorted({member.config.batch_size for member in chosen}):
        ensemble = Ensemble([member for member in chosen if member.config.batch_size == size], held)
        for epoch in range(1, int(study.fixed["epochs"]) + 1):
            ensemble.epoch(held, order(0, epoch, len(held.train_inputs)))
            for member, value in zip(ensemble.members, ensemble.evaluate(held)[1], strict=True):
                accuracy[member.number].append(value)
    return Outcome(seconds=time.perf_counter() - started, accuracy=accuracy)
