"""Diagnostics: each statistic equals plain torch.nn's, measuring changes nothing, and the words fit what was done."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from support import alone
from support.alone import CLASSES, INPUTS, follow, make_members, make_stack
from torch import nn

from searchlib.networks.activations import ACTIVATIONS
from searchlib.study.config import TrialConfig
from searchlib.training.loop import Tensors, train
from searchlib.training.module import ModuleStack
from searchlib.training.network import build_mlp
from searchlib.training.stack import Stack
from searchlib.training.symptoms import diagnose_words
from searchlib.training.watch import PROBE, Watch

FLAT = {"hardshrink", "hardsigmoid", "hardswish", "hardtanh", "relu", "relu6", "softshrink", "threshold"}
STEEPEST = {  # the largest |phi'|, where it isn't 1
    "gelu": 1.128904, "hardsigmoid": 1 / 6, "hardswish": 1.5, "mish": 1.0884, "selu": 1.7580993,
    "sigmoid": 0.25, "silu": 1.0998,
}  # fmt: skip


def make_data(**changes) -> Tensors:
    return alone.make_data(train=100, normal=True, **changes)


def watch_of(data: Tensors) -> Watch:
    return Watch(data.train_inputs, data.train_targets)


def plain(config: TrialConfig, state: dict[str, torch.Tensor], data: Tensors, *, initial: bool) -> dict[str, float]:
    """The statistics of one network, from torch.nn modules, hooks and loss.backward()."""
    regression = data.train_targets.is_floating_point()
    network = build_mlp(config, INPUTS, data.train_targets.shape[1] if regression else CLASSES).double()
    network.load_state_dict(state)
    network.eval()
    inputs, targets = data.train_inputs, data.train_targets
    if initial:  # the running statistics become the batch's, which evaluation mode then uses
        signal = inputs
        for part in network:
            if isinstance(part, nn.BatchNorm1d):
                part.running_mean.copy_(signal.mean(dim=0))
                part.running_var.copy_(signal.var(dim=0, correction=0))
            signal = part(signal).detach()
    entered, left = {}, {}
    for name, part in network.named_children():

        def note(_part, given, result, name=name) -> None:
            entered[name], left[name] = given[0], result

        part.register_forward_hook(note)
    outputs = network(inputs)
    (nn.MSELoss() if regression else nn.CrossEntropyLoss())(outputs, targets).backward()
    expected: dict[str, float] = {}
    depth = len(config.widths)
    for layer in range(1, depth + 2):
        linear = getattr(network, f"linear{layer - 1}")
        gradient, weight = linear.weight.grad.numpy(), linear.weight.detach().numpy()
        expected[f"gradient_norm/layer{layer}"] = float(np.linalg.norm(gradient))
        expected[f"gradient_variance/layer{layer}"] = float(gradient.var())
        expected[f"weight_std/layer{layer}"] = float(weight.std())
        before = entered[f"activation{layer - 1}"] if layer <= depth else outputs
        expected[f"preactivation_mean/layer{layer}"] = float(before.mean())
        expected[f"preactivation_variance/layer{layer}"] = float(before.detach().numpy().var())
        if layer > depth:
            break
        after = left[f"activation{layer - 1}"].detach().numpy()
        expected[f"activation_mean/layer{layer}"] = float(after.mean())
        expected[f"activation_variance/layer{layer}"] = float(after.var())
        expected[f"second_moment/layer{layer}"] = float((after**2).mean())
        x = before.detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(getattr(network, f"activation{layer - 1}")(x).sum(), x)
        steepest = STEEPEST.get(config.activation, 1.0)
        expected[f"saturated/layer{layer}"] = float((slope.abs() < 0.05 * steepest).double().mean())
        if config.activation in FLAT:
            expected[f"dead/layer{layer}"] = float((slope == 0.0).all(dim=0).double().mean())
        units = {tuple(unit) for unit in np.column_stack([weight, linear.bias.detach().numpy()])}
        assert len(units) == len(weight)
        expected[f"symmetric/layer{layer}"] = 0.0
    if initial:
        conditions = []
        for example in inputs[:8]:
            jacobian = torch.autograd.functional.jacobian(lambda x: network(x[None])[0], example).numpy()
            values = np.linalg.svd(jacobian, compute_uv=False)
            full = np.linalg.matrix_rank(jacobian) == min(jacobian.shape)
            conditions.append(values[0] / values[-1] if full else math.inf)
        if math.isfinite(median := sorted(conditions)[3]):
            expected["jacobian_condition"] = median
    return expected


@pytest.mark.slow
@pytest.mark.parametrize("regression", [False, True])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_every_statistic_equals_plain_torch(batch_norm: bool, regression: bool) -> None:
    """Every activation in one stack, at initialization and after an epoch."""
    data = make_data(regression=regression)
    members = make_members(
        ACTIVATIONS,
        initializer="xavier_normal",
        bias_init="constant",
        bias_value=0.1,
        hidden=(9, 7),
        batch_norm=batch_norm,
        dropout=0.2,
    )
    stack = make_stack(members, data)
    watch = watch_of(data)
    for initial in (True, False):
        if not initial:
            rate = torch.full((len(members),), 0.05, dtype=torch.float64)
            for _ in range(3):
                before = [stack.state(position) for position in range(len(members))]
                watch.remember(stack)
                stack.step(data.train_inputs[:30], data.train_targets[:30], rate)
        snapshots = watch.measure(stack)
        for position, (member, snapshot) in enumerate(zip(stack.members, snapshots, strict=True)):
            state = stack.state(position)
            expected = plain(member.config, state, data, initial=initial)
            if not initial:
                for layer in (1, 2, 3):
                    old, new = (s[f"linear{layer - 1}.weight"].numpy() for s in (before[position], state))
                    ratio = np.linalg.norm(new - old) / np.linalg.norm(old)
                    expected[f"update_ratio/layer{layer}"] = float(ratio)
            assert snapshot == pytest.approx(expected, rel=1e-7, abs=1e-12), member.config.activation


def test_a_measure_without_a_remembered_step_has_no_update_ratio() -> None:
    data = make_data()
    stack = make_stack(make_members(["relu"] * 2), data)
    watch = watch_of(data)
    watch.remember(stack)
    stack.step(data.train_inputs, data.train_targets, torch.tensor([0.1, 0.1], dtype=torch.float64))
    assert all("update_ratio/layer1" in row and "jacobian_condition" not in row for row in watch.measure(stack))
    assert all("update_ratio/layer1" not in row for row in watch.measure(stack))
    watch.remember(stack)
    stack.keep([True, False])  # a remembered weight can't be taken for another network's
    (row,) = watch.measure(stack)
    assert "update_ratio/layer1" not in row
    assert row["gradient_norm/layer1"] > 0.0


class Own(nn.Module):
    """A module of a study's own: convolution, normalization, dropout, and a linear layer that runs twice."""

    def __init__(self, config: TrialConfig) -> None:
        super().__init__()
        self.fold = nn.Unflatten(1, (1, INPUTS))
        self.convolution = nn.Conv1d(1, 3, 3)
        self.norm = nn.BatchNorm1d(3)
        self.twice = nn.Linear(10, 10)
        self.last = nn.Linear(30, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        signal = self.twice(self.twice(self.norm(self.convolution(self.fold(x))).relu()).tanh())
        noise = torch.rand(()) * 0.0  # draws from the global generator, in evaluation mode too
        return self.last(nn.functional.dropout(signal.flatten(1), 0.2, training=self.training)) + noise


def make_modules(data: Tensors) -> ModuleStack:
    members = make_members(["relu"] * 2, learning_rate=0.05, momentum=0.9, batch_size=20, epochs=2)
    return ModuleStack(members, build=Own, outputs=CLASSES, dtype=data.train_inputs.dtype)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sgd", "adam", "modules"])
def test_watching_changes_no_bit_of_the_training(kind: str) -> None:
    data = make_data(dtype=torch.float32)

    def build() -> Stack | ModuleStack:
        if kind == "modules":
            return make_modules(data)
        names = ["relu", "prelu", "rrelu", "tanh", lambda x: x + 0.01 * torch.rand_like(x)]
        fields = {"momentum": 0.9, "batch_norm": True, "dropout": 0.3, "hidden": (9, 7), "batch_size": 20, "epochs": 2}
        return make_stack(make_members(names, optimizer=kind, learning_rate=0.02, **fields), data)

    def run(watched: bool) -> tuple[list[object], list[torch.Tensor]]:
        torch.manual_seed(7)
        stack = build()
        watch = watch_of(data) if watched else None
        if watch is not None:
            watch.measure(stack)
        curve = [epoch.val_loss for epoch in train(stack, data, watch=watch)]
        tensors = [value for k in range(len(stack.members)) for value in stack.state(k).values()]
        if isinstance(stack, Stack):
            tensors += [value for slot in stack.optimizer.state.values() for value in slot.values()]
            tensors += [generator.get_state() for generator in stack.noise]
            assert [p.requires_grad for n, p in stack.parameters.items()] == [
                not n.startswith("linear0.") for n in stack.parameters
            ]
        else:
            for module in stack.modules:
                assert not any(part._forward_hooks for part in module.modules())
                assert all(parameter.requires_grad for parameter in module.parameters())
                tensors += [parameter.grad.clone() for parameter in module.parameters()]
        return curve, [*tensors, torch.get_rng_state()]

    (curve, tensors), (watched_curve, watched) = run(False), run(True)
    assert curve == watched_curve
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(tensors, watched, strict=True))


