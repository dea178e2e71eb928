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
from torch import nn

from searchlib.errors import StudyError
from searchlib.networks import ACTIVATIONS, INITIALIZERS, OPTIMIZERS
from searchlib.seeds import derive_seed
from searchlib.study import SCHEDULES, TrialConfig
from searchlib.training.grouping import fusion_key
from searchlib.training.loop import Tensors, train
from searchlib.training.losses import count_right
from searchlib.training.module import ModuleStack
from searchlib.training.network import build_mlp, initialize
from searchlib.training.precision import get_products, set_products, setting_for
from searchlib.training.stack import Member, Stack

INPUTS, CLASSES, TRAIN, VALIDATION = 12, 4, 50, 21


def make_data(*, dtype: torch.dtype = torch.float64, regression: bool = False) -> Tensors:
    generator = torch.Generator().manual_seed(3)
    inputs = torch.rand(TRAIN + VALIDATION, INPUTS, generator=generator, dtype=torch.float64).to(dtype)
    labels = (inputs[:, :CLASSES] + 0.3 * torch.rand(len(inputs), CLASSES, generator=generator)).argmax(dim=1)
    targets = inputs[:, :2].sin().to(dtype) if regression else labels
    return Tensors(
        train_inputs=inputs[:TRAIN],
        train_targets=targets[:TRAIN],
        val_inputs=inputs[TRAIN:],
        val_targets=targets[TRAIN:],
        factor=1.0,
        offset=0.0,
    )


DATA = make_data()


def make_stack(members: list[Member], data: Tensors = DATA, dtype: torch.dtype = torch.float64) -> Stack:
    outputs = data.train_targets.shape[1] if data.train_targets.is_floating_point() else CLASSES
    return Stack(members, outputs=outputs, probe=data.probe, dtype=dtype)


def plain_network(config: TrialConfig, outputs: int) -> nn.Sequential:
    """The network written out in torch.nn, by hand: nothing of searchlib's own model code but the activation."""
    widths = list(config.hidden if config.depth is None else config.hidden[:1] * config.depth)
    layers: list[nn.Module] = []
    for fan_in, fan_out in zip([INPUTS, *widths[:-1]], widths, strict=True) if widths else []:
        layers.append(nn.Linear(fan_in, fan_out))
        if config.batch_norm:
            layers.append(nn.BatchNorm1d(fan_out))
        layers.append(config.build_activation())
        if config.dropout:
            layers.append(nn.Dropout(config.dropout))
    layers.append(nn.Linear(widths[-1] if widths else INPUTS, outputs))
    return nn.Sequential(*layers).to(DATA.train_inputs.dtype)


