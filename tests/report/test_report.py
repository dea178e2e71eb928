"""The report of real studies: complete, self-contained, safe against hostile names; its page in a real browser."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import subprocess
from pathlib import Path

import pytest
import scipy.stats
import torch
from safetensors.torch import load
from support import STORAGE, blobs, prepare, run, search, small_study, stored
from support.page import Page

from searchlib import Choice, Examples, Published, StudyError
from searchlib.data.splits import Split
from searchlib.errors import SearchlibError
from searchlib.report import dashboard
from searchlib.report.figures import heat_map, robust_range
from searchlib.report.material import Material, gather, statistics
from searchlib.report.network_figures import learning_curves
from searchlib.report.networks import decisions
from searchlib.report.nuisance_figures import stability_width
from searchlib.report.page import exhibits, publish, render
from searchlib.stores.stores import Stores
from searchlib.stores.tracking import Tracker

HOSTILE = """<script>alert(1)</script> "quoted" & 'so' </title><img src=x onerror=alert(2)> \u2028 naïve 日本"""


def page_of(study, material: Material | None = None) -> Page:
    return Page(render(material or gathered(study)))


def gathered(study) -> Material:
    return gather(study, Stores(storage=STORAGE, data_root=Path("data")))


@pytest.fixture(scope="module")
def replicated(tmp_path_factory) -> tuple[Path, object]:
    """A finished study with replicates and an opened test set, in a folder that tests may read."""
    folder = tmp_path_factory.mktemp("replicated")
    study = small_study(replicates=3, fixed={"momentum": 0.9, "epochs": 3})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run(study)
        from searchlib.results.holdout import evaluate

        evaluate(study, Stores(storage=STORAGE, data_root=Path("data")))
    return folder, study


def test_the_page_of_a_replicated_study(replicated, monkeypatch) -> None:
    folder, study = replicated
    monkeypatch.chdir(folder)
    page = page_of(study)
    data = statistics(study, Stores(STORAGE))
    assert json.loads(page.scripts["searchlib-data"]) == data
    assert page.figures == {
        "cells", "importances", "isolation", "response-learning_rate", "response-batch_size", "budget", "curves",
        "layers", "weights", "cell-weights", "decisions", "activations", "confusion", "classes",
    }  # fmt: skip
    for key in page.figures:
        assert json.loads(page.scripts[f"spec-{key}"])["data"], key
    assert data["answer"] in page.text
    assert len(set(page.ids)) == len(page.ids)
    ledger = data["test_ledger"]
    for fact in (
        ledger["claimed_at"],
        ledger["checkpoint_sha256"],
        ledger["run_id"],
        f"{data['test']['accuracy']:.4f}",
    ):
        assert fact in page.text
    runs = [trial.user_attrs["mlflow_run_id"] for trial in Stores(STORAGE).optuna_study("small.replicates").trials]
    assert len(runs) == data["replicates"]["runs"] > 0
    best = [stored(study).trials[cell["trial"]].user_attrs["mlflow_run_id"] for cell in data["cells"]]
    assert [run_id for run_id in runs + best if run_id not in page.text] == [], "every row leads to its run"
    for comparison in data["comparisons"]:
        assert comparison["against_label"] in page.text


def test_published_figures_stand_beside_the_replicates(replicated, monkeypatch) -> None:
    """Means and intervals against scipy's, over the values that MLflow's client gives."""
    folder, study = replicated
    monkeypatch.chdir(folder)
    cell = {"initializer": "xavier_normal", "activation": "tanh"}
    quoted = [
        Published(source="A book", value=value, metric=metric, step=step, cell=cell, note="of <one> seed")
        for value, metric, step in ((0.9, "val_loss", 2), (99.0, "train_loss", None), (0.5, "val_accuracy", 7))
    ]
    study = dataclasses.replace(study, published=tuple(quoted))
    found = statistics(study, Stores(STORAGE))["published"]
    source = next(row["trial"] for row in gathered(study).data["cells"] if row["scientific"] == cell)
    trials = [t for t in Stores(STORAGE).optuna_study("small.replicates").trials if t.user_attrs["source"] == source]
    with Tracker(study, Stores()) as tracker:
        for row, metric, step in ((found[0], "val_loss", 2), (found[1], "train_loss", 3)):
            curves = [tracker.client.get_metric_history(t.user_attrs["mlflow_run_id"], metric) for t in trials]
            values = [next(point.value for point in curve if point.step == step) for curve in curves]
            assert (row["n"], row["step"], row["reason"]) == (3, step, "")
            assert row["mean"] == pytest.approx(sum(values) / 3)
            interval = scipy.stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
            assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))
            reach = scipy.stats.t.interval(0.95, 2, row["mean"], scipy.stats.tstd(values) * (4 / 3) ** 0.5)
            assert (row["predicted_low"], row["predicted_high"]) == pytest.approx(reach)
            assert row["inside"] == (reach[0] <= row["published"] <= reach[1])
    assert found[1]["inside"] is False
    assert found[2]["inside"] is None
    assert found[2]["reason"] == "0 of its 3 replicates have val_accuracy at step 7; they have it at 1, 2, 3"
    page = page_of(study)
    assert json.loads(page.scripts["searchlib-data"])["published"] == found
    for words in ("A book", "of <one> seed", "training loss, epoch 3", found[2]["reason"]):
        assert words in page.text


def test_a_published_figure_of_a_cell_without_replicates_says_so() -> None:
    study = small_study(trials=4, fixed={"epochs": 1}, scientific={"activation": Choice("tanh", "relu")})
    study = dataclasses.replace(
        study,
        published=tuple(
            Published(source="A book", value=0.5, metric="val_accuracy", cell={"activation": name})
            for name in ("tanh", "relu")
        ),
    )
    found = statistics(study, Stores(STORAGE))["published"]
    assert [row["reason"] for row in found] == ["the cell has no finished trial"] * 2
    assert not Path("mlflow.db").exists(), "nothing to read, so nothing is opened"
    run(study)
    found = statistics(study, Stores(STORAGE))["published"]
    assert {row["reason"] for row in found} == {"the study has no replicates"}
    assert {row["inside"] for row in found} == {None}
    assert found[0]["reason"] in page_of(study).text


def test_a_study_that_has_changed_since_is_not_described_by_its_new_file(replicated, monkeypatch) -> None:
    folder, study = replicated
    monkeypatch.chdir(folder)
    changed = dataclasses.replace(study, fixed={**study.fixed, "epochs": 9})
    with pytest.raises(StudyError, match=r"changed since its first trial \(fixed.epochs: 3 became 9\)"):
        publish(changed, Stores(storage=STORAGE, data_root=Path("data")), output=Path("other.html"))
    assert not Path("other.html").exists()


def test_replicates_that_diverged_are_counted_beside_a_published_figure() -> None:
    def broken_at_times(weight, layer) -> None:
        weight.normal_(0.0, 0.1, generator=layer.generator)
        if weight[0, 0] < -0.1:
            weight.fill_(math.nan)

    study = small_study(
        scientific={},
        fixed={"epochs": 1, "initializer": broken_at_times},
        sampler="random",
        trials=6,
        replicates=12,
        replicate_race=False,
    )
    study = dataclasses.replace(study, published=(Published(source="A book", value=0.5, metric="val_accuracy"),))
    run(study)
    outcomes = [t.user_attrs["outcome"] for t in Stores(STORAGE).optuna_study("small.replicates").trials]
    (row,) = statistics(study, Stores(STORAGE))["published"]
    assert (row["n"], row["diverged"]) == (outcomes.count("completed"), outcomes.count("diverged"))
    assert min(row["n"], row["diverged"]) >= 2
    assert f"{row['n']}, {row['diverged']} more diverged" in page_of(study).text


def test_single_decisions_are_the_champions(replicated, monkeypatch) -> None:
    """Against the registered model's soft decisions for the whole validation split."""
    from searchlib.data.datasets import load_train
    from searchlib.data.splits import split
    from searchlib.results.champion import predict as champion
    from searchlib.results.prediction import SHADES, predict

    folder, study = replicated
    monkeypatch.chdir(folder)
    examples = split(load_train(study.dataset, Path("data")), seed=study.split_seed).validation
    with Tracker(study, Stores()) as tracker:
        soft = torch.from_numpy(champion(tracker, examples.inputs.numpy()))
    sure = soft.amax(dim=1)
    found = {one["what"].split(",")[0].split()[0]: one for one in gathered(study).decisions}
    for one in found.values():
        index = one["index"]
        assert one["soft"] == pytest.approx(soft[index].tolist(), abs=1e-5)
        assert one["truth"] == int(examples.targets[index])
        assert torch.tensor(one["image"]) * 255 == pytest.approx(examples.inputs[index].double(), abs=1e-3)
    assert sure[found["least"]["index"]] == min(
        value for index, value in enumerate(sure) if index not in {found[k]["index"] for k in found if k != "least"}
    )
    decision = predict(study, Stores(data_root=Path("data")), found["right"]["index"])
    first, *lines = decision.lines()
    assert first.startswith(f"validation image {found['right']['index']}: {decision.truth} (right)")
    brightest = max(value for row in found["right"]["image"] for value in row)
    assert any(2 * SHADES[int(brightest * len(SHADES))] in line for line in lines[:6])
    assert max(map(len, lines)) < 80


