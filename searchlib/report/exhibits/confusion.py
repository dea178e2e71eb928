"""The test set: true against predicted classes, and the accuracy on each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from searchlib.analysis import proportion_interval
from searchlib.report.exhibits.exhibit import Drawn, Exhibit, Missing, Result
from searchlib.report.exhibits.plots import COLOURS, Plot, colour_scale, literal
from searchlib.report.material import Material
from searchlib.text import number


def draw_matrix(material: Material) -> Result:
    test = material.findings.test_result
    if test is None:
        return Missing("The test set is sealed: there is nothing to show yet.")
    if not material.classes:
        return None
    if not test.confusion:
        return Missing("The ledger holds no confusion matrix.")
    if len(test.confusion) != len(material.classes):  # tested before outputs were checked
        return Missing(f"The network has {len(test.confusion)} outputs for {len(material.classes)} classes.")
    return Drawn(
        plot=confusion_matrix(test.confusion, material.classes),
        caption="Test set: true against predicted classes. Colour is normalized by row; the numbers are counts.",
        width=44 * len(material.classes) + 160,
    )


def draw_classes(material: Material) -> Result:
    test = material.findings.test_result
    if test is None or not test.confusion or len(test.confusion) != len(material.classes):
        return None
    return Drawn(
        plot=class_accuracy(by_class(test.confusion, material.classes)),
        caption="Test accuracy by class with 95 % Wilson intervals. Dashed: over all classes.",
    )


MATRIX = Exhibit(name="confusion", section="test", title="Confusion matrix", draw=draw_matrix)
CLASSES = Exhibit(name="classes", section="test", title="Test accuracy by class", draw=draw_classes)


@dataclass(frozen=True, kw_only=True)
class ClassAccuracy:
    """The accuracy on the n test examples of one class, with its 95 % Wilson interval."""

    name: str
    accuracy: float
    low: float
    high: float
    n: int


def by_class(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> list[ClassAccuracy]:
    """The accuracy on each class that occurs; nothing where *confusion* is of another number of classes.

    confusion: counts, [true class][predicted class].
    """
    rows: list[ClassAccuracy] = []
    if len(confusion) != len(classes):
        return rows
    for position, (row, name) in enumerate(zip(confusion, classes, strict=True)):
        if total := sum(row):
            low, high = proportion_interval(row[position], total)
            rows.append(ClassAccuracy(name=name, accuracy=row[position] / total, low=low, high=high, n=total))
    return rows


def confusion_matrix(rows: Sequence[Sequence[int]], classes: Sequence[str]) -> Plot:
    """True classes down, predicted across: colour is the share of the row, text the count."""
    shares = [[count / max(sum(row), 1) for count in row] for row in rows]
    names = [literal(title) for title in classes]
    plot = Plot(130 + 34 * len(rows))
    plot.add(
        "heatmap",
        z=shares,
        x=names,
        y=names,
        text=[[str(count) if count else "" for count in row] for row in rows],
        texttemplate="%{text}",
        textfont={"size": 11},
        customdata=[
            [f"{100 * share:.1f} % ({count})" for share, count in zip(line, row, strict=True)]
            for line, row in zip(shares, rows, strict=True)
        ],
        hovertemplate="true %{y}, predicted %{x}: %{customdata}<extra></extra>",
        zmin=0,
        zmax=1,
        colorscale=colour_scale("Cividis"),
        xgap=1,
        ygap=1,
        colorbar={
            "thickness": 12,
            "outlinewidth": 0,
            "tickformat": ".0%",
            "title": {"text": "share of the true class", "side": "right", "font": {"size": 11}},
        },
    )
    axis: dict[str, Any] = {"type": "category", "showgrid": False, "automargin": True}
    plot.x(title={"text": "predicted", "standoff": 6}, **axis)
    plot.y(title={"text": "true"}, autorange="reversed", **axis)
    return plot


def class_accuracy(rows: Sequence[ClassAccuracy]) -> Plot:
    """Accuracy on each class with its 95 % Wilson interval."""
    plot = Plot(110 + 26 * max(len(rows), 2))
    plot.add(
        "scatter",
        x=[row.accuracy for row in rows],
        y=[literal(row.name) for row in rows],
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [row.high - row.accuracy for row in rows],
            "arrayminus": [row.accuracy - row.low for row in rows],
            "thickness": 1.5,
            "width": 4,
        },
        mode="markers",
        marker={"size": 9, "color": COLOURS[0]},
        customdata=[
            f"{number(row.accuracy, 'val_accuracy')} ({row.low:.4f} to {row.high:.4f}), n = {row.n}" for row in rows
        ],
        hovertemplate="%{y}: %{customdata}<extra></extra>",
    )
    if total := sum(row.n for row in rows):
        plot.line(x=sum(row.accuracy * row.n for row in rows) / total)
    plot.x(title={"text": "test accuracy", "standoff": 6}, zeroline=False)
    plot.y(type="category", autorange="reversed", automargin=True)
    return plot
