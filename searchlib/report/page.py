"""The report: one HTML file that opens anywhere, without a network, and says what the study found and how.

``material.gather`` reads the stores, ``exhibits`` draws, ``render`` makes the page. Nothing is trained or tested here:
of the test set the report shows what the ledger holds.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchlib.analysis import proportion_interval
from searchlib.files import output_errors, write_whole
from searchlib.report.material import Material, gather
from searchlib.stores import Stores, Tracker, log_file

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from searchlib.analysis import Findings
    from searchlib.study import Study

__all__ = ["Exhibit", "exhibits", "publish", "render"]

NUISANCE_FIGURES = 3


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """A figure with its caption and the least width at which it can be read; or the reason why there is none."""

    figure: Figure | None
    caption: str = ""
    width: int = 0
    reason: str = ""


def publish(study: Study, stores: Stores, *, output: Path | None = None) -> tuple[Path, Findings]:
    """Write the report, log it to the MLflow parent run, put note and figures into the Optuna Dashboard.

    output: by default ``NAME.html`` in the working folder. Returns its path and the findings. StorageError for
    a study that has not begun.
    """
    from searchlib.report import dashboard

    stored = stores.begun(study)
    material = gather(study, stores, stored)
    made = exhibits(material)
    path = output or Path(f"{study.name}.html")
    with output_errors(path, "report"):
        write_whole(path, render(material, made).encode())
    titles = {"cells": "Cells", "isolation": "Isolation plot"}
    shown = {
        key: (title, figure)
        for key, title in titles.items()
        if key in made and (figure := made[key].figure) is not None
    }
    with stores.storage_errors():
        dashboard.show(stored, material.data, shown)
    if material.run_id:
        with Tracker(study, stores) as tracker:
            log_file(tracker, material.run_id, path)
    return path, material.findings


def exhibits(material: Material) -> dict[str, Exhibit]:
    """The figures of the report by name; with a reason in place of one that can't be drawn."""
    from searchlib.report import figures, network_figures, nuisance_figures

    data, points = material.data, material.points
    made: dict[str, Exhibit] = {}
    dimensions = len(material.definition["scientific"])
    values = [len({cell["scientific"].get(key) for cell in data["cells"]}) for key in material.definition["scientific"]]
    what = "replicate mean ± half its 95 % interval, or the best search value where a cell wasn't replicated"
    if not any(cell["n"] for cell in data["cells"]):
        what = "best value of the search, on one seed; no cell was replicated"
    if not data["cells"]:
        return made
    if all(cell["search_best"] is None for cell in data["cells"]):
        made["cells"] = Exhibit(figure=None, reason="No trial completed, so no cell has a value.")
    elif dimensions >= 2 and max(values[:2]) <= 24:
        others = ", ".join(list(material.definition["scientific"])[2:])
        more = f" Each shows the best over {others}." if others else ""
        made["cells"] = Exhibit(
            figure=figures.heat_map(data),
            caption=f"The cells: {what}. The winner is outlined.{more}",
            width=90 * values[1] + 180,
        )
    elif dimensions:
        made["cells"] = Exhibit(figure=figures.cell_values(data), caption=f"The cells: {what}.")
    else:
        made["cells"] = Exhibit(
            figure=None, reason="The study has no scientific dimension, so there are no cells to compare."
        )
    made["importances"] = (
        Exhibit(
            figure=nuisance_figures.importance_bars(data["importances"]),
            caption="Importance of every searched hyperparameter for the result, over all search trials.",
        )
        if data["importances"]
        else Exhibit(figure=None, reason=_note(data, "importances") or "There are no importances.")
    )
    made["isolation"] = (
        Exhibit(
            figure=figures.isolation(data, points),
            caption="Isolation plots: each scientific value with everything else at its best (coloured), and all "
            "trials (grey). Trials far below the rest lie on the lower edge."
            if data["direction"] == "maximize"
            else "Isolation plots: each scientific value with everything else at its best (coloured), and all trials "
            "(grey). Trials far above the rest lie on the upper edge.",
            width=300 * min(dimensions, 2),
        )
        if dimensions
        else Exhibit(figure=None, reason="Without a scientific dimension there is nothing to isolate.")
    )
    band = "0.01" if data["metric"] == "val_accuracy" else "10 %"
    for name, axis in list(material.axes.items())[:NUISANCE_FIGURES]:
        count = "; the number is the width of that band in decades" if axis["log"] and not axis["discrete"] else ""
        made[f"response-{name}"] = Exhibit(
            figure=nuisance_figures.responses(data, points, name, **axis),
            caption=f"{name} against {figures.metric_name(data['metric'])} in each cell. Blue: within {band} of the "
            f"cell's best{count}. Crosses: diverged.",
            width=560 if len(data["cells"]) > 3 else 0,
        )
    enough = any(len(cell["budget"]["unbiased"]) > 1 for cell in data["cells"])
    made["budget"] = (
        Exhibit(
            figure=nuisance_figures.budget_curves(data),
            caption="Expected best result of a cell against its number of nuisance points. Solid: without replacement "
            "(Dodge 2021; unbiased). Dotted: with replacement (Dodge 2019). A curve that still "
            f"{'rises' if data['direction'] == 'maximize' else 'falls'} at its end says that the cell would gain from "
            "more points. Click on a name to show or hide a cell.",
        )
        if enough
        else Exhibit(figure=None, reason="A budget curve needs two finished trials in a cell.")
    )
    gap = material.gaps.get("histories", "No run of a cell's best trial is stored.")
    curves = {index: history for index, history in material.histories.items() if history.get("train_loss")}
    by_step = all("step_val_loss" in history for history in curves.values())
    made["curves"] = (
        Exhibit(
            figure=network_figures.learning_curves(data, curves),
            caption=f"The best run of each cell by {'iteration' if by_step else 'epoch'}. Training loss is the mean "
            f"{'since the last evaluation' if by_step else 'over the epoch'} while the weights change, so the gap can "
            "start below 0. Click on a name to show or hide a cell.",
            width=480,
        )
        if curves
        else Exhibit(figure=None, reason=gap)
    )
    layers = network_figures.layer_diagnostics(data, material.histories)
    made["layers"] = Exhibit(
        figure=layers,
        caption="Each cell's best run, layer by layer (the last is the output layer). Dotted: at initialization (for "
        "the update ratio, after the first epoch). Solid: after the last epoch.",
        width=480,
        reason=gap if not curves else "The runs hold no diagnostics by layer.",
    )
    made["weights"] = Exhibit(
        figure=network_figures.weight_histograms(material.weights) if material.weights else None,
        caption=f"Weights of the champion ({_run_words(material.champion)}). "
        + material.gaps.get("initial weights", "Grey: at initialization; blue: after training."),
        width=210 * min(len(material.weights), 3),
        reason=material.gaps.get("weights", "No champion's weights are stored."),
    )
    if len(material.cell_weights) > 1:
        most = min(max(map(len, material.cell_weights.values())), network_figures.MOST_LAYERS)
        hidden = len(data["cells"]) - len(material.cell_weights)
        made["cell-weights"] = Exhibit(
            figure=network_figures.cell_weight_histograms(data, material.cell_weights),
            caption="The same for the best network that is stored of each cell, best cell first."
            + (f" {hidden} more cells aren't shown." if hidden else ""),
            width=230 * most,
        )
    made["activations"] = Exhibit(
        figure=network_figures.activation_curves(material.activations) if material.activations else None,
        caption="The study's activation functions and their derivatives.",
        reason="No cell has a completed trial with a hidden layer.",
    )
    sealed = "The test set is sealed: there is nothing to show yet."
    if not material.classes:
        made["fits"] = _fits(material)
        made["confusion"] = Exhibit(figure=None, reason="" if data["test"] else sealed)
        return made
    if material.decisions:
        made["decisions"] = Exhibit(
            figure=network_figures.single_decisions(material.decisions, material.classes),
            caption=f"Validation images with the soft decisions of the champion ({_run_words(material.champion)}). "
            "Blue: the true class. Orange: the class decided on, where that is another. In brackets: the place in the "
            "validation split.",
            width=230 * len(material.decisions),
        )
    elif reason := material.gaps.get("decisions"):
        made["decisions"] = Exhibit(figure=None, reason=reason)
    confusion = data["test"].get("confusion") if data["test"] else None
    made["confusion"] = Exhibit(
        figure=network_figures.confusion_matrix(confusion, material.classes) if confusion else None,
        caption="Test set: true against predicted classes. Colour is normalized by row; the numbers are counts.",
        width=44 * len(material.classes) + 160,
        reason="The ledger holds no confusion matrix."
        if data["test"]
        else "The test set is sealed: there is nothing to show yet.",
    )
    if confusion:
        made["classes"] = Exhibit(
            figure=network_figures.class_accuracy(_by_class(confusion, material.classes)),
            caption="Test accuracy by class with 95 % Wilson intervals. Dashed: over all classes.",
        )
    return made


