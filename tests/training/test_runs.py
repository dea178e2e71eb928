"""Stacks that resume from a snapshot, that don't fit into memory, or in which a study's own function raises."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support import run, small_study, stored
from support.stacks import curves, digits_study, finish, one_stack, some_data, tasks_of

from searchlib.errors import DeviceError, StorageError
from searchlib.networks import OPTIMIZERS
from searchlib.stores.mlflow_store import connect
from searchlib.study.space import Choice, LogUniform
from searchlib.study.study import Study
from searchlib.training.engine import Engine
from searchlib.training.snapshots import Snapshots
from searchlib.training.stack import Stack
from searchlib.training.stack_run import StackRun


def everything(stack: StackRun) -> dict[int, tuple]:
    return {
        run.number: (
            curves([stack])[run.number],
            [{name: value for name, value in point.items() if name != "time"} for point in run.steps],
            run.diagnostics,
            run.best,
            run.best_epoch,
            run.outcome,
        )
        for run in stack.runs.values()
    }


def assert_same_states(first: StackRun, second: StackRun) -> None:
    """The parameters of each run's best epoch."""
    for number, run_ in first.runs.items():
        assert run_.state is not None
        assert all(torch.equal(value, second.runs[number].state[key]) for key, value in run_.state.items())


@pytest.fixture
def snapshots() -> Snapshots:
    return Snapshots(Path("snapshots"))


def save_after_an_epoch(snapshots: Snapshots, study: Study | None = None, notes: dict[str, str] | None = None) -> None:
    stopped = one_stack(study or digits_study())
    stopped.advance()
    stopped.runs[0].notes = notes or {}
    snapshots.save([stopped])


