"""Points of a cell by a model of its own results: near the best, the same rule for all cells, resumable."""

from __future__ import annotations

import math

import optuna
import pytest
from optuna.trial import TrialState
from support import prepare, run, small_study

from searchlib import Choice, IntUniform, LogUniform, Study, Uniform
from searchlib.search.design import Design
from searchlib.search.refine import CANDIDATES, Refinement, first_points, refined
from searchlib.search.samplers import ask_round

SETTINGS = {"sampler": "refined", "scientific": {"activation": Choice("tanh", "relu")}, "round_size": 1}


def quality(params: dict, best: float) -> float:
    """A smooth result with its best learning rate at *best*."""
    return 0.9 - 0.05 * math.log10(params["learning_rate"] / best) ** 2 - (0.01 if params["batch_size"] == 32 else 0.0)


def searched(study: Study, best: dict[str, float]) -> list[optuna.trial.FrozenTrial]:
    """All trials of a study whose results are those of ``quality``, asked round by round."""
    made = optuna.create_study(direction=study.direction)
    length = 2 * study.searches
    for start in range(0, study.trials, length):
        for trial in ask_round(study, made, range(start, start + length)):
            value = quality(trial.params, best[trial.params["activation"]])
            made._storage.set_trial_user_attr(trial._trial_id, "outcome", "completed")
            made.tell(trial.number, value if study.direction == "maximize" else 1.0 - value)
    return made.get_trials(deepcopy=False)


@pytest.mark.parametrize("dimension", [
    Uniform(-2.0, 3.0), LogUniform(1e-3, 10.0), IntUniform(3, 33, step=3), IntUniform(1, 100, log=True),
    Choice(32, 64, 128), Choice("a", "b"),
])  # fmt: skip
def test_the_place_of_a_value_gives_it_back(dimension) -> None:
    for unit in (0.0, 0.123, 0.5, 0.77, 0.999):
        value = dimension.at(unit)
        place = dimension.place(value)
        assert 0.0 <= place <= 1.0
        assert dimension.at(place) == (pytest.approx(value) if isinstance(value, float) else value)


def test_further_points_come_close_to_the_best_of_each_cell() -> None:
    best = {"tanh": 0.02, "relu": 0.5}
    study = small_study(**SETTINGS, trials=20)
    trials = searched(study, best)
    for cell, rate in best.items():
        rates = [trial.params["learning_rate"] for trial in trials if trial.params["activation"] == cell]
        away = [abs(math.log10(each / rate)) for each in rates]
        assert len(rates) == 10
        assert min(away[4:]) < 0.12 < sorted(away[:4])[0] or min(away) < 0.12
        assert sum(each < 0.35 for each in away[4:]) >= 4, "most further points are near the best"


def test_the_first_points_are_the_balanced_ones_of_all_cells() -> None:
    refining, balanced = small_study(**SETTINGS, trials=12), small_study(**{**SETTINGS, "sampler": "balanced"})
    trials = searched(refining, {"tanh": 0.02, "relu": 0.5})
    assert first_points(Design(refining).sampled) == 4
    assert [trial.params for trial in trials[:8]] == [Design(balanced)[number] for number in range(8)]
    assert trials[8].params["learning_rate"] != Design(balanced)[8]["learning_rate"]


def test_after_a_halved_bracket_the_model_knows_its_pruned_points_too() -> None:
    prepare()
    study = small_study(**{**SETTINGS, "pruner": "within_cell", "fixed": {"epochs": 4}}, trials=24)
    trials = run(study).get_trials(deepcopy=False)
    first, further = trials[:16], trials[16:]
    assert sum(trial.state == TrialState.PRUNED for trial in first) == 12
    model = Refinement(study, {1: Design(study)}, first, begun=16)
    assert all(len(known) == 8 for known in model.known.values()), "of a cell, those that were pruned included"
    assert [trial.params for trial in further] == [model(1, place) for place in range(16, 24)]


def test_a_cell_learns_from_its_own_search_alone() -> None:
    """Whatever the other cell and the other search gave, the points are the same."""
    study = small_study(**SETTINGS, trials=48, searches=2)

    def points(best: dict[str, float], cell: str, search: int) -> list[float]:
        trials = searched(study, best)
        return [t.params["learning_rate"] for t in trials
                if t.params["activation"] == cell and t.user_attrs["search"] == search]  # fmt: skip

    assert points({"tanh": 0.02, "relu": 0.5}, "tanh", 1) == points({"tanh": 0.02, "relu": 0.01}, "tanh", 1)
    assert points({"tanh": 0.02, "relu": 0.5}, "tanh", 1) != points({"tanh": 0.02, "relu": 0.5}, "tanh", 2)


def test_points_of_one_round_differ_and_an_interrupted_round_is_completed_alike() -> None:
    study = small_study(**{**SETTINGS, "round_size": 8}, trials=16)
    whole, cut = (optuna.create_study(direction="maximize") for _ in range(2))
    for made in (whole, cut):
        for trial in ask_round(study, made, range(8)):
            made._storage.set_trial_user_attr(trial._trial_id, "outcome", "completed")
            made.tell(trial.number, quality(trial.params, 0.1))
    expected = [trial.params for trial in ask_round(study, whole, range(8, 16))]
    ask_round(study, cut, range(8, 11))  # killed here
    assert [trial.params for trial in ask_round(study, cut, range(8, 16))] == expected
    rates = [params["learning_rate"] for params in expected if params["activation"] == "tanh"]
    assert len(set(rates)) == 4


def test_it_minimizes_a_loss_and_a_diverged_trial_hides_nothing() -> None:
    dimensions = {"learning_rate": LogUniform(0.001, 1.0)}
    known = [({"learning_rate": 10.0**e}, -((e + 1.5) ** 2)) for e in (-3, -2, -1)] + [({"learning_rate": 1.0}, -1e9)]
    candidates = [{"learning_rate": place / 100} for place in range(100)]
    point = refined(dimensions, known, [], candidates)
    assert 10 ** (3 * point["learning_rate"] - 3) == pytest.approx(10**-1.5, rel=0.5)


def test_values_without_an_order_and_absent_ones_have_coordinates() -> None:
    study = small_study(
        sampler="refined",
        scientific={"activation": Choice("tanh", "relu")},
        nuisance={
            "optimizer": Choice("sgd", "adam"),
            "momentum": Uniform(0.0, 0.99).when(optimizer="sgd"),
            "learning_rate": LogUniform(0.001, 1.0),
        },
        fixed={"epochs": 2},
        trials=28,
    )
    made = optuna.create_study(direction="maximize")
    for start in range(0, 28, 4):
        for trial in ask_round(study, made, range(start, start + 4)):
            made._storage.set_trial_user_attr(trial._trial_id, "outcome", "completed")
            made.tell(trial.number, 0.9 if trial.params["optimizer"] == "adam" else 0.5)
    late = made.get_trials(deepcopy=False)[16:]
    assert all(trial.state == TrialState.COMPLETE for trial in late)
    assert sum(trial.params["optimizer"] == "adam" for trial in late) > len(late) / 2
    assert all(("momentum" in trial.params) == (trial.params["optimizer"] == "sgd") for trial in late)
    assert len(Design(study).candidates(7, CANDIDATES)) == CANDIDATES
    assert Refinement(study, {1: Design(study)}, made.get_trials(), 28).pending == {}
