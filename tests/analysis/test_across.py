"""Several data sets: ranks, tests and interquartile means against scipy and figures worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from scipy.stats import friedmanchisquare, permutation_test, rankdata, trim_mean
from support import small_study
from support.studies import study
from support.trials import trial

from searchlib import Choice
from searchlib.analysis import analyze, compare_across
from searchlib.analysis.across import interquartile_mean, ranked
from searchlib.analysis.ranks import critical_difference, least_datasets, rank_test
from searchlib.stores import StoredStudy

NAMES = ("a", "b", "c", "d")
RNG = np.random.default_rng(4)


def found(values: dict[str, list[float | None]], *, searches: int = 1, **changes):
    """The findings of a study of these cells, each with its replicates' values; None for one that diverged."""
    asked = replace(
        small_study(scientific={"activation": Choice("tanh", "relu", "elu", "gelu")}),
        searches=1, replicates=4, trials=4 * searches, **changes,
    )  # fmt: skip
    asked = replace(asked, searches=searches)
    rate = {"learning_rate": 0.1, "batch_size": 16}
    trials = [
        trial({"activation": cell, **rate}, 0.5, **({"search": search} if searches > 1 else {}))
        for search in range(1, searches + 1)
        for cell in values
    ]
    for number, one in enumerate(trials):
        one.number = number
    replicates = [
        trial(
            {"replicate": seed},
            0.1 if value is None else value,
            "diverged" if value is None else "completed",
            source=place + len(values) * ((seed - 1) % searches),
        )
        for place, cell in enumerate(values)
        for seed, value in enumerate(values[cell], 1)
    ]
    reached = max(map(len, values.values()))
    race = {"reached": reached, "finished": True, "looks": [reached], "candidates": list(range(len(trials)))}
    return analyze(asked, StoredStudy(trials=trials, replicates=replicates, race=race))


def several(**values):
    return compare_across(study(), {name: replace(found(of), dataset=name) for name, of in values.items()})


CELLS = ("tanh", "relu", "elu", "gelu")
UP = dict(zip(CELLS, ([0.9, 0.92], [0.8, 0.82], [0.7, 0.71], [0.6, 0.62]), strict=True))


def shuffled(k: int, n: int, *, ties: bool) -> np.ndarray:
    values = RNG.normal(size=(n, k))
    return np.apply_along_axis(rankdata, 1, values.round(0) if ties else values)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("cells", "datasets"), [(3, 3), (3, 4), (4, 3), (2, 6)])
def test_friedmans_p_is_that_of_all_orders(cells: int, datasets: int, ties: bool) -> None:
    """scipy enumerates all of them, too; its Friedman's statistic needs three cells."""
    ranks = shuffled(cells, datasets, ties=ties)
    test = rank_test(ranks.tolist())

    def spread(*columns, axis):
        return ((np.stack(columns).sum(axis=axis) - datasets * (cells + 1) / 2) ** 2).sum(axis=0)

    asked = partial(permutation_test, statistic=spread, permutation_type="samples", vectorized=True, n_resamples=20_000)
    assert test.exact
    assert test.p == pytest.approx(asked(tuple(ranks.T), alternative="greater").pvalue)
    if cells > 2 and np.ptp(ranks):
        assert test.agreement == pytest.approx(friedmanchisquare(*ranks.T).statistic / (datasets * (cells - 1)))


def test_random_orders_come_near_the_chi_squared_distribution_of_many_data_sets() -> None:
    ranks = shuffled(5, 40, ties=False)
    test = rank_test(ranks.tolist())
    assert not test.exact
    assert test.p == pytest.approx(friedmanchisquare(*ranks.T).pvalue, abs=0.03)


def test_data_sets_that_all_agree() -> None:
    """Worked out by hand: 1 of the k! orders of each further data set is the same."""
    test = rank_test([[1, 2, 3]] * 3)
    assert (test.p, test.agreement, test.significant) == (pytest.approx(1 / 36), 1.0, True)
    assert rank_test([[1, 2, 3, 4]] * 2).p == pytest.approx(1 / 24)
    assert rank_test([[2, 2, 2]] * 3).p == 1.0


