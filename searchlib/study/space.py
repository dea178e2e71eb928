"""The dimensions of a search space: what a study file may write as the value of a hyperparameter.

A dimension knows its values, how a point of the unit interval maps to one of them, and under which condition it
exists at all. It knows nothing of Optuna: ``sampling`` translates.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from searchlib.errors import StudyError

MOST_VALUES = 100_000  # of a dimension that is enumerated; a range of more counts as infinite

Primitive = str | int | float | bool | None


def is_named(value: Any) -> bool:
    """Whether *value* is callable and has a name, under which it can be stored."""
    return callable(value) and isinstance(getattr(value, "__name__", None), str)


def encode(value: Any) -> Primitive:
    """A value as the stores hold it: a function by its name, widths as ``"256-128"``, anything plain as it is.

    >>> encode((256, 128))
    '256-128'
    """
    if isinstance(value, (tuple, list)):
        return "-".join(str(item) for item in value)
    if is_named(value):
        return str(value.__name__)
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise StudyError(f"{value!r} can't be a hyperparameter; expected a number, string, widths or a named function")


def _in_order(values: Any) -> tuple[Any, ...]:
    """One value or several as a tuple; a set's in an order that doesn't change from process to process."""
    if isinstance(values, (set, frozenset)):
        return tuple(sorted(values, key=lambda value: repr(encode(value))))
    return tuple(values) if isinstance(values, (tuple, list)) else (values,)


def _widths_in_order(values: Any) -> tuple[Any, ...]:
    """One tuple of widths or several: ``16`` and ``(16, 8)`` are one network, ``[(16,), (8,)]`` are two."""
    given = _in_order(values)
    if given and all(type(width) is int for width in given):
        return (given,)
    return tuple((value,) if type(value) is int else value for value in given)


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """Base of all dimensions. ``condition`` maps another hyperparameter to the values for which this one exists."""

    condition: Mapping[str, tuple[Primitive, ...]] = field(default_factory=dict)

    def when(self, **conditions: Any) -> Self:
        """The same dimension, present only where every named hyperparameter has (one of) the given values.

        >>> Uniform(0.0, 0.99).when(optimizer=("sgd", "rmsprop")).active({"optimizer": "adam"})
        False
        """
        if not conditions:
            raise StudyError('when() was given no condition; write for example .when(optimizer="sgd")')
        wanted = {
            name: tuple(encode(item) for item in (_widths_in_order if name == "hidden" else _in_order)(values))
            for name, values in conditions.items()
        }
        return replace(self, condition={**self.condition, **wanted})

    def active(self, params: Mapping[str, Any]) -> bool:
        """Whether the dimension exists beside the (encoded or plain) values chosen so far."""
        return all(name in params and encode(params[name]) in values for name, values in self.condition.items())

    def at(self, unit: float) -> Primitive:
        """The encoded value at *unit* in [0, 1): the inverse of the dimension's cumulative distribution."""
        raise TypeError(f"{type(self).__name__} defines no distribution")

    def place(self, value: Any) -> float:
        """Where in [0, 1] an encoded value lies: a number for which ``at`` gives it."""
        raise TypeError(f"{type(self).__name__} defines no distribution")

    def values(self) -> tuple[Primitive, ...] | None:
        """All encoded values in order, or None where there are infinitely many, or more than ``MOST_VALUES``."""
        return None

    def extremes(self) -> tuple[Any, ...]:
        """The plain values whose validity implies that of all others."""
        raise TypeError(f"{type(self).__name__} defines no values")

    def decode(self, value: Primitive) -> Any:
        """The plain value behind an encoded one."""
        return value

    def checked(self, value: Any) -> Primitive:
        """The encoded value that *value* names, which comes from elsewhere; StudyError where the dimension has none."""
        raise TypeError(f"{type(self).__name__} defines no values")

    def describe(self) -> dict[str, Any]:
        """The dimension as plain JSON, part of a study's identity."""
        raise TypeError(f"{type(self).__name__} defines no description")

    def _described(self, **own: Any) -> dict[str, Any]:
        condition = {"when": {name: list(values) for name, values in self.condition.items()}} if self.condition else {}
        return {"type": type(self).__name__, **own, **condition}


