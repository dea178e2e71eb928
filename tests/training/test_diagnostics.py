"""Diagnostics: each statistic equals plain torch.nn's, measuring changes nothing, and the words fit what was done."""

from __future__ import annotations

import copy
import math
import statistics
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from searchlib.errors import StudyError
from searchlib.networks.activations import ACTIVATIONS
from searchlib.report.initialization import diagnose
from searchlib.study.config import TrialConfig
from searchlib.training.loop import Tensors, train
from searchlib.training.module import ModuleStack
from searchlib.training.network import build_mlp
from searchlib.training.stack import Member, Stack
from searchlib.training.symptoms import diagnose_words
from searchlib.training.watch import PROBE, Watch

INPUTS, CLASSES, EXAMPLES = 12, 4, 90
FLAT = {"hardshrink", "hardsigmoid", "hardswish", "hardtanh", "relu", "relu6", "softshrink", "threshold"}
STEEPEST = {  # the largest |phi'|, where it isn't 1
    "gelu": 1.128904, "hardsigmoid": 1 / 6, "hardswish": 1.5, "mish": 1.0884, "rrelu": 1.0, "selu": 1.7580993,
    "sigmoid": 0.25, "silu": 1.0998,
}  # fmt: skip


def make_data(*, dtype: torch.dtype = torch.float64, regression: bool = False, shift: float = 0.0) -> Tensors:
    generator = torch.Generator().manual_seed(3)
    inputs = (torch.randn(EXAMPLES, INPUTS, generator=generator, dtype=torch.float64) + shift).to(dtype)
    targets = inputs[:, :2].sin() if regression else (inputs[:, :CLASSES] - shift).argmax(dim=1)
    return Tensors(
        train_inputs=inputs, train_targets=targets, val_inputs=inputs, val_targets=targets, factor=1.0, offset=0.0
    )


def make_stack(data: Tensors, *configs: TrialConfig) -> Stack:
    outputs = data.train_targets.shape[1] if data.train_targets.is_floating_point() else CLASSES
    members = [Member(number, config, seed=number) for number, config in enumerate(configs)]
    return Stack(members, outputs=outputs, probe=data.probe, dtype=data.train_inputs.dtype)


def follow(data: Tensors, *configs: TrialConfig) -> tuple[Stack, list[list[dict[str, float]]]]:
    """Train with a watch; the history of each member that stays to the end."""
    stack = make_stack(data, *configs)
    watch = Watch(data.train_inputs, data.train_targets)
    histories = [[snapshot] for snapshot in watch.measure(stack)]
    for epoch in train(stack, data, watch=watch):
        for history, snapshot in zip(histories, epoch.diagnostics, strict=True):
            history.append(snapshot)
    return stack, histories


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
        if config.activation == "rrelu":
            steepest = 1.0
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


@pytest.mark.parametrize("regression", [False, True])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_every_statistic_equals_plain_torch(batch_norm: bool, regression: bool) -> None:
    """Every activation in one stack, at initialization and after an epoch."""
    data = make_data(regression=regression)
    configs = [
        TrialConfig(
            initializer="xavier_normal", activation=name, bias_init="constant", bias_value=0.1, hidden=(9, 7),
            batch_norm=batch_norm, dropout=0.2, learning_rate=0.05, batch_size=30, epochs=1,
        )
        for name in ACTIVATIONS
    ]  # fmt: skip
    stack = make_stack(data, *configs)
    watch = Watch(data.train_inputs, data.train_targets)
    for initial in (True, False):
        if not initial:
            rate = torch.full((len(configs),), 0.05, dtype=torch.float64)
            for _ in range(3):
                before = [stack.state(position) for position in range(len(configs))]
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
    stack = make_stack(data, TrialConfig(), TrialConfig(learning_rate=0.2))
    watch = Watch(data.train_inputs, data.train_targets)
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
    members = [Member(k, TrialConfig(learning_rate=0.05, momentum=0.9, batch_size=20, epochs=2), k) for k in (0, 1)]
    return ModuleStack(members, build=Own, dtype=data.train_inputs.dtype)


