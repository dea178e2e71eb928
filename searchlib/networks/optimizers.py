"""Optimizers by name: the update rule of a whole stack, and the same rule for a module of a study's own.

In a stack every parameter has the trials along its first dimension, and each trial its own hyperparameters. Where torch
has a fused kernel for its own optimizer, the stack takes that one: it reads and writes each weight once. A kernel takes
one number for each hyperparameter, so trials that differ get a call each, and SGD, which is linear in the gradient, one
call for all: there the learning rates are in the gradient already. Each update is element-wise: what happens to one
trial, an overflow included, stays in its own slice.

To add an optimizer: write its ``StackOptimizer`` and add it to ``OPTIMIZERS`` (docs/parts.md).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch

Tensors = Mapping[str, "torch.Tensor"]


class Settings(Protocol):
    """The hyperparameters that an optimizer may read; ``TrialConfig`` has them all."""

    @property
    def learning_rate(self) -> float: ...
    @property
    def momentum(self) -> float: ...
    @property
    def nesterov(self) -> bool: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def alpha(self) -> float: ...
    @property
    def beta1(self) -> float: ...
    @property
    def beta2(self) -> float: ...
    @property
    def eps(self) -> float: ...


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """One update rule, for a stack and for a single module; both agree to round-off.

    stacked: updates a stack. The first paragraph of its docstring is its line in the reference.
    plain: updates one module: a class of ``torch.optim`` by its name, or a function that makes such a class.
    arguments: what the plain class takes beside ``lr``: the hyperparameter, or the tuple of them, for each argument.
    shared: hyperparameters that the trials of a stack must have in common.
    needs: hyperparameters that may be on only where another one is above 0.
    """

    stacked: type[StackOptimizer]
    plain: str | Callable[[], Callable[..., torch.optim.Optimizer]]
    arguments: Mapping[str, str | tuple[str, ...]]
    shared: tuple[str, ...] = ()
    needs: Mapping[str, str] = field(default_factory=dict)

    @property
    def fields(self) -> tuple[str, ...]:
        """The hyperparameters that it reads beside the learning rate."""
        grouped = ((names,) if isinstance(names, str) else names for names in self.arguments.values())
        return tuple(itertools.chain.from_iterable(grouped))

    def build(self, parameters: Iterable[torch.nn.Parameter], config: Settings) -> torch.optim.Optimizer:
        """The plain optimizer of *parameters*, with the hyperparameters of *config*."""
        from torch import optim

        make = getattr(optim, self.plain) if isinstance(self.plain, str) else self.plain()
        values = {argument: _values(config, names) for argument, names in self.arguments.items()}
        made: torch.optim.Optimizer = make(list(parameters), lr=config.learning_rate, **values)
        return made


def _values(config: Settings, names: str | tuple[str, ...]) -> Any:
    return getattr(config, names) if isinstance(names, str) else tuple(getattr(config, name) for name in names)


class StackOptimizer:
    """Base: a stack's parameters and gradients, updated in place, with state tensors that start at zero."""

    def __init__(self, parameters: Tensors, gradients: Tensors, configs: Sequence[Settings]) -> None:
        import torch

        self.steps = 0
        slots = self.slots(configs)
        self.state = {slot: {name: torch.zeros_like(w) for name, w in parameters.items()} for slot in slots}
        self._rate: torch.Tensor | None = None
        self.attach(parameters, gradients, configs)

    def slots(self, configs: Sequence[Settings]) -> tuple[str, ...]:
        """Names of the state tensors that these trials need, one of each a parameter."""
        raise AssertionError("an optimizer defines slots")

    def attach(self, parameters: Tensors, gradients: Tensors, configs: Sequence[Settings]) -> None:
        """Work on these tensors from now on: their numbers change, they stay where they are."""
        self.parameters, self.gradients, self.configs = parameters, gradients, configs
        self.decays = any(config.weight_decay for config in configs)

    def keep(self, index: torch.Tensor, parameters: Tensors, gradients: Tensors, configs: Sequence[Settings]) -> None:
        """Go on with the trials at *index*, whose tensors and configurations follow."""
        self.state = {slot: {name: s[index] for name, s in states.items()} for slot, states in self.state.items()}
        self._rate = None if self._rate is None else self._rate[index]
        self.attach(parameters, gradients, configs)

    def training_state(self) -> dict[str, torch.Tensor]:
        """The state tensors, the rates and the count of steps, by name."""
        import torch

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
        import torch

        values = [getattr(config, hyperparameter) for config in self.configs]
        return _column(torch.tensor(values, dtype=like.dtype, device=like.device), like)


