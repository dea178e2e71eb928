"""Places: one real path for each, whatever the names of folders and files are, and addresses that are quoted."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import optuna
import pytest
from sqlalchemy import URL
from support import prepare, run, search_all, stored
from support.command import told, write_study
from support.places import NAMES, ODD, STUDY, content, finished

from searchlib.cli import servers
from searchlib.errors import BusyError, SearchlibError, StorageError, TrackingError
from searchlib.files import temporary_folder
from searchlib.library import optimize
from searchlib.report.page import publish
from searchlib.results import export, predict, verify
from searchlib.results.holdout import evaluate
from searchlib.stores import mlflow_store
from searchlib.stores.journal import JournalLock
from searchlib.stores.mlflow_store import connect, store_address
from searchlib.stores.stores import Stores

# ----------------------------------------------------------------------------------------------------- names of folders


@pytest.mark.parametrize("name", NAMES)
def test_a_working_folder_of_any_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "above" / name
    finished(folder)
    monkeypatch.chdir(folder)
    found = verify(STUDY, Stores())
    assert not found.differences
    assert found.checkpoints == 1
    assert predict(STUDY, Stores(), 1).index == 1
    assert export(STUDY, Stores(), format="csv").count("\n") == 3
    assert os.listdir(folder.parent) == [name], "nothing lies in a folder of another name"
    assert list(Path("mlruns").rglob("checkpoint.safetensors"))
    client = connect(None)
    run_id = stored(STUDY).user_attrs["mlflow_run_id"]
    assert [file.path for file in client.list_artifacts(run_id)] == ["study"], "MLflow finds them"


@pytest.mark.parametrize("name", [ODD, "50%25?"])
def test_addresses_of_sqlite_files_are_sqlalchemys(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "above" / name
    folder.mkdir(parents=True)
    prepare()
    storage, store = (
        URL.create("sqlite", database=str(folder / file)).render_as_string() for file in ("optuna.db", "runs.db")
    )
    stores = Stores(storage, store)
    search_all(STUDY, stores)
    assert Stores(storage).count_trials() == {"small": 2}
    assert evaluate(STUDY, stores).trial in (0, 1)
    assert not verify(STUDY, stores).differences
    assert {*os.listdir(folder)} == {".searchlib", "mlruns", "optuna.db", "runs.db"}, "files lie beside their store"
    assert os.listdir(folder.parent) == [name]


def test_the_dashboards_in_such_a_folder_behind_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests to this machine go there, and the MLflow UI finds the files of a run."""
    folder = tmp_path / "above" / ODD
    finished(folder)
    monkeypatch.chdir(folder)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")
    run_id = stored(STUDY).user_attrs["mlflow_run_id"]
    with servers.dashboards(Stores()) as running:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"{running[0].address}/api/studies") as answer:
            assert [each["study_name"] for each in json.load(answer)["study_summaries"]] == ["small"]
        place = f"{running[1].address}/get-artifact?path={quote('study/study.json')}&run_uuid={run_id}"
        with direct.open(place) as answer:
            assert json.load(answer)["name"] == "small"
        client = connect(running[1].address)
        assert client.get_run(run_id).info.status == "FINISHED", "MLflow's client doesn't ask the proxy either"
    assert os.listdir(folder.parent) == [ODD]


def test_other_names_in_no_proxy_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "intern.example.org")
    monkeypatch.setenv("https_proxy", "http://proxy.example.org:3128")
    mlflow_store._reach_this_machine_directly()
    assert os.environ["no_proxy"] == "intern.example.org,localhost,127.0.0.1,127.0.0.0/8,::1"
    assert urllib.request.proxy_bypass("127.0.0.1")
    assert not urllib.request.proxy_bypass("example.org")


# ------------------------------------------------------------------------------------------------------- names of files


@pytest.mark.parametrize("link", [os.symlink, os.link], ids=["symbolic", "hard"])
def test_a_journal_with_two_names_has_one_lock(link: Callable[[str, str], None]) -> None:
    optuna.create_study(study_name="s", storage=Stores().optuna_storage)
    link("optuna.journal", "link.journal")
    first, second = JournalLock("optuna.journal"), JournalLock("link.journal")
    first.acquire()
    done = threading.Event()
    thread = threading.Thread(target=lambda: (second.acquire(), done.set()))
    thread.start()
    assert not done.wait(0.4)
    first.release()
    assert done.wait(5.0)
    second.release()
    thread.join()


WRITER = """
    import sys, optuna
    from searchlib.stores import Stores
    study = Stores(sys.argv[1]).optuna_study("s")
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(150):
        study._storage.set_study_user_attr(study._study_id, f"{sys.argv[2]}-{number}", "x" * 200)
"""


@pytest.mark.parametrize("link", [os.symlink, os.link], ids=["symbolic", "hard"])
def test_a_journal_with_two_names_loses_no_write(link: Callable[[str, str], None]) -> None:
    optuna.create_study(study_name="s", storage=Stores().optuna_storage)
    Path("elsewhere").mkdir()
    link(os.path.abspath("optuna.journal"), "elsewhere/link.journal")
    names = ["optuna.journal", "elsewhere/link.journal"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), name, str(index)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for index, name in enumerate(names)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=120)
        assert process.returncode == 0
    assert len(Stores().optuna_study("s").user_attrs) == 300
    assert not [path for path in Path().rglob("*") if path.name.endswith((".flock", ".lock"))]


