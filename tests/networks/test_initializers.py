"""Initializers: the variances and bounds of the published laws, computed here again, on large matrices."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import kstest, truncnorm
from torch import nn

from searchlib.errors import StudyError
from searchlib.networks import meanfield
from searchlib.networks.activations import ACTIVATIONS, get_activation
from searchlib.networks.initializers import INITIALIZERS, Layer, get_initializer
from searchlib.networks.meanfield import critical_point, recommended_gain
from searchlib.study.config import TrialConfig
from searchlib.training.network import build_mlp, initialize, initialize_layer

FAN_IN, FAN_OUT = 600, 400
PROBE = torch.rand(256, FAN_IN, generator=torch.Generator().manual_seed(9))


def draw(sizes: tuple[int, ...] = (FAN_IN, FAN_OUT, 10), seed: int = 1, probe: torch.Tensor = PROBE, **fields):
    return initialize(
        TrialConfig(**fields),
        sizes,
        generator=torch.Generator().manual_seed(seed),
        probe=probe[:, : sizes[0]],
        dtype=torch.float64,
    )


def first_weight(**fields) -> torch.Tensor:
    weight = draw(**fields)[0][0]
    assert weight.shape == (FAN_OUT, FAN_IN)
    return weight


def assert_moments(weight: torch.Tensor, variance: float, mean: float = 0.0) -> None:
    """Mean and variance, to five standard errors (a normal law's, the widest here but for sparse)."""
    count = weight.numel()
    assert float(weight.mean()) == pytest.approx(mean, abs=5 * math.sqrt(variance / count))
    assert float(weight.var()) == pytest.approx(variance, rel=5 * math.sqrt(2 / count))


NORMAL_VARIANCE = {
    "normal": 1.0,
    "lecun_normal": 1 / FAN_IN,
    "xavier_normal": 2 / (FAN_IN + FAN_OUT),
    "kaiming_normal": 2 / FAN_IN,
    "critical": 2 / FAN_IN,  # relu
}
UNIFORM_BOUND = {
    "lecun_uniform": math.sqrt(3 / FAN_IN),
    "xavier_uniform": math.sqrt(6 / (FAN_IN + FAN_OUT)),
    "kaiming_uniform": math.sqrt(6 / FAN_IN),
    "pytorch_default": 1 / math.sqrt(FAN_IN),
}
CONSTANT = {"zeros": 0.0, "ones": 1.0, "constant": 0.1}
OTHERS = {"uniform", "trunc_normal", "orthogonal", "lsuv", "sparse", "eye"}


def test_every_initializer_has_its_law_tested_here() -> None:
    assert set(INITIALIZERS) == NORMAL_VARIANCE.keys() | UNIFORM_BOUND.keys() | CONSTANT.keys() | OTHERS
    assert list(INITIALIZERS) == sorted(INITIALIZERS)
    assert all(initializer.law.__doc__ for initializer in INITIALIZERS.values())


@pytest.mark.parametrize("name", NORMAL_VARIANCE)
def test_normal_laws(name: str) -> None:
    weight = first_weight(initializer=name)
    assert_moments(weight, NORMAL_VARIANCE[name])
    standard = weight.flatten()[::24] / math.sqrt(NORMAL_VARIANCE[name])
    assert kstest(standard.numpy(), "norm").pvalue > 1e-3


@pytest.mark.parametrize("name", UNIFORM_BOUND)
def test_uniform_laws(name: str) -> None:
    weight, bound = first_weight(initializer=name), UNIFORM_BOUND[name]
    assert_moments(weight, bound**2 / 3)
    assert 0.9999 * bound < float(weight.abs().max()) <= bound * (1 + 1e-6)
    assert kstest((weight.flatten()[::24] / bound).numpy(), "uniform", args=(-1, 2)).pvalue > 1e-3


@pytest.mark.parametrize("name", CONSTANT)
def test_constant_laws(name: str) -> None:
    for weight, bias in draw(initializer=name):
        assert torch.equal(weight, torch.full_like(weight, CONSTANT[name], dtype=torch.float32).double())
        assert not bias.any()
    assert float(first_weight(initializer="constant", init_value=-2.5)[0, 0]) == -2.5


def test_uniform_is_torchs_and_not_centred() -> None:
    weight = first_weight(initializer="uniform")
    assert_moments(weight, 1 / 12, mean=0.5)
    assert weight.min() >= 0.0
    assert weight.max() <= 1.0
    assert_moments(first_weight(initializer="uniform", init_low=-3.0, init_high=1.0), 16 / 12, mean=-1.0)


@pytest.mark.parametrize("std", [None, 0.02])
def test_trunc_normal_is_cut_at_two_deviations(std: float | None) -> None:
    weight = first_weight(initializer="trunc_normal", init_std=std)
    std = 1.0 if std is None else std
    assert_moments(weight, (0.8796 * std) ** 2)
    assert truncnorm(-2, 2).std() == pytest.approx(0.8796, abs=1e-4)
    assert 1.99 * std < weight.abs().max() <= 2 * std
    assert kstest((weight.flatten()[::24] / std).numpy(), truncnorm(-2, 2).cdf).pvalue > 1e-3


def test_init_std() -> None:
    assert_moments(first_weight(initializer="normal", init_std=0.3), 0.09)


@pytest.mark.parametrize(("fan_in", "fan_out"), [(60, 40), (40, 60), (50, 50)])
def test_orthogonal(fan_in: int, fan_out: int) -> None:
    weight = draw((fan_in, fan_out), initializer="orthogonal", init_gain=3.0)[0][0] / 3.0
    product = weight @ weight.T if fan_in >= fan_out else weight.T @ weight
    torch.testing.assert_close(product, torch.eye(min(fan_in, fan_out)).double(), atol=1e-5, rtol=0)
    assert float((weight**2).mean()) == pytest.approx(1 / max(fan_in, fan_out), rel=1e-5)


def test_orthogonal_is_haar_distributed() -> None:
    """Without the sign correction of the QR decomposition the trace of a 2 x 2 matrix would be biased."""
    matrices = torch.stack([draw((2, 2), seed=seed, initializer="orthogonal")[0][0] for seed in range(1500)])
    angle = torch.atan2(matrices[:, 1, 0], matrices[:, 0, 0])
    assert kstest(((angle / math.pi + 1) / 2).numpy(), "uniform").pvalue > 1e-3
    assert float(torch.det(matrices).round().mean()) == pytest.approx(0.0, abs=0.12)


@pytest.mark.parametrize(("sparsity", "std"), [(0.9, None), (0.25, 2.0)])
def test_sparse(sparsity: float, std: float | None) -> None:
    weight = first_weight(initializer="sparse", init_sparsity=sparsity, init_std=std)
    expected = 0.01 if std is None else std
    zeros = (weight == 0).sum(dim=0)
    assert (zeros == math.ceil(sparsity * FAN_OUT)).all(), "the same number of each input's outgoing weights"
    assert float(weight[weight != 0].var()) == pytest.approx(expected**2, rel=0.05)
    shares = (weight == 0).double().mean(dim=1)
    assert float((shares - sparsity).abs().max()) < 0.1, "spread over the units"


def test_eye() -> None:
    assert torch.equal(draw((3, 2), initializer="eye")[0][0], torch.tensor([[1.0, 0, 0], [0, 1, 0]]).double())
    assert torch.equal(
        draw((2, 3), initializer="eye", init_gain=0.5)[0][0], torch.tensor([[0.5, 0], [0, 0.5], [0, 0]]).double()
    )


@pytest.mark.parametrize("name", INITIALIZERS)
def test_weights_come_from_the_generator_alone(name: str) -> None:
    torch.manual_seed(1)
    first = draw((30, 40, 20, 3), initializer=name)
    torch.manual_seed(2)
    again, other = draw((30, 40, 20, 3), initializer=name), draw((30, 40, 20, 3), seed=2, initializer=name)
    for (weight, bias), (weight2, bias2) in zip(first, again, strict=True):
        assert torch.equal(weight, weight2)
        assert torch.equal(bias, bias2)
    if name not in CONSTANT and name != "eye":
        assert all(not torch.equal(one[0], two[0]) for one, two in zip(first[:2], other[:2], strict=True))


@pytest.mark.parametrize("name", INITIALIZERS)
def test_drawing_leaves_torchs_global_generator_alone(name: str) -> None:
    state = torch.random.get_rng_state()
    draw((30, 20, 3), initializer=name)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("name", INITIALIZERS)
def test_init_gain_multiplies(name: str) -> None:
    for (plain, _), (scaled, _) in zip(
        draw((30, 20, 12, 10), initializer=name, activation="identity"),
        draw((30, 20, 12, 10), initializer=name, activation="identity", init_gain=2.0),
        strict=True,
    ):
        torch.testing.assert_close(scaled, 2 * plain, rtol=1e-5, atol=1e-7)
        if name == "lsuv":
            break  # the layers behind it see inputs of twice the size, and need no larger weights


# ------------------------------------------------------------------------------------------------ PyTorch's default


@pytest.mark.parametrize("bias_init", ["default", "pytorch_default"])
def test_pytorch_default_is_the_law_of_torch_linear(bias_init: str) -> None:
    torch.manual_seed(0)
    theirs = nn.Linear(FAN_IN, FAN_OUT)
    ours = draw(initializer="pytorch_default", bias_init=bias_init)[0]
    assert kstest(ours[0].flatten()[::24].numpy(), theirs.weight.detach().flatten()[::24].numpy()).pvalue > 1e-3
    assert_moments(ours[0], 1 / (3 * FAN_IN))
    biases = torch.cat([draw(seed=seed, initializer="pytorch_default")[0][1] for seed in range(8)])
    linears = torch.cat([nn.Linear(FAN_IN, FAN_OUT).bias.detach() for _ in range(8)])
    bound = 1 / math.sqrt(FAN_IN)
    assert 0.99 * bound < float(biases.abs().max()) <= bound * (1 + 1e-6)
    assert kstest(biases.numpy(), linears.numpy()).pvalue > 1e-3


def test_its_variance_is_a_third_of_lecuns() -> None:
    ratio = first_weight(initializer="lecun_uniform").var() / first_weight(initializer="pytorch_default").var()
    assert float(ratio) == pytest.approx(3.0, rel=0.02)


# ------------------------------------------------------------------------------------------------------------ biases


@pytest.mark.parametrize("name", sorted(set(INITIALIZERS) - {"pytorch_default", "critical"}))
def test_the_default_bias_is_zero(name: str) -> None:
    assert not any(bias.any() for _, bias in draw((30, 20, 3), initializer=name))


def test_bias_init() -> None:
    for name in ("pytorch_default", "kaiming_normal", "critical"):
        zeros, constant, drawn = (
            draw((64, 5000, 4), initializer=name, activation="tanh", bias_init=kind, bias_value=0.02)
            for kind in ("zeros", "constant", "pytorch_default")
        )
        assert not any(bias.any() for _, bias in zeros)
        assert all(torch.equal(bias, torch.full_like(bias, 0.02).float().double()) for _, bias in constant)
        assert float(drawn[0][1].var()) == pytest.approx(1 / (3 * 64), rel=0.1)
        assert drawn[0][1].abs().max() <= 1 / 8 + 1e-6
        assert torch.equal(zeros[0][0], drawn[0][0]), "the first weight doesn't depend on the bias"


def test_the_critical_bias_has_the_critical_variance() -> None:
    bias = draw((20, 20000, 4), initializer="critical", activation="tanh")[0][1]
    assert_moments(bias, 0.05)
    assert not draw((20, 50, 4), initializer="critical", activation="relu")[0][1].any(), "sigma_b = 0 only"


# ------------------------------------------------------------------------------------------------------------- gains


@pytest.mark.parametrize("slope", [0.0, 0.01, 0.3, 1.0])
def test_kaiming_with_a_leaky_slope(slope: float) -> None:
    for name in ("kaiming_normal", "kaiming_uniform"):
        weight = first_weight(initializer=name, activation="leaky_relu", negative_slope=slope)
        assert_moments(weight, 2 / ((1 + slope**2) * FAN_IN))


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "relu", "leaky_relu", "identity"])
def test_gains_are_torchs_where_it_has_one(name: str) -> None:
    theirs = nn.init.calculate_gain({"identity": "linear"}.get(name, name), 0.2 if name == "leaky_relu" else None)
    assert recommended_gain(name, **fields_of(name, negative_slope=0.2)) == pytest.approx(theirs)