def test_statistics_of_a_module_of_the_studys_own() -> None:
    data = make_data()
    stack = make_modules(data)
    watch = watch_of(data)
    for initial in (True, False):
        before = copy.deepcopy(stack.modules)
        if not initial:
            watch.remember(stack)
            stack.step(data.train_inputs, data.train_targets, torch.tensor([0.1, 0.1], dtype=torch.float64))
        for module, old, snapshot in zip(stack.modules, before, watch.measure(stack), strict=True):
            alone = copy.deepcopy(module).eval()
            alone.norm.train(initial)
            alone.zero_grad()
            nn.functional.cross_entropy(alone(data.train_inputs), data.train_targets).backward()
            expected = {}
            for layer, name in enumerate(("convolution", "twice", "last"), start=1):
                weight, gradient = getattr(alone, name).weight, getattr(alone, name).weight.grad
                expected[f"gradient_norm/layer{layer}"] = float(gradient.norm())
                expected[f"gradient_variance/layer{layer}"] = float(gradient.var(correction=0))
                expected[f"weight_std/layer{layer}"] = float(weight.std(correction=0))
                if not initial:
                    was = getattr(old, name).weight
                    expected[f"update_ratio/layer{layer}"] = float((weight - was).norm() / was.norm())
            signal = alone.convolution(alone.fold(data.train_inputs))
            outputs = alone(data.train_inputs)
            for layer, values in ((1, signal), (3, outputs)):  # the one that runs twice has none
                expected[f"preactivation_mean/layer{layer}"] = float(values.mean())
                expected[f"preactivation_variance/layer{layer}"] = float(values.var(correction=0))
            assert snapshot == pytest.approx(expected, rel=1e-7)


