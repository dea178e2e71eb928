"""The figures of the report: plain data in, ``plotly.graph_objects.Figure`` out. Nothing is read or stored here.

*data* is the object of ``analysis.analyze``; *points* are the finished search trials as ``report.gather`` lists them:
``{"cell": position in data["cells"], "trial", "params", "value", "outcome"}``. Names come from study files, so each is
escaped: plotly reads a little HTML in any text. Colours are Okabe & Ito's, which colour-blind readers can tell apart
and which hold on white, on black and on paper; text, grid and axes get theirs from the page that shows the figure.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from searchlib.text import number

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["cell_values", "heat_map", "isolation", "metric_name", "number", "robust_range"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A8A8A")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
FAINT = "rgba(128,128,128,0.45)"
ACCENT = "#D55E00"
SHOWN = 5  # cells drawn at first; the others wait in the legend
LISTED = 36  # cells, or values of a dimension, that get a place of their own

History = Mapping[str, Sequence[tuple[int, float]]]


def name(text: object) -> str:
    """A user's word as plotly shows it: literally."""
    return html.escape(str(text), quote=False)


def metric_name(metric: str) -> str:
    return "validation accuracy" if metric == "val_accuracy" else "validation loss"


def score(cell: Mapping[str, Any]) -> float | None:
    """What ranks a cell: the mean of its replicates, or else its best value in the search."""
    value: float | None = cell["search_best"] if cell["mean"] is None else cell["mean"]
    return value


def robust_range(values: Sequence[float], direction: str) -> tuple[float, float]:
    """The range in which the good values differ visibly: failures further than 3 times as far from the median as the
    best value is are beyond its end."""
    low, high = min(values), max(values)
    middle = sorted(values)[len(values) // 2]
    if direction == "maximize":
        cut = middle - 3 * (high - middle)
        low = max(low, cut) if high > middle else low
    else:
        cut = middle + 3 * (middle - low)
        high = min(high, cut) if middle > low else high
    margin = (high - low) * 0.06 or abs(high) * 0.01 or 0.01
    return low - margin, high + margin


def empty_figure(height: int, **layout: Any) -> Figure:
    from plotly.graph_objects import Figure, Layout

    return Figure(layout=Layout(template="none", height=height, margin=_margin(), dragmode=False, **layout))


def panels(rows: int, columns: int, height: int, **options: Any) -> Figure:
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=rows, cols=columns, **options)
    figure.update_layout(template="none", height=height, margin=_margin(), dragmode=False)
    figure.update_annotations(font_size=11)
    return figure


def _margin() -> dict[str, int]:
    return {"l": 60, "r": 20, "t": 30, "b": 50}


def legend_on_page(figure: Figure) -> None:
    """Mark a figure of many curves: the report's page lists their names under it, where they never cover a curve and
    wrap on a phone. Elsewhere plotly's own legend shows them."""
    figure.update_layout(meta={"legend": "page"})


