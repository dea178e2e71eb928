"""The law of fused training: a trial in a stack equals the same trial alone in plain torch.nn and torch.optim."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.alone import CLASSES, DATA, INPUTS, in_orders, make_data, make_members, make_stack, train_alone
from torch import nn

from searchlib.errors import StudyError
from searchlib.networks import ACTIVATIONS, INITIALIZERS, OPTIMIZERS
from searchlib.networks.meanfield import critical_point
from searchlib.study import SCHEDULES, TrialConfig
from searchlib.training.grouping import fusion_key
from searchlib.training.loop import Tensors, train
from searchlib.training.losses import is_right
from searchlib.training.module import ModuleStack
from searchlib.training.precision import get_products, set_products, setting_for
from searchlib.training.stack import Member, Stack


def assert_equal_alone(members: list[Member], *, data: Tensors = DATA, tolerance=1e-9) -> None:
    for seeds in ((5,), (7, 5, 6)):
        assert_each_equal_alone(in_orders(members, *seeds), data=data, tolerance=tolerance)


def assert_each_equal_alone(members: list[Member], *, data: Tensors, tolerance: float) -> None:
    stack = make_stack(members, data)
    epochs = list(train(stack, data))
    for position, member in enumerate(stack.members):
        network, history = train_alone(member, data)
        for epoch, alone in zip(epochs, history, strict=True):
            unsure = alone.pop("unsure", 0.0)
            for name, value in alone.items():
                measured = getattr(epoch, name)[position]
                least = tolerance + (unsure if name == "train_accuracy" else 0.0)
                if math.isfinite(value) or math.isfinite(measured):
                    assert measured == pytest.approx(value, rel=tolerance, abs=least), (member.config, name)
        assert_same_state(stack.state(position), network, tolerance)


def assert_same_state(state: dict[str, torch.Tensor], network: nn.Module, tolerance: float = 1e-9) -> None:
    for ours, theirs in zip(state.values(), network.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance, equal_nan=True)


def has_critical_point(activation: str) -> bool:
    try:
        critical_point(activation, **TrialConfig(activation=activation).activation_fields)
    except StudyError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("initializer", INITIALIZERS)
def test_every_initializer_and_activation(initializer: str) -> None:
    """All activations under one initializer share one stack, each at its own learning rate."""
    names = [name for name in ACTIVATIONS if initializer != "critical" or has_critical_point(name)]
    assert len(names) >= 18
    members = make_members(
        names,
        initializer=initializer,
        init_gain=0.5 if initializer in ("normal", "ones", "uniform") else 1.0,
        learning_rate=lambda k: 0.002 * (k + 1),
        momentum=0.9,
        nesterov=True,
        hidden=(9, 7),
        batch_size=8,
        epochs=2,
    )
    assert_equal_alone(members)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("regression", [False, True])
def test_every_optimizer_and_schedule(optimizer: str, schedule: str, regression: bool) -> None:
    members = make_members(
        ["tanh", "relu", "prelu", "gelu", "leaky_relu", "rrelu"],
        optimizer=optimizer,
        negative_slope=lambda k: 0.1 * k,
        lr_schedule=schedule,
        lr_decay=0.7,
        lr_step=2,
        learning_rate=lambda k: 0.01 * (k + 1) / (1 if optimizer == "sgd" else 10),
        momentum=lambda k: 0.15 * k,
        weight_decay=lambda k: 0.01 * k,
        beta1=lambda k: 0.8 + 0.03 * k,
        beta2=lambda k: 0.99 - 0.01 * k,
        alpha=lambda k: 0.9 + 0.01 * k,
        eps=1e-6,
        hidden=(8,),
        batch_size=16,
        epochs=5,
    )
    assert_equal_alone(members, data=make_data(regression=regression))


@pytest.mark.parametrize("optimizer", [name for name, entry in OPTIMIZERS.items() if "momentum" in entry.fields])
def test_without_any_momentum(optimizer: str) -> None:
    """Then a stack has no buffer for it."""
    assert_equal_alone(make_members(["relu"] * 2, optimizer=optimizer, learning_rate=0.01, batch_size=10, epochs=3))


@pytest.mark.slow
@pytest.mark.parametrize("depth", range(5))
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("dropout", [False, True])
def test_every_depth_with_normalization_and_dropout(depth: int, batch_norm: bool, dropout: bool) -> None:
    members = make_members(
        ["relu", "prelu", "rrelu"],
        depth=depth,
        hidden=(10,),
        batch_norm=batch_norm,
        dropout=lambda k: 0.1 + 0.2 * k if dropout else 0.0,
        learning_rate=lambda k: 0.03 * (k + 1),
        momentum=0.5,
        batch_size=12,
        epochs=3,
    )
    assert_equal_alone(members)


@pytest.mark.slow
def test_after_many_steps() -> None:
    """500 steps: in float64 round-off has not grown into a difference."""
    members = make_members(
        ["tanh", "sigmoid", "softplus"], learning_rate=0.05, momentum=0.9, batch_size=5, epochs=50, hidden=(16,)
    )
    assert_equal_alone(members, tolerance=1e-8)


@pytest.fixture(params=["ieee", setting_for("float32")])
def products(request: pytest.FixtureRequest) -> Iterator[str]:
    """torch's own way to multiply float32 matrices, and that of the workers: on most machines the same."""
    before = get_products()
    set_products(request.param)
    yield request.param
    set_products(before)


