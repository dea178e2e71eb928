"""Weight initializers by name.

An initializer fills one layer's weight in place, as a matrix ``[out, in]``, and draws from the trial's own generator. A
convolution's matrix has torch's weight ``[out, in, *kernel]`` with all dimensions after the first as one. To add one:
write a function ``(weight, layer) -> None`` and add it to ``INITIALIZERS``; a study file may pass such a function
directly, which may also return the weight instead.

One rule for all: ``init_gain`` multiplies the weights that the law below would give. With
``init_gain="recommended"`` it is the gain of the activation that follows (``recommended_gain``); the output layer,
which nothing follows, then has gain 1. Where a law already contains its activation's constant (He, LSUV, the
critical line), the recommended gain replaces that constant instead of multiplying it twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from searchlib.networks.activations import get_activation
from searchlib.networks.meanfield import critical_point

if TYPE_CHECKING:
    import torch


class Settings(Protocol):
    """The hyperparameters that a law may read; ``TrialConfig`` has them all."""

    @property
    def initializer(self) -> str | Callable[..., None]: ...
    @property
    def init_gain(self) -> float | str: ...
    @property
    def init_std(self) -> float | None: ...
    @property
    def init_low(self) -> float: ...
    @property
    def init_high(self) -> float: ...
    @property
    def init_value(self) -> float: ...
    @property
    def init_sparsity(self) -> float: ...
    @property
    def bias_init(self) -> str: ...
    @property
    def bias_value(self) -> float: ...
    @property
    def activation(self) -> str | Callable[..., Any]: ...
    @property
    def activation_fields(self) -> dict[str, Any]: ...


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What an initializer may know of the layer that it fills.

    index: from 0, the layer next to the input.
    last: whether it is the output layer.
    config: the trial's hyperparameters, a ``TrialConfig``.
    gain: the multiplier of the weights, from ``init_gain``.
    fan_in, fan_out: of the layer's weight by ``torch.nn.init``, for convolutions with the kernel's area.
    generator: the trial's own source of random numbers, on the CPU.
    inputs: a function that returns what enters the layer, ``[batch, fan_in]``, for a fixed batch of training data.
    """

    index: int
    last: bool
    config: Settings
    gain: float
    fan_in: int
    fan_out: int
    generator: torch.Generator
    inputs: Callable[[], torch.Tensor]


Law = Callable[["torch.Tensor", Layer], None]
BiasLaw = Callable[["torch.Tensor", Layer], None]  # bias in place, layer


def _zero_bias(bias: torch.Tensor, layer: Layer) -> None:
    bias.zero_()


def _constant_bias(bias: torch.Tensor, layer: Layer) -> None:
    bias.fill_(layer.config.bias_value)


def _pytorch_bias(bias: torch.Tensor, layer: Layer) -> None:
    bound = 1.0 / math.sqrt(layer.fan_in)
    bias.uniform_(-bound, bound, generator=layer.generator)


def _critical_bias(bias: torch.Tensor, layer: Layer) -> None:
    _, variance = critical_point(layer.config.activation, **layer.config.activation_fields)
    bias.normal_(0.0, math.sqrt(variance), generator=layer.generator)


@dataclass(frozen=True)
class Initializer:
    """The law of one layer's weight and what else must be known of it.

    law: fills a weight ``[out, in]`` in place.
    bias: the law of the bias where ``bias_init`` is ``default``.
    knows_activation: the law contains the constant of the activation that follows, which the recommended gain must
    not multiply once more.
    reads_data: the law looks at training data, through ``Layer.inputs``.
    """

    law: Law
    bias: BiasLaw = _zero_bias
    knows_activation: bool = False
    reads_data: bool = False

    @property
    def __name__(self) -> str:
        """The law's name: an entry of ``INITIALIZERS`` may stand in a study as a function does."""
        return self.law.__name__

    def __call__(self, weight: torch.Tensor, layer: Layer) -> None:
        self.law(weight, layer)


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
    _normal(weight, 1.0 / layer.fan_in, layer)


def lecun_uniform(weight: torch.Tensor, layer: Layer) -> None:
    """Variance 1/fan_in, bound sqrt(3/fan_in) (LeCun et al. 1998)."""
    _uniform(weight, 1.0 / layer.fan_in, layer)


def xavier_normal(weight: torch.Tensor, layer: Layer) -> None:
    """Variance 2/(fan_in + fan_out) (Glorot & Bengio 2010, equation 12)."""
    _normal(weight, 2.0 / (layer.fan_in + layer.fan_out), layer)


def xavier_uniform(weight: torch.Tensor, layer: Layer) -> None:
    """Variance 2/(fan_in + fan_out), bound sqrt(6/(fan_in + fan_out)) (Glorot & Bengio 2010, equation 16)."""
    _uniform(weight, 2.0 / (layer.fan_in + layer.fan_out), layer)


