"""Mean field theory: recommended gains and critical points, by quadrature and by the published figures."""

from __future__ import annotations

import math
import re
from pathlib import Path

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


# activation: sigma_w², sigma_b², and q and V' at the fixed point
STABLE = {
    "celu": (1.534, 0.05, 1.301, 0.860),
    "elu": (1.534, 0.05, 1.301, 0.860),
    "gelu": (1.961, 0.5, 21.96, 0.982),
    "hardsigmoid": (106.8, 0.05, 47.4, 0.062),
    "hardswish": (1.883, 1.0, 11.27, 0.952),
    "hardtanh": (1.166, 0.05, 0.464, 0.535),
    "mish": (1.950, 0.2, 3.959, 0.979),
    "relu6": (2.022, 0.05, 5.562, 0.919),
    "selu": (0.902, 0.05, 0.827, 0.737),
    "sigmoid": (103.1, 0.05, 45.73, 0.060),
    "silu": (1.967, 1.0, 39.39, 0.987),
    "softsign": (3.141, 0.05, 0.412, 0.497),
    "tanh": (1.761, 0.05, 0.570, 0.518),
}
# any q is a fixed point at sigma_b² = 0, with V' = 1
HOMOGENEOUS = {"identity", "leaky_relu", "prelu", "relu", "rrelu"}
NONE = {"hardshrink", "logsigmoid", "softplus", "softshrink", "tanhshrink", "threshold"}


def moments(name: str, q: float) -> tuple[float, float, float]:
    """E[phi²], E[phi'²] and d/dq E[phi²] = E[phi² (z² - 1)] / 2q, where z is normal and phi is taken at sqrt(q) z."""
    z = torch.linspace(-10.0, 10.0, 200_000, dtype=torch.float64)  # 12 times as fine as the module's own
    density = torch.exp(-z * z / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    y, slope = get_activation(name).curve(math.sqrt(q) * z)
    return tuple(float((x * density).sum()) for x in (y**2, slope**2, y**2 * (z**2 - 1) / (2 * q)))  # type: ignore[return-value]


def test_each_activation_is_in_one_group() -> None:
    assert sorted([*STABLE, *HOMOGENEOUS, *NONE]) == sorted(ACTIVATIONS)


@pytest.mark.parametrize("activation", STABLE)
def test_a_critical_point_is_a_stable_fixed_point(activation: str) -> None:
    weight_variance, bias_variance = critical_point(activation)
    expected, expected_bias, q, slope = STABLE[activation]
    assert weight_variance == pytest.approx(expected, rel=2e-3)
    assert bias_variance == expected_bias
    second_moment, slope_moment, derivative = moments(activation, q)
    assert weight_variance * second_moment + bias_variance == pytest.approx(q, rel=3e-3)
    assert weight_variance * slope_moment == pytest.approx(1.0, abs=3e-3)
    assert weight_variance * derivative == pytest.approx(slope, abs=2e-3)


def test_the_page_on_the_method_has_these_points() -> None:
    text = (Path(__file__).parents[2] / "docs" / "method.md").read_text(encoding="utf-8")
    section = text.partition("## The critical initializer")[2]
    rows = re.findall(r"^\| ([a-z].*?) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", section, re.MULTILINE)
    shown = {name: tuple(map(float, row[1:])) for row in rows for name in row[0].split(", ")}
    assert shown == {name: pytest.approx(point, rel=2e-3) for name, point in STABLE.items()}
    assert all(name in section for name in (*HOMOGENEOUS, *NONE))


def measured_chi(name: str, weight_variance: float, bias_variance: float, signal: float) -> float:
    """The factor of the squared gradient in one layer around layer 30, in random networks 800 wide.

    It is the geometric mean over 25 to 34, by autograd. signal: second moment of the inputs.
    """
    width, deepest = 800, 35
    generator = torch.Generator().manual_seed(0)
    phi = TrialConfig(activation=name).build_activation().eval().requires_grad_(False)
    x = torch.randn(16, width, generator=generator) * math.sqrt(signal)
    layers = []
    for _ in range(deepest):
        weight = torch.randn(width, width, generator=generator) * math.sqrt(weight_variance / width)
        bias = torch.randn(width, generator=generator) * math.sqrt(bias_variance)
        layers.append((x @ weight.T + bias).requires_grad_())
        x = phi(layers[-1])
    gradients = torch.autograd.grad(x, [layers[24], layers[34]], torch.randn(x.shape, generator=generator))
    early, late = (float(gradient.double().square().sum()) for gradient in gradients)
    return (early / late) ** (1 / 10)


@pytest.mark.slow
@pytest.mark.parametrize("signal", [0.25, 1.0, 4.0])
@pytest.mark.parametrize("activation", [*STABLE, *sorted(HOMOGENEOUS)])
def test_gradients_keep_their_size_in_layer_30(activation: str, signal: float) -> None:
    """In random networks, which know nothing of the theory."""
    point = critical_point(activation, **fields_of(activation))
    assert measured_chi(activation, *point, signal) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(
    ("activation", "weight_variance"),
    [("gelu", 2.303), ("silu", 2.729), ("hardswish", 2.974), ("tanhshrink", 39.12), ("softshrink", 18.04)],
)
def test_gradients_do_not_keep_their_size_at_an_unstable_point(activation: str, weight_variance: float) -> None:
    """Where chi = 1 is first crossed at sigma_b² = 0.05."""
    assert not 0.9 < measured_chi(activation, weight_variance, 0.05, 1.0) < 1.1


@pytest.mark.parametrize("activation", sorted(NONE))
def test_an_activation_without_a_stable_critical_point(activation: str) -> None:
    """Whatever q is, chi = 1 needs a negative sigma_b² there, or V' is 1 or more."""
    for q in (0.05, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0, 100.0, 1000.0, 10000.0):
        second_moment, slope_moment, derivative = moments(activation, q)
        if slope_moment > 0.0:
            weight_variance = 1.0 / slope_moment
            assert q - weight_variance * second_moment < 0.0 or weight_variance * derivative > 0.999
    told = rf"'{activation}' has no stable critical point.*leave this pair out.*'orthogonal' with init_gain.*'lsuv'"
    with pytest.raises(StudyError, match=told):
        critical_point(activation)
    assert recommended_gain(activation) > 0.0, "what the message advises"


@pytest.mark.parametrize(
    ("activation", "expected"),
    [("relu", 2.0), ("identity", 1.0), ("leaky_relu", 2 / 1.04), ("prelu", 2 / 1.0625)],
)
def test_homogeneous_activations_are_critical_without_a_bias(activation: str, expected: float) -> None:
    assert critical_point(activation, **fields_of(activation, negative_slope=0.2)) == (pytest.approx(expected), 0.0)


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


def doubled_leak(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x > 0, 2.0 * x, 0.2 * x)


def steep(x: torch.Tensor) -> torch.Tensor:
    return x.exp()


def test_a_homogeneous_function_of_the_study_is_critical_without_a_bias() -> None:
    assert critical_point(doubled_leak) == (pytest.approx(2 / (2.0**2 + 0.2**2)), 0.0)


def test_a_function_of_the_study_without_a_critical_point_says_so() -> None:
    with pytest.raises(StudyError, match="activation steep has no stable critical point"):
        critical_point(steep)
