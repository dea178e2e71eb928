"""The report of real studies: complete, self-contained, safe against hostile names; its page in a real browser."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from support import STORAGE, prepare, replicates, run, search_all, small_study, stored
from support.page import drawn, gathered, page_of

from searchlib import Choice, Study, StudyError
from searchlib.errors import SearchlibError
from searchlib.report import dashboard
from searchlib.report.exhibits import EXHIBITS, draw
from searchlib.report.material import statistics
from searchlib.report.page import publish, render
from searchlib.stores.stores import Stores
from searchlib.stores.tracking import Tracker

HOSTILE = """<script>alert(1)</script> "quoted" & 'so' </title><img src=x onerror=alert(2)> \u2028 naïve 日本"""


def test_the_page_of_a_replicated_study(study: Study) -> None:
    page = page_of(study)
    data = statistics(study, Stores(STORAGE))
    assert json.loads(page.scripts["searchlib-data"]) == data
    assert page.figures == drawn(gathered(study)) > {"response-learning_rate", "response-batch_size", "confusion"}
    assert "fits" not in page.figures
    assert data["answer"] in page.text
    assert len(set(page.ids)) == len(page.ids)
    repeated = replicates(study)
    assert len(repeated) == data["replicates"]["runs"] > 0
    rows = [*repeated, *(stored(study).trials[cell["trial"]] for cell in data["cells"])]
    runs = [trial.user_attrs["mlflow_run_id"] for trial in rows]  # every row leads to its run
    tested = [data["test_ledger"][name] for name in ("claimed_at", "checkpoint_sha256", "run_id")]
    compared = [comparison["against_label"] for comparison in data["comparisons"]]
    facts = [*runs, *tested, f"{data['test']['accuracy']:.4f}", *compared]
    assert [fact for fact in facts if fact not in page.text] == []


def test_a_study_that_has_changed_since_is_not_described_by_its_new_file(study: Study) -> None:
    changed = dataclasses.replace(study, fixed={**study.fixed, "epochs": 9})
    with pytest.raises(StudyError, match=r"changed since its first trial \(fixed.epochs: 3 became 9\)"):
        publish(changed, Stores(), output=Path("other.html"))
    assert not Path("other.html").exists()


def test_the_page_refers_to_nothing_outside(study: Study) -> None:
    page = page_of(study)
    referring = ("src", "href", "action", "srcset", "data", "poster")
    targets = {value for _, name, value in page.attributes if name in referring}
    anchors = {value for value in targets if value.startswith("#")}
    assert {value for value in targets - anchors if not value.startswith("data:")} == set()
    assert anchors <= {f"#{name}" for name in page.ids}
    contents = [value for tag, name, value in page.attributes if (tag, name) == ("meta", "content")]
    (policy,) = [value for value in contents if "default-src" in value]
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert sum(script.count("plotly.js v") for script in page.scripts.values()) == 1


def changed(value, old: str, new: str):
    """*value* with another word in all its strings."""
    if isinstance(value, str):
        return value.replace(old, new)
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        return dataclasses.replace(value, **{name: changed(getattr(value, name), old, new) for name in names})
    if isinstance(value, Mapping):
        return {changed(key, old, new): changed(item, old, new) for key, item in value.items()}
    return type(value)(changed(item, old, new) for item in value) if isinstance(value, (list, tuple)) else value


def test_hostile_words_stay_words(study: Study) -> None:
    material = gathered(study)
    hostile = changed(material, "xavier_normal", HOSTILE)
    cells = (dataclasses.replace(hostile.findings.cells[0], diagnosis=(HOSTILE,)), *hostile.findings.cells[1:])
    findings = dataclasses.replace(
        hostile.findings, question=HOSTILE, answer=HOSTILE, cells=cells, notes=(HOSTILE,)
    )  # fmt: skip
    altered = dataclasses.replace(hostile, findings=findings, tags={"searchlib.version.evil": HOSTILE})
    plain = page_of(study, material)
    page = page_of(study, altered)
    assert json.loads(page.scripts["searchlib-data"]) == altered.to_json()
    assert sorted(set(page.tags)) == sorted(set(plain.tags)), "no new kind of element"
    assert "img" not in page.tags
    assert page.tags.count("script") == plain.tags.count("script")
    assert HOSTILE in page.text
    spec = json.loads(page.scripts["spec-cells"])
    shown = [text for axis in ("x", "y") for text in spec["data"][0][axis]]
    assert any("&lt;script&gt;" in text for text in shown)
    assert not any("<" in text for text in shown), "plotly reads HTML: names are escaped for it"


DIMENSIONS = {"activation": Choice("tanh", "relu"), "initializer": Choice("zeros", "normal")}


@pytest.mark.parametrize(
    ("scientific", "figures", "words"),
    [
        ({}, set(), ["no scientific dimension", "nothing to isolate"]),
        ({"activation": Choice("tanh", "relu", "sigmoid")}, {"cells", "isolation"}, []),
        ({**DIMENSIONS, "dropout": Choice(0.0, 0.3)}, {"cells", "isolation"}, ["the best over dropout"]),
    ],
    ids=["none", "one", "three"],
)
def test_any_number_of_scientific_dimensions(scientific: dict, figures: set[str], words: list[str]) -> None:
    study = small_study(scientific=scientific, trials=16, fixed={"epochs": 1})
    run(study)
    page = page_of(study)
    assert {"cells", "isolation"} & page.figures == figures
    assert {"budget", "curves", "weights", "response-learning_rate"} <= page.figures
    assert "confusion" not in page.figures
    assert [said for said in [*words, "sealed"] if said not in page.text] == []


def test_unfinished_studies_still_have_a_page() -> None:
    prepare()
    study = small_study()
    page = page_of(study)
    assert "0 of 12 trials" in page.text
    assert "unfinished" in page.text
    assert page.figures == set()
    search_all(study, trials=4)
    page = page_of(study)
    assert study.question in page.text
    assert "cells" in page.figures


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


def test_writing_replaces_the_file_whole_and_publishing_repeats_itself(copied: Study) -> None:
    output = Path("page.html")
    output.write_text("old")
    stores = Stores(STORAGE)
    assert publish(copied, stores, output=output)[0] == output
    first = output.read_bytes()
    assert first.startswith(b"<!DOCTYPE html>")
    assert sorted(path.name for path in Path().iterdir() if "page.html" in path.name) == ["page.html"]
    path, findings = publish(copied, stores, output=output)
    assert path.read_bytes() == first, "the same stores give the same page"
    assert findings.answer == statistics(copied, stores)["answer"]
    parent = stored(copied).user_attrs["mlflow_run_id"]
    with Tracker(copied, Stores()) as tracker:
        assert "page.html" in tracker.artifacts.names(tracker.client.get_run(parent).info.artifact_uri)
    size = Path(STORAGE).stat().st_size
    publish(copied, stores, output=output)
    assert Path(STORAGE).stat().st_size == size, "nothing new: the journal doesn't grow"
    with pytest.raises(SearchlibError, match="--output"):
        publish(copied, stores, output=Path("nowhere/page.html"))


def test_the_dashboard_shows_note_and_figures(copied: Study) -> None:
    import optuna_dashboard
    from optuna_dashboard._custom_plot_data import get_plotly_graph_objects

    material = gathered(copied)
    shown, findings = draw(material), material.findings
    chosen = [exhibit.name for exhibit in EXHIBITS if exhibit.dashboard]
    held = Stores(STORAGE).read(copied)
    assert dashboard.show(held, findings, shown) == ["note", *chosen]
    assert dashboard.show(held, findings, shown) == []
    note = optuna_dashboard.get_note(stored(copied))
    assert note.startswith("## Which of two?")
    assert findings.winner.label.replace("_", "\\_") in note
    graphs = get_plotly_graph_objects(stored(copied)._storage.get_study_system_attrs(stored(copied)._study_id))
    titles = {name: json.loads(graph)["layout"]["title"]["text"] for name, graph in graphs.items()}
    assert titles == {f"searchlib-{exhibit.name}": exhibit.title for exhibit in EXHIBITS if exhibit.dashboard}
    assert "Cells" in titles.values()
    another = dataclasses.replace(findings, answer="Another.")
    assert dashboard.show(held, another, shown) == ["note"]
    assert "Another." in optuna_dashboard.get_note(stored(copied))
    optuna_dashboard.save_note(stored(copied), "my own words")
    assert dashboard.show(held, findings, shown) == []
    assert optuna_dashboard.get_note(stored(copied)) == "my own words"


CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)


PROBE = """<script>window.addEventListener("load", function () { setTimeout(function () {
  document.querySelectorAll("script").forEach(function (one) { one.remove(); });
  document.body.dataset.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
}, 300); });</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_in_a_browser(study: Study, tmp_path: Path) -> None:
    """Every figure is drawn, the console stays clean, nothing is fetched, and a phone needn't scroll sideways."""
    material = gathered(study)
    page = tmp_path / "page.html"
    page.write_text(render(material).replace("</body>", PROBE + "</body>"))
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
    assert done.stdout.count('<div class="plot-container plotly"') == len(drawn(material))
    assert 'data-wide="0"' in done.stdout
