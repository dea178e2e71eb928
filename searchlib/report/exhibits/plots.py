"""How figures are drawn: as Plotly's JSON, with the same colours, axes and words.

Names come from study files, and Plotly reads a little HTML in any text: each goes through ``literal``. Colours are
those of Okabe & Ito, which colour-blind readers can distinguish and which are legible on white, on black and on paper.
Text, grid and axes get their colours from the page that shows the figure.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from searchlib.analysis import CellFinding
from searchlib.report.material import Point
from searchlib.text import in_words, number

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A8A8A")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
GREY = COLOURS[6]
ACCENT = COLOURS[1]
FAINT = "rgba(128,128,128,0.45)"
SHOWN = 5  # cells drawn at first; a click in the legend draws another
TEMPLATE = {"data": {"scatter": [{"type": "scatter"}]}}  # Plotly's "none"
MARGIN = {"l": 60, "r": 20, "t": 30, "b": 50}


class Plot:
    """A figure as Plotly's JSON, made trace by trace.

    Properties are Plotly's own (https://plotly.com/javascript/reference), in plain dictionaries: Plotly's objects check
    each of them, which takes a hundred times as long as the rest of drawing. ``figure`` has them checked.

    height: in pixels.
    """

    def __init__(self, height: int) -> None:
        self.data: list[dict[str, Any]] = []
        self.layout: dict[str, Any] = {
            "template": TEMPLATE, "height": height, "margin": dict(MARGIN), "dragmode": False,
        }  # fmt: skip
        self._axes = {(1, 1): ""}  # (row, column), from 1 -> what is appended to the names of the panel's axes
        self._in_panels = False

    def add(self, kind: str, *, row: int = 1, column: int = 1, **properties: Any) -> None:
        """Add a trace, such as ``scatter`` or ``heatmap``."""
        axis = self._axes[row, column]
        axes = {"xaxis": f"x{axis}", "yaxis": f"y{axis}"} if self._in_panels else {}
        self.data.append({"type": kind, **properties, **axes})

    def x(self, row: int | None = None, column: int | None = None, **properties: Any) -> None:
        """Set properties of the x axes of a row, of a column, of one panel, or of all."""
        self._set("x", row, column, properties)

    def y(self, row: int | None = None, column: int | None = None, **properties: Any) -> None:
        """Set properties of the y axes, as ``x`` does."""
        self._set("y", row, column, properties)

    def _set(self, letter: str, row: int | None, column: int | None, properties: Mapping[str, Any]) -> None:
        for (own_row, own_column), axis in self._axes.items():
            if row in (None, own_row) and column in (None, own_column):
                self.layout.setdefault(f"{letter}axis{axis}", {}).update(properties)

    def line(self, *, x: float | None = None, y: float | None = None, row: int = 1, column: int = 1) -> None:
        """Add a dashed line across a panel: vertical at *x*, or horizontal at *y*."""
        axis = self._axes[row, column]
        along, across = (f"x{axis}", f"y{axis} domain") if y is None else (f"x{axis} domain", f"y{axis}")
        xs, ys = ((x, x), (0, 1)) if y is None else ((0, 1), (y, y))
        shape = {
            "type": "line", "x0": xs[0], "x1": xs[1], "xref": along, "y0": ys[0], "y1": ys[1], "yref": across,
            "line": {"color": ACCENT, "width": 1, "dash": "dash"},
        }  # fmt: skip
        self.layout.setdefault("shapes", []).append(shape)

    def to_json(self) -> str:
        """The figure as JSON text; NaN and infinity as null."""
        whole = {"data": self.data, "layout": self.layout}
        try:
            return json.dumps(whole, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        except ValueError:
            return json.dumps(_finite(whole), ensure_ascii=False, allow_nan=False, separators=(",", ":"))

    def figure(self) -> Figure:
        """A figure of Plotly's own. ValueError for a property that Plotly doesn't have."""
        from plotly.graph_objects import Figure

        return Figure(json.loads(self.to_json()))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Panels(Plot):
    """A figure of panels with axes of their own, laid out as Plotly's ``make_subplots`` lays them out.

    titles: of the panels, row by row. edge_titles: instead, of the columns and of the rows.
    gaps: between columns and between rows, as shares of the width and the height. heights: of the rows, in any unit.
    missing: (row, column), from 1, of panels that are left out.
    share_x: one x axis a column, with its numbers under the lowest panel; share_y: one y axis a row, with its numbers
    beside the first panel.
    """

    def __init__(
        self,
        height: int,
        rows: int,
        columns: int,
        *,
        titles: Sequence[str] = (),
        edge_titles: tuple[Sequence[str], Sequence[str]] = ((), ()),
        gaps: tuple[float, float] = (0.0, 0.0),
        heights: Sequence[float] = (),
        missing: Collection[tuple[int, int]] = (),
        share_x: bool = False,
        share_y: bool = False,
    ) -> None:
        super().__init__(height)
        self._in_panels = True
        lefts, widths = _spans(columns, gaps[0], 0.98 if edge_titles[1] else 1.0)
        bottoms, sizes = _spans(rows, gaps[1], 1.0, heights[::-1])  # from below
        places = [(row, column) for row in range(1, rows + 1) for column in range(1, columns + 1)]
        places = [place for place in places if place not in missing]
        self._axes = {place: "" if rank == 0 else str(rank + 1) for rank, place in enumerate(places)}
        for (row, column), axis in self._axes.items():
            left, bottom = lefts[column - 1], bottoms[rows - row]
            self.x(row, column, anchor=f"y{axis}", domain=[left, left + widths[column - 1]])
            self.y(row, column, anchor=f"x{axis}", domain=[bottom, min(bottom + sizes[rows - row], 1.0)])
            if share_x and row < rows:
                self.x(row, column, matches=f"x{self._axes[rows, column]}", showticklabels=False)
            if share_y and column > 1:
                self.y(row, column, matches=f"y{self._axes[row, 1]}", showticklabels=False)
        for place, title in zip(places, titles, strict=False):
            self._title(title, place)
        for column, title in enumerate(edge_titles[0], start=1):
            self._title(title, (1, column))
        for row, title in enumerate(edge_titles[1], start=1):
            self._title(title, (row, columns), beside=True)

    def _title(self, text: str, place: tuple[int, int], *, beside: bool = False) -> None:
        """A title over a panel, or to the right of it."""
        if not text:
            return
        axis = self._axes[place]
        x, y = self.layout[f"xaxis{axis}"]["domain"], self.layout[f"yaxis{axis}"]["domain"]
        where: dict[str, Any] = {"x": sum(x) / 2.0, "y": y[1], "xanchor": "center", "yanchor": "bottom"}
        if beside:
            where = {"x": x[1], "y": sum(y) / 2.0, "xanchor": "left", "yanchor": "middle", "textangle": 90}
        self.annotate(text=text, xref="paper", yref="paper", font={"size": 11}, **where)

    def annotate(self, **properties: Any) -> None:
        """Add a text."""
        self.layout.setdefault("annotations", []).append({"showarrow": False, **properties})

    def axis(self, row: int, column: int) -> str:
        """What is appended to the names of a panel's axes: ``""``, ``"2"``, ``"3"``, ..."""
        return self._axes[row, column]


