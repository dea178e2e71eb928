"""What an exhibit is: a figure of the report with all that belongs to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from searchlib.report.exhibits.plots import Plot
from searchlib.report.material import Material


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A figure with its caption. width: the least one, in pixels, at which it can be read."""

    plot: Plot
    caption: str
    width: int = 0


@dataclass(frozen=True)
class Missing:
    """Why a figure can't be drawn, as a sentence for the page."""

    reason: str


Result: TypeAlias = Drawn | Missing | Mapping[str, Drawn] | None
"""What an exhibit makes of a study: one figure; the reason why it is missing; one figure for each of several parts of
the study, by the part's name; or None, where it has no place in the report of such a study."""


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """A figure of the report.

    name: its id on the page is ``figure-NAME``. section: the name of the section of the page in which it stands.
    title: a few words for lists of figures and for screen readers. draw: what it makes of the material of a study.
    dashboard: whether the Optuna Dashboard shows it, too.
    """

    name: str
    section: str
    title: str
    draw: Callable[[Material], Result]
    dashboard: bool = False
