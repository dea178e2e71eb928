"""Optimizers: a stack's update is that of torch.optim, or of a formula, and reads the hyperparameters of its entry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from searchlib.networks import OPTIMIZERS
from searchlib.study import TrialConfig

HYPERPARAMETERS = sorted({name for entry in OPTIMIZERS.values() for name in entry.fields})
GENERATOR = torch.Generator().manual_seed(0)
START = torch.randn(3, 4, 5, generator=GENERATOR, dtype=torch.float64)
GRADIENTS = torch.randn(6, 3, 4, 5, generator=GENERATOR, dtype=torch.float64)


BASE = TrialConfig(
    momentum=0.5, nesterov=True, weight_decay=0.1, beta1=0.7, beta2=0.9, alpha=0.8, eps=0.01, learning_rate=0.2
)


def configs(name: str) -> list[TrialConfig]:
    """Three trials that differ in all that the trials of a stack may differ in."""
    free = {field: getattr(BASE, field) for field in HYPERPARAMETERS if not isinstance(getattr(BASE, field), bool)}
    return [
        replace(BASE, optimizer=name, learning_rate=0.1 * (k + 1), **{field: 0.9**k * v for field, v in free.items()})
        for k in range(3)
    ]


def in_a_stack(trials: list[TrialConfig], dtype: torch.dtype) -> torch.Tensor:
    """The weights ``[K, 4, 5]`` after as many steps as there are gradients."""
    weights = START[: len(trials)].to(dtype).clone()
    gradients = torch.zeros_like(weights)
    optimizer = OPTIMIZERS[trials[0].optimizer].stacked({"w": weights}, {"w": gradients}, trials)
    rate = torch.tensor([config.learning_rate for config in trials], dtype=dtype)
    scale = optimizer.gradient_scale(rate)
    for gradient in GRADIENTS:
        gradients.copy_(gradient[: len(trials)])
        if scale is not None:
            gradients.mul_(scale.view(-1, 1, 1))
        optimizer.step(rate)
    return weights


def alone(config: TrialConfig, k: int, dtype: torch.dtype) -> torch.Tensor:
    weights = torch.nn.Parameter(START[k].to(dtype).clone())
    optimizer = OPTIMIZERS[config.optimizer].build([weights], config)
    for gradient in GRADIENTS:
        weights.grad = gradient[k].to(dtype).clone()
        optimizer.step()
    return weights.detach()


def lion(w: torch.Tensor, gradients: torch.Tensor, config: TrialConfig) -> torch.Tensor:
    """Chen et al. 2023, algorithm 2, with the average of gradients written out as their sum."""
    for t, gradient in enumerate(gradients):
        mean = sum((1 - config.beta2) * config.beta2 ** (t - 1 - s) * gradients[s] for s in range(t))
        update = torch.sign(config.beta1 * mean + (1 - config.beta1) * gradient)
        w = w - config.learning_rate * (update + config.weight_decay * w)
    return w


FORMULAS: dict[str, Callable[[torch.Tensor, torch.Tensor, TrialConfig], torch.Tensor]] = {"lion": lion}


def test_they_are_in_order_and_described() -> None:
    assert list(OPTIMIZERS) == sorted(OPTIMIZERS)
    for entry in OPTIMIZERS.values():
        assert entry.stacked.__doc__
        assert {*entry.shared, *entry.needs, *entry.needs.values()} <= set(entry.fields)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 1e-5)])
def test_a_step_of_a_stack_is_the_plain_one(name: str, dtype: torch.dtype, tolerance: float) -> None:
    trials = configs(name)
    for k, weights in enumerate(in_a_stack(trials, dtype)):
        torch.testing.assert_close(weights, alone(trials[k], k, dtype), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", [name for name, entry in OPTIMIZERS.items() if not isinstance(entry.plain, str)])
def test_one_that_torch_does_not_have_is_its_formula(name: str) -> None:
    for k, config in enumerate(configs(name)):
        expected = FORMULAS[name](START[k], GRADIENTS[:, k], config)
        torch.testing.assert_close(alone(config, k, torch.float64), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("hyperparameter", HYPERPARAMETERS)
def test_an_optimizer_reads_the_hyperparameters_of_its_entry(name: str, hyperparameter: str) -> None:
    config, value = replace(BASE, optimizer=name), getattr(BASE, hyperparameter)
    other = replace(config, **{hyperparameter: not value if isinstance(value, bool) else 0.9 * value})
    read = hyperparameter in OPTIMIZERS[name].fields
    for run in (lambda c: in_a_stack([c], torch.float64), lambda c: alone(c, 0, torch.float64)):
        assert torch.equal(run(config), run(other)) is not read
