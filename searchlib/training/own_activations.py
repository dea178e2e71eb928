"""A trial run of a study's own activations on a small batch, before anything of the study is stored."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from searchlib.errors import StudyError
from searchlib.networks import critical_point, get_activation, get_initializer, recommended_gain, unfit, where
from searchlib.study import MLP, Study, encode

ROWS = 8


def check_activations(study: Study, device: str) -> None:
    """Call each activation of the study's own on a small batch, for each width of its networks.

    StudyError, with the function's line and what is wrong, where a plain network couldn't train with its result, where
    it isn't a function of its input and of torch's random numbers alone, or where the study needs its gain or critical
    point and it has none. A function that raises an exception isn't refused: it may take the study's own signals.
    """
    own = [value for value in study.possible("activation") if get_activation(value).function is not None]
    if not isinstance(study.model, MLP) or not own:
        return
    import torch

    widths = _widths(study)
    for function, width in itertools.product(own, widths):
        generator = torch.Generator().manual_seed(0)
        try:
            wrong = unfit(function, torch.randn(ROWS, width, generator=generator).to(device))
        except Exception:
            continue
        if wrong:
            raise StudyError(f"{_place(function)}activation {function.__name__!r} {wrong}")
    if widths:
        for activation, initializer, gain in _together(study):
            if activation in own:
                _check_initializer(activation, initializer, gain)


def _place(function: Callable[..., Any]) -> str:
    line = where(function)
    return f"{line}: " if line else ""


def _widths(study: Study) -> list[int]:
    """The units that hidden layers of the study may have; of a range, its two ends."""
    widths = {width for hidden in study.possible("hidden") for width in hidden}
    return sorted(widths | {width for width in study.possible("width") if width is not None})


def _together(study: Study) -> Iterator[tuple[Any, Any, Any]]:
    """Activation, initializer and init_gain, in each combination that the study may try."""
    names = ("activation", "initializer", "init_gain")
    for values in itertools.product(*(study.possible(name) for name in names)):
        params = dict(zip(names, map(encode, values), strict=True))
        dimensions = [study.dimensions[name] for name in names if name in study.dimensions]
        if all(dimension.active({**study.fixed, **params}) for dimension in dimensions):
            yield values


def _check_initializer(activation: Callable[..., Any], initializer: Any, gain: Any) -> None:
    entry = get_initializer(initializer)
    try:
        if gain == "recommended" and not entry.knows_activation:
            recommended_gain(activation)
        if initializer == "critical":
            critical_point(activation)
    except StudyError as error:
        raise StudyError(_place(activation), error.message) from None
