"""The boundary check: whether the best points of a cell lie at the edge of a nuisance range, and what to try next.

Google's Deep Learning Tuning Playbook: where the best point lies near an edge, the range was too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from searchlib.errors import StudyError
from searchlib.study import Choice, Dimension, IntUniform, LogUniform, Uniform, check_field

OUTER = 0.1  # of the range, in its own scale: nearer to an end than this is at the edge


@dataclass(frozen=True, kw_only=True)
class Edge:
    """A nuisance hyperparameter of which a best value lies at an end of its range.

    side: ``low`` or ``high``. searches: of how many searches the best value is there, of *of* that have one. value:
    theirs, the outermost. low, high: the ends of the range. further: what to try next, None where that is of no more
    than half of the searches, or the hyperparameter takes no value further out (``try`` in JSON, left out then): a
    range (low, high), the same width moved outward by half of it (in the logarithm for logarithmic ranges); for a
    Choice the next value (value,), by the ratio of the last two.
    """

    name: str
    side: str
    value: float
    low: float
    high: float
    further: tuple[float, ...] | None = field(default=None, metadata={"json": "try", "optional": True})
    searches: int = 1
    of: int = 1

    @property
    def in_most(self) -> bool:
        """Whether it is so in more than half of the searches: the best value of one may be there by chance."""
        return 2 * self.searches > self.of


def edges(dimensions: Mapping[str, Dimension], best: Sequence[Mapping[str, Any]]) -> tuple[Edge, ...]:
    """The numeric dimensions at whose edge, a tenth of the range, points of *best* lie, one of each search.

    Of a Choice only where most of them do: of its few values the ends are soon met by chance.
    """
    found = []
    for name, dimension in dimensions.items():
        values: list[Any] = [value for point in best if _number(value := point.get(name))]
        ends = _ends(dimension)
        if ends is None:
            continue
        for side, outermost in (("low", min), ("high", max)):
            near = [value for value in values if _side(dimension, value, *ends) == side]
            if not near:
                continue
            edge = Edge(
                name=name,
                side=side,
                value=outermost(near),
                low=ends[0],
                high=ends[1],
                searches=len(near),
                of=len(values),
            )
            if edge.in_most:
                further = _next_value(name, dimension, side) if isinstance(dimension, Choice) else None
                if not isinstance(dimension, Choice):
                    further = _next_range(name, dimension, side, *ends)
                found.append(replace(edge, further=further))
            elif not isinstance(dimension, Choice):
                found.append(edge)
    return tuple(found)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _ends(dimension: Dimension) -> tuple[float, float] | None:
    """Lower and upper end; None where the values have no order, or are too few for one of them to be inside."""
    if isinstance(dimension, (Uniform, LogUniform)):
        return dimension.low, dimension.high
    values: list[Any] = list(dimension.values() or ())
    if len(values) < 3 or not all(map(_number, values)):
        return None
    return min(values), max(values)


def _logarithmic(dimension: Dimension) -> bool:
    return isinstance(dimension, LogUniform) or (isinstance(dimension, IntUniform) and dimension.log)


def _side(dimension: Dimension, value: float, low: float, high: float) -> str | None:
    if isinstance(dimension, Choice):
        place = 0.0 if value <= low else 1.0 if value >= high else 0.5
    elif _logarithmic(dimension):
        place = math.log(value / low) / math.log(high / low)
    else:
        place = (value - low) / (high - low)
    return "low" if place <= OUTER else "high" if place >= 1.0 - OUTER else None


def _next_value(name: str, dimension: Choice, side: str) -> tuple[float, ...] | None:
    values: list[Any] = sorted(dimension.values(), key=lambda value: value if _number(value) else 0)
    last, before = (values[0], values[1]) if side == "low" else (values[-1], values[-2])
    further = last * (last / before) if values[0] > 0 else last + (last - before)
    further = round(further) if all(isinstance(value, int) for value in values) else _rounded(further)
    return (further,) if further != last and _accepts(name, further) else None


def _next_range(name: str, dimension: Dimension, side: str, low: float, high: float) -> tuple[float, ...] | None:
    whole = isinstance(dimension, IntUniform)
    up = 1 if side == "high" else -1
    if _logarithmic(dimension):
        factor = math.sqrt(high / low) ** up
        wanted = [low * factor, high * factor]
    else:
        step = dimension.step if isinstance(dimension, IntUniform) else None
        shift = (high - low) / 2 if step is None else step * max(1, round((high - low) / 2 / step))
        wanted = [low + up * shift, high + up * shift]
    ends: list[Any] = [round(end) if whole else _rounded(end) for end in wanted]
    outer, bound = (1, high) if up == 1 else (0, low)
    ends[outer] = _reach(name, bound, ends[outer], whole=whole)
    if ends[outer] is None or (ends[outer] - bound) * up <= 0 or not ends[0] < ends[1]:
        return None
    return tuple(ends) if all(_accepts(name, end) for end in ends) else None


def _rounded(value: float, digits: int = 2) -> float:
    return float(f"{value:.{digits}g}") + 0.0


def _accepts(name: str, value: Any) -> bool:
    try:
        check_field(name, value)
    except StudyError:
        return False
    return True


def _reach(name: str, inside: float, outside: float, *, whole: bool) -> float | None:
    """*outside*, or where the hyperparameter refuses it, the last value on the way there that it accepts.

    Where the values end at a limit that isn't itself accepted, as a momentum below 1, halfway to the limit.
    """
    if _accepts(name, outside):
        return outside
    good, bad = inside, outside
    for _ in range(100):
        middle = (good + bad) // 2 if whole else (good + bad) / 2
        if middle in (good, bad):
            break
        good, bad = (middle, bad) if _accepts(name, middle) else (good, middle)
    if whole:
        return good
    limit = _rounded(bad, 12)
    return limit if _accepts(name, limit) else _rounded((inside + limit) / 2, 4)