@pytest.mark.parametrize(("cells", "q"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (10, 3.164)])
def test_the_critical_difference_has_the_quantiles_of_demsars_table(cells: int, q: float) -> None:
    assert critical_difference(cells, 14) == pytest.approx(q * math.sqrt(cells * (cells + 1) / 84), abs=2e-3)


@pytest.mark.parametrize(("cells", "least"), [(2, 6), (3, 3), (4, 3), (12, 3), (36, 3)])
def test_the_fewest_data_sets(cells: int, least: int) -> None:
    """With one less even data sets that all agree show nothing; with so many they do."""
    assert least_datasets(cells) == least
    order = list(range(1, cells + 1))
    for datasets in (least - 1, least):
        test = rank_test([order] * datasets)
        assert (test.significant and cells - 1 >= test.critical_difference) == (datasets == least)


def test_ranks_within_a_data_set() -> None:
    cells = {cell.label: cell for cell in found({**UP, "elu": [None, 0.95], "gelu": [None, None]}).cells}
    assert ranked([cells[name] for name in CELLS], "maximize") == [2, 3, 1, 4], "half of them may fail"
    cells = {cell.label: cell for cell in found({**UP, "elu": [None, None, 0.95], "gelu": [None, None]}).cells}
    assert ranked([cells[name] for name in CELLS], "maximize") == [1, 2, 3.5, 3.5], "those that failed are last"
    assert ranked([cells[name] for name in CELLS[:2]], "minimize") == [2, 1]
    cells = {cell.label: cell for cell in found({**UP, "relu": UP["tanh"][::-1], "gelu": []}).cells}
    assert ranked([cells[name] for name in CELLS], "maximize") == [1.5, 1.5, 3, 4], "not replicated, so behind"


def test_cells_that_differ_across_data_sets() -> None:
    made = several(a=UP, b=UP, c=UP)
    assert [cell.label for cell in made.cells] == list(CELLS)
    assert [cell.mean_rank for cell in made.cells] == [1, 2, 3, 4]
    assert [cell.worse for cell in made.cells] == [False, False, False, True], "the critical difference is 2.71"
    assert made.answer.startswith(
        "Over 3 data sets (a, b, c), tanh has the best mean rank, 1.00 of 4 cells. Significantly worse across data "
        "sets: gelu (Friedman's test, p = 0.0017, critical difference 2.71). Not significantly worse: relu; elu."
    )
    assert made.cells[0].means == pytest.approx(dict.fromkeys("abc", 0.91))
    assert made.to_json()["cells"][3]["worse"] is True


def test_two_data_sets_show_nothing_whatever_they_say() -> None:
    made = several(a=UP, b=UP)
    assert not any(cell.worse for cell in made.cells)
    assert (
        "No two of 4 cells can differ significantly over 2 data sets, whatever the results: that takes 3 or more."
        in made.answer
    )


def test_cells_that_dont_differ() -> None:
    down = dict(zip(CELLS, list(UP.values())[::-1], strict=True))
    made = several(a=UP, b=down, c=UP, d=down)
    assert {cell.mean_rank for cell in made.cells} == {2.5}
    assert "tanh; relu; elu; gelu share the best mean rank, 2.50 of 4 cells. The cells don't differ" in made.answer
    assert made.friedman is not None
    assert made.friedman.p == 1.0


def test_fewer_than_two_finished_data_sets() -> None:
    made = compare_across(study(), {"a": replace(found(UP), dataset="a")}, ["b", "c"])
    assert (made.cells, made.friedman, made.unfinished) == ((), None, ("b", "c"))
    assert made.answer == (
        "Not finished: b, c; so this may change. There is nothing to compare across data sets: a alone is finished."
    )
    assert "none is finished" in compare_across(study(), {}, ["a", "b"]).answer


def test_what_each_data_set_says_alone() -> None:
    made = several(a=UP, b={**UP, "relu": [0.95, 0.96]})
    assert [(one.dataset, one.winner, one.mean) for one in made.datasets] == [
        ("a", "tanh", pytest.approx(0.91)), ("b", "relu", pytest.approx(0.955)),
    ]  # fmt: skip
    assert "Winners by data set: a: tanh (0.9100, " in made.answer
    many = several(**dict.fromkeys("abcde", UP))
    assert "Taken alone, the data sets have 1 different winners" not in many.answer
    assert "Taken alone, all 5 data sets have the same winner" in many.answer


