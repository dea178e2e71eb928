"""The report's figures of the nuisance dimensions and of the budget spent on them; see ``figures`` for the data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from searchlib.report.figures import (
    ACCENT,
    COLOURS,
    FAINT,
    SHOWN,
    cell_trace,
    empty_figure,
    inside,
    legend_on_page,
    metric_name,
    name,
    panels,
    point_text,
    scientific_names,
    style,
    value_range,
    values_of,
)

if TYPE_CHECKING:
    from plotly.graph_objects import Figure, Scatter

__all__ = ["budget_curves", "importance_bars", "responses", "stability_width"]

BAND = 0.01  # one point of accuracy; of a loss, a tenth


def stability_width(
    data: Mapping[str, Any], points: Sequence[Mapping[str, Any]], cell: int, dimension: str
) -> float | None:
    """How far *dimension* may vary without losing more than ``BAND`` of the cell's best: decades between the lowest
    and the highest of its points within that band. None where that isn't two points, or the values aren't positive.
    """
    members = [
        (float(point["params"][dimension]), point["value"])
        for point in points
        if point["cell"] == cell and point["outcome"] == "completed" and point["params"].get(dimension) is not None
    ]
    if len(members) < 2 or min(value for value, _ in members) <= 0:
        return None
    best = max(value for _, value in members) if data["direction"] == "maximize" else min(v for _, v in members)
    good = [value for value, result in members if _close(data, result, best)]
    return math.log10(max(good) / min(good))


def _close(data: Mapping[str, Any], value: float, best: float) -> bool:
    return value >= best - BAND if data["direction"] == "maximize" else value <= best * (1 + 10 * BAND)


def responses(
    data: Mapping[str, Any], points: Sequence[Mapping[str, Any]], dimension: str, *, log: bool, discrete: bool = False
) -> Figure:
    """A nuisance dimension against the result, one small panel a cell, all with the same axes.

    Full dots are within ``BAND`` of the cell's best, crosses diverged; for a log axis the panel says how many decades
    the full dots span. With two scientific dimensions the panels lie as the heat map's cells do.
    """

    chosen, rows, columns, titles = _facets(data)
    figure = panels(
        rows,
        columns,
        70 + 108 * rows,
        shared_xaxes=True,
        shared_yaxes=True,
        horizontal_spacing=0.012,
        vertical_spacing=0.09 / rows if titles[1] else 0.28 / rows,
        **({"column_titles": titles[0], "row_titles": titles[1]} if titles[1] else {"subplot_titles": titles[0]}),
    )
    here = [point for point in points if point["value"] is not None and point["params"].get(dimension) is not None]
    limits = value_range(data, here)
    members = {index: [point for point in here if point["cell"] == index] for index in chosen.values()}
    figure.add_traces(
        [_response(data, members[index], dimension, limits) for index in chosen.values()],
        rows=[position // columns + 1 for position in chosen],
        cols=[position % columns + 1 for position in chosen],
    )
    axis: dict[str, Any] = {}
    occurring = sorted({point["params"][dimension] for point in here})
    if occurring and (log or discrete):
        ticks = occurring if discrete else _ticks(occurring[0], occurring[-1], both=columns <= 4)
        scale = "log" if log else "linear"
        axis = {"type": scale, "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}
    figure.update_xaxes(zeroline=False, showline=True, tickfont_size=10, **axis)
    figure.update_yaxes(range=limits, zeroline=False, showline=True, tickfont_size=10, nticks=4)
    notes = [note.to_plotly_json() for note in figure.layout.annotations]
    if log and not discrete:
        widths = {position: stability_width(data, points, index, dimension) for position, index in chosen.items()}
        notes += [_width_note(width, position + 1) for position, width in widths.items() if width is not None]
    middle = ((rows + 1) // 2 - 1) * columns + 1, (rows - 1) * columns + (columns + 1) // 2
    figure.update_layout(
        {
            "annotations": notes,
            f"yaxis{middle[0]}": {"title": {"text": metric_name(data["metric"]), "font": {"size": 11}}},
            f"xaxis{middle[1]}": {"title": {"text": name(dimension), "standoff": 6}},
        }
    )
    return figure


def _response(
    data: Mapping[str, Any], members: Sequence[Mapping[str, Any]], dimension: str, limits: tuple[float, float]
) -> Scatter:
    """The points of one cell."""
    from plotly.graph_objects import Scatter

    done = [point["value"] for point in members if point["outcome"] == "completed"]
    best = (max if data["direction"] == "maximize" else min)(done, default=None)
    good = [
        best is not None and point["outcome"] == "completed" and _close(data, point["value"], best) for point in members
    ]
    diverged = [point["outcome"] == "diverged" for point in members]
    return Scatter(
        x=[point["params"][dimension] for point in members],
        y=[inside(point["value"], limits) for point in members],
        mode="markers",
        marker={
            "size": 7,
            "symbol": ["x-thin" if is_so else "circle" for is_so in diverged],
            "color": [COLOURS[0] if is_so else FAINT for is_so in good],
            "line": {"width": [1.5 if is_so else 0 for is_so in diverged], "color": ACCENT},
        },
        customdata=[point_text(data, point) for point in members],
        hovertemplate="%{customdata}<extra></extra>",
        showlegend=False,
    )


def _width_note(width: float, axis: int) -> dict[str, Any]:
    number = "" if axis == 1 else axis
    return {
        "text": f"{width:.1f} dec" if width else "one point",
        "x": 0.03, "y": 0.12, "xref": f"x{number} domain", "yref": f"y{number} domain",
        "showarrow": False, "xanchor": "left", "yanchor": "bottom", "font": {"size": 10},
    }  # fmt: skip


def _ticks(low: float, high: float, *, both: bool) -> list[float]:
    """Powers of ten, and with *both* three times them, within a range and one beyond each end."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [float(f"{step}e{power}") for power in powers for step in ((1, 3) if both else (1,))]