def test_which_decisions_are_shown() -> None:
    class Networks:
        dataset = blobs()

        def __init__(self, soft, targets) -> None:
            self.soft, part = torch.tensor(soft), Examples(inputs=torch.zeros(len(soft), 6, 6), targets=targets)
            self.split = Split(train=part, validation=part, seed=0, fraction=0.5)

        def examples(self, trial) -> Split:
            return self.split

        def outputs(self, trial, inputs, *, classify: bool) -> torch.Tensor:
            assert classify
            return self.soft

    soft = [[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8], [0.3, 0.4, 0.3], [0.0, 0.6, 0.4], [0.5, 0.2, 0.3]]

    def chosen(*targets: int) -> dict[str, int]:
        return {one["what"]: one["index"] for one in decisions(Networks(soft, torch.tensor(targets)), None)}

    assert chosen(0, 0, 0, 1, 1, 0) == {"right, of middling certainty": 4, "most confidently wrong": 2, "least sure": 3}
    assert chosen(0, 1, 2, 1, 1, 0) == {"right, of middling certainty": 1, "least sure": 3}, "none is wrong"
    assert chosen(1, 2, 1, 2, 0, 2) == {"most confidently wrong": 0, "least sure": 3}, "none is right"


def test_cells_show_their_weights_and_missing_data_leave_a_gap(replicated, monkeypatch, tmp_path) -> None:
    folder, study = replicated
    shutil.copytree(folder, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    shutil.rmtree("data")
    material = gathered(study)
    assert list(material.cell_weights) == [0, 1, 2, 3]
    assert material.cell_weights[0] == material.weights, "the winner's is the champion"
    normal = next(i for i, cell in enumerate(material.data["cells"]) if cell["scientific"]["initializer"] == "normal")
    widths = {index: layers[0]["edges"][-1] for index, layers in material.cell_weights.items()}
    assert widths[normal] > 2.0, "of deviation 1"
    assert material.decisions == []
    page = page_of(study, material)
    assert "cell-weights" in page.figures
    assert "The training data, of which the validation split is a part, can't be read" in page.text
    assert "searchlib data fetch" in page.text or "put it there" in page.text
    spec = json.loads(page.scripts["spec-cell-weights"])
    assert len(spec["data"]) == 4 * 2 * 2, "cells, layers, before and after"


def small_net(config, dataset):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(dataset.inputs, dataset.outputs))