@dataclass(frozen=True, init=False)
class Choice(Dimension):
    """One of the values given, each equally likely: ``Choice(32, 64, 128)``, ``Choice("tanh", my_activation)``."""

    options: tuple[Any, ...]

    def __init__(self, *options: Any, condition: Mapping[str, tuple[Primitive, ...]] | None = None) -> None:
        if len(options) == 1 and isinstance(options[0], list):
            raise StudyError(f"Choice({options[0]!r}): write the values one by one, Choice(a, b, c)")
        if not options:
            raise StudyError("Choice() has no value; give at least one")
        encoded = [encode(option) for option in options]
        for position, value in enumerate(encoded):
            if value in encoded[:position]:
                if callable(options[position]):
                    raise StudyError(f"Choice has two functions named {value!r}; define each by def, with its own name")
                raise StudyError(f"Choice{options!r} names {value!r} twice; give each value once")
        object.__setattr__(self, "options", options)
        object.__setattr__(self, "condition", condition or {})

    def when(self, **conditions: Any) -> Self:
        return type(self)(*self.options, condition={**self.condition, **Dimension().when(**conditions).condition})

    def at(self, unit: float) -> Primitive:
        return encode(self.options[min(int(unit * len(self.options)), len(self.options) - 1)])

    def place(self, value: Any) -> float:
        return (self.values().index(value) + 0.5) / len(self.options)

    def values(self) -> tuple[Primitive, ...]:
        return tuple(encode(option) for option in self.options)

    def extremes(self) -> tuple[Any, ...]:
        return self.options

    def decode(self, value: Primitive) -> Any:
        for option in self.options:
            if encode(option) == value:
                return option
        raise StudyError(f"{value!r} is none of {', '.join(map(repr, self.values()))}")

    def checked(self, value: Any) -> Primitive:
        given = encode(value)
        for option in self.values():
            if option == given and isinstance(option, bool) == isinstance(given, bool):
                return option
        raise StudyError(f"expected one of {', '.join(map(repr, self.values()))}")

    def describe(self) -> dict[str, Any]:
        return self._described(values=list(self.values()))


@dataclass(frozen=True)
class _Range(Dimension):
    low: float
    high: float

    def __post_init__(self) -> None:
        shown = f"{type(self).__name__}({self.low!r}, {self.high!r})"
        for bound in (self.low, self.high):
            if isinstance(bound, bool) or not isinstance(bound, (int, float)) or not abs(bound) <= sys.float_info.max:
                raise StudyError(f"{shown}: {bound!r} is no finite number")
        if not self.low < self.high:
            raise StudyError(f"{shown}: the range is empty; expected the lower bound first, and below the upper one")

    def extremes(self) -> tuple[Any, ...]:
        return (self.low, self.high)

    def checked(self, value: Any) -> Primitive:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not self.low <= value <= self.high:
            raise StudyError(f"expected a number from {self.low!r} to {self.high!r}")
        return float(value)

    def describe(self) -> dict[str, Any]:
        return self._described(low=self.low, high=self.high)


@dataclass(frozen=True)
class Uniform(_Range):
    """A real number, uniform on [low, high]."""

    def at(self, unit: float) -> float:
        return min(max((1.0 - unit) * self.low + unit * self.high, self.low), self.high)

    def place(self, value: Any) -> float:
        return float((value - self.low) / (self.high - self.low))


