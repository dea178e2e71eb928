"""Isolation plots: each scientific value with everything else at its best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from searchlib.report.exhibits.exhibit import Drawn, Exhibit, Missing, Result
from searchlib.report.exhibits.plots import (
    COLOURS,
    FAINT,
    Panels,
    Plot,
    better,
    inside,
    literal,
    metric_name,
    point_text,
    short,
    value_range,
)
from searchlib.report.material import Material, Point

LISTED = 18  # more numeric values than this get an axis of numbers


def draw(material: Material) -> Result:
    findings = material.findings
    dimensions = list(dict.fromkeys(key for cell in findings.cells for key in cell.scientific))
    if not dimensions:
        return Missing("Without a scientific dimension there is nothing to isolate.")
    side, edge = ("below", "lower") if findings.direction == "maximize" else ("above", "upper")
    return Drawn(
        plot=isolation(dimensions, material.points, findings.metric, findings.direction),
        caption="Isolation plots: each scientific value with everything else at its best (coloured), and all trials "
        f"(grey). Trials far {side} the rest lie on the {edge} edge.",
        width=300 * min(len(dimensions), 2),
    )


EXHIBIT = Exhibit(name="isolation", section="isolation", title="Isolation plot", draw=draw, dashboard=True)


def isolation(dimensions: Sequence[str], points: Sequence[Point], metric: str, direction: str) -> Plot:
    """One panel a scientific dimension: all trials as faint dots, the best at each value in colour.

    An isolation plot of the Deep Learning Tuning Playbook: each value with the nuisance dimensions (and the other
    scientific ones) at their best. Values beyond the robust range lie on its edge.
    """
    columns = min(len(dimensions), 2)
    rows = -(-len(dimensions) // columns)
    plot = Panels(330 * rows, rows, columns, share_y=True, gaps=(0.05, 0.3 / rows))
    results = [(point, point.value) for point in points if point.value is not None]
    limits = value_range([value for _, value in results], direction)
    for position, dimension in enumerate(dimensions):
        row, column = position // columns + 1, position % columns + 1
        members = [(point, value) for point, value in results if dimension in point.params]
        values = _shown_values([point.params[dimension] for point, _ in members])
        best: dict[Any, tuple[Point, float]] = {}
        for shown, (point, value) in zip(values, members, strict=True):
            if shown not in best or better(value, best[shown][1], direction):
                best[shown] = point, value
        order = sorted(best, key=lambda shown: best[shown][1], reverse=direction == "maximize")
        _dots(plot, row, column, values, members, metric, limits, "all trials", {"size": 6, "color": FAINT})
        if not (values and isinstance(values[0], float)):
            chosen = [best[value] for value in order]
            marker = {"size": 11, "color": COLOURS[0]}
            _dots(plot, row, column, order, chosen, metric, limits, "best trial at each value", marker)
            plot.x(row, column, type="category", categoryorder="array", categoryarray=order)
        title = {"text": literal(dimension), "standoff": 6}
        plot.x(row, column, title=title, automargin=True, showgrid=False, zeroline=False)
    plot.y(column=1, title={"text": metric_name(metric)})
    plot.y(range=limits, zeroline=False, automargin=True)
    plot.layout["legend"] = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
    return plot


def _shown_values(values: Sequence[Any]) -> list[Any]:
    """The values as they stand on the axis: numbers where they are many, else words, short ones where these differ."""
    if all(isinstance(value, float) for value in values) and len(set(values)) > LISTED:
        return list(values)
    words = [literal(short(value)) for value in values]
    return words if len(set(words)) == len(set(values)) else [literal(value) for value in values]


def _dots(
    plot: Plot, row: int, column: int, values: Sequence[Any], members: Sequence[tuple[Point, float]], metric: str,
    limits: tuple[float, float], title: str, marker: dict[str, Any],
) -> None:  # fmt: skip
    plot.add(
        "scatter", row=row, column=column, x=list(values), y=[inside(value, limits) for _, value in members],
        mode="markers", marker=marker, customdata=[point_text(point, metric) for point, _ in members],
        hovertemplate="%{customdata}<extra></extra>", name=title, showlegend=row == column == 1,
    )  # fmt: skip