def test_the_interquartile_mean_is_that_of_all_values_without_a_quarter_at_each_end() -> None:
    units = RNG.normal(size=(3, 5))
    mean, resampled = interquartile_mean(units)
    ordered = sorted(units.ravel())
    assert mean == pytest.approx(sum(ordered[3:12]) / 9)
    reference, generator = [], np.random.default_rng(1)
    for _ in range(1000):  # the definition: as many units of each data set, with replacement
        drawn = [row[generator.integers(5, size=5)] for row in units]
        reference.append(trim_mean(np.concatenate(drawn), 0.25))
    quantiles = [0.025, 0.5, 0.975]
    assert np.quantile(resampled, quantiles) == pytest.approx(np.quantile(reference, quantiles), abs=0.12)


def test_resamples_stay_within_a_data_set() -> None:
    """Data sets without any spread of their own leave none between resamples."""
    mean, resampled = interquartile_mean(np.array([[0.2] * 4, [0.6] * 4, [0.9] * 4]))
    assert np.ptp(resampled) < 1e-12
    assert mean == pytest.approx(0.2 / 6 + 0.6 * 4 / 6 + 0.9 / 6)


def test_differences_are_paired() -> None:
    """Cells that differ by a constant in each unit differ by it in each resample."""
    lifted = {**UP, "relu": [value - 0.03 for value in UP["tanh"]]}
    made = several(a=lifted, b={cell: [value - 0.2 for value in of] for cell, of in lifted.items()})
    second = made.cells[1]
    assert (second.label, second.behind) == ("relu", pytest.approx(0.03))
    assert (second.behind_low, second.behind_high) == pytest.approx((0.03, 0.03))
    assert second.low is not None
    assert second.low < second.iqm < second.high


def test_each_data_set_counts_with_as_many_units() -> None:
    """Those that a cell has on all of them: its first ones."""
    made = several(a={**UP, "tanh": [0.9, 0.8, 0.1, 0.1]}, b={**UP, "tanh": [0.7, 0.6, 0.5]})
    row = next(cell for cell in made.cells if cell.label == "tanh")
    assert row.iqm == pytest.approx((0.8 + 0.7 + 0.6 + 0.5) / 4)
    made = several(a=UP, b={**UP, "gelu": [0.9]})
    assert next(cell for cell in made.cells if cell.label == "gelu").iqm is None
    assert any("no interquartile mean of cells with fewer than two" in note for note in made.notes)


def test_the_units_of_several_searches_are_the_searches() -> None:
    values = {cell: [*of, *(value + 0.02 for value in of)] for cell, of in UP.items()}
    findings = {name: replace(found(values, searches=2), dataset=name) for name in "ab"}
    made = compare_across(study(), findings)
    assert made.cells[0].iqm == pytest.approx(0.92), "the middle two of 0.91, 0.93, 0.91, 0.93"


def test_losses_have_no_interquartile_mean() -> None:
    regression = replace(study(), name="losses")
    object.__setattr__(regression, "dataset", _function())
    made = compare_across(regression, {name: replace(found(UP), dataset=name) for name in "abc"})
    assert made.direction == "minimize"
    assert made.cells[0].label == "gelu", "the lowest is the best"
    assert {cell.iqm for cell in made.cells} == {None}
    assert made.notes == ("no interquartile means: losses of different data sets have no scale in common",)


def _function():
    from searchlib import function_dataset

    return function_dataset("wave", np.sin, low=-1.0, high=1.0)


def test_a_cell_without_trials_on_one_data_set_is_left_out() -> None:
    made = several(a=UP, b={cell: UP[cell] for cell in CELLS[:3]})
    assert [cell.label for cell in made.cells] == list(CELLS[:3])
    assert made.notes == ("cells that have no finished trial on some data set are left out: 1",)


def test_without_friedmans_test_the_critical_difference_shows_nothing() -> None:
    """Of two cells Nemenyi's is below 1 from four data sets on; the exact p needs six."""
    two = {cell: UP[cell] for cell in CELLS[:2]}
    for datasets, worse in (("abcde", False), ("abcdef", True)):
        made = several(**dict.fromkeys(datasets, two))
        assert made.friedman is not None
        assert made.friedman.critical_difference < 1.0
        assert made.cells[1].worse is worse