def test_selu_wants_one() -> None:
    assert recommended_gain("selu") == 1.0


def fields_of(name: str, **changes) -> dict:
    return TrialConfig(activation=name, **changes).activation_fields


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


@pytest.mark.parametrize(
    ("name", "expected"),
    [("softsign", 2.338), ("elu", 1.245), ("gelu", 1.534), ("silu", 1.677), ("mish", 1.487), ("softplus", 1.042)],
)
def test_gains_against_the_table(name: str, expected: float) -> None:
    assert recommended_gain(name) == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize("name", ["kaiming_normal", "kaiming_uniform", "lecun_normal", "xavier_normal"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "leaky_relu"])
def test_the_recommended_gain_comes_in_once(name: str, activation: str) -> None:
    (hidden, _), (output, _) = draw(
        (FAN_IN, FAN_OUT, 300),
        initializer=name,
        activation=activation,
        negative_slope=0.4,
        init_gain="recommended",
    )
    gain = {"relu": math.sqrt(2), "tanh": 5 / 3, "gelu": 1.534, "leaky_relu": math.sqrt(2 / 1.16)}[activation]
    law = {"xavier_normal": (2 / (FAN_IN + FAN_OUT), 2 / (FAN_OUT + 300))}.get(name, (1 / FAN_IN, 1 / FAN_OUT))
    assert_moments(hidden, gain**2 * law[0])
    assert_moments(output, law[1])


