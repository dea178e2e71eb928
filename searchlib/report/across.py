"""The page of a study of several data sets: what they say together. Each data set has a page of its own beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from searchlib.analysis import Across, Findings
from searchlib.files import output_errors, write_whole
from searchlib.report.exhibits import Drawn
from searchlib.report.exhibits.plots import ACCENT, COLOURS, FAINT, Plot, literal, metric_name
from searchlib.report.page import environment_for

MOST_CELLS = 36  # with a row of the figure


def publish_across(path: Path, across: Across, findings: Mapping[str, Findings]) -> Path:
    """Write the page to *path*, and return it. findings: of each data set that has begun, by its name."""
    with output_errors(path, "report"):
        write_whole(path, render_across(across, findings).encode())
    return path


def across_json(across: Across, findings: Mapping[str, Findings]) -> dict[str, Any]:
    """What ``report --json`` prints of a study of several data sets, as plain JSON."""
    parts = {name: {**one.to_json(), "published": []} for name, one in findings.items()}
    return {"datasets": parts, "across": across.to_json()}


def render_across(across: Across, findings: Mapping[str, Findings]) -> str:
    """The page: one HTML file, with no reference to anything outside but the pages of the data sets beside it."""
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    return (
        environment_for(across.metric, {})
        .get_template("across.html")
        .render(
            across=across,
            findings=findings,
            metric=metric_name(across.metric),
            unit="points" if across.metric == "val_accuracy" else "loss",
            figure=draw_ranks(across),
            data=across_json(across, findings),
            plotly=Markup(get_plotlyjs()),
        )
    )


def draw_ranks(across: Across) -> Drawn | None:
    """The mean ranks with the critical difference (after Demsar 2006, figure 1); None without a test."""
    if across.friedman is None:
        return None
    cells, test = across.cells[:MOST_CELLS], across.friedman
    names = [literal(cell.label) for cell in cells]
    plot = Plot(130 + 24 * len(cells))
    plot.add(
        "scatter",
        x=[rank for cell in cells for rank in cell.ranks.values()],
        y=[name for name, cell in zip(names, cells, strict=True) for _ in cell.ranks],
        text=[literal(dataset) for cell in cells for dataset in cell.ranks],
        hovertemplate="%{y}<br>%{text}: rank %{x}<extra></extra>",
        mode="markers",
        marker={"size": 7, "color": FAINT},
        name="rank on one data set",
    )
    plot.add(
        "scatter",
        x=[cell.mean_rank for cell in cells],
        y=names,
        hovertemplate="%{y}<br>mean rank %{x:.2f}<extra></extra>",
        mode="markers",
        marker={"size": 10, "color": [ACCENT if cell.worse else COLOURS[0] for cell in cells]},
        name="mean rank",
    )
    first, top = cells[0].mean_rank, max(test.cells + 0.5, cells[0].mean_rank + test.critical_difference + 0.2)
    band = {"x0": first, "x1": first + test.critical_difference, "y0": 0, "y1": 1, "yref": "paper", "layer": "below"}
    plot.layout["shapes"] = [{"type": "rect", **band, "line": {"width": 0}, "fillcolor": "rgba(128,128,128,0.16)"}]
    plot.x(title={"text": "rank, 1 is the best", "standoff": 6}, range=[0.5, top], dtick=1 if test.cells <= 20 else 5)
    plot.y(categoryorder="array", categoryarray=names[::-1], automargin=True)
    plot.layout["legend"] = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
    left = len(across.cells) - len(cells)
    caption = "Mean ranks over the data sets. The grey band is the critical difference: "
    if test.datasets < test.least or not test.significant:
        caption += "it doesn't count here, since Friedman's test is not significant."
    else:
        caption += "a cell beyond it is significantly worse than the first."
    if left:
        caption += f" {left} more cells are in the table only."
    return Drawn(plot=plot, caption=caption, width=420)
