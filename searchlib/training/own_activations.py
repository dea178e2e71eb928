"""A trial run of a study's own activations on a small batch, before anything of the study is stored."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from searchlib.errors import StudyError
from searchlib.networks import get_activation, unfit, where
from searchlib.study import MLP, Study

ROWS = 8


def check_activations(study: Study, device: str) -> None:
    """Call each activation of the study's own on a small batch, for each width of its networks.

    StudyError, with the function's line and what is wrong, where a plain network couldn't train with its result, or
    where it isn't a function of its input and of torch's random numbers alone. A function that raises an exception
    isn't refused: it may take the study's own signals.
    """
    own = [value for value in study.possible("activation") if get_activation(value).function is not None]
    if not isinstance(study.model, MLP) or not own:
        return
    import torch

    for function, width in itertools.product(own, hidden_widths(study)):
        generator = torch.Generator().manual_seed(0)
        try:
            wrong = unfit(function, torch.randn(ROWS, width, generator=generator).to(device))
        except Exception:
            continue
        if wrong:
            raise StudyError(f"{place_of(function)}activation {function.__name__!r} {wrong}")


def place_of(function: Callable[..., Any]) -> str:
    """``file:line: `` of a function of the study's own, for the start of a message; "" where it isn't known."""
    line = where(function)
    return f"{line}: " if line else ""


def hidden_widths(study: Study) -> list[int]:
    """The units that hidden layers of the study may have; of a range, its two ends."""
    widths = {width for hidden in study.possible("hidden") for width in hidden}
    return sorted(widths | {width for width in study.possible("width") if width is not None})
