"""Statistics by layer of each cell's best run, at initialization and after training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from searchlib.report.exhibits.exhibit import Drawn, Exhibit, Missing, Result
from searchlib.report.exhibits.plots import Panels, cell_trace, legend_on_page, line_style, log_axis
from searchlib.report.material import History, Material

STATISTICS = {  # statistic -> (title, logarithmic)
    "second_moment": ("second moment of the activation", True),
    "gradient_norm": ("norm of the weights' gradient", True),
    "update_ratio": ("update to weight ratio", True),
    "saturated": ("saturated share", False),
    "dead": ("dead share of units", False),
    "preactivation_variance": ("variance of the pre-activation", True),
}


def draw(material: Material) -> Result:
    histories = material.histories
    plot = layer_diagnostics([cell.label for cell in material.findings.cells], histories)
    if plot is None:
        if any(history.get("train_loss") for history in histories.values()):
            return Missing("The runs hold no diagnostics by layer.")
        return Missing(material.gaps.get("histories", "No run of a cell's best trial is stored."))
    gap = material.gaps.get("activations", "")
    return Drawn(
        plot=plot,
        caption="Each cell's best run, layer by layer (the last is the output layer). Dotted: at initialization (for "
        f"the update ratio, after the first epoch). Solid: after the last epoch. {gap}".strip(),
        width=480,
    )


EXHIBIT = Exhibit(name="layers", section="health", title="Statistics by layer", draw=draw)


def layer_diagnostics(labels: Sequence[str], histories: Mapping[int, History]) -> Panels | None:
    """One panel a statistic: dotted with open marks at the first step that has it (for most the initialization), solid
    at the last. None where no run has any.

    labels: of the cells; histories: by the position of a cell.
    """
    there = [
        statistic
        for statistic in STATISTICS
        if any(key.startswith(f"{statistic}/layer") for history in histories.values() for key in history)
    ]
    if not there:
        return None
    rows = -(-len(there) // 2)
    titles = [STATISTICS[statistic][0] for statistic in there]
    plot = Panels(250 * rows + 40, rows, 2, titles=titles, gaps=(0.09, 0.24 / rows))
    named: set[int] = set()
    last_layer = 1
    for position, statistic in enumerate(there):
        row, column = position // 2 + 1, position % 2 + 1
        logarithmic = STATISTICS[statistic][1]
        drawn: list[float] = []
        for rank, (index, history) in enumerate(histories.items()):
            layers = _by_layer(history, statistic)
            last_layer = max([last_layer, *layers])
            for last in (False, True):
                points = [(layer, values[-1 if last else 0][1]) for layer, values in layers.items()]
                points = [(layer, value) for layer, value in points if value > 0 or not logarithmic]
                if not points:
                    continue
                drawn += [value for _, value in points]
                style = line_style(rank)
                plot.add(
                    "scatter",
                    row=row,
                    column=column,
                    x=[layer for layer, _ in points],
                    y=[value for _, value in points],
                    mode="lines+markers",
                    line={**style, "dash": "solid" if last else "dot"},
                    marker={"size": 8, "symbol": "circle" if last else "circle-open", "color": style["color"]},
                    **cell_trace(labels[index], index, rank, named=last and index not in named),
                )
                if last:
                    named.add(index)
        axis = log_axis(drawn) if logarithmic else {"tickformat": "~g", "nticks": 6}
        plot.y(row, column, **axis, zeroline=False, automargin=True)
    plot.x(dtick=1, range=[0.7, last_layer + 0.3], zeroline=False, title={"text": "layer", "standoff": 4})
    legend_on_page(plot)
    return plot


def _by_layer(history: History, statistic: str) -> dict[int, Sequence[tuple[int, float]]]:
    prefix = f"{statistic}/layer"
    found = {int(key.removeprefix(prefix)): points for key, points in history.items() if key.startswith(prefix)}
    return {layer: found[layer] for layer in sorted(found) if found[layer]}
