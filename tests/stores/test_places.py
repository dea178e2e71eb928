"""Places: one real path for each, addresses quoted by the library that reads them, and reading that only reads."""

from __future__ import annotations

import contextlib
import errno
import grp
import json
import os
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import optuna
import pytest
from sqlalchemy import URL
from support import prepare, run, search_all, small_study, stored
from support.command import told, write_study

from searchlib import LogUniform
from searchlib.cli import servers
from searchlib.data import sources
from searchlib.errors import BusyError, SearchlibError, StorageError, TrackingError
from searchlib.files import temporary_folder
from searchlib.library import optimize, result
from searchlib.report.page import publish
from searchlib.results import export, predict, repair, verify
from searchlib.results.holdout import evaluate
from searchlib.stores import mlflow_store
from searchlib.stores.journal import JournalLock
from searchlib.stores.mlflow_store import connect, store_address
from searchlib.stores.stores import Stores

ODD = "a b#c%20d é'q"
NAMES = [ODD, "50% Übung? {x};a&b", "n" * 200, "%C3%A9" * 30]
STUDY = small_study(trials=2, round_size=2, scientific={}, nuisance={"learning_rate": LogUniform(0.01, 1.0)})


def finished(folder: Path) -> None:
    """A study that was searched and evaluated in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(folder):
        run(STUDY)
        evaluate(STUDY, Stores())


def content(folder: Path) -> dict[Path, bytes | str | None]:
    """All files below a folder, and where links point to."""
    return {
        path: os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


# ---------------------------------------------------------------------------------------------------- names of folders


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


# -------------------------------------------------------------------------------------------------------------- moving


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / ODD
    finished(folder)
    return folder


def moved(made: Path, old: Path, new: Path, how: str) -> None:
    """Put the study into *old*, then move or copy it to *new*; a copy leaves files in *old* that nobody may read."""
    shutil.copytree(made, old)
    with contextlib.chdir(old):
        assert not repair(STUDY, Stores()).differences
    if how == "moved":
        old.rename(new)
        return
    shutil.copytree(old, new)
    for path in old.rglob("checkpoint.safetensors"):
        path.write_bytes(b"another file")


@pytest.mark.parametrize("how", ["moved", "copied"])
def test_a_folder_in_another_place(how: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = tmp_path / "old", tmp_path / "new place" / ODD
    new.parent.mkdir()
    moved(made, old, new, how)
    before = content(old)
    monkeypatch.chdir(new)
    again = content(new)
    assert predict(STUDY, Stores(), 1).index == 1
    assert result(STUDY).champion is not None
    found = verify(STUDY, Stores())
    assert [each.what for each in found.differences] == ["place"]
    assert str(old / "mlruns") in found.differences[0].problem
    assert str(new / "mlruns") in found.differences[0].problem
    assert found.checkpoints == 1
    assert content(new) == again, "who reads writes nothing"
    mended = repair(STUDY, Stores())
    assert [each.what for each in mended.mended] == ["place"]
    assert not verify(STUDY, Stores()).differences
    publish(STUDY, Stores())
    with contextlib.closing(sqlite3.connect("mlflow.db")) as database:
        assert str(old) not in "\n".join(database.iterdump()), "no address of the old place is left"
    assert content(old) == before, "nothing was written there"


def test_a_search_goes_on_in_another_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one process, in which MLflow keeps the files of a run under their old place."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    monkeypatch.chdir(old)
    run(STUDY)
    shutil.copytree(old, new)
    before = content(old)
    monkeypatch.chdir(new)
    search_all(STUDY, trials=4)
    evaluate(STUDY, Stores())
    assert not verify(STUDY, Stores()).differences
    assert len(list(new.rglob("checkpoint.safetensors"))) >= 1
    assert content(old) == before


def test_files_of_a_store_that_was_used_from_elsewhere_stay_where_they_are(tmp_path: Path) -> None:
    """By MLflow's default the files are in the working folder, wherever the store is."""
    Path("shared").mkdir()
    prepare(folder=Path("shared"))
    prepare()
    client = connect("sqlite:///shared/mlflow.db")
    client.create_experiment("small", str(tmp_path / "mlruns" / "7"))
    stores = Stores(tracking_uri="sqlite:///shared/mlflow.db")
    search_all(STUDY, stores)
    assert list(Path("mlruns/7").rglob("checkpoint.safetensors"))
    Path("shared/mlruns/7").mkdir(parents=True)
    assert not verify(STUDY, stores).differences


