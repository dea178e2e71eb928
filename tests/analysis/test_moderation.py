"""Moderated variances against the distribution that they are drawn from, and the level of comparisons with them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special, stats
from support.series import series

from searchlib.analysis.comparison import compare, contenders, paired_tests
from searchlib.analysis.failures import failure_rates, failures_p
from searchlib.analysis.moderation import _inverse_trigamma, moderated, prior_variance
from searchlib.analysis.race import next_runs
from searchlib.analysis.spending import Plan


@pytest.mark.parametrize("value", [1e-8, 1e-3, 0.1, 1.0, 30.0, 1e9])
def test_the_inverse_of_trigamma(value: float) -> None:
    assert special.polygamma(1, _inverse_trigamma(value)) == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize(("d0", "s0", "df"), [(4.0, 2.0, 3), (10.0, 0.3, 9), (30.0, 1.0, 4)])
def test_the_fit_finds_the_distribution_that_variances_were_drawn_from(d0: float, s0: float, df: int) -> None:
    rng = np.random.default_rng(0)
    true = d0 * s0 / rng.chisquare(d0, 40_000)
    found_df, found = prior_variance(true * rng.chisquare(df, true.shape) / df, np.full(true.shape, float(df)))
    assert (found_df, found) == (pytest.approx(d0, rel=0.1), pytest.approx(s0, rel=0.03))


def test_equal_variances_are_pooled_and_others_left_alone() -> None:
    df = np.full(4, 3.0)
    steadied, total = moderated(np.full(4, 2.0), df)
    pooled = 2.0 * 1.5 / np.exp(special.digamma(1.5))
    assert steadied.tolist() == pytest.approx([(3.0 * pooled + 3.0 * 2.0) / 6.0] * 4)
    assert total.tolist() == [6.0] * 4, "no more is borrowed than a comparison has itself"
    alone = np.array([2.0])
    assert moderated(alone, np.array([3.0]))[0] is alone
    unlike = np.array([1e-8, 1.0, 1e8, 1e-4])
    assert moderated(unlike, df)[0] is unlike
    some = moderated(np.array([2.0, 0.0, 2.1]), np.array([3.0, 0.0, 3.0]))
    assert some[1].tolist()[1] == 0.0, "a comparison without two units stays without"


@pytest.mark.parametrize("searches", [1, 4])
def test_a_comparison_of_two_cells_is_the_plain_paired_test(searches: int) -> None:
    rng = np.random.default_rng(3)
    values = {name: series(*rng.standard_normal(8).tolist()) for name in "ab"}
    plan = Plan(direction="maximize", searches=searches)
    a, b = (np.array(list(values[name].values())) for name in "ab")
    if searches > 1:  # the mean over the two seeds of each search
        a, b = (each.reshape(2, 4).mean(axis=0) for each in (a, b))
    found = paired_tests(values, "a", plan)["b"]
    test = stats.ttest_rel(a, b)
    interval = test.confidence_interval(0.95)
    assert (found.p, found.low, found.high) == pytest.approx((test.pvalue, interval.low, interval.high))
    assert (found.n, found.units, found.df) == (8, len(a), len(a) - 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cells", "spread"), [(4, np.ones(4)), (4, np.array([0.3, 0.6, 1.4, 3.0])), (12, np.ones(12))], ids=str
)
def test_the_level_with_four_searches_and_the_power_gained(cells: int, spread: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    plan, studies = Plan(direction="maximize", looks=(4,), searches=4), 300

    def claims(ahead: float) -> list[tuple[bool, bool]]:
        found = []
        for _ in range(studies):
            drawn = spread[:, None] * rng.standard_normal((cells, 4))
            drawn[0] += ahead
            winner, compared = compare({cell: series(*drawn[cell].tolist()) for cell in range(cells)}, plan)
            told = any(one.adjusted_p <= 0.05 for one in compared.values())
            found.append((told, told and winner == 0))
        return found

    false = sum(told for told, _ in claims(0.0))
    assert false <= stats.binom.isf(0.001, studies, 0.05)
    assert sum(right for _, right in claims(6.0)) > 0.7 * studies


def test_failures_are_compared_apart_from_quality() -> None:
    """One diverged seed of ten: the other nine still show that the cell is nine points worse."""
    rng = np.random.default_rng(2)
    good, bad = 0.90 + 0.002 * rng.standard_normal(10), 0.81 + 0.002 * rng.standard_normal(10)
    values = {"good": series(*good), "bad": {**series(*bad), 4: None}}
    winner, compared = compare(values, Plan(direction="maximize", looks=(10,)))
    one = compared["bad"]
    keep = [place for place in range(10) if place != 3]
    assert (winner, one.n) == ("good", 9)
    assert one.p == pytest.approx(stats.ttest_rel(good[keep], bad[keep]).pvalue)
    assert one.failures_p == pytest.approx(stats.fisher_exact([[0, 10], [1, 9]]).pvalue)


def test_a_cell_that_never_learns_is_told_apart_by_its_failures() -> None:
    values = {"good": series(0.8, 0.9, 0.85, 0.87, 0.9, 0.8), "dead": dict.fromkeys(range(1, 7))}
    winner, compared = compare(values, Plan(direction="maximize", looks=(6,)))
    one = compared["dead"]
    assert (winner, one.n, one.difference, one.told_apart, one.verdict) == ("good", 0, None, True, "fails more often")
    assert one.p == one.failures_p == pytest.approx(stats.fisher_exact([[0, 6], [6, 0]]).pvalue)
    two = compare({"good": series(0.8, 0.9), "dead": {1: None, 2: None}}, Plan(direction="maximize", looks=(2,)))[1]
    assert (two["dead"].told_apart, two["dead"].verdict) == (False, "not told apart")


def test_comparisons_without_a_variance_lend_no_weight() -> None:
    """Eight comparisons, or eight beside thirty of which nothing is known: the same degrees of freedom."""
    known = np.geomspace(0.5, 2.0, 8)
    alone = moderated(known, np.full(8, 3.0))
    beside = moderated(np.append(known, np.zeros(30)), np.append(np.full(8, 3.0), np.zeros(30)))
    assert alone[1] == pytest.approx(beside[1][:8])
    assert alone[0] == pytest.approx(beside[0][:8])
    assert alone[1].max() == pytest.approx(3.0 + 3.0 * 8 / 6)


def four_searches(seeds: int, *dead: str, cells: str = "ab") -> dict:
    """Values near 0.9 of each cell, None for the *dead*; replicates 1 to *seeds*."""
    rng = np.random.default_rng(6)
    return {
        cell: dict.fromkeys(range(1, seeds + 1)) if cell in dead else series(*(0.9 + 0.01 * rng.standard_normal(seeds)))
        for cell in cells
    }


@pytest.mark.parametrize("seeds", [4, 8, 20])
def test_seeds_of_a_search_that_fail_are_one_failure(seeds: int) -> None:
    """Four of four searches against none: the p doesn't fall with more seeds of the same searches."""
    plan = Plan(direction="maximize", looks=(4, 8, 20), searches=4)
    one = compare(four_searches(seeds, "b"), plan)[1]["b"]
    assert one.p == one.failures_p == one.adjusted_p == pytest.approx(2 / math.comb(8, 4))
    assert (one.told_apart, one.verdict) == (True, "fails more often"), "looks share no alpha here: it can't come later"
    one = compare(four_searches(seeds, "f", cells="abcdef"), plan)[1]["f"]
    assert (one.told_apart, one.verdict) == (True, "not told apart"), "among six cells it isn't significant"
    three = Plan(direction="maximize", looks=(6, 12), searches=3)
    one = compare(four_searches(12, "b"), three)[1]["b"]
    assert (one.p, one.told_apart, one.verdict) == (pytest.approx(0.1), False, "not told apart")


