"""Published values beside the replicates of their cells."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import scipy.stats
from support import STORAGE, run, small_study
from support.page import gathered, page_of

from searchlib import Choice, Published, Study
from searchlib.report.material import statistics
from searchlib.stores.stores import Stores
from searchlib.stores.tracking import Tracker


def test_published_figures_stand_beside_the_replicates(study: Study) -> None:
    """Means and intervals against scipy's, over the values that MLflow's client gives."""
    cell = {"initializer": "xavier_normal", "activation": "tanh"}
    quoted = [
        Published(source="A book", value=value, metric=metric, step=step, cell=cell, note="of <one> seed")
        for value, metric, step in ((0.9, "val_loss", 2), (99.0, "train_loss", None), (0.5, "val_accuracy", 7))
    ]
    study = dataclasses.replace(study, published=tuple(quoted))
    found = statistics(study, Stores(STORAGE))["published"]
    source = next(row.trial for row in gathered(study).findings.cells if row.scientific == cell)
    trials = [t for t in Stores(STORAGE).optuna_study("small.replicates").trials if t.user_attrs["source"] == source]
    with Tracker(study, Stores()) as tracker:
        for row, metric, step in ((found[0], "val_loss", 2), (found[1], "train_loss", 3)):
            curves = [tracker.client.get_metric_history(t.user_attrs["mlflow_run_id"], metric) for t in trials]
            values = [next(point.value for point in curve if point.step == step) for curve in curves]
            assert (row["n"], row["step"], row["reason"]) == (3, step, "")
            assert row["mean"] == pytest.approx(sum(values) / 3)
            interval = scipy.stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
            assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))
            reach = scipy.stats.t.interval(0.95, 2, row["mean"], scipy.stats.tstd(values) * (4 / 3) ** 0.5)
            assert (row["predicted_low"], row["predicted_high"]) == pytest.approx(reach)
            assert row["inside"] == (reach[0] <= row["published"] <= reach[1])
    assert found[1]["inside"] is False
    assert found[2]["inside"] is None
    assert found[2]["reason"] == "0 of its 3 replicates have val_accuracy at step 7; they have it at 1, 2, 3"
    page = page_of(study)
    assert json.loads(page.scripts["searchlib-data"])["published"] == found
    for words in ("A book", "of <one> seed", "training loss, epoch 3", found[2]["reason"]):
        assert words in page.text


def test_a_published_figure_of_a_cell_without_replicates_says_so() -> None:
    study = small_study(trials=4, fixed={"epochs": 1}, scientific={"activation": Choice("tanh", "relu")})
    study = dataclasses.replace(
        study,
        published=tuple(
            Published(source="A book", value=0.5, metric="val_accuracy", cell={"activation": name})
            for name in ("tanh", "relu")
        ),
    )
    found = statistics(study, Stores(STORAGE))["published"]
    assert [row["reason"] for row in found] == ["the cell has no finished trial"] * 2
    assert not Path("mlflow.db").exists(), "nothing to read, so nothing is opened"
    run(study)
    found = statistics(study, Stores(STORAGE))["published"]
    assert {row["reason"] for row in found} == {"the study has no replicates"}
    assert {row["inside"] for row in found} == {None}
    assert found[0]["reason"] in page_of(study).text


def test_replicates_that_diverged_are_counted_beside_a_published_figure() -> None:
    def broken_at_times(weight, layer) -> None:
        weight.normal_(0.0, 0.1, generator=layer.generator)
        if weight[0, 0] < -0.1:
            weight.fill_(1e30)

    study = small_study(
        scientific={},
        fixed={"epochs": 1, "initializer": broken_at_times},
        sampler="random",
        trials=6,
        replicates=12,
        replicate_race=False,
    )
    study = dataclasses.replace(study, published=(Published(source="A book", value=0.5, metric="val_accuracy"),))
    run(study)
    outcomes = [t.user_attrs["outcome"] for t in Stores(STORAGE).optuna_study("small.replicates").trials]
    (row,) = statistics(study, Stores(STORAGE))["published"]
    assert (row["n"], row["diverged"]) == (outcomes.count("completed"), outcomes.count("diverged"))
    assert min(row["n"], row["diverged"]) >= 2
    assert f"{row['n']}, {row['diverged']} more diverged" in page_of(study).text