def test_a_snapshot_is_found_in_another_place(tmp_path: Path) -> None:
    names = []
    for folder in ("one", "other"):
        Path(folder).mkdir()
        names.append(Stores(f"{folder}/optuna.journal").lock("s", "optimize").path.relative_to(tmp_path / folder))
    assert names[0] == names[1]
    Path("link.journal").symlink_to("one/optuna.journal")
    assert Stores("link.journal").lock("s", "optimize").path == Stores("one/optuna.journal").lock("s", "optimize").path


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


# ---------------------------------------------------------------------------------------------------------- permissions


@contextlib.contextmanager
def mask_of(bits: int) -> Iterator[None]:
    before = os.umask(bits)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_locks_have_the_permissions_of_the_storage() -> None:
    with mask_of(0o022):
        stores = Stores()
        optuna.create_study(study_name="s", storage=stores.optuna_storage)
        os.chmod("optuna.journal", 0o664)
        os.chmod(".", 0o2775)
        with stores.lock("s", "optimize") as lock:
            assert mode(lock.path) == 0o664
            assert mode(lock.path.parent) & 0o777 == 0o775
        os.chmod("optuna.journal", 0o600)
        with stores.lock("s", "optimize") as lock:
            assert mode(lock.path) == 0o600


def test_the_lock_of_a_data_folder_has_its_permissions() -> None:
    folder = Path("data")
    folder.mkdir()
    folder.chmod(0o2775)
    with mask_of(0o022), sources._locked(folder):
        assert mode(folder / ".lock") == 0o664


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user for a while")
@pytest.mark.parametrize("lock_mode", [None, 0o644], ids=["new lock", "lock of an earlier version"])
def test_a_member_of_the_group_is_not_shut_out(lock_mode: int | None, tmp_path: Path) -> None:
    group = grp.getgrnam("nogroup").gr_gid
    study = optuna.create_study(study_name="s", storage=Stores().optuna_storage)
    for path in (Path("optuna.journal"), tmp_path):
        os.chown(path, -1, group)
    os.chmod("optuna.journal", 0o664)
    tmp_path.chmod(0o2775)
    for above in tmp_path.parents[:2]:
        above.chmod(0o755)
    stores = Stores()
    lock = stores.lock("s", "optimize")
    with lock:
        study.set_user_attr("of", "root")
    if lock_mode is not None:
        lock.path.chmod(lock_mode)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(group)
            os.setuid(65534)
            with lock:
                study.set_user_attr("of", "a member")
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert Stores().optuna_study("s").user_attrs == {"of": "a member"}
    with lock:
        pass


READING = [
    ["list"],
    ["status", "--study", "asked"],
    ["status", "--study", "asked", "--json"],
    ["export", "--study", "asked"],
    ["report", "--study", "asked", "--json"],
    ["report", "--study", "asked", "--output", "{out}"],
    ["verify", "--study", "asked"],
    ["predict", "--study", "asked", "--index", "1"],
]
ALL = """
    import json, sys
    from click.testing import CliRunner
    from searchlib.cli.main import cli
    for arguments in json.loads(sys.argv[1]):
        done = CliRunner().invoke(cli, arguments)
        print(json.dumps([done.exit_code, done.output[-2000:]]))
"""