def test_float32_to_round_off(products: str) -> None:
    """In float32 one epoch agrees to a few units of round-off."""
    data32 = make_data(dtype=torch.float32)
    names = [name for name in ACTIVATIONS if name != "rrelu"]  # its noise has the dtype's own resolution
    members = make_members(names, learning_rate=0.05, momentum=0.9, batch_size=10, epochs=1)
    single, double = make_stack(members, data32), make_stack(members)
    for low, high in zip(train(single, data32), train(double, DATA), strict=True):
        assert low.val_loss == pytest.approx(high.val_loss, rel=2e-5)


@pytest.mark.parametrize("batch_size", [32, 100, 256])
def test_products_of_float32_are_of_float32(products: str, batch_size: int) -> None:
    """Each entry of a stack's products is as near as float32 sums are (Higham & Mary 2019: 8 sqrt(n) units)."""
    generator = torch.Generator().manual_seed(1)
    weight, inputs, gradient = (
        torch.randn(*shape, generator=generator) for shape in ((1800, 784), (batch_size, 784), (1800, batch_size))
    )
    for left, right in ((weight, inputs.T), (gradient, inputs)):
        terms = left.shape[1]
        bound = 8.0 * math.sqrt(terms) * 2.0**-24 * (left.abs().double() @ right.abs().double())
        assert ((left @ right).double() - left.double() @ right.double()).abs().le(bound).all()


@pytest.mark.parametrize("seeds", [(5,), (7, 5), (9, 4, 5, 8, 6, 7)])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_compaction_changes_nothing(optimizer: str, seeds: tuple[int, ...]) -> None:
    """Dropping members between epochs leaves the survivors on exactly the path that they would have taken alone."""
    members = make_members(
        ["relu", "prelu", "tanh", "rrelu", "prelu", "relu"],
        optimizer=optimizer,
        learning_rate=0.01,
        momentum=0.9,
        weight_decay=0.001,
        eps=1e-6,  # a bias before normalization has gradient 0 but for round-off, which Adam divides by eps
        dropout=0.2,
        batch_norm=optimizer != "lion",  # and of which Lion takes the sign
        hidden=(8, 6),
        batch_size=10,
        epochs=4,
    )
    stack = make_stack(in_orders(members, *seeds))
    survivors = {2, 3, 4}
    for epoch in train(stack, DATA):
        if epoch.epoch == 1:
            stack.keep([member.number in survivors | {0} for member in stack.members])
        if epoch.epoch == 2:
            stack.keep([member.number in survivors for member in stack.members])
    assert {member.number for member in stack.members} == survivors
    for position, member in enumerate(stack.members):
        network, history = train_alone(member)
        assert epoch.val_loss[position] == pytest.approx(history[-1]["val_loss"], rel=1e-9)
        assert_same_state(stack.state(position), network)


