"""A finished study whose stores the tests of verify and repair may damage."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest
from support import STORAGE, run, small_study
from support.damage import put_database

from searchlib import Study
from searchlib.results import holdout
from searchlib.stores.stores import Stores


@pytest.fixture
def sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opens the test set fails."""
    monkeypatch.setattr(holdout, "load_test", lambda *_, **__: pytest.fail("the test set was opened"))


@pytest.fixture(scope="package")
def verified(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Path, Path]:
    """A finished study (a search, its replicates, an evaluated champion), its folder, and a copy of that."""
    folder, copy = tmp_path_factory.mktemp("verified"), tmp_path_factory.mktemp("copies") / "verified"
    study = small_study(trials=4, replicates=2, eval_every=5)
    with contextlib.chdir(folder):
        run(study)
        holdout.evaluate(study, Stores(STORAGE))
    shutil.copytree(folder, copy)
    return study, folder, copy


@pytest.fixture
def study(verified: tuple[Study, Path, Path], sealed: None, monkeypatch: pytest.MonkeyPatch) -> Study:
    """The study as it was when it was finished, in its folder; its test data can't be opened any more.

    All tests have it in one folder: MLflow takes a second to open a database that it hasn't seen.
    """
    made, folder, copy = verified
    monkeypatch.chdir(folder)
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "mlflow.db":
            path.unlink()
    shutil.copytree(copy, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("mlflow.db"))
    put_database(copy / "mlflow.db")
    return made
