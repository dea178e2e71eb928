"""An initializer beside an activation, at initialization: what random networks do and what mean field predicts."""

from __future__ import annotations

import html
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchlib.errors import StudyError
from searchlib.files import output_errors, write_whole
from searchlib.networks import gaussian_moments, get_activation
from searchlib.report.exhibits.plots import COLOURS, FAINT, Panels, literal
from searchlib.seeds import derive_seed
from searchlib.study import TrialConfig
from searchlib.text import encode_for_message
from searchlib.training import diagnose_words

if TYPE_CHECKING:
    import torch
    from plotly.graph_objects import Figure

    from searchlib.training.stack import Stack

NETWORKS = 8
CLASSES = 10
MEAN_ERRORS = 5.0  # standard errors that the mean of the drawn weights may be from 0, to count as 0
LARGEST = 250_000_000  # weights of a network: 1 GB, and as much again for its gradient


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Signal and gradient of random networks by layer, beside the mean-field prediction.

    measured: statistic -> by hidden layer, a value for each network. ``gradient`` is the mean over
    examples of the squared norm of d(example's loss)/d(preactivations), ``chi`` its factor from the next layer back.
    predicted: ``second_moment``, ``gradient`` and ``chi`` by hidden layer; empty where mean field says nothing.
    words: what ``diagnose_words`` says of the median network.
    """

    config: TrialConfig
    networks: int
    measured: dict[str, list[list[float]]]
    predicted: dict[str, list[float]]
    words: list[str]

    @property
    def title(self) -> str:
        names = [encode_for_message(name).strip("'") for name in (self.config.initializer, self.config.activation)]
        widths = self.config.widths
        layers = "1 hidden layer" if len(widths) == 1 else f"{len(widths)} hidden layers"
        shape = f"{layers} of {widths[0]} units" if widths else "no hidden layer"
        return f"{names[0]}, {names[1]}: {shape}, {self.networks} networks at initialization"

    def lines(self) -> list[str]:
        """A table by layer and the findings, for a terminal."""
        lines = [
            self.title,
            "inputs: standard normal; mean over the networks; in brackets: what mean field predicts",
            "",
        ]
        rows = [["layer", "second moment", "", "variance", "saturated", "dead", "gradient²", "", "factor", "",
                 "weight gradient"]]  # fmt: skip
        for layer in range(len(self.config.widths)):
            row = [str(layer + 1)]
            for statistic in ("second_moment", "activation_variance", "saturated", "dead", "gradient", "chi",
                              "gradient_norm"):  # fmt: skip
                value, expected = self._mean(statistic, layer), self.predicted.get(statistic)
                if statistic in ("saturated", "dead"):
                    row.append("" if value is None else f"{value:.1%}".replace("%", " %"))
                else:
                    row.append("" if value is None else f"{value:.3g}")
                if statistic in ("second_moment", "gradient", "chi"):
                    row.append(f"({expected[layer]:.3g})" if expected else "")
            rows.append(row)
        if self.config.widths:
            sizes = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
            lines += [
                "  ".join(cell.rjust(size) for cell, size in zip(row, sizes, strict=True)).rstrip() for row in rows
            ]
            lines.append("")
            if not self.predicted:
                lines.append("mean field says nothing here: it needs independent weights and biases of mean 0")
        return lines + (self.words or ["healthy: neither signal nor gradient vanishes, explodes or saturates"])

    def _mean(self, statistic: str, layer: int) -> float | None:
        values = self.measured[statistic][layer]
        return sum(values) / len(values) if values else None

    def figure(self) -> Figure:
        """Second moment and gradient by layer, each network as a thin line, their mean and the prediction; shares."""
        titles = ["second moment of the activation", "squared gradient of the pre-activations", "share"]
        plot = Panels(460, 1, 3, titles=titles, gaps=(0.07, 0.0))
        layers = list(range(1, len(self.config.widths) + 1))
        for column, statistic in enumerate(("second_moment", "gradient"), start=1):
            by_layer = self.measured[statistic]
            for network in range(self.networks):
                points = [values[network] if network < len(values) else None for values in by_layer]
                plot.add("scatter", column=column, x=layers, y=points, mode="lines", line={"color": FAINT, "width": 1},
                         showlegend=False, hoverinfo="skip")  # fmt: skip
            mean = [self._mean(statistic, layer - 1) for layer in layers]
            _add(plot, column, mean, "measured, mean", COLOURS[0], named=column == 1)
            if self.predicted:
                _add(plot, column, self.predicted[statistic], "mean field", COLOURS[1], named=column == 1, dash="dash")
            plot.y(column=column, type="log", exponentformat="power")
        for statistic, colour in (("saturated", COLOURS[2]), ("dead", COLOURS[3])):
            share = [self._mean(statistic, layer - 1) for layer in layers]
            if any(value is not None for value in share):
                _add(plot, 3, share, statistic, colour)
        plot.y(column=3, range=[-0.02, 1.02], tickformat=".0%")
        plot.x(title={"text": "layer"}, dtick=1 if len(layers) <= 12 else None)
        plot.layout |= {
            "title": {"text": literal(self.title), "font": {"size": 15}},
            "legend": {"orientation": "h", "y": -0.2},
            "margin": {"t": 90},
        }
        return plot.figure().update_layout(template="simple_white")

    def write(self, path: Path | str) -> Path:
        """Write the figure and the findings as one HTML file that needs nothing else; returns its path."""
        found = "".join(f"<p>{html.escape(line)}</p>" for line in self.words)
        page = self.figure().to_html(full_html=False, include_plotlyjs=True)
        head = f"<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><title>{html.escape(self.title)}</title>"
        path = Path(path)
        style = "<style>body{background:#fff;color:#222;font-family:sans-serif;margin:1em}</style>"
        with output_errors(path, "figure"):
            write_whole(path, f"{head}{style}</head><body>{page}{found}</body></html>\n".encode())
        return path


def _add(
    plot: Panels,
    column: int,
    values: Sequence[float | None],
    label: str,
    colour: str,
    *,
    named: bool = True,
    dash: str = "solid",
) -> None:
    plot.add(
        "scatter", column=column, x=list(range(1, len(values) + 1)), y=values, name=label, legendgroup=label,
        mode="lines+markers" if dash == "solid" else "lines", line={"color": colour, "dash": dash}, showlegend=named,
    )  # fmt: skip


def diagnose(
    initializer: str, activation: str, *, depth: int = 3, width: int = 300, seed: int = 0, **fields: Any
) -> Diagnosis:
    """Signal and gradient by layer of ``NETWORKS`` random networks, on standard normal inputs with random labels.

    The network has as many inputs as hidden units, so that every hidden layer has the same fans, and ``CLASSES``
    outputs under cross-entropy. fields: further hyperparameters of ``TrialConfig``. StudyError for wrong ones, and for
    a network above ``LARGEST`` weights.
    """
    import torch

    from searchlib.training.stack import Member, Stack
    from searchlib.training.watch import PROBE, Watch

    config = TrialConfig(
        **{**fields, "initializer": initializer, "activation": activation, "depth": depth, "width": width}
    )
    weights = depth * width**2 + width * CLASSES
    if weights > LARGEST:
        raise StudyError(
            f"depth={depth}, width={width}: {weights:,} weights; expected at most {LARGEST:,}: take a smaller width"
        )
    generator = torch.Generator().manual_seed(derive_seed(seed, "diagnose"))
    inputs = torch.randn(PROBE, width, generator=generator)
    labels = torch.randint(0, CLASSES, (PROBE,), generator=generator)
    watch = Watch(inputs, labels)
    snapshots: list[dict[str, float]] = []
    gradients: list[list[float]] = []
    laws: list[list[tuple[float, ...]]] = []
    group = max(1, LARGEST // 10 // weights)  # networks at a time
    for start in range(0, NETWORKS, group):
        numbers = range(start, min(start + group, NETWORKS))
        members = [Member(number, config, derive_seed(seed, "network", number)) for number in numbers]
        stack = Stack(members, outputs=CLASSES, probe=inputs)
        snapshots += watch.measure(stack)
        gradients += _gradients(stack, inputs, labels)
        laws += _laws(stack)
    measured = {
        statistic: [
            [snapshot[name] for snapshot in snapshots if (name := f"{statistic}/layer{layer}") in snapshot]
            for layer in range(1, depth + 1)
        ]
        for statistic in ("second_moment", "activation_variance", "saturated", "dead", "gradient_norm")
    }
    measured["gradient"] = [[values[layer] for values in gradients] for layer in range(depth)]
    measured["chi"] = [
        [values[layer] / values[layer + 1] for values in gradients if values[layer + 1] > 0.0] for layer in range(depth)
    ]
    final = sum(values[depth] for values in gradients) / NETWORKS
    return Diagnosis(
        config=config,
        networks=NETWORKS,
        measured=measured,
        predicted=_mean_field(config, laws, final),
        words=diagnose_words(config, [_median(snapshots)]),
    )


def _median(snapshots: list[dict[str, float]]) -> dict[str, float]:
    """The median over the networks of each statistic that all of them have."""
    common = set.intersection(*(set(snapshot) for snapshot in snapshots))
    return {
        name: statistics.median(snapshot[name] for snapshot in snapshots) for name in snapshots[0] if name in common
    }


def _gradients(stack: Stack, inputs: torch.Tensor, labels: torch.Tensor) -> list[list[float]]:
    """The mean over examples of |d(example's loss)/d(preactivations)|², by member and layer, the output layer last."""
    import torch

    from searchlib.training.losses import losses

    trace = stack.trace(inputs, statistics={})
    signals = [*trace.preactivations, trace.outputs]
    found = torch.autograd.grad(losses(trace.outputs, labels).sum(), signals, materialize_grads=True)
    columns = [gradient.double().square().sum(dim=1).mean(dim=1) for gradient in found]
    values: list[list[float]] = torch.stack(columns, dim=1).tolist()
    return values


def _laws(stack: Stack) -> list[list[tuple[float, ...]]]:
    """By member and layer: fan_out, fan_in, then mean and mean square of the drawn weights, and of the biases."""
    found: list[list[tuple[float, ...]]] = [[] for _ in stack.members]
    for index in range(stack.depth + 1):
        weight, bias = (
            stack.parameters[f"linear{index}.weight"].detach(),
            stack.parameters[f"linear{index}.bias"].detach(),
        )
        for layers, w, b in zip(found, weight, bias, strict=True):
            moments = (float(x) for x in (w.mean(), w.square().mean(), b.mean(), b.square().mean()))
            layers.append((float(w.shape[0]), float(w.shape[1]), *moments))
    return found


def _mean_field(config: TrialConfig, laws: list[list[tuple[float, ...]]], final: float) -> dict[str, list[float]]:
    """Second moments on the way in (Poole et al. 2016, equation 3), gradients on the way back (Schoenholz et al. 2017).

    q_l = sigma_w² E[phi(sqrt(q_(l-1)) z)²] + sigma_b², and the squared gradient of layer l is chi = sigma_w²
    E[phi'(sqrt(q_l) z)²] times that of layer l+1, sigma_w² = fan_in Var[w] being that of layer l+1. The variances are
    the second moments of the numbers drawn, so that every law is treated alike. Empty with batch normalization, for
    an activation that isn't element-wise, and for a law whose mean isn't 0 or which doesn't vary. The spread of single
    networks around this grows with the sum of 1/width over the layers (Hanin & Rolnick 2018).

    laws: of every network, see ``_laws``. final: the squared gradient of the outputs.
    """
    depth = len(config.widths)
    layers = [[sum(column) / len(laws) for column in zip(*rows, strict=True)] for rows in zip(*laws, strict=True)]
    if config.batch_norm or not depth:
        return {}
    if not get_activation(config.activation).is_elementwise(**config.activation_fields):
        return {}
    for fan_out, fan_in, mean, square, bias_mean, bias_square in layers:
        count = len(laws) * fan_out
        centred = abs(mean) <= MEAN_ERRORS * math.sqrt(square / (count * fan_in))
        if not (centred and square > 0.0 and abs(bias_mean) <= MEAN_ERRORS * math.sqrt(bias_square / count)):
            return {}
    second, slopes = [], []
    signal = 1.0  # of the inputs
    for _, fan_in, _, square, _, bias_square in layers[:depth]:
        q = fan_in * square * signal + bias_square
        signal, slope = gaussian_moments(config.activation, q, **config.activation_fields)
        second.append(signal)
        slopes.append(slope)
    chi = [layers[index + 1][1] * layers[index + 1][3] * slopes[index] for index in range(depth)]
    gradient = [final * math.prod(chi[index:]) for index in range(depth)]
    return {"second_moment": second, "gradient": gradient, "chi": chi}