def test_he_keeps_a_relu_nets_second_moment_and_the_default_loses_a_factor_of_six() -> None:
    """Two predictions of mean field theory that a diagnosis must show."""
    inputs = torch.randn(500, 400, generator=torch.Generator().manual_seed(3)).double()
    for name, factor in (("kaiming_normal", 1.0), ("pytorch_default", 1 / 6)):
        signal = inputs
        for weight, _ in draw((400, 400, 400, 400), initializer=name, bias_init="zeros", probe=inputs.float()):
            signal = torch.relu(signal @ weight.T)
        ratio = float((signal**2).mean() / (inputs**2).mean())
        assert ratio == pytest.approx(factor**3, rel=0.15)


# -------------------------------------------------------------------------------------------------------------- LSUV


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "prelu", "selu"])
@pytest.mark.parametrize("gain", [1.0, 1.5])
def test_lsuv_gives_every_layer_unit_variance(activation: str, gain: float) -> None:
    config = TrialConfig(initializer="lsuv", activation=activation, hidden=(50, 40, 60), init_gain=gain)
    for variance in output_variances(config):
        assert variance == pytest.approx(gain**2, rel=1e-4)


def test_the_recommended_gain_does_not_change_lsuv() -> None:
    plain = draw((30, 20, 3), initializer="lsuv", activation="tanh")
    recommended = draw((30, 20, 3), initializer="lsuv", activation="tanh", init_gain="recommended")
    assert all(torch.equal(one[0], two[0]) for one, two in zip(plain, recommended, strict=True))


