"""Activations: torch's functions under torch's names, and the facts that the report draws."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from searchlib.networks.activations import ACTIVATIONS, Activation, get_activation
from searchlib.study.config import TrialConfig

NAMED_IN_SCIENCE = {
    "identity", "sigmoid", "hardsigmoid", "logsigmoid", "tanh", "hardtanh", "tanhshrink", "softsign", "relu", "relu6",
    "leaky_relu", "prelu", "rrelu", "elu", "celu", "selu", "gelu", "silu", "mish", "hardswish", "hardshrink",
    "softshrink", "softplus", "threshold",
}  # fmt: skip

X = torch.cat([torch.randn(4000, generator=torch.Generator().manual_seed(0)) * 4, torch.linspace(-6, 6, 25)]).double()


OTHERS = {  # formulas of those that torch.nn.functional doesn't have under their name
    "identity": lambda x: x,
    "prelu": lambda x: F.leaky_relu(x, 0.25),
    "threshold": lambda x: torch.where(x > 0.1, x, 0.0),
}


def build(name: str, **fields) -> nn.Module:
    return TrialConfig(activation=name, **fields).build_activation().eval()


def test_the_catalogue_holds_what_science_names() -> None:
    assert set(ACTIVATIONS) >= NAMED_IN_SCIENCE
    assert list(ACTIVATIONS) == sorted(ACTIVATIONS)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_each_is_the_function_of_that_name(name: str) -> None:
    module = build(name).double()
    expected = OTHERS.get(name) or getattr(F, name)
    torch.testing.assert_close(module(X), expected(X), rtol=1e-12 if name in OTHERS else 0, atol=0)
    assert torch.equal(module(X.view(5, -1)), module(X).view(5, -1)), "element by element, whatever the shape"


def test_each_has_a_finite_gradient() -> None:
    for name in ACTIVATIONS:
        x = X.clone().requires_grad_()
        build(name).double()(x).sum().backward()
        assert torch.isfinite(x.grad).all(), name


@pytest.mark.parametrize("name", [name for name, entry in ACTIVATIONS.items() if entry.kernel])
def test_a_kernel_is_its_module(name: str) -> None:
    module, kernel = build(name, negative_slope=0.3), ACTIVATIONS[name].build_kernel()
    x, y, gradient = X.clone().requires_grad_(), torch.empty_like(X), torch.linspace(-2.0, 2.0, len(X)).double()
    expected = module(x)
    (slope,) = torch.autograd.grad(expected, x, gradient)
    kernel.forward(module, X, y)
    assert torch.equal(y, expected)
    kernel.backward(module, gradient, X, y)
    torch.testing.assert_close(gradient, slope, rtol=1e-14, atol=1e-14)


def test_the_positively_homogeneous_ones_have_their_slope() -> None:
    for name, entry in ACTIVATIONS.items():
        phi = build(name, negative_slope=0.3).double()
        slope = entry.left_slope(negative_slope=0.3)
        if slope is None:
            assert not torch.allclose(phi(2 * X), 2 * phi(X)), name
        else:
            torch.testing.assert_close(phi(X), torch.where(X > 0, X, slope * X), msg=name)


def test_prelu_has_a_trained_slope_and_rrelu_draws_while_training() -> None:
    slopes = (build("rrelu").train()(X) / X)[X < 0]
    assert 1 / 8 <= slopes.min() < 0.15
    assert 0.31 < slopes.max() <= 1 / 3
    for name, entry in ACTIVATIONS.items():
        module = build(name).train()
        assert entry.trained == bool(list(module.parameters())), name
        assert entry.noisy == (not torch.equal(module(X.float()), module(X.float()))), name


def my_activation(x: torch.Tensor) -> torch.Tensor:
    return torch.sin(x) + 0.1 * x


def test_a_function_of_the_study_is_an_activation() -> None:
    entry = get_activation(my_activation)
    module = entry.build()
    assert isinstance(module, nn.Module)
    assert torch.equal(module(X), torch.sin(X) + 0.1 * X)
    assert not entry.trained
    assert not entry.noisy
    assert entry.left_slope() is None
    network = nn.Sequential(nn.Linear(3, 4), module)
    assert list(network.state_dict()) == ["0.weight", "0.bias"]


def test_a_function_takes_its_fields_by_keyword() -> None:
    entry = Activation(fields=("cap",), function=lambda x, *, cap: x.clamp(-cap, cap))
    assert torch.equal(entry.build(cap=0.5)(X), X.clamp(-0.5, 0.5))
