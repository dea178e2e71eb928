"""A tiny data set of IDX files, and the files themselves."""

from __future__ import annotations

import functools
import gzip
import hashlib
from pathlib import Path

import numpy as np

from searchlib import data
from searchlib.data import sources
from searchlib.errors import DataError
from support import idx_bytes

SHAPE = (4, 3)
TRAIN, TEST, CLASSES = 60, 20, 5
NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@functools.cache
def arrays() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    made = {}
    for prefix, count in (("train", TRAIN), ("t10k", TEST)):
        made[f"{prefix}-images-idx3-ubyte"] = random.integers(0, 256, (count, *SHAPE), dtype=np.uint8)
        made[f"{prefix}-labels-idx1-ubyte"] = np.arange(count, dtype=np.uint8) % CLASSES
    return made


CONTENT = {name: idx_bytes(array) for name, array in arrays().items()}
MD5 = {name: hashlib.md5(content).hexdigest() for name, content in CONTENT.items()}


def tiny(*sources: sources.Source, md5: dict[str, str] | None = MD5, **changes: object) -> data.Dataset:
    settings = {"name": "tiny", "title": "Tiny", "classes": "abcde", "shape": SHAPE, "train": TRAIN, "test": TEST}
    return data.idx_dataset(**{**settings, "md5": md5, "sources": sources, **changes})  # type: ignore[arg-type]


def write(folder: Path, *names: str, gz: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or NAMES:
        if gz:
            (folder / f"{name}.gz").write_bytes(gzip.compress(CONTENT[name]))
        else:
            (folder / name).write_bytes(CONTENT[name])
    return folder


class Refusing:
    """A source that has nothing, and says so."""

    def __init__(self, name: str) -> None:
        self.name, self.asked = name, 0

    def __str__(self) -> str:
        return self.name

    def deliver(self, files: object, scratch: Path) -> Path:
        self.asked += 1
        raise DataError("nothing today")
