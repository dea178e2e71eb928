"""The importance of each searched hyperparameter."""

from __future__ import annotations

from collections.abc import Mapping

from searchlib.analysis import Findings
from searchlib.report.exhibits.exhibit import Drawn, Exhibit, Missing, Result
from searchlib.report.exhibits.plots import COLOURS, Plot, literal
from searchlib.report.material import Material


def draw(material: Material) -> Result:
    findings = material.findings
    if not findings.importances:
        note = next((note for note in findings.notes if "importances" in note), "there are no importances")
        return Missing(f"{note[0].upper()}{note[1:]}.")
    return Drawn(
        plot=importance_bars(findings.importances),
        caption=f"Importance of every searched hyperparameter for reaching the best tenth of {_among(findings)}.",
    )


def _among(findings: Findings) -> str:
    """Of which trials."""
    count, total = findings.importances_among, findings.trials.ended
    return f"the {count:,} of {total:,} search trials that were trained to the end and learnt something"


EXHIBIT = Exhibit(name="importances", section="effects", title="Importances of the hyperparameters", draw=draw)


def importance_bars(importances: Mapping[str, float]) -> Plot:
    """The share of each hyperparameter in the variance of the results."""
    order = sorted(importances, key=lambda key: importances[key])
    plot = Plot(90 + 30 * len(order))
    plot.add(
        "bar", x=[importances[key] for key in order], y=[literal(key) for key in order], orientation="h",
        marker={"color": COLOURS[0]}, text=[f"{importances[key]:.2f}" for key in order], textposition="outside",
        cliponaxis=False, hovertemplate="%{y}: %{x:.3f}<extra></extra>",
    )  # fmt: skip
    plot.x(title={"text": "importance", "standoff": 6}, rangemode="tozero", zeroline=False)
    plot.y(automargin=True)
    return plot
