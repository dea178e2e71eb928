"""The page of a study with several searches: each figure is said to be of what it is."""

from __future__ import annotations

import pytest
from support.page import Page, gathered, page_of
from support.trials import store_searches

from searchlib.report.exhibits.cells import heat_map

TANH = [(0.2, 0.90, (0.93, 0.91)), (0.3, 0.96, (0.92, 0.90)), (0.7, 0.92, (0.97, 0.95)), (0.4, 0.94, (0.91, 0.91))]
RELU = [(0.2, 0.80, (0.83, 0.81)), (0.3, 0.82, (0.80, 0.82)), (0.4, 0.83, (0.79, 0.84)), (0.4, 0.81, (0.80, 0.83))]
DEAD = [(0.2, 0.34, (None, None))] * 4


@pytest.fixture
def page() -> Page:
    return page_of(store_searches({"tanh": TANH, "relu": RELU, "elu": DEAD}))


def test_what_each_search_found_is_listed(page: Page) -> None:
    assert "picks" in page.ids
    for rate, value, fresh in TANH:
        assert f"learning_rate\u00a0{rate}, batch_size\u00a016{value:.4f}2{sum(fresh) / 2:.4f}" in page.text
    runs = page.text.split("The runs behind the tables")[1]
    assert runs.startswith(": the best trial of each cell in each search")
    assert runs.count("completed") == 12 + 16


def test_a_cell_in_which_no_replicate_learnt_is_not_called_unreplicated() -> None:
    study = store_searches({"tanh": TANH, "elu": DEAD})
    page = page_of(study)
    assert "no effects: in 1 cell no replicate learnt" in page.text
    assert "There is no analysis of variance: in 1 cell no replicate learnt" in page.text
    assert "The best configuration that each search found of each cell was run again" in page.text
    plot = heat_map(gathered(study).findings, "activation", "activation")
    assert "0.3400<br><i>no replicate learnt</i>" in [text for line in plot.data[0]["text"] for text in line]


def test_edges_are_counted_by_search(page: Page) -> None:
    assert "In 0 of 3 cells the best points of most searches are at the same edge" in page.text
    assert "tanhlearning_ratehigh1 of 40.70.01 to 1–" in page.text


def test_the_first_screen_says_that_it_is_a_tie_and_what_one_network_is() -> None:
    near = (0.001, -0.002, 0.001, -0.002)
    elu = [(rate, value, (a + by, b + by)) for (rate, value, (a, b)), by in zip(TANH, near, strict=True)]
    page = page_of(store_searches({"tanh": TANH, "elu": elu}, tested={"tanh": -0.01, "elu": 0.0}))
    assert "Best mean\n" in page.text
    assert "2 of 2 cells are not significantly different." in page.text
    assert (
        "best of its configurations on fresh seeds: learning_rate\u00a00.7, batch_size\u00a016 (0.9600 over 2 seeds)"
        in (page.text)
    )
    assert "one network, the best of its cell on validation data; the mean of the cell's 8 is 0.9150" in page.text
    assert "Mean and 95 % t interval are over the searches" in page.text
    assert "that in the answer is wider, as it allows for the choice of the best of 2" in page.text
    assert "seedsfailedsearchesmean95 % intervaldeviation over seeds" in page.text
    assert "8 trials in 4 searches" in page.text
    assert "up to 8 seeds of each cell, shared by the searches" in page.text
    assert "Intervals are over searches, on one test set" in page.text


def test_the_figures_stand_before_the_words(page: Page) -> None:
    assert page.text.index("fresh seeds\n") < page.text.index("tanh has the best validation accuracy")