@dataclass(frozen=True)
class LogUniform(_Range):
    """A positive real number whose logarithm is uniform on [log low, log high]: for rates and decays."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low <= 0:
            raise StudyError(f"LogUniform({self.low!r}, {self.high!r}): the lower bound must be above 0")

    def at(self, unit: float) -> float:
        value = math.exp((1.0 - unit) * math.log(self.low) + unit * math.log(self.high))
        return min(max(value, self.low), self.high)

    def place(self, value: Any) -> float:
        return math.log(value / self.low) / math.log(self.high / self.low)


@dataclass(frozen=True)
class IntUniform(_Range):
    """A whole number on {low, low + step, ..., high}; with ``log=True`` uniform in its logarithm."""

    low: int
    high: int
    step: int = 1
    log: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        shown = f"IntUniform({self.low!r}, {self.high!r}, step={self.step!r})"
        if not all(isinstance(number, int) for number in (self.low, self.high, self.step)):
            raise StudyError(f"{shown}: expected whole numbers")
        if not isinstance(self.log, bool):
            raise StudyError(f"{shown}, log={self.log!r}: expected True or False")
        if self.step < 1:
            raise StudyError(f"{shown}: the step must be 1 or more")
        if self.log and (self.low < 1 or self.step != 1):
            raise StudyError(f"{shown}, log=True: the lower bound must be 1 or more and the step 1")
        if (self.high - self.low) % self.step:
            raise StudyError(f"{shown}: the step doesn't lead from {self.low} to {self.high}")

    def at(self, unit: float) -> int:
        if self.log:
            low, high = self.low - 0.5, self.high + 0.5
            return min(max(round(low * math.exp(unit * math.log(high / low))), self.low), self.high)
        count = (self.high - self.low) // self.step + 1
        return self.low + self.step * min(int(unit * count), count - 1)

    def place(self, value: Any) -> float:
        if self.log:
            return math.log(value / (self.low - 0.5)) / math.log((self.high + 0.5) / (self.low - 0.5))
        return float((value - self.low) / self.step + 0.5) / ((self.high - self.low) // self.step + 1)

    def checked(self, value: Any) -> Primitive:
        number = super().checked(value)
        if number not in range(self.low, self.high + 1, self.step):
            raise StudyError(f"expected a whole number from {self.low} to {self.high}, in steps of {self.step}")
        return int(value)

    def values(self) -> tuple[Primitive, ...] | None:
        numbers = range(self.low, self.high + 1, self.step)
        return tuple(numbers) if (self.high - self.low) // self.step < MOST_VALUES else None

    def describe(self) -> dict[str, Any]:
        return self._described(low=self.low, high=self.high, step=self.step, log=self.log)


def enumerate_points(dimensions: Mapping[str, Dimension], fixed: Mapping[str, Any]) -> Iterator[dict[str, Primitive]]:
    """Every combination of the dimensions' values, the first dimension varying slowest; absent ones left out."""
    names = list(dimensions)

    def extend(position: int, chosen: dict[str, Primitive]) -> Iterator[dict[str, Primitive]]:
        if position == len(names):
            yield chosen
            return
        name = names[position]
        dimension = dimensions[name]
        if not dimension.active({**fixed, **chosen}):
            yield from extend(position + 1, chosen)
            return
        for value in dimension.values() or ():
            yield from extend(position + 1, {**chosen, name: value})

    yield from extend(0, {})


def more_than(most: int, points: Iterator[Any]) -> bool:
    """Whether there are more than *most* of them."""
    return next(itertools.islice(points, most, None), None) is not None


def corners(
    dimensions: Mapping[str, Dimension],
    fixed: Mapping[str, Any],
    coupled: Collection[str],
    params: Mapping[str, Primitive],
) -> Iterator[dict[str, Primitive]]:
    """Points at which a combination of fields that TrialConfig refuses shows, if there is one.

    All values of a Choice (of a short IntUniform that others are conditional on, too), and both ends of a range,
    of the fields that depend on each other (*coupled*) or that others are conditional on, in all combinations;
    one value of the rest, which are checked alone. params: the values of some dimensions, which they keep.
    """

    def extend(params: dict[str, Primitive], names: list[str]) -> Iterator[dict[str, Primitive]]:
        if not names:
            yield params
            return
        name, *rest = names
        dimension = dimensions[name]
        if name in params or not dimension.active({**fixed, **params}):
            yield from extend(params, rest)
            return
        values: tuple[Primitive, ...] = (dimension.at(0.0),)
        decides = any(name in other.condition for other in dimensions.values())
        if name in coupled or decides:
            listed = dimension.values() or ()
            short = isinstance(dimension, Choice) or (decides and 0 < len(listed) <= 100)
            values = listed if short else (*values, dimension.at(1.0))
        for value in values:
            yield from extend({**params, name: value}, rest)

    yield from extend(dict(params), list(dimensions))
