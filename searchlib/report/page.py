"""The report: one HTML file that opens anywhere, without a network, and says what the study found and how.

``material.gather`` reads the stores, ``exhibits.draw`` draws, ``render`` makes the page. Nothing is trained or tested
here: of the test set the report shows what the ledger holds.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchlib.analysis import CellFinding, Findings, PublishedFinding, counted_reasons
from searchlib.files import output_errors, write_whole
from searchlib.report import dashboard
from searchlib.report.exhibits import Shown, draw
from searchlib.report.exhibits.confusion import by_class
from searchlib.report.exhibits.plots import metric_name
from searchlib.report.exhibits.responses import stability_width
from searchlib.report.material import Material, gather, opened
from searchlib.stores import Stores, log_file
from searchlib.study import Study
from searchlib.text import number

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section of the page.

    name: its id. The file ``templates/sections/NAME.html`` has its text and tables, and says where between them the
    figures stand; a section without one has figures only, and is left out where a study has none of them.
    label: in the navigation. title: its heading. shown: whether the page of a study has it.
    """

    name: str
    label: str
    title: str
    shown: Callable[[Material], bool] = lambda material: bool(material.findings.cells)


SECTIONS = (
    Section(name="answer", label="Answer", title="", shown=lambda material: True),
    Section(name="cells", label="Cells", title="Cells"),
    Section(name="comparisons", label="Comparisons", title="Comparisons"),
    Section(name="published", label="Published", title="Published beside measured",
            shown=lambda material: bool(material.findings.cells and material.published)),
    Section(name="effects", label="Effects", title="Effects and importances"),
    Section(name="isolation", label="Isolation", title="Isolation"),
    Section(name="nuisance", label="Nuisance", title="Nuisance dimensions and their edges"),
    Section(name="budget", label="Budget", title="Budget"),
    Section(name="fits", label="Fits", title="What the networks have learned"),
    Section(name="decisions", label="Decisions", title="Single decisions"),
    Section(name="curves", label="Curves", title="Learning curves"),
    Section(name="health", label="Health", title="Health of the networks"),
    Section(name="weights", label="Weights", title="Weights and activations"),
    Section(name="test", label="Test set", title="Test set"),
    Section(name="test_by_cell", label="Test by cell", title="Test by cell",
            shown=lambda material: material.findings.test_by_cell is not None),
    Section(name="optimism", label="Optimism", title="Optimism of the search"),
    Section(name="method", label="Method", title="Method", shown=lambda material: True),
    Section(name="reproduce", label="Reproduce", title="Reproduce", shown=lambda material: True),
)  # fmt: skip


def publish(study: Study, stores: Stores, *, output: Path | None = None) -> tuple[Path, Findings]:
    """Write the report, log it to the MLflow parent run, put note and figures into the Optuna Dashboard.

    output: by default ``NAME.html`` in the working folder. Returns its path and the findings. Where the stores may only
    be read, the page alone is written. StorageError for a study that has not begun.
    """
    stored = stores.begun(study)
    path = output or stores.output(f"{study.name}.html")
    with opened(study, stores) as tracker:
        material = gather(study, stores, stored, tracker)
        shown = draw(material)
        with output_errors(path, "report"):
            write_whole(path, render(material, shown).encode())
        if stores.read_only:
            return path, material.findings
        with stores.storage_errors():
            dashboard.show(stored, material.findings, shown)
        if material.run_id:
            log_file(tracker(), material.run_id, path)
    return path, material.findings