SETTINGS = {
    **{name: {"optimizer": name, "weight_decay": 0.01, "momentum": 0.5} for name in OPTIMIZERS},
    "batch_norm, dropout": {"batch_norm": True, "dropout": 0.2},
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("after", [1, 3])
def test_a_resumed_stack_gives_the_same_results_to_the_last_bit(name: str, after: int, snapshots: Snapshots) -> None:
    learning_rate = LogUniform(1e-4, 1e-2) if "optimizer" in SETTINGS[name] else LogUniform(0.01, 0.1)
    study = digits_study(nuisance={"learning_rate": learning_rate})
    study = digits_study(nuisance=study.nuisance, fixed={**study.fixed, **SETTINGS[name]})
    expected = everything(finish(one_stack(study)))
    stopped = one_stack(study)
    for _ in range(after):
        stopped.advance()
    stopped.drop({1, 2})
    stopped.advance()
    snapshots.save([stopped])
    finish(stopped)
    resumed = one_stack(study)
    assert snapshots.load([resumed])
    assert resumed.epoch == after + 1
    finish(resumed)
    assert everything(resumed) == everything(stopped)
    assert_same_states(resumed, stopped)
    assert {resumed.runs[number].outcome for number in (1, 2)} == {"pruned"}
    assert everything(resumed).keys() == expected.keys()
    assert everything(resumed)[1] != expected[1]


def noisy(x: torch.Tensor) -> torch.Tensor:
    return x.tanh() + 0.1 * torch.randn_like(x)


class Drawing(torch.nn.Module):
    """Draws in evaluation, too, from torch's global generator."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(64, 10)
        self.norm = torch.nn.BatchNorm1d(10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.linear(torch.nn.functional.dropout(x, 0.3, training=self.training)))
        return y + 0.1 * torch.randn_like(y)


OWN = {
    "own function": {"scientific": {"activation": Choice(noisy, "tanh")}, "trials": 4},
    "own module": {"model": lambda config, dataset: Drawing(), "scientific": {}, "trials": 1, "sampler": "random"},
}


@pytest.mark.parametrize("kind", OWN)
def test_what_a_study_draws_is_the_same_after_a_kill(kind: str, snapshots: Snapshots) -> None:
    study = digits_study(**OWN[kind], fixed={"epochs": 4, "optimizer": "adam"})
    expected = everything(finish(one_stack(study)))
    torch.randn(7)  # whatever was drawn before
    save_after_an_epoch(snapshots, study)
    torch.randn(3)
    resumed = one_stack(study)
    assert snapshots.load([resumed])
    assert everything(finish(resumed)) == expected


def test_a_snapshot_is_loaded_by_the_same_stack_only(snapshots: Snapshots) -> None:
    save_after_an_epoch(snapshots)
    assert not snapshots.load([one_stack(digits_study(seed=1))])
    assert not snapshots.load([one_stack(digits_study(trials=4))])
    file = next(Path("snapshots").iterdir())
    file.write_bytes(file.read_bytes()[:-100])
    assert not snapshots.load([one_stack(digits_study())])
    snapshots.remove([one_stack(digits_study())])
    assert list(Path("snapshots").iterdir()) == []


def test_snapshots_of_earlier_versions_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key of a stack, and with it the name of its file, is what it was in the first version with snapshots."""
    monkeypatch.setattr(torch, "__version__", "2.11.0")
    study = Study(question="?", dataset="digits", scientific={"activation": Choice("relu", "tanh")}, trials=2)
    tasks = [replace(task, order_seed=7) for task in tasks_of(study)]
    stack = Engine(study, some_data(), "cpu").start(tasks, keeps=lambda run, value: True)
    assert stack.key == "495903af9a6ecf69e7a1686247fc7db7829fc1c72148e6b2469f8e6eb19bc4d3"
    assert Snapshots(Path("snapshots"))._path([stack, stack]).name == "4d96b8967a35dd58748b4bf1.safetensors"
    stack.advance()
    found = stack.snapshot()
    assert found is not None
    note, tensors = found
    assert set(note) == {"epoch", "alive", "runs"}
    assert set(note["runs"][0]) == {
        "started", "curves", "steps", "diagnostics", "best", "best_epoch", "outcome", "diverged_step", "error",
        "reason", "halved", "notes",
    }  # fmt: skip
    assert {name.split(".")[0] for name in tensors} == {"run", "stack"}


@pytest.mark.slow
def test_notes_may_be_large(snapshots: Snapshots) -> None:
    much = "x" * 120_000_000  # more than the header of the file may hold
    save_after_an_epoch(snapshots, notes={"much": much})
    resumed = one_stack(digits_study())
    assert snapshots.load([resumed])
    assert resumed.runs[0].notes["much"] == much


def test_what_cannot_resume_is_trained_again(snapshots: Snapshots, monkeypatch: pytest.MonkeyPatch) -> None:
    save_after_an_epoch(snapshots)
    resumed = one_stack(digits_study())
    with monkeypatch.context() as short:
        short.setattr(Stack, "resume", lambda *_: (_ for _ in ()).throw(MemoryError("no more")))
        assert not snapshots.load([resumed])
    assert list(Path("snapshots").iterdir()) == []
    assert everything(finish(resumed)) == everything(finish(one_stack(digits_study())))


@pytest.mark.parametrize("kind", ["fused", "own function", "own module"])
def test_evaluation_by_step_changes_nothing_else(kind: str) -> None:
    changes = {"fused": {"fixed": {"epochs": 3, "dropout": 0.2, "batch_norm": True}}, **OWN}[kind]
    often, seldom = (finish(one_stack(digits_study(**{**changes, "eval_every": each}))) for each in (4, None))
    for number, found in everything(often).items():
        expected = everything(seldom)[number]
        assert (found[0], *found[2:]) == (expected[0], *expected[2:])
        assert len(found[1]) == 3 * often.epochs // 4
    assert_same_states(often, seldom)


def test_a_full_disk_is_one_line(snapshots: Snapshots) -> None:
    Path("snapshots").write_text("a file where a folder should be")
    with pytest.raises(StorageError, match="'snapshots', the folder for snapshots.*free some space"):
        save_after_an_epoch(snapshots)


def test_no_snapshot_is_due_before_its_time(snapshots: Snapshots, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = one_stack(digits_study())
    snapshots.load([stack])
    stack.advance()
    assert not snapshots.is_due([stack])
    monkeypatch.setattr("searchlib.training.snapshots.SECONDS", 0.0)
    assert snapshots.is_due([stack])


# -------------------------------------------------------------------------------------------- what goes wrong


def test_short_of_memory_a_stack_trains_in_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    study = digits_study(scientific={"activation": Choice("relu", "tanh")})
    expected = curves([finish(one_stack(study))])
    step = Stack.step

    def limited(stack: Stack, *arguments):
        if len(stack.members) > 2 and stack.batches > 5:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")
        return step(stack, *arguments)

    monkeypatch.setattr(Stack, "step", limited)
    stack = finish(one_stack(study))
    assert curves([stack]).keys() == expected.keys()
    for number, points in curves([stack]).items():
        assert torch.allclose(torch.tensor(points), torch.tensor(expected[number]), rtol=1e-3)
    assert {found.halved for found in stack.runs.values()} == {2}
    assert {tuple(point["step"] for point in found.steps) for found in stack.runs.values()} == {(4, 8, 12)}
    assert stack.snapshot() is None
    record = Engine(study, some_data(), "cpu").record(stack.runs[0], keep_state=True)
    assert "memory was short: trained in a smaller stack than planned" in record.diagnosis
    monkeypatch.setattr(Stack, "step", lambda *_: (_ for _ in ()).throw(MemoryError("no more")))
    with pytest.raises(DeviceError, match="trial 0: the memory of device 'cpu' isn't enough.*no more"):
        finish(one_stack(study))


SHORT = """
import resource
import torch
from support.stacks import digits_study, finish, one_stack
from searchlib import MLP, Choice

torch.set_num_threads(1)
study = digits_study(model=MLP(hidden=(10_000,)), scientific={"activation": Choice("relu", "tanh")},
    fixed={"epochs": 1, "batch_size": 150})
finish(one_stack(digits_study(trials=4)))  # what torch itself needs is there before the limit
stack = one_stack(study)
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 140 * 2**20,) * 2)  # one trial takes about 30 MB
for run in finish(stack).runs.values():
    print(run.number, run.outcome, len(run.curves), run.halved)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the size of a process is read from /proc")
def test_memory_that_is_really_short() -> None:
    returned = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed goes back, instead of staying in a heap with holes
    environment = {**os.environ, **returned, "PYTHONPATH": os.pathsep.join(map(str, Path(__file__).parents[:3]))}
    done = subprocess.run([sys.executable, "-c", SHORT], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    found = [line.split() for line in done.stdout.splitlines()]
    assert [(number, outcome, epochs) for number, outcome, epochs, _ in found] == [
        (str(number), "completed", "1") for number in range(8)
    ]
    assert {int(halved) for *_, halved in found} <= {1, 2, 3}


def refuses(x: torch.Tensor) -> torch.Tensor:
    raise ValueError("out of the domain")


@pytest.mark.slow
def test_a_function_that_raises_fails_its_own_trials_only() -> None:
    study = small_study(scientific={"activation": Choice("relu", refuses, "tanh")}, trials=6, round_size=6)
    trials = run(study).get_trials()
    outcomes = {trial.number: trial.user_attrs["outcome"] for trial in trials}
    assert [outcomes[number] for number in range(6)] == ["completed", "failed", "completed"] * 2
    client = connect(None)
    run_id = trials[1].user_attrs["mlflow_run_id"]
    text = Path(client.download_artifacts(run_id, "traceback.txt")).read_text()
    assert "ValueError: out of the domain" in text
    assert client.get_run(run_id).info.status == "FAILED"
    alone = small_study(name="alone", scientific={"activation": Choice("relu", "tanh")}, trials=4, round_size=4)
    values = {(t.params["activation"], t.params["learning_rate"]): t.values for t in run(alone).get_trials()}
    neighbours = {(t.params["activation"], t.params["learning_rate"]): t.values for t in trials if t.values}
    assert len(neighbours) == len(values) == 4
    assert stored(study).trials[0].intermediate_values.keys() == {1, 2}
