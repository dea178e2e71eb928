"""Activations of a study's own, from the start of a search to the report: refused at once, or carried all the way."""

from __future__ import annotations

import functools
import inspect
import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import assert_refused, run, small_study, stored
from support import functions as activations
from support.page import Page

from searchlib import MLP, Choice
from searchlib.report import publish
from searchlib.results.holdout import evaluate
from searchlib.results.prediction import predict
from searchlib.results.verification import verify
from searchlib.stores.stores import Stores

COUNT = [0]
NORM = torch.nn.BatchNorm1d(8)
OWN = torch.Generator()


def halved(x):
    return x[:, ::2]


def flat(x):
    return x.tanh().flatten()


def total(x):
    return x.tanh().mean()


def doubled(x):
    return x.double().tanh()


def compared(x):
    return x > 0


def pair(x):
    return x.max(dim=1)


def nothing(x):
    x.tanh_()


def listed(x):
    return x.tolist()


def detached(x):
    return x.detach().tanh()


def stepped(x):
    return (x > 0).to(x.dtype)


def through_numpy(x):
    return torch.from_numpy(np.tanh(x.detach().numpy()))


def without_grad(x):
    with torch.no_grad():
        return x.tanh()


def constant(x):
    return torch.ones_like(x, requires_grad=True) * 2.0


def numpy_noise(x):
    return x.tanh() + 0.1 * float(np.random.rand())


def python_noise(x):
    return x.tanh() * (1.0 + random.random())


def own_noise(x):
    return x + 0.1 * torch.rand(x.shape, generator=OWN)


def counting(x):
    COUNT[0] += 1
    return x.tanh() if COUNT[0] < 10_000 else x.relu()


def helped(x):
    return counting(x)


def decorated(function):
    @functools.wraps(function)
    def wrapper(x):
        return function(x)

    return wrapper


@decorated
def wrapped(x):
    return counting(x)


def running(x):
    return NORM(x)


def remembering(x, seen=[]):  # noqa: B006
    seen.append(len(x))
    return x.tanh()


def attributed(x):
    attributed.calls = getattr(attributed, "calls", 0) + 1
    return x.tanh()


class Noisy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.tanh()

    @staticmethod
    def backward(ctx, gradient):
        return gradient + 0.1 * torch.randn_like(gradient)


def noisy_back(x):
    return Noisy.apply(x)


REFUSED = [
    (halved, r"returns shape \[8, 4\] for \[8, 8\]; expected its input's shape"),
    (flat, r"returns shape \[64\] for \[8, 8\]"),
    (total, r"returns shape \[\] for \[8, 8\]"),
    (doubled, "returns torch.float64 on cpu for torch.float32 on cpu"),
    (compared, "returns torch.bool on cpu"),
    (pair, "returns a max; expected a tensor"),
    (nothing, "returns None; expected a tensor"),
    (listed, "returns a list; expected a tensor"),
    (detached, "loses the gradient"),
    (stepped, "loses the gradient"),
    (through_numpy, "loses the gradient"),
    (without_grad, "loses the gradient"),
    (constant, "loses the gradient"),
    (numpy_noise, "draws from numpy's or Python's random numbers; expected torch's"),
    (python_noise, "draws from numpy's or Python's random numbers"),
    (own_noise, "gives another result for the same input and seed"),
    (counting, "changes COUNT in each call"),
    (helped, "changes COUNT in each call"),
    (wrapped, "changes COUNT in each call"),
    (running, "changes NORM in each call"),
    (remembering, "changes its defaults in each call"),
    (attributed, "changes (attributed|its attributes) in each call"),
    (noisy_back, "draws random numbers in its backward pass"),
]


@pytest.mark.parametrize(("function", "told"), REFUSED, ids=[function.__name__ for function, _ in REFUSED])
def test_what_a_stack_could_not_train_is_refused(function: Callable[[Any], Any], told: str) -> None:
    line = inspect.unwrap(function).__code__.co_firstlineno
    place = rf"test_own_activations.py:{line}: activation '{function.__name__}' "
    assert_refused(small_study(scientific={"activation": Choice("tanh", function)}), place + told)


def test_each_width_is_tried() -> None:
    def narrow(x):
        return x.tanh() if x.shape[1] < 10 else x[:, :4]

    study = small_study(scientific={"hidden": Choice((8,), (8, 12))}, fixed={"activation": narrow})
    assert_refused(study, r"'narrow' returns shape \[8, 4\] for \[8, 12\]")


