"""The command line as a process: the main job end to end, interruption, and bad input in one line each."""

from __future__ import annotations

import contextlib
import csv
import html
import io
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pandas
import pytest
from click.testing import CliRunner
from support import STORAGE, prepare, search, write_idx
from support.command import command, commands, searchlib, start, write_study

from searchlib.analysis import study_status
from searchlib.cli.main import cli, main
from searchlib.cli.terminal import Output, show_progress
from searchlib.errors import SearchlibError
from searchlib.stores.mlflow_store import connect
from searchlib.stores.storage import open_storage
from searchlib.stores.stores import Stores
from searchlib.study.loading import load_study


def assert_refused(done: subprocess.CompletedProcess[str], *expected: str, status: int = 1) -> None:
    """One line on stderr, with these words, and no traceback."""
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    if status == 1:
        assert done.stderr.startswith("Error: ")
        assert done.stderr.count("\n") == 1, done.stderr
    for words in expected:
        assert words in done.stderr


def test_the_main_job_end_to_end() -> None:
    """One command; then the results, read through Optuna's and MLflow's own APIs."""
    write_study(("trials=12,", "trials=12,\n    replicates=3,"))
    write_idx(Path("data"))  # and no store at all: the command makes both
    done = searchlib("optimize", "--study", "asked")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "12/12 trials" in done.stdout
    tested = (
        r"test accuracy +[01]\.\d+ +\(95 % interval 0\.\d+ to \d\.\d+, n = 60; trial \d+, replicate \d+; opened once"
    )
    assert re.search(tested, done.stdout)
    told = re.search(r"best over seeds +(.*), val_accuracy ([01]\.\d{4}), mean of 3\n", done.stdout)
    assert told is not None
    assert f"{told[1]} has the best validation accuracy: {told[2]}" in done.stdout, "the answer says the same"

    trials = optuna.load_study(study_name="asked", storage=open_storage("optuna.journal")).get_trials()
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 12
    client = connect(None)
    assert Path("mlflow.db").exists()
    experiment = client.get_experiment_by_name("asked")
    runs = client.search_runs([experiment.experiment_id])
    kinds = [found.data.tags["searchlib.kind"] for found in runs]
    assert sorted(kinds) == [*["replicate"] * 12, "study", *["trial"] * 12]
    parent = next(found for found in runs if found.data.tags["searchlib.kind"] == "study")
    assert "system/cpu_utilization_percentage" in parent.data.metrics
    assert {file.path for file in client.list_artifacts(parent.info.run_id, "study")} == {
        "study/asked.py",
        "study/study.json",
    }

    status = json.loads(searchlib("status", "--study", "asked", "--json").stdout)
    assert status["study"] == "asked"
    assert status["trials"] == {
        "target": 12,
        "total": 12,
        "completed": 12,
        "pruned": 0,
        "diverged": 0,
        "failed": 0,
        "running": 0,
    }
    best = max(trials, key=lambda trial: (trial.value, -trial.number))
    assert status["best"] == {"number": best.number, "value": best.value, "params": best.params}
    assert status["test"]["replicate"] in (1, 2, 3), "the champion is a replicate"
    assert status["test"]["accuracy"] == parent.data.metrics["test_accuracy"]

    again = searchlib("optimize", "--study", "asked")
    assert again.returncode == 0
    assert "trials," not in again.stdout
    evaluated = searchlib("evaluate", "--study", "asked")
    assert f"{status['test']['accuracy']:.4f}" in evaluated.stdout
    assert_refused(searchlib("optimize", "--study", "asked", "--trials", "16"), "closed", "new name")
    predicted = searchlib("predict", "--study", "asked", "--index", "0")
    assert re.match(r"validation image 0: (low|middle|high)", predicted.stdout), predicted.stderr
    listed = searchlib("list")
    assert "12/12 trials" in listed.stdout


