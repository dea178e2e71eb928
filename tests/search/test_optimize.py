"""The search: contracts of its records, resumption, targets, failures."""

from __future__ import annotations

import contextlib
import math
import threading
from collections import deque
from pathlib import Path
from typing import Any

import pytest
import torch
from optuna.trial import TrialState
from support import curve, mlflow_runs, prepare, replicates, run, search, search_all, small_study, stored, table

from searchlib import Choice, LogUniform, StudyError
from searchlib.analysis import best_trial, study_status
from searchlib.errors import DataError, DeviceError, TrackingError
from searchlib.report import gather
from searchlib.search import optimize
from searchlib.stores.mlflow_store import connect
from searchlib.stores.stores import Stores
from searchlib.study.record import Progress
from searchlib.training.precision import resolve_device


def test_every_trial_is_in_optuna_with_its_contract() -> None:
    study = small_study()
    trials = run(study).get_trials()
    assert [trial.number for trial in trials] == list(range(12))
    for trial in trials:
        assert trial.state is TrialState.COMPLETE
        assert set(trial.params) == {"initializer", "activation", "learning_rate", "batch_size"}
        assert {"mlflow_run_id", "outcome", "signature", "seed", "epochs_run"} <= set(trial.user_attrs)
        assert trial.user_attrs["signature"] == study.config(trial.params).signature
        assert trial.user_attrs["epochs_run"] == len(trial.intermediate_values) == 2
        assert trial.values == [max(trial.intermediate_values.values())]
        leads = trial.value > max((before.value for before in trials[: trial.number]), default=-1.0)
        assert ("checkpoint_sha256" in trial.user_attrs) == leads
    assert stored(study).direction.name == "MAXIMIZE"


def test_every_trial_is_in_mlflow_with_its_contract() -> None:
    study = small_study(trials=4)
    optuna_study = run(study)
    client = connect(None)
    (parent,) = mlflow_runs(study, "study")
    assert parent.info.status == "FINISHED"
    assert "searchlib.git.dirty" in parent.data.tags
    assert parent.data.tags["searchlib.device"] == "cpu"
    inputs = {item.dataset.name: item for item in parent.inputs.dataset_inputs}
    assert set(inputs) == {"blobs/training", "blobs/validation"}
    assert all(len(item.dataset.digest) <= 36 for item in inputs.values())
    assert {file.path for file in client.list_artifacts(parent.info.run_id, "study")} == {"study/study.json"}
    for trial in optuna_study.get_trials():
        found = client.get_run(trial.user_attrs["mlflow_run_id"])
        tags = found.data.tags
        assert tags["searchlib.kind"] == "trial"
        assert tags["mlflow.parentRunId"] == parent.info.run_id
        assert tags["optuna.study_name"] == "small"
        assert tags["optuna.trial_number"] == str(trial.number)
        assert tags["searchlib.outcome"] == "completed"
        assert found.info.status == "FINISHED"
        assert {name: found.data.params[name] for name in trial.params} == {k: str(v) for k, v in trial.params.items()}
        for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "learning_rate"):
            assert list(curve(found.info.run_id, name)) == [1, 2]
        assert curve(found.info.run_id) == trial.intermediate_values
        assert found.data.metrics["best_val_accuracy"] == trial.value
        assert found.data.metrics["best_epoch"] == trial.user_attrs["best_epoch"]


