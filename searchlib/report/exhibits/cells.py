"""The cells over their scientific values: a heat map over two dimensions, a row a cell over one."""

from __future__ import annotations

from typing import Any

from searchlib.analysis import CellFinding, Findings
from searchlib.report.exhibits.exhibit import Drawn, Exhibit, Missing, Result
from searchlib.report.exhibits.plots import (
    ACCENT,
    COLOURS,
    Plot,
    colour_scale,
    literal,
    metric_name,
    robust_range,
    short,
    values_of,
)
from searchlib.report.material import Material
from searchlib.text import number

MOST_VALUES = 24  # of a dimension of the heat map
MOST_CELLS = 36  # with a row of their own


def draw(material: Material) -> Result:
    findings = material.findings
    dimensions = list(material.definition["scientific"])
    if all(cell.search_best is None for cell in findings.cells):
        return Missing("No trial completed, so no cell has a value.")
    if not dimensions:
        return Missing("The study has no scientific dimension, so there are no cells to compare.")
    over = "searches" if findings.searches > 1 else "replicates"
    caption = f"The cells: mean of the {over} ± half of its 95 % interval, or the best value of the search if there "
    caption += "are none" + (" that learnt." if any(cell.failed and not cell.n for cell in findings.cells) else ".")
    if findings.searches > 1 and findings.winner and findings.winner.among > 1:
        caption += " Each interval stands on its own; the winner's in the answer allows for its choice, too."
    if not any(cell.n for cell in findings.cells):
        caption = "The cells: best value of the search, on one seed; no cell was replicated."
    counts = [len(values_of(findings.cells, dimension)) for dimension in dimensions[:2]]
    if len(dimensions) == 1 or max(counts) > MOST_VALUES:
        return Drawn(plot=cell_values(findings), caption=caption)
    others = f" Each shows the best over {', '.join(dimensions[2:])}." if dimensions[2:] else ""
    return Drawn(
        plot=heat_map(findings, *dimensions[:2]),
        caption=f"{caption} The winner is outlined.{others}",
        width=90 * counts[1] + 180,
    )


EXHIBIT = Exhibit(name="cells", section="cells", title="Cells", draw=draw, dashboard=True)


def score(cell: CellFinding) -> float | None:
    """What ranks a cell: the mean of its replicates, or else its best value in the search."""
    return cell.search_best if cell.mean is None else cell.mean


def heat_map(findings: Findings, rows: str, columns: str) -> Plot:
    """The cells over two scientific dimensions; of further dimensions the best value is shown.

    Cell text: mean ± half the 95 % interval of the replicates, or the search's best where there are none. The scale
    ends at ``robust_range``, so that failing cells don't swamp it. The winner is outlined.
    """
    metric, maximize = findings.metric, findings.direction == "maximize"
    best: dict[tuple[Any, Any], CellFinding] = {}
    for cell in findings.cells:  # best first
        best.setdefault((cell.scientific.get(rows), cell.scientific.get(columns)), cell)
    across, down = values_of(findings.cells, columns), values_of(findings.cells, rows)
    table = [[best.get((row, column)) for column in across] for row in down]
    values = [value for cell in best.values() if (value := score(cell)) is not None]
    low, high = robust_range(values, findings.direction)
    mixed = len({cell.n > 0 for cell in findings.cells}) > 1
    clipped = any(value < low or value > high for value in values)
    bound = number(low if maximize else high, metric)
    note = f"<br>({'below' if maximize else 'above'} {bound} in one colour)" if clipped else ""
    plot = Plot(100 + 46 * len(down))
    plot.add(
        "heatmap",
        z=[[cell and score(cell) for cell in line] for line in table],
        x=[literal(value) for value in across],
        y=[literal(value) for value in down],
        text=[[_text(cell, metric, mixed=mixed) for cell in line] for line in table],
        customdata=[[_hover(cell, metric) if cell else "" for cell in line] for line in table],
        texttemplate="%{text}",
        textfont={"size": 11},
        hovertemplate="%{customdata}<extra></extra>",
        zmin=low,
        zmax=high,
        colorscale=colour_scale("Cividis"),
        reversescale=not maximize,
        xgap=2,
        ygap=2,
        colorbar={
            "thickness": 12,
            "outlinewidth": 0,
            "title": {"text": metric_name(metric) + note, "side": "right", "font": {"size": 11}},
        },
    )
    if findings.winner:
        where = findings.winner.scientific
        x, y = across.index(where.get(columns)), down.index(where.get(rows))
        corners = {"x0": x - 0.49, "x1": x + 0.49, "y0": y - 0.48, "y1": y + 0.48}
        plot.layout["shapes"] = [{"type": "rect", **corners, "line": {"color": ACCENT, "width": 3}}]
    axis: dict[str, Any] = {"type": "category", "showgrid": False, "zeroline": False, "automargin": True}
    plot.x(title={"text": literal(columns), "standoff": 6}, **axis)
    plot.y(title={"text": literal(rows), "standoff": 8}, autorange="reversed", **axis)
    return plot


