"""Alpha over the ends of a race: raised, lowered and raised again, with seeds that are missing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from support import STORAGE, small_study
from support.trials import BEST, race, replicates_of, search_trials, store

from searchlib.analysis import analyze, plan
from searchlib.analysis.comparison import compare
from searchlib.analysis.spending import Plan
from searchlib.stores import Stores

RAISED = Plan(direction="maximize", looks=(2, 3, 5, 7, 10, 20), planned_end=10)


@pytest.mark.parametrize("lowered", [[], [8], [8, 1], [9, 8, 7]])
def test_replicates_lowered_and_raised_again_spend_what_is_left(lowered: list[int]) -> None:
    """Whatever was in between, the end at 20 has the share of an extension, and the planned one at 10 stays."""
    noted = {"looks": [2, 3, 5, 7, 10], "planned_end": 10, "reached": 10, "finished": True, "undecided": [10]}
    for end in lowered:
        looks = plan(small_study(replicates=end), noted).looks
        noted = {**noted, "looks": list(looks), "reached": end}
    found = plan(small_study(replicates=20), noted)
    assert (found.planned_end, found.looks[-2:]) == (10, (10, 20))
    assert found.share(20) == pytest.approx(0.1 * (1 - 10 / 20))
    again = {**noted, "looks": list(found.looks), "reached": 20, "undecided": [10, 20]}
    back = {**again, "looks": list(plan(small_study(replicates=8), again).looks), "reached": 8}
    assert plan(small_study(replicates=40), back).share(40) == pytest.approx(0.1 * (10 / 20 - 10 / 40))


def test_a_missing_seed_changes_no_share() -> None:
    """The last look has its share also where one search gave a cell nothing, or one seed couldn't be run."""
    rng = np.random.default_rng(0)
    looks = (4, 8, 12)
    whole = {"a": dict(enumerate(rng.normal(1.0, 0.5, 12), 1)), "b": dict(enumerate(rng.normal(0.0, 0.5, 12), 1))}
    gap = {"a": whole["a"], "b": {replicate: value for replicate, value in whole["b"].items() if replicate % 4}}
    one = compare(gap, Plan(direction="maximize", looks=looks, searches=4))[1]["b"]
    assert (one.n, one.units) == (9, 3)
    assert one.adjusted_p == pytest.approx(min(1.0, one.p / 0.8))


def test_equivalence_after_an_extension_has_the_level_of_the_extension() -> None:
    """Two one-sided tests at alpha at every end would find equivalence too often."""
    rng = np.random.default_rng(3)
    pairs = rng.normal(0.0, 1.0, 20)
    pairs -= pairs.mean()
    error = pairs.std(ddof=1) / np.sqrt(20)
    values = {"a": dict.fromkeys(range(1, 21), 0.0), "b": {r: -float(d) for r, d in enumerate(pairs, 1)}}
    margin = error * (stats.t.ppf(0.95, 19) + stats.t.ppf(1 - 0.05 * 0.05, 19)) / 2

    def verdict(like: Plan) -> str:
        found = compare(values, Plan(**{**vars(like), "margin": float(margin)}))[1]
        return next(iter(found.values())).verdict

    assert verdict(Plan(direction="maximize", looks=(20,))) == "equivalent"
    assert verdict(RAISED) == "undecided"


def test_the_seeds_that_would_decide_allow_for_overlapping_splits_and_for_failures() -> None:
    rng = np.random.default_rng(5)
    noise = rng.standard_normal(29)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    values = {"a": dict.fromkeys(range(1, 30), 0.0), "b": {r: float(d) - 0.7 for r, d in enumerate(noise, 1)}}
    split = compare(values, Plan(direction="maximize", looks=(29,), overlap=0.2))[1]["b"]
    assert split.units_to_decide is None, "t tends to 0.7 / sqrt(0.2), whatever the seeds"

    weak = {"a": values["a"], "b": {r: float(d) - 0.3 for r, d in enumerate(noise, 1)}}
    failing = {"a": {**weak["a"], 30: 0.0, 31: 0.0}, "b": {**weak["b"], 30: None, 31: None}}
    extended = Plan(direction="maximize", looks=(10, 31), planned_end=10)
    found = compare(failing, extended)[1]["b"]
    assert found.n == 29
    assert found.units_to_decide is not None
    more = found.units_to_decide
    t = 0.3 * np.sqrt(more)
    level = 0.05 * 0.1 * 10 * (1 / 31 - 1 / (more + 2))
    assert 2 * stats.t.sf(t, more - 1) < level < 2 * stats.t.sf(0.3 * np.sqrt(more - 1), more - 2)


def test_an_extended_race_isnt_one_of_an_earlier_version() -> None:
    study, trials = small_study(replicates=8), search_trials()
    repeated = replicates_of(trials, BEST, 8, np.random.default_rng(0))
    store(study, trials, repeated, {**race(8, range(2), looks=(2, 3, 5, 8)), "undecided": [5, 8], "planned_end": 5})
    said = analyze(study, Stores(STORAGE).read(study)).method
    assert "after 2, 3 and 5 seeds, and after the extension to 8." in said
    assert "earlier version ran" in said, "of those that are made by hand nothing is known"
    assert "as in earlier versions" not in said
