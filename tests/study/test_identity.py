"""Studies made in a notebook or a script: what of their functions belongs to their identity, and what is refused."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.studies import study

from searchlib import Study, StudyError, load_study
from searchlib.study import identified

MODULE = """
import dataclasses
import functools
import torch
import torch.nn.functional as F
from torch import float32
from torch.nn import Module
from searchlib import Choice, Study, function_dataset

SLOPE = 0.3
SIZES = {"wide": (64, 32)}

def helper(x):
    return x * SLOPE  # a comment

def act(x):
    return F.relu(x) - helper(x).to(float32)

def twice(function):
    @functools.wraps(function)
    def both(x):
        return function(function(x))
    return both

@twice
def decorated(x, more=SLOPE):
    return x + more

class Net(Module):
    width = 8
    def __init__(self, inputs):
        super().__init__()
        self.layer = torch.nn.Linear(inputs, SIZES["wide"][0])
    def forward(self, x):
        return helper(self.layer(x.flatten(1)))

def net(config, dataset):
    return Net(dataset.inputs)

def wave(x):
    return torch.sin(x).squeeze(1)

def unused(x):
    return x

class Scale:
    def __init__(self, factor):
        self.factor = factor
    def __call__(self, x):
        return self.factor * x

SCALE = Scale(2.0)
ADD = functools.partial(torch.add, 1)

def scaled(x):
    return ADD(SCALE(x))

class Named(functools.partial):
    __name__ = "named"

class Maker(Scale):
    __name__ = "maker"
    def sampler(self):
        return self.factor

VALUE = 3
cleared = lambda weight, layer: weight.zero_()

def study(**changes):
    return Study(**{"question": "?", "dataset": "digits", "sampler": "tpe", **changes})