def train_alone(
    member: Member, data: Tensors = DATA, eval_every: int = 0
) -> tuple[nn.Sequential, list[dict[str, float]]]:
    """The textbook loop on one trial, from the same weights, order of examples and random numbers.

    A validation after each epoch or, with *eval_every*, after each such step. ``unsure``: the share of the training
    examples for which two classes' outputs differ by round-off only, so that another order of sums prefers the other.
    """
    config = member.config
    regression = data.train_targets.is_floating_point()
    network = plain_network(config, data.train_targets.shape[1] if regression else CLASSES)
    linears = [module for module in network if isinstance(module, nn.Linear)]
    sizes = (INPUTS, *(linear.out_features for linear in linears))
    drawn = initialize(
        config,
        sizes,
        generator=torch.Generator().manual_seed(member.seed),
        probe=data.probe,
        dtype=data.train_inputs.dtype,
    )
    for linear, (weight, bias) in zip(linears, drawn, strict=True):
        linear.weight.data.copy_(weight)
        linear.bias.data.copy_(bias)
    optimizer = OPTIMIZERS[config.optimizer].build(network.parameters(), config)
    criterion = nn.MSELoss() if regression else nn.CrossEntropyLoss()
    history = []

    def validate(seen: list[tuple[float, int, int, int]], **entry: float) -> None:
        network.eval()
        with torch.no_grad():
            outputs = network(data.val_inputs)
        examples = sum(size for *_, size in seen)
        entry["train_loss"] = sum(loss * size for loss, *_, size in seen) / examples
        entry["val_loss"] = criterion(outputs, data.val_targets).item()
        if not regression:
            entry["train_accuracy"] = sum(right for _, right, _, _ in seen) / examples
            entry["unsure"] = sum(unsure for _, _, unsure, _ in seen) / examples
            entry["val_accuracy"] = (outputs.argmax(1) == data.val_targets).double().mean().item()
        history.append(entry)
        network.train()

    step = 0
    torch.manual_seed(derive_seed(member.seed, "noise"))  # dropout and RReLU draw from torch's global generator
    for epoch in range(1, config.epochs + 1):
        network.train()
        generator = torch.Generator().manual_seed(derive_seed(member.order_seed, "order", epoch))
        order = torch.randperm(TRAIN, generator=generator)
        seen: list[tuple[float, int, int, int]] = []
        optimizer.param_groups[0]["lr"] = config.learning_rate_at(epoch)
        for batch in order.split(config.batch_size):
            optimizer.zero_grad()
            outputs = network(data.train_inputs[batch])
            loss = criterion(outputs, data.train_targets[batch])
            loss.backward()
            optimizer.step()
            right = unsure = 0
            if not regression:
                right = int((outputs.argmax(1) == data.train_targets[batch]).sum())
                first, second = outputs.detach().topk(2, dim=1).values.T
                unsure = int((first - second <= 1e-9 * (first.abs() + second.abs())).sum())
            seen.append((loss.item(), right, unsure, len(batch)))
            step += 1
            if eval_every and step % eval_every == 0:
                validate(seen, step=step)
                seen = []
        if not eval_every:
            validate(seen)
    network.eval()
    return network, history


