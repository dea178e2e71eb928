"""Searches that draw a split each: every trial and replicate on its search's split, in training and ever after."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from support import curve, prepare, replicates, run, search, small_study, stored
from support.damage import look
from support.page import gathered, page_of

from searchlib import Choice, LogUniform, Study, StudyError, function_dataset
from searchlib.analysis import analyze, champion, correct_examples, drawn_split
from searchlib.analysis.statistics import mean_interval
from searchlib.data import Split, get_dataset, load_train, split
from searchlib.report.networks import Networks
from searchlib.results import holdout, measuring, tested_replicates
from searchlib.results.prediction import predict
from searchlib.search.trainer import MOST_ENGINES, Trainer, task_of
from searchlib.stores import Stores, Tracker
from searchlib.training import restore
from searchlib.training.engine import Engine
from searchlib.training.loop import prepare as tensors
from searchlib.training.loop import train
from searchlib.training.stack import Member, Stack

OWN = {
    "scientific": {"activation": Choice("tanh", "relu")},
    "nuisance": {"learning_rate": LogUniform(0.004, 0.02), "batch_size": Choice(8, 16)},
    "validation_fraction": 0.5,
    "trials": 8,
    "searches": 2,
    "replicates": 4,
    "search_split": True,
    "replicate_race": False,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("splits")
    with contextlib.chdir(folder):
        run(small_study(**OWN))
    return folder


@pytest.fixture
def own(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A finished study of two cells and two searches, to be read."""
    monkeypatch.chdir(finished)
    return small_study(**OWN)


def of_study(study: Study) -> Split:
    examples = load_train(study.dataset, Path("data"))
    return split(examples, seed=study.split_seed, fraction=study.validation_fraction)


def searched(trial) -> int:
    """The search that a trial, or a replicate, belongs to."""
    replicate = trial.params.get("replicate")
    return trial.user_attrs["search"] if replicate is None else (replicate - 1) % 2 + 1


def test_each_search_draws_its_own_split_of_the_same_examples() -> None:
    prepare()
    study = small_study(**OWN)
    examples = of_study(study)
    drawn = [drawn_split(study, examples, number) for number in (0, 1, 2)]
    assert drawn[0] is examples
    assert len({one.digest for one in drawn}) == 3, "the first search has its own draw, too"
    assert drawn_split(study, examples, 2).digest == drawn[2].digest
    whole = sorted(map(tuple, load_train(study.dataset, Path("data")).inputs.flatten(1).tolist()))
    for one in drawn:
        assert len(one.validation) == len(examples.validation)
        both = torch.cat([one.train.inputs, one.validation.inputs]).flatten(1)
        assert sorted(map(tuple, both.tolist())) == whole, "nothing lost, nothing added"
    other = small_study(**{**OWN, "split_seed": 1})
    assert drawn_split(other, examples, 1).digest != drawn[1].digest
    seeds = small_study(**{**OWN, "search_split": False, "replicate_split": True})
    assert drawn_split(seeds, examples, 1).digest != drawn[1].digest


def test_trials_and_replicates_are_what_their_search_s_split_gives_alone(own: Study) -> None:
    examples = of_study(own)
    for trial in (*stored(own).get_trials(deepcopy=False), *replicates(own)):
        config = own.config({name: value for name, value in trial.params.items() if name != "replicate"})
        seeds = task_of(own, trial)
        losses = []
        for number in (searched(trial), 3 - searched(trial), 0):
            data = tensors(drawn_split(own, examples, number), own.dataset, config.input_scaling)
            alone = Stack([Member(0, config, seeds.seed, order_seed=seeds.order_seed)], outputs=3, probe=data.probe)
            losses.append([epoch.val_loss[0] for epoch in train(alone, data)])
        noted = list(curve(trial.user_attrs["mlflow_run_id"], "val_loss").values())
        assert noted == pytest.approx(losses[0], rel=1e-4)
        assert noted != pytest.approx(losses[1], rel=1e-4), "the other search's split gives other values"
        assert noted != pytest.approx(losses[2], rel=1e-4), "and so does the study's own"


