"""Which best values lie at the edge of their range, and what is proposed to try next."""

from __future__ import annotations

import pytest

from searchlib import Choice, IntUniform, LogUniform, Uniform
from searchlib.analysis.edges import edges


@pytest.mark.parametrize(
    ("name", "dimension", "value", "expected"),
    [
        ("learning_rate", LogUniform(0.003, 1.0), 0.9, ("high", [0.055, 18.0])),
        ("learning_rate", LogUniform(0.003, 1.0), 0.005, ("low", [0.00016, 0.055])),
        ("learning_rate", LogUniform(0.003, 1.0), 0.05, None),
        ("momentum", Uniform(0.0, 0.99), 0.95, ("high", [0.49, 0.995])),
        ("momentum", Uniform(0.0, 0.99), 0.05, ("low", None)),
        ("dropout", Uniform(0.0, 0.5), 0.48, ("high", [0.25, 0.75])),
        ("lr_decay", Uniform(0.5, 1.0), 0.99, ("high", None)),
        ("batch_size", Choice(64, 128, 256), 256, ("high", [512])),
        ("batch_size", Choice(256, 64, 128), 64, ("low", [32])),
        ("batch_size", Choice(64, 128, 256), 128, None),
        ("batch_size", Choice(64, 256), 256, None),
        ("batch_size", Choice(1, 2, 4), 1, ("low", None)),
        ("weight_decay", Choice(0.0, 0.1, 0.2), 0.2, ("high", [0.3])),
        ("weight_decay", Choice(0.0, 0.1, 0.2), 0.0, ("low", None)),
        ("activation", Choice("tanh", "relu", "selu"), "selu", None),
        ("depth", Choice(None, 2, 3), 3, None),
        ("depth", IntUniform(1, 9), 9, ("high", [5, 13])),
        ("depth", IntUniform(1, 9), 1, ("low", [0, 5])),
        ("depth", IntUniform(1, 2), 1, None),
        ("width", IntUniform(16, 256, log=True), 256, ("high", [64, 1024])),
        ("batch_norm", Choice(False, True), True, None),
        ("learning_rate", LogUniform(0.003, 1.0), None, None),
    ],
)
def test_edges(name, dimension, value, expected) -> None:
    found = edges({name: dimension}, [{} if value is None else {name: value}])
    if expected is None:
        assert found == ()
        return
    (edge,) = found
    assert (edge.name, edge.side, edge.value) == (name, expected[0], value)
    assert edge.low <= value <= edge.high
    assert edge.further == (expected[1] and tuple(expected[1]))


@pytest.mark.parametrize(
    ("dimension", "values", "expected"),
    [
        (LogUniform(0.01, 1.0), (0.73, 0.22, 0.3, 0.38), [("high", 0.73, 1, False)]),
        (LogUniform(0.01, 1.0), (0.73, 0.9, 0.3, 0.38), [("high", 0.9, 2, False)]),
        (LogUniform(0.01, 1.0), (0.73, 0.9, 0.8, 0.011), [("low", 0.011, 1, False), ("high", 0.9, 3, True)]),
        (LogUniform(0.01, 1.0), (0.2, 0.3), []),
        (Choice(0.1, 0.2, 0.4), (0.4, 0.4, 0.2, 0.1), []),
        (Choice(0.1, 0.2, 0.4), (0.4, 0.4, 0.4, 0.1), [("high", 0.4, 3, True)]),
    ],
)
def test_edges_of_several_searches(dimension, values, expected) -> None:
    """How many have their best point there; what to try next only where most have."""
    found = edges({"learning_rate": dimension}, [{"learning_rate": value} for value in values])
    assert [(edge.side, edge.value, edge.searches, edge.further is not None) for edge in found] == expected
    assert all((edge.of, edge.in_most) == (len(values), edge.further is not None) for edge in found)


def test_a_search_without_the_dimension_does_not_count() -> None:
    (edge,) = edges({"momentum": Uniform(0.0, 0.99)}, [{"momentum": 0.95}, {}, {"learning_rate": 0.1}])
    assert (edge.searches, edge.of, edge.in_most) == (1, 1, True)