def broken(config, dataset):
    raise ValueError("not today")


def test_a_module_of_the_studys_own_has_decisions_too() -> None:
    study = small_study(model=small_net, scientific={}, fixed={"epochs": 1}, trials=2)
    run(study)
    material = gathered(study)
    assert [one["soft"] for one in material.decisions]
    assert "of a module of the study's own aren't stored" in page_of(study, material).text
    for factory in (broken, lambda config, dataset: torch.nn.Linear(1, 1)):
        page = page_of(dataclasses.replace(study, model=factory))
        assert "The champion can't be run again: model: the checkpoint can't be loaded into it" in page.text


def test_curves_are_drawn_by_iteration_where_runs_have_them() -> None:
    by_epoch = {"train_loss": [(1, 1.0)], "val_loss": [(1, 2.0)], "val_accuracy": [(1, 0.5)]}
    steps = {f"step_{key}": [(5, value), (10, value / 2)] for key, ((_, value),) in by_epoch.items()}
    data = {"metric": "val_accuracy", "cells": [{"label": "one"}]}
    plain, fine = (learning_curves(data, {0: found}) for found in (by_epoch, {**by_epoch, **steps}))
    assert [list(trace.x) for trace in plain.data] == [[1]] * 4
    assert [list(trace.x) for trace in fine.data] == [[5, 10]] * 4
    assert list(fine.data[2].y) == [1.0, 0.5], "the gap"
    assert (plain.layout.xaxis3.title.text, fine.layout.xaxis3.title.text) == ("epoch", "iteration")
    both = learning_curves(
        {**data, "cells": [{"label": "one"}, {"label": "other"}]}, {0: {**by_epoch, **steps}, 1: by_epoch}
    )
    assert {tuple(trace.x) for trace in both.data} == {(1,)}, "by epoch where one of the cells has none by iteration"
    loss = learning_curves({**data, "metric": "val_loss"}, {0: by_epoch})
    assert len(loss.data) == 3
    assert "xaxis4" not in loss.layout.to_plotly_json(), "no empty panel"


