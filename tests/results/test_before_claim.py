"""What follows the claim of the test set is done on validation data before it: what can't work is said first."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import optuna
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from support import STORAGE, prepare, run, search, search_all, small_study, stored
from torch import nn

import searchlib
from searchlib import Choice, Dataset, Examples, IntUniform, LogUniform, Study
from searchlib.errors import DataError, HoldoutError, SearchlibError, StudyError, TrackingError
from searchlib.report import page
from searchlib.results import champion, champion_network, holdout, predict, verify
from searchlib.stores.mlflow_store import connect
from searchlib.stores.stores import Stores
from searchlib.training import Engine, dry_run

CLASSES = 3


class Net(nn.Module):
    """Two layers for the blobs; subclasses change what it gives."""

    outputs = CLASSES

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(36, 8), nn.Linear(8, self.outputs)

    def forward(self, x: torch.Tensor) -> Any:
        return self.last(self.first(x.flatten(1)).relu())


def study_of(model: Any, **changes: Any) -> Study:
    """One trial of a module of the study's own."""
    alone = {"nuisance": {"learning_rate": LogUniform(0.05, 0.2)}, "fixed": {"epochs": 1}, "trials": 1}
    return small_study(**{"model": model, "scientific": {}, **alone, **changes})


def factory(kind: Callable[[], nn.Module]) -> Callable[[Any, Any], nn.Module]:
    def make(config: Any, dataset: Any) -> nn.Module:
        return kind()

    return make


def evaluate(study: Study) -> holdout.TestResult:
    return holdout.evaluate(study, Stores())


def claim(study: Study) -> dict[str, Any] | None:
    return stored(study).user_attrs.get("test_ledger")


# ----------------------------------------------------------------------------------------------- before the first trial


class Many(Net):
    outputs = 5


class Pair(Net):
    def forward(self, x: torch.Tensor) -> Any:
        return super().forward(x), x


class Column(Net):
    outputs = 1


class Flat(Net):
    outputs = 1

    def forward(self, x: torch.Tensor) -> Any:
        return super().forward(x).squeeze(1)


class Squeezed(Net):
    def forward(self, x: torch.Tensor) -> Any:
        return super().forward(x).squeeze()


class Whole(Net):
    """It only takes whole batches."""

    def forward(self, x: torch.Tensor) -> Any:
        return super().forward(x.view(-1, 16, 36).flatten(0, 1))


class Training(Net):
    def forward(self, x: torch.Tensor) -> Any:
        if not self.training:
            raise NotImplementedError("use it in training only")
        return super().forward(x)


class Elsewhere(Net):
    def forward(self, x: torch.Tensor) -> Any:
        return super().forward(x) + torch.zeros(CLASSES, device="cuda")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Many, r"returned .* shape \[5, 5\] for 5 examples .*of shape \[5, 3\]"),
        (Pair, "returned tuple for 5 examples"),
        (Column, r"returned .* shape \[5, 1\] for 5 examples .*of shape \[5, 3\]"),
        (Flat, r"returned .* shape \[5\] for 5 examples .*of shape \[5, 3\]"),
        (Squeezed, r"can't be evaluated on the CPU with a batch of 1 .*it returned \[3\], expected a tensor \[1, 3\]"),
        (Whole, "raised RuntimeError.*invalid for input"),
        (Training, "raised NotImplementedError.*use it in training only"),
        pytest.param(
            Elsewhere, "raised RuntimeError", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
        ),
    ],
)
def test_a_module_that_cannot_be_evaluated_is_refused_before_anything_is_stored(kind: type[Net], said: str) -> None:
    prepare()
    with pytest.raises(StudyError, match=said):
        search_all(study_of(factory(kind)))
    assert not Path(STORAGE).exists()


def test_a_study_that_was_refused_begins_when_it_is_corrected() -> None:
    prepare()
    with pytest.raises(StudyError):
        search_all(study_of(factory(Many), code="with an error"))
    assert len(run(study_of(factory(Net), code="without")).trials) == 1


@pytest.mark.parametrize("kind", [Many, Flat])
def test_a_configuration_that_cannot_be_evaluated_fails_its_trial_alone(kind: type[Net]) -> None:
    def make(config: Any, dataset: Any) -> nn.Module:
        return kind() if config.epochs == 2 else Net()

    nuisance = {"epochs": IntUniform(1, 2)}  # of nuisance values the first is tried before the search
    study = study_of(make, scientific={"optimizer": Choice("sgd")}, nuisance=nuisance, fixed={}, trials=8)
    states = {trial.params["epochs"]: trial.state.name for trial in run(study).trials}
    assert states == {1: "COMPLETE", 2: "FAIL"}
    assert evaluate(study).n > 0


