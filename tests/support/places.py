"""Studies in folders of any name."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from searchlib import LogUniform
from searchlib.results.holdout import evaluate
from searchlib.stores.stores import Stores
from support import run, small_study

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
