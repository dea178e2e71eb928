"""Every test runs in an empty working folder of its own, untouched by the user's settings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
STORED = {"stores", "search", "results", "report", "library", "cli", "whole"}  # folders whose tests open a store

FOUND = os.environ.get("PYTHONPATH", "")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(TESTS.parent), str(TESTS), FOUND]))  # for child processes
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tests' networks are small: threads would wait for each other


@pytest.fixture(autouse=True)
def clean_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a run writes into its working folder lands in tmp_path; SEARCHLIB_* and MLFLOW_* variables are unset."""
    for name in list(os.environ):
        if name.startswith(("SEARCHLIB_", "MLFLOW_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what ``make quick`` leaves out. In the other folders such tests have the mark themselves."""
    for item in items:
        if item.path.relative_to(TESTS).parts[0] in STORED:
            item.add_marker("slow")