@pytest.mark.parametrize("kind", ["sgd", "adam", "modules"])
def test_watching_changes_no_bit_of_the_training(kind: str) -> None:
    data = make_data(dtype=torch.float32)

    def build() -> Stack | ModuleStack:
        if kind == "modules":
            return make_modules(data)
        names = ["relu", "prelu", "rrelu", "tanh", lambda x: x + 0.01 * torch.rand_like(x)]
        configs = [
            TrialConfig(
                activation=name, optimizer=kind, momentum=0.9, batch_norm=True, dropout=0.3, hidden=(9, 7),
                learning_rate=0.02, batch_size=20, epochs=2,
            )
            for name in names
        ]  # fmt: skip
        return make_stack(data, *configs)

    def run(watched: bool) -> tuple[list[object], list[torch.Tensor]]:
        torch.manual_seed(7)
        stack = build()
        watch = Watch(data.train_inputs, data.train_targets) if watched else None
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
    watch = Watch(data.train_inputs, data.train_targets)
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
    stack = make_stack(data, TrialConfig(hidden=(10, 6)), TrialConfig(hidden=(10, 6), initializer="sparse"))
    with torch.no_grad():
        weight, bias = stack.parameters["linear0.weight"][0], stack.parameters["linear0.bias"][0]
        weight[[3, 7]], bias[[3, 7]] = weight[1].clone(), bias[1].clone()
        weight[9] = weight[2].clone()  # its bias differs
    first, other = Watch(data.train_inputs, data.train_targets).measure(stack)
    assert first["symmetric/layer1"] == pytest.approx(0.3)
    assert first["symmetric/layer2"] == 0.0
    units = torch.cat([stack.parameters["linear1.weight"][1], stack.parameters["linear1.bias"][1][:, None]], dim=1)
    twins = sum(any(torch.equal(unit, units[j]) for j in range(6) if j != k) for k, unit in enumerate(units))
    assert other["symmetric/layer2"] == pytest.approx(twins / 6)


def test_a_singular_jacobian_has_no_condition() -> None:
    data = make_data(dtype=torch.float32)
    stack = make_stack(data, TrialConfig(hidden=(2,), activation="tanh"), TrialConfig(hidden=(2,), activation="tanh"))
    assert all("jacobian_condition" not in row for row in Watch(data.train_inputs, data.train_targets).measure(stack))


@pytest.mark.parametrize(("activation", "gain"), [("relu", 1e25), ("relu", 1e3), ("relu", 1e-9), ("tanh", 1e-3)])
def test_numbers_beyond_the_range_of_squares(activation: str, gain: float) -> None:
    """In float32, norms whose squares over- or underflow are still right; what itself overflows is left out."""
    single, double = make_data(dtype=torch.float32), make_data()
    config = TrialConfig(
        activation=activation, initializer="normal", init_gain=gain, bias_init="zeros", hidden=(30,) * 4
    )
    rows = [Watch(d.train_inputs, d.train_targets).measure(make_stack(d, config))[0] for d in (single, double)]
    assert all(math.isfinite(value) for row in rows for value in row.values())
    if gain == 1e25:
        assert "gradient_norm/layer1" not in rows[0]
        assert diagnose_words(config, rows[:1])[0].endswith("exploding")
    else:
        assert 0.0 < rows[1]["gradient_norm/layer1"] < math.inf
        assert rows[0]["gradient_norm/layer1"] == pytest.approx(rows[1]["gradient_norm/layer1"], rel=1e-3)
        assert rows[0]["preactivation_variance/layer5"] == pytest.approx(
            rows[1]["preactivation_variance/layer5"], rel=1e-3, abs=1e-60
        )


# ------------------------------------------------------------------------------------------------- beside mean field


