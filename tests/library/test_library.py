"""searchlib from Python: what a result holds, resuming, places, progress, scripts and bad input."""

from __future__ import annotations

import contextlib
import html
import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pandas
import pytest
import torch
from support import prepare, small_study, write_idx
from support.command import write_study
from support.packages import graph, room

import searchlib
from searchlib import Result, Study, StudyError
from searchlib.cli.main import cli
from searchlib.errors import SearchlibError, StorageError
from searchlib.report import statistics
from searchlib.results import export
from searchlib.stores import Stores

SMALL = {"trials": 8, "replicates": 2, "scientific": {"activation": searchlib.Choice("tanh", "relu")}}


def everything(folder: Path) -> dict[str, tuple[int, int]]:
    """The files of a folder, with their sizes and their times."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result, str]:
    """A folder, the result of a study that was answered there, and what was printed."""
    folder = tmp_path_factory.mktemp("library")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.chdir(folder)
        prepare()
        done = searchlib.optimize(small_study(**SMALL))
        assert done.figures
    return folder, done, printed.getvalue()


@pytest.fixture
def done(answered: tuple[Path, Result, str], monkeypatch: pytest.MonkeyPatch) -> Result:
    """The result of that study; the working folder is its own."""
    monkeypatch.chdir(answered[0])
    return answered[1]


def test_optimize_answers_the_study(done: Result, answered: tuple[Path, Result, str]) -> None:
    assert "8/8 trials" in answered[2]
    assert done.complete
    assert done.test is not None
    assert repr(done) == "<Result of study 'small': 8 of 8 trials>"
    assert done.page == Path("small.html")
    assert done.answer in done.page.read_text()


def test_a_result_is_what_the_commands_print(done: Result) -> None:
    study = small_study(**SMALL)
    printed = statistics(study, Stores())
    assert {**done.findings.to_json(), "published": []} == printed
    export(study, Stores(), format="parquet", output=Path("trials.parquet"))
    pandas.testing.assert_frame_equal(
        done.trials, pandas.read_parquet("trials.parquet"), check_dtype=False, check_column_type=False
    )
    assert {str(done.trials[name].dtype) for name in ("number", "replicate", "source")} == {"Int64"}
    assert done.cells["label"].tolist() == [cell["label"] for cell in printed["cells"]]
    assert done.cells["mean"].tolist() == [cell["mean"] for cell in printed["cells"]]
    assert done.cells["trial"].dtype == "int64"
    assert done.comparisons["difference"].tolist() == [one["difference"] for one in printed["comparisons"]]
    assert {"cells", "isolation", "curves"} <= set(done.figures)
    assert all(figure.data for figure in done.figures.values())


def test_the_champion_is_the_network_that_was_evaluated(done: Result) -> None:
    """Its accuracy on the validation split, from raw images, is the one that its trial has."""
    assert done.test is not None
    rows = done.trials
    own = rows[(rows["source"] == done.test.trial) & (rows["replicate"] == done.test.replicate)]
    validation = Stores().examples(done.study, fetch=False).validation
    with torch.no_grad():
        decisions = done.champion(validation.inputs)
    assert torch.allclose(decisions.sum(dim=1), torch.ones(len(validation)))
    accuracy = (decisions.argmax(dim=1) == validation.targets).double().mean()
    assert own["value"].tolist() == [pytest.approx(float(accuracy))]


def test_a_result_shows_the_report_in_a_notebook(done: Result) -> None:
    found = re.fullmatch(r'<iframe srcdoc="([^"]*)" style="[^"]*"></iframe>', done._repr_html_())
    assert found is not None
    page = html.unescape(found[1])
    assert page.startswith("<!DOCTYPE html>")
    assert "Which of two?" in page


def test_result_reads_what_is_stored_and_creates_nothing(done: Result) -> None:
    before = everything(Path())
    found = searchlib.result(small_study(**SMALL))
    assert found.page is None
    assert (found.test, found.status, found.findings) == (done.test, done.status, done.findings)
    assert set(found.figures) == set(done.figures)
    assert found.champion(found.champion.module[1].weight.new_zeros(1, 6, 6)).shape == (1, 3)
    after = everything(Path())
    assert {name for name in after if after[name] != before.get(name)} <= {"mlflow.db-shm", "mlflow.db-wal"}


def test_optimize_again_trains_nothing(done: Result, capsys: pytest.CaptureFixture[str]) -> None:
    again = searchlib.optimize(small_study(**SMALL))
    assert capsys.readouterr().out == ""
    assert again.test == done.test
    assert again.trials.equals(done.trials)


def test_what_is_unfinished_is_resumed_and_evaluated_at_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    """By way of a study's name, places from the environment, and without a display."""
    write_study()
    Path("studies").rename("questions")
    write_idx(Path("elsewhere"))
    places = {
        "SEARCHLIB_STUDIES": "questions",
        "SEARCHLIB_DATA": "elsewhere",
        "SEARCHLIB_STORAGE": "sqlite:///mine.db",
        "MLFLOW_TRACKING_URI": "sqlite:///runs.db",
    }
    options = cli.commands["optimize"].params
    assert set(places) == {option.envvar for option in options if option.envvar}, "as on the command line"
    with pytest.MonkeyPatch.context() as patch:
        for name, place in places.items():
            patch.setenv(name, place)
        stopped = searchlib.optimize("asked", timeout=1e-9, progress=False)
        assert (stopped.complete, stopped.test) == (False, None)
        part = searchlib.optimize("asked", trials=4, evaluate=False, progress=False)
        assert (part.complete, part.test, len(part.trials)) == (True, None, 4)
    assert capsys.readouterr().out == ""
    assert not Path("optuna.journal").exists()
    assert not Path("mlflow.db").exists()
    given = {"storage": places["SEARCHLIB_STORAGE"], "tracking_uri": places["MLFLOW_TRACKING_URI"]}
    done = searchlib.optimize(Path("questions/asked.py"), data_root="elsewhere", progress=False, **given)
    assert done.trials[:4].equals(part.trials)
    assert (done.complete, len(done.trials)) == (True, 12)
    assert done.test is not None
    assert searchlib.result("asked", studies="questions", **given).test == done.test


