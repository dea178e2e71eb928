"""A study's own modules as champions: what a module has to be, and what is said where one can't be evaluated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import optuna
import pytest
import torch
from support import STORAGE, prepare, run, search_all, stored
from support.champions import CLASSES, Net, claim, evaluate, experiments, factory, study_of
from torch import nn

from searchlib import Choice, IntUniform
from searchlib.errors import HoldoutError, SearchlibError, StudyError
from searchlib.report import page
from searchlib.results import champion_network, holdout, predict, verify
from searchlib.stores.mlflow_store import connect
from searchlib.stores.stores import Stores
from searchlib.training import dry_run

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
    for model in connect(None).search_logged_models(experiments()):
        connect(None).delete_logged_model(model.model_id)
    for name in ("champion_checkpoint", "champion_no_program"):
        stored(study).set_user_attr(name, "")
    monkeypatch.setattr(holdout, "load_test", lambda *_, **__: pytest.fail("the test set was opened"))
    assert evaluate(study) == result
    assert connect(None).get_model_version_by_alias("small", "champion").tags["searchlib.no_program"]
    assert verify(study, Stores()).differences == []


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
