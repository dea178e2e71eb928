"""What is said of a study with several searches, whose replicates are of several configurations of a cell."""

from __future__ import annotations

import pytest
from support import STORAGE
from support.trials import store_searches

from searchlib import Study
from searchlib.analysis import Findings, analyze
from searchlib.stores import Stores

# of each search: learning rate, value in the search, values on fresh seeds
TANH = [(0.2, 0.90, (0.93, 0.91)), (0.3, 0.96, (0.92, 0.90)), (0.7, 0.92, (0.97, 0.95)), (0.4, 0.94, (0.91, 0.91))]
RELU = [(0.2, 0.80, (0.83, 0.81)), (0.3, 0.82, (0.80, 0.82)), (0.4, 0.83, (0.79, 0.84)), (0.4, 0.81, (0.80, 0.83))]


def analyzed(study: Study) -> Findings:
    return analyze(study, Stores(STORAGE).read(study))


def test_the_mean_is_of_all_configurations_and_each_is_named_by_what_it_is() -> None:
    found = analyzed(store_searches({"tanh": TANH, "relu": RELU}))
    cell, winner = found.cells[0], found.winner
    assert winner is not None
    assert winner.pick is not None
    assert (cell.trial, cell.search_best, cell.nuisance["learning_rate"]) == (2, 0.96, 0.3), "best of the whole search"
    assert (winner.trial, winner.nuisance) == (cell.trial, cell.nuisance)
    assert cell.mean == pytest.approx(0.925)
    assert [(pick.search, pick.search_best, pick.n) for pick in cell.picks] == [
        (1, 0.90, 2), (2, 0.96, 2), (3, 0.92, 2), (4, 0.94, 2),
    ]  # fmt: skip
    assert [pick.mean for pick in cell.picks] == pytest.approx([0.92, 0.91, 0.96, 0.91])
    assert (winner.pick.search, winner.pick.trial, winner.pick.nuisance["learning_rate"]) == (3, 4, 0.7)
    assert "0.9250 on average over 4 searches, with 8 fresh seeds (95 % interval" in found.answer
    best = "the best of these on fresh seeds has learning_rate 0.7, batch_size 16 (0.9600 over 2 seeds)."
    assert f"That is of the best configuration of each search; {best}" in found.answer
    assert found.to_json()["winner"]["pick"]["trial"] == 4


def test_optimism_compares_the_configurations_of_all_searches_with_their_own_fresh_seeds() -> None:
    found = analyzed(store_searches({"tanh": TANH, "relu": RELU}))
    assert (found.optimism.search_best, found.optimism.fresh_mean) == pytest.approx((0.93, 0.925))
    said = "In the search these configurations had 0.9300 on average, 0.50 points better than over fresh seeds."
    assert said in found.answer


def test_a_search_whose_replicates_all_diverged_is_on_neither_side() -> None:
    tanh = [*TANH[:3], (0.9, 0.98, (None, None))]
    found = analyzed(store_searches({"tanh": tanh, "relu": RELU}))
    assert found.cells[0].label == "tanh"
    assert found.optimism.search_best == pytest.approx((0.90 + 0.96 + 0.92) / 3)
    assert found.optimism.fresh_mean == pytest.approx((0.92 + 0.91 + 0.96) / 3)


def test_a_cell_in_which_no_replicate_learnt_is_compared_by_its_failures_and_said_to_be() -> None:
    dead = [(0.2, 0.34, (None, None))] * 4
    found = analyzed(store_searches({"tanh": TANH, "relu": RELU, "elu": dead}))
    elu = next(cell for cell in found.cells if cell.label == "elu")
    assert (elu.n, elu.failed) == (0, 8)
    assert any(one.against_label == "elu" and one.failures_p is not None for one in found.comparisons)
    said = "in 1 cell no replicate learnt (elu): the winner is compared with this by the failures only"
    assert said in found.notes
    assert "the analysis of variance leaves out 1 cell, in which no replicate learnt" in found.notes
    assert not any("have no replicates" in note or "not all combinations" in note for note in found.notes)


def test_a_range_is_to_be_widened_only_where_most_searches_end_there() -> None:
    def said(rates: list[float]) -> tuple[str, tuple[str, ...]]:
        tanh = [(rate, value, fresh) for rate, (_, value, fresh) in zip(rates, TANH, strict=True)]
        found = analyzed(store_searches({"tanh": tanh, "relu": RELU}, name=f"rates-{rates[0]}"))
        return found.answer, found.cells[0].flags

    answer, flags = said([0.2, 0.3, 0.7, 0.4])
    assert "end of its range" not in answer
    assert flags == ()
    answer, flags = said([0.9, 0.8, 0.7, 0.4])
    where = "In 3 of 4 searches the winner's best learning_rate is at the upper end of its range, 0.01 to 1"
    assert f"{where}: try 0.1 to 10." in answer
    assert flags == ("edge: learning_rate high",)