def _column(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return values.view(-1, *(1,) * (like.dim() - 1))


class SGD(StackOptimizer):
    """``torch.optim.SGD`` with momentum (dampening 0), also Nesterov's; weight decay as L2.

    The gradients come multiplied by the learning rates, and so does what the momentum buffer holds: a step is then
    w -= buffer (or, Nesterov, gradient + momentum * buffer) for all trials at once. When a rate changes between
    epochs its buffer is rescaled, which is torch's rule: there the rate multiplies the whole buffer.
    """

    def slots(self, configs: Sequence[Settings]) -> tuple[str, ...]:
        return ("momentum_buffer",) if any(config.momentum for config in configs) else ()

    def attach(self, parameters: Tensors, gradients: Tensors, configs: Sequence[Settings]) -> None:
        import torch

        super().attach(parameters, gradients, configs)
        self.fused: Callable[..., object] = torch._fused_sgd_
        runs, start = [], 0
        for momentum, group in itertools.groupby(configs, key=lambda config: config.momentum):
            stop = start + len(list(group))
            buffers = self.state["momentum_buffer"] if momentum else {}
            tensors = ([t[start:stop] for t in by_name.values()] for by_name in (parameters, gradients, buffers))
            runs.append((momentum, *tensors))
            start = stop
        self.runs = runs

    def gradient_scale(self, learning_rate: torch.Tensor) -> torch.Tensor | None:
        return learning_rate

    def change_rate(self, before: torch.Tensor | None, after: torch.Tensor) -> None:
        import torch

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
            self.fused(
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
    """``torch.optim.Adam`` (Kingma & Ba 2015); weight decay as L2."""

    kernel = "_fused_adam_"

    def slots(self, configs: Sequence[Settings]) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq")

    def attach(self, parameters: Tensors, gradients: Tensors, configs: Sequence[Settings]) -> None:
        import torch

        super().attach(parameters, gradients, configs)
        self.fused: Callable[..., object] = getattr(torch, self.kernel)
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
            self.fused(
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
    """``torch.optim.AdamW`` (Loshchilov & Hutter 2019); decoupled weight decay."""

    kernel = "_fused_adamw_"


class RMSprop(StackOptimizer):
    """``torch.optim.RMSprop``, not centred, with momentum; weight decay as L2.

    torch has no fused kernel of it.
    """

    def slots(self, configs: Sequence[Settings]) -> tuple[str, ...]:
        moves = any(config.momentum for config in configs)
        return ("square_avg", "momentum_buffer") if moves else ("square_avg",)

    def attach(self, parameters: Tensors, gradients: Tensors, configs: Sequence[Settings]) -> None:
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


class Lion(StackOptimizer):
    """Lion (Chen et al. 2023, algorithm 2; set beta2 to 0.99 as there): the sign of an average of gradients;
    decoupled weight decay.

    w -= rate * (sign(beta1 m + (1 - beta1) g) + weight_decay w), then m = beta2 m + (1 - beta2) g. The paper takes
    learning rates three to ten times smaller than AdamW's, and weight decay as many times larger. Where a
    gradient is round-off alone, as that of a bias before batch normalization, so is its sign: there a trial in a stack
    and the same trial alone differ by more than round-off.
    """

    def slots(self, configs: Sequence[Settings]) -> tuple[str, ...]:
        return ("exp_avg",)

    def attach(self, parameters: Tensors, gradients: Tensors, configs: Sequence[Settings]) -> None:
        super().attach(parameters, gradients, configs)
        self.columns = {
            name: (1.0 - self.column("beta1", w), 1.0 - self.column("beta2", w)) for name, w in parameters.items()
        }

    def change_rate(self, before: torch.Tensor | None, after: torch.Tensor) -> None:
        self.rates_of = {name: _column(-after, w) for name, w in self.parameters.items()}
        if self.decays:
            self.kept = {
                name: 1.0 - self.column("weight_decay", w) * _column(after, w) for name, w in self.parameters.items()
            }

    def update(self) -> None:
        for name, w in self.parameters.items():
            g, mean = self.gradients[name], self.state["exp_avg"][name]
            now, later = self.columns[name]
            if self.decays:
                w.mul_(self.kept[name])
            w.addcmul_(mean.lerp(g, now).sign_(), self.rates_of[name])
            mean.lerp_(g, later)


@functools.cache
def _plain_lion() -> Callable[..., torch.optim.Optimizer]:
    """Lion for one module; torch has none."""
    import torch

    class PlainLion(torch.optim.Optimizer):
        def __init__(
            self, params: Iterable[torch.nn.Parameter], lr: float, betas: tuple[float, float], weight_decay: float
        ) -> None:
            super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

        @torch.no_grad()
        def step(self, closure: None = None) -> None:  # type: ignore[override]
            for group in self.param_groups:
                (beta1, beta2), rate = group["betas"], group["lr"]
                for w in (w for w in group["params"] if w.grad is not None):
                    if not self.state[w]:
                        self.state[w]["exp_avg"] = torch.zeros_like(w)
                    mean = self.state[w]["exp_avg"]
                    w.mul_(1.0 - rate * group["weight_decay"])
                    w.sub_((beta1 * mean + (1.0 - beta1) * w.grad).sign_(), alpha=rate)
                    mean.mul_(beta2).add_(w.grad, alpha=1.0 - beta2)

    return PlainLion


_ADAM: dict[str, str | tuple[str, ...]] = {"betas": ("beta1", "beta2"), "eps": "eps", "weight_decay": "weight_decay"}

OPTIMIZERS: dict[str, Optimizer] = {
    "adam": Optimizer(stacked=Adam, plain="Adam", arguments=_ADAM),
    "adamw": Optimizer(stacked=AdamW, plain="AdamW", arguments=_ADAM),
    "lion": Optimizer(
        stacked=Lion,
        plain=_plain_lion,
        arguments={"betas": ("beta1", "beta2"), "weight_decay": "weight_decay"},
    ),
    "rmsprop": Optimizer(
        stacked=RMSprop,
        plain="RMSprop",
        arguments={"alpha": "alpha", "eps": "eps", "weight_decay": "weight_decay", "momentum": "momentum"},
    ),
    "sgd": Optimizer(
        stacked=SGD,
        plain="SGD",
        arguments={"momentum": "momentum", "weight_decay": "weight_decay", "nesterov": "nesterov"},
        shared=("nesterov",),
        needs={"nesterov": "momentum"},
    ),
}
