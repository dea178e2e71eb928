"""Histograms of weights at initialization and after training: of the champion, and of a network of each cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from searchlib.report.exhibits.exhibit import Drawn, Exhibit, Missing, Result
from searchlib.report.exhibits.plots import COLOURS, GREY, Panels, legend_on_page, literal
from searchlib.report.material import Material
from searchlib.report.networks import LayerWeights

MOST_LAYERS = 4  # beside each other


def draw_champion(material: Material) -> Result:
    if not material.weights or material.champion is None:
        return Missing(material.gaps.get("weights", "No champion's weights are stored."))
    colours = material.gaps.get("initial weights", "Grey: at initialization; blue: after training.")
    return Drawn(
        plot=weight_histograms(material.weights),
        caption=f"Weights of the champion ({material.champion}). {colours}",
        width=210 * min(len(material.weights), 3),
    )


def draw_cells(material: Material) -> Result:
    if len(material.cell_weights) < 2:
        return None
    cells = material.findings.cells
    left_out = len(cells) - len(material.cell_weights)
    return Drawn(
        plot=cell_weight_histograms([cell.label for cell in cells], material.cell_weights),
        caption="The same for the best network that is stored of each cell, best cell first."
        + (f" {left_out} more cells aren't shown." if left_out else ""),
        width=230 * min(max(map(len, material.cell_weights.values())), MOST_LAYERS),
    )


CHAMPION = Exhibit(name="weights", section="weights", title="Weights of the champion", draw=draw_champion)
CELLS = Exhibit(name="cell-weights", section="weights", title="Weights of the best network of each cell",
                draw=draw_cells)  # fmt: skip


def weight_histograms(layers: Sequence[LayerWeights]) -> Panels:
    """The weights of one network, layer by layer, as densities."""
    columns = min(len(layers), 3)
    rows = -(-len(layers) // columns)
    titles = [literal(layer.name) for layer in layers]
    plot = Panels(220 * rows + 40, rows, columns, titles=titles, gaps=(0.08, 0.24 / rows))
    for position, layer in enumerate(layers):
        _add(plot, position // columns + 1, position % columns + 1, layer)
    plot.x(zeroline=False)
    plot.x(rows, title={"text": "weight", "standoff": 6})
    plot.y(rangemode="tozero", zeroline=False, automargin=True)
    plot.y(column=1, title={"text": "density"})
    legend_on_page(plot)
    return plot


def cell_weight_histograms(labels: Sequence[str], weights: Mapping[int, Sequence[LayerWeights]]) -> Panels:
    """A row a cell, a column a layer, as in ``weight_histograms``; of more than MOST_LAYERS layers the first and last.

    labels: of the cells; weights: by the position of a cell. Each panel has its own axes: initializers differ in scale
    by orders of magnitude.
    """
    chosen = {index: _outer(layers) for index, layers in weights.items()}
    rows, columns = len(chosen), max(len(layers) for layers in chosen.values())
    height = 170 * rows + 60
    titles, missing = [], []
    for row, (index, layers) in enumerate(chosen.items(), start=1):
        titles += [f"{literal(labels[index])}<br>{literal(layer.label)}" for layer in layers]
        missing += [(row, column) for column in range(len(layers) + 1, columns + 1)]
    plot = Panels(height, rows, columns, titles=titles, gaps=(0.08, 62 / height), missing=missing)
    for row, layers in enumerate(chosen.values(), start=1):
        for column, layer in enumerate(layers, start=1):
            _add(plot, row, column, layer)
    plot.x(zeroline=False, nticks=5, tickfont={"size": 10})
    plot.y(rangemode="tozero", zeroline=False, automargin=True, nticks=4, tickfont={"size": 10})
    plot.y(column=1, title={"text": "density"})
    legend_on_page(plot)
    return plot


def _outer(layers: Sequence[LayerWeights]) -> Sequence[LayerWeights]:
    first = (MOST_LAYERS + 1) // 2
    return layers if len(layers) <= MOST_LAYERS else [*layers[:first], *layers[first - MOST_LAYERS :]]


def _add(plot: Panels, row: int, column: int, layer: LayerWeights) -> None:
    """Before training, where that is known, and after it."""
    for kind, title, density, colour in (
        ("before", "at initialization", layer.before, GREY),
        ("after", "after training", layer.after, COLOURS[0]),
    ):
        if density is not None:
            plot.add(
                "scatter", row=row, column=column, x=layer.edges, y=[*density, density[-1]],
                line={"shape": "hv", "width": 1.5, "color": colour}, fill="tozeroy", fillcolor=_translucent(colour),
                mode="lines", name=title, legendgroup=kind, showlegend=row == column == 1,
                hovertemplate="%{x:.3g}: %{y:.3g}<extra></extra>",
            )  # fmt: skip


def _translucent(colour: str) -> str:
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.18)"
