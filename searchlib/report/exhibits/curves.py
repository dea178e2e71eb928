"""Learning curves: the best run of each cell by epoch or iteration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from searchlib.report.exhibits.exhibit import Drawn, Exhibit, Missing, Result
from searchlib.report.exhibits.plots import Panels, cell_trace, legend_on_page, line_style, log_axis
from searchlib.report.material import History, Material


def draw(material: Material) -> Result:
    findings = material.findings
    histories = {index: history for index, history in material.histories.items() if history.get("train_loss")}
    if not histories:
        return Missing(material.gaps.get("histories", "No run of a cell's best trial is stored."))
    time, since = ("iteration", "since the last evaluation") if by_step(histories) else ("epoch", "over the epoch")
    return Drawn(
        plot=learning_curves(
            [cell.label for cell in findings.cells], histories, accuracy=findings.metric == "val_accuracy"
        ),
        caption=f"The best run of each cell by {time}. Training loss is the mean {since} while the weights change, so "
        "the gap can start below 0. Click on a name to show or hide a cell.",
        width=480,
    )


EXHIBIT = Exhibit(name="curves", section="curves", title="Learning curves", draw=draw)


def by_step(histories: Mapping[int, History]) -> bool:
    """Whether all runs have metrics by iteration, ``step_*``."""
    return all("step_val_loss" in history for history in histories.values())


def learning_curves(labels: Sequence[str], histories: Mapping[int, History], *, accuracy: bool) -> Panels:
    """Training loss, validation loss, their gap and, with *accuracy*, validation accuracy.

    labels: of the cells; histories: by the position of a cell. By iteration where all runs have that, else by epoch.
    """
    titles = ["training loss", "validation loss", "gap: validation loss less training loss", "validation accuracy"]
    plot = Panels(540, 2, 2, titles=titles, gaps=(0.09, 0.14), missing=() if accuracy else [(2, 2)])
    prefix = "step_" if by_step(histories) else ""
    for rank, (index, history) in enumerate(histories.items()):
        train, validation = history.get(f"{prefix}train_loss", ()), history.get(f"{prefix}val_loss", ())
        before = dict(train)
        series: list[Sequence[tuple[int, float]]] = [
            train,
            validation,
            [(step, value - before[step]) for step, value in validation if step in before],
        ]
        if accuracy:
            series.append(history.get(f"{prefix}val_accuracy", ()))
        for position, points in enumerate(series):
            plot.add(
                "scatter",
                row=position // 2 + 1,
                column=position % 2 + 1,
                x=[step for step, _ in points],
                y=[value for _, value in points],
                mode="lines+markers" if len(points) < 12 else "lines",
                line=line_style(rank),
                marker={"size": 5, "color": line_style(rank)["color"]},
                **cell_trace(labels[index], index, rank, named=position == 0),
            )
    plot.x(zeroline=False)
    time = {"text": "iteration" if prefix else "epoch", "standoff": 6}
    plot.x(2, title=time)
    if not accuracy:
        plot.x(1, 2, title=time)
    plot.y(zeroline=False, automargin=True)
    for column, metric in ((1, f"{prefix}train_loss"), (2, f"{prefix}val_loss")):
        values = [value for history in histories.values() for _, value in history.get(metric, ())]
        plot.y(1, column, **log_axis(values))
    legend_on_page(plot)
    return plot
