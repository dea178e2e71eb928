"""Replicates: paired over seeds, raced, resumed, and the champion among them."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import torch
from support import mlflow_runs, prepare, replicates, run, search, small_study, stored

from searchlib import Choice, LogUniform, Study, StudyError
from searchlib.analysis import analyze, cells, champion, drawn_split, sources, study_status
from searchlib.analysis.comparison import paired_tests
from searchlib.analysis.spending import Plan
from searchlib.analysis.statistics import mean_interval
from searchlib.data.datasets import get_dataset, load_train
from searchlib.data.splits import split
from searchlib.results.holdout import evaluate
from searchlib.results.prediction import predict
from searchlib.search.race import Race
from searchlib.search.trainer import Trainer
from searchlib.seeds import derive_seed
from searchlib.stores import own_trials
from searchlib.stores.mlflow_store import connect
from searchlib.stores.stores import Stores
from searchlib.training.engine import Engine
from searchlib.training.loop import prepare as tensors
from searchlib.training.loop import train
from searchlib.training.stack import Member, Stack

FOUR = {"trials": 8, "replicates": 3}


THREE = {
    "scientific": {"initializer": Choice("zeros", "xavier_normal", "kaiming_normal"), "activation": Choice("tanh")},
    "nuisance": {"learning_rate": LogUniform(0.05, 0.2)},
    "trials": 6,
}


@pytest.fixture(scope="module")
def finished_four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("four")
    with contextlib.chdir(folder):
        run(small_study(**FOUR))
    return folder


@pytest.fixture
def four(finished_four: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A study whose race is over, to be read."""
    monkeypatch.chdir(finished_four)
    return small_study(**FOUR)


def seeds_by_initializer(study):
    return dict(Counter(trial.params["initializer"] for trial in replicates(study)))


def race(study):
    return Stores().optuna_study(f"{study.name}.replicates").user_attrs["race"]


def replicate_table(study):
    return [
        (t.number, t.state.name, t.params, t.values, t.intermediate_values, t.user_attrs["source"])
        for t in replicates(study)
    ]


def test_each_cell_repeats_its_best_configuration_on_the_same_seeds(four: Study) -> None:
    trials, again = stored(four).get_trials(deepcopy=False), replicates(four)
    assert len(again) == 4 * 3
    for trial in again:
        of_cell = [one for one in trials if four.cell_of(one.params) == four.cell_of(trial.params)]
        source = max(of_cell, key=lambda one: one.values[0])  # the first of equal ones
        assert trial.user_attrs["source"] == source.number
        assert trial.params == {**source.params, "replicate": trial.params["replicate"]}
        assert trial.user_attrs["signature"] == source.user_attrs["signature"]
        assert trial.user_attrs["seed"] == derive_seed(four.seed, "replicate", trial.params["replicate"])
    assert {trial.params["replicate"] for trial in again} == {1, 2, 3}
    assert len({trial.user_attrs["seed"] for trial in again}) == 3
    assert not {t.user_attrs["seed"] for t in again} & {t.user_attrs["seed"] for t in trials}, "fresh seeds"


def test_a_replicate_is_what_its_seed_gives_alone(four: Study) -> None:
    study = four
    examples = split(load_train(study.dataset, Path("data")), seed=study.split_seed)
    for trial in replicates(study)[:6]:
        config = study.config({name: value for name, value in trial.params.items() if name != "replicate"})
        data = tensors(examples, study.dataset, config.input_scaling)
        seed = derive_seed(study.seed, "replicate", trial.params["replicate"])
        alone = Stack([Member(0, config, seed, order_seed=seed)], outputs=3, probe=data.probe)
        epochs = list(train(alone, data))
        curve = [epoch.val_accuracy[0] for epoch in epochs]
        noted = connect(None).get_metric_history(trial.user_attrs["mlflow_run_id"], "val_loss")
        assert [point.value for point in noted] == pytest.approx([epoch.val_loss[0] for epoch in epochs], rel=1e-3)
        assert list(trial.intermediate_values.values()) == pytest.approx(curve, abs=1 / 40 + 1e-9)
        assert trial.values[0] == max(trial.intermediate_values.values())


def test_cells_told_apart_from_the_leader_leave_the_race() -> None:
    study = small_study(**THREE, replicates=8)
    run(study)
    seeds = seeds_by_initializer(study)
    noted = race(study)
    assert noted["looks"] == [2, 3, 5, 7, 8]
    assert noted["finished"]
    assert seeds["zeros"] == 7, "so many failures of one cell and none of the other aren't by chance"
    if noted["reached"] == 8:
        assert max(seeds.values()) == 8


