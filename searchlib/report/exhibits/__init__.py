"""The figures of the report, each an entry of ``EXHIBITS``: adding one is a module here, and a line in this list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from searchlib.report.exhibits import (
    activations,
    budget,
    cells,
    confusion,
    curves,
    decisions,
    fits,
    importances,
    isolation,
    layers,
    responses,
    weights,
)
from searchlib.report.exhibits.exhibit import Drawn, Exhibit, Missing
from searchlib.report.material import Material

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["EXHIBITS", "Drawn", "Exhibit", "Missing", "Shown", "draw", "figures"]

EXHIBITS: tuple[Exhibit, ...] = (  # in the order of the page
    cells.EXHIBIT,
    importances.EXHIBIT,
    isolation.EXHIBIT,
    responses.EXHIBIT,
    budget.EXHIBIT,
    fits.EXHIBIT,
    decisions.EXHIBIT,
    curves.EXHIBIT,
    layers.EXHIBIT,
    weights.CHAMPION,
    weights.CELLS,
    activations.EXHIBIT,
    confusion.MATRIX,
    confusion.CLASSES,
)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A figure of one study's report, or the reason why it is missing.

    name: the exhibit's, or for a part of the study ``EXHIBIT-PART``.
    """

    exhibit: Exhibit
    name: str
    title: str
    result: Drawn | Missing

    @property
    def drawn(self) -> Drawn | None:
        return self.result if isinstance(self.result, Drawn) else None


def draw(material: Material) -> list[Shown]:
    """The figures of a study's report in the order of the page; none before the first trial has finished."""
    shown: list[Shown] = []
    for exhibit in EXHIBITS if material.findings.cells else ():
        result = exhibit.draw(material)
        if isinstance(result, Drawn | Missing):
            shown.append(Shown(exhibit=exhibit, name=exhibit.name, title=exhibit.title, result=result))
        elif result is not None:
            shown += [
                Shown(exhibit=exhibit, name=f"{exhibit.name}-{part}", title=f"{exhibit.title}: {part}", result=one)
                for part, one in result.items()
            ]
    return shown


def figures(material: Material) -> dict[str, Figure]:
    """The figures of a study's report by name, as Plotly's own; one that is missing isn't there."""
    return {one.name: one.drawn.plot.figure() for one in draw(material) if one.drawn}
