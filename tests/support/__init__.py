"""Small real studies, data and stores for the tests."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import optuna
import pytest

from searchlib import MLP, Choice, LogUniform, Study, StudyError, idx_dataset
from searchlib.search import optimize as searching
from searchlib.stores.mlflow_store import connect
from searchlib.stores.stores import Stores

if TYPE_CHECKING:
    from mlflow.entities import Run

STORAGE = "optuna.journal"
TRAIN, TEST, SIDE, CLASSES = 240, 60, 6, 3


def idx_bytes(array: np.ndarray) -> bytes:
    """The IDX format, written independently of the code under test."""
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def write_idx(root: Path, *, parts: tuple[str, ...] = ("train", "t10k"), title: str = "Blobs") -> None:
    """IDX files of a small problem: each class is a bright bar at its own height, under noise."""
    folder = root / title / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    for part, count, seed in (("train", TRAIN, 1), ("t10k", TEST, 2)):
        if part not in parts:
            continue
        draw = np.random.default_rng(seed)
        labels = (np.arange(count) % CLASSES).astype(np.uint8)
        images = draw.integers(0, 120, (count, SIDE, SIDE)).astype(np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[2 * label : 2 * label + 2] += 100
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx_bytes(images))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))


def blobs(**changes):
    """The data set of these files."""
    settings = {"classes": ("low", "middle", "high"), "shape": (SIDE, SIDE), "train": TRAIN, "test": TEST}
    return idx_dataset(name="blobs", title="Blobs", **{**settings, **changes})


def small_study(**changes) -> Study:
    """Two initializers by two activations on the blobs, two epochs."""
    settings = {
        "name": "small",
        "question": "Which of two?",
        "dataset": blobs(),
        "model": MLP(hidden=(8,)),
        "scientific": {
            "initializer": Choice("xavier_normal", "normal"),
            "activation": Choice("tanh", "relu"),
        },
        "nuisance": {"learning_rate": LogUniform(0.01, 1.0), "batch_size": Choice(16, 32)},
        "fixed": {"momentum": 0.9, "epochs": 2},
        "trials": 12,
        "round_size": 4,
    }
    return Study(**{**settings, **changes})


def search(study: Study, stores: Stores | None = None, **options):
    """The search as a generator, by default on the stores of the working folder."""
    return searching.search(study, stores or Stores(), **options)


def search_all(study: Study, stores: Stores | None = None, **options) -> None:
    for _ in search(study, stores, **options):
        pass


def assert_refused(study: Study, told: str) -> None:
    """In one line, before anything is stored."""
    prepare()
    empty = Path("mlflow.db").read_bytes()
    with pytest.raises(StudyError, match=told) as caught:
        search_all(study)
    assert "\n" not in str(caught.value)
    assert Stores().optuna_study(study.name) is None
    assert Path("mlflow.db").read_bytes() == empty
    assert not Path("mlruns").exists()


def prepare(*, parts: tuple[str, ...] = ("train", "t10k"), folder: Path = Path()) -> None:
    """Data and an empty MLflow store in a working folder."""
    write_idx(folder / "data", parts=parts)
    if not (folder / "mlflow.db").exists():
        (folder / "mlflow.db").write_bytes(empty_mlflow_store())


def run(study: Study, stores: Stores | None = None, **options) -> optuna.Study:
    """Search to the end; the Optuna study."""
    prepare()
    search_all(study, stores, **options)
    return stored(study, stores)


def stored(study: Study, stores: Stores | None = None) -> optuna.Study:
    """The Optuna study, read anew."""
    found = Stores(stores.storage if stores else STORAGE).optuna_study(study.name)
    assert found is not None
    return found


def replicates(study: Study, stores: Stores | None = None) -> list[optuna.trial.FrozenTrial]:
    """The trials of its replicates, read anew."""
    found = Stores(stores.storage if stores else STORAGE).optuna_study(f"{study.name}.replicates")
    assert found is not None
    return found.get_trials(deepcopy=False)


def mlflow_runs(study: Study, kind: str = "", uri: str | None = None) -> list[Run]:
    """A study's runs in MLflow: those of a kind ("study", "trial" or "replicate"), or all."""
    client = connect(uri)
    experiment = client.get_experiment_by_name(study.name).experiment_id
    return list(client.search_runs([experiment], f"tags.`searchlib.kind` = '{kind}'" if kind else ""))


def curve(run: str, name: str = "val_accuracy") -> dict[int, float]:
    """A metric of one of MLflow's runs, by its step."""
    return {point.step: point.value for point in connect(None).get_metric_history(run, name)}


def table(study: Study, stores: Stores | None = None) -> list[tuple]:
    """What must not depend on kills: number, state, parameters, value, curve, outcome."""
    return [
        (t.number, t.state.name, t.params, t.values, t.intermediate_values, t.user_attrs.get("outcome"))
        for t in stored(study, stores).get_trials(deepcopy=False)
    ]


@functools.cache
def empty_mlflow_store() -> bytes:
    """MLflow's database with its tables, made once a session: making it takes seconds."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mlflow.db"
        connect(f"sqlite:///{path}")
        return path.read_bytes()
