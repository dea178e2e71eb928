"""The study's activation functions and their derivatives."""

from __future__ import annotations

from collections.abc import Mapping

from searchlib.report.exhibits.exhibit import Drawn, Exhibit, Missing, Result
from searchlib.report.exhibits.plots import Panels, legend_on_page, line_style, literal
from searchlib.report.material import Material
from searchlib.report.networks import ActivationCurve


def draw(material: Material) -> Result:
    gap = material.gaps.get("activations", "")
    if not material.activations:
        return Missing(gap or "No cell has a completed trial with a hidden layer.")
    return Drawn(
        plot=activation_curves(material.activations),
        caption=f"The study's activation functions and their derivatives. {gap}".strip(),
    )


EXHIBIT = Exhibit(name="activations", section="weights", title="Activation functions", draw=draw)


def activation_curves(curves: Mapping[str, ActivationCurve]) -> Panels:
    """Activation functions beside their derivatives. curves: by name."""
    plot = Panels(320, 1, 2, titles=["activation", "derivative"], gaps=(0.09, 0.0))
    for rank, (title, curve) in enumerate(curves.items()):
        for column, y in ((1, curve.value), (2, curve.slope)):
            plot.add(
                "scatter", column=column, x=curve.x, y=y, mode="lines", line=line_style(rank), name=literal(title),
                legendgroup=literal(title), showlegend=column == 1,
                hovertemplate=f"{literal(title)}<br>%{{x:.2f}}: %{{y:.3f}}<extra></extra>",
            )  # fmt: skip
    plot.x(title={"text": "x", "standoff": 6})
    legend_on_page(plot)
    return plot