def _kaiming_variance(layer: Layer) -> float:
    if layer.config.init_gain == "recommended":
        return 1.0 / layer.fan_in
    slope = get_activation(layer.config.activation).slope
    chosen = layer.config.activation_fields[slope] if isinstance(slope, str) else 0.0  # as torch.nn.init has it
    return 2.0 / ((1.0 + chosen**2) * layer.fan_in)


def kaiming_normal(weight: torch.Tensor, layer: Layer) -> None:
    """Variance 2/fan_in, and 2/((1+a²) fan_in) before a leaky ReLU of slope a (He et al. 2015, equations 10, 15)."""
    _normal(weight, _kaiming_variance(layer), layer)


def kaiming_uniform(weight: torch.Tensor, layer: Layer) -> None:
    """As ``kaiming_normal``, uniform with bound sqrt(6/fan_in)."""
    _uniform(weight, _kaiming_variance(layer), layer)


def orthogonal(weight: torch.Tensor, layer: Layer) -> None:
    """A random (semi-)orthogonal matrix, Haar distributed: variance 1/max(rows, columns) (Saxe et al. 2013)."""
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
    _uniform(weight, 1.0 / (3.0 * layer.fan_in), layer)


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
    """N(0, sigma_w²/fan_in) at a stable critical point of mean field (Poole et al. 2016, Schoenholz et al. 2017).

    sigma_w² comes from ``critical_point``; with the default ``bias_init`` the bias is N(0, sigma_b²). StudyError for an
    activation that has no such point.
    """
    weight_variance, _ = critical_point(layer.config.activation, **layer.config.activation_fields)
    _normal(weight, weight_variance / layer.fan_in, layer)


INITIALIZERS: dict[str, Initializer] = {
    "constant": Initializer(constant),
    "critical": Initializer(critical, bias=_critical_bias, knows_activation=True),
    "eye": Initializer(eye),
    "kaiming_normal": Initializer(kaiming_normal),
    "kaiming_uniform": Initializer(kaiming_uniform),
    "lecun_normal": Initializer(lecun_normal),
    "lecun_uniform": Initializer(lecun_uniform),
    "lsuv": Initializer(lsuv, knows_activation=True, reads_data=True),
    "normal": Initializer(normal),
    "ones": Initializer(ones),
    "orthogonal": Initializer(orthogonal),
    "pytorch_default": Initializer(pytorch_default, bias=_pytorch_bias),
    "sparse": Initializer(sparse),
    "trunc_normal": Initializer(trunc_normal),
    "uniform": Initializer(uniform),
    "xavier_normal": Initializer(xavier_normal),
    "xavier_uniform": Initializer(xavier_uniform),
    "zeros": Initializer(zeros),
}


BIASES: dict[str, BiasLaw] = {"constant": _constant_bias, "pytorch_default": _pytorch_bias, "zeros": _zero_bias}


@dataclass(frozen=True)
class _OwnLaw:
    """A function of a study file, which fills the weight in place or returns one of the same shape.

    ValueError where it does neither: no weight is left as memory that nobody filled.
    """

    function: Callable[..., Any]

    @property
    def __name__(self) -> str:
        return self.function.__name__

    def __call__(self, weight: torch.Tensor, layer: Layer) -> None:
        import torch

        shape = tuple(weight.shape)
        weight.fill_(math.nan)
        returned = self.function(weight, layer)
        if returned is not None and returned is not weight:
            if not isinstance(returned, torch.Tensor) or tuple(returned.shape) != shape:
                what = list(returned.shape) if isinstance(returned, torch.Tensor) else type(returned).__name__
                raise ValueError(
                    f"initializer {self.__name__!r} returned {what} for a weight of shape {list(shape)}; expected the "
                    "weight filled in place, or a tensor of its shape"
                )
            weight.copy_(returned)
        if tuple(weight.shape) != shape:
            raise ValueError(
                f"initializer {self.__name__!r} changed the weight's shape {list(shape)} to {list(weight.shape)}; "
                "expected its values to be filled in place"
            )
        if wrong := int((~weight.isfinite()).sum()):
            raise ValueError(
                f"initializer {self.__name__!r} left {wrong:,} of {weight.numel():,} weights unset, infinite or NaN; "
                "expected all of them filled in place, or a tensor of their shape returned"
            )


def is_own(name: str | Callable[..., None]) -> bool:
    """Whether an initializer is a function of a study file."""
    return not isinstance(name, (str, Initializer))


def get_initializer(name: str | Callable[..., None]) -> Initializer:
    """The initializer of that name, or a function of a study file wrapped as one."""
    if isinstance(name, Initializer):
        return name
    return INITIALIZERS[name] if isinstance(name, str) else Initializer(_OwnLaw(name), reads_data=True)
