"""A study's own module trains as in plain torch, or is refused before anything is stored."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import mlflow_runs, prepare, run, search_all, small_study
from support.alone import CLASSES, DATA, INPUTS
from support.modules import MODULES, Through
from support.stacks import curves, digits_study, finish, one_stack, some_data
from torch import nn
from torch.nn.utils import parametrizations

from searchlib import Choice, Study, StudyError
from searchlib.networks import OPTIMIZERS
from searchlib.report import publish
from searchlib.seeds import derive_seed
from searchlib.stores import Stores
from searchlib.study import TrialConfig
from searchlib.training import Engine
from searchlib.training.dry_run import configurations, dry_run
from searchlib.training.loop import train
from searchlib.training.module import ModuleStack
from searchlib.training.stack import Member

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")


def make_stack(make: Callable[[], nn.Module], config: TrialConfig, seed: int = 3) -> ModuleStack:
    return ModuleStack([Member(0, config, seed=seed)], build=lambda _: make(), outputs=CLASSES, dtype=torch.float64)


def train_plainly(module: nn.Module, config: TrialConfig, seed: int) -> list[tuple[float, float]]:
    """The textbook loop. Returns the loss on the validation examples and the share of correct ones after each epoch."""
    optimizer = OPTIMIZERS[config.optimizer].build(module.parameters(), config)
    noise, found = derive_seed(seed, "noise"), []
    for epoch in range(1, config.epochs + 1):
        module.train()
        order = torch.randperm(
            len(DATA.train_inputs), generator=torch.Generator().manual_seed(derive_seed(0, "order", epoch))
        )
        for batch in order.split(config.batch_size):
            torch.manual_seed(noise)
            noise += 1
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(DATA.train_inputs[batch]), DATA.train_targets[batch]).backward()
            optimizer.step()
        module.eval()
        with torch.no_grad():
            outputs = module(DATA.val_inputs.clone())
        loss = nn.functional.cross_entropy(outputs, DATA.val_targets).item()
        found.append((loss, (outputs.argmax(1) == DATA.val_targets).double().mean().item()))
    return found


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_it_trains_as_in_plain_torch(name: str, optimizer: str) -> None:
    fields = {"momentum": 0.9} if optimizer == "sgd" else {"weight_decay": 0.1}
    config = TrialConfig(
        initializer="kaiming_uniform",
        bias_init="pytorch_default",
        optimizer=optimizer,
        learning_rate=0.02,
        batch_size=12,
        epochs=4,
        **fields,
    )
    stack = make_stack(MODULES[name], config)
    alone = MODULES[name]().double()
    alone.load_state_dict(stack.state(0))
    start = stack.state(0)
    found = [(epoch.val_loss[0], epoch.val_accuracy[0]) for epoch in train(stack, DATA)]
    assert np.allclose(found, train_plainly(alone, config, seed=3), rtol=1e-9)
    for key, value in alone.state_dict().items():
        torch.testing.assert_close(stack.state(0)[key], value, rtol=1e-9, atol=1e-9)
    assert any(not torch.equal(value, start[key]) for key, value in stack.state(0).items())


@pytest.mark.parametrize("name", MODULES)
def test_seeds_differ_and_each_is_reproducible(name: str) -> None:
    first, again, other = (
        make_stack(MODULES[name], TrialConfig(initializer="xavier_normal"), seed).modules[0].eval()(DATA.val_inputs)
        for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    assert first.isfinite().all()


LAYERS: dict[str, Callable[[int], nn.Module]] = {
    "linear": lambda width: nn.Linear(width, width),
    "weight_norm": lambda width: parametrizations.weight_norm(nn.Linear(width, width)),
    "spectral_norm": lambda width: parametrizations.spectral_norm(nn.Linear(width, width)),
    "frozen": lambda width: nn.Linear(width, width).requires_grad_(False),
    "batch_norm": nn.BatchNorm1d,
    "layer_norm": nn.LayerNorm,
    "dropout": lambda width: nn.Dropout(0.3),
    "relu": lambda width: nn.ReLU(),
    "gelu": lambda width: nn.GELU(),
}


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    layers=st.lists(st.sampled_from(sorted(LAYERS)), max_size=5),
    initializer=st.sampled_from(["kaiming_normal", "orthogonal", "pytorch_default", "xavier_uniform"]),
    optimizer=st.sampled_from(["adamw", "sgd"]),
    batch_size=st.sampled_from([6, 12, 25]),
    seed=st.integers(0, 99),
)
def test_any_module_trains_as_in_plain_torch(
    layers: list[str], initializer: str, optimizer: str, batch_size: int, seed: int
) -> None:
    def make() -> nn.Module:
        return nn.Sequential(*(LAYERS[name](INPUTS) for name in layers), nn.Linear(INPUTS, CLASSES))

    # a gradient that is 0 but for round-off, as of a bias before a normalization, is what Adam divides by its own size
    config = TrialConfig(
        initializer=initializer, optimizer=optimizer, learning_rate=1e-3, batch_size=batch_size, epochs=2
    )
    stack, alone = make_stack(make, config, seed), make().double()
    alone.load_state_dict(stack.state(0))
    found = [(epoch.val_loss[0], epoch.val_accuracy[0]) for epoch in train(stack, DATA)]
    assert np.allclose(found, train_plainly(alone, config, seed), rtol=1e-5)
    for key, value in alone.state_dict().items():
        torch.testing.assert_close(stack.state(0)[key], value, rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------------------------------- what is refused


class Drawn(nn.Module):
    """Keeps what it draws beside its state dict."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.mixing = nn.Linear(64, 10), torch.randn(64, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x @ self.mixing)