@pytest.mark.parametrize("storage", ["optuna.journal", "sqlite:///optuna.db"])
def test_a_storage_with_two_names(storage: str) -> None:
    """A symbolic link is one place with the file; hard links are refused to those that write, as none of them is it."""
    optuna.create_study(study_name="s", storage=Stores(storage).optuna_storage)
    name = storage.removeprefix("sqlite:///")
    Path("link").symlink_to(name)
    linked = storage.replace(name, "link")
    with Stores(linked).lock("s", "optimize"), pytest.raises(BusyError), Stores(storage).lock("s", "optimize"):
        pass
    os.link(name, "second")
    with pytest.raises(StorageError, match=r"2 names \(hard links\).*symbolic links"):
        Stores(storage).lock("s", "optimize").__enter__()
    assert Stores(storage).count_trials() == {"s": 0}


def test_a_store_of_mlflow_with_two_names() -> None:
    prepare()
    Path("link.db").symlink_to("mlflow.db")
    assert store_address("sqlite:///link.db", Path()) == store_address(None, Path())
    os.link("mlflow.db", "second.db")
    with pytest.raises(TrackingError, match=r"2 names \(hard links\)"):
        search_all(STUDY)
    assert not Path("optuna.journal").exists(), "refused before anything was stored"


# ------------------------------------------------------------------------------------------------------- paths as given


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    (home / "studies").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    prepare(folder=home)
    shutil.move(write_study(("trials=12,", "trials=2,")), home / "studies")
    shutil.rmtree("studies")
    places = ("--storage", "~/o.journal", "--tracking-uri", "sqlite:///~/mlflow.db", "--data-root", "~/data")
    told("optimize", "--study", "asked", "--studies", "~/studies", *places, "--no-evaluate")
    told("export", "--study", "~/studies/asked.py", *places[:2], "--output", "~/trials.csv")
    assert {"o.journal", "mlruns", "trials.csv", ".searchlib"} <= {*os.listdir(home)}
    assert {*os.listdir()} == {"home", "asked.html"}


def test_a_study_file_that_changes_the_working_folder(tmp_path: Path) -> None:
    """The places of a command are those of the folder in which it began."""
    path = write_study(("trials=12,", "trials=2,"))
    Path("other").mkdir()
    path.write_text(f"import os\n\nos.chdir({str(tmp_path / 'other')!r})\n{path.read_text()}")
    prepare()
    with contextlib.chdir("."):
        told("optimize", "--study", "asked")
    with contextlib.chdir("."):
        told("report", "--study", "asked", "--output", "second.html")
    assert os.listdir("other") == []
    assert {"asked.html", "mlruns", "optuna.journal", "second.html"} <= {*os.listdir()}


def test_the_working_folder_changes_between_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_study(("trials=12,", "trials=2,"))
    prepare()
    found = optimize("asked", progress=False)
    Path("other").mkdir()
    monkeypatch.chdir("other")
    assert found.champion is not None
    assert len(found.trials) == 2
    again = optimize(found.study, storage=found.stores.place, tracking_uri=found.stores.tracking_address,
                     data_root=tmp_path / "data", progress=False)  # fmt: skip
    assert again.test == found.test
    prepare()
    new = optimize(found.study, progress=False)
    assert new.stores.place == str(tmp_path / "other" / "optuna.journal")
    assert list(Path("mlruns").rglob("checkpoint.safetensors")), "a second store, in the folder of the call"


@pytest.mark.parametrize("storage", ["folder", "folder/", "sqlite:///folder"])
def test_a_storage_that_is_a_folder(storage: str) -> None:
    Path("folder").mkdir()
    prepare()
    with pytest.raises(StorageError):
        search_all(STUDY, Stores(storage))
    assert os.listdir("folder") == []


def test_a_data_folder_that_is_a_link_and_may_only_be_read(tmp_path: Path) -> None:
    prepare()
    Path("data").rename("kept")
    Path("data").symlink_to("kept")
    before = content(Path("kept"))
    for path in Path("kept").rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    search_all(STUDY)
    assert content(Path("kept")) == before


@pytest.mark.parametrize("output", ["nowhere/r.html", "folder", "file/r.html"])
def test_a_report_that_cannot_be_written(output: str) -> None:
    run(STUDY)
    Path("folder").mkdir()
    Path("file").write_text("")
    with pytest.raises(SearchlibError, match="give another path with --output"):
        publish(STUDY, Stores(), output=Path(output))


def test_a_folder_for_temporary_files_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare()
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(SearchlibError, match=r"temporary files, '/nowhere', can't be written .*TMPDIR"):
        search_all(STUDY)


def test_a_folder_for_temporary_files_that_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=0))
    with (
        pytest.raises(SearchlibError, match=r"temporary files, .* can't be written \(No space left"),
        temporary_folder(),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=2**30))
    with pytest.raises(OSError, match="No space left"), temporary_folder():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # of another disk