def test_networks_are_restored_and_measured_on_their_search_s_split(own: Study) -> None:
    """Of each replicate and of the leading trials: its value, and which examples it classifies correctly."""
    examples = of_study(own)
    kept = [
        trial
        for trial in (*stored(own).get_trials(deepcopy=False), *replicates(own))
        if trial.user_attrs.get("checkpoint_sha256")
    ]
    assert {searched(trial) for trial in kept if "replicate" in trial.params} == {1, 2}
    with Tracker(own, Stores()) as tracker:
        networks = Networks(own, tracker)
        for trial in kept:
            validation = drawn_split(own, examples, searched(trial)).validation
            assert networks.examples(trial).validation.digest == validation.digest
            config = own.config({name: value for name, value in trial.params.items() if name != "replicate"})
            content = tracker.checkpoint(trial.user_attrs["mlflow_run_id"])
            network = restore(content, own.model, config, get_dataset(own.dataset), classify=False)
            with torch.no_grad():
                right = (network(validation.inputs).argmax(dim=1) == validation.targets).numpy()
            assert right.mean() == pytest.approx(trial.values[0], abs=1 / 120 + 1e-9)
            if "replicate" in trial.params:
                assert (right != correct_examples(trial)).sum() <= 1


def test_units_have_splits_of_their_own_and_are_compared_so(own: Study) -> None:
    findings = analyze(own, Stores().read(own))
    for cell in findings.cells:
        units = [np.mean([value for seed, value in cell.values.items() if (seed - 1) % 2 == unit]) for unit in (0, 1)]
        _, _, low, high = mean_interval(units, overlap=1.0)
        assert (cell.low, cell.high) == pytest.approx((max(low, 0.0), min(high, 1.0)))
        assert cell.population_low is None, "examples of different splits aren't crossed"
    assert all(one.population_p is None for one in findings.comparisons)
    assert findings.method.startswith("2 searches, each on a split of its own: the cells are compared over these")
    page = page_of(own)
    assert "Each search draws its own split into training and validation data" in page.text
    assert "Nadeau" in page.text
    assert "another draw of these" not in page.text


