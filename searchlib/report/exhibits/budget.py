"""What fewer nuisance points would have given."""

from __future__ import annotations

from searchlib.analysis import Findings
from searchlib.report.exhibits.exhibit import Drawn, Exhibit, Missing, Result
from searchlib.report.exhibits.plots import SHOWN, Plot, cell_trace, legend_on_page, line_style, metric_name
from searchlib.report.material import Material


def draw(material: Material) -> Result:
    findings = material.findings
    if not any(len(cell.budget.unbiased) > 1 for cell in findings.cells):
        return Missing("A budget curve needs two finished trials in a cell.")
    improves = "rises" if findings.direction == "maximize" else "falls"
    return Drawn(
        plot=budget_curves(findings),
        caption="Expected best result of a cell against its number of nuisance points. Solid: without replacement "
        f"(Dodge 2021; unbiased). Dotted: with replacement (Dodge 2019). A curve that still {improves} at its end says "
        "that the cell would gain from more points. Click on a name to show or hide a cell.",
    )


EXHIBIT = Exhibit(name="budget", section="budget", title="Expected best result by budget", draw=draw)


def budget_curves(findings: Findings) -> Plot:
    """The best value expected after n points of a cell (Dodge 2019, 2021).

    Solid: without replacement (unbiased). Dotted, for the first cells: with replacement, as first published.
    """
    plot = Plot(380)
    cells = [(index, cell) for index, cell in enumerate(findings.cells) if len(cell.budget.unbiased) > 1]
    for rank, (index, cell) in enumerate(cells):
        style = line_style(rank)
        x = list(range(1, len(cell.budget.unbiased) + 1))
        plot.add(
            "scatter", x=x, y=cell.budget.unbiased, mode="lines+markers", marker={"size": 5},
            line={**style, "width": 2}, **cell_trace(cell.label, index, rank, named=True),
        )  # fmt: skip
        if rank < SHOWN:
            plot.add(
                "scatter", x=x, y=cell.budget.biased, mode="lines", marker={"size": 5},
                line={**style, "dash": "dot", "width": 1}, **cell_trace(cell.label, index, rank, named=False),
            )  # fmt: skip
    plot.x(title={"text": "nuisance points of a cell", "standoff": 6}, zeroline=False)
    plot.y(title={"text": f"expected best {metric_name(findings.metric)}"}, zeroline=False, automargin=True)
    legend_on_page(plot)
    return plot
