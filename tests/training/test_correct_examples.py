"""Which validation examples a run classifies correctly at its best epoch: kept, written down, read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support import replicates, run, small_study, stored
from support.stacks import curves, digits_study, finish, tasks_of

from searchlib import Choice, Examples, LogUniform, Study
from searchlib.analysis.examples import correct_examples
from searchlib.data import Split, get_dataset
from searchlib.study import CORRECT, pack_examples, unpack_examples
from searchlib.training import Snapshots, StackRun
from searchlib.training.engine import Engine
from searchlib.training.network import build_module


class Own(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(64, 12), torch.nn.BatchNorm1d(12), torch.nn.ReLU(), torch.nn.Dropout(0.3)
        )
        self.last = torch.nn.Linear(12, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.layers(x))


PLAIN = {"epochs": 6, "momentum": 0.9, "lr_decay": 0.9}
STUDIES = {
    "stack": {},
    "stack with noise": {"fixed": {**PLAIN, "batch_norm": True, "dropout": 0.2}},
    "own module": {
        "model": lambda config, dataset: Own(),
        "scientific": {"optimizer": Choice("sgd", "adam")},
        "fixed": {"epochs": 6},
        "trials": 4,
        "sampler": "random",
    },
}


def varied_data() -> Split:
    """Ten classes of about one size, of which 300 examples teach a part."""
    generator = torch.Generator().manual_seed(1)
    inputs = 16.0 * torch.randn(400, 64, generator=generator)
    targets = (inputs @ torch.randn(64, 10, generator=generator)).argmax(dim=1)
    parts = [Examples(inputs=inputs[part], targets=targets[part]) for part in (slice(300), slice(300, 400))]
    return Split(train=parts[0], validation=parts[1], seed=0, fraction=0.25)


def make(name: str) -> Study:
    changes = {"fixed": PLAIN, "nuisance": {"learning_rate": LogUniform(0.01, 0.2)}, **STUDIES[name]}
    return digits_study(**changes)


def start(study: Study, keep_examples: bool = True) -> list[StackRun]:
    engine = Engine(study, varied_data(), "cpu")
    return [
        engine.start(tasks, keeps=lambda run, value: True, keep_examples=keep_examples)
        for tasks in engine.group(tasks_of(study))
    ]


def kept(stacks: list[StackRun]) -> dict[int, list[bool] | None]:
    return {
        run.number: None if run.correct is None else run.correct.tolist()
        for stack in stacks
        for run in stack.runs.values()
    }


@pytest.mark.parametrize("name", STUDIES)
def test_they_are_those_of_the_best_epochs_weights(name: str) -> None:
    study = make(name)
    stacks = [finish(stack) for stack in start(study)]
    data, dataset = varied_data().validation, get_dataset(study.dataset)
    early = 0
    for one in (each for stack in stacks for each in stack.runs.values()):
        found = one.correct.numpy()
        assert found.shape == (100,)
        assert found.mean() == one.curves[one.best_epoch - 1]["val_accuracy"]
        early += one.best_epoch < 6
        module = build_module(study.model, one.config, dataset)
        module.load_state_dict(one.state)
        inputs = stacks[0].setup.data(one.config.input_scaling).val_inputs
        with torch.no_grad():
            outputs = module.eval()(inputs)
        assert found.tolist() == (outputs.argmax(dim=1) == data.targets).tolist()
    assert early, "some best epoch isn't the last"


@pytest.mark.parametrize("name", STUDIES)
def test_keeping_them_changes_no_bit_and_survives_a_kill(name: str, tmp_path: Path) -> None:
    study, snapshots = make(name), Snapshots(tmp_path)
    stacks = [finish(stack) for stack in start(study)]
    without = [finish(stack) for stack in start(study, keep_examples=False)]
    assert curves(without) == curves(stacks)
    assert set(kept(without).values()) == {None}
    resumed = []
    for stopped, again in zip(start(study), start(study), strict=True):
        for _ in range(5):
            stopped.advance()
        snapshots.save([stopped])
        assert snapshots.load([again])
        resumed.append(finish(again))
    assert kept(resumed) == kept(stacks)
    assert all(kept(stacks).values())


def test_a_snapshot_of_an_earlier_version_resumes_without_them() -> None:
    """A run has them again from its next best epoch on."""
    study = make("stack")
    stopped, expected = start(study)[0], finish(start(study)[0])
    for _ in range(4):
        stopped.advance()
    found = stopped.snapshot()
    assert found is not None
    note = json.loads(json.dumps(found[0]))
    tensors = {name: value for name, value in found[1].items() if not name.startswith("correct.")}
    assert len(tensors) == len(found[1]) - len(stopped.runs)
    resumed = start(study)[0]
    resumed.resume(note, tensors)
    assert curves([finish(resumed)]) == curves([expected])
    later = {number: one.best_epoch > 4 for number, one in expected.runs.items()}
    assert set(later.values()) == {True, False}
    assert kept([resumed]) == {number: own if later[number] else None for number, own in kept([expected]).items()}


def test_a_diverged_run_has_none() -> None:
    study = make("stack")
    stack = next(iter(start(study)))
    stack.advance()
    broken = next(iter(stack.runs.values()))
    engine = Engine(study, varied_data(), "cpu")
    assert engine.record(broken, keep_state=False).correct == pack_examples(broken.correct.numpy())
    stack.drop({broken.number}, "diverged")
    assert engine.record(broken, keep_state=False).correct == ""


def test_each_replicate_has_them_and_no_trial_of_the_search() -> None:
    study = small_study(trials=8, replicates=3)
    searched = run(study)
    assert [correct_examples(trial) for trial in searched.trials] == [None] * 8
    for trial in replicates(study):
        found = correct_examples(trial)
        assert found is not None
        assert (found.dtype, found.shape) == (np.dtype(bool), (40,))
        assert found.mean() == trial.values[0] == trial.intermediate_values[trial.user_attrs["best_epoch"]]
        assert CORRECT not in trial.user_attrs, "of which the dashboard shows each"
    assert len(replicates(study)) == 12
    assert stored(study).trials[0].system_attrs == {}


@pytest.mark.parametrize("n", [1, 7, 8, 9, 1000])
@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_a_text_gives_the_array_again(n: int, share: float) -> None:
    correct = np.random.default_rng(n).random(n) < share
    found = unpack_examples(pack_examples(correct))
    assert found.dtype == bool
    assert found.tolist() == correct.tolist()


def test_ten_thousand_examples_are_a_short_text() -> None:
    for share in (0.5, 0.98):
        correct = np.random.default_rng(1).random(10_000) < share
        assert len(pack_examples(correct)) < 1700


BROKEN = ["", "8", "x eJz7DwABAAEA", "8 eJz7", "9 eJz7DwABAQEA", "0 eJwDAAAAAAE=", "8 ?", None, 3]


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_text_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="text"):
        unpack_examples(text)  # type: ignore[arg-type]
