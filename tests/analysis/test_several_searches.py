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
    best = "the best on fresh seeds has learning_rate 0.7, batch_size 16 (0.9600 over 2 seeds)."
    assert f"Each search found a configuration of its own; {best}" in found.answer
    assert found.to_json()["winner"]["pick"]["trial"] == 4


def test_optimism_compares_the_configurations_of_all_searches_with_their_own_fresh_seeds() -> None:
    found = analyzed(store_searches({"tanh": TANH, "relu": RELU}))
    assert (found.optimism.search_best, found.optimism.fresh_mean) == pytest.approx((0.93, 0.925))
    said = "The winner's configurations had 0.9300 on average in the search, 0.50 points better than over fresh seeds."
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


def shifted(found: list, by: float) -> list:
    """What the searches found, with other values: each a little more or less than *by* higher."""
    more = (0.001, -0.002, 0.002, -0.001)
    return [
        (rate, value + by, tuple(one + by + noise for one in fresh))
        for (rate, value, fresh), noise in zip(found, more, strict=True)
    ]


TIED = {"tanh": TANH, "gelu": shifted(TANH, -0.001), "elu": shifted(TANH, -0.002), "relu": shifted(TANH, -0.2)}


def test_ties_are_said_first_and_what_would_decide_is_a_new_study() -> None:
    found = analyzed(store_searches(TIED))
    assert found.answer.startswith(
        "3 of 4 cells are not significantly different: tanh; gelu; elu. The best mean validation accuracy is that of "
        "tanh: 0.9250 on average over 4 searches, with 8 fresh seeds (95 % interval "
    )
    assert "Significantly worse, also after correction for the number of cells: 1 cell." in found.answer
    near = found.comparisons[0]
    assert near.units_to_decide is not None
    said = f"a new study of about {near.units_to_decide} searches would have an even chance of a significant difference"
    assert f"{said} between these two, tested alone; there were 4." in found.answer


def test_a_clear_winner_is_said_first() -> None:
    assert analyzed(store_searches({"tanh": TANH, "relu": TIED["relu"]})).answer.startswith(
        "tanh has the best validation accuracy: 0.9250"
    )


def test_the_test_set_is_said_over_searches_with_the_order_of_the_ties() -> None:
    found = analyzed(store_searches(TIED, tested={"tanh": 0.0, "gelu": 0.01, "elu": 0.02, "relu": 0.0}))
    table = found.test_by_cell
    assert table is not None
    assert [cell.label for cell in table.cells] == ["tanh", "gelu", "elu", "relu"]
    assert [cell.rank for cell in table.cells] == [3, 2, 1, 4]
    assert (table.ties, table.ties_correlation, table.rank_correlation) == (3, pytest.approx(-1.0), pytest.approx(0.0))
    assert "That is one network, the best on validation data; the 8 of its cell have 0.9250 on average." in found.answer
    assert "Over searches, elu leads there, ahead of the best on validation data, tanh, by 1.80 points" in found.answer
    assert found.answer.endswith(
        "differs from that on validation data (Kendall's tau 0.00, -1.00 among the 3 without significant differences)."
    )


def test_seeds_of_one_search_carry_no_interval_on_the_test_set() -> None:
    """Two seeds of one search in common are one unit, so there is no sentence."""
    dead = [(rate, value, (None, None)) for rate, value, _ in TANH[1:]]
    found = analyzed(store_searches({"tanh": TANH, "relu": [RELU[0], *dead]}, tested={"tanh": 0.0, "relu": 0.0}))
    assert found.test_by_cell is not None
    assert (found.test_by_cell.cells[1].pairs, found.test_by_cell.cells[1].difference_low) == (2, None)
    assert "Over s" not in found.answer
