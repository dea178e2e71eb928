"""Regression is a full citizen: the data set of a function, from the study file to the report and the champion."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
from pathlib import Path

import pytest
import torch
from support import replicates, run, small_study, stored
from support.page import drawn, gathered, page_of

from searchlib import Choice, LogUniform, StudyError, function_dataset
from searchlib.analysis import correct_examples, study_status
from searchlib.data.datasets import load_test, load_train
from searchlib.data.splits import split
from searchlib.errors import DataError
from searchlib.report.exhibits import draw
from searchlib.report.material import Material
from searchlib.results.holdout import evaluate
from searchlib.results.prediction import Estimate, predict
from searchlib.results.verification import verify
from searchlib.stores.mlflow_store import connect
from searchlib.stores.stores import Stores
from searchlib.stores.tracking import Tracker
from searchlib.training.loop import input_scale


def wave(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * x + torch.sin(3.0 * x)


def waves(**changes):
    settings = {"low": -3.0, "high": -1.0, "train": 240, "test": 60, "noise": 0.05, "seed": 1}
    return function_dataset("waves", wave, **{**settings, **changes})


def regression(**changes):
    settings = {
        "dataset": waves(),
        "scientific": {"activation": Choice("tanh", "relu")},
        "nuisance": {"learning_rate": LogUniform(0.01, 0.1)},
        "fixed": {"optimizer": "adam", "epochs": 4, "batch_size": 20, "input_scaling": "symmetric"},
        "trials": 4,
        "replicates": 2,
    }
    return small_study(**{**settings, **changes})


# ----------------------------------------------------------------------------------------------------- the data set


def test_what_a_function_draws(tmp_path: Path) -> None:
    dataset = waves()
    train, test = load_train(dataset, tmp_path), load_test(dataset, tmp_path)
    assert (len(train), len(test), train.inputs.dtype, train.targets.dtype) == (240, 60, torch.float32, torch.float32)
    assert train.digest == load_train(waves(), tmp_path).digest, "the same every time"
    assert len({one.digest for seed in (1, 2) for one in (load_train(waves(seed=seed), tmp_path), test)}) == 3
    assert not set(train.inputs.flatten().tolist()) & set(test.inputs.flatten().tolist()), "two independent draws"
    big = load_train(waves(train=20_000), tmp_path)
    assert (float(big.inputs.min()), float(big.inputs.max())) == pytest.approx((-3.0, -1.0), abs=1e-3)
    assert (float(big.inputs.mean()), float(big.inputs.var())) == pytest.approx((-2.0, 4 / 12), abs=0.02), "uniform"
    noise = big.targets - wave(big.inputs)
    assert (float(noise.mean()), float(noise.std())) == pytest.approx((0.0, 0.05), abs=2e-3)
    exact = load_train(waves(noise=0.0), tmp_path)
    assert torch.equal(exact.targets, wave(exact.inputs))
    assert torch.equal(exact.inputs, train.inputs), "noise doesn't change the inputs"


def test_more_inputs_and_outputs(tmp_path: Path) -> None:
    flat = load_train(function_dataset("flat", lambda x: x.sum(dim=1), inputs=3, train=10), tmp_path)
    assert (flat.inputs.shape, flat.targets.shape) == ((10, 3), (10, 1))
    both = load_train(function_dataset("both", lambda x: x[:, :2], inputs=3, outputs=2, train=10), tmp_path)
    assert torch.equal(both.targets, both.inputs[:, :2])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"low": 1.0, "high": 1.0}, "expected low below high"),
        ({"high": math.inf}, "expected low below high"),
        ({"noise": -1.0}, "standard deviation of 0 or more"),
        ({"train": 1}, "train 1; expected a whole number of 2 or more"),
        ({"test": 0}, "test 0; expected a whole number of 1 or more"),
        ({"seed": 0.5}, "seed 0.5; expected a whole number"),
        ({"inputs": True}, "inputs True; expected a whole number"),
    ],
    ids=str,
)
def test_a_wrong_argument_is_refused(change: dict, expected: str) -> None:
    with pytest.raises(StudyError, match=re.escape(expected)):
        waves(**change)
    with pytest.raises(StudyError, match="expected a function of the study file"):
        function_dataset("waves", 3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x.log(), "gives NaN or infinity between -3 and -1"),
        (lambda x: x.sum(), r"gave \[\], expected a tensor \[240, 1\]"),
        (lambda x: 1.0, r"gave float, expected a tensor \[240, 1\]"),
        (lambda x: x @ x, r"function <lambda> failed: RuntimeError: .*; it gets \[240, 1\]"),
    ],
    ids=("log", "sum", "number", "raises"),
)
def test_a_wrong_function_is_said(function, expected: str, tmp_path: Path) -> None:
    settings = {"low": -3.0, "high": -1.0, "train": 240}
    with pytest.raises(DataError, match=f"own: function .*{expected.removeprefix('function <lambda> ')}"):
        load_train(function_dataset("own", function, **settings), tmp_path)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.0, -1.0), (-2.0, 0.0), (5.0, 9.0)])
def test_scalings_map_the_range_of_the_inputs(low: float, high: float, tmp_path: Path) -> None:
    dataset = waves(low=low, high=high)
    train = load_train(dataset, tmp_path)
    for kind, ends in (("unit", (0.0, 1.0)), ("symmetric", (-1.0, 1.0))):
        factor, offset = input_scale(kind, dataset, train)
        assert (low * factor + offset, high * factor + offset) == pytest.approx(ends)


@pytest.mark.parametrize("change", [{"noise": 0.2}, {"high": -0.5}, {"seed": 2}], ids=str)
def test_other_data_are_another_study(change: dict) -> None:
    """So is another function: tests/study/test_identity.py."""
    assert regression(dataset=waves(**change)).identity != regression().identity == regression().identity


# --------------------------------------------------------------------------------------------------- from end to end


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A finished regression with replicates and an opened test set, in a folder that tests may read."""
    folder = tmp_path_factory.mktemp("regression")
    with contextlib.chdir(folder):
        run(regression())
        evaluate(regression(), Stores())
    return folder