def in_orders(members: list[Member], *seeds: int) -> list[Member]:
    """The members, spread over as many orders of the examples."""
    return [replace(member, order_seed=seeds[k % len(seeds)]) for k, member in enumerate(members)]


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
        state = stack.state(position)
        plain = network.state_dict()
        assert len(state) == len(plain)
        for ours, theirs in zip(state.values(), plain.values(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance, equal_nan=True)


def has_critical_point(activation: str) -> bool:
    try:
        initialize(
            TrialConfig(initializer="critical", activation=activation),
            (3, 2, 2),
            generator=torch.Generator(),
            probe=torch.zeros(2, 3),
            dtype=torch.float64,
        )
    except StudyError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("initializer", INITIALIZERS)
def test_every_initializer_and_activation(initializer: str) -> None:
    """All activations under one initializer share one stack, each at its own learning rate."""
    names = [name for name in ACTIVATIONS if initializer != "critical" or has_critical_point(name)]
    members = [
        Member(
            number,
            TrialConfig(
                initializer=initializer,
                activation=activation,
                init_gain=0.5 if initializer in ("normal", "ones", "uniform") else 1.0,
                learning_rate=0.002 * (number + 1),
                momentum=0.9,
                nesterov=True,
                hidden=(9, 7),
                batch_size=8,
                epochs=2,
            ),
            seed=100 + number,
        )
        for number, activation in enumerate(names)
    ]
    assert len(names) >= 20
    assert_equal_alone(members)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("regression", [False, True])
def test_every_optimizer_and_schedule(optimizer: str, schedule: str, regression: bool) -> None:
    activations = ["tanh", "relu", "prelu", "gelu", "leaky_relu", "rrelu"]
    members = [
        Member(
            number,
            TrialConfig(
                optimizer=optimizer,
                activation=activation,
                negative_slope=0.1 * number,
                lr_schedule=schedule,
                lr_decay=0.7,
                lr_step=2,
                learning_rate=0.01 * (number + 1) / (1 if optimizer == "sgd" else 10),
                momentum=0.15 * number,
                weight_decay=0.01 * number,
                beta1=0.8 + 0.03 * number,
                beta2=0.99 - 0.01 * number,
                alpha=0.9 + 0.01 * number,
                eps=1e-6,
                hidden=(8,),
                batch_size=16,
                epochs=5,
            ),
            seed=number,
        )
        for number, activation in enumerate(activations)
    ]
    assert_equal_alone(members, data=make_data(regression=regression))


@pytest.mark.parametrize("optimizer", [name for name, entry in OPTIMIZERS.items() if "momentum" in entry.fields])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_plain_and_nesterov_momentum(optimizer: str, momentum: float) -> None:
    for nesterov in {False, "nesterov" in OPTIMIZERS[optimizer].fields and momentum > 0.0}:
        config = TrialConfig(
            optimizer=optimizer, momentum=momentum, nesterov=nesterov, learning_rate=0.01, batch_size=10, epochs=3
        )
        assert_equal_alone([Member(0, config, seed=1), Member(1, config, seed=2)])


@pytest.mark.parametrize("depth", range(5))
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("dropout", [False, True])
def test_every_depth_with_normalization_and_dropout(depth: int, batch_norm: bool, dropout: bool) -> None:
    members = [
        Member(
            number,
            TrialConfig(
                activation=activation,
                depth=depth,
                hidden=(10,),
                batch_norm=batch_norm,
                dropout=0.1 + 0.2 * number if dropout else 0.0,
                learning_rate=0.03 * (number + 1),
                momentum=0.5,
                batch_size=12,
                epochs=3,
            ),
            seed=number,
        )
        for number, activation in enumerate(["relu", "prelu", "rrelu"])
    ]
    assert_equal_alone(members)


@pytest.mark.slow
def test_after_many_steps() -> None:
    """500 steps: in float64 round-off has not grown into a difference."""
    members = [
        Member(
            k,
            TrialConfig(activation=name, learning_rate=0.05, momentum=0.9, batch_size=5, epochs=50, hidden=(16,)),
            seed=k,
        )
        for k, name in enumerate(["tanh", "sigmoid", "softplus"])
    ]
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
    members = [
        Member(k, TrialConfig(activation=name, learning_rate=0.05, momentum=0.9, batch_size=10, epochs=1), seed=k)
        for k, name in enumerate(ACTIVATIONS)
        if name != "rrelu"  # its noise has the dtype's own resolution
    ]
    single = make_stack(members, data32, torch.float32)
    double = make_stack(members)
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
    members = [
        Member(
            number,
            TrialConfig(
                activation=activation,
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
            ),
            seed=number,
        )
        for number, activation in enumerate(["relu", "prelu", "tanh", "rrelu", "prelu", "relu"])
    ]
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
        for ours, theirs in zip(stack.state(position).values(), network.state_dict().values(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seeds", [(1,), (1, 2, 3)])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_diverging_neighbour_changes_nothing(optimizer: str, seeds: tuple[int, ...]) -> None:
    """A trial that overflows in the middle of the stack leaves its neighbours' bits alone."""

    def member(number: int, rate: float) -> Member:
        config = TrialConfig(
            activation="relu", optimizer=optimizer, learning_rate=rate, momentum=0.9, batch_size=10, epochs=3,
            batch_norm=False, hidden=(8, 8),
        )  # fmt: skip
        return Member(number, config, seed=number)

    calm = make_stack(in_orders([member(0, 0.01), member(1, 0.01), member(2, 0.01)], *seeds))
    wild = make_stack(in_orders([member(0, 0.01), member(1, 1e300), member(2, 0.01)], *seeds))
    quiet = list(train(calm, DATA))
    loud = list(train(wild, DATA))
    assert not math.isfinite(loud[-1].val_loss[1])
    for position in (0, 2):
        assert [epoch.val_loss[position] for epoch in loud] == [epoch.val_loss[position] for epoch in quiet]
        for ours, theirs in zip(wild.state(position).values(), calm.state(position).values(), strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("changes", [{}, {"batch_norm": True}, {"dropout": 0.5}, {"activation": "prelu"}])
def test_a_stack_gives_its_memory_back_without_the_garbage_collector(changes: dict) -> None:
    gc.collect()
    gc.disable()
    try:
        stack = make_stack([Member(k, TrialConfig(epochs=1, **changes), seed=k) for k in range(2)])
        list(train(stack, DATA))
        left = weakref.ref(stack.parameters["linear0.weight"])
        del stack
        assert left() is None
    finally:
        gc.enable()


def test_weights_do_not_depend_on_the_place_in_the_stack() -> None:
    members = [Member(k, TrialConfig(activation="tanh" if k % 2 else "relu"), seed=k) for k in range(6)]
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
    members = [
        Member(
            number,
            TrialConfig(
                activation=activation, hidden=(10, 6), batch_norm=True, dropout=0.2, learning_rate=0.03 * (number + 1),
                momentum=0.5, batch_size=12, epochs=3,
            ),
            seed=number,
        )
        for number, activation in enumerate(["relu", "prelu", "rrelu"])
    ]  # fmt: skip
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
        at_ends = train_alone(member, data)[1]
        for step, entry in zip(steps, alone, strict=True):
            same = [name for name in entry if name not in ("step", "unsure")]
            if eval_every not in (1, 5):  # the plain loop's steps since its last evaluation may be of two epochs
                same = [name for name in same if not name.startswith("train_")]
            found = {name: getattr(step, name)[position] for name in same}
            assert found == pytest.approx({name: entry[name] for name in same}, rel=1e-9)
            if step.step % 5 == 0:
                assert step.val_loss[position] == epochs[step.step // 5 - 1].val_loss[position]
        assert [epoch.train_loss[position] for epoch in epochs] == pytest.approx([e["train_loss"] for e in at_ends])


def test_an_evaluation_at_the_end_of_an_epoch_starts_the_training_loss_anew() -> None:
    """Steps 6 and 7 of five an epoch: what the evaluation after step 7 tells is about these two."""
    members = [Member(0, TrialConfig(hidden=(6,), batch_size=12, epochs=2), seed=1)]
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
        assert torch.equal(count_right(outputs, targets), expected)
        assert 0 < expected.min() < expected.max() < 150
        outputs[1], outputs[2, 3, :100], outputs[3] = math.nan, math.nan, 0.0
        assert count_right(outputs, targets)[1] == 0
        assert count_right(outputs, targets)[2] == (outputs[2, :, 100:].argmax(dim=0) == targets[100:]).sum()
        assert count_right(outputs, targets)[3] == (targets == 0).sum(), "no class before another: chance"


def test_of_a_diverged_trial_no_example_is_right() -> None:
    members = [Member(k, TrialConfig(hidden=(6,), batch_size=10, epochs=2, learning_rate=rate), seed=k)
               for k, rate in enumerate((1e300, 0.1))]  # fmt: skip
    *_, last = train(make_stack(members), DATA)
    assert not math.isfinite(last.train_loss[0])
    assert (last.train_accuracy[0], last.val_accuracy[0]) == (0.0, 0.0)
    assert last.train_accuracy[1] > 0.0


def test_a_stack_refuses_trials_of_two_shapes() -> None:
    members = [Member(0, TrialConfig(hidden=(4,)), seed=0), Member(1, TrialConfig(hidden=(5,)), seed=1)]
    with pytest.raises(ValueError, match="one fusion key"):
        make_stack(members)


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
    configs = [
        TrialConfig(
            activation=activation,
            hidden=tuple(widths),
            learning_rate=rate,
            batch_size=batch_size,
            optimizer=optimizer,
            epochs=1,
        )
        for rate in rates
    ]
    assert len({fusion_key(config) for config in configs}) == 1
    assert_equal_alone([Member(k, config, seed=k) for k, config in enumerate(configs)], tolerance=1e-7)


def test_a_module_of_a_study_is_right_as_often_as_alone() -> None:
    config = TrialConfig(learning_rate=0.3, batch_size=12, epochs=12)

    def build(_: TrialConfig) -> nn.Module:
        return nn.Sequential(nn.Linear(INPUTS, 8), nn.Tanh(), nn.Linear(8, CLASSES))

    stack = ModuleStack([Member(0, config, seed=3)], build=build, dtype=torch.float64)
    network = build(config).double()
    network.load_state_dict(stack.state(0))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.3)
    for epoch in train(stack, DATA, eval_every=2):
        right = []
        generator = torch.Generator().manual_seed(derive_seed(0, "order", epoch.epoch))
        for batch in torch.randperm(TRAIN, generator=generator).split(12):
            outputs = network(DATA.train_inputs[batch])
            right.append(int((outputs.argmax(dim=1) == DATA.train_targets[batch]).sum()))
            optimizer.zero_grad()
            nn.functional.cross_entropy(outputs, DATA.train_targets[batch]).backward()
            optimizer.step()
        assert epoch.train_accuracy == [sum(right) / TRAIN]
        if epoch.epoch == 1:
            assert [step.train_accuracy for step in epoch.steps] == [[sum(right[:2]) / 24], [sum(right[2:4]) / 24]]
        assert epoch.val_accuracy == [(network(DATA.val_inputs).argmax(1) == DATA.val_targets).double().mean().item()]
    assert epoch.train_accuracy[0] > 0.3, "above chance"


def along_units(x: torch.Tensor) -> torch.Tensor:
    """Not element-wise: a network's units, the last dimension, look at each other."""
    return x * torch.softmax(x, dim=-1)


class Clipped(torch.autograd.Function):
    """tanh with a gradient that isn't linear in the gradient that comes in."""

    @staticmethod
    def forward(ctx, x):
        y = torch.tanh(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, gradient):
        (y,) = ctx.saved_tensors
        return (gradient * (1 - y * y)).clamp(-1e-3, 1e-3)


def clipped(x: torch.Tensor) -> torch.Tensor:
    return Clipped.apply(x)


def step_function(x: torch.Tensor) -> torch.Tensor:
    return (x > 0).to(x.dtype)


@pytest.mark.parametrize("function", [along_units, clipped, step_function])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_functions_of_a_study_train_as_they_would_alone(function, batch_norm: bool) -> None:
    config = TrialConfig(
        activation=function, batch_norm=batch_norm, hidden=(9,), learning_rate=0.1, momentum=0.9, batch_size=8, epochs=2
    )
    members = [Member(0, config, seed=3), Member(1, TrialConfig(**{**vars(config), "learning_rate": 0.4}), seed=4)]
    stack = make_stack(members)
    epochs = list(train(stack, DATA))
    for position, member in enumerate(stack.members):
        drawn = make_stack([member]).state(0)
        network = build_mlp(member.config, INPUTS, CLASSES).to(torch.float64)
        network.load_state_dict(drawn)
        optimizer = torch.optim.SGD(network.parameters(), lr=member.config.learning_rate, momentum=0.9)
        for epoch in (1, 2):
            network.train()
            order = torch.randperm(TRAIN, generator=torch.Generator().manual_seed(derive_seed(0, "order", epoch)))
            for batch in order.split(8):
                optimizer.zero_grad()
                nn.functional.cross_entropy(network(DATA.train_inputs[batch]), DATA.train_targets[batch]).backward()
                optimizer.step()
        network.eval()
        with torch.no_grad():
            loss = nn.functional.cross_entropy(network(DATA.val_inputs), DATA.val_targets).item()
        assert epochs[-1].val_loss[position] == pytest.approx(loss, rel=1e-9)
        for ours, theirs in zip(stack.state(position).values(), network.state_dict().values(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
