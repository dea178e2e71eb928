"""SGD, Adam, AdamW and RMSprop over a stack, each trial with its own hyperparameters.

Every parameter has the trials along its first dimension; a hyperparameter is a column that broadcasts along the
others. Each formula is ``torch.optim``'s (its documentation gives it as pseudocode, term for term), so that a
trial of a stack takes the same steps as one alone. The update is element-wise: what happens to one trial, an
overflow included, stays in its own slice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from searchlib.trial import TrialConfig

__all__ = ["OPTIMIZERS", "StackOptimizer"]

Tensors = Mapping[str, torch.Tensor]


class StackOptimizer:
    """Base: hyperparameters by trial, state by parameter.

    columns: names of the ``TrialConfig`` fields that the update uses beside the learning rate.
    slots: names of the state tensors, one of each a parameter, zero at the start.
    """

    columns: tuple[str, ...] = ()
    slots: tuple[str, ...] = ()

    def __init__(self, parameters: Tensors, configs: Sequence[TrialConfig]) -> None:
        like = next(iter(parameters.values()))
        self.steps = 0
        self.hyper = {
            name: torch.tensor([getattr(config, name) for config in configs], dtype=like.dtype, device=like.device)
            for name in self.columns
        }
        self.nesterov = any(config.nesterov for config in configs)
        self._choose_terms()
        self.state = {
            slot: {name: torch.zeros_like(parameter) for name, parameter in parameters.items()} for slot in self._used()
        }

    def _choose_terms(self) -> None:
        """Note, once, which terms are zero for every trial, so that a step can leave them out."""
        self.decays = bool(self.hyper["weight_decay"].any())
        self.moves = "momentum" in self.hyper and bool(self.hyper["momentum"].any())

    def _used(self) -> tuple[str, ...]:
        return self.slots

    def keep(self, index: torch.Tensor) -> None:
        """Keep the trials at *index* (along the first dimension of everything)."""
        self.hyper = {name: column[index] for name, column in self.hyper.items()}
        self.state = {
            slot: {name: value[index] for name, value in values.items()} for slot, values in self.state.items()
        }

    def step(self, parameters: Tensors, gradients: Tensors, learning_rate: torch.Tensor) -> None:
        """One update in place. *learning_rate* is ``[trials]``; the gradients may be overwritten."""
        self.steps += 1
        for name, parameter in parameters.items():
            self.update(name, parameter, gradients[name], learning_rate)

    def update(self, name: str, w: torch.Tensor, g: torch.Tensor, lr: torch.Tensor) -> None:
        raise AssertionError("an optimizer defines update")

    def column(self, name: str, like: torch.Tensor) -> torch.Tensor:
        return _column(self.hyper[name], like)


def _column(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return values.view(-1, *(1,) * (like.dim() - 1))


class SGD(StackOptimizer):
    """``torch.optim.SGD``: momentum (dampening 0), Nesterov, L2."""

    columns = ("momentum", "weight_decay")
    slots = ("momentum_buffer",)

    def _used(self) -> tuple[str, ...]:
        return self.slots if self.moves else ()

    def update(self, name: str, w: torch.Tensor, g: torch.Tensor, lr: torch.Tensor) -> None:
        if self.decays:
            g = g.addcmul_(w, self.column("weight_decay", w))
        if self.moves:
            momentum, buffer = self.column("momentum", w), self.state["momentum_buffer"][name]
            torch.addcmul(g, buffer, momentum, out=buffer)
            g = g.addcmul_(buffer, momentum) if self.nesterov else buffer
        w.addcmul_(g, _column(lr, w), value=-1.0)


class Adam(StackOptimizer):
    """``torch.optim.Adam`` (Kingma & Ba 2015), weight decay as L2."""

    columns = ("beta1", "beta2", "eps", "weight_decay")
    slots = ("exp_avg", "exp_avg_sq")

    def decay(self, w: torch.Tensor, g: torch.Tensor, lr: torch.Tensor) -> None:
        g.addcmul_(w, self.column("weight_decay", w))

    def update(self, name: str, w: torch.Tensor, g: torch.Tensor, lr: torch.Tensor) -> None:
        if self.decays:
            self.decay(w, g, lr)
        beta1, beta2, eps = (self.column(key, w) for key in ("beta1", "beta2", "eps"))
        mean, square = self.state["exp_avg"][name], self.state["exp_avg_sq"][name]
        mean.lerp_(g, 1.0 - beta1)
        square.mul_(beta2).addcmul_(g * (1.0 - beta2), g)
        step_size = _column(lr, w) / (1.0 - beta1**self.steps)
        denominator = square.sqrt().div_((1.0 - beta2**self.steps).sqrt()).add_(eps)
        w.sub_((mean * step_size).div_(denominator))


class AdamW(Adam):
    """``torch.optim.AdamW`` (Loshchilov & Hutter 2019): decoupled weight decay."""

    def decay(self, w: torch.Tensor, g: torch.Tensor, lr: torch.Tensor) -> None:
        w.mul_(1.0 - _column(lr, w) * self.column("weight_decay", w))


class RMSprop(StackOptimizer):
    """``torch.optim.RMSprop``, not centred, with momentum and L2."""

    columns = ("alpha", "eps", "momentum", "weight_decay")
    slots = ("square_avg", "momentum_buffer")

    def _used(self) -> tuple[str, ...]:
        return self.slots if self.moves else ("square_avg",)

    def update(self, name: str, w: torch.Tensor, g: torch.Tensor, lr: torch.Tensor) -> None:
        if self.decays:
            g = g.addcmul_(w, self.column("weight_decay", w))
        alpha, square = self.column("alpha", w), self.state["square_avg"][name]
        square.mul_(alpha).addcmul_(g * (1.0 - alpha), g)
        g = g.div_(square.sqrt().add_(self.column("eps", w)))
        if self.moves:
            g = self.state["momentum_buffer"][name].mul_(self.column("momentum", w)).add_(g)
        w.addcmul_(g, _column(lr, w), value=-1.0)


OPTIMIZERS: dict[str, type[StackOptimizer]] = {"adam": Adam, "adamw": AdamW, "rmsprop": RMSprop, "sgd": SGD}
