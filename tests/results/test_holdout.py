"""The sealed test set: opened once, for the claimed checkpoint, and by nothing but holdout."""

from __future__ import annotations

import contextlib
import zipfile
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from support import mlflow_runs, prepare, run, search, small_study, stored
from support.damage import alter, checkpoint

from searchlib.analysis.standing import best_trial
from searchlib.analysis.statistics import proportion_interval
from searchlib.data.datasets import load_test, load_train
from searchlib.data.splits import split
from searchlib.errors import HoldoutError, StudyError
from searchlib.results import holdout
from searchlib.results.prediction import predict
from searchlib.stores.mlflow_store import connect
from searchlib.stores.stores import Stores


def evaluate(study, stores: Stores | None = None) -> holdout.TestResult:
    return holdout.evaluate(study, stores or Stores())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, holdout.TestResult]:
    """The folder of a searched and evaluated study, to be read."""
    folder = tmp_path_factory.mktemp("evaluated")
    with contextlib.chdir(folder):
        run(small_study())
        return folder, evaluate(small_study())


@pytest.fixture
def result(finished: tuple[Path, holdout.TestResult], monkeypatch: pytest.MonkeyPatch) -> holdout.TestResult:
    monkeypatch.chdir(finished[0])
    return finished[1]


@pytest.fixture
def model(result: holdout.TestResult) -> Any:
    """The champion as plain MLflow loads it."""
    mlflow.set_tracking_uri(f"sqlite:///{Path('mlflow.db').resolve()}")
    try:
        return mlflow.pyfunc.load_model("models:/small@champion")
    finally:
        mlflow.set_tracking_uri(None)


@pytest.mark.usefixtures("sealed")
def test_the_champion_is_evaluated_once_and_published(result: holdout.TestResult) -> None:
    study = small_study()
    assert result.n == 60
    assert result.accuracy == result.correct / 60
    assert (result.low, result.high) == proportion_interval(result.correct, 60)
    (carrier,) = [found for found in mlflow_runs(study) if "test_accuracy" in found.data.metrics]
    assert carrier.data.tags["searchlib.kind"] == "study"
    metrics = carrier.data.metrics
    assert (metrics["test_accuracy"], metrics["test_loss"]) == (result.accuracy, result.loss)
    assert evaluate(study) == result
    with pytest.raises(StudyError, match="closed.*test set was opened"):
        list(search(study, trials=16))


def test_the_champion_is_an_mlflow_model_without_pickle(result: holdout.TestResult, model: Any) -> None:
    """It takes raw and scaled images, and gives what the checkpoint gives."""
    study = small_study()
    examples = load_test(study.dataset, Path("data"))
    images = examples.inputs.numpy()
    raw = model.predict(images)
    assert raw.shape == (60, 3)
    assert raw.sum(axis=1) == pytest.approx(np.ones(60), abs=1e-5)
    assert (raw.argmax(axis=1) == examples.targets.numpy()).sum() == result.correct
    scaled = images / np.float32(255)
    for batch in (scaled, scaled.astype(np.float64), scaled.reshape(60, -1), scaled[:, None], images.astype(np.int64)):
        np.testing.assert_allclose(model.predict(batch), raw, atol=1e-5)
    np.testing.assert_allclose(model.predict(images[:1]), raw[:1], atol=1e-5)
    with pytest.raises(Exception, match="shape"):
        model.predict(images[:, :5])

    assert model.metadata.signature.inputs.inputs[0].shape == (-1, 6, 6)
    assert model.metadata.saved_input_example_info is not None
    files = [path for path in Path("mlruns").rglob("*") if path.is_file()]
    assert any(path.suffix == ".pt2" for path in files)
    for path in files:
        assert path.suffix not in (".pkl", ".pickle", ".pth")
        contents = [path.read_bytes()]
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                contents += [archive.read(name) for name in archive.namelist()]
        assert not any(content.startswith(b"\x80") and content.endswith(b".") for content in contents), path


def test_an_altered_checkpoint_is_refused() -> None:
    study = small_study(trials=4)
    run(study)
    best = best_trial(study, stored(study).trials)
    alter(checkpoint(best.user_attrs["mlflow_run_id"]))
    with pytest.raises(HoldoutError, match="altered"):
        evaluate(study)


def test_nothing_to_evaluate() -> None:
    with pytest.raises(HoldoutError, match="no completed trial.*searchlib optimize"):
        evaluate(small_study())


def test_the_checkpoint_reproduces_its_validation_accuracy(result: holdout.TestResult, model: Any) -> None:
    study = small_study()
    examples = split(load_train(study.dataset, Path("data")), seed=0, fraction=1 / 6).validation
    decisions = [predict(study, Stores(), index) for index in range(3)]
    assert [decision.truth for decision in decisions] == [
        study.dataset.classes[int(target)] for target in examples.targets[:3]
    ]
    assert sum(probability for _, probability in decisions[0].soft) == pytest.approx(1.0, abs=1e-5)
    with pytest.raises(StudyError, match="0 to 39"):
        predict(study, Stores(), 40)
    hits = (torch.from_numpy(model.predict(examples.inputs.numpy())).argmax(1) == examples.targets).double().mean()
    assert float(hits) == best_trial(study, stored(study).trials).value


def test_the_test_set_waits_for_the_replicates() -> None:
    """Opening it would end them, and they decide on the champion."""
    study = small_study(trials=4, replicates=2)
    prepare()
    steps = search(study)
    next(progress for progress in steps if progress.phase == "replicates")
    steps.close()
    with pytest.raises(HoldoutError, match="unfinished replicates.*searchlib optimize --study small.*replicates=0"):
        evaluate(study)
    assert stored(study).user_attrs.get("test_ledger") is None
    assert evaluate(small_study(trials=4)).replicate is None


def test_the_champion_goes_to_the_store_that_was_named() -> None:
    """Also where MLflow's own default is another one."""
    study = small_study(trials=4)
    Path("elsewhere").mkdir()
    uri = "sqlite:///elsewhere/runs.db"
    run(study, Stores(tracking_uri=uri))
    evaluate(study, Stores(tracking_uri=uri))
    version = connect(uri).get_model_version_by_alias("small", "champion")
    assert version.tags["searchlib.study"] == "small"
    assert connect(None).search_registered_models() == []
