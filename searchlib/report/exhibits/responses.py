"""Each nuisance hyperparameter against the result, in a small panel a cell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from searchlib.analysis import CellFinding, Findings
from searchlib.report.exhibits.exhibit import Drawn, Exhibit, Result
from searchlib.report.exhibits.plots import (
    ACCENT,
    COLOURS,
    FAINT,
    Panels,
    inside,
    literal,
    metric_name,
    point_text,
    value_range,
    values_of,
)
from searchlib.report.material import Axis, Material, Point

BAND = 0.01  # near the best: one point of accuracy; of a loss, a tenth of it
MOST_FIGURES = 3
MOST_PANELS = 12  # of cells that don't lie in a table
TABLE = (8, 64)  # most columns and most cells of one


def draw(material: Material) -> Result:
    findings = material.findings
    band = "0.01" if findings.metric == "val_accuracy" else "10 %"
    drawn, whole = {}, material.definition["pruner"] == "none"
    for dimension, axis in list(material.axes.items())[:MOST_FIGURES]:
        counted = whole and axis.log and not axis.discrete
        count = "; the number is the width of that band in decades" if counted else ""
        ended = (
            "" if whole else ", of the points that were trained to the end; the others have the result of fewer epochs"
        )
        drawn[dimension] = Drawn(
            plot=responses(findings, material.points, dimension, axis, widths=counted),
            caption=f"{dimension} against {metric_name(findings.metric)} in each cell. Blue: within {band} of the "
            f"cell's best{count}{ended}. Crosses: diverged.",
            width=560 if len(findings.cells) > 3 else 0,
        )
    return drawn


EXHIBIT = Exhibit(name="response", section="nuisance", title="Response", draw=draw)


def stability_width(points: Sequence[Point], cell: int, dimension: str, direction: str) -> float | None:
    """How far *dimension* may vary without losing more than ``BAND`` of the cell's best: decades between the lowest
    and the highest of its points within that band. None where that isn't two points, or the values aren't positive.

    Of points that were all trained to the end: those that a pruner left are the best, and say nothing of the others.
    """
    members = [
        (float(point.params[dimension]), point.value)
        for point in points
        if point.cell == cell
        and point.outcome == "completed"
        and point.value is not None
        and point.params.get(dimension) is not None
    ]
    if len(members) < 2 or min(value for value, _ in members) <= 0:
        return None
    best = _best([result for _, result in members], direction)
    good = [value for value, result in members if _near(result, best, direction)]
    return math.log10(max(good) / min(good))


def _best(results: Sequence[float], direction: str) -> float:
    return max(results) if direction == "maximize" else min(results)


def _near(result: float, best: float, direction: str) -> bool:
    return result >= best - BAND if direction == "maximize" else result <= best * (1 + 10 * BAND)


def responses(findings: Findings, points: Sequence[Point], dimension: str, axis: Axis, *, widths: bool) -> Panels:
    """A nuisance dimension against the result, one small panel a cell, all with the same axes.

    Full dots are within ``BAND`` of the cell's best, crosses diverged; with *widths* the panel says how many decades
    the full dots span. With two scientific dimensions the panels lie as the heat map's cells do.
    """
    chosen, rows, columns, titles, in_table = _places(findings.cells)
    plot = Panels(
        70 + 108 * rows,
        rows,
        columns,
        share_x=True,
        share_y=True,
        gaps=(0.012, 0.09 / rows if in_table else 0.28 / rows),
        **titles,
    )
    results = [
        (point, point.value)
        for point in points
        if point.value is not None and point.params.get(dimension) is not None
    ]  # fmt: skip
    limits = value_range([value for _, value in results], findings.direction)
    for (row, column), cell in chosen.items():
        members = [(point, value) for point, value in results if point.cell == cell]
        _add_cell(plot, row, column, members, dimension, limits, findings)
    scale: dict[str, Any] = {}
    occurring = sorted({point.params[dimension] for point, _ in results})
    if occurring and (axis.log or axis.discrete):
        ticks = occurring if axis.discrete else _ticks(occurring[0], occurring[-1], both=columns <= 4)
        scale = {
            "type": "log" if axis.log else "linear",
            "tickvals": ticks,
            "ticktext": [f"{tick:g}" for tick in ticks],
        }
    shared: dict[str, Any] = {"zeroline": False, "showline": True, "tickfont": {"size": 10}}
    plot.x(**shared, **scale)
    plot.y(range=limits, nticks=4, **shared)
    if widths:
        for (row, column), cell in chosen.items():
            width = stability_width(points, cell, dimension, findings.direction)
            if width is not None:
                _add_width(plot, row, column, width)
    plot.y((rows + 1) // 2, 1, title={"text": metric_name(findings.metric), "font": {"size": 11}})
    plot.x(rows, (columns + 1) // 2, title={"text": literal(dimension), "standoff": 6})
    return plot


def _add_cell(
    plot: Panels, row: int, column: int, members: Sequence[tuple[Point, float]], dimension: str,
    limits: tuple[float, float], findings: Findings,
) -> None:  # fmt: skip
    completed = [value for point, value in members if point.outcome == "completed"]
    best = _best(completed, findings.direction) if completed else math.nan
    near = [point.outcome == "completed" and _near(value, best, findings.direction) for point, value in members]
    diverged = [point.outcome == "diverged" for point, _ in members]
    plot.add(
        "scatter",
        row=row,
        column=column,
        x=[point.params[dimension] for point, _ in members],
        y=[inside(value, limits) for _, value in members],
        mode="markers",
        marker={
            "size": 7,
            "symbol": ["x-thin" if is_so else "circle" for is_so in diverged],
            "color": [COLOURS[0] if is_so else FAINT for is_so in near],
            "line": {"width": [1.5 if is_so else 0 for is_so in diverged], "color": ACCENT},
        },
        customdata=[point_text(point, findings.metric) for point, _ in members],
        hovertemplate="%{customdata}<extra></extra>",
        showlegend=False,
    )


def _add_width(plot: Panels, row: int, column: int, width: float) -> None:
    axis = plot.axis(row, column)
    plot.annotate(
        text=f"{width:.1f} dec" if width else "one point", x=0.03, y=0.12, xref=f"x{axis} domain",
        yref=f"y{axis} domain", xanchor="left", yanchor="bottom", font={"size": 10},
    )  # fmt: skip


def _ticks(low: float, high: float, *, both: bool) -> list[float]:
    """Powers of ten, and with *both* three times them, within a range and one beyond each end."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [float(f"{step}e{power}") for power in powers for step in ((1, 3) if both else (1,))]


def _places(
    cells: Sequence[CellFinding],
) -> tuple[dict[tuple[int, int], int], int, int, Mapping[str, Any], bool]:
    """Where each cell goes: (row, column) -> its position in *cells*; rows, columns, the titles as ``Panels`` takes
    them; whether the panels form the table of two dimensions."""
    dimensions = list(dict.fromkeys(key for cell in cells for key in cell.scientific))
    if len(dimensions) == 2:
        down, across = (values_of(cells, dimension) for dimension in dimensions)
        if len(across) <= TABLE[0] and len(down) * len(across) <= TABLE[1]:
            chosen = {
                (
                    down.index(cell.scientific.get(dimensions[0])) + 1,
                    across.index(cell.scientific.get(dimensions[1])) + 1,
                ): index
                for index, cell in enumerate(cells)
            }
            edges = [literal(value) for value in across], [literal(value) for value in down]
            return chosen, len(down), len(across), {"edge_titles": edges}, True
    count = min(len(cells), MOST_PANELS)
    columns = min(count, 4) or 1
    chosen = {(index // columns + 1, index % columns + 1): index for index in range(count)}
    titles = [literal(cell.label) for cell in cells[:count]]
    return chosen, -(-count // columns) or 1, columns, {"titles": titles}, False