def _fits(material: Material) -> Exhibit:
    """What the networks of a regression have learnt."""
    from searchlib.report import network_figures

    fits = material.fits
    if not fits:
        return Exhibit(figure=None, reason=material.gaps.get("fits", "No champion's weights are stored."))
    words, explained = _run_words(material.champion), ""
    if fits["r2"] is not None:
        explained = f" It explains {100 * fits['r2']:.3g} % of the variance of the validation targets (R²)."
    own = material.definition.get("replicate_split")  # of each replicate: the others may have been trained on these
    if "curves" not in fits:
        return Exhibit(
            figure=network_figures.predicted_and_true(fits),
            caption=f"The champion ({words}) on validation examples.{explained} Left: on the dashed line the "
            "prediction is right. Right: what it is off by.",
            width=520,
        )
    return Exhibit(
        figure=network_figures.fitted_curves(material.data, fits),
        caption=f"The curve that each cell has learnt: its best network that is stored, of the first cell the champion "
        f"({words}).{explained} Points: {'its ' if own else ''}validation examples."
        + (" Below: how far each curve is from the function." if fits["function"] else "")
        + " Click on a name to show or hide it.",
        width=480,
    )


def _note(data: Mapping[str, Any], word: str) -> str:
    """The analysis' own note about something that it couldn't compute, as a sentence."""
    found = next((note for note in data["notes"] if word in note), "")
    return f"{found[0].upper()}{found[1:]}." if found else ""


