"""Stacks trained side by side: the same results as one after another, stopped cleanly, nothing waits for the host."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest
import torch
from support.alone import make_data, make_members, make_stack
from support.stacks import curves, digits_study, some_data, stacks_of, tasks_of
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from searchlib.data import get_dataset
from searchlib.errors import DeviceError
from searchlib.networks import OPTIMIZERS
from searchlib.study.config import TrialConfig
from searchlib.study.model import MLP
from searchlib.study.space import Choice, LogUniform
from searchlib.study.study import Study
from searchlib.training.deadline import Deadline, OutOfTimeError
from searchlib.training.engine import Engine
from searchlib.training.grouping import MAX_STACK, stack_size
from searchlib.training.loop import HaltedError, train
from searchlib.training.precision import check_precision
from searchlib.training.stack import Stack
from searchlib.training.stack_run import StackRun
from searchlib.training.workers import Workers


def a_study(**changes) -> Study:
    settings = {
        "scientific": {"activation": Choice("relu", "tanh", "gelu")},
        "nuisance": {"learning_rate": LogUniform(0.01, 0.3), "batch_size": Choice(16, 32, 64)},
        "fixed": {"epochs": 3, "momentum": 0.9},
        "trials": 18,
        "eval_every": None,
    }
    return digits_study(**{**settings, **changes})


def advance_all(stacks: Iterable[StackRun], count: int = 2) -> None:
    with Workers(count) as workers:
        list(workers.advance(stacks, deadline=Deadline(None)))


@pytest.mark.parametrize("count", [2, 3])
def test_side_by_side_as_one_after_another(count: int) -> None:
    study = a_study()
    alone = list(stacks_of(study))
    for stack in alone:
        advance_all([stack], 1)
    together = list(stacks_of(study))
    with Workers(count) as workers:
        finished = [over for _, over, _ in workers.finish(together, deadline=Deadline(None))]
    assert [stack for over in finished for stack in over] == together  # in their own order, whichever was first
    assert len(together) >= 3
    assert curves(together) == curves(alone)


def test_until_an_epoch() -> None:
    stacks = list(stacks_of(a_study()))
    with Workers(2) as workers:
        seen = [(stack, stack.epoch) for stack, _ in workers.advance(stacks, deadline=Deadline(None), until=2)]
    assert {stack.epoch for stack in stacks} == {2}
    assert sorted(epoch for _, epoch in seen) == sorted([1, 2] * len(stacks))


def test_leaving_early_stops_the_others_in_the_middle_of_their_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    step = Stack.step

    def slow(*arguments):
        time.sleep(0.05)
        return step(*arguments)

    monkeypatch.setattr(Stack, "step", slow)
    study = a_study(nuisance={"learning_rate": LogUniform(0.01, 0.3), "batch_size": Choice(1, 300)})
    with Workers(2) as workers:
        steps = workers.advance(stacks_of(study), deadline=Deadline(None))
        next(steps)  # a stack of batch size 300: the other one has 300 steps to go, 15 seconds
        began = time.monotonic()
        steps.close()
        assert time.monotonic() - began < 5.0


def test_no_stack_is_begun_after_the_deadline() -> None:
    stacks = list(stacks_of(a_study()))
    with Workers(2) as workers, pytest.raises(OutOfTimeError):
        list(workers.advance(stacks, deadline=Deadline(0.0)))
    assert all(stack.epoch == 0 for stack in stacks)


def test_an_error_in_a_worker_reaches_the_caller() -> None:
    stacks = list(stacks_of(a_study()))

    def build(members, data):
        raise ArithmeticError("no room")

    stacks[1].setup = replace(stacks[1].setup, build=build)
    with pytest.raises(ArithmeticError, match="no room"):
        advance_all(stacks)


def test_torch_keeps_its_settings() -> None:
    before = torch.get_num_threads(), torch.backends.mkldnn.matmul.fp32_precision
    advance_all(stacks_of(a_study(trials=3)))
    assert (torch.get_num_threads(), torch.backends.mkldnn.matmul.fp32_precision) == before


@pytest.mark.parametrize(
    ("hidden", "inputs", "device", "size"),
    [((100,), 784, "cpu", 18), ((32,), 64, "cpu", 40), ((2000,), 784, "cpu", 4), ((2000,), 784, "cuda:0", MAX_STACK)],
)
def test_a_stack_is_as_large_as_the_caches(hidden, inputs, device, size) -> None:
    dataset = get_dataset("digits" if inputs == 64 else "fashion_mnist")
    assert dataset.inputs == inputs
    assert stack_size(TrialConfig(hidden=hidden), dataset, device) == size


def test_groups_are_even() -> None:
    study = a_study(nuisance={"learning_rate": LogUniform(0.01, 0.3)}, trials=48)
    assert [len(stack.runs) for stack in stacks_of(study)] == [24, 24]


def test_code_of_a_study_finds_torch_multiplying_as_ever() -> None:
    """torch.get_float32_matmul_precision raises where oneDNN multiplies in float32."""

    def asking(x: torch.Tensor) -> torch.Tensor:
        assert torch.get_float32_matmul_precision() == "highest"
        return x.tanh()

    (stack, *_) = stacks_of(a_study(scientific={"activation": Choice(asking)}))
    advance_all([stack], 1)
    assert {run.outcome for run in stack.runs.values()} == {"completed"}


@pytest.mark.parametrize(("trials", "sizes"), [(2, [1, 1]), (12, [3, 3, 3, 3]), (200, [40] * 5)])
def test_as_many_stacks_as_are_asked_for(trials: int, sizes: list[int]) -> None:
    study = a_study(nuisance={"learning_rate": LogUniform(0.01, 0.3)}, trials=trials)
    engine = Engine(study, some_data(), "cpu")
    assert [len(group) for group in engine.group(tasks_of(study), at_least=4)] == sizes


def test_bfloat16_products_are_an_explicit_choice() -> None:
    """Rounding the factors to eight bits changes results by about a percent, and only where it is asked for."""
    try:
        check_precision("bfloat16", "cpu")
    except DeviceError:
        pytest.skip("this CPU multiplies no bfloat16")
    data = some_data(inputs=784)  # of small products oneDNN rounds nothing on some CPUs

    def stacks(**fixed) -> list[StackRun]:
        nuisance = {"learning_rate": LogUniform(0.01, 0.1), "batch_size": Choice(100, 128)}
        study = a_study(
            dataset="fashion_mnist", model=MLP(hidden=(100,)), nuisance=nuisance, fixed={"epochs": 1, **fixed}
        )
        return list(stacks_of(study, data))

    rough, exact = stacks(precision="bfloat16"), stacks()
    with Workers(2) as workers:
        list(workers.advance([*rough, *exact], deadline=Deadline(None)))
        again = stacks()
        list(workers.advance(again, deadline=Deadline(None)))
    assert curves(again) == curves(exact)
    pairs = [(low[0][1], high[0][1]) for low, high in zip(curves(rough).values(), curves(exact).values(), strict=True)]
    assert all(low != high for low, high in pairs)
    assert all(low == pytest.approx(high, rel=0.02) for low, high in pairs)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_without_bfloat16_products_is_refused(device: str) -> None:
    check_precision("float32", device)
    with pytest.raises(DeviceError, match=r"bfloat16.*take precision='float32'"):
        check_precision("bfloat16", device)


class Operators(TorchDispatchMode):
    """Notes torch's own operators that make the host wait for a device, whoever calls them."""

    def __init__(self, seen: list[str]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().removeprefix("aten::").split(".")[0]
        by_mask = name.startswith("index") and any(getattr(i, "dtype", None) == torch.bool for i in args[1] or [])
        if by_mask or name in ("_local_scalar_dense", "nonzero", "equal", "masked_select", "_unique2", "unique_dim"):
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


class Methods(TorchFunctionMode):
    """Notes methods that bring numbers to the host, which on the CPU need no operator."""

    def __init__(self, seen: list[str]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        if name in ("tolist", "item", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__"):
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def waits() -> Iterator[list[str]]:
    seen: list[str] = []
    with Methods(seen), Operators(seen):
        yield seen


@pytest.mark.parametrize(
    "wait",
    [
        lambda v: v.tolist(),
        lambda v: float(v.sum()),
        lambda v: v[v > 1],
        lambda v: bool((v > 1).any()),
        lambda v: v.cpu(),
        lambda v: v.nonzero(),
        lambda v: torch.equal(v, v),
    ],
)
def test_the_counter_of_waits_counts(wait) -> None:
    values = torch.arange(3)
    with waits() as seen:
        values + 1
        assert seen == []
        wait(values)
    assert seen


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("extras", [{}, {"batch_norm": True, "dropout": 0.3}, {"weight_decay": 0.01}])
def test_no_step_waits_for_the_device(optimizer: str, extras: dict[str, object]) -> None:
    """On a GPU the host may run ahead within an epoch: nothing in a step asks the device for a number."""
    data = make_data(dtype=torch.float32)
    names = ["relu", "tanh", "gelu", "prelu", "mish"]
    stack = make_stack(make_members(names, optimizer=optimizer, batch_size=10, epochs=1, **extras), data)
    rate = torch.full((len(names),), 0.01)
    stack.step(data.train_inputs[:10], data.train_targets[:10], rate)  # the first notes the rates: once an epoch
    with waits() as seen:
        for start in range(10, 50, 10):
            stack.step(data.train_inputs[start : start + 10], data.train_targets[start : start + 10], rate)
    assert seen == []


def test_an_epoch_waits_as_often_whatever_its_steps() -> None:
    def count(batch_size: int) -> int:
        stack = make_stack(make_members(["relu"] * 3, momentum=0.9, batch_size=batch_size, epochs=1), data)
        with waits() as seen:
            list(train(stack, data))
        return len(seen)

    data = make_data(dtype=torch.float32)
    assert 0 < count(5) == count(25) < 10


def test_evaluations_by_step_wait_for_the_end_of_the_epoch() -> None:
    data = make_data(dtype=torch.float32)
    stack = make_stack(make_members(["relu"] * 3, momentum=0.9, batch_size=5, epochs=1), data)
    before: list[int] = []
    with waits() as seen:

        def halted() -> bool:
            before.append(len(seen))
            return False

        (epoch,) = train(stack, data, eval_every=2, halted=halted)
    assert (len(epoch.steps), len(before)) == (5, 10)
    assert set(before[1:]) == {before[1]}, "in the first step the optimizer notes the rates"


def test_training_halts_between_two_steps() -> None:
    stack = next(stacks_of(a_study()))
    asked = iter([False, False, True])
    with pytest.raises(HaltedError):
        stack.advance(lambda: next(asked))


def test_what_goes_wrong_in_taking_the_next_stack_waits_for_those_in_training() -> None:
    good = list(stacks_of(a_study()))[:3]

    def stacks() -> Iterator[StackRun]:
        yield from good
        raise ValueError("the fourth can't be made")

    finished: list[StackRun] = []
    with Workers(2) as workers:
        steps = workers.finish(stacks(), deadline=Deadline(None))
        with pytest.raises(ValueError, match="the fourth"):
            finished.extend(over for _, ended, _ in steps for over in ended)
    assert finished == good
    assert all(stack.epoch == 3 for stack in good)


@pytest.mark.slow
def test_few_stacks_wait_behind_a_slow_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("searchlib.training.workers.MOST_WAITING", 2)
    taken = 0
    study = a_study(nuisance={"learning_rate": LogUniform(0.01, 0.3), "batch_size": Choice(*range(10, 50))}, trials=90)

    def stacks() -> Iterator[StackRun]:
        nonlocal taken
        for stack in stacks_of(study):
            taken += 1
            yield stack

    with Workers(2) as workers:
        for _, finished, others in workers.finish(stacks(), deadline=Deadline(None)):
            assert len(finished) + len(others) <= 2 * 2
            assert all(over._stack is None for over in finished)
    assert taken > 10


def softened(x: torch.Tensor) -> torch.Tensor:
    return torch.relu(x) + 0.01 * torch.randn_like(x)


@pytest.mark.parametrize(
    ("changes", "several"),
    [
        ({}, True),
        ({"scientific": {"activation": Choice("relu", softened)}}, False),
        ({"fixed": {"epochs": 1, "initializer": lambda weight, layer: None}}, False),
    ],
)
def test_functions_that_may_draw_random_numbers_have_one_worker(changes, several: bool) -> None:
    workers = Engine(a_study(**changes), some_data(), "cpu").workers()
    assert (workers.threads == 1) is several
    assert several or workers.count == 1