def style(position: int) -> dict[str, Any]:
    return {"color": COLOURS[position % len(COLOURS)], "dash": DASHES[position // len(COLOURS) % len(DASHES)]}


def values_of(data: Mapping[str, Any], dimension: str) -> list[Any]:
    """The values of a scientific dimension that occur: numbers in order, others by their best cell."""
    seen = list(dict.fromkeys(cell["scientific"].get(dimension) for cell in data["cells"]))
    numeric = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in seen)
    return sorted(seen) if numeric else seen


def cell_trace(cells: Sequence[Any], index: int, rank: int, *, named: bool) -> dict[str, Any]:
    """What the traces of one cell share: colour, place in the legend, and whether they are drawn at first."""
    return {
        "legendgroup": str(index),
        "name": name(cells[index]["label"]),
        "showlegend": named,
        "visible": True if rank < SHOWN else "legendonly",
        "hovertemplate": f"{name(cells[index]['label'])}<br>%{{x}}: %{{y:.4g}}<extra></extra>",
    }


# ------------------------------------------------------------------------------------------------------------ cells


def heat_map(data: Mapping[str, Any]) -> Figure:
    """The cells over the first two scientific dimensions; of further dimensions the best value is shown.

    Cell text: mean ± half the 95 % interval of the replicates, or the search's best where there are none. Failing
    cells don't swamp the scale: it ends at ``robust_range``. The winner is outlined.
    """
    from plotly.graph_objects import Heatmap

    metric, maximize = data["metric"], data["direction"] == "maximize"
    rows, columns = list(scientific_names(data))[:2]
    best: dict[tuple[Any, Any], Mapping[str, Any]] = {}
    for cell in data["cells"]:  # best first
        best.setdefault((cell["scientific"].get(rows), cell["scientific"].get(columns)), cell)
    across, down = values_of(data, columns), values_of(data, rows)
    table = [[best.get((row, column)) for column in across] for row in down]
    shown = [value for cell in best.values() if (value := score(cell)) is not None]
    low, high = robust_range(shown, data["direction"]) if shown else (0.0, 1.0)
    mixed = len({cell["n"] > 0 for cell in data["cells"]}) > 1
    clipped = any(value < low or value > high for value in shown)
    bound = number(low if maximize else high, metric)
    figure = empty_figure(100 + 46 * len(down))
    figure.add_trace(
        Heatmap(
            z=[[None if cell is None else score(cell) for cell in line] for line in table],
            x=[name(value) for value in across],
            y=[name(value) for value in down],
            text=[[_cell_text(cell, metric, mixed) for cell in line] for line in table],
            customdata=[["" if cell is None else _cell_hover(cell, metric) for cell in line] for line in table],
            texttemplate="%{text}",
            textfont={"size": 11},
            hovertemplate="%{customdata}<extra></extra>",
            zmin=low,
            zmax=high,
            colorscale="Cividis",
            reversescale=not maximize,
            xgap=2,
            ygap=2,
            colorbar={
                "thickness": 12,
                "outlinewidth": 0,
                "title": {
                    "text": metric_name(metric)
                    + (f"<br>({'below' if maximize else 'above'} {bound} in one colour)" if clipped else ""),
                    "side": "right",
                    "font": {"size": 11},
                },
            },
        )
    )
    if data["winner"]:
        where = data["winner"]["scientific"]
        i, j = across.index(where.get(columns)), down.index(where.get(rows))
        figure.add_shape(
            type="rect", x0=i - 0.49, x1=i + 0.49, y0=j - 0.48, y1=j + 0.48, line={"color": ACCENT, "width": 3}
        )
    figure.update_xaxes(
        title_text=name(columns), title_standoff=6, type="category", showgrid=False, zeroline=False, automargin=True
    )
    figure.update_yaxes(
        title_text=name(rows),
        type="category",
        autorange="reversed",
        showgrid=False,
        zeroline=False,
        automargin=True,
        title_standoff=8,
    )
    return figure


def scientific_names(data: Mapping[str, Any]) -> dict[str, None]:
    return dict.fromkeys(key for cell in data["cells"] for key in cell["scientific"])


def _cell_text(cell: Mapping[str, Any] | None, metric: str, mixed: bool) -> str:
    """*mixed*: some cells have replicates and some haven't, so that each must say which it is."""
    if cell is None:
        return ""
    if score(cell) is None:
        return "failed"
    if cell["mean"] is None:
        return number(cell["search_best"], metric) + ("<br><i>search only</i>" if mixed else "")
    if cell["low"] is None:
        return f"{number(cell['mean'], metric)}<br>n = {cell['n']}"
    return f"{number(cell['mean'], metric)}<br>± {number((cell['high'] - cell['low']) / 2, metric)}"


def _cell_hover(cell: Mapping[str, Any], metric: str) -> str:
    lines = [f"<b>{name(cell['label'])}</b>", f"search best {number(cell['search_best'], metric)}"]
    if cell["mean"] is not None:
        lines.append(f"mean of {cell['n']} replicates {number(cell['mean'], metric)}")
    lines += [f"{name(key)} {name(_short(value))}" for key, value in cell["nuisance"].items()]
    lines += [name(flag) for flag in cell["flags"]]
    return "<br>".join(lines)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def cell_values(data: Mapping[str, Any]) -> Figure:
    """The cells as points with their 95 % intervals, best at the top; open points are search values only."""
    from plotly.graph_objects import Scatter

    metric = data["metric"]
    cells = [cell for cell in data["cells"] if score(cell) is not None][:LISTED]
    labels = [name(cell["label"]) for cell in cells]
    figure = empty_figure(110 + 26 * max(len(cells), 2))
    replicated = [cell["mean"] is not None for cell in cells]
    for wanted, title, symbol in (
        (True, "mean of replicates, 95 % interval", "circle"),
        (False, "search", "circle-open"),
    ):
        chosen = [
            (cell, label) for cell, label, is_there in zip(cells, labels, replicated, strict=True) if is_there == wanted
        ]
        if not chosen:
            continue
        half = [0.0 if cell["low"] is None else (cell["high"] - cell["low"]) / 2 for cell, _ in chosen]
        figure.add_trace(
            Scatter(
                x=[score(cell) for cell, _ in chosen],
                y=[label for _, label in chosen],
                error_x={"type": "data", "array": half, "thickness": 1.5, "width": 4},
                customdata=[_cell_hover(cell, metric) for cell, _ in chosen],
                hovertemplate="%{customdata}<extra></extra>",
                mode="markers",
                marker={"size": 10, "symbol": symbol, "color": COLOURS[0], "line": {"width": 2, "color": COLOURS[0]}},
                name=title,
            )
        )
    if cells:
        figure.update_xaxes(
            range=robust_range([value for cell in cells if (value := score(cell)) is not None], data["direction"])
        )
    figure.update_xaxes(title_text=metric_name(metric), title_standoff=6, zeroline=False, automargin=True)
    figure.update_yaxes(categoryorder="array", categoryarray=labels[::-1], automargin=True)
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})
    return figure