def test_what_a_finished_study_says(tmp_path: Path) -> None:
    """report, report --json, export and status agree on the same study."""
    write_study(("trials=12,", "trials=8,\n    replicates=2,"))
    write_idx(Path("data"))
    assert searchlib("optimize", "--study", "asked", "--no-evaluate").returncode == 0
    assert "Which of two?" in Path("asked.html").read_text()
    found = json.loads(searchlib("report", "--study", "asked", "--json").stdout)
    assert {"cells", "comparisons", "winner", "resolved", "effects", "importances", "test"} <= set(found)
    assert [cell["n"] for cell in found["cells"]] == [2, 2, 2, 2]
    assert found["test"] is None
    done = searchlib("report", "--study", "asked", "--output", "page.html")
    assert done.stdout.strip().splitlines() == [found["answer"], "written to page.html"]
    assert found["answer"] in html.unescape(Path("page.html").read_text())
    rows = list(csv.DictReader(io.StringIO(searchlib("export", "--study", "asked").stdout)))
    assert [row["study"] for row in rows] == ["asked"] * 8 + ["asked.replicates"] * 8
    winner = [float(row["value"]) for row in rows if row["source"] == str(found["winner"]["trial"])]
    assert sum(winner) / 2 == pytest.approx(found["cells"][0]["mean"])
    parquet = subprocess.run(command("export", "--study", "asked", "--format", "parquet"), capture_output=True)
    assert parquet.returncode == 0, parquet.stderr
    assert len(pandas.read_parquet(io.BytesIO(parquet.stdout))) == 16
    written = searchlib("export", "--study", "asked", "--format", "json", "--output", "rows.json")
    assert (written.stdout, written.stderr) == ("", "written to rows.json\n")
    assert len(json.loads(Path("rows.json").read_text())) == 16
    status = json.loads(searchlib("status", "--study", "asked", "--json").stdout)
    assert status["replicates"]["finished"] is True
    assert status["trials"]["total"] == 8


def test_diagnose() -> None:
    done = searchlib("diagnose", "--initializer", "normal", "--activation", "sigmoid", "--depth", "2", "--width", "64")
    assert done.returncode == 0, done.stderr
    assert "saturated at initialization" in done.stdout
    assert "plotly" in Path("diagnose.html").read_text().lower()
    assert_refused(
        searchlib("diagnose", "--initializer", "xavier", "--activation", "relu"), "did you mean xavier_normal"
    )
    assert searchlib("diagnose", "--initializer", "zeros", "--activation", "relu", "--depth", "0").returncode == 0


def test_ctrl_c_saves_and_the_same_command_resumes() -> None:
    write_study(("trials=12", "trials=400"))
    prepare()
    process = start("optimize", "--study", "asked")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    saved = int(re.search(r"Interrupted: (\d+) of 400 trials are saved", errors)[1])
    assert saved >= 4
    status = json.loads(searchlib("status", "--study", "asked", "--json").stdout)
    assert status["trials"]["completed"] == saved
    target = str(saved + 8)
    assert searchlib("optimize", "--study", "asked", "--trials", target, "--no-evaluate").returncode == 0
    status = json.loads(searchlib("status", "--study", "asked", "--json").stdout)
    assert (status["trials"]["completed"], status["trials"]["running"]) == (saved + 8, 0)


def told(*arguments: str) -> str:
    """What a command that is run in this process prints."""
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_what_is_said_of_an_interrupted_study() -> None:
    """``status`` tells finished from interrupted and from running; means count the seeds of earlier calls, too."""
    write_study(("trials=12,", "trials=12,\n    replicates=5,"), ("Choice(16, 32)", "Choice(16)"))
    prepare()
    study = load_study("asked")
    steps = search(study)
    for at in steps:
        if at.done >= 4 and study_status(study, Stores(STORAGE).read(study)).trials.running:
            break
    assert re.search(
        r"(?m)^\d+ of 12 trials finished(: .*\d+ completed.*)?; \d+ in training$", told("status", "--study", "asked")
    )
    steps.close()
    counts = study_status(study, Stores(STORAGE).read(study)).trials
    said = told("status", "--study", "asked")
    assert f"{counts.completed + counts.diverged} of 12 trials finished: " in said
    assert f"; {counts.running} interrupted\n" in said
    assert "replicates not begun" in said

    steps = search(study)
    for at in steps:
        if at.phase == "replicates" and at.finished:
            break
    steps.close()
    before = study_status(study, Stores(STORAGE).read(study))
    ran = before.replicates.completed
    assert 0 < ran < 20
    said = told("status", "--study", "asked")
    assert "12 of 12 trials finished" in said
    assert f"replicates so far: {ran} runs, 0 of at most 5 seeds a cell" in said

    shown = io.StringIO()
    show_progress(study, search(study), before, Output(file=shown, width=200))
    seeds = [cell.replicates for cell in study_status(study, Stores(STORAGE).read(study)).cells]
    assert [len(values) for values in seeds] == [5] * 4
    assert f"best mean {max(map(sum, seeds)) / 5:.4f} (5)" in shown.getvalue().splitlines()[-1]
    assert "replicates finished: 20 runs, 5 of at most 5 seeds" in told("status", "--study", "asked")


