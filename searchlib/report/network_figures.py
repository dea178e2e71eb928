"""The report's figures of single networks: curves by epoch, statistics by layer, weights, activations, test classes.

As in ``figures``: plain data in, ``plotly.graph_objects.Figure`` out. *histories* maps the position of a cell in
``data["cells"]`` to the metrics of its best run, name -> (step, value) in order of the steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from searchlib.report.figures import (
    ACCENT,
    COLOURS,
    FAINT,
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
    from plotly.graph_objects import Figure, Scatter

__all__ = [
    "activation_curves",
    "cell_weight_histograms",
    "class_accuracy",
    "confusion_matrix",
    "fitted_curves",
    "layer_diagnostics",
    "learning_curves",
    "predicted_and_true",
    "single_decisions",
    "weight_histograms",
]

GREY = "#8A8A8A"
MOST_LAYERS = 4  # of which histograms are shown beside each other
MOST_CLASSES = 12  # of which the soft decisions are shown, the likeliest
FITTED = 6  # curves drawn at first

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
    prefix = "step_" if all("step_val_loss" in history for history in histories.values()) else ""
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
    for column, metric in ((1, f"{prefix}train_loss"), (2, f"{prefix}val_loss")):
        values = [value for history in histories.values() for _, value in history.get(metric, ())]
        figure.update_yaxes(**_log_axis(values), row=1, col=column)
    legend_on_page(figure)
    return figure


def _log_axis(values: Sequence[float]) -> dict[str, Any]:
    """A logarithmic axis whose numbers don't run into each other: over one to three decades 1, 2, 5 of each."""
    positive = [value for value in values if value > 0]
    ratio = max(positive) / min(positive) if positive else 1.0
    ticks: dict[str, Any] = {"dtick": "D2"} if 5 < ratio < 3000 else {"nticks": 6}
    return {"type": "log", "tickformat": "~g", **ticks}


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
        drawn: list[float] = []
        for rank, (index, history) in enumerate(histories.items()):
            layers = _layers(history, statistic)
            last_layer = max([last_layer, *layers])
            for last in (False, True):
                points = [(layer, values[-1 if last else 0][1]) for layer, values in layers.items()]
                points = [(layer, value) for layer, value in points if value > 0 or not logarithmic]
                if not points:
                    continue
                drawn += [value for _, value in points]
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
        axis = _log_axis(drawn) if logarithmic else {"tickformat": "~g", "nticks": 6}
        figure.update_yaxes(**axis, zeroline=False, automargin=True, **where)
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
    columns = min(len(layers), 3)
    rows = -(-len(layers) // columns)
    titles = [name(layer["name"]) for layer in layers]
    spacing = {"horizontal_spacing": 0.08, "vertical_spacing": 0.24 / rows}
    figure = panels(rows, columns, 220 * rows + 40, subplot_titles=titles, **spacing)
    for position, layer in enumerate(layers):
        traces = _histogram(layer, named=position == 0)
        figure.add_traces(traces, rows=position // columns + 1, cols=position % columns + 1)
    figure.update_xaxes(title_text="weight", title_standoff=6, zeroline=False, row=rows)
    figure.update_yaxes(rangemode="tozero", zeroline=False, automargin=True)
    figure.update_yaxes(title_text="density", col=1)
    legend_on_page(figure)
    return figure


def cell_weight_histograms(data: Mapping[str, Any], weights: Mapping[int, Sequence[Mapping[str, Any]]]) -> Figure:
    """A row a cell, a column a layer, as in ``weight_histograms``; of more than MOST_LAYERS layers the first and last.

    Each panel has its own axes: initializers differ in scale by orders of magnitude.
    """
    chosen = {index: _outer(layers) for index, layers in weights.items()}
    rows, columns = len(chosen), max(len(layers) for layers in chosen.values())
    titles = []
    for index, layers in chosen.items():
        shown = [f"{name(data['cells'][index]['label'])}<br>{name(layer['label'])}" for layer in layers]
        titles += shown + [""] * (columns - len(shown))
    specs: list[list[dict[str, Any] | None]]
    specs = [[{} if place < len(layers) else None for place in range(columns)] for layers in chosen.values()]
    height = 170 * rows + 60
    figure = panels(
        rows, columns, height, specs=specs, subplot_titles=[title for title in titles if title],
        horizontal_spacing=0.08, vertical_spacing=62 / height,
    )  # fmt: skip
    for row, layers in enumerate(chosen.values(), start=1):
        for column, layer in enumerate(layers, start=1):
            figure.add_traces(_histogram(layer, named=row == column == 1), rows=row, cols=column)
    figure.update_xaxes(zeroline=False, nticks=5, tickfont_size=10)
    figure.update_yaxes(rangemode="tozero", zeroline=False, automargin=True, nticks=4, tickfont_size=10)
    figure.update_yaxes(title_text="density", col=1)
    legend_on_page(figure)
    return figure


def _outer(layers: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    first = (MOST_LAYERS + 1) // 2
    return layers if len(layers) <= MOST_LAYERS else [*layers[:first], *layers[first - MOST_LAYERS :]]


def _histogram(layer: Mapping[str, Any], *, named: bool) -> list[Scatter]:
    """Before, where that is known, and after."""
    from plotly.graph_objects import Scatter

    return [
        Scatter(
            x=layer["edges"],
            y=[*layer[kind], layer[kind][-1]],
            line={"shape": "hv", "width": 1.5, "color": colour},
            fill="tozeroy",
            fillcolor=_translucent(colour),
            mode="lines",
            name=title,
            legendgroup=kind,
            showlegend=named,
            hovertemplate="%{x:.3g}: %{y:.3g}<extra></extra>",
        )
        for kind, title, colour in (("before", "at initialization", GREY), ("after", "after training", COLOURS[0]))
        if layer[kind] is not None
    ]


def _translucent(colour: str) -> str:
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.18)"


def fitted_curves(data: Mapping[str, Any], fits: Mapping[str, Any]) -> Figure:
    """What the networks of each cell give over the only input, with validation examples and, where it is known, the
    function; below then what is between them."""
    from plotly.graph_objects import Scatter

    function, x = fits["function"], fits["x"]
    rows = 2 if function else 1
    figure = panels(
        rows, 1, 640 if function else 440, shared_xaxes=True, vertical_spacing=0.06,
        row_heights=[0.68, 0.32] if function else [1.0],
    )  # fmt: skip
    xs, ys = fits["points"]
    figure.add_trace(
        Scatter(
            x=xs, y=ys, mode="markers", marker={"size": 5, "color": FAINT}, line={"color": GREY, "dash": "dot"},
            name="validation examples", legendgroup="points", hovertemplate="%{x:.4g}: %{y:.4g}<extra></extra>",
        ),
        row=1, col=1,
    )  # fmt: skip
    if function:
        figure.add_trace(
            Scatter(
                x=x, y=function, mode="lines", line={"color": GREY, "width": 5}, opacity=0.5, name="the function",
                legendgroup="function", hovertemplate="the function<br>%{x:.4g}: %{y:.4g}<extra></extra>",
            ),
            row=1, col=1,
        )  # fmt: skip
    for rank, (index, curve) in enumerate(fits["curves"].items()):
        shared = cell_trace(data["cells"], index, rank, named=True) | {
            "visible": True if rank < FITTED else "legendonly"
        }
        figure.add_trace(Scatter(x=x, y=curve, mode="lines", line=style(rank), **shared), row=1, col=1)
        if function:
            off = [one - other for one, other in zip(curve, function, strict=True)]
            shared["showlegend"] = False
            figure.add_trace(Scatter(x=x, y=off, mode="lines", line=style(rank), **shared), row=2, col=1)
    figure.update_xaxes(zeroline=False)
    figure.update_xaxes(title_text="input", title_standoff=6, row=rows)
    figure.update_yaxes(zeroline=False, automargin=True, title_text="output", row=1)
    if function:
        figure.update_yaxes(automargin=True, title_text="less the function", row=2)
    legend_on_page(figure)
    return figure


def predicted_and_true(fits: Mapping[str, Any]) -> Figure:
    """Predictions of a regression against the targets, and what they are off by against the predictions."""
    from plotly.graph_objects import Scatter

    figure = panels(1, 2, 400, subplot_titles=["prediction against target", "prediction less target"],
                    horizontal_spacing=0.11)  # fmt: skip
    pairs = list(zip(fits["prediction"], fits["target"], strict=True))
    off = [one - other for one, other in pairs]
    marker = {"size": 5, "color": COLOURS[0], "opacity": 0.5}
    for column, (x, y) in enumerate(((fits["target"], fits["prediction"]), (fits["prediction"], off)), start=1):
        figure.add_trace(
            Scatter(x=x, y=y, mode="markers", marker=marker, showlegend=False,
                    hovertemplate="%{x:.4g}: %{y:.4g}<extra></extra>"),
            row=1, col=column,
        )  # fmt: skip
    ends = [min(map(min, pairs)), max(map(max, pairs))]
    line = {"color": ACCENT, "width": 1, "dash": "dash"}
    figure.add_trace(Scatter(x=ends, y=ends, mode="lines", line=line, showlegend=False, hoverinfo="skip"), row=1, col=1)
    figure.add_hline(y=0.0, line=line, row=1, col=2)
    figure.update_xaxes(zeroline=False)
    figure.update_yaxes(zeroline=False, automargin=True)
    figure.update_xaxes(title_text="target", title_standoff=6, col=1)
    figure.update_xaxes(title_text="prediction", title_standoff=6, col=2)
    return figure


def single_decisions(found: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> Figure:
    """Images side by side, each over the soft decisions for its likeliest classes. found: of ``networks.decisions``."""
    from plotly.graph_objects import Bar, Heatmap

    bars = min(len(classes), MOST_CLASSES)
    height = 330 + 20 * bars
    titles = [f"{name(one['what'])} ({one['index']})<br>true: <b>{name(classes[one['truth']])}</b>" for one in found]
    figure = panels(
        2, len(found), height, subplot_titles=titles, vertical_spacing=20 / height, horizontal_spacing=0.12,
        row_heights=[220, 20 * bars],
    )  # fmt: skip
    for column, one in enumerate(found, start=1):
        figure.add_trace(
            Heatmap(z=one["image"], zmin=0.0, zmax=1.0, colorscale="gray", showscale=False, hoverinfo="skip"),
            row=1, col=column,
        )  # fmt: skip
        order = sorted(range(len(classes)), key=lambda place: -one["soft"][place])
        shown = order[:bars]
        if one["truth"] not in shown:
            shown[-1] = one["truth"]
        colours = dict.fromkeys(shown, COLOURS[6]) | {order[0]: ACCENT} | {one["truth"]: COLOURS[0]}
        figure.add_trace(
            Bar(
                x=[one["soft"][place] for place in shown],
                y=[name(classes[place]) for place in shown],
                orientation="h",
                marker_color=[colours[place] for place in shown],
                text=[f"{one['soft'][place]:.3f}" for place in shown],
                textposition="outside",
                cliponaxis=False,
                hovertemplate="%{y}: %{x:.4f}<extra></extra>",
                showlegend=False,
            ),
            row=2,
            col=column,
        )
        axis = "" if column == 1 else column
        figure.update_yaxes(autorange="reversed", visible=False, scaleanchor=f"x{axis}", row=1, col=column)
    figure.update_xaxes(visible=False, constrain="domain", row=1)
    figure.update_xaxes(range=[0, 1.2], tickvals=[0, 0.5, 1], zeroline=False, row=2)
    figure.update_yaxes(type="category", autorange="reversed", automargin=True, row=2)
    figure.update_layout(margin={"t": 60})
    return figure


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
