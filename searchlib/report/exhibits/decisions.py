"""Single images with the champion's soft decisions."""

from __future__ import annotations

from collections.abc import Sequence

from searchlib.report.exhibits.exhibit import Drawn, Exhibit, Missing, Result
from searchlib.report.exhibits.plots import ACCENT, COLOURS, GREY, Panels, colour_scale, literal
from searchlib.report.material import Material
from searchlib.report.networks import Decision

MOST_CLASSES = 12  # the likeliest ones are shown


def draw(material: Material) -> Result:
    if not material.classes:
        return None
    if not material.decisions or material.champion is None:
        reason = material.gaps.get("decisions")
        return Missing(reason) if reason else None
    return Drawn(
        plot=single_decisions(material.decisions, material.classes),
        caption=f"Validation images with the soft decisions of the champion ({material.champion}). Blue: the true "
        "class. Orange: the decision, where it is another. In brackets: the index in the validation split.",
        width=230 * len(material.decisions),
    )


EXHIBIT = Exhibit(name="decisions", section="decisions", title="Single decisions", draw=draw)


def single_decisions(decisions: Sequence[Decision], classes: Sequence[str]) -> Panels:
    """Images side by side, each over the soft decisions for its likeliest classes."""
    bars = min(len(classes), MOST_CLASSES)
    height = 330 + 20 * bars
    plot = Panels(
        height,
        2,
        len(decisions),
        titles=[
            f"{literal(one.what)} ({one.index})<br>true: <b>{literal(classes[one.truth])}</b>" for one in decisions
        ],
        gaps=(0.12, 20 / height),
        heights=[220, 20 * bars],
    )
    for column, one in enumerate(decisions, start=1):
        grey = colour_scale("gray")
        plot.add("heatmap", column=column, z=one.image, zmin=0.0, zmax=1.0, colorscale=grey, showscale=False,
                 hoverinfo="skip")  # fmt: skip
        order = sorted(range(len(classes)), key=lambda place: -one.soft[place])
        listed = order[:bars]
        if one.truth not in listed:
            listed[-1] = one.truth
        colours = dict.fromkeys(listed, GREY) | {order[0]: ACCENT} | {one.truth: COLOURS[0]}
        plot.add(
            "bar",
            row=2,
            column=column,
            x=[one.soft[place] for place in listed],
            y=[literal(classes[place]) for place in listed],
            orientation="h",
            marker={"color": [colours[place] for place in listed]},
            text=[f"{one.soft[place]:.3f}" for place in listed],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{y}: %{x:.4f}<extra></extra>",
            showlegend=False,
        )
        plot.y(1, column, autorange="reversed", visible=False, scaleanchor=f"x{plot.axis(1, column)}")
    plot.x(1, visible=False, constrain="domain")
    plot.x(2, range=[0, 1.2], tickvals=[0, 0.5, 1], zeroline=False)
    plot.y(2, type="category", autorange="reversed", automargin=True)
    plot.layout["margin"]["t"] = 60
    return plot
