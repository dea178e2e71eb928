"""Mean field theory: recommended gains and critical points, by quadrature and by the published figures."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.integrate import quad
from torch import nn

from searchlib.errors import StudyError
from searchlib.networks import meanfield
from searchlib.networks.activations import ACTIVATIONS, get_activation
from searchlib.networks.meanfield import critical_point, recommended_gain
from searchlib.study.config import TrialConfig
from searchlib.training.network import initialize


def fields_of(name: str, **changes) -> dict:
    return TrialConfig(activation=name, **changes).activation_fields


@pytest.mark.parametrize("name", [name for name, entry in ACTIVATIONS.items() if entry.gain is not None])
def test_set_gains_are_torchs(name: str) -> None:
    """But for SELU, which wants 1."""
    assert recommended_gain(name) == (1.0 if name == "selu" else pytest.approx(nn.init.calculate_gain(name)))


def second_moment(name: str) -> float:
    function = TrialConfig(activation=name).build_activation().eval().double()

    def integrand(z: float) -> float:
        density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        return float(function(torch.tensor([z], dtype=torch.float64)).detach()) ** 2 * density

    kinks = [-3.0, -1.0, -0.5, 0.0, 0.1, 0.5, 1.0, 3.0, 6.0]
    return quad(integrand, -10.0, 10.0, points=kinks, limit=80, epsabs=1e-8, epsrel=1e-7)[0]


@pytest.mark.parametrize("name", [name for name, entry in ACTIVATIONS.items() if entry.gain is None])
def test_other_gains_keep_a_unit_second_moment(name: str) -> None:
    gain = recommended_gain(name, **fields_of(name))
    # a jump of phi (hardshrink, threshold) is met by the grid to one step only
    assert gain == pytest.approx(1 / math.sqrt(second_moment(name)), rel=2e-3 if name == "hardshrink" else 1e-4)


@pytest.mark.parametrize(("activation", "expected"), [("gelu", 2.303), ("silu", 2.729), ("mish", 2.105)])
def test_critical_points_at_a_fixed_point_that_no_iteration_finds(activation: str, expected: float) -> None:
    assert critical_point(activation) == (pytest.approx(expected, abs=1.1e-3), 0.05)


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "softsign", "elu", "selu"])
def test_a_critical_point_is_critical(activation: str) -> None:
    """The variance map has a fixed point there, at which chi = 1: by quadrature, independent of the module's grid."""
    weight_variance, bias_variance = critical_point(activation)
    function = get_activation(activation).build()

    def moment(q: float, derivative: bool) -> float:
        def integrand(z: float) -> float:
            x = torch.tensor(math.sqrt(q) * z, dtype=torch.float64, requires_grad=True)
            y = function(x)
            value = torch.autograd.grad(y, x)[0] if derivative else y.detach()
            return float(value) ** 2 * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

        return quad(integrand, -9, 9, points=[0.0], epsabs=1e-6, epsrel=1e-6, limit=60)[0]

    q = 1.0
    for _ in range(150):
        update = weight_variance * moment(q, derivative=False) + bias_variance
        if abs(update - q) < 1e-7:
            break
        q = update
    assert weight_variance * moment(q, derivative=True) == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize(
    ("activation", "expected"),
    [("relu", 2.0), ("identity", 1.0), ("leaky_relu", 2 / 1.04), ("prelu", 2 / 1.0625)],
)
def test_homogeneous_activations_are_critical_without_a_bias(activation: str, expected: float) -> None:
    assert critical_point(activation, **fields_of(activation, negative_slope=0.2)) == (pytest.approx(expected), 0.0)


def test_softplus_has_no_critical_point() -> None:
    with pytest.raises(StudyError, match=r"'softplus' has no critical point.*leave this pair out.*'lsuv'"):
        critical_point("softplus")


def test_every_activation_has_a_point_or_says_that_it_has_none() -> None:
    for name in ACTIVATIONS:
        try:
            weight_variance, bias_variance = critical_point(name, **fields_of(name))
        except StudyError:
            continue
        assert 0.0 < weight_variance < 1e4
        assert bias_variance in (0.0, 0.05)


def test_the_search_for_a_critical_point_runs_once_an_activation() -> None:
    """Not once for each learning rate of a study."""
    meanfield._critical_point.cache_clear()
    for rate in (0.01, 0.02):
        config = TrialConfig(initializer="critical", activation="tanh", learning_rate=rate)
        initialize(config, (6, 5, 2), generator=torch.Generator(), probe=torch.zeros(2, 6), dtype=torch.float64)
    assert meanfield._critical_point.cache_info().misses == 1


def squashed(x: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x) * 1.0


def test_a_function_of_the_study_has_its_own_gain_and_critical_point() -> None:
    assert recommended_gain(squashed) == pytest.approx(1.593, abs=1e-3)
    assert critical_point(squashed)[0] == pytest.approx(1.761, abs=1.1e-3)