@pytest.mark.parametrize("storage", ["optuna.journal", "sqlite:///optuna.db"])
def test_what_only_reads_needs_no_write_permission(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, home, out = tmp_path / "work", tmp_path / "home", tmp_path / "out"
    for folder in (work, home, out):
        folder.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("SEARCHLIB_STORAGE", storage)
    write_study(("trials=12,", "trials=4,"))
    prepare()
    told("optimize", "--study", "asked")
    if storage == "optuna.journal":  # a kill left a part of a line
        with Path(storage).open("ab") as file:
            file.write(b'{"op_code": 4')
    command = [sys.executable, "-c", textwrap.dedent(ALL)]
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("root may write everywhere, and there is no setpriv to take that from it")
        rights = "-dac_override,-dac_read_search,-fowner"
        command = ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}", *command]
    before = content(work)
    places = [path for folder in (work, home) for path in (folder, *folder.rglob("*"))]
    for path in places:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        commands = [[word.format(out=out / "asked.html") for word in arguments] for arguments in READING]
        environment = {**os.environ, "HOME": str(home)}
        done = subprocess.run([*command, json.dumps(commands)], env=environment, text=True, capture_output=True)
    finally:
        for path in places:
            path.chmod(0o755 if path.is_dir() else 0o644)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [code for code, _ in answers] == [0] * len(READING), (answers, done.stderr)
    assert "may only be read" in answers[5][1]
    assert (out / "asked.html").stat().st_size > 100_000
    assert content(work) == before


def test_verify_and_a_search_keep_each_other_out() -> None:
    optuna.create_study(study_name="s", storage=Stores().optuna_storage)
    reading = Stores().lock("s", "verify", shared=True)
    with reading:
        assert not Path(".searchlib").exists()
    with Stores().lock("s", "optimize"), pytest.raises(BusyError, match="optimize"):
        Stores().lock("s", "verify", shared=True).__enter__()
    with reading, Stores().lock("s", "verify", shared=True), pytest.raises(BusyError, match="being read"):
        Stores().lock("s", "optimize").__enter__()


# ------------------------------------------------------------------------------------------------- stores of MLflow


def old_store(folder: Path) -> None:
    """A folder of files as older versions of MLflow have it."""
    (folder / "0").mkdir(parents=True)
    (folder / "0" / "meta.yaml").write_text("artifact_location: ./mlruns/0\nexperiment_id: '0'\nname: Default\n")


@pytest.mark.parametrize(
    "uri", [None, "mlruns", "./mlruns/", "file:mlruns", "file:{place}", "file://{quoted}", "{place}"]
)
def test_an_old_store_of_files_is_named(uri: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "an old store"
    folder.mkdir()
    monkeypatch.chdir(folder)
    place = folder / "mlruns"
    old_store(place)
    prepare()
    Path("mlflow.db").unlink()
    given = uri and uri.format(place=place, quoted=quote(str(place)))
    before = content(folder)
    with pytest.raises(TrackingError) as caught:
        search_all(STUDY, Stores(tracking_uri=given))
    said = str(caught.value)
    assert f"MLflow store {str(place)!r} is a folder of files" in said
    assert f"cd '{folder}' && mlflow migrate-filestore --source mlruns --target sqlite:///mlflow.db" in said
    assert content(folder) == before


def test_the_command_that_converts_an_old_store_does() -> None:
    old_store(Path("mlruns"))
    with pytest.raises(TrackingError) as caught:
        store_address(None, Path())
    command = re.search(r"\((cd .*?mlflow\.db)\)", str(caught.value))[1]
    python = f"{sys.executable} -m mlflow "
    subprocess.run(command.replace("mlflow migrate", python + "migrate"), shell=True, check=True, capture_output=True)
    prepare()
    search_all(STUDY)
    assert not verify(STUDY, Stores()).differences


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("nowhere", "'nowhere' is no address of a store; expected one such as sqlite:///mlflow.db"),
        ("file:///nowhere/mlruns", "is no address of a store"),
        ("sqlite:///nowhere/mlflow.db", "nowhere' isn't there; create it first"),
        ("sqlite:///data", "is a folder; expected a file, such as mlflow.db"),
    ],
)
def test_addresses_that_are_no_store(uri: str, said: str) -> None:
    prepare()
    before = content(Path())
    with pytest.raises(TrackingError) as caught:
        search_all(STUDY, Stores(tracking_uri=uri))
    assert said in str(caught.value)
    assert content(Path()) == before


# ---------------------------------------------------------------------------------------------------- paths as given


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


def test_a_store_of_files_that_mlflow_was_told_to_allow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old_store(Path("mlruns"))
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert store_address(None, Path()) == store_address("file:mlruns", Path()) == (tmp_path / "mlruns").as_uri()