def isolation(data: Mapping[str, Any], points: Sequence[Mapping[str, Any]]) -> Figure:
    """One panel a scientific dimension: all trials as faint dots, the best at each value in colour.

    An isolation plot of the Deep Learning Tuning Playbook: each value with the nuisance dimensions (and the other
    scientific ones) at their best. Values beyond the robust range lie on its edge.
    """
    from plotly.graph_objects import Scatter

    dimensions = list(scientific_names(data))
    columns = min(len(dimensions), 2)
    rows = -(-len(dimensions) // columns)
    figure = panels(rows, columns, 330 * rows, shared_yaxes=True, horizontal_spacing=0.05, vertical_spacing=0.3 / rows)
    scored = [point for point in points if point["value"] is not None]
    limits = value_range(data, scored)
    for position, dimension in enumerate(dimensions):
        where = {"row": position // columns + 1, "col": position % columns + 1}
        members = [point for point in scored if dimension in point["params"]]
        values = [point["params"][dimension] for point in members]
        numeric = all(isinstance(value, float) for value in values) and len(set(values)) > LISTED / 2
        short = [name(_short(value)) for value in values]
        unique = len(set(short)) == len(set(values))
        shown = values if numeric else short if unique else [name(value) for value in values]
        best: dict[Any, Mapping[str, Any]] = {}
        for value, point in zip(shown, members, strict=True):
            if value not in best or _better(data, point["value"], best[value]["value"]):
                best[value] = point
        order = sorted(best, key=lambda value: best[value]["value"], reverse=data["direction"] == "maximize")
        figure.add_trace(
            Scatter(
                x=shown,
                y=[inside(point["value"], limits) for point in members],
                mode="markers",
                marker={"size": 6, "color": FAINT},
                customdata=[point_text(data, point) for point in members],
                hovertemplate="%{customdata}<extra></extra>",
                name="all trials",
                showlegend=position == 0,
            ),
            **where,
        )
        if not numeric:
            figure.add_trace(
                Scatter(
                    x=order,
                    y=[inside(best[value]["value"], limits) for value in order],
                    mode="markers",
                    marker={"size": 11, "color": COLOURS[0]},
                    customdata=[point_text(data, best[value]) for value in order],
                    hovertemplate="%{customdata}<extra></extra>",
                    name="best trial at each value",
                    showlegend=position == 0,
                ),
                **where,
            )
            figure.update_xaxes(type="category", categoryorder="array", categoryarray=order, **where)
        figure.update_xaxes(
            title_text=name(dimension), title_standoff=6, automargin=True, showgrid=False, zeroline=False, **where
        )
        if position % columns == 0:
            figure.update_yaxes(title_text=metric_name(data["metric"]), **where)
    figure.update_yaxes(range=limits, zeroline=False, automargin=True)
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})
    return figure


def _better(data: Mapping[str, Any], value: float, than: float) -> bool:
    return value > than if data["direction"] == "maximize" else value < than


def value_range(data: Mapping[str, Any], points: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """A range for the trials of a study: that of their cells' bests, widened to most of the points."""
    values = sorted(point["value"] for point in points)
    if not values:
        return 0.0, 1.0
    low, high = robust_range(values, data["direction"])
    return low, high


def inside(value: float, limits: tuple[float, float]) -> float:
    margin = (limits[1] - limits[0]) * 0.04
    return min(max(value, limits[0] + margin), limits[1] - margin)


def point_text(data: Mapping[str, Any], point: Mapping[str, Any]) -> str:
    outcome = "" if point["outcome"] == "completed" else f", {point['outcome']}"
    lines = [f"<b>trial {point['trial']}</b>: {number(point['value'], data['metric'])}{outcome}"]
    return "<br>".join([*lines, *(f"{name(key)} {name(_short(value))}" for key, value in point["params"].items())])
