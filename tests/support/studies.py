"""A study that is only looked at."""

from __future__ import annotations

from searchlib import Choice, LogUniform, Study


def study(**changes) -> Study:
    """Two activations at any learning rate, on digits."""
    settings = {
        "question": "Which one?",
        "dataset": "digits",
        "scientific": {"activation": Choice("tanh", "relu")},
        "nuisance": {"learning_rate": LogUniform(1e-3, 1.0)},
        "fixed": {"epochs": 3},
    }
    return Study(**{**settings, **changes})