def test_lsuv_sees_what_batch_normalization_lets_through() -> None:
    config = TrialConfig(initializer="lsuv", activation="tanh", hidden=(50, 40), batch_norm=True)
    for variance in output_variances(config):
        assert variance == pytest.approx(1.0, rel=1e-2)


def test_lsuv_leaves_a_dead_layer_alone() -> None:
    weights = draw((30, 20, 3), initializer="lsuv", probe=torch.zeros(8, 30))
    assert all(torch.isfinite(weight).all() and weight.any() for weight, _ in weights)


def output_variances(config: TrialConfig) -> list[float]:
    """The variance of every Linear's output on the probe, in the network that will be trained."""
    sizes = (100, *config.widths, 10)
    drawn = initialize(
        config, sizes, generator=torch.Generator().manual_seed(4), probe=PROBE[:, :100], dtype=torch.float32
    )
    network = build_mlp(config, 100, 10).train()
    linears = [module for module in network if isinstance(module, nn.Linear)]
    found: list[float] = []
    for linear, (weight, bias) in zip(linears, drawn, strict=True):
        linear.load_state_dict({"weight": weight, "bias": bias})
        linear.register_forward_hook(lambda _module, _inputs, output: found.append(float(output.var(correction=0))))
    with torch.no_grad():
        network(PROBE[:, :100])
    return found


# ------------------------------------------------------------------------------------------------------ critical line

CRITICAL_TABLE = {  # science.md, section 2: sigma_w² at sigma_b² = 0.05 and 0.2
    "tanh": (1.761, 2.285),
    "sigmoid": (103.1, 103.5),
    "softsign": (3.141, 4.415),
    "elu": (1.534, 1.682),
    "selu": (0.902, 1.070),
    "gelu": (2.303, 1.971),
    "silu": (2.729, 2.187),
    "mish": (2.105, 1.950),
}


@pytest.fixture
def bias_variance(monkeypatch: pytest.MonkeyPatch):
    """A function that sets sigma_b²; what was computed for another is forgotten, before and after."""
    meanfield._critical_point.cache_clear()
    yield lambda value: monkeypatch.setattr(meanfield, "CRITICAL_BIAS_VARIANCE", value)
    meanfield._critical_point.cache_clear()