@pytest.mark.parametrize(
    "changes",
    [
        {"init_gain": "recommended"},
        {"initializer": "critical"},
        {"initializer": "critical", "init_gain": "recommended"},
    ],
    ids=str,
)
def test_a_gain_that_does_not_exist_is_refused(changes: dict) -> None:
    scientific = {"activation": Choice("tanh", activations.gated)}
    assert_refused(
        small_study(scientific=scientific, fixed=changes), r"functions.py:\d+: activation gated isn't element"
    )


@pytest.mark.parametrize(
    ("scientific", "fixed"),
    [
        ({"activation": Choice(activations.gated)}, {"initializer": "lsuv", "init_gain": "recommended"}),
        (
            {
                "activation": Choice("tanh", activations.gated),
                "init_gain": Choice("recommended").when(activation="tanh"),
            },
            {},
        ),
        ({"activation": Choice("tanh", activations.inplace)}, {"init_gain": "recommended"}),
    ],
    ids=["an initializer that needs none", "a condition", "an element-wise function"],
)
def test_a_gain_that_is_not_needed_is_not_refused(scientific: dict, fixed: dict) -> None:
    study = small_study(scientific=scientific, fixed={**fixed, "epochs": 1}, trials=2)
    assert {trial.user_attrs["outcome"] for trial in run(study).trials} == {"completed"}


def noisy(x):
    return x.tanh() + 0.1 * torch.randn_like(x)


TABLES: dict[Any, Any] = {}


def with_a_cache(x):
    """What it keeps is the same after the first call: no state."""
    if x.shape not in TABLES:
        TABLES[x.shape] = torch.linspace(0.5, 1.5, x.shape[1])
    return x * TABLES[x.shape]


@pytest.mark.parametrize("own", [with_a_cache, torch.sin, F.gelu, noisy], ids=lambda own: own.__name__)
def test_what_is_a_function_is_not_refused(own: Callable[[Any], Any]) -> None:
    study = small_study(scientific={"activation": Choice("tanh", own)}, trials=2)
    assert {trial.user_attrs["outcome"] for trial in run(study).trials} == {"completed"}


def test_a_study_that_has_begun_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of an earlier version may have a function that would be refused now."""
    study = small_study(scientific={"activation": Choice("tanh", stepped)}, trials=4)
    with monkeypatch.context() as patched:
        patched.setattr("searchlib.training.dry_run.check_activations", lambda *_: None)
        run(study, trials=2)
    assert [trial.user_attrs["outcome"] for trial in run(study).trials] == ["completed"] * 4
    path, _ = publish(study, Stores())
    assert "figure-activations" in path.read_text()


def gated(x):
    return x * torch.softmax(x, dim=1)


def gated_last(x):
    return x * torch.softmax(x, dim=-1)


def inplace(x):
    return F.relu(x, inplace=True)


def normed(x):
    return F.layer_norm(x, (16,))


@pytest.mark.slow
@pytest.mark.parametrize("own", [(normed,), (noisy,), (inplace, gated, gated_last)], ids=lambda own: own[0].__name__)
def test_from_the_search_to_the_report(own: tuple[Callable[[Any], Any], ...]) -> None:
    """The champion too: evaluated once, registered, asked for decisions, verified."""
    study = small_study(
        model=MLP(hidden=(16,)),
        scientific={"activation": Choice(*own)},
        nuisance={"learning_rate": Choice(0.3, 0.5)},
        fixed={"epochs": 3, "momentum": 0.9, "initializer": "xavier_normal"},
        sampler="grid",
        trials=2 * len(own),
        replicates=2,
    )
    trials = run(study).trials
    assert {trial.user_attrs["outcome"] for trial in trials} == {"completed"}
    assert max(trial.values[0] for trial in trials) > 0.5
    result = evaluate(study, Stores())
    assert result.accuracy is not None
    assert result.accuracy > 0.5
    assert predict(study, Stores(), 0).index == 0
    assert verify(study, Stores()).differences == []
    pages = [publish(study, Stores())[0].read_text() for _ in range(2)]
    soft = [re.search(r'id="spec-decisions[^>]*>([^<]*)<', page) for page in pages]
    assert soft[0], "a classifier of images"
    assert soft[0][1] == soft[1][1], "what the champion draws is the same again"
    page = Page(pages[0])
    without = sorted(function.__name__ for function in own if function is not inplace)
    told = f"No curve, saturated or dead share is given for {', '.join(without)}"
    assert page.text.count(told) == 2
    assert ("activations" in page.figures) is (inplace in own)
    assert "traceback" not in pages[0].lower()
    assert stored(study).user_attrs["champion_checkpoint"] == result.checkpoint_sha256
