"""Every figure of the report: drawn, captioned and in its place, or missing with a reason; and how they are drawn."""

from __future__ import annotations

import dataclasses
import json
import math
import re

import pytest
from plotly.subplots import make_subplots
from support import run, small_study
from support.page import drawn, gathered

from searchlib import Choice, LogUniform, function_dataset
from searchlib.report.exhibits import EXHIBITS, Exhibit, Missing, draw, figures
from searchlib.report.exhibits.curves import learning_curves
from searchlib.report.exhibits.plots import Panels, Plot, robust_range
from searchlib.report.exhibits.responses import stability_width
from searchlib.report.material import Material, Point
from searchlib.report.page import SECTIONS, render


@pytest.fixture(scope="module")
def materials(replicated, tmp_path_factory) -> list[Material]:
    """Of a finished classification with replicates and test, and of small regressions of one input and of two."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(replicated[0])
        found.append(gathered(replicated[1]))
        for inputs in (1, 2):
            patch.chdir(tmp_path_factory.mktemp("regression"))
            study = small_study(
                dataset=function_dataset("sum", lambda x: x.sum(dim=1), inputs=inputs, train=60, test=20),
                scientific={"activation": Choice("tanh", "relu")},
                nuisance={"learning_rate": LogUniform(0.01, 0.1)},
                fixed={"epochs": 1, "batch_size": 20},
                trials=4,
            )
            run(study)
            found.append(gathered(study))
    return found


each = pytest.mark.parametrize("exhibit", EXHIBITS, ids=lambda exhibit: exhibit.name)


@each
def test_an_exhibit_is_drawn_with_a_caption_in_its_section(exhibit: Exhibit, materials: list[Material]) -> None:
    count = 0
    for material in materials:
        shown = [one for one in draw(material) if one.exhibit is exhibit and one.drawn]
        page = render(material) if shown else ""
        for one in shown:
            assert one.drawn.plot.figure().data, "Plotly knows every property"
            assert one.drawn.caption.endswith("."), one.drawn.caption
            (section,) = re.findall(rf'<section id="{exhibit.section}">.*?</section>', page, re.DOTALL)
            assert page.count(f'id="figure-{one.name}"') == section.count(f'id="figure-{one.name}"') == 1
            spec = re.search(rf'id="spec-{one.name}">(.*?)</script>', section)
            assert json.loads(spec[1]) == json.loads(one.drawn.plot.to_json())
            count += 1
    assert count, "no study here has it"


@each
def test_an_exhibit_that_is_missing_says_why(exhibit: Exhibit, materials: list[Material]) -> None:
    """Of studies whose runs, networks and test are lost, and whose trials all failed."""
    for material in materials:
        cells = tuple(
            dataclasses.replace(
                cell, scientific={}, search_best=None, mean=None, n=0, trial=None,
                budget=dataclasses.replace(cell.budget, biased=(), unbiased=()),
            )
            for cell in material.findings.cells
        )  # fmt: skip
        findings = dataclasses.replace(
            material.findings, cells=cells, winner=None, comparisons=(), importances={}, test_result=None
        )
        bare = dataclasses.replace(
            material, findings=findings, definition={**material.definition, "scientific": {}}, axes={}, points=(),
            histories={}, activations={}, champion=None, weights=(), cell_weights={}, fits=None, decisions=(),
        )  # fmt: skip
        shown = [one for one in draw(bare) if one.exhibit is exhibit]
        for one in shown:
            if isinstance(one.result, Missing):
                assert re.fullmatch(r"[A-Z].*\.", one.result.reason)
                assert f'<p class="missing">{one.result.reason}</p>'.replace("'", "&#39;") in render(bare)
        assert not any(one.drawn for one in shown)


def test_the_list_of_exhibits() -> None:
    names = [exhibit.name for exhibit in EXHIBITS]
    assert len(set(names)) == len(names)
    assert {exhibit.section for exhibit in EXHIBITS} <= {section.name for section in SECTIONS}
    assert all(exhibit.title for exhibit in EXHIBITS)


def test_figures_are_plotlys_own(materials: list[Material]) -> None:
    made = figures(materials[0])
    assert made.keys() == drawn(materials[0])
    assert made["cells"].layout.xaxis.title.text == "activation"


def test_a_study_without_trials_has_no_figures(materials: list[Material]) -> None:
    findings = dataclasses.replace(materials[0].findings, cells=())
    assert draw(dataclasses.replace(materials[0], findings=findings)) == []


@pytest.mark.parametrize(
    ("rows", "columns", "gaps", "options"),
    [
        (1, 2, (0.09, 0.0), {"titles": ["a", "b"]}),
        (2, 2, (0.05, 0.15), {"titles": ["a", "b", "c"], "missing": [(2, 2)], "share_y": True}),
        (2, 3, (0.12, 0.04), {"heights": [220, 60]}),
        (2, 1, (0.0, 0.06), {"heights": [0.68, 0.32], "share_x": True}),
        (7, 6, (0.012, 0.09 / 7), {"edge_titles": (list("abcdef"), list("ABCDEFG")), "share_x": True, "share_y": True}),
    ],
)  # fmt: skip
def test_panels_lie_where_plotly_lays_them_out(rows: int, columns: int, gaps: tuple, options: dict) -> None:
    known = {"titles": "subplot_titles", "heights": "row_heights", "share_x": "shared_xaxes", "share_y": "shared_yaxes"}
    theirs = {known[name]: value for name, value in options.items() if name in known}
    if "edge_titles" in options:
        theirs |= {"column_titles": options["edge_titles"][0], "row_titles": options["edge_titles"][1]}
    missing = options.get("missing", ())
    specs = [
        [None if (row, column) in missing else {} for column in range(1, columns + 1)] for row in range(1, rows + 1)
    ]
    figure = make_subplots(
        rows, columns, specs=specs, horizontal_spacing=gaps[0], vertical_spacing=gaps[1], **theirs
    ).update_annotations(font_size=11)
    figure.update_layout(template="none", height=300, margin={"l": 60, "r": 20, "t": 30, "b": 50}, dragmode=False)
    plot = Panels(300, rows, columns, gaps=gaps, **options)
    for row, column in ((1, 1), (rows, 1), (1, columns)):
        figure.add_scatter(x=[1], y=[2], row=row, col=column)
        plot.add("scatter", row=row, column=column, x=[1], y=[2])
    assert json.loads(plot.to_json()) == json.loads(figure.to_json())


def test_axes_and_lines_of_panels() -> None:
    plot = Panels(300, 2, 2)
    plot.x(2, title={"text": "below"})
    plot.y(column=2, range=[0, 1])
    plot.line(y=0.5, row=2, column=1)
    axes = {name: axis for name, axis in plot.layout.items() if "axis" in name}
    assert [name for name, axis in axes.items() if "title" in axis] == ["xaxis3", "xaxis4"]
    assert [name for name, axis in axes.items() if "range" in axis] == ["yaxis2", "yaxis4"]
    figure = make_subplots(2, 2)
    figure.add_hline(
        0.5, row=2, col=1, exclude_empty_subplots=False, line={"color": "#D55E00", "width": 1, "dash": "dash"}
    )
    assert plot.layout["shapes"] == [figure.layout.shapes[0].to_plotly_json()]


def test_a_plot_is_json_and_wrong_properties_are_found() -> None:
    plot = Plot(200)
    plot.add("scatter", x=(0, 1, 2), y=[1.0, math.nan, -math.inf])
    assert json.loads(plot.to_json())["data"] == [{"type": "scatter", "x": [0, 1, 2], "y": [1.0, None, None]}]
    plot.x(titel="none such")
    with pytest.raises(ValueError, match="titel"):
        plot.figure()


def test_curves_are_drawn_by_iteration_where_runs_have_them() -> None:
    by_epoch = {"train_loss": [(1, 1.0)], "val_loss": [(1, 2.0)], "val_accuracy": [(1, 0.5)]}
    steps = {f"step_{key}": [(5, value), (10, value / 2)] for key, ((_, value),) in by_epoch.items()}
    plain, fine = (learning_curves(["one"], {0: found}, accuracy=True) for found in (by_epoch, {**by_epoch, **steps}))
    assert [trace["x"] for trace in plain.data] == [[1]] * 4
    assert [trace["x"] for trace in fine.data] == [[5, 10]] * 4
    assert fine.data[2]["y"] == [1.0, 0.5], "the gap"
    assert [plot.layout["xaxis3"]["title"]["text"] for plot in (plain, fine)] == ["epoch", "iteration"]
    both = learning_curves(["one", "other"], {0: {**by_epoch, **steps}, 1: by_epoch}, accuracy=True)
    assert {tuple(trace["x"]) for trace in both.data} == {(1,)}, "by epoch where one of the cells has none by iteration"
    loss = learning_curves(["one"], {0: by_epoch}, accuracy=False)
    assert len(loss.data) == 3
    assert "xaxis4" not in loss.layout, "no empty panel"


def test_failing_cells_do_not_swamp_the_scale() -> None:
    low, high = robust_range([0.1, 0.1, 0.88, 0.885, 0.89], "maximize")
    assert 0.84 < low < 0.85
    assert high > 0.89
    low, high = robust_range([0.5, 0.52, 0.54, 9.0], "minimize")
    assert high < 1.0
    assert low < 0.5
    low, high = robust_range([0.3, 0.3], "maximize")
    assert low < 0.3 < high


def test_stability_width_by_hand() -> None:
    rates = {0.01: 0.80, 0.03: 0.895, 0.1: 0.90, 0.3: 0.891, 1.0: 0.1}
    points = [
        Point(cell=0, trial=trial, params={"learning_rate": rate}, value=value, outcome="completed")
        for trial, (rate, value) in enumerate(rates.items())
    ]
    assert stability_width(points, 0, "learning_rate", "maximize") == pytest.approx(1.0)  # 0.03 to 0.3
    assert stability_width(points, 1, "learning_rate", "maximize") is None
    loss = [dataclasses.replace(point, value=1.0 - point.value) for point in points]
    assert stability_width(loss, 0, "learning_rate", "minimize") == pytest.approx(1.0)  # 0.1 to 0.109


def test_with_a_pruner_the_page_gives_no_stability(materials: list[Material]) -> None:
    """What it left is one good point or two of each cell, whose spread says nothing of the others."""
    whole = materials[0]
    pruned = dataclasses.replace(whole, definition={**whole.definition, "pruner": "within_cell"})
    captions, widths = [], []
    for material in (whole, pruned):
        (shown,) = [one.drawn for one in draw(material) if one.name == "response-learning_rate"]
        captions.append(shown.caption)
        widths.append([note.text for note in shown.plot.figure().layout.annotations if "dec" in note.text])
    assert "width of that band in decades" in captions[0]
    assert "width of that band" not in captions[1]
    assert "of the points that were trained to the end" in captions[1]
    assert (len(widths[0]) > 0, widths[1]) == (True, [])
    assert ["Stability: over how many" in render(material) for material in (whole, pruned)] == [True, False]


def test_importances_say_of_how_many_trials_they_are(materials: list[Material]) -> None:
    found = materials[0].findings
    counted = dataclasses.replace(found, importances_among=7)
    (shown,) = [
        one.drawn for one in draw(dataclasses.replace(materials[0], findings=counted)) if one.name == "importances"
    ]
    assert (
        f"the best tenth of the 7 of {found.trials.total} search trials that were trained to the end" in shown.caption
    )