def test_equal_units_are_counted() -> None:
    data = make_data(dtype=torch.float32)
    members = make_members(["relu"] * 2, hidden=(10, 6), initializer=["pytorch_default", "sparse"].__getitem__)
    stack = make_stack(members, data)
    with torch.no_grad():
        weight, bias = stack.parameters["linear0.weight"][0], stack.parameters["linear0.bias"][0]
        weight[[3, 7]], bias[[3, 7]] = weight[1].clone(), bias[1].clone()
        weight[9] = weight[2].clone()  # its bias differs
    first, other = watch_of(data).measure(stack)
    assert first["symmetric/layer1"] == pytest.approx(0.3)
    assert first["symmetric/layer2"] == 0.0
    units = torch.cat([stack.parameters["linear1.weight"][1], stack.parameters["linear1.bias"][1][:, None]], dim=1)
    twins = sum(any(torch.equal(unit, units[j]) for j in range(6) if j != k) for k, unit in enumerate(units))
    assert other["symmetric/layer2"] == pytest.approx(twins / 6)


def test_a_singular_jacobian_has_no_condition() -> None:
    data = make_data(dtype=torch.float32)
    stack = make_stack(make_members(["tanh"] * 2, hidden=(2,)), data)
    assert all("jacobian_condition" not in row for row in watch_of(data).measure(stack))


@pytest.mark.parametrize(("activation", "gain"), [("relu", 1e25), ("relu", 1e3), ("relu", 1e-9), ("tanh", 1e-3)])
def test_numbers_beyond_the_range_of_squares(activation: str, gain: float) -> None:
    """In float32, norms whose squares over- or underflow are still right; what itself overflows is left out."""
    (member,) = make_members([activation], initializer="normal", init_gain=gain, bias_init="zeros", hidden=(30,) * 4)
    data = [make_data(dtype=dtype) for dtype in (torch.float32, torch.float64)]
    rows = [watch_of(one).measure(make_stack([member], one))[0] for one in data]
    assert all(math.isfinite(value) for row in rows for value in row.values())
    if gain == 1e25:
        assert "gradient_norm/layer1" not in rows[0]
        assert diagnose_words(member.config, rows[:1])[0].endswith("exploding")
    else:
        assert 0.0 < rows[1]["gradient_norm/layer1"] < math.inf
        assert rows[0]["gradient_norm/layer1"] == pytest.approx(rows[1]["gradient_norm/layer1"], rel=1e-3)
        assert rows[0]["preactivation_variance/layer5"] == pytest.approx(
            rows[1]["preactivation_variance/layer5"], rel=1e-3, abs=1e-60
        )


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("depth", [0, 1, 4])
@pytest.mark.parametrize("regression", [False, True])
def test_every_kind_of_network_is_measured(batch_norm: bool, depth: int, regression: bool) -> None:
    data = make_data(dtype=torch.float32, regression=regression)
    names = ["prelu", "rrelu", "relu", torch.sign, lambda x: x.detach()]
    fields = {"depth": depth, "width": 6, "batch_norm": batch_norm, "dropout": 0.2, "batch_size": 30, "epochs": 2}
    stack = make_stack(make_members(names, learning_rate=0.01, **fields), data)
    histories = follow(stack, data)
    for member, history in zip(stack.members, histories, strict=True):
        assert len(history) == 3
        assert all(math.isfinite(value) for row in history for value in row.values())
        layers = {int(name.partition("/layer")[2]) for name in history[1] if "/" in name}
        assert layers == set(range(1, depth + 2))
        assert isinstance(diagnose_words(member.config, history), list)


def test_the_probe_is_small() -> None:
    assert PROBE <= 512
