"""A study's own initializer: it fills the weight or returns it, and what it draws follows from the trial."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import pairwise
from operator import setitem
from typing import Any

import numpy as np
import pytest
import torch
from support.alone import make_members, make_stack
from support.stacks import digits_study, some_data
from torch import nn

from searchlib import MLP, Choice, StudyError
from searchlib.networks import get_initializer
from searchlib.study import TrialConfig
from searchlib.training import Engine
from searchlib.training.dry_run import dry_run
from searchlib.training.network import initialize

SIZES = (6, 5, 3)


def draw(initializer: Callable[..., Any], seed: int = 1) -> list[torch.Tensor]:
    layers = initialize(
        TrialConfig(initializer=initializer),
        SIZES,
        generator=torch.Generator().manual_seed(seed),
        probe=torch.ones(9, SIZES[0]),
        dtype=torch.float32,
    )
    return [weight for weight, _ in layers]


def fills(weight, layer):
    weight.normal_(generator=layer.generator)


def returns(weight, layer):
    return torch.randn(weight.shape, generator=layer.generator)


def returns_itself(weight, layer):
    return weight.normal_(generator=layer.generator)


def returns_double(weight, layer):
    return torch.randn(weight.shape, generator=layer.generator).double()


def sets_data(weight, layer):
    weight.data = torch.randn(weight.shape, generator=layer.generator)


def adds(weight, layer):
    weight.zero_()
    weight += torch.randn(weight.shape, generator=layer.generator)
    return weight


@pytest.mark.parametrize("function", [fills, returns, returns_itself, returns_double, sets_data, adds])
def test_it_may_fill_the_weight_or_return_it(function: Callable[..., Any]) -> None:
    expected = torch.Generator().manual_seed(1)
    for found, (columns, rows) in zip(draw(function), pairwise(SIZES), strict=True):
        assert torch.equal(found, torch.randn(rows, columns, generator=expected))


WRONG: dict[str, tuple[Callable[..., Any], str]] = {
    "does nothing": (lambda weight, layer: None, "left 640 of 640 weights unset"),
    "fills a part": (lambda weight, layer: setitem(weight, 0, 1.0), "left 576 of 640 weights unset"),
    "adds to what is there": (lambda weight, layer: weight.add_(1.0), "left 640 of 640 weights unset"),
    "gives NaN": (lambda weight, layer: weight.fill_(math.nan), "left 640 of 640 weights unset"),
    "gives infinity": (lambda weight, layer: weight.fill_(math.inf), "unset, infinite or NaN"),
    "returns the transposed": (
        lambda weight, layer: torch.ones(weight.shape).T,
        r"returned \[64, 10\].*shape \[10, 64\]",
    ),
    "returns a part": (lambda weight, layer: torch.ones(5), r"returned \[5\] for a weight of shape \[10, 64\]"),
    "returns a number": (lambda weight, layer: weight.fill_(1.0).std(), r"returned \[\] for a weight"),
    "returns an array": (lambda weight, layer: np.ones((10, 64)), "returned ndarray.*expected the weight filled"),
    "changes its shape": (lambda weight, layer: setattr(weight, "data", torch.ones(3)), r"\[10, 64\] to \[3\]"),
    "raises": (lambda weight, layer: 1 / 0, r"raised ZeroDivisionError at .*test_own_initializers.py:\d+: division"),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("own_module", [False, True])
def test_what_it_may_not_do_is_refused(kind: str, own_module: bool) -> None:
    function, told = WRONG[kind]
    model = (lambda config, dataset: nn.Linear(64, 10)) if own_module else MLP(hidden=(10,))
    with pytest.raises(StudyError, match=told):
        try_out(function, model=model)


def try_out(function: Callable[..., Any], **changes: Any) -> None:
    study = digits_study(scientific={"initializer": Choice("zeros", function)}, trials=2, **changes)
    dry_run(Engine(study, some_data(), "cpu"))


def from_numpy(weight, layer):
    return torch.from_numpy(np.random.normal(size=tuple(weight.shape)))


def from_random(weight, layer):
    return torch.tensor([random.gauss(0.0, 1.0) for _ in range(weight.numel())]).view_as(weight)


def from_torch(weight, layer):
    torch.nn.init.xavier_normal_(weight)


DRAWING = [from_numpy, from_random, from_torch]


@pytest.mark.parametrize("function", DRAWING)
def test_what_it_draws_follows_from_the_trial(function: Callable[..., Any]) -> None:
    first = draw(function)
    np.random.rand(3), random.random(), torch.rand(3)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    again, other = draw(function), draw(function, seed=2)
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    assert all(map(torch.equal, first, again))
    assert not any(map(torch.equal, first, other))
    assert not torch.equal(first[0][:3, :5], first[1])


@pytest.mark.parametrize("function", DRAWING)
def test_what_it_draws_does_not_depend_on_the_other_trials(function: Callable[..., Any]) -> None:
    members = make_members(["relu"] * 3, initializer=lambda k: function, hidden=(5,))
    weights = []
    for some in (members, members[::-1], members[2:]):
        stack = make_stack(some)
        position = [member.number for member in stack.members].index(2)
        weights.append(stack.state(position)["linear1.weight"])
    assert torch.equal(weights[0], weights[2])
    assert torch.equal(weights[1], weights[2])


def test_numbers_that_no_seed_controls_are_refused() -> None:
    def from_the_system(weight, layer):
        return torch.from_numpy(np.random.default_rng().normal(size=tuple(weight.shape)))

    with pytest.raises(StudyError, match="from_the_system gave other weights when it was called again.*default_rng"):
        try_out(from_the_system)


def test_it_keeps_its_name() -> None:
    assert get_initializer(from_numpy).__name__ == "from_numpy"
