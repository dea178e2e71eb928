"""What the networks of a regression have learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from searchlib.report.exhibits.exhibit import Drawn, Exhibit, Missing, Result
from searchlib.report.exhibits.plots import (
    COLOURS,
    FAINT,
    GREY,
    Panels,
    cell_trace,
    legend_on_page,
    line_style,
)
from searchlib.report.material import Material
from searchlib.report.networks import FittedCurves, Predictions

SHOWN = 6  # curves drawn at first


def draw(material: Material) -> Result:
    fits = material.fits
    if material.classes:
        return None
    if fits is None or material.champion is None:
        return Missing(material.gaps.get("fits", "No champion's weights are stored."))
    explained = ""
    if fits.r2 is not None:
        explained = f" It explains {100 * fits.r2:.3g} % of the variance of the validation targets (R²)."
    if not isinstance(fits, FittedCurves):
        return Drawn(
            plot=predicted_and_true(fits),
            caption=f"The champion ({material.champion}) on validation examples.{explained} Left: on the dashed line "
            "the prediction is right. Right: the error of each prediction.",
            width=520,
        )
    drawn = ("replicate_split", "search_split")  # the networks of other splits may have been trained on these
    own = any(material.definition.get(name) for name in drawn)
    return Drawn(
        plot=fitted_curves([cell.label for cell in material.findings.cells], fits),
        caption="The curve that the best stored network of each cell has learned; the first cell's is the champion "
        f"({material.champion}).{explained} Points: {'its ' if own else ''}validation examples."
        + (" Below: the difference between each curve and the function." if fits.function else "")
        + " Click on a name to show or hide it.",
        width=480,
    )


EXHIBIT = Exhibit(name="fits", section="fits", title="Fitted curves", draw=draw)


def fitted_curves(labels: Sequence[str], fits: FittedCurves) -> Panels:
    """What the network of each cell gives over the only input, with validation examples and, where it is known, the
    function; below it the differences from the function."""
    function, x = fits.function, fits.x
    rows = 2 if function else 1
    plot = Panels(
        640 if function else 440, rows, 1, share_x=True, gaps=(0.0, 0.06), heights=[0.68, 0.32] if function else [1.0]
    )
    xs, ys = fits.points
    plot.add(
        "scatter", x=xs, y=ys, mode="markers", marker={"size": 5, "color": FAINT}, line={"color": GREY, "dash": "dot"},
        name="validation examples", legendgroup="points", hovertemplate="%{x:.4g}: %{y:.4g}<extra></extra>",
    )  # fmt: skip
    if function:
        plot.add(
            "scatter", x=x, y=function, mode="lines", line={"color": GREY, "width": 5}, opacity=0.5,
            name="the function", legendgroup="function",
            hovertemplate="the function<br>%{x:.4g}: %{y:.4g}<extra></extra>",
        )  # fmt: skip
    for rank, (index, curve) in enumerate(fits.curves.items()):
        common: dict[str, Any] = {"x": x, "mode": "lines", "line": line_style(rank)}
        plot.add("scatter", y=curve, **common, **cell_trace(labels[index], index, rank, named=True, shown=SHOWN))
        if function:
            off = [one - other for one, other in zip(curve, function, strict=True)]
            trace = cell_trace(labels[index], index, rank, named=False, shown=SHOWN)
            plot.add("scatter", row=2, y=off, **common, **trace)
    plot.x(zeroline=False)
    plot.x(rows, title={"text": "input", "standoff": 6})
    plot.y(1, title={"text": "output"}, zeroline=False, automargin=True)
    if function:
        plot.y(2, title={"text": "less the function"}, automargin=True)
    legend_on_page(plot)
    return plot


def predicted_and_true(fits: Predictions) -> Panels:
    """Predictions of a regression against the targets, and their errors against the predictions."""
    plot = Panels(400, 1, 2, titles=["prediction against target", "prediction less target"], gaps=(0.11, 0.0))
    pairs = list(zip(fits.prediction, fits.target, strict=True))
    errors = [one - other for one, other in pairs]
    common: dict[str, Any] = {
        "mode": "markers", "marker": {"size": 5, "color": COLOURS[0], "opacity": 0.5}, "showlegend": False,
        "hovertemplate": "%{x:.4g}: %{y:.4g}<extra></extra>",
    }  # fmt: skip
    plot.add("scatter", x=fits.target, y=fits.prediction, **common)
    plot.add("scatter", column=2, x=fits.prediction, y=errors, **common)
    ends = [min(map(min, pairs)), max(map(max, pairs))]
    line = {"color": COLOURS[1], "width": 1, "dash": "dash"}
    plot.add("scatter", x=ends, y=ends, mode="lines", line=line, showlegend=False, hoverinfo="skip")
    plot.line(y=0.0, column=2)
    plot.x(zeroline=False)
    plot.y(zeroline=False, automargin=True)
    plot.x(column=1, title={"text": "target", "standoff": 6})
    plot.x(column=2, title={"text": "prediction", "standoff": 6})
    return plot