@pytest.fixture
def material(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Material:
    monkeypatch.chdir(finished)
    return gathered(regression())


def test_the_smallest_loss_wins(material: Material) -> None:
    found = study_status(regression(), Stores().read(regression()))
    searched = stored(regression())
    assert searched.direction.name == "MINIMIZE"
    assert found.best.value == min(trial.value for trial in searched.trials)
    metrics = connect(None).get_run(searched.trials[0].user_attrs["mlflow_run_id"]).data.metrics
    assert "best_val_loss" in metrics
    assert not [name for name in metrics if "accuracy" in name]
    means = [cell.mean for cell in material.findings.cells]
    assert means == sorted(means)
    assert verify(regression(), Stores()).differences == []
    assert {correct_examples(trial) for trial in replicates(regression())} == {None}, "a loss has no correct examples"


def test_the_test_says_loss_and_r2(material: Material) -> None:
    test = material.findings.test_result
    examples = load_test(regression().dataset, Path("data"))
    with Tracker(regression(), Stores()) as tracker:
        from searchlib.results.champion import predict as outputs

        predicted = torch.from_numpy(outputs(tracker, examples.inputs.numpy()))  # raw inputs below 0 and above 1
        metrics = tracker.client.get_run(material.run_id).data.metrics
    error = float((predicted - examples.targets).square().mean())
    r2 = 1.0 - error / float(examples.targets.var(correction=0))
    assert (test.loss, test.r2) == pytest.approx((error, r2), rel=1e-4)
    assert (metrics["test_loss"], metrics["test_r2"]) == (test.loss, test.r2)
    assert f"R² {test.r2:.3f}" in material.findings.answer


def test_predict_shows_input_target_and_prediction(material: Material) -> None:
    study = regression()
    examples = split(load_train(study.dataset, Path("data")), seed=0, fraction=1 / 6).validation
    found = predict(study, Stores(), 3)
    assert isinstance(found, Estimate)
    assert (found.inputs, found.target) == ((float(examples.inputs[3]),), (float(examples.targets[3]),))
    x, fits = torch.tensor(material.fits.x), material.fits
    nearest = int((x - found.inputs[0]).abs().argmin())
    assert found.prediction[0] == pytest.approx(next(iter(fits.curves.values()))[nearest], abs=0.05)
    text = "\n".join(found.lines())
    assert re.search(r"input +-\d.*\n +target +\S+\n +prediction +\S+\n +squared error", text)


def test_the_page_is_about_losses(material: Material) -> None:
    figures = drawn(material)
    assert {"fits", "cells", "curves"} <= figures
    assert figures.isdisjoint({"confusion", "classes", "decisions"})
    text = page_of(regression(), material).text
    assert [word for word in ("accuracy", "classes", "chance level", "highest", "{{") if word in text] == []
    assert not re.search(r"\d points\b", text), "a loss has no points"
    for words in ("falls at its end", "mean squared error", "the error of always giving the mean"):
        assert words in text
    findings = dataclasses.replace(material.findings, test_result=None, test_ledger=None)
    sealed = dataclasses.replace(material, findings=findings)
    assert "The test set is sealed: there is nothing to show yet." in page_of(regression(), sealed).text


def test_the_fitted_curves_are_the_networks(material: Material) -> None:
    """Against the checkpoint's own weights, multiplied out by hand."""
    from safetensors.torch import load

    fits = material.fits
    assert list(fits.curves) == [0, 1]
    x = torch.tensor(fits.x)
    assert (float(x.min()), float(x.max())) == pytest.approx((-3.0, -1.0), abs=0.01)
    assert fits.function == pytest.approx(wave(x).tolist())
    cell = material.findings.cells[1]
    best = min(
        (t for t in replicates(regression()) if t.user_attrs["source"] == cell.trial), key=lambda trial: trial.value
    )
    with Tracker(regression(), Stores()) as tracker:
        state = load(tracker.checkpoint(best.user_attrs["mlflow_run_id"]))
    phi = {"tanh": torch.tanh, "relu": torch.relu}[cell.scientific["activation"]]
    hidden = phi(torch.nn.functional.linear(x[:, None] + 2.0, state["linear0.weight"], state["linear0.bias"]))
    by_hand = torch.nn.functional.linear(hidden, state["linear1.weight"], state["linear1.bias"])
    assert fits.curves[1] == pytest.approx(by_hand.flatten().tolist(), abs=1e-5)
    (shown,) = (one for one in draw(material) if one.name == "fits")
    assert shown.drawn
    assert [trace["name"] for trace in shown.drawn.plot.data] == [
        "validation examples", "the function", *(cell.label for cell in material.findings.cells for _ in range(2))
    ]  # fmt: skip


def test_more_than_one_input_without_replicates() -> None:
    plane = function_dataset("plane", lambda x: x[:, :1] - x[:, 1:], inputs=2, train=60, test=20)
    study = regression(dataset=plane, replicates=0, trials=2)
    run(study)
    material = gathered(study)
    examples = split(load_train(plane, Path("data")), seed=0, fraction=1 / 6).validation
    assert material.fits.target == examples.targets.flatten().tolist()
    off = torch.tensor(material.fits.prediction) - examples.targets.flatten()
    best = study_status(study, Stores().read(study)).best.value
    assert float(off.square().mean()) == pytest.approx(best, rel=1e-4), "the champion's best epoch"
    assert material.fits.r2 == pytest.approx(1.0 - best / float(examples.targets.var(correction=0)), rel=1e-3)
    assert "prediction against target" in page_of(study, material).scripts["spec-fits"]


def test_a_function_that_isn_t_defined_at_an_end_is_drawn() -> None:
    def entropy(x: torch.Tensor) -> torch.Tensor:
        return x.view(-1) * x.view(-1).log()

    study = small_study(dataset=function_dataset("entropy", entropy, train=240, test=60), trials=4)
    run(study)
    fits = gathered(study).fits
    assert fits.function == pytest.approx(entropy(torch.tensor(fits.x)).tolist())


def test_a_function_that_depends_on_more_than_the_study_file_is_refused() -> None:
    factor = 2.0
    with pytest.raises(StudyError, match="reads factor of the function around it"):
        function_dataset("scaled", lambda x: factor * x)