def render(material: Material, shown: Sequence[Shown] | None = None) -> str:
    """The page: one HTML file with styles, scripts and data inside, and no reference to anything outside.

    shown: its figures, if ``draw`` has drawn them already.
    """
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    findings, test = material.findings, material.findings.test_result
    accuracy = findings.metric == "val_accuracy"
    figures: dict[str, list[Shown]] = {section.name: [] for section in SECTIONS}
    for one in draw(material) if shown is None else shown:
        figures[one.exhibit.section].append(one)
    environment = environment_for(findings.metric, {point.trial: point.run_id for point in material.points})
    with_text = {name.removeprefix("sections/").removesuffix(".html") for name in environment.list_templates()}
    return environment.get_template("report.html").render(
        m=material,
        findings=findings,
        sections=[
            section
            for section in SECTIONS
            if section.shown(material) and (section.name in with_text or figures[section.name])
        ],
        figures=figures,
        started=bool(findings.cells),
        tied=findings.searches > 1 and findings.resolved is False,
        replicated=any(cell.n for cell in findings.cells),
        repeated=sum(cell.n + cell.failed > 0 for cell in findings.cells),
        failing=sum(cell.failed > cell.n == 0 for cell in findings.cells),
        metric=metric_name(findings.metric),
        accuracy=accuracy,
        unit="points" if accuracy else "loss",
        widths={
            index: width
            for index in range(len(findings.cells) if material.definition["pruner"] == "none" else 0)
            if (width := stability_width(material.points, index, "learning_rate", findings.direction)) is not None
        },
        trials_of={cell.label: cell.trial for cell in findings.cells},
        mostly_at_edge=sum(any(edge.in_most for edge in cell.edges) for cell in findings.cells),
        picked={pick.trial for cell in findings.cells for pick in cell.picks},
        troubles=_troubles(material),
        by_class=by_class(test.confusion, material.classes) if test and test.confusion else [],
        left_out=counted_reasons(findings.test_by_cell.left_out) if findings.test_by_cell else "",
        versions=_tags(material.tags, "searchlib.version."),
        machine={
            key: material.tags[f"searchlib.{key}"]
            for key in ("platform", "cores", "threads", "device")
            if f"searchlib.{key}" in material.tags
        },
        commit=material.tags.get("mlflow.source.git.commit", ""),
        dirty=material.tags.get("searchlib.git.dirty") == "true",
        plotly=Markup(get_plotlyjs()),
    )


def environment_for(metric: str, runs: Mapping[int, str]) -> Environment:
    """What the templates are rendered with: their filters and functions. runs: of the trials, in MLflow."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    accuracy = metric == "val_accuracy"
    environment = Environment(
        loader=PackageLoader("searchlib.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip

    def interval(low: float | None, high: float | None) -> str:
        return "–" if low is None or high is None else f"{number(low, metric)} to {number(high, metric)}"

    def source(trial: int | None) -> Markup | str:
        """A trial with the beginning of its run's id."""
        run = runs.get(trial, "") if trial is not None else ""
        code = Markup('<code class="run" title="{}">{}</code>').format(run, run[:8]) if run else "–"
        return "–" if trial is None else Markup("{} · {}").format(trial, code)

    environment.globals |= {"interval": interval, "source": source}
    environment.filters |= {
        "value": lambda value: number(value, metric),
        "difference": lambda value: "–" if value is None else f"{100 * value:+.2f}" if accuracy else f"{value:+.3g}",
        "bound": lambda value: "–" if value is None else f"{100 * value:.2f}" if accuracy else f"{value:.3g}",
        "p": lambda value: "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}",
        "number": lambda value, digits=3: "–" if value is None else f"{value:.{digits}g}",
        "measure": number,
        "measured_as": _measured_as,
        "settings": _settings,
        "script": lambda value: Markup(_inside_script(json.dumps(value, ensure_ascii=False, allow_nan=False,
                                                                 separators=(",", ":")))),
        "spec": lambda plot: Markup(_inside_script(plot.to_json())),
    }  # fmt: skip
    return environment


def _troubles(material: Material) -> list[tuple[CellFinding, Sequence[tuple[str, int]]]]:
    """Cells that failed, diverged in part, or whose best run has a symptom.

    Each with the commonest symptoms of its trials that diverged, and their numbers.
    """
    found: list[tuple[CellFinding, Sequence[tuple[str, int]]]] = []
    for index, cell in enumerate(material.findings.cells):
        members = [point for point in material.points if point.cell == index]
        words = Counter(word for point in members if point.outcome == "diverged" for word in point.diagnosis)
        if cell.diagnosis or cell.diverged or cell.search_best is None:
            found.append((cell, words.most_common(3)))
    return found


def _measured_as(published: PublishedFinding) -> str:
    """``training accuracy, epoch 2``: the metric and the step of a published value."""
    metric = published.metric
    words = metric.removeprefix("step_").replace("_", " ")
    words = re.sub(r"\bval\b", "validation", re.sub(r"\btrain\b", "training", words))
    if published.step is None or metric.startswith("best_"):
        return words
    return f"{words}, {'iteration' if metric.startswith('step_') else 'epoch'} {published.step}"


def _tags(tags: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {key.removeprefix(prefix): tags[key] for key in sorted(tags) if key.startswith(prefix)}


def _settings(values: Mapping[str, Any]) -> str:
    """``learning_rate 0.123, batch_size 16``."""
    shown = {name: f"{value:.3g}" if isinstance(value, float) else str(value) for name, value in values.items()}
    return ", ".join(f"{name}\u00a0{value}" for name, value in shown.items()) or "–"  # no line break inside


def _inside_script(text: str) -> str:
    """JSON that may stand inside a script element: no character of it can end that."""
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
