"""What fewer nuisance points would have given."""

from __future__ import annotations

from typing import Any

from searchlib.analysis import Budget, Findings
from searchlib.report.exhibits.exhibit import Drawn, Exhibit, Missing, Result
from searchlib.report.exhibits.plots import SHOWN, Plot, cell_trace, legend_on_page, line_style, metric_name
from searchlib.report.material import Material


def draw(material: Material) -> Result:
    findings = material.findings
    cells = [cell for cell in findings.cells if len(cell.budget.unbiased) > 1]
    if material.definition["pruner"] != "none":
        return Missing(
            "There is no budget curve with a pruner: the trials that it stopped have the result of fewer epochs, so "
            "what to expect from fewer points isn't known."
        )
    if not cells:
        return Missing("A budget curve needs two finished trials in a cell.")
    improves = "rises" if findings.direction == "maximize" else "falls"
    reasons = [cell.budget.no_band for cell in cells if cell.budget.no_band]
    lines = "Dotted: with replacement (Dodge 2019)."
    if len(reasons) < len(cells):
        lines = (
            "Dotted: the median of the best result, in its 95 % confidence band, which holds for all numbers of points "
            "at once (Lourie 2024); it ends where the points give no bound."
        )
    return Drawn(
        plot=budget_curves(findings),
        caption="Expected best result of a cell against its number of nuisance points. Solid: without replacement "
        f"(Dodge 2021; unbiased). {lines}"
        + (
            f" No confidence band{' in some cells' if len(reasons) < len(cells) else ''}: {reasons[0]}."
            if reasons
            else ""
        )
        + f" A curve that still {improves} at its end says that the cell would gain from more points. Click on a name "
        "to show or hide a cell.",
    )


EXHIBIT = Exhibit(name="budget", section="budget", title="Expected best result by budget", draw=draw)


def budget_curves(findings: Findings) -> Plot:
    """The best value expected after n points of a cell (Dodge 2019, 2021).

    Solid: without replacement (unbiased). Dotted, for the first cells: with replacement, as first published; or the
    median in its confidence band, where there is one.
    """
    plot = Plot(380)
    cells = [(index, cell) for index, cell in enumerate(findings.cells) if len(cell.budget.unbiased) > 1]
    for rank, (index, cell) in enumerate(cells):
        style, budget = line_style(rank), cell.budget
        x = list(range(1, len(budget.unbiased) + 1))
        plot.add(
            "scatter", x=x, y=budget.unbiased, mode="lines+markers", marker={"size": 5},
            line={**style, "width": 2}, **cell_trace(cell.label, index, rank, named=True),
        )  # fmt: skip
        if rank < SHOWN:
            plot.add(
                "scatter", x=x, y=budget.median or budget.biased, mode="lines", marker={"size": 5},
                line={**style, "dash": "dot", "width": 1}, **cell_trace(cell.label, index, rank, named=False),
            )  # fmt: skip
            if budget.median:
                _add_band(plot, budget, line={**style, "dash": "solid", "width": 1}, legendgroup=str(index))
    plot.x(title={"text": "nuisance points of a cell", "standoff": 6}, zeroline=False)
    plot.y(title={"text": f"expected best {metric_name(findings.metric)}"}, zeroline=False, automargin=True)
    legend_on_page(plot)
    return plot


def _add_band(plot: Plot, budget: Budget, **properties: Any) -> None:
    """The confidence band of a median tuning curve, where it has two ends."""
    bounds = zip(budget.median_low, budget.median_high, strict=True)
    known = [(n, *ends) for n, ends in enumerate(bounds, start=1) if None not in ends]
    around = [*((n, low) for n, low, _ in known), *((n, high) for n, _, high in reversed(known))]
    if around:
        plot.add(
            "scatter", x=[n for n, _ in around], y=[bound for _, bound in around], mode="lines", fill="toself",
            opacity=0.3, hoverinfo="skip", showlegend=False, **properties,
        )  # fmt: skip