def _text(cell: CellFinding | None, metric: str, *, mixed: bool) -> str:
    """mixed: some cells have replicates and some don't, so that each must say which it is."""
    if cell is None:
        return ""
    if score(cell) is None:
        return "failed"
    if cell.mean is None:
        why = "no replicate learnt" if cell.failed else "search only"
        return number(cell.search_best, metric) + (f"<br><i>{why}</i>" if mixed else "")
    if cell.low is None or cell.high is None:
        return f"{number(cell.mean, metric)}<br>n = {cell.n}"
    return f"{number(cell.mean, metric)}<br>± {number((cell.high - cell.low) / 2, metric)}"


def _hover(cell: CellFinding, metric: str) -> str:
    lines = [f"<b>{literal(cell.label)}</b>", f"search best {number(cell.search_best, metric)}"]
    if cell.mean is not None:
        lines.append(f"mean of {cell.n} replicates {number(cell.mean, metric)}")
    lines += [f"{literal(key)} {literal(short(value))}" for key, value in cell.nuisance.items()]
    lines += [literal(flag) for flag in cell.flags]
    return "<br>".join(lines)


def cell_values(findings: Findings) -> Plot:
    """The cells as points with their 95 % intervals, best at the top; open points are search values only."""
    cells = [cell for cell in findings.cells if score(cell) is not None][:MOST_CELLS]
    plot = Plot(110 + 26 * max(len(cells), 2))
    for replicated, title, symbol in (
        (True, "mean of replicates, 95 % interval", "circle"),
        (False, "search", "circle-open"),
    ):
        chosen = [cell for cell in cells if (cell.mean is not None) == replicated]
        if not chosen:
            continue
        half = [0.0 if cell.low is None or cell.high is None else (cell.high - cell.low) / 2 for cell in chosen]
        plot.add(
            "scatter",
            x=[score(cell) for cell in chosen],
            y=[literal(cell.label) for cell in chosen],
            error_x={"type": "data", "array": half, "thickness": 1.5, "width": 4},
            customdata=[_hover(cell, findings.metric) for cell in chosen],
            hovertemplate="%{customdata}<extra></extra>",
            mode="markers",
            marker={"size": 10, "symbol": symbol, "color": COLOURS[0], "line": {"width": 2, "color": COLOURS[0]}},
            name=title,
        )
    limits = robust_range([value for cell in cells if (value := score(cell)) is not None], findings.direction)
    plot.x(range=limits, title={"text": metric_name(findings.metric), "standoff": 6}, zeroline=False, automargin=True)
    plot.y(categoryorder="array", categoryarray=[literal(cell.label) for cell in cells][::-1], automargin=True)
    plot.layout["legend"] = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
    return plot
