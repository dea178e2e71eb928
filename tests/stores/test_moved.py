"""A working folder in another place, and stores of MLflow's older kind."""

from __future__ import annotations

import contextlib
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from support import prepare, run, search_all
from support.places import ODD, STUDY, content, finished

from searchlib.errors import TrackingError
from searchlib.library import result
from searchlib.report.page import publish
from searchlib.results import predict, repair, verify
from searchlib.results.holdout import evaluate
from searchlib.stores.mlflow_store import connect, store_address
from searchlib.stores.stores import Stores

# --------------------------------------------------------------------------------------------------------------- moving


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


# ----------------------------------------------------------------------------------------------------- stores of MLflow


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


def test_a_store_of_files_that_mlflow_was_told_to_allow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old_store(Path("mlruns"))
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert store_address(None, Path()) == store_address("file:mlruns", Path()) == (tmp_path / "mlruns").as_uri()
