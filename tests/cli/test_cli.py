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
import sys
from pathlib import Path

import optuna
import pandas
import pytest
from click.testing import CliRunner, Result
from support import STORAGE, mlflow_runs, prepare, search, write_idx
from support.command import commands, searchlib, told, write_study

from searchlib.analysis import study_status
from searchlib.cli.main import cli, main
from searchlib.errors import SearchlibError
from searchlib.report.progress import show_progress
from searchlib.stores.mlflow_store import connect
from searchlib.stores.storage import open_storage
from searchlib.stores.stores import Stores
from searchlib.study.loading import load_study

ASKED = ("--study", "asked")


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a study that one command took from nothing to its test result, and what the command printed."""
    folder = tmp_path_factory.mktemp("main_job")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_study(("trials=12,", "trials=12,\n    replicates=3,"))
        write_idx(Path("data"))  # and no store at all: the command makes both
        done = searchlib("optimize", *ASKED)
    assert (done.returncode, done.stderr) == (0, "")
    return folder, done.stdout


@pytest.fixture
def printed(answered: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What that command printed; the working folder is the study's."""
    monkeypatch.chdir(answered[0])
    return answered[1]


def test_the_main_job_end_to_end(printed: str) -> None:
    """One command; then the results, read through Optuna's and MLflow's own APIs."""
    assert "12/12 trials" in printed
    tested = (
        r"test accuracy +[01]\.\d+ +\(95 % interval 0\.\d+ to \d\.\d+, n = 60; trial \d+, replicate \d+; opened once"
    )
    assert re.search(tested, printed)
    best = re.search(r"best over seeds +(.*), val_accuracy ([01]\.\d{4}), mean of 3\n", printed)
    assert best is not None
    assert f"{best[1]} has the best validation accuracy: {best[2]}" in printed, "the answer says the same"

    trials = optuna.load_study(study_name="asked", storage=open_storage("optuna.journal")).get_trials()
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 12
    study = load_study("asked")
    (parent,) = mlflow_runs(study, "study")
    assert [len(mlflow_runs(study, kind)) for kind in ("trial", "replicate")] == [12, 12]
    assert "system/cpu_utilization_percentage" in parent.data.metrics
    assert {file.path for file in connect(None).list_artifacts(parent.info.run_id, "study")} == {
        "study/asked.py",
        "study/study.json",
    }
    status = json.loads(told("status", *ASKED, "--json"))
    assert status["study"] == "asked"
    ended = dict.fromkeys(("pruned", "diverged", "failed", "running"), 0)
    assert status["trials"] == {"target": 12, "total": 12, "completed": 12, **ended}
    leader = max(trials, key=lambda trial: (trial.value, -trial.number))
    assert status["best"] == {"number": leader.number, "value": leader.value, "params": leader.params}
    assert status["replicates"]["finished"] is True
    assert status["test"]["replicate"] in (1, 2, 3), "the champion is a replicate"
    assert status["test"]["accuracy"] == parent.data.metrics["test_accuracy"]
    assert f"{status['test']['accuracy']:.4f}" in told("evaluate", *ASKED)
    assert "trials," not in told("optimize", *ASKED), "nothing is left to do"
    assert "12/12 trials" in told("list")
    assert re.match(r"validation image 0: (low|middle|high)", told("predict", *ASKED, "--index", "0"))


def test_what_a_finished_study_says(printed: str) -> None:
    """report, report --json and export agree on the same study."""
    assert "Which of two?" in Path("asked.html").read_text()
    found = json.loads(told("report", *ASKED, "--json"))
    assert {"cells", "comparisons", "winner", "resolved", "effects", "importances", "test"} <= set(found)
    assert [cell["n"] for cell in found["cells"]] == [3, 3, 3, 3]
    assert told("report", *ASKED, "--output", "page.html").splitlines() == [found["answer"], "written to page.html"]
    assert found["answer"] in html.unescape(Path("page.html").read_text())
    rows = list(csv.DictReader(io.StringIO(told("export", *ASKED))))
    assert [row["study"] for row in rows] == ["asked"] * 12 + ["asked.replicates"] * 12
    winner = [float(row["value"]) for row in rows if row["source"] == str(found["winner"]["trial"])]
    assert sum(winner) / 3 == pytest.approx(found["cells"][0]["mean"])
    parquet = CliRunner().invoke(cli, ["export", *ASKED, "--format", "parquet"])
    assert len(pandas.read_parquet(io.BytesIO(parquet.stdout_bytes))) == 24
    written = CliRunner().invoke(cli, ["export", *ASKED, "--format", "json", "--output", "rows.json"])
    assert (written.stdout, written.stderr) == ("", "written to rows.json\n")
    assert len(json.loads(Path("rows.json").read_text())) == 24