@pytest.mark.parametrize("pruner", ["none", "median", "within_cell"])
def test_evaluation_by_step_is_recorded_and_decides_nothing(pruner: str) -> None:
    settings = {
        "trials": 16, "replicates": 2, "fixed": {"momentum": 0.9, "epochs": 3, "batch_size": 32},
        "nuisance": {"learning_rate": LogUniform(0.01, 1.0)}, "pruner": pruner,
    }  # fmt: skip
    often = small_study(name="often", eval_every=3, **settings)
    run(often)
    seldom = small_study(name="seldom", **settings)
    run(seldom)
    assert table(often) == table(seldom)
    client = connect(None)
    for trial in [*stored(often).trials, *replicates(often)]:
        run_id = trial.user_attrs["mlflow_run_id"]
        steps = list(range(3, 7 * trial.user_attrs["epochs_run"] + 1, 3))
        for name in ("step_train_loss", "step_train_accuracy", "step_val_loss", "step_val_accuracy"):
            assert list(curve(run_id, name)) == steps
        at_steps = curve(run_id, "step_val_accuracy")
        assert at_steps.get(7 * 3) == trial.intermediate_values.get(3)
        assert trial.user_attrs["evaluations"] == len(steps)
    first = stored(seldom).trials[0].user_attrs
    assert "evaluations" not in first
    assert not [name for name in client.get_run(first["mlflow_run_id"]).data.metrics if "step" in name]


def test_trials_is_a_target_for_the_study() -> None:
    study = small_study()
    assert len(run(study, trials=4).trials) == 4
    assert len(run(study, trials=8).trials) == 8
    before = table(study)
    assert list(search(study, trials=8)) == []
    assert list(search(study, trials=3)) == []
    assert table(study) == before


def test_timeout_stops_and_the_same_call_goes_on() -> None:
    study = small_study()
    run(study, timeout=1e-6)
    assert all(not trial.state.is_finished() for trial in stored(study).trials)
    assert all(trial.state is TrialState.COMPLETE for trial in run(study).trials)


def test_a_changed_study_is_refused_and_the_change_named() -> None:
    run(small_study(trials=4))
    with pytest.raises(StudyError, match="momentum.*0.9.*0.5.*another name.*restore"):
        run(small_study(trials=4, fixed={"momentum": 0.5, "epochs": 2}))
    assert len(run(small_study(trials=8, question="Worded anew?")).trials) == 8


def test_a_diverged_trial_is_a_result_and_never_the_champion() -> None:
    rates = {"learning_rate": Choice(0.1, 1e30)}
    study = small_study(scientific={"activation": Choice("relu")}, nuisance=rates, sampler="grid", trials=2)
    good, wild = run(study).trials
    assert wild.user_attrs["outcome"] == "diverged"
    assert wild.state is TrialState.COMPLETE
    assert wild.values == [1 / 3], "that of having learnt nothing"
    assert wild.user_attrs["diverged_step"] in (1, 2)
    assert good.values[0] > 1 / 3
    assert best_trial(study, [wild, good]) is good
    status = study_status(study, Stores().read(study)).trials
    assert (status.completed, status.diverged, status.total) == (1, 1, 2)
    recorded = connect(None).get_run(wild.user_attrs["mlflow_run_id"])
    assert recorded.data.tags["searchlib.outcome"] == "diverged"
    assert recorded.info.status == "FINISHED"
    assert all(math.isfinite(value) and value < 1e100 for value in recorded.data.metrics.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nuisance": {"batch_size": Choice(16, 201)}}, "batch_size=201.*training split of 200.*at most 200"),
        ({"nuisance": {"batch_size": Choice(16, 199)}, "fixed": {"batch_norm": True}}, "batch_size=199.*batch_norm"),
    ],
)
def test_what_only_the_data_can_tell(changes, message) -> None:
    with pytest.raises(StudyError, match=message):
        run(small_study(**changes))


def test_devices() -> None:
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("auto") in ("cpu", "cuda", "mps")
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="'cuda' isn't there.*cpu"):
            resolve_device("cuda")


def narrow(config, dataset) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3))


def sometimes_broken(config, dataset) -> torch.nn.Module:
    return torch.nn.Linear(7, 3) if config.learning_rate > 0.5 else narrow(config, dataset)


def test_a_module_of_the_study_trains_by_the_plain_loop() -> None:
    study = small_study(model=narrow, trials=4, scientific={"initializer": Choice("xavier_normal", "zeros")})
    trials = run(study).get_trials()
    assert {trial.user_attrs["outcome"] for trial in trials} == {"completed"}
    assert best_trial(study, trials).values[0] > 0.5
    zeros = [trial.values[0] for trial in trials if trial.params["initializer"] == "zeros"]
    assert zeros == pytest.approx([1 / 3, 1 / 3], abs=0.01)