STUDY = study(fixed={"activation": act})
"""


def made(source: str, expression: str = "STUDY") -> Study:
    """A study of a module with this source, which is no study file."""
    Path("mine.py").write_text(source)
    sys.modules.pop("mine", None)
    importlib.invalidate_caches()
    sys.path.insert(0, ".")
    try:
        module = importlib.import_module("mine")
    finally:
        sys.path.remove(".")
    # the evaluation of the expression is the script
    return identified(eval(expression, vars(module)))


@pytest.fixture(autouse=True)
def without_bytecode(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that is written twice within a second would be taken from its first compilation."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


def test_the_code_is_what_the_functions_use() -> None:
    code = made(MODULE).code
    assert "def act(x):" in code
    assert "def helper(x):\n    return x * SLOPE\n" in code
    assert "SLOPE = 0.3" in code
    assert "unused" not in code
    assert "def relu" not in code, "F is installed"
    assert made(MODULE, "study()").code == ""


NET = "study(model=net)"
WAVE = "study(dataset=function_dataset('w', wave))"
OWN = "study(fixed={'activation': decorated})"
LAMBDA = "study(fixed={'initializer': cleared})"
SCALED = "study(fixed={'activation': scaled})"
HOLDERS = [  # fields that themselves hold a value, which no source shows
    "study(fixed={'activation': Named(decorated, more=VALUE)})",
    "study(sampler=Maker(VALUE).sampler)",
    "study(model=Maker(VALUE))",
]
CHANGES = [  # an expression, what is replaced in the module, whether that is another study
    ("STUDY", ("SLOPE = 0.3", "SLOPE = 0.4"), True),
    ("STUDY", ("x * SLOPE", "SLOPE * x"), True),
    ("STUDY", ("  # a comment", ""), False),
    ("STUDY", ("def unused(x):\n    return x", "def unused(x):\n    return 2 * x"), False),
    ("STUDY", ("(64, 32)", "(64, 16)"), False),
    (NET, ("(64, 32)", "(64, 16)"), True),
    (NET, ("x.flatten(1)", "2 * x.flatten(1)"), True),
    (NET, ("x * SLOPE", "SLOPE * x"), True),
    (NET, ("width = 8", "width = 9"), True),
    (NET, ("torch.sin", "torch.cos"), False),
    (WAVE, ("torch.sin", "torch.cos"), True),
    (OWN, ("return x + more", "return x - more"), True),
    (OWN, ("function(function(x))", "function(x)"), True),
    (OWN, ("SLOPE = 0.3", "SLOPE = 0.4"), True),
    (LAMBDA, ("weight.zero_()", "weight.fill_(1)"), True),
    (SCALED, ("self.factor * x", "x * self.factor"), True),
    (SCALED, ("Scale(2.0)", "Scale(3.0)"), True),
    (SCALED, ("torch.add, 1", "torch.add, 2"), True),
    *((holder, ("VALUE = 3", "VALUE = 4"), True) for holder in HOLDERS),
    *((holder, ("VALUE = 3", "VALUE = 1 + 2"), False) for holder in HOLDERS),
]


@pytest.mark.parametrize(("expression", "change", "another"), CHANGES, ids=lambda value: str(value)[:50])
def test_a_change_of_what_belongs_to_a_study_is_another_study(
    expression: str, change: tuple[str, str], another: bool
) -> None:
    assert change[0] in MODULE
    before = made(MODULE, expression)
    assert before.code
    after = made(MODULE.replace(*change), expression)
    assert (after.identity != before.identity) is another


@pytest.mark.parametrize(
    ("kind", "value", "change"),
    [
        ("@dataclasses.dataclass\nclass Gain:\n    low: float = 0.5\n", "Gain().low", ("0.5", "0.6")),
        ("@dataclasses.dataclass\nclass Gain:\n    low: float\n", "Gain(0.5).low", ("0.5", "0.6")),
        ("class Gain(enum.Enum):\n    LOW = 0.5\n", "Gain.LOW.value", ("0.5", "0.6")),
        ("class Gain(typing.NamedTuple):\n    low: float = 0.5\n", "Gain().low", ("0.5", "0.6")),
    ],
    ids=["dataclass", "dataclass without default", "enum", "named tuple"],
)
def test_a_class_without_methods_is_its_values(kind: str, value: str, change: tuple[str, str]) -> None:
    source = MODULE + f"import enum, typing\n{kind}def scaled(x):\n    return {value} * x\n"
    first, again = (made(source, "study(fixed={'activation': scaled})").code for _ in range(2))
    assert first == again
    assert made(source.replace(*change), "study(fixed={'activation': scaled})").code != first


REFUSED = {
    "fixed: function reader reads WEIGHTS: a Tensor can't be identified": (
        "WEIGHTS = torch.ones(3)\ndef reader(x):\n    return x * WEIGHTS\n"
    ),
    "fixed: function reader reads inner: a Tensor can't be identified": (
        "def make(inner):\n    def reader(x):\n        return x * inner\n    return reader\n"
        "reader = make(torch.ones(1))\n"
    ),
    "fixed: the source of reader isn't there": "exec('def reader(x): return x')\n",
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_identified_is_refused(message: str) -> None:
    with pytest.raises(StudyError, match=message):
        made(MODULE + REFUSED[message], "study(fixed={'activation': reader})")


def test_a_study_of_a_file_is_left_as_it_is() -> None:
    Path("asked.py").write_text("from searchlib import Study\nSTUDY = Study(question='?', dataset='digits')\n")
    loaded = load_study("asked.py")
    assert identified(loaded) is loaded


def test_a_name_of_replicates_is_refused() -> None:
    with pytest.raises(StudyError, match=r"\.replicates are taken"):
        identified(Study(question="?", dataset="digits", name="x.replicates"))


def test_a_study_without_functions_is_that_of_a_file_with_the_same_words() -> None:
    text = "Study(question='?', dataset='digits', sampler='tpe', trials=3, name='asked')"
    Path("asked.py").write_text(f"from searchlib import Study\nSTUDY = {text}\n")
    assert identified(eval(text)).identity == load_study("asked.py").identity


def code_of(activation: Callable) -> str:
    return identified(study(scientific={}, fixed={"activation": activation})).code


def test_functions_of_packages_need_no_source() -> None:
    assert code_of(torch.sin) == ""


def test_what_is_cached_is_what_is_behind_it() -> None:
    @functools.cache
    def values(x: float) -> float:
        return x

    def act(x: float) -> float:
        return values(x)

    assert "def values(x: float)" in code_of(act)


def test_lambdas_on_one_line_belong_together() -> None:
    first: Callable[[float], float]
    first, second = (lambda x: x), (lambda x: -x)
    assert code_of(first) == "lambda x: x\nlambda x: -x"
    assert second(1) == -1


def test_a_function_of_a_notebook_in_a_copy_of_a_file_s_study_counts() -> None:
    Path("asked.py").write_text(
        "from searchlib import Study\ndef act(x):\n    return x\n"
        "STUDY = Study(question='?', dataset='digits', fixed={'activation': act})\n"
    )
    loaded = load_study("asked.py")

    def act(x: float) -> float:
        return -x

    act.__module__ = "__main__"  # as in a notebook
    changed = identified(dataclasses.replace(loaded, fixed={"activation": act}))
    assert "return -x" in changed.code
    assert changed.identity != loaded.identity
