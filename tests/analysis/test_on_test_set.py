"""The test set by cell: means, intervals, paired differences, ranks, and what the answer says of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats
from support import STORAGE, small_study
from support.trials import BEST, ledger, race, replicates_of, search_trials, store, trial

from searchlib import Choice, Dataset
from searchlib.analysis import analyze
from searchlib.analysis.comparison import paired_tests
from searchlib.analysis.findings import Findings
from searchlib.analysis.spending import Plan
from searchlib.stores import Stores

SEEDS = 5


def analyzed(on_test: Mapping[int, Sequence[float | None]], **attributes: Any) -> Findings:
    """Of a study whose replicates (by search trial, by seed) have these test accuracies; None: no result."""
    study = small_study(replicates=SEEDS)
    trials = search_trials(values=(0.90, 0.85, 0.80, 0.70))
    repeated = replicates_of(trials, BEST, SEEDS, np.random.default_rng(1), 0.001)
    rows = [
        [number, "0", 0.1, round(10_000 * result)]
        for number, one in enumerate(repeated)
        if (result := on_test[one.user_attrs["source"]][one.params["replicate"] - 1]) is not None
    ]
    noted = {**ledger(4), "replicates": rows, **attributes}
    store(study, trials, repeated, race(SEEDS, BEST, looks=(SEEDS,)), test_ledger=noted)
    return analyze(study, Stores(STORAGE).read(study))


def around(mean: float, seed: int) -> list[float]:
    return [round(mean + 0.002 * draw, 4) for draw in np.random.default_rng(seed).standard_normal(SEEDS)]


def test_the_order_holds() -> None:
    results = {4: around(0.88, 1), 5: around(0.83, 2), 6: around(0.79, 3), 7: around(0.69, 4)}
    found = analyzed(results)
    table = found.test_by_cell
    assert table is not None
    assert [cell.label for cell in table.cells] == [cell.label for cell in found.cells]
    assert [(cell.rank, cell.validation_rank) for cell in table.cells] == [(place, place) for place in (1, 2, 3, 4)]
    assert (table.order_holds, table.rank_correlation, table.examples) == (True, 1.0, 10_000)
    assert (table.without_result, table.left_out) == (0, {})
    for cell, source in zip(table.cells, BEST, strict=True):
        values = results[source]
        assert (cell.n, cell.pairs) == (SEEDS, SEEDS)
        assert cell.mean == pytest.approx(np.mean(values))
        assert (cell.low, cell.high) == pytest.approx(stats.t.interval(0.95, 4, np.mean(values), stats.sem(values)))
        if source == 4:
            assert (cell.difference, cell.difference_low, cell.validation_difference) == (None, None, None)
            continue
        assert cell.difference == pytest.approx(np.mean(results[4]) - np.mean(values))
        by_seed = {BEST.index(each): dict(enumerate(of, 1)) for each, of in results.items()}
        test = paired_tests(by_seed, 0, Plan(direction="maximize"))[BEST.index(source)]
        assert (cell.difference_low, cell.difference_high) == pytest.approx((test.low, test.high))
        comparison = next(one for one in found.comparisons if one.against_label == cell.label)
        assert cell.validation_difference == pytest.approx(comparison.difference)
    near = table.cells[1]
    gap, low, high = (
        f"{100 * (value or 0.0):.2f}" for value in (near.difference, near.difference_low, near.difference_high)
    )
    said = "Over seeds, xavier_normal, tanh is better there than 3 other cells: than the next, xavier_normal, relu, by "
    points = f"{gap} points (95 % interval {low} to {high})."
    assert found.answer.endswith(f"{said}{points} The 4 cells have the same order as on validation data.")


def test_the_winner_stays_the_winner_where_another_leads() -> None:
    found = analyzed({4: around(0.88, 1), 5: around(0.90, 2), 6: around(0.79, 3), 7: around(0.69, 4)})
    table = found.test_by_cell
    assert table is not None
    assert found.winner is not None
    assert found.winner.trial == 4
    assert [cell.rank for cell in table.cells] == [2, 1, 3, 4]
    assert table.order_holds is False
    assert table.rank_correlation == pytest.approx(2 / 3)
    assert "Over seeds, xavier_normal, relu leads there, ahead of the winner, xavier_normal, tanh, by " in found.answer
    assert "-" not in found.answer.split("ahead of the winner")[1]
    assert found.answer.endswith("The order of the 4 cells differs from that on validation data (Kendall's tau 0.67).")


def test_another_one_leads_within_the_noise() -> None:
    found = analyzed({4: [0.88, 0.87, 0.89, 0.88, 0.88], 5: [0.89, 0.86, 0.9, 0.88, 0.88], 6: [0.7] * 5, 7: [0.6] * 5})
    said = (
        "Over seeds, xavier_normal, relu leads there, but not significantly: ahead of the winner, xavier_normal, tanh"
    )
    assert said in found.answer


def test_the_winner_leads_within_the_noise() -> None:
    found = analyzed({4: [0.88, 0.87, 0.89, 0.88, 0.88], 5: [0.87, 0.89, 0.88, 0.87, 0.88], 6: [0.7] * 5, 7: [0.7] * 5})
    said = "Over seeds, xavier_normal, tanh leads there, but not significantly: ahead of the next, xavier_normal, relu"
    assert said in found.answer
    assert found.test_by_cell is not None
    assert found.test_by_cell.order_holds is True, "cells that are equal there aren't the other way round"
    assert [cell.rank for cell in found.test_by_cell.cells] == [1, 2, 3, 3]


def test_accuracies_stay_within_their_range_and_equal_ones_have_no_width() -> None:
    found = analyzed({4: [1.0, 1.0, 0.99, 1.0, 1.0], 5: [0.9] * 5, 6: [0.0, 0.0, 0.0, 0.01, 0.0], 7: [0.1] * 5})
    assert found.test_by_cell is not None
    rows = {cell.label: cell for cell in found.test_by_cell.cells}
    assert rows["xavier_normal, tanh"].high == 1.0
    assert rows["normal, tanh"].low == 0.0
    assert (rows["normal, relu"].low, rows["normal, relu"].high) == pytest.approx((0.1, 0.1))


def test_what_has_no_result_is_counted_and_compared_with_nobody() -> None:
    some: list[float | None] = [0.83, None, None, None, None]
    on_test = {4: [0.88, 0.87, 0.88, None, 0.89], 5: some, 6: [None] * 5, 7: [None, None, 0.7, 0.7, None]}
    found = analyzed(on_test, left_out={"checkpoint missing": 12})
    table = found.test_by_cell
    assert table is not None
    assert [(cell.label, cell.n, cell.pairs) for cell in table.cells] == [
        ("xavier_normal, tanh", 4, 4), ("xavier_normal, relu", 1, 1), ("normal, relu", 2, 1),
    ]  # fmt: skip
    alone = table.cells[1]
    assert (alone.low, alone.difference_low) == (None, None)
    assert alone.difference == pytest.approx(0.05)
    assert (table.without_result, table.left_out) == (13, {"checkpoint missing": 12})
    assert "left out of the test by cell: 12 replicates: checkpoint missing" in found.notes
    assert "Over seeds" not in found.answer, "one seed in common carries nothing"
    values = [one.values for one in found.cells]
    validation = [values[0][replicate] for replicate in (1, 2, 3, 5)]
    assert table.cells[0].validation_mean == pytest.approx(np.mean(validation)), "of the same replicates"


def test_the_winner_without_a_result_has_no_sentence() -> None:
    found = analyzed({4: [None] * 5, 5: around(0.8, 1), 6: around(0.7, 2), 7: around(0.6, 3)})
    assert found.test_by_cell is not None
    assert [(cell.pairs, cell.difference) for cell in found.test_by_cell.cells] == [(0, None)] * 3
    assert "Over seeds" not in found.answer


def test_nobody_with_a_result_is_no_table_but_a_note() -> None:
    none: list[float | None] = [None] * 5
    found = analyzed(dict.fromkeys(BEST, none), left_out={"weights not kept": 19, "checkpoint altered": 1})
    assert found.test_by_cell is None
    assert "no test by cell: 1 replicate: checkpoint altered; 19 replicates: weights not kept" in found.notes


def test_a_single_cell_has_its_mean_and_no_order() -> None:
    study = small_study(scientific={}, fixed={"epochs": 1, "momentum": 0.9}, replicates=3)
    point = {"learning_rate": 0.1, "batch_size": 16}
    trials = [trial(point, 0.8)]
    repeated = [trial({**point, "replicate": seed}, 0.8, source=0) for seed in (1, 2, 3)]
    rows = [[number, "0", 0.1, 8000 + number] for number in range(3)]
    store(study, trials, repeated, race(3, [0]), test_ledger={**ledger(0), "replicates": rows})
    found = analyze(study, Stores(STORAGE).read(study))
    assert found.test_by_cell is not None
    (cell,) = found.test_by_cell.cells
    assert (cell.label, cell.n, cell.mean) == ("all trials", 3, pytest.approx(0.8001))
    assert (found.test_by_cell.order_holds, found.test_by_cell.rank_correlation) == (None, None)


def test_losses_are_better_when_lower_and_may_be_infinite() -> None:
    dataset = Dataset(
        name="numbers", task="regression", shape=(4,), outputs=1, scale=1.0,
        train=lambda root: pytest.fail("read"), test=lambda root: pytest.fail("read"),
    )  # fmt: skip
    study = small_study(dataset=dataset, scientific={"activation": Choice("tanh", "relu")}, replicates=3)
    points = [{"activation": name, "learning_rate": 0.1, "batch_size": 16} for name in ("tanh", "relu")]
    trials = [trial(point, value) for point, value in zip(points, (0.2, 0.3), strict=True)]
    repeated = [
        trial({**points[source], "replicate": seed}, 0.2 + 0.1 * source + 0.01 * seed, source=source)
        for seed in (1, 2, 3)
        for source in (0, 1)
    ]
    losses = [2.0, 3.0, 2.1, 3.2, None, 3.1]
    result = {**ledger(0)["result"], "accuracy": None, "correct": None, "low": None, "high": None, "confusion": None}
    rows = [[number, "0", loss, None] for number, loss in enumerate(losses)]
    noted = {**ledger(0), "result": result, "replicates": rows}
    store(study, trials, repeated, race(3, [0, 1], looks=(3,)), test_ledger=noted)
    found = analyze(study, Stores(STORAGE).read(study))
    assert found.test_by_cell is not None
    first, second = found.test_by_cell.cells
    assert (first.label, first.n, second.n, second.pairs) == ("tanh", 2, 3, 2)
    assert (first.mean, second.mean) == pytest.approx((2.05, 3.1))
    assert second.high is not None
    assert second.high > 3.1, "not cut at 1"
    assert second.difference == pytest.approx(1.05)
    assert (first.rank, second.rank) == (1, 2)
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["test_by_cell"]["cells"][1]["pairs"] == 2
    assert "Over seeds, tanh is better there than relu by 1.05 (95 % interval" in found.answer