def test_the_champion_and_the_replicates_are_tried_on_their_own_splits(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have to give the value that the search noted, before the test set is opened."""
    shutil.copytree(finished, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    own = small_study(**OWN)
    best = champion(own, Stores().read(own))
    alone, together = [], []

    def measure(network, examples):
        alone.append(examples.digest)
        return measuring.measure(network, examples)

    def measure_many(networks, examples, **options):
        together.append((examples.digest, len(networks)))
        return measuring.measure_many(networks, examples, **options)

    monkeypatch.setattr(holdout, "measure", measure)
    monkeypatch.setattr(tested_replicates, "measure_many", measure_many)
    result = holdout.evaluate(own, Stores())
    examples = of_study(own)
    validations = [drawn_split(own, examples, number).validation for number in (1, 2)]
    assert result.checkpoint_sha256 == best.user_attrs["checkpoint_sha256"]
    assert alone[0] == validations[searched(best) - 1].digest
    completed = [trial for trial in replicates(own) if trial.user_attrs["outcome"] == "completed"]
    counts = [sum(searched(trial) == number for trial in completed) for number in (1, 2)]
    assert together[:2] == [(one.digest, count) for one, count in zip(validations, counts, strict=True)]
    ledger = stored(own).user_attrs["test_ledger"]
    assert len(ledger["replicates"]) == len(completed)
    assert not ledger.get("left_out")
    names, targets = get_dataset(own.dataset).classes, validations[searched(best) - 1].targets
    assert [predict(own, Stores(), index).truth for index in range(12)] == [names[target] for target in targets[:12]]
    assert look(own).differences == []
    assert gathered(own).decisions is not None


def test_a_champion_of_the_second_search_without_replicates_predicts_on_its_split() -> None:
    """The seed is chosen so that the second search leads."""
    settings = {**OWN, "replicates": 0, "trials": 4}
    for seed in range(8):
        study = small_study(**settings, seed=seed, name=f"small{seed}")
        made = run(study)
        if searched(made.best_trial) == 2:
            break
    else:
        raise AssertionError("the second search never leads")
    holdout.evaluate(study, Stores())
    names = get_dataset(study.dataset).classes
    validation = drawn_split(study, of_study(study), 2).validation
    found = [predict(study, Stores(), index).truth for index in range(12)]
    assert found == [names[target] for target in validation.targets[:12]]


def test_a_diverged_trial_of_a_regression_scores_as_the_mean_of_its_own_split() -> None:
    study = small_study(
        dataset=function_dataset("sum", lambda x: x.sum(dim=1, keepdim=True), inputs=2, train=60, test=20),
        scientific={"activation": Choice("relu", "tanh")},
        nuisance={"learning_rate": LogUniform(1e6, 1e8)},
        fixed={"epochs": 2, "batch_size": 20},
        trials=4,
        searches=2,
        search_split=True,
    )
    made = run(study)
    examples = of_study(study)
    diverged = [t for t in made.get_trials(deepcopy=False) if t.user_attrs["outcome"] == "diverged"]
    assert {searched(trial) for trial in diverged} == {1, 2}
    for trial in diverged:
        part = drawn_split(study, examples, searched(trial))
        error = (part.validation.targets - part.train.targets.mean(dim=0)).square().mean()
        assert trial.values[0] == pytest.approx(float(error), rel=1e-5)


@pytest.mark.parametrize("pruner", ["none", "within_cell"])
def test_an_interrupted_study_ends_like_an_uninterrupted_one(pruner: str, tmp_path: Path) -> None:
    study = small_study(**{**OWN, "pruner": pruner, "round_size": 4})

    def table() -> list:
        trials = [*stored(study).get_trials(deepcopy=False), *replicates(study)]
        return [(t.number, t.params, t.values, t.intermediate_values, t.system_attrs.keys()) for t in trials]

    tables = []
    for folder, interruptions in (("whole", ()), ("parts", (2, 3, 5, 4))):
        (tmp_path / folder).mkdir()
        with contextlib.chdir(tmp_path / folder):
            prepare()
            for most in (*interruptions, 1_000):
                with contextlib.closing(search(study)) as steps:
                    for _ in itertools.islice(steps, most):
                        pass
            tables.append(table())
    assert tables[0] == tables[1]


def test_few_splits_are_held_in_memory(own: Study) -> None:
    examples = of_study(own)
    many = small_study(**{**OWN, "searches": 20, "trials": 40, "replicates": 20})
    trainer = Trainer(Engine(many, examples, "cpu"), None, None, None)  # type: ignore[arg-type]
    digests = [trainer.engine_of(number).examples.digest for number in range(1, 21)]
    assert len(set(digests)) == 20
    assert len(trainer._engines) == MOST_ENGINES
    assert trainer.engine_of(1).examples.digest == digests[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"searches": 1}, "search_split=True: a single search has nothing .*; set searches=4"),
        ({"replicate_split": True}, "search_split=True and replicate_split=True: .*leave one of the two out"),
        ({"search_split": 1}, "search_split=1: expected True or False"),
    ],
)
def test_wrong_settings_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        small_study(**{**OWN, **changes})


def test_the_setting_is_part_of_the_identity_only_where_it_is_on() -> None:
    off, on = (small_study(**{**OWN, "search_split": value}) for value in (False, True))
    assert off.identity != on.identity
    assert "search_split" not in off.definition()
    assert "search_split" not in small_study().definition()
