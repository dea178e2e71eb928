"""Initializers: the variances and bounds of the published laws, computed here again, on large matrices."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest, truncnorm
from torch import nn

from searchlib.errors import StudyError
from searchlib.networks.initializers import INITIALIZERS, Layer, get_initializer
from searchlib.study.config import TrialConfig
from searchlib.training.filling import fill
from searchlib.training.network import build_mlp, initialize

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
    for weight, _ in draw(initializer=name):
        assert torch.equal(weight, torch.full_like(weight, CONSTANT[name], dtype=torch.float32).double())
    assert float(first_weight(initializer="constant", init_value=-2.5)[0, 0]) == -2.5


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.0, 1.0)])
def test_uniform_is_torchs_and_not_centred(low: float, high: float) -> None:
    weight = first_weight(initializer="uniform", **({} if low == 0.0 else {"init_low": low, "init_high": high}))
    assert_moments(weight, (high - low) ** 2 / 12, mean=(low + high) / 2)
    assert low <= weight.min() <= weight.max() <= high


PARAMETERS = [  # an initializer's own fields or its activation, and the variance that they give
    ({"initializer": "normal", "init_std": 0.3}, 0.09),
    ({"initializer": "critical", "activation": "tanh"}, 1.761 / FAN_IN),
    ({"initializer": "critical", "activation": "tanh", "init_gain": "recommended"}, 1.761 / FAN_IN),
    *(
        ({"initializer": name, "activation": "leaky_relu", "negative_slope": slope}, 2 / (1 + slope**2) / FAN_IN)
        for name in ("kaiming_normal", "kaiming_uniform")
        for slope in (0.0, 0.3, 1.0)
    ),
]


@pytest.mark.parametrize(("fields", "variance"), PARAMETERS, ids=str)
def test_what_the_laws_depend_on(fields: dict, variance: float) -> None:
    assert_moments(first_weight(**fields), variance)


@pytest.mark.parametrize("std", [None, 0.02])
def test_trunc_normal_is_cut_at_two_deviations(std: float | None) -> None:
    weight = first_weight(initializer="trunc_normal", init_std=std)
    std = 1.0 if std is None else std
    assert_moments(weight, (0.8796 * std) ** 2)
    assert truncnorm(-2, 2).std() == pytest.approx(0.8796, abs=1e-4)
    assert 1.99 * std < weight.abs().max() <= 2 * std
    assert kstest((weight.flatten()[::24] / std).numpy(), truncnorm(-2, 2).cdf).pvalue > 1e-3


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


@pytest.mark.parametrize("name", ["kaiming_normal", "kaiming_uniform", "lecun_normal", "xavier_normal"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "leaky_relu"])
def test_the_recommended_gain_comes_in_once(name: str, activation: str) -> None:
    (hidden, _), (output, _) = draw(
        (FAN_IN, FAN_OUT, 300), initializer=name, activation=activation, negative_slope=0.4, init_gain="recommended"
    )
    gain = {"relu": math.sqrt(2), "tanh": 5 / 3, "gelu": 1.534, "leaky_relu": math.sqrt(2 / 1.16)}[activation]
    law = {"xavier_normal": (2 / (FAN_IN + FAN_OUT), 2 / (FAN_OUT + 300))}.get(name, (1 / FAN_IN, 1 / FAN_OUT))
    assert_moments(hidden, gain**2 * law[0])
    assert_moments(output, law[1])


@pytest.mark.parametrize("name", INITIALIZERS)
def test_weights_come_from_the_generator_alone(name: str) -> None:
    """Torch's global one is neither read nor moved."""
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = draw((30, 40, 20, 3), initializer=name)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    again, other = draw((30, 40, 20, 3), initializer=name), draw((30, 40, 20, 3), seed=2, initializer=name)
    for (weight, bias), (weight2, bias2) in zip(first, again, strict=True):
        assert torch.equal(weight, weight2)
        assert torch.equal(bias, bias2)
    if name not in CONSTANT and name != "eye":
        assert all(not torch.equal(one[0], two[0]) for one, two in zip(first[:2], other[:2], strict=True))


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
    ours = first_weight(initializer="pytorch_default", bias_init=bias_init)
    assert kstest(ours.flatten()[::24].numpy(), theirs.weight.detach().flatten()[::24].numpy()).pvalue > 1e-3
    fields = {"initializer": "pytorch_default", "bias_init": bias_init}
    biases = torch.cat([draw(seed=seed, **fields)[0][1] for seed in range(8)])
    linears = torch.cat([nn.Linear(FAN_IN, FAN_OUT).bias.detach() for _ in range(8)])
    bound = 1 / math.sqrt(FAN_IN)
    assert 0.99 * bound < float(biases.abs().max()) <= bound * (1 + 1e-6)
    assert kstest(biases.numpy(), linears.numpy()).pvalue > 1e-3


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


# ----------------------------------------------------------------------------------------------------- studies' own


def halves(weight: torch.Tensor, layer: Layer) -> None:
    """Sees its layer: index, last, gain, generator, inputs."""
    weight.fill_(0.5 * layer.gain + layer.index + (10 if layer.last else 0))
    assert layer.inputs().shape == (256, weight.shape[1])


def test_a_function_of_the_study_is_an_initializer() -> None:
    (first, _), (second, _) = draw((30, 20, 3), initializer=halves, init_gain=4.0)
    assert torch.equal(first, torch.full((20, 30), 2.0).double())
    assert torch.equal(second, torch.full((3, 20), 13.0).double())


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
    fill(convolution, config, torch.Generator().manual_seed(0))
    assert_moments(convolution.weight.detach(), 2 / (16 * 25))
    assert (convolution.bias == 0.25).all()
    assert convolution.weight.requires_grad
    with pytest.raises(StudyError, match="'lsuv' looks at data, which works for an MLP only"):
        fill(convolution, TrialConfig(initializer="lsuv"), torch.Generator())


def test_an_entry_stands_in_a_study_as_a_function_does() -> None:
    """With its name, its bias law and its rule for the gain."""
    entry = INITIALIZERS["pytorch_default"]
    config = TrialConfig(initializer=entry)
    assert config.encoded()["initializer"] == "pytorch_default"
    assert get_initializer(config.initializer) is entry
