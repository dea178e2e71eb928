"""What follows the claim of the test set is done on validation data before it: what can't work is said first."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from support import STORAGE, prepare, run, search, small_study
from support.champions import Net, claim, evaluate, experiments, factory, study_of
from torch import nn

import searchlib
from searchlib import Dataset, Examples, Study
from searchlib.errors import DataError, HoldoutError, SearchlibError, StudyError, TrackingError
from searchlib.results import champion, holdout, predict, verify
from searchlib.stores.mlflow_store import connect
from searchlib.stores.stores import Stores

# -------------------------------------------------------------------------------------------------------- the test part


def numbers(count: int = 60, *, dtype: torch.dtype = torch.float32, shape: tuple[int, ...] = (4,), classes: int = 3):
    drawn = torch.randint(0, 2, (count, *shape), generator=torch.Generator().manual_seed(0)).to(dtype)
    return Examples(inputs=drawn, targets=torch.arange(count) % classes)


def raising(root: Path) -> Examples:
    raise ValueError("row 7 has five columns")


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (lambda root: numbers(shape=(5,)), r"inputs are torch.float32 \(60, 5\)"),
        (lambda root: numbers(dtype=torch.uint8), "test inputs are torch.uint8, training inputs torch.float32"),
        (lambda root: numbers(dtype=torch.float64), "inputs are torch.float64"),
        (lambda root: numbers(classes=4), "class indices run from 0 to 3, of 3 classes"),
        (lambda root: (1, 2), "returned tuple"),
        (raising, r"its function for the test part failed \(ValueError: row 7 has five columns\)"),
    ],
)
def test_a_test_part_that_is_not_like_the_training_part_is_seen_by_no_network(part: Any, said: str) -> None:
    """The claim is withdrawn: nothing was learnt of it."""

    def study(test: Any) -> Study:
        dataset = Dataset(name="numbers", shape=(4,), outputs=3, scale=1.0, train=lambda root: numbers(), test=test)
        return small_study(dataset=dataset, trials=4, fixed={"epochs": 1})

    run(study(part))
    with pytest.raises(DataError, match=said):
        evaluate(study(part))
    assert not claim(study(part))
    assert evaluate(study(lambda root: numbers())).n == 60


class Choosy(Net):
    """It fails for values that only the test part has."""

    def forward(self, x: torch.Tensor) -> Any:
        if float(x.min()) < 0:
            raise RuntimeError("negative input")
        return nn.functional.pad(x, (0, 32)).flatten(1) @ self.first.weight.T @ self.last.weight.T


def test_a_module_that_fails_on_test_data_says_so_and_its_claim_stands() -> None:
    def test(root: Path) -> Examples:
        return Examples(inputs=-numbers().inputs - 1.0, targets=numbers().targets)

    dataset = Dataset(name="numbers", shape=(4,), outputs=3, scale=1.0, train=lambda root: numbers(), test=test)
    study = study_of(factory(Choosy), dataset=dataset, fixed={"epochs": 1, "batch_size": 16})
    run(study)
    for _ in range(2):
        with pytest.raises(HoldoutError, match="was opened, and the module of trial 0 fails on it.*negative input"):
            evaluate(study)
    assert (claim(study) or {})["trial"] == 0


ODD = ("<b>&amp;\"'", "größe 漢字 🙂", "$x_1$ %{text} {{ x }} " + 60 * "long ")


@pytest.mark.parametrize("shape", [(1,), (2, 1, 3)])
def test_odd_class_names_and_shapes_come_through(shape: tuple[int, ...]) -> None:
    dataset = Dataset(
        name="numbers", shape=shape, classes=ODD, scale=1.0,
        train=lambda root: numbers(shape=shape), test=lambda root: numbers(shape=shape),
    )  # fmt: skip
    study = small_study(dataset=dataset, trials=4, fixed={"epochs": 1})
    prepare()
    done = searchlib.optimize(study, progress=False)
    assert done.test is not None
    assert {name for name, _ in predict(study, Stores(), 0).soft} == set(ODD)


def test_inputs_without_a_dimension_are_refused_at_once() -> None:
    with pytest.raises(StudyError, match=r"shape \(\); expected whole numbers above 0, \(1,\) for single numbers"):
        Dataset(
            name="numbers", shape=(), outputs=3, scale=1.0, train=lambda root: numbers(), test=lambda root: numbers()
        )


def test_a_regression_of_several_outputs_comes_through() -> None:
    def part(root: Path) -> Examples:
        return Examples(inputs=numbers().inputs, targets=numbers().inputs[:, :2] * 2.0)

    dataset = Dataset(name="numbers", task="regression", shape=(4,), outputs=2, scale=1.0, train=part, test=part)
    study = small_study(dataset=dataset, trials=4, fixed={"epochs": 1})
    prepare()
    done = searchlib.optimize(study, progress=False)
    assert done.test is not None
    assert done.test.loss > 0
    assert len(predict(study, Stores(), 0).prediction) == 2


# --------------------------------------------------------------------------------------------------- MLflow, the report


@pytest.mark.parametrize(
    ("library", "step"),
    [
        (MlflowClient, "create_logged_model"),
        (LocalArtifactRepository, "log_artifacts"),
        (MlflowClient, "create_registered_model"),
    ],
)
def test_a_store_that_cannot_take_the_champion_is_known_before_the_claim(
    library: type, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = small_study(trials=4)
    run(study)

    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(library, step, refuse)
        patch.setattr(holdout, "load_test", lambda *_, **__: pytest.fail("the test set was opened"))
        with pytest.raises(TrackingError, match=r"can't store the champion \(No space left on device\)"):
            evaluate(study)
    assert claim(study) is None
    assert evaluate(study).n == 60
    _assert_one_champion(study)


@pytest.mark.parametrize("step", ["log_outputs", "create_model_version", "set_registered_model_alias"])
def test_a_registry_that_goes_after_the_claim_costs_no_result(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    study = small_study(trials=4)
    run(study)

    def refuse(*arguments: Any, **options: Any) -> None:
        raise ConnectionError("the registry is read-only")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, step, refuse)
        with pytest.raises(HoldoutError, match="was evaluated .*, stored.* can't register the champion"):
            evaluate(study)
    monkeypatch.setattr(holdout, "load_test", lambda *_, **__: pytest.fail("the test set was opened again"))
    assert evaluate(study).n == 60
    _assert_one_champion(study)


@pytest.mark.parametrize("after", ["store_champion", "log_summary", "load_test", "measure", "refuse_foreign"])
def test_an_interruption_between_two_steps_ends_with_one_champion(after: str, monkeypatch: pytest.MonkeyPatch) -> None:
    study = small_study(trials=4)
    run(study)
    step = getattr(holdout, after)

    def interrupted(*arguments: Any, **options: Any) -> None:
        step(*arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(holdout, after, interrupted)
        with pytest.raises(KeyboardInterrupt):
            evaluate(study)
    before = claim(study)
    assert (before is None) == (after in ("refuse_foreign", "store_champion", "measure")), "they come before it"
    result = evaluate(study)
    if before:
        assert {key: (claim(study) or {})[key] for key in before} == before
    assert result.checkpoint_sha256 == (claim(study) or {})["checkpoint_sha256"]
    _assert_one_champion(study)


def _assert_one_champion(study: Study) -> None:
    client = connect(None)
    (version,) = client.search_model_versions("name = 'small'")
    ready = [model for model in client.search_logged_models(experiments()) if model.status == LoggedModelStatus.READY]
    assert [model.artifact_location for model in ready] == [version.source]
    assert client.get_model_version_by_alias("small", "champion").version == version.version
    assert verify(study, Stores()).differences == []


def test_a_report_that_cannot_be_written_is_known_before_the_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare()
    study = small_study(trials=4)
    Path("small.html").mkdir()
    monkeypatch.setattr(holdout, "load_test", lambda *_, **__: pytest.fail("the test set was opened"))
    with pytest.raises(SearchlibError, match=r"small\.html"):
        searchlib.optimize(study, progress=False)
    assert claim(study) is None


def test_the_description_of_the_model_fits_into_a_database() -> None:
    study = small_study(trials=4, question="Which? " * 900)
    run(study)
    evaluate(study)
    assert len(connect(None).get_registered_model("small").description) == champion.LONGEST


def test_a_copy_of_the_storage_that_claims_meanwhile_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    study = small_study(trials=4)
    run(study)
    shutil.copy(STORAGE, "copy.journal")
    tried = holdout._try

    def overtaken(*arguments: Any) -> Any:
        found = tried(*arguments)
        monkeypatch.setattr(holdout, "_try", tried)
        assert holdout.evaluate(study, Stores("copy.journal")).n == 60
        monkeypatch.setattr(holdout, "load_test", lambda *_, **__: pytest.fail("the test set was opened again"))
        return found

    monkeypatch.setattr(holdout, "_try", overtaken)
    with pytest.raises(HoldoutError, match="was opened at"):
        evaluate(study)
    assert claim(study) is None


def test_a_study_whose_test_set_another_storage_opened_is_refused_before_it_trains() -> None:
    study = small_study(trials=4)
    run(study)
    evaluate(study)
    Path(STORAGE).rename("lost.journal")
    with pytest.raises(HoldoutError, match="was opened at"):
        next(search(study))
    assert not Path(STORAGE).exists()
