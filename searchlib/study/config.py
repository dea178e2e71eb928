"""One trial: every hyperparameter with its default and its check, its signature and its seeds.

A hyperparameter is one field of ``TrialConfig``. Any field can be scientific, nuisance or fixed in a study.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from searchlib.errors import StudyError
from searchlib.networks import ACTIVATIONS, BIASES, INITIALIZERS, OPTIMIZERS, get_activation
from searchlib.study.schedules import SCHEDULES
from searchlib.study.space import Dimension, Primitive, encode, is_named
from searchlib.text import encode_for_message, unknown_name

if TYPE_CHECKING:
    import torch

MOST_SHOWN = 12  # values in a message

INPUT_SCALINGS = ("standard", "symmetric", "unit")
PRECISIONS = ("bfloat16", "float32")
MOST = 2**31 - 1  # of any whole number
Check = Callable[[Any], Any]


def _number(
    *, above: float | None = None, least: float | None = None, below: float | None = None, most: float | None = None
) -> Check:
    limits = {"above": above, "at least": least, "below": below, "at most": most}
    expected = "a number " + " and ".join(f"{word} {limit:g}" for word, limit in limits.items() if limit is not None)

    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:
            raise ValueError(f"expected {expected.strip()}")
        inside = (
            (above is None or value > above)
            and (least is None or value >= least)
            and (below is None or value < below)
            and (most is None or value <= most)
        )
        if not inside:
            raise ValueError(f"expected {expected.strip()}")
        return float(value) + 0.0  # -0.0 becomes 0.0: equal configurations have one signature

    return check


def _integer(*, least: int, most: int = MOST) -> Check:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"expected a whole number of {least} or more")
        if value > most:
            raise ValueError(f"expected a whole number of {most:,} at most")
        return value

    return check


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("expected True or False")
    return value


def _one_of(kind: str, known: Iterable[str], *, or_function: bool = False) -> Check:
    def check(value: Any) -> Any:
        if or_function and isinstance(value, type):
            raise ValueError(f"a class is no {kind}; expected a name, or a function that is called with tensors")
        if (isinstance(value, str) and value in known) or (or_function and is_named(value)):
            return value
        raise ValueError(unknown_name(kind, value, known))

    return check


def _optional(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def _gain(value: Any) -> float | str:
    if value == "recommended":
        return "recommended"
    try:
        return float(_number(above=0.0)(value))
    except ValueError:
        raise ValueError("expected a number above 0, or 'recommended'") from None


def _widths(value: Any) -> tuple[int, ...]:
    expected = "expected widths such as (256, 128) or '256-128', each 1 or more; () or '' for no hidden layer"
    if isinstance(value, int) and not isinstance(value, bool):
        value = (value,)
    elif isinstance(value, str):
        parts = value.split("-") if value else []
        if not all(part.isdecimal() for part in parts):
            raise ValueError(expected)
        value = tuple(int(part) for part in parts)
    if not isinstance(value, (tuple, list)) or not all(type(width) is int and 0 < width <= MOST for width in value):
        raise ValueError(expected)
    return tuple(value)


def _of(hyperparameter: str) -> str:
    """Whose hyperparameter it is: ``of adam, adamw and lion``."""
    *names, last = (name for name, optimizer in OPTIMIZERS.items() if hyperparameter in optimizer.fields)
    return f"of {', '.join(names)}{' and ' * bool(names)}{last}"


def _option(default: Any, check: Check, doc: str) -> Any:
    return dataclasses.field(default=default, metadata={"check": check, "doc": doc})


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """Every hyperparameter of one training. Checked on construction; a wrong value is a ``StudyError``.

    Names follow ``torch.optim`` and ``torch.nn``. ``depth`` and ``width``, when given, take the place of
    ``hidden``: that many hidden layers, of that many units each.
    """

    initializer: str | Callable[..., None] = _option(
        "pytorch_default", _one_of("initializer", INITIALIZERS, or_function=True), "law of the initial weights"
    )
    init_gain: float | str = _option(1.0, _gain, "multiplier of the initial weights, or 'recommended'")
    init_std: float | None = _option(
        None, _optional(_number(above=0.0)), "deviation for normal and trunc_normal (1 unless set), sparse (0.01)"
    )
    init_low: float = _option(0.0, _number(), "lower bound for the initializer 'uniform'")
    init_high: float = _option(1.0, _number(), "upper bound for the initializer 'uniform'")
    init_value: float = _option(0.1, _number(), "value for the initializer 'constant'")
    init_sparsity: float = _option(0.9, _number(least=0.0, below=1.0), "share of zeros for the initializer 'sparse'")
    bias_init: str = _option(
        "default",
        _one_of("bias initialization", ("default", *BIASES)),
        "'zeros', 'constant', 'pytorch_default', or 'default': the initializer's own, else zeros",
    )
    bias_value: float = _option(0.01, _number(), "value for bias_init='constant'")
    activation: str | Callable[..., Any] = _option(
        "relu", _one_of("activation", ACTIVATIONS, or_function=True), "activation of the hidden layers"
    )
    negative_slope: float = _option(0.01, _number(least=0.0), "slope of leaky_relu left of 0")
    hidden: tuple[int, ...] = _option((100,), _widths, "widths of the hidden layers")
    depth: int | None = _option(
        None, _optional(_integer(least=0, most=10_000)), "number of hidden layers, instead of hidden's"
    )
    width: int | None = _option(None, _optional(_integer(least=1)), "units of each hidden layer, instead of hidden's")
    dropout: float = _option(0.0, _number(least=0.0, below=1.0), "probability of dropping a hidden unit")
    batch_norm: bool = _option(False, _flag, "batch normalization before each activation")
    input_scaling: str = _option(
        "unit",
        _one_of("input scaling", INPUT_SCALINGS),
        "'unit' [0, 1], 'symmetric' [-1, 1], or 'standard': mean 0, deviation 1 over the training split",
    )
    optimizer: str = _option("sgd", _one_of("optimizer", OPTIMIZERS), "update rule of the weights")
    learning_rate: float = _option(0.1, _number(above=0.0), "in the first epoch")
    momentum: float = _option(0.0, _number(least=0.0, below=1.0), _of("momentum"))
    nesterov: bool = _option(False, _flag, f"Nesterov's momentum, {_of('nesterov')}")
    weight_decay: float = _option(
        0.0, _number(least=0.0), "L2 penalty or decoupled, as the optimizer has it; biases included"
    )
    beta1: float = _option(0.9, _number(least=0.0, below=1.0), _of("beta1"))
    beta2: float = _option(0.999, _number(least=0.0, below=1.0), _of("beta2"))
    alpha: float = _option(0.99, _number(least=0.0, below=1.0), f"smoothing {_of('alpha')}")
    eps: float = _option(1e-8, _number(above=0.0), _of("eps"))
    lr_schedule: str = _option(
        "step",
        _one_of("learning-rate schedule", SCHEDULES),
        "how the learning rate changes from epoch to epoch",
    )
    lr_decay: float = _option(1.0, _number(above=0.0, most=1.0), "factor of the schedule 'step'; 1 is constant")
    lr_step: int = _option(1, _integer(least=1), "epochs between two steps of the schedule 'step'")
    batch_size: int = _option(100, _integer(least=1), "examples a step; the last batch of an epoch may be smaller")
    epochs: int = _option(5, _integer(least=1), "passes over the training split")
    precision: str = _option(
        "float32",
        _one_of("precision", PRECISIONS),
        "of the factors of matrix products: 'float32', or 'bfloat16' on CPUs that have it (sums and weights: float32)",
    )

    def __post_init__(self) -> None:
        for name, spec in FIELDS.items():
            object.__setattr__(self, name, check_field(name, getattr(self, name), spec))
        if self.init_high <= self.init_low:
            raise StudyError(f"init_low={self.init_low}, init_high={self.init_high}: expected init_low below init_high")
        for name, other in OPTIMIZERS[self.optimizer].needs.items():
            if getattr(self, name) and not getattr(self, other):
                raise StudyError(
                    f"{name}={getattr(self, name)} with {other}={getattr(self, other)}: {name} needs a {other} above 0"
                )
        _ = self.widths  # a depth without a width to repeat is refused here

    @property
    def widths(self) -> tuple[int, ...]:
        """Units of the hidden layers, after ``depth`` and ``width`` took the place of ``hidden``'s."""
        if self.depth is None:
            return self.hidden if self.width is None else (self.width,) * len(self.hidden)
        if self.depth == 0:
            return ()
        width = self.width if self.width is not None else self.hidden[0] if self.hidden else None
        if width is None:
            raise StudyError(f"depth={self.depth} with no width: give width, or a hidden width to repeat")
        return (width,) * self.depth

    @property
    def activation_fields(self) -> dict[str, Any]:
        """The hyperparameters that the activation takes, by name."""
        return {name: getattr(self, name) for name in get_activation(self.activation).fields}

    def build_activation(self) -> torch.nn.Module:
        """The activation as a plain ``torch.nn`` module."""
        return get_activation(self.activation).build(**self.activation_fields)

    def learning_rate_at(self, epoch: int) -> float:
        """The learning rate of *epoch*, counted from 1; constant within it."""
        return SCHEDULES[self.lr_schedule](self, epoch)

    def encoded(self) -> dict[str, Primitive]:
        """Every field as the stores hold it."""
        return {name: encode(getattr(self, name)) for name in FIELDS}

    @property
    def signature(self) -> str:
        """A short hash of all hyperparameters: equal for equal configurations, whatever the order of the keys."""
        canonical = json.dumps(self.encoded(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


FIELDS: Mapping[str, dataclasses.Field[Any]] = {spec.name: spec for spec in dataclasses.fields(TrialConfig)}


def check_field(name: str, value: Any, spec: dataclasses.Field[Any] | None = None) -> Any:
    """The value of one hyperparameter in its normal form, or a StudyError that says what was expected."""
    spec = spec or FIELDS.get(name)
    if spec is None:
        raise StudyError(unknown_name("hyperparameter", name, FIELDS))
    try:
        return spec.metadata["check"](value)
    except ValueError as error:
        raise StudyError(f"{name}={encode_for_message(value)}: {error}") from None


def check_condition(
    place: str, name: str, wanted: tuple[Primitive, ...], dimension: Dimension | None, fixed: Mapping[str, Any]
) -> None:
    """Refuse a condition that never holds: what depends on it would not be searched.

    place: for messages, as ``nuisance['momentum'].when(optimizer=...)``. wanted: the values that hyperparameter *name*
    is to have, which is searched in *dimension* or, where that is None, *fixed*.
    """
    values = (encode(fixed[name]),) if dimension is None else dimension.values()
    for value in wanted:
        if values is None or value not in values:  # a function of the study has a name of its own
            check_field(name, value)
    if dimension is None:  # whoever fixes another value needn't remove the condition
        return
    if values is not None and not {*wanted} & {*values}:
        raise StudyError(
            f"{place}: {name} is never {' or '.join(map(repr, wanted))}, so {place.split('.')[0]} would not be "
            f"searched; its values are {', '.join(map(repr, values[:MOST_SHOWN]))}"
            f"{', ...' if len(values) > MOST_SHOWN else ''}"
        )
    if values is None:
        low, high = dimension.extremes()
        if not any(isinstance(value, (int, float)) and low <= value <= high for value in wanted):
            found = " or ".join(map(repr, wanted))
            raise StudyError(f"{place}: {name} is never {found}; it lies between {low} and {high}")