def _spans(count: int, gap: float, whole: float, sizes: Sequence[float] = ()) -> tuple[list[float], list[float]]:
    """Where each of *count* parts starts, and how long it is. sizes: relative ones; equal ones if not given."""
    length = whole - gap * (count - 1)
    lengths = [length * (size / sum(sizes)) for size in sizes] or [length / count] * count
    return [sum(lengths[:position]) + position * gap for position in range(count)], lengths


# ------------------------------------------------------------------------------------------------------------ words


def literal(text: object) -> str:
    """A user's word, or a value in words, as Plotly shows it: literally."""
    return html.escape(in_words(text), quote=False)


def metric_name(metric: str) -> str:
    return "validation accuracy" if metric == "val_accuracy" else "validation loss"


def short(value: Any) -> str:
    """A parameter's value in a hover text."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def point_text(point: Point, metric: str) -> str:
    """The hover text of a trial."""
    outcome = "" if point.outcome == "completed" else f", {point.outcome}"
    lines = [f"<b>trial {point.trial}</b>: {number(point.value, metric)}{outcome}"]
    return "<br>".join([*lines, *(f"{literal(key)} {literal(short(value))}" for key, value in point.params.items())])


# ------------------------------------------------------------------------------------------------- colours, legends


def colour_scale(name: str) -> list[list[Any]]:
    """A colour scale of Plotly's by its name, such as ``Cividis``."""
    from plotly.colors import get_colorscale

    colours = [colour for _, colour in get_colorscale(name)]
    return [[place / (len(colours) - 1), colour] for place, colour in enumerate(colours)]


def line_style(rank: int) -> dict[str, Any]:
    """Colour and dash of the curve with that *rank* in a figure, from 0."""
    return {"color": COLOURS[rank % len(COLOURS)], "dash": DASHES[rank // len(COLOURS) % len(DASHES)]}


def cell_trace(label: str, index: int, rank: int, *, named: bool, shown: int = SHOWN) -> dict[str, Any]:
    """What the traces of one cell have in common: their place in the legend, and whether they are drawn at first.

    index: of the cell; rank: among those of the figure. named: the trace stands for the others in the legend.
    """
    return {
        "legendgroup": str(index),
        "name": literal(label),
        "showlegend": named,
        "visible": True if rank < shown else "legendonly",
        "hovertemplate": f"{literal(label)}<br>%{{x}}: %{{y:.4g}}<extra></extra>",
    }


def legend_on_page(plot: Plot) -> None:
    """Mark a figure of many curves: the report's page lists their names under it, where they never cover a curve and
    wrap on a phone. Elsewhere Plotly's own legend shows them."""
    plot.layout["meta"] = {"legend": "page"}


# ------------------------------------------------------------------------------------------------------------ axes


def log_axis(values: Sequence[float]) -> dict[str, Any]:
    """A logarithmic axis whose numbers don't overlap: over one to three decades 1, 2, 5 of each."""
    positive = [value for value in values if value > 0]
    ratio = max(positive) / min(positive) if positive else 1.0
    ticks: dict[str, Any] = {"dtick": "D2"} if 5 < ratio < 3000 else {"nticks": 6}
    return {"type": "log", "tickformat": "~g", **ticks}


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


def value_range(values: Sequence[float], direction: str) -> tuple[float, float]:
    """The axis of the results of trials, which may be none."""
    return robust_range(values, direction) if values else (0.0, 1.0)


def inside(value: float, limits: tuple[float, float]) -> float:
    """*value*, or the place at the edge of an axis where one beyond its *limits* is drawn."""
    margin = (limits[1] - limits[0]) * 0.04
    return min(max(value, limits[0] + margin), limits[1] - margin)


def better(value: float, than: float, direction: str) -> bool:
    return value > than if direction == "maximize" else value < than


def values_of(cells: Sequence[CellFinding], dimension: str) -> list[Any]:
    """The values of a scientific dimension that occur: numbers in order, others by their best cell."""
    seen: list[Any] = list(dict.fromkeys(cell.scientific.get(dimension) for cell in cells))
    numeric = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in seen)
    return sorted(seen) if numeric else seen
