"""A plan: the trainings that a study takes, and the difference that it can detect."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from support import prepare, replicates, run, small_study
from support.command import told, write_study

from searchlib import Choice
from searchlib.search import plan_study
from searchlib.stores.stores import Stores


@pytest.mark.parametrize(("sampler", "points", "epochs_trained"), [
    ("balanced", 8, 8 + 4 + 2 * 2),
    ("refined", 12, (8 + 4 + 2 * 2) + (4 + 2 + 1 * 2)),
])  # fmt: skip
def test_the_trainings_are_those_of_the_study(sampler: str, points: int, epochs_trained: int) -> None:
    prepare()
    settings = {"sampler": sampler, "pruner": "within_cell", "fixed": {"epochs": 4}}
    study = small_study(**settings, trials=8 * points, searches=2, replicates=4)
    plan = plan_study(study, Stores(), device="cpu")
    assert (plan.cells, plan.units) == (4, 2)
    assert plan.search == 8 * epochs_trained / 4
    assert plan.replicates_most == 16
    assert plan.seconds > 0.0
    assert Stores().optuna_study("small") is None, "nothing is stored"
    made = run(study)
    epochs = sum(trial.user_attrs["epochs_run"] for trial in made.get_trials(deepcopy=False))
    assert epochs / 4 == plan.search
    assert plan.replicates_least <= len(replicates(study)) <= plan.replicates_most


@pytest.mark.parametrize("units", [2, 4, 10])
def test_the_detectable_difference_is_detected_as_often_as_said(units: int) -> None:
    prepare()
    study = small_study(
        scientific={"activation": Choice("tanh", "relu")}, trials=2 * units, searches=units, replicates=units
    )
    plan = plan_study(study, Stores(), device="cpu")
    assert plan.detectable is not None
    assert plan.detectable == plan.detectable_among_all
    drawn = np.random.default_rng(0).normal(plan.detectable, 1.0, (20_000, units))
    found = (stats.ttest_1samp(drawn, 0.0, axis=1).pvalue <= 0.05).mean()
    assert found == pytest.approx(0.8, abs=0.01)


def test_one_cell_or_no_replicates_detect_nothing() -> None:
    prepare()
    assert plan_study(small_study(scientific={}, replicates=3), Stores()).detectable is None
    assert plan_study(small_study(), Stores()).detectable is None


def test_the_command_prints_it_and_stores_nothing() -> None:
    prepare()
    write_study()
    said = told("optimize", "--study", "asked", "--plan")
    assert "trainings" in said
    assert "detects" in said
    assert not Path("optuna.journal").exists()
