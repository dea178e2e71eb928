"""Studies: what a field may hold, which combinations are refused, and what belongs to the identity."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import search
from support.functions import wave
from support.studies import study

from searchlib import MLP, Choice, IntUniform, LogUniform, Published, Study, StudyError, Uniform, function_dataset
from searchlib.data.dataset import Dataset, Examples
from searchlib.stores import Stores
from searchlib.study.changes import refuse_if_changed
from searchlib.study.config import FIELDS


def test_it_is_frozen_and_takes_keywords_only() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        study().trials = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        Study("Which one?")  # type: ignore[misc]


def test_the_models_widths_give_way_to_the_studys() -> None:
    assert study(model=MLP(hidden=(7, 7))).config({"activation": "tanh"}).hidden == (7, 7)
    assert study(model=MLP(hidden=(7,)), fixed={"hidden": (5,)}).config({}).hidden == (5,)
    searched = study(model=MLP(hidden=(7,)), scientific={"hidden": Choice((5, 4), (3,))})
    assert searched.cells == [{"hidden": "5-4"}, {"hidden": "3"}]
    assert searched.config({"hidden": "5-4"}).hidden == (5, 4)


def test_any_field_can_take_any_role() -> None:
    for name, spec in FIELDS.items():
        if name == "nesterov":
            continue  # needs a momentum
        assert study(scientific={}, nuisance={}, fixed={name: spec.default}).config({})
        if spec.default is not None:
            assert study(scientific={name: Choice(spec.default)}, nuisance={}, fixed={}).cells
            assert study(scientific={}, nuisance={name: Choice(spec.default)}, fixed={}).nuisance


def test_conditional_dimensions() -> None:
    conditional = study(
        scientific={
            "optimizer": Choice("sgd", "adam"),
            "momentum": Choice(0.5, 0.9).when(optimizer="sgd"),
            "nesterov": Choice(False, True).when(momentum=0.9),
        },
        nuisance={"learning_rate": LogUniform(1e-3, 1.0), "beta1": Uniform(0.8, 0.99).when(optimizer="adam")},
    )
    assert conditional.cells == [
        {"optimizer": "sgd", "momentum": 0.5},
        {"optimizer": "sgd", "momentum": 0.9, "nesterov": False},
        {"optimizer": "sgd", "momentum": 0.9, "nesterov": True},
        {"optimizer": "adam"},
    ]
    assert conditional.cell_of({"optimizer": "adam", "learning_rate": 0.1}) == (("optimizer", "adam"),)


@pytest.mark.parametrize(("optimizer", "cell"), [("sgd", {"momentum": 0.5}), ("adam", {})])
def test_a_condition_on_a_fixed_value(optimizer: str, cell: dict) -> None:
    scientific = {"momentum": Choice(0.5).when(optimizer="sgd")}
    assert study(fixed={"optimizer": optimizer}, scientific=scientific).cells == [cell]


FIGURE = Published(source="A book", value=0.5, metric="train_loss")
RANGED = dataclasses.replace(FIGURE, cell={"dropout": 0.1})
EITHER = Choice("sgd", "adam")
GRID = {"sampler": "grid", "nuisance": {"batch_size": Choice(16, 32, 64)}}
REFUSED = [
    ({"scientific": {"momentum": Choice(0.5).when(optimizer="sgd"), "optimizer": EITHER}}, "a dimension listed before"),
    ({"scientific": {"optimizer": EITHER, "momentum": Choice(0.5).when(optimizer="sdg")}}, "optimizer='sdg'"),
    ({"scientific": {"optimizer": EITHER, "momentum": Choice(0.5).when(optimizer="adagrad")}}, "optimizer='adagrad'"),
    *(({role: None}, f"{role}=None: expected a dict") for role in ("scientific", "nuisance", "fixed")),
    ({"nuisance": {"learning_rate": Uniform(0.0, 1.0)}}, "learning_rate=0.0: expected a number above 0"),
    ({"dataset": "digit"}, "unknown data set 'digit'; did you mean digits"),
    *(({"question": words}, "in words") for words in ("a\x1b[2Jb", "nul\0", "half \ud800", "bell\a")),
    *(({"name": name}, "expected a name of at most 100 letters") for name in ("../x", "")),
    ({**GRID, "trials": 7}, "trials=7: the grid has only 6 points; write trials=6"),
    # combinations that no trial can have: not hours later, by the trial that draws one
    ({"fixed": {"momentum": 0.0, "nesterov": True}}, "momentum"),
    ({"nuisance": {"nesterov": Choice(True, False), "momentum": Choice(0.9, 0.0)}}, "momentum"),
    ({"nuisance": {"init_low": Uniform(0.0, 1.0), "init_high": Uniform(0.5, 2.0)}}, "init_low"),
    ({"model": MLP(hidden=()), "nuisance": {"depth": IntUniform(0, 3)}}, "depth"),
    ({"nuisance": {"optimizer": EITHER, "epochs": Uniform(1, 5).when(optimizer="adam")}}, "epochs"),
    ({"published": FIGURE}, "expected a tuple of Published"),
    ({"scientific": {"dropout": Uniform(0.0, 0.5)}, "sampler": "tpe", "published": (RANGED,)}, "is a range"),
]


@pytest.mark.parametrize(("changes", "expected"), REFUSED)
def test_what_makes_no_study_is_refused(changes: dict, expected: str) -> None:
    with pytest.raises(StudyError, match=expected) as caught:
        study(**changes)
    assert str(caught.value).isprintable()


def test_a_grid_may_have_all_of_its_points() -> None:
    assert study(**GRID, trials=6).trials == 6


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"source": " "}, "where the figure was published"),
        ({"value": "0.9"}, "expected a finite number"),
        ({"value": float("nan")}, "expected a finite number"),
        ({"value": 87.9}, "accuracies run from 0 to 1"),
        ({"metric": "val_acuracy"}, "did you mean val_accuracy"),
        ({"step": -1}, "expected an epoch"),
        ({"step": 1.0}, "expected an epoch"),
        ({"metric": "best_val_accuracy", "step": 3}, "one figure a run"),
        ({"metric": "step_val_accuracy", "step": 500}, "measured with eval_every only"),
        ({"cell": None}, "expected a dict"),
        ({"cell": {}}, "expected one value for each of activation"),
        ({"cell": {"activations": "relu"}}, "did you mean activation"),
        ({"cell": {"activation": "rellu"}}, "unknown value of activation 'rellu'; did you mean relu"),
        ({"note": None}, "expected words"),
    ],
    ids=str,
)
def test_a_published_figure_is_checked(change: dict, expected: str) -> None:
    settings = {"source": "A book", "value": 0.9, "metric": "val_accuracy", "cell": {"activation": "relu"}}
    study(published=(Published(**settings),))
    with pytest.raises(StudyError, match=expected):
        study(published=(Published(**{**settings, **change}),))


def test_published_figures_name_cells_that_a_study_has() -> None:
    one = FIGURE
    assert study(scientific={}, published=(one,)).published_cell(one) == {}
    two = dataclasses.replace(one, cell={"hidden": (5, 4)}, metric="gradient_norm/layer1")
    assert study(scientific={"hidden": Choice((5, 4), (3,))}, published=(two,)).published_cell(two) == {"hidden": "5-4"}
    by_step = dataclasses.replace(one, metric="step_val_accuracy", step=500)
    assert study(scientific={}, published=(by_step,), eval_every=500).published_cell(by_step) == {}


# ------------------------------------------------------------------------------------------------------ identity


@pytest.mark.parametrize(
    "change",
    [
        {"question": "Which one is it?"},
        {"trials": 7},
        {"replicates": 5},
        {"published": (Published(source="A book", value=0.9, metric="val_accuracy", cell={"activation": "relu"}),)},
    ],
    ids=str,
)
def test_the_budget_and_the_wording_do_not_change_the_identity(change: dict) -> None:
    assert study(**change).identity == study().identity


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "mnist"},
        {"model": MLP(hidden=(9,))},
        {"scientific": {"activation": Choice("tanh", "gelu")}},
        {"scientific": {"activation": Choice("relu", "tanh")}},
        {"nuisance": {"learning_rate": LogUniform(1e-3, 2.0)}},
        {"nuisance": {"learning_rate": Uniform(1e-3, 1.0)}},
        {"nuisance": {"learning_rate": LogUniform(1e-3, 1.0).when(activation="tanh")}},
        {"fixed": {"epochs": 4}},
        {"fixed": {}},
        {"sampler": "tpe"},
        {"pruner": "median"},
        {"round_size": 16},
        {"seed": 1},
        {"split_seed": 1},
        {"validation_fraction": 0.2},
        {"eval_every": 100},
        {"replicate_race": False},
        {"replicate_split": True},
    ],
    ids=str,
)
def test_what_defines_the_study_changes_the_identity(change: dict) -> None:
    assert study(**change).identity != study().identity


def test_the_order_of_dimensions_is_part_of_the_identity_as_it_is_of_the_design() -> None:
    """The first dimension varies slowest: with another order trial 1 is another configuration."""
    dimensions = {"activation": Choice("tanh", "relu"), "initializer": Choice("zeros", "ones")}
    forward, backward = study(scientific=dimensions), study(scientific=dict(reversed(dimensions.items())))
    assert forward.cells[1] != backward.cells[1]
    assert forward.identity != backward.identity
    fixed = {"epochs": 3, "momentum": 0.9}
    assert study(fixed=fixed).identity == study(fixed=dict(reversed(fixed.items()))).identity, "theirs says nothing"


@pytest.mark.slow
def test_a_condition_written_as_a_set_keeps_its_identity_in_another_process() -> None:
    code = (
        "from support.studies import study; from searchlib import Uniform; names = {'tanh', 'relu', 'gelu', 'selu'}; "
        "print(study(nuisance={'beta1': Uniform(0.5, 0.9).when(activation=names)}).identity)"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in (1, 2, 3)
    }
    assert len(found) == 1


def test_the_range_of_a_study_s_own_data_is_part_of_its_identity() -> None:
    """By it inputs are scaled. Studies begun before it was noted go on."""

    def own(low: float) -> Study:
        made = Dataset(name="own", classes=("a", "b"), shape=(2,), low=low, scale=5.0, train=nothing, test=nothing)
        return study(dataset=made)

    def nothing(root: Path) -> Examples:
        raise AssertionError

    assert own(0.0).identity != own(-5.0).identity
    begun = own(0.0).definition()
    with pytest.raises(StudyError, match="range"):
        refuse_if_changed(own(-5.0), begun)
    del begun["range"]
    refuse_if_changed(own(0.0), begun)
    assert "range" not in study(dataset="mnist").definition()


# ---------------------------------------------------------------------------------------------- several data sets


def several(**changes) -> Study:
    settings = {"question": "Which one?", "datasets": ("digits", "mnist"), "name": "both"}
    return Study(**{**settings, "scientific": {"activation": Choice("tanh", "relu")}, **changes})


def test_each_data_set_has_a_study_of_its_own() -> None:
    asked = several(trials=2, replicates=4)
    assert [part.name for part in asked.parts] == ["both.digits", "both.mnist"]
    assert [part.dataset for part in asked.parts] == ["digits", "mnist"]
    assert len({asked.seed, *(part.seed for part in asked.parts)}) == 3, "data sets are independent of each other"
    for part in asked.parts:
        assert part.parts == (part,)
        alone = dataclasses.replace(asked, datasets=(), dataset=part.dataset, seed=part.seed, name=part.name)
        assert part == alone
        assert part.identity == alone.identity
        assert "datasets" not in part.definition()
    assert several(datasets=("mnist", "digits")).parts[1].identity == asked.parts[0].identity
    assert several(seed=1).parts[0].seed != asked.parts[0].seed


def test_several_data_sets_are_no_part_of_other_studies() -> None:
    assert study().parts == (study(),)
    assert "datasets" not in study().definition()


def test_a_study_of_several_data_sets_isnt_taken_for_one() -> None:
    told = "study 'both' has several data sets and this is for one; give one of both.digits, both.mnist"
    for use in (Study.check_single, Study.definition):
        with pytest.raises(StudyError, match=told):
            use(several())
    with pytest.raises(StudyError, match=told):
        Stores().read(several())
    with pytest.raises(StudyError, match=told):
        Stores().examples(several())
    with pytest.raises(StudyError, match=told):
        next(search(several()))


WAVE = function_dataset("wave", wave, low=-1.0, high=1.0)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"datasets": "mnist"}, "datasets='mnist': expected several names or Datasets"),
        ({"datasets": ("mnist", 3)}, "expected several names or Datasets"),
        ({"datasets": ("mnist",)}, "expected two or more; write a single one as dataset="),
        ({"datasets": ("mnist", "mnits")}, "unknown data set 'mnits'; did you mean"),
        ({"datasets": ("mnist", "digits", "mnist")}, "'mnist' occurs more than once"),
        (
            {"datasets": ("mnist", WAVE)},
            r"mnist \(classification\), wave \(regression\); expected data sets of one task",
        ),
        ({"dataset": "digits", "datasets": ("mnist", "digits")}, "leave them out where datasets are given"),
        (
            {"published": (Published(source="A course", value=0.9, metric="val_accuracy"),)},
            "leave them out where datasets are given",
        ),
        ({"datasets": (WAVE, dataclasses.replace(WAVE, name="a b"))}, "'both.a b' can't be the name of a study"),
        ({"datasets": (WAVE, dataclasses.replace(WAVE, name="replicates"))}, "'both.replicates' can't be the name"),
    ],
)
def test_data_sets_that_are_refused(changes: dict, told: str) -> None:
    with pytest.raises(StudyError, match=told):
        several(**changes)