def test_a_trial_whose_module_raises_fails_alone() -> None:
    rates = {"learning_rate": Choice(0.1, 0.9, 0.2)}
    study = small_study(model=sometimes_broken, scientific={}, nuisance=rates, sampler="grid", trials=3)
    trials = run(study).get_trials()
    assert [trial.user_attrs["outcome"] for trial in trials] == ["completed", "failed", "completed"]
    assert trials[1].state is TrialState.FAIL
    client = connect(None)
    run_id = trials[1].user_attrs["mlflow_run_id"]
    assert client.get_run(run_id).info.status == "FAILED"
    assert "mat1 and mat2" in Path(client.download_artifacts(run_id, "traceback.txt")).read_text()


@pytest.mark.parametrize("timeout", [None, 0.2])
def test_a_tracking_store_that_cannot_be_opened_ends_the_search_soon(timeout: float | None) -> None:
    """A new study is refused before it is made. One that has begun opens the store beside the training: the error comes
    with the next epoch, also where the time is over by then."""
    prepare()
    Path("garbage.db").write_bytes(b"no database at all" * 100)
    study = small_study(trials=4, fixed={"momentum": 0.9, "epochs": 20_000})
    garbage = Stores(tracking_uri="sqlite:///garbage.db")
    with pytest.raises(TrackingError, match=r"garbage\.db' can't be opened"):
        next(search(study, garbage, timeout=timeout))
    assert Stores().optuna_study(study.name) is None
    with contextlib.closing(search(study, Stores())) as begun:
        next(begun)
    seen: deque[Progress] = deque(maxlen=1)
    with pytest.raises(TrackingError, match=r"garbage\.db' can't be opened"):
        seen.extend(search(study, garbage, timeout=timeout))
    assert all(progress.epoch < 10_000 for progress in seen)
    assert not any(trial.state.is_finished() for trial in stored(study).trials)


def test_a_folder_that_is_not_there_is_refused_before_anything_is_made() -> None:
    prepare()
    with pytest.raises(TrackingError, match="the folder 'nowhere' isn't there"):
        next(search(small_study(), Stores(tracking_uri="sqlite:///nowhere/mlflow.db")))
    assert not Path("optuna.journal").exists()


def test_nothing_is_recorded_before_the_parent_run_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that opens slowly: the stacks train on, and their trials are recorded once it is open."""
    prepare()
    recording = optimize.recording
    waited = threading.Event()

    def slowly(*arguments: Any, **settings: Any) -> Any:
        assert waited.wait(60)
        return recording(*arguments, **settings)

    monkeypatch.setattr(optimize, "recording", slowly)
    study, done = small_study(trials=12), 0
    for progress in search(study):
        done += len(progress.finished)
        if not waited.is_set():
            assert not any(trial.state.is_finished() for trial in stored(study).trials)
        if done >= 8:
            waited.set()
    assert done == 12
    trials = stored(study).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 12
    parents = {connect(None).get_run(t.user_attrs["mlflow_run_id"]).data.tags["mlflow.parentRunId"] for t in trials}
    assert parents == {stored(study).user_attrs["mlflow_run_id"]}


def test_other_training_data_are_refused() -> None:
    study = small_study(trials=4)
    run(study)
    labels = Path("data/Blobs/raw/train-labels-idx1-ubyte")
    good = labels.read_bytes()
    labels.write_bytes(good[:-1] + bytes([(good[-1] + 1) % 3]))
    with pytest.raises(DataError, match="has changed since its first trial: its training data had SHA-256"):
        search(study, trials=8).__next__()
    assert "has changed since its first trial" in gather(study, Stores()).gaps["decisions"]
    assert len(stored(study).trials) == 4
    labels.write_bytes(good)
    search_all(study, trials=8)
    assert len(stored(study).trials) == 8