ASKED = ("--study", "asked")
READERS = [
    ("list",),
    ("status", *ASKED),
    ("status", *ASKED, "--json"),
    ("export", *ASKED),
    ("report", *ASKED, "--output", "../page.html"),
    ("report", *ASKED, "--json"),
    ("verify", *ASKED),
    ("predict", *ASKED, "--index", "0"),
]


@pytest.mark.parametrize("storage", ["optuna.journal", "sqlite:///optuna.db"])
@pytest.mark.parametrize("arguments", [*READERS, ("verify", *ASKED, "--repair"), ("evaluate", *ASKED)], ids=" ".join)
def test_nothing_is_created_where_nothing_is(arguments: tuple[str, ...], storage: str) -> None:
    write_study()
    write_idx(Path("data"))
    given = () if arguments[0] == "predict" else ("--storage", storage)
    done = CliRunner().invoke(cli, [*arguments, *given])
    assert {path.name for path in Path().iterdir()} == {"studies", "data"}
    if arguments[0] in ("list", "status", "export"):
        assert done.exit_code == 0
    else:
        assert isinstance(done.exception, SearchlibError)
    if arguments[0] in ("report", "verify"):
        assert "study 'asked' has not begun" in str(done.exception)
        assert "run searchlib optimize --study asked" in str(done.exception)


def test_nothing_is_created_beside_stores_that_are_elsewhere() -> None:
    write_study(("trials=12,", "trials=4,"))
    prepare()
    list(search(load_study("asked")))
    Path("here").mkdir()
    os.chdir("here")
    places = {
        "--studies": "../studies",
        "--storage": "../optuna.journal",
        "--tracking-uri": "sqlite:///../mlflow.db",
        "--data-root": "../data",
    }
    for name, *arguments in READERS:
        taken = {parameter.opts[0] for parameter in cli.commands[name].params}
        given = [word for option, place in places.items() if option in taken for word in (option, place)]
        done = CliRunner().invoke(cli, [name, *arguments, *given])
        assert (done.exit_code == 0) == (name != "predict"), done.exception  # which finds no champion
        assert list(Path().iterdir()) == [], name
    done = CliRunner().invoke(cli, ["verify", *ASKED, "--studies", "../studies", "--storage", "../optuna.journal"])
    assert "mlflow.db' isn't there" in str(done.exception)
    assert list(Path().iterdir()) == []


def refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """The one line with which a command that is run in this process ends."""
    monkeypatch.setattr(sys, "argv", ["searchlib", *arguments])
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("Error: ")
    assert said.count("\n") == 1
    return said