def test_a_search_fails_where_more_than_half_of_its_seeds_do() -> None:
    plan = Plan(direction="maximize", searches=4)
    good = four_searches(12)["a"]
    bad = {**good, **dict.fromkeys((1, 5, 2, 6, 3, 7)), 4: None}  # 2 of 3 seeds in three searches, 1 of 3 in one
    assert failure_rates(bad, plan) == pytest.approx([2 / 3, 2 / 3, 2 / 3, 1 / 3])
    assert failures_p(good, bad, plan) == pytest.approx(stats.fisher_exact([[0, 4], [3, 1]]).pvalue)
    half = {**four_searches(8)["a"], **dict.fromkeys((1, 2, 3, 4))}
    assert failures_p(four_searches(8)["a"], half, plan) == 1.0, "half is not more than half"
    assert failures_p(good, good, plan) is None


def test_a_cell_of_several_searches_that_never_learns_leaves_the_race_and_never_leads() -> None:
    plan = Plan(direction="maximize", looks=(4, 8, 12, 20), searches=4)
    values: dict = {cell: {} for cell in "dabc"}
    rng = np.random.default_rng(7)
    while wanted := next_runs(list(values), values, {(c, r) for c, of in values.items() for r in of}, plan)[2]:
        for cell, replicate in wanted:
            values[cell][replicate] = None if cell == "d" else 0.9 + 0.01 * float(rng.standard_normal())
    assert {cell: len(of) for cell, of in values.items()} == {"a": 20, "b": 20, "c": 20, "d": 4}
    winner, compared = compare(values, plan)
    assert winner != "d"
    assert compared["d"].told_apart
    assert contenders(four_searches(4, "a", "b"), plan) == ["a", "b"], "where none ever learns, all stay"
    assert contenders({"a": four_searches(8)["a"], "b": {**dict.fromkeys(range(1, 8)), 8: 0.1}}, plan) == ["a", "b"]
    one_search = Plan(direction="maximize", looks=(2, 3, 5), searches=1)
    assert contenders(four_searches(3, "b"), one_search) == ["a", "b"], "further seeds are evidence there"


