"""What a data set is: its examples, its task, its shape."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from searchlib.data.sources import FetchedFile
from searchlib.errors import DataError, StudyError
from searchlib.text import unknown_name

if TYPE_CHECKING:
    import torch

Part: TypeAlias = Literal["train", "test"]
PARTS: tuple[Part, ...] = ("train", "test")


@dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
    """N inputs with their targets, on the CPU.

    ``inputs`` is [N, *shape]: uint8 as stored for images, float32 otherwise. ``targets`` is [N] int64 (class
    indices) for classification, [N, outputs] float32 for regression.
    """

    inputs: torch.Tensor
    targets: torch.Tensor

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.targets):
            raise DataError(f"{len(self.inputs):,} inputs with {len(self.targets):,} targets; give one target an input")

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, indices: Any) -> Examples:
        """The examples at *indices* (a sequence, array or tensor of integers), in that order; a copy."""
        import torch

        index = torch.as_tensor(indices)
        return Examples(inputs=self.inputs[index], targets=self.targets[index])

    @cached_property
    def digest(self) -> str:
        """SHA-256 in hex over type, shape and content; the order of the examples counts."""
        sha = hashlib.sha256()
        for tensor in (self.inputs, self.targets):
            sha.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            sha.update(tensor.contiguous().numpy().data)
        return sha.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set: what it is, and how its two parts are read from a data root.

    ``train`` and ``test`` only read; the test part has ``load_test`` as its one caller. ``fetch``, where files can
    be had from somewhere, sees that those of the parts it is given are under the root and good.
    """

    name: str  # in studies and on the command line
    title: str = ""  # the folder under the data root, torchvision's name for it; the name, if not given
    task: Literal["classification", "regression"] = "classification"
    classes: tuple[str, ...] = ()  # their names; () for regression
    outputs: int = 0  # values that a model puts out; if not given, one a class, or 1 for regression
    shape: tuple[int, ...]  # of one input
    scale: float  # the largest raw input value: 255 for images, 1.0 for floats
    low: float = 0.0  # the smallest one
    train: Callable[[Path], Examples]
    test: Callable[[Path], Examples]
    fetch: Callable[[Path, Sequence[Part]], list[FetchedFile]] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)  # what defines it beside its name, for a study's identity

    def __post_init__(self) -> None:
        if self.task not in ("classification", "regression"):
            raise StudyError(f"{self.name}: {unknown_name('task', self.task, ('classification', 'regression'))}")
        classify = self.task == "classification"
        outputs = self.outputs or (len(self.classes) if classify else 1)
        classes = tuple(self.classes or map(str, range(outputs))) if classify else ()
        if classify and not len(classes) == outputs > 0:
            raise StudyError(f"{self.name}: {len(classes)} classes and {outputs} outputs; give it one output a class")
        shape = tuple(self.shape)
        if not shape or not all(type(size) is int and size > 0 for size in shape):
            raise StudyError(
                f"{self.name}: shape {self.shape!r}; expected whole numbers above 0, (1,) for single numbers"
            )
        if not is_finite(self.low):
            raise StudyError(f"{self.name}: low {self.low!r}; expected the smallest raw input value")
        if not is_finite(self.scale) or not self.low < self.scale:
            raise StudyError(
                f"{self.name}: scale {self.scale!r}; expected the largest raw input value, above {self.low:g}"
            )
        title = self.title or self.name
        if title in (".", "..") or not re.fullmatch(r"[^/\\\0]+", title):
            raise StudyError(f"{self.name}: title {title!r}; expected the name of a folder, not a path")
        values = {"title": title, "classes": classes, "outputs": outputs, "shape": shape}
        for key, value in values.items():
            object.__setattr__(self, key, value)  # the way of a frozen dataclass

    @property
    def inputs(self) -> int:
        """The number of values of one input."""
        return math.prod(self.shape)


def is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def picture(dataset: Dataset, example: torch.Tensor, *, most: int | None = None) -> list[list[float]]:
    """One raw input as rows of grey values from 0 to 1, where the data set is one of grey images; else [].

    most: pixels a side; a larger image is averaged down.
    """
    import torch

    shape = dataset.shape[1:] if len(dataset.shape) == 3 and dataset.shape[0] == 1 else dataset.shape
    if len(shape) != 2 or min(shape) < 2:
        return []
    grey = (example.float().view(1, 1, *shape) - dataset.low) / (dataset.scale - dataset.low)
    if most and max(shape) > most:
        grey = torch.nn.functional.avg_pool2d(grey, -(-max(shape) // most), ceil_mode=True)
    rows: list[list[float]] = grey.clamp(0.0, 1.0)[0, 0].tolist()
    return rows