def _facets(data: Mapping[str, Any]) -> tuple[dict[int, int], int, int, tuple[list[str], list[str]]]:
    """Which cell goes where: panel position -> position in data["cells"]; rows, columns, (column or panel titles, row
    titles or [])."""
    dimensions = list(scientific_names(data))
    if len(dimensions) == 2:
        down, across = (values_of(data, dimension) for dimension in dimensions)
        if len(across) <= 8 and len(down) * len(across) <= 64:
            chosen = {
                down.index(cell["scientific"].get(dimensions[0])) * len(across)
                + across.index(cell["scientific"].get(dimensions[1])): index
                for index, cell in enumerate(data["cells"])
            }
            return chosen, len(down), len(across), ([name(v) for v in across], [name(v) for v in down])
    count = min(len(data["cells"]), 12)
    columns = min(count, 4) or 1
    titles = [name(cell["label"]) for cell in data["cells"][:count]]
    return {index: index for index in range(count)}, -(-count // columns) or 1, columns, (titles, [])


def importance_bars(values: Mapping[str, float]) -> Figure:
    """The share of each hyperparameter in the variance of the results."""
    from plotly.graph_objects import Bar

    order = sorted(values, key=lambda key: values[key])
    figure = empty_figure(90 + 30 * len(order))
    figure.add_trace(
        Bar(
            x=[values[key] for key in order], y=[name(key) for key in order], orientation="h", marker_color=COLOURS[0],
            text=[f"{values[key]:.2f}" for key in order], textposition="outside", cliponaxis=False,
            hovertemplate="%{y}: %{x:.3f}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_xaxes(title_text="importance", title_standoff=6, rangemode="tozero", zeroline=False)
    figure.update_yaxes(automargin=True)
    return figure


def budget_curves(data: Mapping[str, Any]) -> Figure:
    """The best value expected after n points of a cell (Dodge 2019, 2021): what fewer points would have given.

    Solid: without replacement (unbiased). Dotted, for the first cells: with replacement, as first published.
    """
    from plotly.graph_objects import Scatter

    figure = empty_figure(380)
    cells = [index for index, cell in enumerate(data["cells"]) if len(cell["budget"]["unbiased"]) > 1]
    for rank, index in enumerate(cells):
        for kind, dash in (("unbiased", style(rank)["dash"]), ("biased", "dot")):
            curve = data["cells"][index]["budget"][kind]
            if kind == "biased" and rank >= SHOWN:
                continue
            figure.add_trace(
                Scatter(
                    x=list(range(1, len(curve) + 1)),
                    y=curve,
                    mode="lines+markers" if kind == "unbiased" else "lines",
                    marker={"size": 5},
                    line={"color": style(rank)["color"], "dash": dash, "width": 2 if kind == "unbiased" else 1},
                    **cell_trace(data["cells"], index, rank, named=kind == "unbiased"),
                )
            )
    figure.update_xaxes(title_text="nuisance points of a cell", title_standoff=6, zeroline=False)
    figure.update_yaxes(title_text=f"expected best {metric_name(data['metric'])}", zeroline=False, automargin=True)
    legend_on_page(figure)
    return figure