def test_the_page_refers_to_nothing_outside(replicated, monkeypatch) -> None:
    folder, study = replicated
    monkeypatch.chdir(folder)
    page = page_of(study)
    targets = [
        value for _, name, value in page.attributes if name in ("src", "href", "action", "srcset", "data", "poster")
    ]
    assert "data:," in targets
    outside = [value for value in targets if not value.startswith(("#", "data:"))]
    assert outside == []
    anchors = {value[1:] for value in targets if value.startswith("#")}
    assert anchors <= set(page.ids)
    policy = [
        value for tag, name, value in page.attributes if (tag, name) == ("meta", "content") and "default-src" in value
    ]
    assert policy == [value for value in policy if "default-src 'none'" in value and "http" not in value]
    assert len(policy) == 1
    assert sum(script.count("plotly.js v") for script in page.scripts.values()) == 1


def test_initial_weights_are_those_the_stack_drew(replicated, monkeypatch) -> None:
    """The 'before' of the histogram against a stack of the same member, and the 'after' against the checkpoint."""
    from searchlib.data.datasets import load_train
    from searchlib.data.splits import split
    from searchlib.report.networks import Networks
    from searchlib.training.loop import prepare as tensors
    from searchlib.training.stack import Member, Stack

    folder, study = replicated
    monkeypatch.chdir(folder)
    examples = split(load_train(study.dataset, Path("data")), seed=study.split_seed, fraction=study.validation_fraction)
    with Tracker(study, Stores()) as tracker:
        networks = Networks(study, tracker)
    for initializer in ("xavier_normal", "lsuv"):
        config = study.config(
            {"initializer": "normal", "activation": "tanh", "learning_rate": 0.1, "batch_size": 16}
        ).__class__(initializer=initializer, activation="tanh", hidden=(8,))
        probe = tensors(examples, study.dataset, config.input_scaling).probe
        stack = Stack([Member(0, config, 77)], outputs=study.dataset.outputs, probe=probe)
        drawn = networks.initial_weights(config, 77, None)
        for name in ("linear0.weight", "linear1.weight"):
            assert torch.equal(drawn[name], stack.state(0)[name])
    material = gathered(study)
    with Tracker(study, Stores()) as tracker:
        weights = load(tracker.checkpoint(material.champion["run_id"]))["linear0.weight"]
    first = material.weights[0]
    assert "linear0" in first["name"]
    assert first["edges"][0] <= float(weights.min()) <= float(weights.max()) <= first["edges"][-1]
    width = first["edges"][1] - first["edges"][0]
    for kind in ("before", "after"):
        assert sum(first[kind]) * width == pytest.approx(1.0)


