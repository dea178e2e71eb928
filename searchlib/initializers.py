"""Weight initializers by name.

An initializer fills one layer's weight in place, in ``torch.nn.Linear``'s layout ``[out, in]``, and draws from the
trial's own generator. To add one: write a function ``(weight, layer) -> None`` and add it to ``INITIALIZERS``; a
study file may pass such a function directly.

One rule for all: ``init_gain`` multiplies the weights that the law below would give. With
``init_gain="recommended"`` it is the gain of the activation that follows (``recommended_gain``); the output layer,
which nothing follows, then has gain 1. Where a law already contains its activation's constant (He, LSUV, the
critical line), the recommended gain replaces that constant instead of multiplying it twice.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from searchlib.activations import get_activation
from searchlib.errors import StudyError

if TYPE_CHECKING:
    import torch

    from searchlib.trial import TrialConfig

__all__ = [
    "INITIALIZERS",
    "Layer",
    "critical_point",
    "gaussian_moments",
    "initialize",
    "initialize_layer",
    "recommended_gain",
]

CRITICAL_BIAS_VARIANCE = 0.05  # sigma_b^2 of the critical initializer (Schoenholz 2017 draw their maps at this value)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What an initializer may know of the layer that it fills.

    index: from 0, the layer next to the input.
    last: whether it is the output layer.
    gain: the multiplier of the weights, from ``init_gain``.
    generator: the trial's own source of random numbers, on the CPU.
    inputs: a function that returns what enters the layer, ``[batch, fan_in]``, for a fixed batch of training data.
    """

    index: int
    last: bool
    config: TrialConfig
    gain: float
    generator: torch.Generator
    inputs: Callable[[], torch.Tensor]


Initializer = Callable[["torch.Tensor", Layer], None]


def _fans(weight: torch.Tensor) -> tuple[int, int]:
    fan_out, fan_in = weight.shape
    return fan_in, fan_out


def _normal(weight: torch.Tensor, variance: float, layer: Layer) -> None:
    weight.normal_(0.0, layer.gain * math.sqrt(variance), generator=layer.generator)


def _uniform(weight: torch.Tensor, variance: float, layer: Layer) -> None:
    bound = layer.gain * math.sqrt(3.0 * variance)
    weight.uniform_(-bound, bound, generator=layer.generator)


def zeros(weight: torch.Tensor, layer: Layer) -> None:
    """All 0. No symmetry is broken: all units of a layer stay equal."""
    weight.zero_()


def ones(weight: torch.Tensor, layer: Layer) -> None:
    """All 1 (times the gain)."""
    weight.fill_(layer.gain)


def constant(weight: torch.Tensor, layer: Layer) -> None:
    """All equal to ``init_value`` (times the gain)."""
    weight.fill_(layer.gain * layer.config.init_value)


def normal(weight: torch.Tensor, layer: Layer) -> None:
    """N(0, ``init_std``²), 1 unless set: the variance of the sum grows with fan_in."""
    _normal(weight, (1.0 if layer.config.init_std is None else layer.config.init_std) ** 2, layer)


def uniform(weight: torch.Tensor, layer: Layer) -> None:
    """U(``init_low``, ``init_high``), by default torch's U(0, 1), which has mean 1/2. Variance (high-low)²/12."""
    low, high = layer.config.init_low, layer.config.init_high
    weight.uniform_(low, high, generator=layer.generator).mul_(layer.gain)


def trunc_normal(weight: torch.Tensor, layer: Layer) -> None:
    """N(0, ``init_std``²) cut at two of its deviations, not corrected: variance 0.8796² ``init_std``².

    The cut is relative to the deviation, as in Keras; ``torch.nn.init.trunc_normal_`` cuts at -2 and 2 whatever
    the deviation. At the default deviation 1 the two agree.
    """
    from torch.nn import init

    std = layer.gain * (1.0 if layer.config.init_std is None else layer.config.init_std)
    init.trunc_normal_(weight, 0.0, std, -2.0 * std, 2.0 * std, generator=layer.generator)


def lecun_normal(weight: torch.Tensor, layer: Layer) -> None:
    """Variance 1/fan_in (LeCun et al. 1998, "Efficient BackProp", section 4.6)."""
    _normal(weight, 1.0 / _fans(weight)[0], layer)


