"""Values that can never work are refused when a study is made, or mean what they look like."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from searchlib import Choice, IntUniform, LogUniform, Study, StudyError


def study(**changes: Any) -> Study:
    return Study(**{"question": "Which one?", "dataset": "digits", "trials": 4, "sampler": "random", **changes})


@pytest.mark.parametrize(
    ("condition", "active"),
    [
        ((16, 8), ["16-8"]),
        (16, ["16"]),
        ([(16,), (16, 8)], ["16", "16-8"]),
        ([16, (16, 8)], ["16", "16-8"]),
        ("16-8", ["16-8"]),
    ],
    ids=str,
)
def test_a_condition_on_widths_reads_as_widths_do(condition: Any, active: list[str]) -> None:
    made = study(
        scientific={"hidden": Choice((16,), (16, 8), (4,))},
        nuisance={"learning_rate": LogUniform(0.1, 1.0).when(hidden=condition)},
    )
    dimension = made.nuisance["learning_rate"]
    assert [value for value in ("16", "16-8", "4") if dimension.active({"hidden": value})] == active


@pytest.mark.parametrize(
    ("other", "condition", "told"),
    [
        ({"optimizer": Choice("sgd", "adam")}, {"optimizer": "rmsprop"}, "optimizer is never 'rmsprop'"),
        ({"hidden": Choice((16,), (8,))}, {"hidden": (16, 8)}, "its values are '16', '8'"),
        ({"epochs": IntUniform(2, 4)}, {"epochs": 5}, "its values are 2, 3, 4"),
        ({"momentum": LogUniform(0.1, 0.9)}, {"momentum": 0.95}, "momentum is never 0.95; it lies between 0.1 and 0.9"),
    ],
    ids=["choice", "widths", "whole numbers", "range"],
)
def test_a_condition_that_never_holds_is_refused(other: dict, condition: dict, told: str) -> None:
    with pytest.raises(StudyError, match=told):
        study(nuisance={**other, "learning_rate": LogUniform(0.1, 1.0).when(**condition)})


@pytest.mark.parametrize("role", ["scientific", "fixed"])
@pytest.mark.parametrize(("name", "value"), [("activation", nn.ReLU), ("initializer", nn.Linear)])
def test_a_class_is_no_function(role: str, name: str, value: type) -> None:
    with pytest.raises(StudyError, match=f"{name}.*a class is no {name}; expected a name, or a function"):
        study(**{role: {name: Choice(value) if role == "scientific" else value}})


def test_the_default_of_trials_is_no_more_than_the_points() -> None:
    cells = {"scientific": {"activation": Choice("relu", "tanh")}, "sampler": "balanced"}
    assert Study(question="?", dataset="digits", **cells).trials == 2
    assert Study(question="?", dataset="digits", sampler="grid", scientific={"epochs": IntUniform(1, 5)}).trials == 5
    with pytest.raises(StudyError, match="trials=3: the grid has only 2 points; write trials=2"):
        study(**cells, trials=3)
    assert study(**cells, trials=1).trials == 1
    assert study(**cells, nuisance={"learning_rate": LogUniform(0.1, 1.0)}, trials=30).points is None