SCRIPT = """
import os, torch, searchlib
from searchlib import Choice, LogUniform, Study, idx_dataset

HIDDEN = 8

def net(config, dataset):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(dataset.inputs, HIDDEN), config.build_activation(),
                               torch.nn.Linear(HIDDEN, dataset.outputs))

print("begun", os.getpid(), flush=True)
study = Study(
    name="script", question="Which of two?", model=net, trials=int(os.environ["TRIALS"]), round_size=4, sampler="tpe",
    dataset=idx_dataset(
        name="blobs", title="Blobs", classes=("low", "middle", "high"), shape=(6, 6), train=240, test=60
    ),
    nuisance={"learning_rate": LogUniform(0.01, 1.0), "activation": Choice("tanh", "relu")}, fixed={"epochs": 1},
)
result = searchlib.optimize(study, evaluate=False)
print(result, flush=True)
"""


def script(trials: int, source: str = SCRIPT) -> subprocess.Popen[str]:
    """A script that asks a question, without a guard for its main part; its network is a function of its own."""
    Path("script.py").write_text(source)
    return subprocess.Popen(
        [sys.executable, "script.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TRIALS": str(trials)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_a_script_needs_no_guard_and_says_what_an_interrupt_leaves() -> None:
    prepare()
    process = script(4000)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(2)]
    assert re.match(r"\d/4000 trials", lines[1]), lines
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    last = errors.splitlines()[-1]
    saved = re.fullmatch(r"KeyboardInterrupt: (\d+) of 4000 trials are saved; run the same again to resume", last)
    assert saved, errors
    target = int(saved[1]) + 4
    process = script(target)
    out, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    assert out.count("begun") == 1, "nothing imported the script again"
    assert out.endswith(f"<Result of study 'script': {target} of {target} trials>\n")
    _, errors = script(9999, SCRIPT.replace("HIDDEN = 8", "HIDDEN = 16")).communicate(timeout=120)
    assert "study 'script' has changed since its first trial (code: " in errors
    assert "give it another name to start again" in errors


REFUSED = [
    (lambda: searchlib.optimize("askd"), "did you mean asked"),
    (lambda: searchlib.optimize(5), "study 5: expected a name, the path of a study file, or a Study"),  # type: ignore[arg-type]
    (lambda: searchlib.optimize("asked", trials=0), "trials=0: expected a whole number of 1 or more"),
    (lambda: searchlib.optimize("asked", trials="12"), "trials='12'"),  # type: ignore[arg-type]
    (lambda: searchlib.optimize("asked", timeout=-1), "timeout=-1: expected seconds, above 0"),
    (lambda: searchlib.optimize("asked", timeout=float("nan")), "timeout=nan: expected seconds"),
    (lambda: searchlib.optimize("asked", device="gpu"), "unknown device 'gpu'"),
    (lambda: searchlib.optimize("asked", studies="elsewhere"), "studies folder 'elsewhere' isn't there"),
    (lambda: searchlib.result("asked"), "study 'asked' has not begun.*run searchlib optimize --study asked"),
]


@pytest.mark.parametrize(("call", "expected"), REFUSED, ids=[expected[:40] for _, expected in REFUSED])
def test_bad_input_is_one_line(call, expected: str) -> None:
    write_study()
    with pytest.raises(SearchlibError, match=expected) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert {path.name for path in Path().iterdir()} == {"studies"}, "nothing was created"


def test_a_result_of_another_study_is_refused(done: Result) -> None:
    with pytest.raises(StudyError, match="has changed since its first trial .*give it another name"):
        searchlib.result(small_study(**SMALL, seed=1))
    with pytest.raises(StorageError, match="has not begun"):
        searchlib.result(Study(question="?", dataset="digits", sampler="tpe"))


def test_the_command_line_decides_nothing() -> None:
    """It reaches the search through the library alone."""
    assert {room(name) for name, targets in graph().items() if "searchlib.search" in targets} == {"library"}