def lecun_uniform(weight: torch.Tensor, layer: Layer) -> None:
    """Variance 1/fan_in, bound sqrt(3/fan_in) (LeCun et al. 1998)."""
    _uniform(weight, 1.0 / _fans(weight)[0], layer)


def xavier_normal(weight: torch.Tensor, layer: Layer) -> None:
    """Variance 2/(fan_in + fan_out) (Glorot & Bengio 2010, equation 12)."""
    _normal(weight, 2.0 / sum(_fans(weight)), layer)


def xavier_uniform(weight: torch.Tensor, layer: Layer) -> None:
    """Variance 2/(fan_in + fan_out), bound sqrt(6/(fan_in + fan_out)) (Glorot & Bengio 2010, equation 16)."""
    _uniform(weight, 2.0 / sum(_fans(weight)), layer)


def _kaiming_variance(weight: torch.Tensor, layer: Layer) -> float:
    fan_in, _ = _fans(weight)
    if layer.config.init_gain == "recommended":
        return 1.0 / fan_in
    slope = layer.config.negative_slope if layer.config.activation == "leaky_relu" else 0.0
    return 2.0 / ((1.0 + slope**2) * fan_in)


def kaiming_normal(weight: torch.Tensor, layer: Layer) -> None:
    """Variance 2/fan_in, and 2/((1+a²) fan_in) before a leaky ReLU of slope a (He et al. 2015, equations 10, 15)."""
    _normal(weight, _kaiming_variance(weight, layer), layer)


def kaiming_uniform(weight: torch.Tensor, layer: Layer) -> None:
    """As ``kaiming_normal``, uniform with bound sqrt(6/fan_in)."""
    _uniform(weight, _kaiming_variance(weight, layer), layer)


def orthogonal(weight: torch.Tensor, layer: Layer) -> None:
    """A random (semi-)orthogonal matrix, Haar distributed: variance 1/max(fan) (Saxe et al. 2013)."""
    from torch.nn import init

    init.orthogonal_(weight, gain=layer.gain, generator=layer.generator)


def sparse(weight: torch.Tensor, layer: Layer) -> None:
    """A share ``init_sparsity`` of each unit's outgoing weights is 0, the rest N(0, ``init_std``²), 0.01 unless set.

    Martens 2010, as in ``torch.nn.init.sparse_``.
    """
    import torch

    std = 0.01 if layer.config.init_std is None else layer.config.init_std
    weight.normal_(0.0, layer.gain * std, generator=layer.generator)
    units = weight.shape[0]
    for column in weight.T:  # torch.nn.init.sparse_ draws these from the global generator
        column[torch.randperm(units, generator=layer.generator)[: math.ceil(layer.config.init_sparsity * units)]] = 0.0


def eye(weight: torch.Tensor, layer: Layer) -> None:
    """The identity, cut or padded with zeros to the layer's shape."""
    from torch.nn import init

    init.eye_(weight)
    weight.mul_(layer.gain)


def pytorch_default(weight: torch.Tensor, layer: Layer) -> None:
    """What ``torch.nn.Linear`` does: U(±1/sqrt(fan_in)), variance 1/(3 fan_in), a third of LeCun's.

    With the default ``bias_init`` the bias is drawn from the same law, as in ``torch.nn.Linear``.
    """
    _uniform(weight, 1.0 / (3.0 * _fans(weight)[0]), layer)


def lsuv(weight: torch.Tensor, layer: Layer) -> None:
    """Orthonormal, then scaled until the layer's output on a batch of training data has variance gain².

    Mishkin & Matas 2015, algorithm 1. A linear layer's output scales with its weights, so one pass is exact.
    """
    from torch.nn import init

    init.orthogonal_(weight, generator=layer.generator)
    inputs = layer.inputs()
    deviation = float((inputs.to(weight.dtype) @ weight.T).std(correction=0))
    if deviation > 0.0:  # a dead layer's output is constant: no scale can change that
        weight.mul_(layer.gain / deviation)


def critical(weight: torch.Tensor, layer: Layer) -> None:
    """N(0, sigma_w²/fan_in) on the mean-field critical line (Poole et al. 2016, Schoenholz et al. 2017).

    sigma_w² comes from ``critical_point``; with the default ``bias_init`` the bias is N(0, sigma_b²).
    """
    weight_variance, _ = critical_point(layer.config)
    _normal(weight, weight_variance / _fans(weight)[0], layer)