def test_diagnose() -> None:
    pair = ("--initializer", "normal", "--activation", "sigmoid")
    assert "saturated at initialization" in told("diagnose", *pair, "--depth", "2", "--width", "64")
    assert "plotly" in Path("diagnose.html").read_text().lower()
    assert told("diagnose", "--initializer", "zeros", "--activation", "relu", "--depth", "0")


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

    with contextlib.redirect_stdout(io.StringIO()) as shown:
        show_progress(study, search(study), before)
    seeds = [cell.replicates for cell in study_status(study, Stores(STORAGE).read(study)).cells]
    assert [len(values) for values in seeds] == [5] * 4
    assert f"best mean {max(map(sum, seeds)) / 5:.4f} (5)" in shown.getvalue().splitlines()[-1]
    assert "replicates finished: 20 runs, 5 of at most 5 seeds" in told("status", "--study", "asked")


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
    """A search leaves its report, artifacts and working files; what reads leaves nothing."""
    write_study(("trials=12,", "trials=4,"))
    prepare()
    places = {
        "--studies": "../studies",
        "--storage": "../optuna.journal",
        "--tracking-uri": "sqlite:///../mlflow.db",
        "--data-root": "../data",
    }

    def beside(name: str, *arguments: str) -> Result:
        taken = {parameter.opts[0] for parameter in cli.commands[name].params}
        given = [word for option, place in places.items() if option in taken for word in (option, place)]
        return CliRunner().invoke(cli, [name, *arguments, *given])

    for folder in ("searched", "read"):
        Path(folder).mkdir()
    with contextlib.chdir("searched"):
        assert beside("optimize", *ASKED, "--no-evaluate").exit_code == 0
        assert {path.name for path in Path().iterdir()} <= {"asked.html", "mlruns", ".searchlib"}
    with contextlib.chdir("read"):
        for name, *arguments in READERS:
            done = beside(name, *arguments)
            assert (done.exit_code == 0) == (name != "predict"), done.exception  # which finds no champion
            assert list(Path().iterdir()) == [], name
        del places["--tracking-uri"]
        assert "mlflow.db' isn't there" in str(beside("verify", *ASKED).exception)
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


def test_the_shell_completes_the_names_of_studies(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    write_study()
    write_study(name="other")
    monkeypatch.setenv("_SEARCHLIB_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "searchlib status --study as")
    monkeypatch.setenv("COMP_CWORD", "3")
    with pytest.raises(SystemExit) as done:
        main()
    assert (done.value.code, capsys.readouterr().out) == (0, "plain,asked\n")


def test_parquet_is_for_no_terminal() -> None:
    write_study()
    ours, terminal = pty.openpty()
    with os.fdopen(terminal, "w") as stdout, contextlib.redirect_stdout(stdout):
        with pytest.raises(SearchlibError, match=r"binary, not for a terminal; give a file: --output asked\.parquet"):
            cli(["export", *ASKED, "--format", "parquet"], standalone_mode=False)
        cli(["export", *ASKED], standalone_mode=False)
    os.close(ours)


REFUSED = [
    (("status", "--study", "bad"), "bad.py:1: "),
    (("optimize", "--study", "../../etc/passwd"), "expected a name"),
    (("list", "--studies", "elsewhere"), "--studies"),
    (("optimize", *ASKED, "--storage", "notes.txt"), "no journal of Optuna"),
    (("optimize", *ASKED, "--tracking-uri", "sqlite:///nowhere/mlflow.db"), "the folder 'nowhere' isn't there"),
    (("optimize", *ASKED, "--data-root", "notes.txt"), "--data-root"),
    (("optimize", *ASKED, "--device", "cuda:7"), "'cuda:7' isn't there"),
    (("diagnose", "--initializer", "xavier", "--activation", "relu"), "did you mean xavier_normal"),
]


@pytest.mark.parametrize(("arguments", "expected"), REFUSED, ids=[expected for _, expected in REFUSED])
def test_an_error_is_one_line(arguments, expected: str, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    write_study()
    Path("studies/bad.py").write_text("STUDY = [")
    Path("notes.txt").write_text("not a journal\n")
    assert expected in refused(capsys, monkeypatch, *arguments)
    assert Path("notes.txt").read_text() == "not a journal\n"


def test_the_exit_status_of_a_process() -> None:
    write_study()
    done = searchlib("optimize", "--study", "askd")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    done = searchlib("optimize", "--study", "askd", "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


@pytest.mark.parametrize(
    "line",
    [
        "optimize --study asked --trials 0", "optimize --study asked --timeout -1", "optimize", "nonsense",
        "predict --study asked --index -1", "optimize --study asked --nonsense",
    ],
)  # fmt: skip
def test_wrong_usage(line: str) -> None:
    write_study()
    done = CliRunner().invoke(cli, line.split())
    assert done.exit_code == 2
    assert "Usage" in done.stderr


@pytest.mark.parametrize(("path", "found"), [pytest.param(*pair, id=" ".join(pair[0])) for pair in commands()])
def test_every_command_has_help_with_an_example_and_is_in_the_readme(path, found) -> None:
    assert found.help
    if hasattr(found, "commands"):
        return
    assert f"Example: searchlib {' '.join(path)}" in found.help
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert f"searchlib {' '.join(path)}" in readme