def _run_words(run: Mapping[str, Any]) -> str:
    if not run:
        return "no run"
    replicate = f", replicate {run['replicate']}" if run["replicate"] else ""
    return f"trial {run['trial']}{replicate}, MLflow run {run['run_id']}"


def _by_class(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for position, (row, name) in enumerate(zip(confusion, classes, strict=True)):
        if total := sum(row):
            low, high = proportion_interval(row[position], total)
            rows.append({"name": name, "accuracy": row[position] / total, "low": low, "high": high, "n": total})
    return rows


def _troubles(material: Material) -> list[dict[str, Any]]:
    """Cells that failed, diverged in part, or whose best run isn't healthy: what is said of them, in words."""
    found = []
    for index, cell in enumerate(material.data["cells"]):
        members = [point for point in material.points if point["cell"] == index]
        words = Counter(word for point in members if point["outcome"] == "diverged" for word in point["diagnosis"])
        if cell["diagnosis"] or cell["diverged"] or cell["search_best"] is None:
            found.append({"cell": cell, "diverged": [(word, count) for word, count in words.most_common(3)]})
    return found


def render(material: Material, made: Mapping[str, Exhibit] | None = None) -> str:
    """The page: one HTML file with styles, scripts and data inside, and no reference to anything outside.

    made: its figures, if ``exhibits`` has drawn them already.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    from searchlib.report import figures, nuisance_figures

    data = material.data
    accuracy = data["metric"] == "val_accuracy"
    environment = Environment(
        loader=PackageLoader("searchlib.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "value": lambda value: figures.number(value, data["metric"]),
        "difference": lambda value: "–" if value is None else f"{100 * value:+.2f}" if accuracy else f"{value:+.3g}",
        "bound": lambda value: "–" if value is None else f"{100 * value:.2f}" if accuracy else f"{value:.3g}",
        "p": lambda value: "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}",
        "number": _number,
        "measure": figures.number,
        "measured_as": _measured_as,
        "settings": _settings,
        "script": lambda value: Markup(_script(value)),
    }
    made = exhibits(material) if made is None else made
    widths = {
        index: width
        for index in range(len(data["cells"]))
        if (width := nuisance_figures.stability_width(data, material.points, index, "learning_rate")) is not None
    }
    runs = {point["trial"]: point["run_id"] for point in material.points}
    return environment.get_template("report.html").render(
        m=material,
        data=data,
        exhibits=made,
        specs={
            key: Markup(_inside_script(one.figure.to_json()))
            for key, one in made.items()
            if one.figure is not None
        },
        responses=[key for key in made if key.startswith("response-")],
        metric=figures.metric_name(data["metric"]),
        accuracy=accuracy,
        unit="points" if accuracy else "loss",
        widths=widths,
        runs=runs,
        trials_of={cell["label"]: cell["trial"] for cell in data["cells"]},
        troubles=_troubles(material),
        by_class=_by_class(data["test"]["confusion"], material.classes)
        if data["test"] and data["test"].get("confusion")
        else [],
        champion_words=_run_words(material.champion),
        versions=_tags(material.tags, "searchlib.version."),
        machine={key: material.tags[f"searchlib.{key}"] for key in ("platform", "cores", "threads", "device")
                 if f"searchlib.{key}" in material.tags},
        commit=material.tags.get("mlflow.source.git.commit", ""),
        dirty=material.tags.get("searchlib.git.dirty") == "true",
        finished=data["trials"]["total"] - data["trials"]["running"],
        plotly=Markup(get_plotlyjs()),
    )  # fmt: skip


def _measured_as(published: Mapping[str, Any]) -> str:
    """``training accuracy, epoch 2``: the metric and the step of a published figure."""
    metric = published["metric"]
    words = metric.removeprefix("step_").replace("_", " ")
    words = re.sub(r"\bval\b", "validation", re.sub(r"\btrain\b", "training", words))
    if published["step"] is None or metric.startswith("best_"):
        return words
    return f"{words}, {'iteration' if metric.startswith('step_') else 'epoch'} {published['step']}"


def _tags(tags: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {key.removeprefix(prefix): tags[key] for key in sorted(tags) if key.startswith(prefix)}


def _settings(values: Mapping[str, Any]) -> str:
    """``learning_rate 0.123, batch_size 16``."""
    shown = {name: f"{value:.3g}" if isinstance(value, float) else str(value) for name, value in values.items()}
    return ", ".join(f"{name}\u00a0{value}" for name, value in shown.items()) or "–"  # no line break inside


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}g}"


def _script(value: Any) -> str:
    return _inside_script(json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")))


def _inside_script(text: str) -> str:
    """JSON that may stand inside a script element: no character of it can end that."""
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
