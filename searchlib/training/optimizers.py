"""SGD, Adam, AdamW and RMSprop over a stack, each trial with its own hyperparameters.

Every parameter has the trials along its first dimension. Where torch has a fused kernel for its own optimizer, the
stack takes that one: it reads and writes each weight once. A kernel takes one number for each hyperparameter, so
trials that differ get a call each, and SGD, which is linear in the gradient, one call for all: there the learning
rates are in the gradient already. Each update is element-wise: what happens to one trial, an overflow included,
stays in its own slice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from searchlib.study import TrialConfig

__all__ = ["OPTIMIZERS", "StackOptimizer"]

Tensors = Mapping[str, torch.Tensor]


class StackOptimizer:
    """Base: a stack's parameters and gradients, updated in place, with state tensors that start at zero."""

    def __init__(self, parameters: Tensors, gradients: Tensors, configs: Sequence[TrialConfig]) -> None:
        self.steps = 0
        slots = self.slots(configs)
        self.state = {slot: {name: torch.zeros_like(w) for name, w in parameters.items()} for slot in slots}
        self._rate: torch.Tensor | None = None
        self.attach(parameters, gradients, configs)

    def slots(self, configs: Sequence[TrialConfig]) -> tuple[str, ...]:
        """Names of the state tensors that these trials need, one of each a parameter."""
        raise AssertionError("an optimizer defines slots")

    def attach(self, parameters: Tensors, gradients: Tensors, configs: Sequence[TrialConfig]) -> None:
        """Work on these tensors from now on: their numbers change, they stay where they are."""
        self.parameters, self.gradients, self.configs = parameters, gradients, configs
        self.decays = any(config.weight_decay for config in configs)

    def keep(
        self, index: torch.Tensor, parameters: Tensors, gradients: Tensors, configs: Sequence[TrialConfig]
    ) -> None:
        """Go on with the trials at *index*, whose tensors and configurations follow."""
        self.state = {slot: {name: s[index] for name, s in states.items()} for slot, states in self.state.items()}
        self._rate = None if self._rate is None else self._rate[index]
        self.attach(parameters, gradients, configs)

    def training_state(self) -> dict[str, torch.Tensor]:
        """The state tensors, the rates and the count of steps, by name."""
        state = {f"{slot}.{name}": value for slot, states in self.state.items() for name, value in states.items()}
        rate = {} if self._rate is None else {"rate": self._rate}
        return {**state, **rate, "steps": torch.tensor(self.steps)}

    def resume(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take over what ``training_state`` gave."""
        for slot, states in self.state.items():
            for name, value in states.items():
                value.copy_(state[f"{slot}.{name}"])
        rate = state.get("rate")
        self._rate = None if rate is None else rate.to(next(iter(self.parameters.values())).device)
        self.steps = int(state["steps"])
        self.attach(self.parameters, self.gradients, self.configs)

    def gradient_scale(self, learning_rate: torch.Tensor) -> torch.Tensor | None:
        """What each trial's loss is to be multiplied by before its gradient is taken, ``[K]``; None is 1."""
        return None

    def step(self, learning_rate: torch.Tensor) -> None:
        """One update by the gradients, which may be overwritten. *learning_rate*, ``[K]``, is one tensor an epoch."""
        if learning_rate is not self._rate:
            self.change_rate(self._rate, learning_rate)
            self._rate = learning_rate
        self.steps += 1
        self.update()

    def change_rate(self, before: torch.Tensor | None, after: torch.Tensor) -> None:
        """Note the learning rates of the steps to come, once an epoch."""
        self.rates: list[float] = after.tolist()

    def update(self) -> None:
        raise AssertionError("an optimizer defines update")

    def column(self, hyperparameter: str, like: torch.Tensor) -> torch.Tensor:
        """A hyperparameter by trial, as a column that broadcasts along the rest of *like*."""
        values = [getattr(config, hyperparameter) for config in self.configs]
        return _column(torch.tensor(values, dtype=like.dtype, device=like.device), like)


def _column(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return values.view(-1, *(1,) * (like.dim() - 1))


class SGD(StackOptimizer):
    """``torch.optim.SGD``: momentum (dampening 0), Nesterov, L2.

    The gradients come multiplied by the learning rates, and so does what the momentum buffer holds: a step is then
    w -= buffer (or, Nesterov, gradient + momentum * buffer) for all trials at once. When a rate changes between
    epochs its buffer is rescaled, which is torch's rule: there the rate multiplies the whole buffer.
    """

    def slots(self, configs: Sequence[TrialConfig]) -> tuple[str, ...]:
        return ("momentum_buffer",) if any(config.momentum for config in configs) else ()

    def attach(self, parameters: Tensors, gradients: Tensors, configs: Sequence[TrialConfig]) -> None:
        super().attach(parameters, gradients, configs)
        runs, start = [], 0
        for momentum, group in groupby(configs, key=lambda config: config.momentum):
            stop = start + len(list(group))
            buffers = self.state["momentum_buffer"] if momentum else {}
            tensors = ([t[start:stop] for t in by_name.values()] for by_name in (parameters, gradients, buffers))
            runs.append((momentum, *tensors))
            start = stop
        self.runs = runs

    def gradient_scale(self, learning_rate: torch.Tensor) -> torch.Tensor | None:
        return learning_rate

    def change_rate(self, before: torch.Tensor | None, after: torch.Tensor) -> None:
        if before is not None:
            ratio = torch.where(before > 0.0, after / before, 0.0)
            for buffer in self.state.get("momentum_buffer", {}).values():
                buffer.mul_(_column(ratio, buffer))
        if self.decays:
            self.decay = {
                name: self.column("weight_decay", w) * _column(after, w) for name, w in self.parameters.items()
            }

    def update(self) -> None:
        if self.decays:
            for name, w in self.parameters.items():
                self.gradients[name].addcmul_(w, self.decay[name])
        for momentum, parameters, gradients, buffers in self.runs:
            torch._fused_sgd_(
                parameters,
                gradients,
                buffers,
                weight_decay=0.0,
                momentum=momentum,
                lr=1.0,
                dampening=0.0,
                nesterov=self.configs[0].nesterov,
                maximize=False,
                is_first_step=False,  # the buffers start at 0, which is the same
            )


class Adam(StackOptimizer):
    """``torch.optim.Adam`` (Kingma & Ba 2015), weight decay as L2."""

    kernel: Callable[..., object] = staticmethod(torch._fused_adam_)

    def slots(self, configs: Sequence[TrialConfig]) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq")

    def attach(self, parameters: Tensors, gradients: Tensors, configs: Sequence[TrialConfig]) -> None:
        super().attach(parameters, gradients, configs)
        like = next(iter(parameters.values()))
        self.count = torch.tensor(float(self.steps), device=like.device)
        self.trials = [
            [
                [tensor[k] for tensor in by_name.values()]
                for by_name in (parameters, gradients, self.state["exp_avg"], self.state["exp_avg_sq"])
            ]
            for k in range(len(configs))
        ]

    def update(self) -> None:
        self.count += 1.0
        for config, rate, (w, g, mean, square) in zip(self.configs, self.rates, self.trials, strict=True):
            self.kernel(
                w,
                g,
                mean,
                square,
                [],
                [self.count] * len(w),
                lr=rate,
                beta1=config.beta1,
                beta2=config.beta2,
                weight_decay=config.weight_decay,
                eps=config.eps,
                amsgrad=False,
                maximize=False,
            )


class AdamW(Adam):
    """``torch.optim.AdamW`` (Loshchilov & Hutter 2019): decoupled weight decay."""

    kernel: Callable[..., object] = staticmethod(torch._fused_adamw_)


class RMSprop(StackOptimizer):
    """``torch.optim.RMSprop``, not centred, with momentum and L2. torch has no fused kernel of it."""

    def slots(self, configs: Sequence[TrialConfig]) -> tuple[str, ...]:
        moves = any(config.momentum for config in configs)
        return ("square_avg", "momentum_buffer") if moves else ("square_avg",)

    def attach(self, parameters: Tensors, gradients: Tensors, configs: Sequence[TrialConfig]) -> None:
        super().attach(parameters, gradients, configs)
        self.columns = {
            name: [self.column(key, w) for key in ("weight_decay", "alpha", "eps", "momentum")]
            for name, w in parameters.items()
        }

    def change_rate(self, before: torch.Tensor | None, after: torch.Tensor) -> None:
        self.rate = after

    def update(self) -> None:
        for name, w in self.parameters.items():
            g, square = self.gradients[name], self.state["square_avg"][name]
            decay, alpha, eps, momentum = self.columns[name]
            if self.decays:
                g.addcmul_(w, decay)
            square.mul_(alpha).addcmul_(g * (1.0 - alpha), g)
            g.div_(square.sqrt().add_(eps))
            if "momentum_buffer" in self.state:
                g = self.state["momentum_buffer"][name].mul_(momentum).add_(g)
            w.addcmul_(g, _column(self.rate, w), value=-1.0)


OPTIMIZERS: dict[str, type[StackOptimizer]] = {"adam": Adam, "adamw": AdamW, "rmsprop": RMSprop, "sgd": SGD}
