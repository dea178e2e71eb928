"""Modules of a study's own for the blobs, and what is claimed of their study."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from searchlib import LogUniform, Study
from searchlib.results import holdout
from searchlib.stores.mlflow_store import connect
from searchlib.stores.stores import Stores
from support import small_study, stored

CLASSES = 3


class Net(nn.Module):
    """Two layers for the blobs; subclasses change what it gives."""

    outputs = CLASSES

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(36, 8), nn.Linear(8, self.outputs)

    def forward(self, x: torch.Tensor) -> Any:
        return self.last(self.first(x.flatten(1)).relu())


def study_of(model: Any, **changes: Any) -> Study:
    """One trial of a module of the study's own."""
    alone = {"nuisance": {"learning_rate": LogUniform(0.05, 0.2)}, "fixed": {"epochs": 1}, "trials": 1}
    return small_study(**{"model": model, "scientific": {}, **alone, **changes})


def factory(kind: Callable[[], nn.Module]) -> Callable[[Any, Any], nn.Module]:
    def make(config: Any, dataset: Any) -> nn.Module:
        return kind()

    return make


def evaluate(study: Study) -> holdout.TestResult:
    return holdout.evaluate(study, Stores())


def claim(study: Study) -> dict[str, Any] | None:
    return stored(study).user_attrs.get("test_ledger")


def experiments() -> list[str]:
    return [connect(None).get_experiment_by_name("small").experiment_id]