def test_a_command_in_a_message_can_be_pasted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the options of the command line that it answers."""
    write_study()
    Path("studies").rename("my studies")
    storage, uri = ("--storage", "my storage.journal"), ("--tracking-uri", "https://ann:zqx@example.org")
    said = refused(capsys, monkeypatch, "evaluate", "--studies", "my studies", *ASKED, *storage, *uri)
    remedy = said.strip().partition("; run searchlib ")[2]
    assert remedy == (
        "optimize --study asked --studies 'my studies' --storage 'my storage.journal' "
        "--tracking-uri 'https://ann:***@example.org'"
    )
    name, *arguments = shlex.split(remedy)
    parsed = cli.commands[name].make_context(name, arguments, **cli.context_settings).params
    assert (parsed["study"], str(parsed["studies"]), parsed["storage"]) == ("asked", "my studies", storage[1])

    path = ("--study", "my studies/asked.py")
    said = refused(capsys, monkeypatch, "verify", *path, *storage, "--data-root", "d")
    assert said.endswith(
        "; run searchlib optimize --study 'my studies/asked.py' --storage 'my storage.journal' --data-root d, or give "
        "another --storage\n"
    )
    monkeypatch.setenv("SEARCHLIB_STORAGE", "from.journal")
    said = refused(capsys, monkeypatch, "report", *path)
    assert said.endswith("; run searchlib optimize --study 'my studies/asked.py', or give another --storage\n")

    Path("mnist.py").write_text("from searchlib import Study\nSTUDY = Study(question='?', dataset='mnist')\n")
    said = refused(capsys, monkeypatch, "predict", "--study", "mnist.py", "--index", "0", "--data-root", "d")
    assert "`searchlib data fetch mnist --data-root d`" in said
    assert not Path("d").exists()


def test_parquet_is_for_no_terminal() -> None:
    write_study()
    ours, terminal = pty.openpty()
    with os.fdopen(terminal, "w") as stdout, contextlib.redirect_stdout(stdout):
        with pytest.raises(SearchlibError, match=r"binary, not for a terminal; give a file: --output asked\.parquet"):
            cli(["export", *ASKED, "--format", "parquet"], standalone_mode=False)
        cli(["export", *ASKED], standalone_mode=False)
    os.close(ours)


def test_evaluate_says_what_is_missing() -> None:
    write_study()
    prepare(parts=("train",))
    assert searchlib("optimize", "--study", "asked", "--no-evaluate").returncode == 0
    assert_refused(searchlib("evaluate", "--study", "asked"), "t10k-images-idx3-ubyte")
    prepare()
    first, second = (searchlib("evaluate", "--study", "asked") for _ in range(2))
    assert first.returncode == 0
    assert first.stdout == second.stdout


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([("trials=12,", "trials=12,,")], ["asked.py:13", "invalid syntax"]),
        ([("STUDY =", "STUDIES =")], ["asked.py", "defines no STUDY"]),
        ([("momentum", "momentun")], ["momentun", "did you mean", "momentum"]),
        ([("question=", "questoin=")], ["questoin", "did you mean question"]),
        ([("LogUniform(0.01, 1.0)", "LogUniform(1.0, 0.01)")], ["LogUniform(1.0, 0.01)", "empty"]),
        ([("LogUniform(0.01, 1.0)", "Choice()")], ["Choice()", "no value"]),
        ([("LogUniform(0.01, 1.0)", "Choice(0.1, -0.1)")], ["learning_rate=-0.1", "above 0"]),
        ([("LogUniform(0.01, 1.0)", "Choice(0.0)")], ["learning_rate=0.0", "above 0"]),
        ([('"normal"', '"normall"')], ["normall", "did you mean", "normal"]),
        ([('"relu"', '"rellu"')], ["rellu", "did you mean", "relu"]),
        ([("trials=12", 'trials=12, sampler="tpee"')], ["tpee", "did you mean tpe"]),
        ([("Choice(16, 32)", "Choice(16, 320)")], ["batch_size=320", "200 examples", "at most 200"]),
    ],
)
def test_bad_study_files(changes, expected) -> None:
    write_study(*changes)
    write_idx(Path("data"))
    assert_refused(searchlib("optimize", "--study", "asked"), *expected)


def test_unknown_data_set() -> None:
    Path("studies").mkdir()
    Path("studies/asked.py").write_text(
        'from searchlib import Study\nSTUDY = Study(question="?", dataset="fashion_mnst", sampler="tpe")\n'
    )
    assert_refused(searchlib("status", "--study", "asked"), "asked.py:2", "fashion_mnst", "did you mean fashion_mnist")


def test_unknown_study_and_paths_that_are_none() -> None:
    write_study()
    assert_refused(searchlib("optimize", "--study", "askd"), "unknown study 'askd'", "did you mean asked")
    for path in ("../../etc/passwd", "/etc/passwd", "studies/asked", "studies/../studies/asked", ""):
        done = searchlib("optimize", "--study", path)
        assert_refused(done, "expected a name")
        assert "root:" not in done.stderr + done.stdout
    assert_refused(searchlib("optimize", "--study", "nowhere.py"), "nowhere.py", "isn't there")
    assert_refused(searchlib("list", "--studies", "elsewhere"), "elsewhere", "--studies")


def test_bad_stores_and_devices() -> None:
    write_study()
    prepare()
    Path("notes.txt").write_text("not a journal\n")
    job = ("optimize", "--study", "asked")
    assert_refused(searchlib(*job, "--storage", "notes.txt"), "notes.txt", "no journal")
    assert Path("notes.txt").read_text() == "not a journal\n"
    assert_refused(searchlib(*job, "--storage", "."), "is a folder")
    assert_refused(searchlib(*job, "--storage", "nowhere/optuna.journal"), "nowhere", "isn't there")
    assert_refused(searchlib(*job, "--storage", "redis://me:secret@host/0"), "***", "expected a path")
    assert_refused(searchlib(*job, "--tracking-uri", "sqlite:///nowhere/mlflow.db"), "nowhere", "isn't there")
    assert_refused(searchlib(*job, "--device", "cuda:7"), "cuda:7", "isn't there")
    assert_refused(searchlib(*job, "--device", "gpu"), "unknown device 'gpu'")


def test_a_data_folder_that_cannot_be_written() -> None:
    Path("studies").mkdir()
    Path("studies/asked.py").write_text(
        'from searchlib import Study\nSTUDY = Study(question="?", dataset="mnist", sampler="tpe")\n'
    )
    Path("taken").write_text("a file where a folder should be")
    assert_refused(searchlib("optimize", "--study", "asked", "--data-root", "taken"), "taken", "--data-root")


def test_a_full_disk() -> None:
    """A small file system that fills up: one line, and what was recorded stays readable."""
    write_study(("trials=12", "trials=4000"))
    prepare()
    limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1_200_000, 1_200_000)); "
    start = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); from searchlib.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", limit + start, "optimize", "--study", "asked"],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 1
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr
    status = json.loads(searchlib("status", "--study", "asked", "--json").stdout)
    assert 0 <= status["trials"]["completed"] < 4000


@pytest.mark.parametrize(
    "arguments",
    [
        ("optimize", "--study", "asked", "--trials", "0"),
        ("optimize", "--study", "asked", "--timeout", "-1"),
        ("optimize",),
        ("predict", "--study", "asked", "--index", "-1"),
        ("nonsense",),
        ("optimize", "--study", "asked", "--nonsense"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    write_study()
    assert_refused(searchlib(*arguments), "Usage", status=2)


def test_debug_shows_the_traceback() -> None:
    write_study()
    done = searchlib("optimize", "--study", "askd", "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


@pytest.mark.parametrize(("path", "found"), [pytest.param(*pair, id=" ".join(pair[0])) for pair in commands()])
def test_every_command_has_help_with_an_example_and_is_in_the_readme(path, found) -> None:
    assert found.help
    if hasattr(found, "commands"):
        return
    assert f"Example: searchlib {' '.join(path)}" in found.help
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert f"searchlib {' '.join(path)}" in readme


def test_ui_starts_both_dashboards_and_stops_them() -> None:
    import urllib.request

    write_study()
    prepare()
    assert searchlib("optimize", "--study", "asked", "--trials", "4", "--no-evaluate").returncode == 0
    process = start("ui", "--study", "asked", stderr=subprocess.STDOUT)
    assert process.stdout is not None
    output = [process.stdout.readline() for _ in range(4)]
    addresses = [line.split()[-1] for line in output if "http://127.0.0.1:" in line]
    assert len(addresses) == 2, output
    try:
        for address in addresses:
            with urllib.request.urlopen(address, timeout=30) as page:
                assert page.status == 200
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 0
    deadline = time.monotonic() + 10
    for address in addresses:
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(address, timeout=2).close()
            except OSError:
                break
            time.sleep(0.2)
        else:
            pytest.fail(f"{address} still answers")
