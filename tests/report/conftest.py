"""Finished studies that the tests of the report share."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest
from support import run, small_study

from searchlib import Study
from searchlib.results.holdout import evaluate
from searchlib.stores.stores import Stores


@pytest.fixture(scope="session")
def replicated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Study]:
    """A finished study with replicates and an opened test set, in a folder that tests may read."""
    folder = tmp_path_factory.mktemp("replicated")
    study = small_study(replicates=3, fixed={"momentum": 0.9, "epochs": 3})
    with contextlib.chdir(folder):
        run(study)
        evaluate(study, Stores())
    return folder, study


@pytest.fixture
def study(replicated: tuple[Path, Study], monkeypatch: pytest.MonkeyPatch) -> Study:
    """That study, in its folder, to be read."""
    monkeypatch.chdir(replicated[0])
    return replicated[1]


@pytest.fixture
def copied(replicated: tuple[Path, Study], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Study:
    """That study, in a copy of its folder, to be changed."""
    shutil.copytree(replicated[0], tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return replicated[1]
