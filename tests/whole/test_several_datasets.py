"""A study of several data sets through the commands and the library: killed between its parts, resumed, reported."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner
from support import prepare
from support.command import searchlib, start, told, write_study

import searchlib as library
from searchlib import Results
from searchlib.cli.main import cli

ASKED = ("--study", "asked")
BLOBS = """dataset=idx_dataset(
        name="blobs", title="Blobs", classes=("low", "middle", "high"), shape=(6, 6), train=240, test=60
    )"""
CHANGES = (
    (BLOBS, f"datasets=({BLOBS.partition('=')[2]}, 'digits')"),
    ("trials=12,", "trials=8,\n    replicates=2,"),
)


def begin() -> None:
    """Data, an empty MLflow store and the study file, in the working folder."""
    prepare()
    write_study(*CHANGES)


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a study that one command took to its end, without interruption, and what the command printed."""
    folder = tmp_path_factory.mktemp("several")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        begin()
        printed = told("optimize", *ASKED)
    return folder, printed


@pytest.fixture
def printed(answered: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(answered[0])
    return answered[1]


def outcome() -> dict[str, object]:
    """What must not depend on kills: the values of all trials, and what is said across the data sets."""
    rows = csv.DictReader(io.StringIO(told("export", *ASKED)))
    values = [(row["study"], row["number"], row["value"], row["learning_rate"]) for row in rows]
    return {"values": values, "across": json.loads(told("report", *ASKED, "--json"))["across"]}


def ledger() -> dict[str, object]:
    found = json.loads(told("status", *ASKED, "--json"))["datasets"]
    return {name: one["test_ledger"] for name, one in found.items()}


def killed_after(words: str) -> str:
    """What the command printed before it was killed, at once after a line with these words."""
    process = start("optimize", *ASKED)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            break
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, "it was still at work"
    return "".join(lines) + rest


def test_kills_between_and_within_the_data_sets_change_nothing(answered: tuple[Path, str]) -> None:
    begin()
    first = killed_after("asked.blobs.html")  # the first data set is answered, the second isn't begun
    assert "asked.digits" not in first
    assert told("list").split()[1] == "8/16"
    opened = ledger()
    assert opened["blobs"] is not None
    assert opened["digits"] is None
    said = told("report", *ASKED)
    assert "Not finished: digits; so this may change. There is nothing to compare across data sets" in said
    second = killed_after("8/8 trials")
    assert "asked.blobs.html" in second, "what is done is shown again, and not trained"
    assert second.count("8/8 trials") == 1
    done = searchlib("optimize", *ASKED)
    assert (done.returncode, done.stderr) == (0, "")
    assert ledger()["blobs"] == opened["blobs"], "opened once"
    mine = outcome()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(answered[0])
        assert mine == outcome()


def test_the_summary_comes_after_the_data_sets(printed: str) -> None:
    assert re.findall(r"(?m)^study +(\S+):", printed) == ["asked.blobs", "asked.digits", "asked"]
    assert re.findall(r"(?m)^report +(\S+)", printed) == ["asked.blobs.html", "asked.digits.html", "asked.html"]
    assert re.findall(r"searchlib status --study (\S+)", printed) == ["asked.blobs", "asked.digits"]
    found = json.loads(told("report", *ASKED, "--json"))
    assert [*found] == ["datasets", "across"]
    assert [*found["datasets"]] == ["blobs", "digits"]
    for name, one in found["datasets"].items():
        assert one == json.loads(told("report", "--study", f"asked.{name}", "--json"))
        assert one["test"]["n"] == {"blobs": 60, "digits": 297}[name]
    answer = found["across"]["answer"]
    assert "No two of 4 cells can differ significantly over 2 data sets" in answer
    assert answer in printed
    page = Path("asked.html").read_text()
    assert 'href="asked.digits.html"' in page
    data = re.search(r'id="searchlib-data">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    assert json.loads(data[1])["across"] == found["across"]
    assert "trials," not in told("optimize", *ASKED), "nothing is left to do"


def test_each_command_serves_all_data_sets_or_names_them(printed: str) -> None:
    assert told("list").split()[:3] == ["asked", "16/16", "trials"]
    assert re.findall(r"(?m)^(asked\.\w+): ", told("status", *ASKED)) == ["asked.blobs", "asked.digits"]
    assert re.findall(r"(?m)^(asked\.\w+): test accuracy", told("evaluate", *ASKED)) == ["asked.blobs", "asked.digits"]
    assert [line.split(":")[0] for line in told("verify", *ASKED).splitlines()] == ["blobs", "digits"]
    assert [*json.loads(told("verify", *ASKED, "--json"))["datasets"]] == ["blobs", "digits"]
    rows = list(csv.DictReader(io.StringIO(told("export", *ASKED))))
    parts = [
        row
        for name in ("blobs", "digits")
        for row in csv.DictReader(io.StringIO(told("export", "--study", f"asked.{name}")))
    ]
    assert rows == parts
    assert {row["study"] for row in rows} == {
        f"asked.{name}{kind}" for name in ("blobs", "digits") for kind in ("", ".replicates")
    }
    planned = told("optimize", *ASKED, "--plan")
    assert re.findall(r"(?m)^study +(\S+)", planned) == ["asked.blobs", "asked.digits"]
    assert "validation image 0" in told("predict", "--study", "asked.digits", "--index", "0")
    for command in (("predict", "--index", "0"), ("ui",)):
        said = CliRunner().invoke(cli, [command[0], *ASKED, *command[1:]])
        assert "give one of asked.blobs, asked.digits" in str(said.exception)
    said = CliRunner().invoke(cli, ["status", "--study", "asked.blob"])
    assert "did you mean asked.blobs, asked.digits?" in str(said.exception)


def test_from_python(printed: str) -> None:
    found = library.result("asked")
    assert isinstance(found, Results)
    assert found.complete
    assert [*found.parts] == ["blobs", "digits"]
    assert found.answer in printed
    assert set(found.trials["dataset"]) == {"blobs", "digits"}
    assert len(found.trials) == 32
    assert found.cells["label"].tolist() == [cell.label for cell in found.findings.cells]
    assert found.cells["rank_digits"].tolist() == [cell.ranks["digits"] for cell in found.findings.cells]
    assert [*found.figures] == ["ranks"]
    assert "Which of two?" in found._repr_html_()
    again = library.optimize(found.study, progress=False)
    assert isinstance(again, Results)
    assert again.findings == found.findings
    assert again.page == Path("asked.html")
    part = library.result(found.study.parts[1])
    assert part.test == found.parts["digits"].test


def test_what_stops_early_says_so() -> None:
    begin()
    stopped = told("optimize", *ASKED, "--timeout", "1e-9")
    assert stopped.endswith("stopped by --timeout; the same command resumes\n")
    assert "Not finished: blobs, digits; so this may change." in stopped
    refused = CliRunner().invoke(cli, ["report", "--study", "asked.digits"])
    assert "study 'asked.digits' has not begun" in str(refused.exception)


def test_missing_data_are_known_before_the_first_training() -> None:
    begin()
    shutil.rmtree("data/Blobs")
    write_study((BLOBS, f"datasets=('digits', {BLOBS.partition('=')[2]})"))
    refused = CliRunner().invoke(cli, ["optimize", *ASKED])
    assert "Blobs: no good train-images" in str(refused.exception)
    assert json.loads(told("status", *ASKED, "--json"))["datasets"]["digits"]["trials"]["total"] == 0