def test_trying_a_module_draws_no_random_numbers() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    engine = Engine(study_of(factory(Net)), _split(), "cpu")
    engine.try_module(study_of(factory(Net)).config({"learning_rate": 0.1}))
    assert torch.equal(torch.rand(2), expected)


def _split() -> Any:
    prepare()
    return Stores().examples(small_study())


# -------------------------------------------------------------------------------------- modules that torch.export meets


class Deciding(Net):
    """Its Python code depends on values."""

    def forward(self, x: torch.Tensor) -> Any:
        hidden = self.first(x.flatten(1))
        return self.last(hidden.relu() if hidden.mean() > 0 else hidden.tanh())


class Counting(Net):
    """Its Python code depends on the number of examples."""

    def forward(self, x: torch.Tensor) -> Any:
        found = super().forward(x)
        return found * 2 if len(x) > 2 else found


class Double(Net):
    def forward(self, x: torch.Tensor) -> Any:
        return super().forward(x).double()


class Drawing(Net):
    """It draws random numbers, in evaluation mode too."""

    def forward(self, x: torch.Tensor) -> Any:
        return super().forward(x) + 1e-3 * torch.rand(CLASSES)


@pytest.mark.parametrize(
    ("model", "program"),
    [
        (factory(Deciding), False),
        (factory(Counting), False),
        (factory(Double), True),
        (factory(Drawing), True),
    ],
    ids=["depends on values", "depends on the batch", "float64 outputs", "random numbers"],
)
def test_a_module_is_evaluated_whether_or_not_it_can_be_exported(model: Any, program: bool, capfd: Any) -> None:
    study = study_of(model)
    run(study)
    result = evaluate(study)
    assert capfd.readouterr().err == "", "torch prints what it can't export"
    network = champion_network(study, Stores(), Stores().read(study))
    split = Stores().examples(study)
    with torch.no_grad():
        expected = network(split.validation.inputs[:1])[0]
    assert float(expected.sum()) == pytest.approx(1.0, abs=1e-5)
    decided = dict(predict(study, Stores(), 0).soft)
    for name, value in zip(study.dataset.classes, expected.tolist(), strict=True):
        assert decided[name] == pytest.approx(value, abs=2e-3)
    assert verify(study, Stores()).differences == []

    version = connect(None).get_model_version_by_alias("small", "champion")
    note = Stores().read(study).champion_note
    assert ("searchlib.no_program" not in version.tags, note == "") == (program, program)
    loaded: Any = None
    if program:
        loaded = mlflow.pyfunc.load_model(version.source)
        assert loaded.predict(split.validation.inputs[:7].numpy()).shape == (7, CLASSES)
    else:
        with pytest.raises(RuntimeError, match=r"no exported program.*searchlib.result\(STUDY\).champion"):
            mlflow.pyfunc.load_model(version.source)
        path, _ = page.publish(study, Stores())
        assert "searchlib alone can run" in path.read_text()
    assert evaluate(study) == result


def test_a_champion_without_a_program_is_run_by_the_code_that_it_was_tested_with() -> None:
    study = study_of(factory(Deciding))
    run(study)
    evaluate(study)
    with pytest.raises(StudyError, match="has changed since the test.*restore the study file"):
        predict(study_of(factory(Deciding), code="other"), Stores(), 0)


def test_what_an_earlier_version_could_not_register_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its test set was opened, and each later call ended with an error."""
    study = study_of(factory(Deciding))
    run(study)
    result = evaluate(study)
    connect(None).delete_registered_model("small")
    for model in connect(None).search_logged_models(_experiments()):
        connect(None).delete_logged_model(model.model_id)
    for name in ("champion_checkpoint", "champion_no_program"):
        stored(study).set_user_attr(name, "")
    monkeypatch.setattr(holdout, "load_test", lambda *_, **__: pytest.fail("the test set was opened"))
    assert evaluate(study) == result
    assert connect(None).get_model_version_by_alias("small", "champion").tags["searchlib.no_program"]
    assert verify(study, Stores()).differences == []


def _experiments() -> list[str]:
    return [connect(None).get_experiment_by_name("small").experiment_id]


# -------------------------------------------------------------------------------------- what is wrong of the checkpoint


class Remembering(Net):
    """What it learns isn't in its state dict."""

    trained = False

    def forward(self, x: torch.Tensor) -> Any:
        self.trained = self.trained or self.training
        return super().forward(x) * (1.0 if self.trained else -1.0)


