"""The report's figures of single networks: curves by epoch, statistics by layer, weights, activations, test classes.

As in ``figures``: plain data in, ``plotly.graph_objects.Figure`` out. *histories* maps the position of a cell in
``data["cells"]`` to the metrics of its best run, name -> (step, value) in order of the steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from searchlib.figures import (
    ACCENT,
    COLOURS,
    History,
    cell_trace,
    empty_figure,
    legend_on_page,
    name,
    number,
    panels,
    style,
)

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = [
    "activation_curves",
    "class_accuracy",
    "confusion_matrix",
    "layer_diagnostics",
    "learning_curves",
    "weight_histograms",
]

DIAGNOSTICS = {  # statistic -> (title, logarithmic)
    "second_moment": ("second moment of the activation", True),
    "gradient_norm": ("norm of the weights' gradient", True),
    "update_ratio": ("update to weight ratio", True),
    "saturated": ("saturated share", False),
    "dead": ("dead share of units", False),
    "preactivation_variance": ("variance of the pre-activation", True),
}


def learning_curves(data: Mapping[str, Any], histories: Mapping[int, History]) -> Figure:
    """The best run of each cell: training loss, validation loss, their gap, validation accuracy.

    By iteration where the runs have ``step_*`` metrics, else by epoch.
    """
    from plotly.graph_objects import Scatter

    accuracy = data["metric"] == "val_accuracy"
    titles = ["training loss", "validation loss", "gap: validation loss less training loss"]
    titles += ["validation accuracy"] * accuracy
    specs = [[{}, {}], [{}, {} if accuracy else None]]
    figure = panels(2, 2, 540, specs=specs, subplot_titles=titles, horizontal_spacing=0.09, vertical_spacing=0.14)
    prefix = "step_" if any("step_val_loss" in history for history in histories.values()) else ""
    for rank, (index, history) in enumerate(histories.items()):
        train, validation = history.get(f"{prefix}train_loss", ()), history.get(f"{prefix}val_loss", ())
        gap = dict(train)
        series: list[Sequence[tuple[int, float]]] = [
            train,
            validation,
            [(step, value - gap[step]) for step, value in validation if step in gap],
        ]
        series += [history.get(f"{prefix}val_accuracy", ())] * accuracy
        for position, points in enumerate(series):
            figure.add_trace(
                Scatter(
                    x=[step for step, _ in points],
                    y=[value for _, value in points],
                    mode="lines+markers" if len(points) < 12 else "lines",
                    line=style(rank),
                    marker={"size": 5, "color": style(rank)["color"]},
                    **cell_trace(data["cells"], index, rank, named=position == 0),
                ),
                row=position // 2 + 1,
                col=position % 2 + 1,
            )
    figure.update_xaxes(zeroline=False)
    time = {"title_text": "iteration" if prefix else "epoch", "title_standoff": 6}
    figure.update_xaxes(**time, row=2)
    if not accuracy:
        figure.update_xaxes(**time, row=1, col=2)
    figure.update_yaxes(zeroline=False, automargin=True)
    for column in (1, 2):
        figure.update_yaxes(type="log", tickformat="~g", nticks=6, row=1, col=column)
    legend_on_page(figure)
    return figure


def layer_diagnostics(data: Mapping[str, Any], histories: Mapping[int, History]) -> Figure | None:
    """Statistics by layer of each cell's best run: dotted with open marks at the first step that has them (for most
    the initialization), solid at the last. None where no run has any."""
    from plotly.graph_objects import Scatter

    there = [
        statistic
        for statistic in DIAGNOSTICS
        if any(key.startswith(f"{statistic}/layer") for history in histories.values() for key in history)
    ]
    if not there:
        return None
    rows = -(-len(there) // 2)
    titles = [DIAGNOSTICS[statistic][0] for statistic in there]
    figure = panels(
        rows, 2, 250 * rows + 40, subplot_titles=titles, horizontal_spacing=0.09, vertical_spacing=0.24 / rows
    )
    named: set[int] = set()
    last_layer = 1
    for position, statistic in enumerate(there):
        where = {"row": position // 2 + 1, "col": position % 2 + 1}
        logarithmic = DIAGNOSTICS[statistic][1]
        for rank, (index, history) in enumerate(histories.items()):
            layers = _layers(history, statistic)
            last_layer = max([last_layer, *layers])
            for last in (False, True):
                points = [(layer, values[-1 if last else 0][1]) for layer, values in layers.items()]
                points = [(layer, value) for layer, value in points if value > 0 or not logarithmic]
                if not points:
                    continue
                figure.add_trace(
                    Scatter(
                        x=[layer for layer, _ in points],
                        y=[value for _, value in points],
                        mode="lines+markers",
                        line={**style(rank), "dash": "solid" if last else "dot"},
                        marker={
                            "size": 8,
                            "symbol": "circle" if last else "circle-open",
                            "color": style(rank)["color"],
                        },
                        **cell_trace(data["cells"], index, rank, named=last and index not in named),
                    ),
                    **where,
                )
                if last:
                    named.add(index)
        figure.update_yaxes(
            type="log" if logarithmic else "linear", tickformat="~g", nticks=6, zeroline=False, automargin=True, **where
        )
    figure.update_xaxes(dtick=1, range=[0.7, last_layer + 0.3], zeroline=False, title_text="layer", title_standoff=4)
    legend_on_page(figure)
    return figure


def _layers(history: History, statistic: str) -> dict[int, Sequence[tuple[int, float]]]:
    prefix = f"{statistic}/layer"
    found = {int(key.removeprefix(prefix)): points for key, points in history.items() if key.startswith(prefix)}
    return {layer: found[layer] for layer in sorted(found) if found[layer]}


def weight_histograms(layers: Sequence[Mapping[str, Any]]) -> Figure:
    """The weights of one network, layer by layer, at initialization and after training, as densities.

    layers: each with ``name``, ``edges`` (n + 1) and the densities ``after`` and ``before`` (n each; before may be
    None).
    """
    from plotly.graph_objects import Scatter

    columns = min(len(layers), 3)
    rows = -(-len(layers) // columns)
    titles = [name(layer["name"]) for layer in layers]
    figure = panels(rows, columns, 260 * rows + 40, subplot_titles=titles, horizontal_spacing=0.08)
    for position, layer in enumerate(layers):
        for kind, title, colour in (
            ("before", "at initialization", "#8A8A8A"),
            ("after", "after training", COLOURS[0]),
        ):
            if layer[kind] is None:
                continue
            figure.add_trace(
                Scatter(
                    x=layer["edges"],
                    y=[*layer[kind], layer[kind][-1]],
                    line={"shape": "hv", "width": 1.5, "color": colour},
                    fill="tozeroy",
                    fillcolor=_translucent(colour),
                    mode="lines",
                    name=title,
                    legendgroup=kind,
                    showlegend=position == 0,
                    hovertemplate="%{x:.3g}: %{y:.3g}<extra></extra>",
                ),
                row=position // columns + 1,
                col=position % columns + 1,
            )
    figure.update_xaxes(title_text="weight", title_standoff=6, zeroline=False, row=rows)
    figure.update_yaxes(rangemode="tozero", zeroline=False, automargin=True)
    figure.update_yaxes(title_text="density", col=1)
    legend_on_page(figure)
    return figure


def _translucent(colour: str) -> str:
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.18)"


def activation_curves(curves: Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[float]]]) -> Figure:
    """Activation functions and their derivatives. curves: name -> (x, phi(x), phi'(x))."""
    from plotly.graph_objects import Scatter

    figure = panels(1, 2, 320, subplot_titles=["activation", "derivative"], horizontal_spacing=0.09)
    for rank, (title, (x, value, slope)) in enumerate(curves.items()):
        for column, y in ((1, value), (2, slope)):
            figure.add_trace(
                Scatter(
                    x=x, y=y, mode="lines", line=style(rank), name=name(title), legendgroup=name(title),
                    showlegend=column == 1, hovertemplate=f"{name(title)}<br>%{{x:.2f}}: %{{y:.3f}}<extra></extra>",
                ),
                row=1,
                col=column,
            )  # fmt: skip
    figure.update_xaxes(title_text="x", title_standoff=6)
    legend_on_page(figure)
    return figure


def confusion_matrix(rows: Sequence[Sequence[int]], classes: Sequence[str]) -> Figure:
    """True classes down, predicted across: colour is the share of the row, text the count."""
    from plotly.graph_objects import Heatmap

    shares = [[count / max(sum(row), 1) for count in row] for row in rows]
    names = [name(title) for title in classes]
    figure = empty_figure(130 + 34 * len(rows))
    figure.add_trace(
        Heatmap(
            z=shares,
            x=names,
            y=names,
            text=[[str(count) if count else "" for count in row] for row in rows],
            texttemplate="%{text}",
            textfont={"size": 11},
            customdata=[[f"{100 * share:.1f} % ({count})" for share, count in zip(line, row, strict=True)]
                        for line, row in zip(shares, rows, strict=True)],
            hovertemplate="true %{y}, predicted %{x}: %{customdata}<extra></extra>",
            zmin=0,
            zmax=1,
            colorscale="Cividis",
            xgap=1,
            ygap=1,
            colorbar={"thickness": 12, "outlinewidth": 0, "tickformat": ".0%",
                      "title": {"text": "share of the true class", "side": "right", "font": {"size": 11}}},
        )
    )  # fmt: skip
    figure.update_xaxes(type="category", title_text="predicted", title_standoff=6, showgrid=False, automargin=True)
    figure.update_yaxes(type="category", title_text="true", autorange="reversed", showgrid=False, automargin=True)
    return figure


def class_accuracy(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Accuracy on each class with its 95 % Wilson interval. rows: ``name``, ``accuracy``, ``low``, ``high``, ``n``."""
    from plotly.graph_objects import Scatter

    figure = empty_figure(110 + 26 * max(len(rows), 2))
    labels = [name(row["name"]) for row in rows]
    figure.add_trace(
        Scatter(
            x=[row["accuracy"] for row in rows],
            y=labels,
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [row["high"] - row["accuracy"] for row in rows],
                "arrayminus": [row["accuracy"] - row["low"] for row in rows],
                "thickness": 1.5,
                "width": 4,
            },
            mode="markers",
            marker={"size": 9, "color": COLOURS[0]},
            customdata=[
                f"{number(row['accuracy'], 'val_accuracy')} ({row['low']:.4f} to {row['high']:.4f}), n = {row['n']}"
                for row in rows
            ],
            hovertemplate="%{y}: %{customdata}<extra></extra>",
        )
    )
    total = sum(row["n"] for row in rows)
    if total:
        overall = sum(row["accuracy"] * row["n"] for row in rows) / total
        figure.add_vline(x=overall, line={"color": ACCENT, "width": 1, "dash": "dash"})
    figure.update_xaxes(title_text="test accuracy", title_standoff=6, zeroline=False)
    figure.update_yaxes(type="category", autorange="reversed", automargin=True)
    return figure
