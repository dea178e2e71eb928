"""The same question asked with other study seeds, on real trainings: benchmarks/reproducibility.py, a small part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks import reproducibility
from searchlib import MLP, Choice, LogUniform, Study
from searchlib.analysis import analyze
from searchlib.data import split
from searchlib.data.datasets import load_train

STUDIES = 12


@pytest.mark.parametrize("searches", [1, 4])
def test_cells_that_are_the_same_are_told_apart_as_seldom_as_said(searches: int) -> None:
    """With one search the claims are about its points: there they hold, and another search contradicts them."""
    data = split(load_train("digits", Path("data")), seed=0)
    outcomes = []
    for seed in range(STUDIES):
        study = Study(
            question="Which of two that are the same?",
            dataset="digits",
            model=MLP(hidden=(8,)),
            scientific={"weight_decay": Choice(0.0, 1e-12)},
            nuisance={"learning_rate": LogUniform(0.01, 1.0), "batch_size": Choice(16, 64)},
            fixed={"epochs": 2, "momentum": 0.9},
            trials=8 * searches,
            searches=searches,
            replicates=8,
            seed=seed,
        )
        findings = analyze(study, reproducibility.run_study(study, data))
        outcomes.append(reproducibility.outcome_of(findings))
    line = reproducibility.summarize(outcomes)
    assert line["studies"] == STUDIES
    assert all(len(one["cells"]) == 2 for one in outcomes)
    if searches > 1:
        assert line["false"] * STUDIES <= stats.binom.isf(0.001, STUDIES, 0.05)
        assert line["both ways"] == 0.0
        assert line["coverage"] * 2 * STUDIES >= stats.binom.ppf(1e-4, 2 * STUDIES, 0.93)
    else:
        assert line["coverage"] < 0.85, "the interval of one search is about its points"
        spread = np.mean(list(line["spread"].values()))
        widths = [high - low for one in outcomes for _, low, high in one["cells"].values()]
        assert np.mean(widths) < 2.0 * 1.96 * spread