def test_hostile_words_stay_words(replicated, monkeypatch) -> None:
    folder, study = replicated
    monkeypatch.chdir(folder)
    material = gathered(study)
    hostile = json.loads(json.dumps(material.data).replace("xavier_normal", json.dumps(HOSTILE)[1:-1]))
    hostile["question"] = HOSTILE
    hostile["answer"] = HOSTILE
    hostile["cells"][0]["diagnosis"] = [HOSTILE]
    hostile["notes"] = [HOSTILE]
    altered = dataclasses.replace(material, data=hostile, tags={"searchlib.version.evil": HOSTILE})
    plain = page_of(study, material)
    page = page_of(study, altered)
    assert json.loads(page.scripts["searchlib-data"]) == hostile
    assert sorted(set(page.tags)) == sorted(set(plain.tags)), "no new kind of element"
    assert "img" not in page.tags
    assert page.tags.count("script") == plain.tags.count("script")
    assert HOSTILE in page.text
    spec = json.loads(page.scripts["spec-cells"])
    shown = [text for axis in ("x", "y") for text in spec["data"][0][axis]]
    assert any("&lt;script&gt;" in text for text in shown)
    assert not any("<" in text for text in shown), "plotly reads HTML: names are escaped for it"


@pytest.mark.parametrize(
    ("scientific", "figures", "missing"),
    [
        ({}, set(), ["no scientific dimension", "nothing to isolate"]),
        ({"activation": Choice("tanh", "relu", "sigmoid")}, {"cells", "isolation"}, []),
        (
            {
                "activation": Choice("tanh", "relu"),
                "initializer": Choice("zeros", "normal"),
                "dropout": Choice(0.0, 0.3),
            },
            {"cells", "isolation"},
            ["the best over dropout"],
        ),
    ],
    ids=["none", "one", "three"],
)  # fmt: skip
def test_any_number_of_scientific_dimensions(scientific, figures, missing) -> None:
    study = small_study(scientific=scientific, trials=16, fixed={"epochs": 1})
    run(study)
    page = page_of(study)
    assert {"cells", "isolation"} & page.figures == figures
    assert {"budget", "curves", "weights", "response-learning_rate"} <= page.figures
    for words in missing:
        assert words in page.text
    assert "sealed" in page.text
    assert "confusion" not in page.figures
    assert json.loads(page.scripts["searchlib-data"]) == statistics(study, Stores(STORAGE))


def test_unfinished_studies_still_have_a_page() -> None:
    prepare()
    study = small_study()
    page = page_of(study)
    assert "0 of 12 trials" in page.text
    assert "unfinished" in page.text
    assert page.figures == set()
    for _ in search(study, trials=4):
        pass
    page = page_of(study)
    assert study.question in page.text
    assert "cells" in page.figures
    assert json.loads(page.scripts["searchlib-data"]) == statistics(study, Stores(STORAGE))


def test_runs_that_mlflow_lost_are_named() -> None:
    study = small_study(trials=4, fixed={"epochs": 1})
    run(study)
    with Tracker(study, Stores()) as tracker:
        for trial in stored(study).trials:
            tracker.client.delete_run(trial.user_attrs["mlflow_run_id"])
    shutil.rmtree("mlruns")
    page = page_of(study)
    assert "weights" not in page.figures
    assert "MLflow doesn't give them" in page.text


