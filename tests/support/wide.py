"""A study with every kind of dimension, for tables of its trials; other processes import it, too."""

from __future__ import annotations

from searchlib import MLP, Choice, IntUniform, LogUniform, Study, Uniform
from support import blobs


def größer(weight, layer) -> None:
    """An initializer of the study's own."""


def wide_study(**changes) -> Study:
    """Every kind of dimension: functions, None, booleans, mixed types, conditions."""
    return Study(
        **{
            "name": "wide",
            "question": "Which?",
            "dataset": blobs(),
            "model": MLP(hidden=(8,)),
            "scientific": {"initializer": Choice("normal", größer), "optimizer": Choice("sgd", "adam")},
            "nuisance": {
                "learning_rate": LogUniform(1e-5, 1.0),
                "momentum": Uniform(0.1, 0.99).when(optimizer="sgd"),
                "nesterov": Choice(True, False).when(optimizer="sgd"),
                "init_gain": Choice("recommended", 0.5, 2),
                "init_std": Choice(None, 0.05),
                "init_value": Choice(1, 0.5),
                "width": IntUniform(4, 64),
                "hidden": Choice((), (16, 8)),
            },
            **changes,
        }
    )