def test_the_race_ends_when_the_winner_stands_alone() -> None:
    study = small_study(
        scientific={"initializer": Choice("zeros", "xavier_normal")},
        nuisance={"learning_rate": LogUniform(0.05, 0.2)},
        fixed={"epochs": 3, "momentum": 0.9, "activation": "tanh", "batch_size": 16},
        trials=4,
        replicates=40,
    )
    run(study)
    assert race(study)["reached"] == 7
    assert len(race(study)["contenders"]) == 1
    assert len(replicates(study)) == 14


def test_an_extended_search_repeats_the_new_best_configurations_and_its_champion_is_one_of_them() -> None:
    """The many seeds of an old race don't outweigh the few of the one that counts."""
    run(small_study(trials=4, replicates=6))
    study = small_study(trials=24, replicates=2)
    best = sources(cells(study, own_trials(run(study))))
    assert set(best) - {0, 1, 2, 3}, "some cell found a better point"
    for source in best:
        assert {1, 2} <= {t.params["replicate"] for t in replicates(study) if t.user_attrs["source"] == source}
    result = evaluate(study, Stores())
    assert result.trial in race(study)["candidates"]
    assert result.replicate in (1, 2)
    found = analyze(study, Stores().read(study))
    assert {cell.n for cell in found.cells} == {2}
    assert found.winner.trial == result.trial


def test_nothing_runs_when_the_race_is_over(four: Study) -> None:
    assert list(search(four)) == []
    noted = race(four)
    assert (noted["looks"], noted["reached"], noted["finished"]) == ([2, 3], 3, True)
    assert noted["undecided"] == ([3] if len(noted["contenders"]) > 1 else [])


def test_more_replicates_go_on_with_those_there() -> None:
    run(small_study(**FOUR))
    before = replicate_table(small_study(**FOUR))
    more = small_study(**{**FOUR, "replicates": 4})
    run(more)
    assert replicate_table(more)[: len(before)] == before
    assert len(replicates(more)) == 16
    noted = race(more)
    assert (noted["looks"], noted["planned_end"], noted["undecided"]) == ([2, 3, 4], 3, [3, 4])
    assert any("extended to 4:" in note for note in analyze(more, Stores().read(more)).notes)
    assert list(search(more)) == []


def test_only_the_leading_cells_if_asked() -> None:
    study = small_study(**FOUR, replicate_cells=2)
    searched = run(study)
    sources = {trial.user_attrs["source"] for trial in replicates(study)}
    assert len(sources) == 2
    assert searched.best_trial.number in sources


def test_without_a_race_all_cells_have_all_seeds() -> None:
    study = small_study(**THREE, replicates=6, replicate_race=False)
    prepare()
    steps = search(study)
    next(step for step in steps if step.phase == "replicates" and step.done > 9)
    steps.close()
    status = study_status(study, Stores().read(study)).replicates
    assert not status.finished
    assert status.race is False
    assert 3 <= status.reached < 6, "seeds that all cells have"
    found = analyze(study, Stores().read(study))
    assert [row.n for row in found.cells] == [0, 0, 0]
    assert any("compared once, when all of them have all 6 seeds" in note for note in found.notes)
    run(study)
    assert seeds_by_initializer(study) == {"zeros": 6, "xavier_normal": 6, "kaiming_normal": 6}
    noted = race(study)
    assert (noted["looks"], noted["reached"], noted["finished"]) == ([6], 6, True)
    assert study_status(study, Stores().read(study)).replicates.reached == 6
    found = analyze(study, Stores().read(study))
    assert [row.n + row.failed for row in found.cells] == [6, 6, 6]
    worst = next(one for one in found.comparisons if one.against["initializer"] == "zeros")
    assert worst.told_apart, "of the worst cell"

    raised = small_study(**THREE, replicates=8, replicate_race=False)
    run(raised)
    assert seeds_by_initializer(raised) == {"zeros": 8, "xavier_normal": 8, "kaiming_normal": 8}
    assert (race(raised)["looks"], race(raised)["reached"], race(raised)["planned_end"]) == ([6, 8], 8, 6)


def test_whether_replicates_race_is_part_of_the_identity(four: Study) -> None:
    """Else an ended race could be turned into one more look at the same seeds, with all of alpha again."""
    assert small_study().identity == small_study(replicate_race=True).identity
    with pytest.raises(StudyError, match="replicate_race: nothing became False"):
        next(search(small_study(**FOUR, replicate_race=False)))


def test_without_scientific_dimensions_the_best_configuration_is_repeated() -> None:
    study = small_study(scientific={}, trials=6, replicates=7, sampler="random")
    optuna_study = run(study)
    again = replicates(study)
    assert [trial.params["replicate"] for trial in again] == [1, 2, 3, 4, 5, 6, 7]
    assert {trial.user_attrs["source"] for trial in again} == {optuna_study.best_trial.number}
    assert race(study)["finished"]