class Broken(Net):
    """Something outside of it goes away."""

    gone = False

    def forward(self, x: torch.Tensor) -> Any:
        if Broken.gone:
            raise RuntimeError("the table isn't there")
        return super().forward(x)


@pytest.mark.usefixtures("sealed")
def test_a_network_that_is_another_one_than_was_measured_is_not_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_run, "dry_run", lambda *_: None)  # by which an earlier version's study wasn't refused
    study = study_of(factory(Remembering), fixed={"epochs": 5})
    run(study)
    with pytest.raises(HoldoutError, match=r"isn't opened: .* validation accuracy .*register_buffer"):
        evaluate(study)
    assert claim(study) is None


class Wide(Net):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(36, 9), nn.Linear(9, CLASSES)


class Negative(Net):
    def forward(self, x: torch.Tensor) -> Any:
        return -super().forward(x)


@pytest.mark.usefixtures("sealed")
@pytest.mark.parametrize(
    ("later", "error", "said"),
    [
        (Wide, StudyError, "the checkpoint can't be loaded into it .*size mismatch.*restore the study file"),
        (Negative, HoldoutError, "isn't opened: .* validation accuracy .*its code has changed"),
    ],
)
def test_a_factory_that_makes_another_module_by_now_is_not_tested(
    later: type[Net], error: type[SearchlibError], said: str
) -> None:
    """A study of a session has no file, whose changes would be known."""
    fixed = {"epochs": 5}
    run(study_of(factory(Net), fixed=fixed))
    study = study_of(factory(later), fixed=fixed)
    with pytest.raises(error, match=said):
        evaluate(study)
    assert claim(study) is None


@pytest.mark.usefixtures("sealed")
def test_a_network_that_does_not_run_any_more_is_not_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_of(factory(Broken))
    run(study)
    monkeypatch.setattr(Broken, "gone", True)
    with pytest.raises(HoldoutError, match="isn't opened: .*RuntimeError: the table isn't there"):
        evaluate(study)
    assert claim(study) is None


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


@pytest.mark.parametrize("after", ["store_champion", "log_summary", "load_test", "_measure", "refuse_foreign"])
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
    assert (before is None) == (after in ("refuse_foreign", "store_champion", "_measure")), "they come before it"
    result = evaluate(study)
    if before:
        assert {key: (claim(study) or {})[key] for key in before} == before
    assert result.checkpoint_sha256 == (claim(study) or {})["checkpoint_sha256"]
    _assert_one_champion(study)


def _assert_one_champion(study: Study) -> None:
    client = connect(None)
    (version,) = client.search_model_versions("name = 'small'")
    ready = [model for model in client.search_logged_models(_experiments()) if model.status == LoggedModelStatus.READY]
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


def test_a_study_that_was_tested_with_too_many_outputs_can_be_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Earlier versions tested such modules."""
    study = study_of(factory(Many))
    with monkeypatch.context() as patch:
        for name in ("training.module.check_outputs", "training.checkpoints.check_outputs"):
            patch.setattr(f"searchlib.{name}", lambda *_: None)
        patch.setattr(dry_run, "dry_run", lambda *_: None)
        run(study)
        evaluate(study)
    path, _ = page.publish(study, Stores())
    assert "The network has 5 outputs for 3 classes." in path.read_text()
    with pytest.raises(StudyError, match="the champion has 5 outputs for 3 of the data set"):
        predict(study, Stores(), 0)


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


def test_one_example_is_asked_of_new_studies_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """An earlier version trained and evaluated such a module."""
    study = study_of(factory(Squeezed), trials=2)
    with monkeypatch.context() as patch:
        patch.setattr(dry_run, "dry_run", lambda *_: None)
        run(study, trials=1)
    assert [trial.state.name for trial in run(study).trials] == ["COMPLETE"] * 2
    assert evaluate(study).n == 60


def test_a_configuration_in_the_queue_does_not_spare_the_trial_run() -> None:
    study = study_of(factory(Many))
    prepare()
    made = optuna.create_study(study_name="small", storage=Stores().optuna_storage, direction="maximize")
    made.enqueue_trial({"learning_rate": 0.1})
    with pytest.raises(StudyError, match=r"of shape \[5, 3\]"):
        search_all(study)
    assert [trial.state.name for trial in stored(study).trials] == ["WAITING"]