def test_who_fails_more_often_than_not_leads_only_where_all_do() -> None:
    lucky = {**dict.fromkeys(range(1, 6)), 6: 0.99}
    plan = Plan(direction="maximize")
    assert compare({"steady": series(*[0.8] * 6), "lucky": lucky}, plan)[0] == "steady"
    assert compare({"worse": dict.fromkeys(range(1, 7)), "lucky": lucky}, plan)[0] == "lucky"


def test_three_verdicts_with_a_margin() -> None:
    rng = np.random.default_rng(4)
    noise = rng.standard_normal(10)
    noise = 0.001 * (noise - noise.mean()) / noise.std(ddof=1)
    base = np.full(10, 0.9)

    def judged(gap: float, margin: float | None, looks: tuple[int, ...] = ()):
        values = {"a": series(*(base + gap + noise)), "b": series(*base)}
        return compare(values, Plan(direction="maximize", looks=looks, margin=margin))[1]["b"]

    half = stats.t.ppf(0.95, 9) * 0.001 / np.sqrt(10)  # of the 90 % interval
    assert judged(0.0, half * 1.01).verdict == "equivalent"
    assert judged(0.0, half * 0.99).verdict == "undecided"
    assert judged(0.01, 0.002).verdict == "better"
    assert judged(0.001, 0.002).verdict == "equivalent", "better by less than matters"
    open_one = judged(0.0005, 0.0006)
    assert open_one.verdict == "undecided"
    units = open_one.units_to_decide
    assert stats.t.ppf(0.975, units - 1) * 0.001 / np.sqrt(units) < 0.0005, "so many seeds leave out 0"
    assert stats.t.ppf(0.975, units - 2) * 0.001 / np.sqrt(units - 1) >= 0.0005
    assert judged(0.0, None).units_to_decide is None, "no number of seeds shows a difference of nothing"
    more = judged(0.0005, None, (10,)).units_to_decide
    shares = {n: 0.1 * (1 - 10 / n) for n in (more - 1, more)}  # of alpha, for a race that goes on after 10 seeds
    needed = {n: stats.t.isf(0.05 * of / 2, n - 1) * 0.001 / np.sqrt(n) for n, of in shares.items()}
    assert needed[more] < 0.0005 <= needed[more - 1]


def test_a_cell_that_left_the_race_early_is_not_called_alike() -> None:
    """Of two seeds the interval of P(A>B) excludes nothing, though the cell is far behind: adjusted p decides."""
    rng = np.random.default_rng(5)
    values = {cell: series(*(0.9 + 0.0005 * rng.standard_normal(10)).tolist()) for cell in range(8)}
    values[8] = series(0.5, 0.5005)
    one = compare(values, Plan(direction="maximize", looks=(2, 3, 5, 7, 10)))[1][8]
    assert one.told_apart
    assert one.adjusted_p <= 0.05
    assert (one.probability, one.verdict) == (1.0, "better")
    assert one.probability_low is None