def test_each_replicate_may_draw_its_own_split() -> None:
    """And the champion predicts what its replicate wasn't trained on."""
    study = small_study(**FOUR, replicate_split=True)
    optuna_study = run(study)
    examples = split(load_train(study.dataset, Path("data")), seed=study.split_seed)
    contest = Race(study, optuna_study)
    contest.trainer = Trainer(Engine(study, examples, "cpu"), None, None, None)  # type: ignore[arg-type]
    drawn = [contest.trainer.engine_of(replicate).examples for replicate in (1, 2, 1)]
    assert drawn[0].validation.digest == drawn[2].validation.digest != drawn[1].validation.digest
    assert {len(part.validation) for part in drawn} == {len(examples.validation)}
    both = torch.cat([drawn[0].train.inputs, drawn[0].validation.inputs]).flatten(1)
    whole = load_train(study.dataset, Path("data")).inputs.flatten(1)
    assert sorted(map(tuple, both.tolist())) == sorted(map(tuple, whole.tolist())), "nothing lost, nothing added"
    assert len(replicates(study)) == 12

    result = evaluate(study, Stores())
    assert result.replicate is not None
    validation = drawn_split(study, examples, result.replicate).validation
    names = get_dataset(study.dataset).classes
    truths = [predict(study, Stores(), index).truth for index in range(8)]
    assert truths == [names[target] for target in validation.targets[:8]]
    assert truths != [names[target] for target in examples.validation.targets[:8]]

    found = analyze(study, Stores().read(study))
    for cell in found.cells:
        mean, deviation, low, high = mean_interval(list(cell.values.values()), overlap=0.2)
        assert (cell.mean, cell.sd, cell.low, cell.high) == (mean, deviation, max(low, 0.0), min(high, 1.0))
    values = {cell.label: cell.values for cell in found.cells}
    plan = Plan(direction="maximize", overlap=0.2)
    tests = paired_tests(values, found.winner.label, plan)
    assert [one.p for one in found.comparisons] == pytest.approx([tests[c.against_label].p for c in found.comparisons])
    assert contest.plan.overlap == pytest.approx(0.2), "the race compares as the findings do"


def test_the_split_of_replicates_is_part_of_the_identity() -> None:
    assert small_study().identity != small_study(replicate_split=True).identity
    assert small_study().identity == small_study(replicates=5, replicate_cells=2).identity


def test_the_champion_among_the_replicates_is_evaluated() -> None:
    """Which one that is: tests/analysis/test_analysis.py."""
    study = small_study(trials=8, replicates=4, fixed={"momentum": 0.9, "epochs": 1})
    run(study)
    chosen = champion(study, Stores().read(study))
    result = evaluate(study, Stores())
    assert (result.trial, result.replicate) == (chosen.user_attrs["source"], chosen.params["replicate"])
    assert chosen.user_attrs["checkpoint_sha256"] == result.checkpoint_sha256
    assert sum(map(sum, result.confusion)) == result.n
    assert sum(row[index] for index, row in enumerate(result.confusion)) == result.correct
    (parent,) = mlflow_runs(study, "study")
    assert parent.data.tags["searchlib.test.replicate"] == str(result.replicate)
    assert list(search(small_study(**{**FOUR, "replicates": 9}, fixed=study.fixed))) == [], "they are over"


def test_replicates_are_nested_runs_of_their_own_kind(four: Study) -> None:
    runs = mlflow_runs(four, "replicate")
    assert {r.info.run_id for r in runs} == {t.user_attrs["mlflow_run_id"] for t in replicates(four)}
    for found in runs:
        assert found.data.tags["mlflow.parentRunId"] == stored(four).user_attrs["mlflow_run_id"]
        assert found.data.tags["optuna.study_name"] == "small.replicates"
        assert found.data.params["replicate"] in "123"


@pytest.mark.parametrize(
    ("field", "value"),
    [("replicate_cells", 0), ("replicate_cells", True), ("replicate_split", 1), ("replicate_race", 0)],
)
def test_wrong_settings_are_refused(field: str, value: object) -> None:
    with pytest.raises(StudyError, match=field):
        small_study(**{field: value})


def test_no_replicates_are_wanted_where_the_study_has_none_any_more() -> None:
    prepare()
    study = small_study(replicates=2, replicate_race=False)
    made = run(study)
    noted = {"looks": [2, 3], "planned_end": 2, "reached": 2, "candidates": [], "finished": False, "undecided": [2]}
    optuna.load_study(study_name="small.replicates", storage=made._storage).set_user_attr("race", noted)
    assert not Race(replace(study, replicates=3), made).finished
    assert Race(replace(study, replicates=0), made).finished