@pytest.mark.parametrize("activation", CRITICAL_TABLE)
@pytest.mark.parametrize(("column", "variance"), [(0, 0.05), (1, 0.2)])
def test_critical_points_against_the_table(activation: str, column: int, variance: float, bias_variance) -> None:
    bias_variance(variance)
    expected = CRITICAL_TABLE[activation][column]
    found = critical_point(activation)
    assert found == (pytest.approx(expected, abs=0.1 if expected > 100 else 1.1e-3), variance)


@pytest.mark.parametrize("activation", ["tanh", "elu", "softsign"])
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
        draw((6, 5, 2), initializer="critical", activation="softplus")


def test_every_activation_has_a_point_or_says_that_it_has_none() -> None:
    for name in ACTIVATIONS:
        try:
            weight_variance, bias_variance = critical_point(name, **fields_of(name))
        except StudyError:
            continue
        assert 0.0 < weight_variance < 1e4
        assert bias_variance in (0.0, 0.05)


def test_critical_weights() -> None:
    assert_moments(first_weight(initializer="critical", activation="tanh"), 1.761 / FAN_IN)
    doubled = first_weight(initializer="critical", activation="tanh", init_gain=2.0)
    assert_moments(doubled, 4 * 1.761 / FAN_IN)
    recommended = first_weight(initializer="critical", activation="tanh", init_gain="recommended")
    assert_moments(recommended, 1.761 / FAN_IN)


def squared(x: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x) * 1.0


def test_the_search_for_a_critical_point_runs_once_an_activation() -> None:
    """Not once for each learning rate of a study."""
    meanfield._critical_point.cache_clear()
    for number in range(5):
        draw((6, 5, 2), initializer="critical", activation="tanh", learning_rate=0.01 * (number + 1))
    assert meanfield._critical_point.cache_info().misses == 1


# ----------------------------------------------------------------------------------------------------- studies' own


def halves(weight: torch.Tensor, layer: Layer) -> None:
    """Sees its layer: index, last, gain, generator, inputs."""
    weight.fill_(0.5 * layer.gain + layer.index + (10 if layer.last else 0))
    assert layer.inputs().shape == (256, weight.shape[1])


def test_a_function_of_the_study_is_an_initializer() -> None:
    (first, _), (second, _) = draw((30, 20, 3), initializer=halves, init_gain=4.0)
    assert torch.equal(first, torch.full((20, 30), 2.0).double())
    assert torch.equal(second, torch.full((3, 20), 13.0).double())
    assert recommended_gain(squared) == pytest.approx(1.593, abs=1e-3)
    assert critical_point(squared)[0] == pytest.approx(1.761, abs=1.1e-3)


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=2, max_size=5),
    name=st.sampled_from(sorted(INITIALIZERS)),
    activation=st.sampled_from(["relu", "tanh", "prelu"]),
)
def test_any_shape_is_filled(sizes: list[int], name: str, activation: str) -> None:
    drawn = draw(tuple(sizes), initializer=name, activation=activation)
    assert [tuple(weight.shape) for weight, _ in drawn] == list(zip(sizes[1:], sizes[:-1], strict=True))
    assert all(torch.isfinite(weight).all() and torch.isfinite(bias).all() for weight, bias in drawn)
    assert all(weight.dtype == bias.dtype == torch.float64 for weight, bias in drawn)


def test_a_float64_network_starts_from_the_same_numbers() -> None:
    config = TrialConfig(initializer="xavier_normal")
    single, double = (
        initialize(config, (5, 4), generator=torch.Generator().manual_seed(1), probe=PROBE[:, :5], dtype=dtype)[0][0]
        for dtype in (torch.float32, torch.float64)
    )
    assert torch.equal(single.double(), double)


def test_a_convolution_counts_its_kernel_as_fan_in() -> None:
    convolution = nn.Conv2d(16, 200, 5)
    config = TrialConfig(initializer="kaiming_normal", bias_init="constant", bias_value=0.25)
    initialize_layer(convolution, config, index=0, last=False, generator=torch.Generator().manual_seed(0))
    assert_moments(convolution.weight.detach(), 2 / (16 * 25))
    assert (convolution.bias == 0.25).all()
    assert convolution.weight.requires_grad
    with pytest.raises(StudyError, match="'lsuv' looks at data, which works for an MLP only"):
        initialize_layer(convolution, TrialConfig(initializer="lsuv"), index=0, last=False, generator=torch.Generator())


def test_an_entry_stands_in_a_study_as_a_function_does() -> None:
    """With its name, its bias law and its rule for the gain."""
    entry = INITIALIZERS["pytorch_default"]
    config = TrialConfig(initializer=entry)
    assert config.encoded()["initializer"] == "pytorch_default"
    assert get_initializer(config.initializer) is entry