PAIRS = [
    ("xavier_normal", "tanh", {}),
    ("kaiming_normal", "relu", {}),
    ("pytorch_default", "relu", {}),
    ("lecun_normal", "sigmoid", {}),
    ("xavier_normal", "gelu", {}),
    ("lecun_normal", "selu", {}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("initializer", "activation", "fields"), PAIRS)
def test_wide_networks_follow_mean_field(initializer: str, activation: str, fields: dict) -> None:
    """Within five standard errors of the mean of the networks, and a bias of the order of the sum of 1/width."""
    depth, width = 2, 1000
    found = diagnose(initializer, activation, depth=depth, width=width, **fields)
    for statistic in ("second_moment", "gradient", "chi"):
        for layer in range(depth):
            values = found.measured[statistic][layer]
            error = statistics.stdev(values) / math.sqrt(found.networks)
            expected = found.predicted[statistic][layer]
            assert len(values) == 8
            assert abs(statistics.mean(values) - expected) < 5 * error + 5 * depth / width * expected, (
                statistic,
                layer,
            )


def test_published_factors() -> None:
    """A ReLU network loses 6 times its second moment a layer by PyTorch's default, a sigmoid one 22 times its gradient
    at gain 1 and q = 1; He keeps both."""
    default = diagnose("pytorch_default", "relu", depth=3, width=200, bias_init="zeros").predicted
    assert default["second_moment"][1] / default["second_moment"][0] == pytest.approx(1 / 6, rel=0.02)
    assert diagnose("lecun_normal", "sigmoid", depth=1, width=400).predicted["chi"][0] == pytest.approx(
        1 / 22.3, rel=0.02
    )
    he = diagnose("kaiming_normal", "relu", depth=3, width=200).predicted
    assert he["second_moment"] + he["chi"] == pytest.approx([1.0] * 6, rel=0.05)


def test_the_spread_over_networks_shrinks_with_width() -> None:
    """The log of the last second moment varies as the sum of 1/width: here 10 times less in the wide networks."""

    def variance(width: int) -> float:
        (*_, last) = diagnose("kaiming_normal", "relu", depth=5, width=width).measured["second_moment"]
        return statistics.variance(math.log(value) for value in last)

    assert 10 / 6 < variance(20) / variance(200) < 10 * 6  # eight networks each: F(7, 7)


@pytest.mark.parametrize("initializer", ["ones", "uniform", "constant", "eye", "zeros"])
def test_mean_field_says_nothing_of_weights_without_a_zero_mean_law(initializer: str) -> None:
    found = diagnose(initializer, "tanh", depth=2, width=60)
    assert found.predicted == {}
    assert any("mean field says nothing" in line for line in found.lines())
    assert len(found.figure().data) > 0


def test_a_diagnosis_is_printed_and_drawn(tmp_path: Path) -> None:
    found = diagnose("pytorch_default", "relu", depth=20, width=50)
    text = "\n".join(found.lines())
    assert "pytorch_default, relu: 20 hidden layers of 50 units, 8 networks" in text
    assert sum(line.lstrip().split(" ")[0].isdecimal() for line in found.lines()) == 20
    assert "vanishing" in text
    figure = found.figure()
    drawn = {trace.name: trace for trace in figure.data if trace.name}
    assert list(drawn["mean field"].y) == found.predicted["gradient"]
    assert list(drawn["dead"].y) == [statistics.fmean(values) for values in found.measured["dead"]]
    page = found.write(tmp_path / "figure.html").read_text(encoding="utf-8")
    assert "vanishing" in page
    assert "src=" not in page.split("<body>")[0]
    assert diagnose("zeros", "relu", depth=0, width=5).lines()[0].startswith("zeros, relu: no hidden layer")
    with pytest.raises(StudyError, match="width=20000"):
        diagnose("normal", "relu", depth=3, width=20_000)


# ---------------------------------------------------------------------------------------------------------- in words


def words_at_start(initializer: str, activation: str, **fields) -> list[str]:
    return diagnose(initializer, activation, **{"depth": 1, "width": 100, **fields}).words


def test_words_on_symmetry() -> None:
    assert words_at_start("zeros", "relu") == [
        "all 100 units of layer 1 are equal: the initializer 'zeros' doesn't break symmetry"
    ]
    for name in ("ones", "constant"):
        (word,) = words_at_start(name, "tanh")
        assert word.startswith("all 100 units of layer 1 are equal")
    data = make_data()
    config = TrialConfig(initializer="constant", activation="tanh", hidden=(8,), batch_size=30, epochs=2)
    _, (history,) = follow(data, config)
    assert [row["symmetric/layer1"] for row in history] == [1.0] * 3
    assert "doesn't break symmetry" in diagnose_words(config, history)[0]
    freed = [history[0], {**history[1], "symmetric/layer1": 0.0}]
    assert not any("symmetry" in word for word in diagnose_words(config, freed))


def test_words_on_saturation() -> None:
    (word,) = words_at_start("normal", "sigmoid", width=784)
    assert word.startswith(
        "88 % of layer 1's activations saturated at initialization (sigmoid' below 5 % of its maximum)"
    )
    assert any("tanh' below" in word for word in words_at_start("normal", "tanh"))
    assert not any("saturated" in word for word in words_at_start("normal", "relu"))


def test_words_on_depth() -> None:
    (word,) = words_at_start("pytorch_default", "relu", depth=20)
    assert word.startswith("gradient shrinks")
    assert word.endswith("vanishing")
    (word,) = words_at_start("lecun_normal", "sigmoid", depth=8)
    assert word.endswith("times a layer: vanishing")
    assert any(word.endswith("exploding") for word in words_at_start("normal", "relu", depth=3))
    (word, *_) = words_at_start("lecun_normal", "tanh", depth=20, init_gain=5.0)
    assert word.startswith("gradient grows")


HEALTHY = [
    ("kaiming_normal", "relu", 1), ("xavier_normal", "tanh", 1), ("xavier_normal", "sigmoid", 1),
    ("kaiming_normal", "relu", 20), ("pytorch_default", "relu", 1), ("lecun_normal", "selu", 20),
    ("xavier_normal", "gelu", 2), ("kaiming_normal", "leaky_relu", 10), ("xavier_normal", "hardtanh", 3),
]  # fmt: skip


@pytest.mark.parametrize(("initializer", "activation", "depth"), HEALTHY)
def test_healthy_networks_get_no_words(initializer: str, activation: str, depth: int) -> None:
    assert words_at_start(initializer, activation, depth=depth, width=150) == []
    data = make_data(dtype=torch.float32)
    fields = {"initializer": initializer, "activation": activation, "momentum": 0.9, "batch_size": 10, "epochs": 5}
    config = TrialConfig(**fields, learning_rate=0.01, depth=min(depth, 3), width=100)
    _, (history,) = follow(data, config)
    assert diagnose_words(config, history) == []


def test_words_on_the_learning_rate() -> None:
    data = make_data(dtype=torch.float32, shift=1.0)
    fields = {"initializer": "kaiming_normal", "hidden": (50,), "batch_size": 30, "epochs": 2}
    large, small = TrialConfig(**fields, learning_rate=30.0), TrialConfig(**fields, learning_rate=1e-6)
    stack, (history, slow) = follow(data, large, small)
    assert [member.config for member in stack.members] == [large, small]
    assert any(word.startswith("learning rate 30 likely too large: ") for word in diagnose_words(large, history))
    (word,) = diagnose_words(small, slow)
    assert word.startswith("learning rate 1e-06 likely too small: a step changed weights by")


def test_words_on_dead_units() -> None:
    data = make_data()
    config = TrialConfig(initializer="kaiming_normal", hidden=(40,), bias_init="constant", bias_value=-20.0)
    stack = make_stack(data, config)
    (word, *_) = diagnose_words(config, Watch(data.train_inputs, data.train_targets).measure(stack))
    assert word.startswith("100 % of layer 1's units dead at initialization") or "no gradient" in word


def test_words_on_divergence() -> None:
    config = TrialConfig(learning_rate=9.0)
    (word,) = diagnose_words(config, [], diverged_step=212)
    assert word == ("diverged at step 212: the loss became infinite or NaN; likely reason: learning rate 9 too large")
    loud = diagnose("normal", "relu", depth=3, width=100)
    start = {"preactivation_variance/layer4": 1e6, "gradient_norm/layer1": 1.0, "weight_std/layer1": 1.0}
    (word, *rest) = diagnose_words(loud.config, [start], diverged_step=1)
    assert word.endswith("likely reason: signals explode from initialization on")
    assert rest == [*loud.words] or rest[0].endswith("exploding")
    assert diagnose_words(config, []) == []
    assert diagnose_words(config, [{}]) == []


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("depth", [0, 1, 4])
@pytest.mark.parametrize("regression", [False, True])
def test_every_kind_of_network_is_measured(batch_norm: bool, depth: int, regression: bool) -> None:
    data = make_data(dtype=torch.float32, regression=regression)
    configs = [
        TrialConfig(
            activation=name, depth=depth, width=6, batch_norm=batch_norm, dropout=0.2, batch_size=30, epochs=2,
            learning_rate=0.01,
        )
        for name in ("prelu", "rrelu", "relu", torch.sign, lambda x: x.detach())
    ]  # fmt: skip
    stack, histories = follow(data, *configs)
    for member, history in zip(stack.members, histories, strict=True):
        assert len(history) == 3
        assert all(math.isfinite(value) for row in history for value in row.values())
        layers = {int(name.partition("/layer")[2]) for name in history[1] if "/" in name}
        assert layers == set(range(1, depth + 2))
        assert isinstance(diagnose_words(member.config, history), list)


def test_the_probe_is_small() -> None:
    assert PROBE <= 512