class Remembering(nn.Module):
    """Keeps the graph of the batch before."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.before = nn.Linear(64, 10), torch.zeros(())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs = self.linear(x)
        self.before = self.before + outputs.sum()
        return outputs + self.before


def seeding() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(64, 10)


def from_the_system() -> nn.Module:
    module = nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 10))
    module[0].weight.data = torch.from_numpy(np.random.default_rng().normal(size=64)).float()
    return module


def failing() -> nn.Module:
    raise KeyError("kernel")


class NoInverse(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.tanh()


def with_no_inverse() -> nn.Module:
    module = nn.Linear(64, 10)
    nn.utils.parametrize.register_parametrization(module, "weight", NoInverse())
    return module


def normalized() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Linear(16, 10))


ONE = nn.Linear(64, 10)

REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "no module": (lambda: 3, "the factory returned int; expected a torch.nn.Module"),
    "no parameter": (nn.Flatten, "no parameter to train"),
    "all frozen": (lambda: nn.Linear(64, 10).requires_grad_(False), "no parameter to train"),
    "lazy": (lambda: nn.LazyLinear(10), r"weight has no shape.*module\(torch.zeros\(2, \*dataset.shape\)\)"),
    "too many outputs": (lambda: nn.Linear(64, 12), r"shape \[5, 12\] for 5 examples in training.*shape \[5, 10\]"),
    "a dimension more": (
        lambda: nn.Sequential(nn.Linear(64, 10), nn.Unflatten(1, (10, 1))),
        r"shape \[5, 10, 1\].*\[5, 10\]",
    ),
    "a tuple": (lambda: Through(lambda self, x: (self.a(x), 1), a=nn.Linear(64, 10)), "returned tuple for 5 examples"),
    "other outputs in evaluation": (
        lambda: Through(lambda self, x: self.a(x)[:, : 10 if self.training else 9], a=nn.Linear(64, 10)),
        r"shape \[5, 9\] for 5 examples in evaluation",
    ),
    "whole numbers": (lambda: Through(lambda self, x: self.a(x).long(), a=nn.Linear(64, 10)), "returned torch.int64"),
    "other inputs": (lambda: nn.Linear(63, 10), "raised RuntimeError: mat1 and mat2"),
    "one batch size": (lambda: Through(lambda self, x: self.a(x.view(3, 64)), a=nn.Linear(64, 10)), "raised Runtime"),
    "double": (lambda: nn.Linear(64, 10).double(), "weight is torch.float64; modules are trained in torch.float32"),
    "half": (lambda: nn.Linear(64, 10).bfloat16(), "weight is torch.bfloat16"),
    "complex": (lambda: nn.Linear(64, 10, dtype=torch.complex64), "weight is torch.complex64"),
    "always the same": (lambda: ONE, "the same parameters twice.*make a new module in each call"),
    "seeds itself": (seeding, "calls torch.manual_seed.*remove the call"),
    "draws what no seed controls": (from_the_system, "other weights when it was called again with the same seed"),
    "beside its state dict": (Drawn, "other outputs once it is restored.*register_buffer"),
    "remembers a batch": (Remembering, "raised RuntimeError: Trying to backward through the graph a second time"),
    "raises": (failing, r"raised KeyError at .*test_own_modules.py:\d+: 'kernel'; nothing was stored"),
    "a parametrization without inverse": (with_no_inverse, "the initializer can't set it.*right_inverse"),
    "nothing to fill": (lambda: nn.Sequential(nn.LayerNorm(64), nn.AdaptiveAvgPool1d(10)), "no linear, convolution"),
    "normalized zeros": (lambda: parametrizations.weight_norm(nn.Linear(64, 10)), "not finite after the initializer"),
}


def own_study(make: Callable[[], object], **changes) -> Study:
    settings = {"scientific": {"initializer": Choice("xavier_normal", "zeros")}, "trials": 2}
    return digits_study(model=lambda config, dataset: make(), **{**settings, **changes})


def try_out(study: Study) -> None:
    dry_run(Engine(study, some_data(), "cpu"))


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_train_is_refused(kind: str) -> None:
    make, told = REFUSED[kind]
    with pytest.raises(StudyError, match=told) as caught:
        try_out(own_study(make))
    assert "\n" not in str(caught.value)


def files() -> dict[Path, int]:
    found = (path for path in Path().rglob("*") if path.is_file() and path.suffix != ".lock")
    return {path: path.stat().st_mtime_ns for path in found}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["too many outputs", "raises"])
def test_it_is_refused_before_anything_is_stored(kind: str) -> None:
    prepare()
    before = files()
    with pytest.raises(StudyError):
        search_all(small_study(model=lambda config, dataset: REFUSED[kind][0]()))
    assert files() == before


def test_a_last_batch_of_one_example() -> None:
    """300 examples in batches of 23 leave one."""
    for size in (23, 1):
        with pytest.raises(StudyError, match=f"batch_size={size} leaves a last batch of one.*choose another batch"):
            try_out(own_study(normalized, fixed={"batch_size": size}))
    try_out(own_study(normalized, fixed={"batch_size": 25}))
    try_out(own_study(lambda: nn.Linear(64, 10), fixed={"batch_size": 23, "batch_norm": True}))


def test_every_scientific_value_is_tried() -> None:
    def model(config: TrialConfig, dataset: object) -> nn.Module:
        return nn.Linear(64, 10 if config.activation != "tanh" else 9)

    study = digits_study(model=model, scientific={"activation": Choice("relu", "gelu", "tanh")})
    assert [config.activation for config in configurations(study)] == ["relu", "gelu", "tanh"]
    with pytest.raises(StudyError, match=r"shape \[5, 9\]"):
        try_out(study)


def test_a_frozen_part_may_be_shared() -> None:
    backbone = nn.Linear(64, 8).requires_grad_(False)
    try_out(own_study(lambda: nn.Sequential(backbone, nn.Linear(8, 10)), scientific={}, sampler="random"))


def test_each_own_initializer_is_tried_with_the_module() -> None:
    def from_the_system(weight, layer):
        return torch.from_numpy(np.random.default_rng().normal(size=tuple(weight.shape)))

    initializers = Choice("xavier_normal", "normal", from_the_system)
    with pytest.raises(StudyError, match="other weights when it was called again"):
        try_out(own_study(lambda: nn.Linear(64, 10), scientific={"initializer": initializers}))


def test_a_study_that_has_begun_is_not_tried_again() -> None:
    """It resumes as it began, also where a later version would refuse it."""
    broken = []

    def model(config: TrialConfig, dataset: object) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 3 if not broken else 4))

    settings = {"model": model, "scientific": {}, "sampler": "random", "round_size": 2}
    run(small_study(**settings, trials=2))
    broken.append(True)
    found = run(small_study(**settings, trials=4))
    assert len(found.trials) == 4


# ----------------------------------------------------------------------------------------- what it draws


class Drawing(nn.Module):
    """Draws from NumPy's and Python's global generators, when it is made and in training."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)
        self.linear.weight.data = torch.from_numpy(np.random.normal(0.0, 0.1, (10, 64))).float()
        self.linear.bias.data.fill_(random.gauss(0.0, 1.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = np.random.uniform(0.5, 1.5) * random.uniform(0.5, 1.5)
        return self.linear(x * scale)


def drawing_study(**changes) -> Study:
    settings = {"scientific": {}, "sampler": "random", "trials": 1, "fixed": {"epochs": 4}}
    return own_study(Drawing, **{**settings, **changes})


def test_what_it_draws_from_numpy_and_random_follows_from_the_trial() -> None:
    expected = curves([finish(one_stack(drawing_study()))])
    np.random.rand(7)
    random.random()
    before = random.getstate(), np.random.get_state()[1].tolist()
    assert curves([finish(one_stack(drawing_study()))]) == expected
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    assert curves([finish(one_stack(drawing_study(seed=1)))]) != expected


def test_what_it_draws_is_the_same_after_a_kill() -> None:
    expected = curves([finish(one_stack(drawing_study()))])
    stopped, resumed = one_stack(drawing_study()), one_stack(drawing_study())
    stopped.advance()
    found = stopped.snapshot()
    assert found is not None
    np.random.rand(3)
    random.random()
    resumed.resume(json.loads(json.dumps(found[0])), found[1])
    assert curves([finish(resumed)]) == expected


def test_evaluation_by_step_changes_nothing_that_it_draws() -> None:
    often, seldom = (curves([finish(one_stack(drawing_study(eval_every=each)))])[0] for each in (2, None))
    assert [point[0] for point in often] == [point[0] for point in seldom]


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrap",
    [parametrizations.weight_norm, nn.utils.weight_norm, parametrizations.spectral_norm],
    ids=["weight_norm", "hook", "spectral_norm"],
)
def test_a_normalized_module_from_search_to_report(wrap: Callable[[nn.Module], nn.Module]) -> None:
    def model(config: TrialConfig, dataset: object) -> nn.Module:
        return nn.Sequential(nn.Flatten(), wrap(nn.Linear(36, 4)), nn.ReLU(), wrap(nn.Linear(4, 3)))

    study = small_study(
        model=model, scientific={"initializer": Choice("xavier_normal", "normal")}, trials=4, replicates=3
    )
    run(study)
    runs = [run for run in mlflow_runs(study, "replicate") if run.data.params["initializer"] == "normal"]
    assert len({run.data.metrics["train_loss"] for run in runs}) == len(runs) == 3
    page, _ = publish(study, Stores())
    text = page.read_text()
    assert "layer 1 (1.weight)" in text
    assert "output layer (3.weight)" in text