INITIALIZERS: dict[str, Initializer] = {
    "constant": constant,
    "critical": critical,
    "eye": eye,
    "kaiming_normal": kaiming_normal,
    "kaiming_uniform": kaiming_uniform,
    "lecun_normal": lecun_normal,
    "lecun_uniform": lecun_uniform,
    "lsuv": lsuv,
    "normal": normal,
    "ones": ones,
    "orthogonal": orthogonal,
    "pytorch_default": pytorch_default,
    "sparse": sparse,
    "trunc_normal": trunc_normal,
    "uniform": uniform,
    "xavier_normal": xavier_normal,
    "xavier_uniform": xavier_uniform,
    "zeros": zeros,
}

BIAS_INITS = ("constant", "default", "pytorch_default", "zeros")


def initialize(
    config: TrialConfig,
    sizes: tuple[int, ...],
    *,
    generator: torch.Generator,
    probe: torch.Tensor,
    dtype: torch.dtype,
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Draw the weights and biases of one network, on the CPU.

    sizes: units by layer, ``(inputs, *hidden, outputs)``.
    generator: the trial's own; layers are drawn in order, each weight before its bias.
    probe: a batch of scaled training inputs ``[batch, inputs]`` for initializers that look at data.
    Returns ``(weight [out, in], bias [out])`` by layer.

    Drawn in float32 whatever the dtype, so that a float64 network starts from the same numbers.
    """
    import torch

    fill = INITIALIZERS[config.initializer] if isinstance(config.initializer, str) else config.initializer
    activation = get_activation(config.activation).build(config).eval()
    layers: list[tuple[torch.Tensor, torch.Tensor]] = []

    @torch.no_grad()
    def inputs() -> torch.Tensor:
        signal = probe.float()
        for weight, bias in layers:
            signal = signal @ weight.T + bias
            if config.batch_norm:
                signal = torch.nn.functional.batch_norm(signal, None, None, training=True)
            signal = activation(signal)
        return signal

    with torch.no_grad():
        for index, (fan_in, fan_out) in enumerate(pairwise(sizes)):
            last = index == len(sizes) - 2
            layer = Layer(
                index=index, last=last, config=config, gain=_gain(config, last), generator=generator, inputs=inputs
            )
            weight = torch.empty(fan_out, fan_in)
            fill(weight, layer)
            layers.append((weight, _bias(config, fan_in, fan_out, generator)))
    return [(weight.to(dtype), bias.to(dtype)) for weight, bias in layers]


def initialize_layer(
    module: torch.nn.Linear | torch.nn.modules.conv._ConvNd,
    config: TrialConfig,
    *,
    index: int,
    last: bool,
    generator: torch.Generator,
) -> None:
    """Fill one layer of a module of the study's own; a convolution's fan_in is channels times kernel size."""
    import torch

    def inputs() -> torch.Tensor:
        raise StudyError(f"initializer {config.initializer!r} looks at data, which works for an MLP only")

    fill = INITIALIZERS[config.initializer] if isinstance(config.initializer, str) else config.initializer
    layer = Layer(index=index, last=last, config=config, gain=_gain(config, last), generator=generator, inputs=inputs)
    with torch.no_grad():
        weight = torch.empty(module.weight.shape[0], module.weight[0].numel())
        fill(weight, layer)
        module.weight.copy_(weight.view(module.weight.shape))
        if module.bias is not None:
            module.bias.copy_(_bias(config, weight.shape[1], weight.shape[0], generator))


def _bias(config: TrialConfig, fan_in: int, fan_out: int, generator: torch.Generator) -> torch.Tensor:
    import torch

    bias = torch.zeros(fan_out)
    kind = config.bias_init
    if kind == "default" and config.initializer == "pytorch_default":
        kind = "pytorch_default"
    if kind == "constant":
        bias.fill_(config.bias_value)
    elif kind == "pytorch_default":
        bias.uniform_(-1.0 / math.sqrt(fan_in), 1.0 / math.sqrt(fan_in), generator=generator)
    elif kind == "default" and config.initializer == "critical":
        bias.normal_(0.0, math.sqrt(critical_point(config)[1]), generator=generator)
    return bias


def _gain(config: TrialConfig, last: bool) -> float:
    if config.init_gain != "recommended":
        return float(config.init_gain)
    if last or config.initializer in ("critical", "lsuv"):
        return 1.0
    return recommended_gain(config)


def recommended_gain(config: TrialConfig) -> float:
    """The gain for the activation of *config*.

    ``torch.nn.init.calculate_gain`` where it knows the activation (SELU excepted: a self-normalizing network wants
    1, Klambauer et al. 2017); leaky ReLU's formula with the (mean) slope for PReLU and RReLU; otherwise
    1/sqrt(E[phi(z)²]) with z standard normal, He's condition for any activation: a unit second moment is kept.
    """
    from torch.nn import init

    name = config.activation
    if name == "selu":
        return 1.0
    known: tuple[Literal["sigmoid", "tanh", "relu"], ...] = ("sigmoid", "tanh", "relu")
    for nonlinearity in known:
        if name == nonlinearity:
            return float(init.calculate_gain(nonlinearity))
    slope = _slope(config)
    if slope is not None:
        return math.sqrt(2.0 / (1.0 + slope**2))
    second_moment, _ = gaussian_moments(config, 1.0)
    return 1.0 / math.sqrt(second_moment)


def _slope(config: TrialConfig) -> float | None:
    """The slope left of 0 of a positively homogeneous activation, or None for any other."""
    slopes = {
        "identity": 1.0,
        "relu": 0.0,
        "leaky_relu": config.negative_slope,
        "prelu": 0.25,
        "rrelu": (1 / 8 + 1 / 3) / 2,
    }
    return slopes.get(config.activation) if isinstance(config.activation, str) else None


def critical_point(config: TrialConfig) -> tuple[float, float]:
    """(sigma_w², sigma_b²) at which chi = sigma_w² E[phi'(sqrt(q) z)²] = 1 at the fixed point q of the variance map.

    A positively homogeneous activation (ReLU and its leaky forms, identity) is critical at sigma_b = 0 only, where
    sigma_w² = 2/(1+a²). For the others sigma_b² is ``CRITICAL_BIAS_VARIANCE``. StudyError where no point is found.
    """
    slope = _slope(config)
    if slope is not None:
        return 2.0 / (1.0 + slope**2), 0.0
    # only what the point depends on: one search for an activation, not one for each learning rate
    return _critical_point(type(config)(activation=config.activation, negative_slope=config.negative_slope))


@functools.lru_cache(maxsize=256)
def _critical_point(config: TrialConfig) -> tuple[float, float]:
    from scipy.optimize import brentq

    def excess(log_q: float) -> float:
        q = math.exp(log_q)
        second_moment, slope_moment = gaussian_moments(config, q)
        if second_moment <= 0.0:
            return math.nan
        return (q - CRITICAL_BIAS_VARIANCE) / second_moment * slope_moment - 1.0

    grid = [math.log(CRITICAL_BIAS_VARIANCE) + 0.1 * step for step in range(1, 120)]
    values = [excess(log_q) for log_q in grid]
    for (left, right), (below, above) in zip(pairwise(grid), pairwise(values), strict=True):
        if below < 0.0 <= above:
            q = math.exp(brentq(excess, left, right, xtol=1e-10))
            return (q - CRITICAL_BIAS_VARIANCE) / gaussian_moments(config, q)[0], CRITICAL_BIAS_VARIANCE
    name = config.activation if isinstance(config.activation, str) else config.activation.__name__
    raise StudyError(
        f"initializer 'critical': activation {name!r} has no critical point at sigma_b² = {CRITICAL_BIAS_VARIANCE}; "
        "leave this pair out of the study, or use 'lsuv'"
    )


def gaussian_moments(config: TrialConfig, q: float) -> tuple[float, float]:
    """(E[phi(sqrt(q) z)²], E[phi'(sqrt(q) z)²]) for z standard normal, on a fine grid in float64."""
    import torch

    activation = get_activation(config.activation).build(config).eval().double()
    z = torch.linspace(-12.0, 12.0, 16_000, dtype=torch.float64)  # 0 lies midway: a jump of phi' there is met exactly
    density = torch.exp(-0.5 * z**2) / math.sqrt(2.0 * math.pi) * (z[1] - z[0])
    with torch.enable_grad():
        x = (math.sqrt(q) * z).requires_grad_()
        y = activation(x)
        (slope,) = torch.autograd.grad(y.sum(), x)
    return float((y.detach() ** 2 * density).sum()), float((slope**2 * density).sum())
