"""``pruner="within_cell"``: successive halving among the points of a cell, and never across cells."""

from __future__ import annotations

import contextlib

import pytest
from optuna.trial import FrozenTrial
from support import run, small_study

from searchlib import Choice
from searchlib.search.design import round_length
from searchlib.search.pruning import halve, halving_rungs

HALVED = {
    "pruner": "within_cell",
    "scientific": {"initializer": Choice("zeros", "xavier_normal"), "activation": Choice("tanh", "relu")},
    "trials": 32,
    "fixed": {"momentum": 0.9, "epochs": 6},
}


@pytest.fixture(scope="module")
def halved(tmp_path_factory: pytest.TempPathFactory) -> list[FrozenTrial]:
    """The trials of a finished search; one of its initializers learns nothing."""
    with contextlib.chdir(tmp_path_factory.mktemp("halved")):
        return run(small_study(**HALVED)).get_trials(deepcopy=False)


def test_rungs_double() -> None:
    study = small_study(pruner="within_cell")
    assert halving_rungs(study, 6) == [1, 2, 4]
    assert halving_rungs(study, 8) == [1, 2, 4]
    assert halving_rungs(study, 1) == []
    assert halving_rungs(small_study(), 6) == []


def test_a_bracket_holds_eight_points_a_cell() -> None:
    assert round_length(small_study(pruner="within_cell", round_size=4)) == 32
    assert round_length(small_study(pruner="within_cell", round_size=50)) == 52
    assert round_length(small_study(pruner="within_cell", sampler="tpe", round_size=4)) == 32
    assert round_length(small_study(pruner="within_cell", scientific={}, sampler="tpe", round_size=4)) == 8


def test_the_worse_half_of_each_cell_leaves() -> None:
    study = small_study()

    def cell(initializer):
        return {"initializer": initializer, "activation": "tanh"}

    points = [(n, cell("normal"), 0.1 * n) for n in range(4)] + [(n, cell("xavier_normal"), 0.9) for n in (4, 5, 6)]
    assert halve(study, points) == {0, 1, 6}, "of equal ones the first stays; three keep two"
    assert halve(study, [(0, cell("normal"), None), (1, cell("normal"), 0.1)]) == {0}
    assert halve(study, [(0, cell("normal"), 0.1)]) == set()


def test_each_cell_halves_its_own_points_at_each_rung(halved: list[FrozenTrial]) -> None:
    """Also one that learns nothing runs to the end. 8 + 4 + 2 * 2 + 2 * 1 epochs a cell, instead of 48."""
    study = small_study(**HALVED)
    cells: dict = {}
    for trial in halved:
        cells.setdefault(study.cell_of(trial.params), []).append(trial)
    assert [len(members) for members in cells.values()] == [8] * 4
    for cell, members in cells.items():
        alive = {trial.number for trial in members}
        for rung in (1, 2, 4):
            entered = [trial for trial in members if trial.number in alive]
            best = {
                t.number: max(value for epoch, value in t.intermediate_values.items() if epoch <= rung) for t in entered
            }
            order = sorted(best, key=lambda number: (-best[number], number))
            alive = set(order[: (len(order) + 1) // 2])
            left = [trial for trial in entered if trial.number not in alive]
            assert {t.user_attrs["epochs_run"] for t in left} <= {rung}, cell
            assert {t.user_attrs["outcome"] for t in left} == {"pruned"}
        (last,) = alive
        assert halved[last].user_attrs["epochs_run"] == 6
        assert halved[last].user_attrs["outcome"] == "completed"
    assert sum(trial.user_attrs["epochs_run"] for trial in halved) == 4 * 18


def test_survivors_are_as_without_pruning(halved: list[FrozenTrial]) -> None:
    full = run(small_study(**{**HALVED, "pruner": "none", "round_size": 32})).get_trials(deepcopy=False)
    for trial in halved:
        other = full[trial.number]
        assert trial.params == other.params
        epochs = trial.user_attrs["epochs_run"]
        curve = [other.intermediate_values[epoch] for epoch in range(1, epochs + 1)]
        assert list(trial.intermediate_values.values()) == pytest.approx(curve, abs=1 / 40 + 1e-9)
