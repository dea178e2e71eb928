"""What the stores say: cells, replicates, winner, edges, the answer; on stores made by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from support import STORAGE, small_study
from support.trials import BEST, ledger, race, replicates_of, search_trials, store, trial

from searchlib import Choice, IntUniform, LogUniform, Study, Uniform, idx_dataset
from searchlib.analysis import analyze, best_trial, champion, study_status
from searchlib.stores import StoredStudy, Stores

KNOWN = json.loads(Path(__file__).with_name("findings.json").read_text(encoding="utf-8"))


def checked(study: Study) -> dict:
    """The object, after what must hold of all of them."""
    report = analyze(study, Stores(STORAGE).read(study)).to_json()
    assert [key for key in report if key in KNOWN["report"]] == list(KNOWN["report"])
    text = json.dumps(report, allow_nan=False)
    assert json.loads(text) == report, "plain JSON types"
    assert json.dumps(analyze(study, Stores(STORAGE).read(study)).to_json(), allow_nan=False) == text, (
        "the same stores, the same object"
    )
    assert report["answer"].endswith(".")
    assert "nan" not in report["answer"]
    assert "None" not in report["answer"]
    return report


def raced(study: Study, trials: list, sources=BEST, seeds: int = 5, sd: float = 0.01, left=None) -> dict:
    """The object of a study whose race between *sources* ended at its only look."""
    repeated = replicates_of(trials, sources, seeds, np.random.default_rng(1), sd)
    store(study, trials, repeated, race(seeds, sources, left, looks=(seeds,)))
    return checked(study)


def test_a_study_that_has_not_begun() -> None:
    report = checked(small_study(replicates=10))
    assert report["answer"] == "The search has not begun."
    assert (report["cells"], report["winner"], report["resolved"], report["effects"]) == ([], None, None, [])
    assert report["trials"]["total"] == 0
    assert report["notes"] == ["no trial is finished: there is nothing to analyze yet"]
    assert study_status(small_study(), Stores(STORAGE).read(small_study())).replicates is None


def test_only_trials_under_way() -> None:
    study = small_study()
    store(study, [trial(search_trials()[0].params, None, "running")])
    assert checked(study)["answer"] == "No trial has finished yet; 1 started."


def test_without_replicates() -> None:
    study = small_study()
    store(study, search_trials())
    report = checked(study)
    assert [cell["label"] for cell in report["cells"]] == [
        "xavier_normal, tanh", "normal, tanh", "xavier_normal, relu", "normal, relu",
    ]  # fmt: skip
    assert report["winner"]["trial"] == 4
    assert report["winner"]["nuisance"] == {"learning_rate": 0.1, "batch_size": 16}
    assert (report["resolved"], report["comparisons"], report["replicates"]) == (None, [], None)
    assert report["optimism"] == {"search_best": 0.9, "fresh_mean": None, "fresh_low": None, "fresh_high": None}
    assert "There are no replicates, so the differences between cells can't be tested." in report["answer"]
    assert "As the best of 12 trials, this is optimistic." in report["answer"]
    assert report["cells"][0]["budget"]["unbiased"] == pytest.approx([0.9 - 0.07 / 3, 0.9 - 0.02 / 3, 0.9])
    assert report["cells"][0]["budget"]["gain"] == pytest.approx(0.07 / 3)
    assert report["cells"][0]["budget"]["enough"] is None
    assert set(report["importances"]) == {"initializer", "activation", "learning_rate", "batch_size"}
    assert sum(report["importances"].values()) == pytest.approx(1.0)


def test_a_finished_race() -> None:
    """All of its figures are in findings.json; each statistic has its test in test_comparison.py."""
    study = small_study(replicates=10)
    rng = np.random.default_rng(0)
    trials = search_trials(values=(0.90, 0.80, 0.898, 0.30))
    repeated = replicates_of(trials, BEST, 5, rng) + replicates_of(trials, [4, 6], 10, rng, first=6)
    store(study, trials, repeated, race(10, BEST, [4, 6]), test_ledger=ledger(4))
    report = checked(study)
    assert [cell["n"] for cell in report["cells"]] == [10, 10, 5, 5]
    for cell in report["cells"]:
        values = [t.values[0] for t in repeated if t.user_attrs["source"] == cell["trial"]]
        assert cell["values"] == {str(replicate): value for replicate, value in enumerate(values, start=1)}
        assert (cell["mean"], cell["sd"]) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    first, second = report["cells"][:2]
    assert report["winner"]["trial"] == first["trial"]
    assert first["mean"] > second["mean"]
    near = next(one for one in report["comparisons"] if one["n"] == 10)
    difference = first["mean"] - second["mean"]
    assert near["difference"] == pytest.approx(difference)
    error = (near["high"] - near["low"]) / 2 / stats.t.ppf(0.975, near["df"])
    assert near["p"] == pytest.approx(2 * stats.t.sf(difference / error, near["df"]))
    assert report["resolved"] is bool(near["p"] <= 0.04)
    assert report["optimism"]["fresh_mean"] == first["mean"]
    assert report["test_by_cell"] is None, "the ledger lists the champion alone"
    assert "is 0.8800 (95 % interval 0.8735 to 0.8862; n = 10,000; trial 4, replicate 3)." in report["answer"]
    assert "on average over 10 fresh seeds" in report["answer"]


def test_a_clear_winner_is_resolved() -> None:
    report = raced(small_study(replicates=5), search_trials(), sd=0.001, left=[4])
    assert report["resolved"] is True
    assert all(one["told_apart"] and one["adjusted_p"] <= 0.05 for one in report["comparisons"])
    assert "It is significantly better than every other replicated cell." in report["answer"]
    near = report["comparisons"][0]
    points = f"{100 * near['difference']:.2f} points (95 % interval {100 * near['low']:.2f} to {100 * near['high']:.2f}"
    assert points in report["answer"]
    assert "The worst is normal, relu, with 0.3" in report["answer"]


def test_replicates_under_way_count_look_by_look() -> None:
    study = small_study(replicates=10)
    trials = search_trials()
    rng = np.random.default_rng(2)
    repeated = replicates_of(trials, BEST, 5, rng) + replicates_of(trials, [6], 9, rng, first=6)
    running = trial({**trials[4].params, "replicate": 6}, None, "running", source=4)
    store(study, trials, [*repeated, running], race(5, BEST, [4, 6], finished=False))
    report = checked(study)
    assert [cell["n"] for cell in report["cells"]] == [5, 5, 5, 5]
    assert report["replicates"]["finished"] is False
    assert report["replicates"]["runs"] == 24
    assert "unfinished (5 of 10 seeds)" in report["answer"]
    status = study_status(study, Stores(STORAGE).read(study)).replicates
    assert (status.reached, status.running, status.finished) == (5, 1, False)


def test_before_the_first_look_nothing_is_compared() -> None:
    study = small_study(replicates=10)
    trials = search_trials()
    store(study, trials, replicates_of(trials, [4], 2, np.random.default_rng(3)))
    report = checked(study)
    assert report["winner"]["trial"] == 4
    assert (report["resolved"], report["comparisons"]) == (None, [])
    assert "no intervals or comparisons: no look of the replicates is complete" in report["notes"]
    assert all("not replicated" in cell["flags"] for cell in report["cells"])
    assert "No look of the replicates is complete, so the differences" in report["answer"]


def test_stale_replicates_are_ignored() -> None:
    """The search went on and found a better point in a cell: the old replicates are of another configuration."""
    study = small_study(replicates=5)
    trials = search_trials()
    repeated = replicates_of(trials, BEST, 5, np.random.default_rng(4))
    better = trial({**trials[0].params, "learning_rate": 0.07}, 0.95)
    store(study, [*trials, better], repeated, race(5, BEST, looks=(5,)))
    report = checked(study)
    flags = {cell["label"]: cell["flags"] for cell in report["cells"]}
    assert {"ignored: stale replicates", "not replicated"} <= set(flags["xavier_normal, tanh"])
    assert not any("stale" in flag for flag in flags["normal, tanh"])
    assert report["replicates"]["finished"] is False
    assert champion(study, Stores(STORAGE).read(study)).params["learning_rate"] == 0.07


def test_one_scientific_dimension() -> None:
    study = small_study(
        scientific={"activation": Choice("tanh", "relu")},
        nuisance={"learning_rate": LogUniform(0.01, 1.0)},
        replicates=5,
    )
    trials = [
        trial({"activation": activation, "learning_rate": rate}, 0.9 - 0.1 * (activation == "relu") - rate / 10)
        for rate in (0.1, 0.2)
        for activation in ("tanh", "relu")
    ]
    report = raced(study, trials, [0, 1])
    assert [cell["label"] for cell in report["cells"]] == ["tanh", "relu"]
    assert [effect["term"] for effect in report["effects"]] == ["activation"]
    assert "The effect of activation" in report["answer"]


def test_three_scientific_dimensions() -> None:
    scientific = {
        "initializer": Choice("xavier_normal", "normal"), "activation": Choice("tanh", "relu"),
        "batch_norm": Choice(False, True),
    }  # fmt: skip
    study = small_study(scientific=scientific, nuisance={}, replicates=3, trials=8)
    trials = [trial(dict(cell), 0.9 - 0.01 * position) for position, cell in enumerate(study.cells)]
    report = raced(study, trials, range(8), seeds=3)
    assert [cell["label"] for cell in report["cells"][:1]] == [report["winner"]["label"]]
    assert len(report["effects"]) == 6
    assert {len(effect["term"].split(":")) for effect in report["effects"]} == {1, 2}
    assert "The largest effect is that of " in report["answer"]


def test_no_scientific_dimension() -> None:
    study = small_study(scientific={}, replicates=5)
    trials = [trial({"learning_rate": rate, "batch_size": 16}, 0.9 - rate) for rate in (0.1, 0.2, 0.3)]
    report = raced(study, trials, [0])
    assert [cell["label"] for cell in report["cells"]] == ["all trials"]
    assert report["cells"][0]["n"] == 5
    assert (report["resolved"], report["comparisons"], report["effects"]) == (None, [], [])
    assert "no effects: the study has no scientific dimension" in report["notes"]
    assert report["answer"].startswith("The best configuration has validation accuracy 0.")


def test_conditional_dimensions() -> None:
    study = small_study(
        scientific={"optimizer": Choice("sgd", "adam"), "nesterov": Choice(False, True).when(optimizer="sgd")},
        nuisance={"learning_rate": LogUniform(0.01, 1.0), "momentum": Uniform(0.1, 0.9).when(optimizer="sgd")},
        fixed={"epochs": 2},
        replicates=3,
    )
    trials = [
        trial({"optimizer": "sgd", "nesterov": False, "learning_rate": 0.1, "momentum": 0.85}, 0.9),
        trial({"optimizer": "sgd", "nesterov": True, "learning_rate": 0.1, "momentum": 0.5}, 0.8),
        trial({"optimizer": "adam", "learning_rate": 0.012}, 0.7),
    ]
    report = raced(study, trials, range(3), seeds=3)
    assert [cell["label"] for cell in report["cells"]] == ["sgd, nesterov False", "sgd, nesterov True", "adam"]
    assert [[edge["name"] for edge in cell["edges"]] for cell in report["cells"]] == [
        ["momentum"], [], ["learning_rate"],
    ]  # fmt: skip
    assert report["effects"] == []
    assert any("conditional" in note for note in report["notes"])


def test_regression_is_minimized() -> None:
    data = idx_dataset(name="b", title="B", classes=("a", "b"), shape=(2, 2), train=10, test=10)
    study = small_study(dataset=data.__class__(**{**vars(data), "task": "regression"}), replicates=5)
    assert study.direction == "minimize"
    trials = [trial(t.params, 1.0 - t.values[0]) for t in search_trials()]
    report = raced(study, trials, sd=0.001)
    assert (report["metric"], report["direction"]) == ("val_loss", "minimize")
    means = [cell["mean"] for cell in report["cells"]]
    assert means == sorted(means)
    assert report["winner"]["trial"] == 4
    assert all(one["difference"] > 0 and one["probability"] > 0.5 for one in report["comparisons"])
    unbiased = report["cells"][0]["budget"]["unbiased"]
    assert unbiased == sorted(unbiased, reverse=True)
    assert "points" not in report["answer"]
    assert "validation loss" in report["answer"]


def test_cells_that_diverged() -> None:
    study = small_study()
    words = ["diverged at step 3: the loss became infinite or NaN"]
    trials = [
        trial(t.params, 0.33, "diverged", diagnosis=words) if t.params["initializer"] == "normal" else t
        for t in search_trials()
    ]
    trials.append(trial({**trials[0].params, "learning_rate": 0.5}, 0.1, "diverged"))
    trials.append(trial({**trials[0].params, "learning_rate": 0.4}, 0.5, "pruned"))
    trials.append(trial({**trials[0].params, "learning_rate": 0.3}, None, "failed"))
    store(study, trials)
    report = checked(study)
    first, *_, last = report["cells"]
    assert first["flags"] == ["1 of 6 diverged"]
    assert (first["points"], first["pruned"], first["diverged"], first["diverged_fraction"]) == (6, 1, 1, 1 / 6)
    assert len(first["budget"]["biased"]) == 5, "the failed one has no value"
    assert (last["search_best"], last["trial"], last["diverged"], last["diagnosis"]) == (None, None, 3, words)
    assert f"No trial completed in 2 cells: normal, relu; normal, tanh ({words[0]})." in report["answer"].replace(
        "normal, tanh; normal, relu", "normal, relu; normal, tanh"
    )


def test_importances_are_among_the_trials_that_were_trained_to_the_end() -> None:
    study, trials = small_study(), search_trials()
    trials[3].user_attrs["unlearnt"] = True
    trials.append(trial({**trials[0].params, "learning_rate": 0.5}, 0.1, "diverged"))
    trials.append(trial({**trials[0].params, "learning_rate": 0.4}, 0.5, "pruned"))
    trials.append(trial({**trials[0].params, "learning_rate": 0.3}, None, "failed"))
    store(study, trials)
    report = checked(study)
    assert report["importances_among"] == 12 - 1, "of twelve that completed one learnt nothing"


def test_no_trial_completed() -> None:
    study = small_study()
    store(study, [trial(t.params, 0.33, "diverged") for t in search_trials()])
    report = checked(study)
    assert report["winner"] is None
    assert report["answer"].startswith("No trial completed, so there is no answer.")
    assert (report["importances"], report["importances_among"]) == ({}, 0)
    assert any("importances" in note for note in report["notes"])


def test_values_that_json_does_not_have() -> None:
    study = small_study(dataset=small_study().dataset)
    store(study, [trial(search_trials()[0].params, math.inf), *search_trials()])
    checked(study)


def test_a_diverged_replicate_is_counted_apart_and_flagged() -> None:
    study = small_study(replicates=5)
    trials = search_trials()
    repeated = replicates_of(trials, BEST, 5, np.random.default_rng(10))
    broken = trial(repeated[0].params, 0.33, "diverged", source=4)
    failed = trial(repeated[1].params, None, "failed", source=5)
    store(study, trials, [broken, failed, *repeated[2:]], race(5, BEST, looks=(5,)))
    report = checked(study)
    by_trial = {cell["trial"]: cell for cell in report["cells"]}
    assert "1" not in by_trial[4]["values"]
    assert (by_trial[4]["n"], by_trial[4]["failed"]) == (4, 1)
    assert by_trial[4]["mean"] == pytest.approx(
        np.mean([one.values[0] for one in repeated if one.user_attrs["source"] == 4][1:])
    )
    assert (by_trial[4]["failed_low"], by_trial[4]["failed_high"]) == pytest.approx((0.0362, 0.6245), abs=1e-4)
    assert "1 of 5 replicates diverged" in by_trial[4]["flags"]
    assert (by_trial[5]["n"], by_trial[5]["failed"]) == (4, 0), "its training could not be run: that says nothing"


def test_the_share_of_failures_of_several_searches_has_the_interval_of_so_many_searches() -> None:
    study = small_study(searches=2, replicates=4, trials=16)
    trials = search_trials()[:8]
    for number, one in enumerate(trials):
        one.user_attrs["search"] = 1 + number // 4
    repeated = [
        trial(
            {**trials[source].params, "replicate": replicate},
            0.3,
            "diverged" if cell == 1 else "completed",
            source=source,
        )
        for cell in range(4)
        for replicate in range(1, 5)
        for source in [cell + 4 * ((replicate - 1) % 2)]
    ]
    store(study, trials, repeated, race(4, range(8), looks=(4,)))
    failing = [(cell["failed"], cell["failed_low"]) for cell in checked(study)["cells"]]
    assert sorted(failing) == [(0, 0.0)] * 3 + [(4, pytest.approx(0.342, abs=1e-3))], "of 2 of 2; of 4 of 4 it is 0.51"


def test_the_champion_is_the_best_replicate_of_the_winning_cell() -> None:
    study = small_study(replicates=5, replicate_cells=2)
    trials = search_trials()
    for number, one in enumerate(trials):
        one.number = number
    values = {4: (0.90, 0.70, 0.99, 0.80, 0.80), 6: (0.88, 0.95, 0.88, 0.95, 0.88)}
    repeated = [
        trial({**trials[source].params, "replicate": replicate}, value, source=source)
        for source in (4, 6)
        for replicate, value in enumerate(values[source], start=1)
    ]
    done = race(5, [4, 6], looks=(5,))

    def chosen(repeated=repeated, done=done, trials=trials):
        return champion(study, StoredStudy(trials=trials, replicates=repeated, race=done))

    found = chosen()
    assert (found.user_attrs["source"], found.params["replicate"]) == (6, 2), "better on average; first of equal ones"
    assert chosen(done={**done, "finished": False}) is trials[4]
    assert chosen([], {}) is best_trial(study, trials) is trials[4]
    diverged = [trial(t.params, t.values[0], "diverged", source=t.user_attrs["source"]) for t in repeated]
    assert chosen(diverged) is trials[4]
    assert chosen([], {}, []) is None
    later = [trial({**trials[4].params, "replicate": r}, 0.99, source=4) for r in (6, 7)]  # of a race before this one
    assert chosen([*repeated, *later]).params["replicate"] == 2
    stale = {**done, "candidates": [4, 5]}
    assert chosen(done=stale) is trials[4], "that race was about other cells"


def test_the_answer_names_a_few_and_counts_the_rest() -> None:
    study = small_study(
        scientific={"depth": IntUniform(1, 9)},
        nuisance={"learning_rate": LogUniform(0.003, 1.0)},
        replicates=5,
        trials=9,
    )
    trials = [trial({"depth": depth, "learning_rate": 0.9}, 0.9) for depth in range(1, 10)]
    report = raced(study, trials, range(9))
    assert report["resolved"] is False
    left = sum(not one["told_apart"] for one in report["comparisons"])
    assert f"It is not significantly different from {left} other cells: " in report["answer"]
    assert f"; and {left - 5} more." in report["answer"]
    assert "is at the upper end of its range, 0.003 to 1: try 0.055 to 18." in report["answer"]


@pytest.mark.parametrize(("undecided", "noted"), [([], False), ([10], False), ([5], True), ([5, 10], True)])
def test_alpha_that_was_spent_twice_is_said(undecided: list[int], noted: bool) -> None:
    """Of a race that an earlier version extended; above all where the second end claims something."""
    study = small_study(scientific={"activation": Choice("tanh", "relu")}, replicates=10, trials=2)
    trials = [trial({"activation": name}, 0.9) for name in ("tanh", "relu")]
    repeated = replicates_of(trials, range(2), 10, np.random.default_rng(1))
    store(study, trials, repeated, {**race(10, range(2)), "undecided": undecided})
    said = [note for note in checked(study)["notes"] if "spent alpha anew" in note]
    assert bool(said) == noted
    assert not noted or "(to 5, then 10 seeds)" in said[0]


def test_that_a_race_was_extended_is_said() -> None:
    study = small_study(scientific={"activation": Choice("tanh", "relu")}, replicates=10, trials=2)
    trials = [trial({"activation": name}, 0.9) for name in ("tanh", "relu")]
    repeated = replicates_of(trials, range(2), 10, np.random.default_rng(1))
    store(study, trials, repeated, {**race(10, range(2), looks=(2, 5, 7, 10)), "undecided": [5, 7], "planned_end": 5})
    found = checked(study)
    (said,) = [note for note in found["notes"] if "alpha" in note]
    assert "planned for 5 seeds and extended to 7, then 10" in said
    assert "at 0.005 for all extensions" in said
    one = found["comparisons"][0]
    assert one["adjusted_p"] == pytest.approx(min(1.0, one["p"] / (0.1 * 5 * (1 / 7 - 1 / 10))))