@pytest.mark.parametrize("seeds", [(1,), (1, 2, 3)])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_diverging_neighbour_changes_nothing(optimizer: str, seeds: tuple[int, ...]) -> None:
    """A trial that overflows in the middle of the stack leaves its neighbours' bits alone; none of its own is right."""

    def stack(*rates: float) -> Stack:
        fields = {"optimizer": optimizer, "momentum": 0.9, "batch_size": 10, "epochs": 3, "hidden": (8, 8)}
        return make_stack(in_orders(make_members(["relu"] * 3, learning_rate=rates.__getitem__, **fields), *seeds))

    calm, wild = stack(0.01, 0.01, 0.01), stack(0.01, 1e300, 0.01)
    quiet, loud = list(train(calm, DATA)), list(train(wild, DATA))
    assert not math.isfinite(loud[-1].val_loss[1])
    assert (loud[-1].train_accuracy[1], loud[-1].val_accuracy[1]) == (0.0, 0.0)
    assert loud[-1].train_accuracy[0] > 0.0
    for position in (0, 2):
        assert [epoch.val_loss[position] for epoch in loud] == [epoch.val_loss[position] for epoch in quiet]
        for ours, theirs in zip(wild.state(position).values(), calm.state(position).values(), strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("changes", [{}, {"batch_norm": True}, {"dropout": 0.5}])
def test_a_stack_gives_its_memory_back_without_the_garbage_collector(changes: dict) -> None:
    gc.collect()
    gc.disable()
    try:
        stack = make_stack(make_members(["relu", "prelu"], epochs=1, **changes))
        list(train(stack, DATA))
        left = weakref.ref(stack.parameters["linear0.weight"])
        del stack
        assert left() is None
    finally:
        gc.enable()


def test_weights_do_not_depend_on_the_place_in_the_stack() -> None:
    members = make_members(["relu", "tanh"] * 3)
    forward, backward = make_stack(members), make_stack(members[::-1])
    assert [member.number for member in forward.members] == [member.number for member in backward.members]
    alone = make_stack(members[3:4])
    position = [member.number for member in forward.members].index(3)
    for name, value in alone.state(0).items():
        assert torch.equal(value, forward.state(position)[name])


@pytest.mark.parametrize("eval_every", [1, 2, 5, 7, 16])
@pytest.mark.parametrize("regression", [False, True])
def test_evaluations_by_step_are_those_of_the_plain_loop_and_change_no_bit(eval_every: int, regression: bool) -> None:
    data = make_data(regression=regression)
    members = make_members(
        ["relu", "prelu", "rrelu"],
        hidden=(10, 6),
        batch_norm=True,
        dropout=0.2,
        learning_rate=lambda k: 0.03 * (k + 1),
        momentum=0.5,
        batch_size=12,
        epochs=3,
    )
    members = in_orders(members, 1, 2)
    often, seldom = make_stack(members, data), make_stack(members, data)
    epochs = list(train(often, data, eval_every=eval_every))
    for with_steps, without in zip(epochs, train(seldom, data), strict=True):
        assert without.steps == []
        assert replace(with_steps, steps=[], seconds=0.0) == replace(without, seconds=0.0)
    for name, value in often.training_state().items():
        assert torch.equal(value, seldom.training_state()[name]), name
    steps = [step for epoch in epochs for step in epoch.steps]
    assert [step.step for step in steps] == list(range(eval_every, 3 * 5 + 1, eval_every))
    for position, member in enumerate(often.members):
        alone = train_alone(member, data, eval_every)[1]
        for step, entry in zip(steps, alone, strict=True):
            same = [name for name in entry if name not in ("step", "unsure")]
            if eval_every not in (1, 5):  # the plain loop's steps since its last evaluation may be of two epochs
                same = [name for name in same if not name.startswith("train_")]
            found = {name: getattr(step, name)[position] for name in same}
            assert found == pytest.approx({name: entry[name] for name in same}, rel=1e-9)
            if step.step % 5 == 0:
                assert step.val_loss[position] == epochs[step.step // 5 - 1].val_loss[position]


def test_an_evaluation_at_the_end_of_an_epoch_starts_the_training_loss_anew() -> None:
    """Steps 6 and 7 of five an epoch: what the evaluation after step 7 tells is about these two."""
    members = make_members(["relu"], hidden=(6,), batch_size=12, epochs=2)
    single = [step for epoch in train(make_stack(members), DATA, eval_every=1) for step in epoch.steps]
    (second,) = list(train(make_stack(members), DATA, eval_every=7))[1].steps
    assert second.train_loss[0] == pytest.approx((single[5].train_loss[0] + single[6].train_loss[0]) / 2)


def test_which_examples_are_right() -> None:
    """As argmax has it, of equal outputs the first; but one with a NaN is never right."""
    generator = torch.Generator().manual_seed(1)
    for dtype in (torch.float32, torch.float64):
        outputs = torch.randint(0, 4, (5, 10, 300), generator=generator).to(dtype)  # many are equal
        targets = torch.randint(0, 10, (300,), generator=generator)
        expected = (outputs.argmax(dim=1) == targets).sum(dim=1)
        assert torch.equal(is_right(outputs, targets).sum(dim=1), expected)
        assert 0 < expected.min() < expected.max() < 150
        outputs[1], outputs[2, 3, :100], outputs[3] = math.nan, math.nan, 0.0
        right = is_right(outputs, targets).sum(dim=1)
        assert right[1] == 0
        assert right[2] == (outputs[2, :, 100:].argmax(dim=0) == targets[100:]).sum()
        assert right[3] == (targets == 0).sum(), "no class before another: chance"


def test_a_stack_refuses_trials_of_two_shapes() -> None:
    with pytest.raises(ValueError, match="one fusion key"):
        make_stack(make_members(["relu"] * 2, hidden=[(4,), (5,)].__getitem__))


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    rates=st.lists(st.floats(1e-4, 0.3), min_size=1, max_size=5),
    activation=st.sampled_from(sorted(set(ACTIVATIONS))),
    widths=st.lists(st.integers(1, 6), max_size=3),
    batch_size=st.integers(2, 60),
    optimizer=st.sampled_from(sorted(OPTIMIZERS)),
)
def test_stack_equals_alone(rates, activation, widths, batch_size, optimizer) -> None:
    members = make_members(
        [activation] * len(rates),
        hidden=tuple(widths),
        learning_rate=rates.__getitem__,
        batch_size=batch_size,
        optimizer=optimizer,
        epochs=1,
    )
    assert len({fusion_key(member.config) for member in members}) == 1
    assert_equal_alone(members, tolerance=1e-7)


def test_a_module_of_a_study_trains_as_alone() -> None:
    member = Member(0, TrialConfig(learning_rate=0.3, batch_size=12, epochs=12), seed=3)

    def build(_: TrialConfig) -> nn.Module:
        return nn.Sequential(nn.Linear(INPUTS, 8), nn.Tanh(), nn.Linear(8, CLASSES))

    stack = ModuleStack([member], build=build, outputs=CLASSES, dtype=torch.float64)
    network, other = (build(member.config).double() for _ in range(2))
    for one in (network, other):
        one.load_state_dict(stack.state(0))
    epochs = list(train(stack, DATA, eval_every=2))
    by_epoch, by_step = train_alone(member, network=network)[1], train_alone(member, eval_every=2, network=other)[1]
    for measured, alone in [*zip(epochs, by_epoch, strict=True), *zip(epochs[0].steps, by_step, strict=False)]:
        for name in ("train_accuracy", "val_accuracy", "val_loss"):
            assert getattr(measured, name)[0] == pytest.approx(alone[name])
    assert_same_state(stack.state(0), network)
    assert by_epoch[-1]["train_accuracy"] > 0.3, "above chance"