def test_writing_replaces_the_file_whole_and_publishing_repeats_itself(replicated, monkeypatch, tmp_path) -> None:
    folder, study = replicated
    shutil.copytree(folder, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    output = Path("page.html")
    output.write_text("old")
    stores = Stores(STORAGE)
    assert publish(study, stores, output=output)[0] == output
    first = output.read_bytes()
    assert first.startswith(b"<!DOCTYPE html>")
    assert sorted(path.name for path in Path().iterdir() if "page.html" in path.name) == ["page.html"]
    path, findings = publish(study, stores, output=output)
    assert path.read_bytes() == first, "the same stores give the same page"
    assert findings.answer == statistics(study, stores)["answer"]
    parent = stored(study).user_attrs["mlflow_run_id"]
    with Tracker(study, Stores()) as tracker:
        assert "page.html" in [file.path for file in tracker.client.list_artifacts(parent)]
    size = Path(STORAGE).stat().st_size
    publish(study, stores, output=output)
    assert Path(STORAGE).stat().st_size == size, "nothing new: the journal doesn't grow"
    with pytest.raises(SearchlibError, match="--output"):
        publish(study, stores, output=Path("nowhere/page.html"))


def test_the_dashboard_shows_note_and_figures(replicated, monkeypatch, tmp_path) -> None:
    import optuna_dashboard
    from optuna_dashboard._custom_plot_data import get_plotly_graph_objects

    folder, study = replicated
    shutil.copytree(folder, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    data = statistics(study, Stores(STORAGE))
    figures = {"cells": ("Cells", heat_map(data))}
    assert dashboard.show(Stores(STORAGE).read(study), data, figures) == ["note", "cells"]
    assert dashboard.show(Stores(STORAGE).read(study), data, figures) == []
    note = optuna_dashboard.get_note(stored(study))
    assert note.startswith("## Which of two?")
    assert data["winner"]["label"].replace("_", "\\_") in note
    graphs = get_plotly_graph_objects(stored(study)._storage.get_study_system_attrs(stored(study)._study_id))
    assert json.loads(graphs["searchlib-cells"])["layout"]["title"]["text"] == "Cells"
    assert dashboard.show(Stores(STORAGE).read(study), {**data, "answer": "Another."}, figures) == ["note"]
    assert "Another." in optuna_dashboard.get_note(stored(study))
    optuna_dashboard.save_note(stored(study), "my own words")
    assert dashboard.show(Stores(STORAGE).read(study), data, figures) == []
    assert optuna_dashboard.get_note(stored(study)) == "my own words"


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
    data = {"direction": "maximize"}
    rates = {0.01: 0.80, 0.03: 0.895, 0.1: 0.90, 0.3: 0.891, 1.0: 0.1}
    points = [
        {"cell": 0, "params": {"learning_rate": rate}, "value": value, "outcome": "completed"}
        for rate, value in rates.items()
    ]
    assert stability_width(data, points, 0, "learning_rate") == pytest.approx(1.0)  # 0.03 to 0.3
    assert stability_width(data, points, 1, "learning_rate") is None
    loss = [{**point, "value": 1.0 - point["value"]} for point in points]
    assert stability_width({"direction": "minimize"}, loss, 0, "learning_rate") == pytest.approx(1.0)  # 0.1 to 0.109


CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
PROBE = """<script>window.addEventListener("load", function () { setTimeout(function () {
  document.querySelectorAll("script").forEach(function (one) { one.remove(); });
  document.body.dataset.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
}, 300); });</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_in_a_browser(replicated, monkeypatch, tmp_path) -> None:
    """Every figure is drawn, the console stays clean, nothing is fetched, and a phone needn't scroll sideways."""
    folder, study = replicated
    monkeypatch.chdir(folder)
    material = gathered(study)
    made = exhibits(material)
    page = tmp_path / "page.html"
    page.write_text(render(material, made).replace("</body>", PROBE + "</body>"))
    assert CHROMIUM
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--incognito",
            f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--v=0", "--window-size=500,900",
            "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=20000", "--dump-dom", page.as_uri(),
        ],
        capture_output=True, text=True, timeout=180, check=True,
    )  # fmt: skip
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    assert done.stdout.count('<div class="plot-container plotly"') == sum(
        one.figure is not None for one in made.values()
    )
    assert 'data-wide="0"' in done.stdout
