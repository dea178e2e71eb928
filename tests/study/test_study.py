"""Studies: a good file loads, cheaply; a bad one is a StudyError with file, line and the nearest name."""

from __future__ import annotations

import dataclasses
import itertools
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from searchlib import (
    MLP,
    Choice,
    IntUniform,
    LogUniform,
    Published,
    Study,
    StudyError,
    Uniform,
    list_studies,
    load_study,
)
from searchlib.data.dataset import Dataset, Examples
from searchlib.study.config import FIELDS
from searchlib.study.loading import find_study
from searchlib.study.study import refuse_if_changed

GOOD = """
    '''A question.'''
    from searchlib import MLP, Choice, LogUniform, Study, Uniform, IntUniform

    STUDY = Study(
        question="Which one?",
        dataset="digits",
        model=MLP(hidden=(8,)),
        scientific={"initializer": Choice("zeros", "xavier_normal"), "activation": Choice("tanh", "relu")},
        nuisance={"learning_rate": LogUniform(1e-3, 1.0), "batch_size": Choice(32, 64)},
        fixed={"optimizer": "sgd", "momentum": 0.9, "epochs": 3},
        trials=40,
    )
"""


def write(text: str = GOOD, name: str = "asked") -> Path:
    """A study file in ./studies."""
    folder = Path("studies")
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.py"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def altered(*changes: tuple[str, str]) -> str:
    text = GOOD
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


def study(**changes) -> Study:
    settings = {
        "question": "Which one?",
        "dataset": "digits",
        "scientific": {"activation": Choice("tanh", "relu")},
        "nuisance": {"learning_rate": LogUniform(1e-3, 1.0)},
        "fixed": {"epochs": 3},
    }
    return Study(**{**settings, **changes})


# --------------------------------------------------------------------------------------------------------- good ones


def test_a_good_study() -> None:
    path = write()
    loaded = load_study("asked")
    assert (loaded.name, loaded.path, loaded.question, loaded.trials) == ("asked", path, "Which one?", 40)
    assert list(loaded.dimensions) == ["initializer", "activation", "learning_rate", "batch_size"]
    assert loaded.cells == [
        {"initializer": initializer, "activation": activation}
        for initializer, activation in itertools.product(("zeros", "xavier_normal"), ("tanh", "relu"))
    ]
    assert (loaded.metric, loaded.direction) == ("val_accuracy", "maximize")
    assert loaded.better(0.9, 0.8)
    params = {"initializer": "zeros", "activation": "relu", "learning_rate": 0.1, "batch_size": 64}
    assert loaded.cell_of(params) == (("initializer", "zeros"), ("activation", "relu"))
    config = loaded.config(params)
    assert (config.hidden, config.momentum, config.batch_size, config.epochs) == ((8,), 0.9, 64, 3)
    assert load_study(str(path)) == loaded, "a path to the file does as well"


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


# ------------------------------------------------------------------------------------------------ conditions


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


def test_a_condition_on_a_fixed_value() -> None:
    assert study(fixed={"optimizer": "sgd"}, scientific={"momentum": Choice(0.5).when(optimizer="sgd")}).cells == [
        {"momentum": 0.5}
    ]
    assert study(fixed={"optimizer": "adam"}, scientific={"momentum": Choice(0.5).when(optimizer="sgd")}).cells == [{}]


def test_a_condition_must_be_on_what_comes_before() -> None:
    with pytest.raises(StudyError, match="'optimizer' must be fixed, or a dimension listed before"):
        study(scientific={"momentum": Choice(0.5).when(optimizer="sgd"), "optimizer": Choice("sgd", "adam")})


@pytest.mark.parametrize("value", ["sdg", "adagrad"])
def test_a_condition_that_can_never_be_met_is_refused(value: str) -> None:
    with pytest.raises(StudyError, match=f"optimizer={value!r}"):
        study(scientific={"optimizer": Choice("sgd", "adam"), "momentum": Choice(0.5).when(optimizer=value)})


# ------------------------------------------------------------------------------------------------------ bad ones

BAD = {
    "syntax error": ('question="Which one?",', 'question="Which one?"', "asked.py:6: ", "correct the syntax"),
    "no STUDY": ("STUDY = Study", "study = Study", "asked.py: defines no STUDY; expected STUDY = Study("),
    "STUDY is something else": (
        "STUDY = Study(", "STUDY = dict(", "asked.py: STUDY is a dict; expected STUDY = Study("
    ),
    "unknown key": (
        '"batch_size"', '"batchsize"', "nuisance['batchsize']: unknown hyperparameter", "did you mean batch_size"
    ),
    "unknown fixed key": ('"momentum"', '"momentun"', "fixed['momentun']", "did you mean momentum"),
    "unknown field": ("trials=40", "trails=40", "asked.py:5: ", "unknown field of Study 'trails'; did you mean trials"),
    "two roles": ('"optimizer": "sgd"', '"batch_size": 32', "'batch_size' is both nuisance and fixed", "one role"),
    "two searched roles": (
        '"batch_size": Choice(32, 64)', '"activation": Choice("tanh")', "'activation' is both scientific and nuisance"
    ),
    "inverted range": ("LogUniform(1e-3, 1.0)", "LogUniform(1.0, 1e-3)", "asked.py:10: LogUniform(1.0, 0.001): the"),
    "empty range": ("LogUniform(1e-3, 1.0)", "Uniform(0.5, 0.5)", "asked.py:10: Uniform(0.5, 0.5): the range is empty"),
    "no choice": ("Choice(32, 64)", "Choice()", "asked.py:10: Choice() has no value"),
    "learning rate from 0": ("LogUniform(1e-3, 1.0)", "Uniform(0.0, 1.0)", "learning_rate=0.0: expected a"),
    "learning rate from 0, logarithmic": (
        "LogUniform(1e-3, 1.0)", "LogUniform(0.0, 1.0)", "LogUniform(0.0, 1.0): the lower bound must be above 0"
    ),
    "negative learning rate": ("LogUniform(1e-3, 1.0)", "Choice(0.1, -0.1)", "learning_rate=-0.1: expected a number"),
    "unknown initializer": (
        '"xavier_normal"', '"xavier"', "initializer='xavier': unknown initializer", "did you mean xavier_normal"
    ),
    "unknown activation": ('"relu"', '"rellu"', "activation='rellu'", "did you mean relu"),
    "unknown data set": ('"digits"', '"digit"', "unknown data set 'digit'; did you mean digits"),
    "unknown sampler": ("trials=40", 'sampler="tpa"', "sampler='tpa'", "did you mean tpe"),
    "unknown pruner": ("trials=40", 'pruner="medium"', "pruner='medium'", "did you mean median"),
    "value in a role": ("Choice(32, 64)", "32", "nuisance['batch_size']=32: expected Choice", "belongs into fixed"),
    "list in a role": ("Choice(32, 64)", "[32, 64]", "nuisance['batch_size']=[32, 64]: expected Choice"),
    "dimension in fixed": ("0.9,", "Choice(0.9),", "fixed['momentum'] is a Choice; fixed takes a plain value"),
    "wrong fixed value": ('"epochs": 3', '"epochs": 0', "epochs=0: expected a whole number of 1 or more"),
    "wrong type of number": ("Choice(32, 64)", "Uniform(32, 64)", "batch_size=32.0: expected a whole number"),
    "trials 0": ("trials=40", "trials=0", "trials=0: expected a whole number of 1 or more"),
    "negative seed": ("trials=40", "seed=-1", "seed=-1: expected a whole number of 0 or more"),
    "no question": ('"Which one?"', '" "', "expected the question that the study answers"),
    "steps": ("trials=40", "trials=40, eval_every=0", "eval_every=0: expected a whole number of 1 or more, or None"),
    "half steps": ("trials=40", "trials=40, eval_every=2.5", "eval_every=2.5: expected a whole number of 1 or more"),
    "fraction": ("trials=40", "validation_fraction=1.0", "validation_fraction=1.0: expected a number between 0 and 1"),
    "a role that is no dict": ('{"optimizer": "sgd", "momentum": 0.9, "epochs": 3}', "[]", "fixed=[]: expected a dict"),
    "a model that is none": ("MLP(hidden=(8,))", '"mlp"', "model='mlp': expected MLP(hidden=(...)) or a function"),
    "bad widths": ("hidden=(8,)", "hidden=(0,)", "hidden=(0,): expected widths"),
    "balanced over a real number": (
        'Choice("tanh", "relu")}', 'Choice("tanh"), "dropout": Uniform(0.0, 0.5)}',
        "'dropout' is Uniform and sampler 'balanced' needs finitely many values",
    ),
    "grid over a real number": ("trials=40", 'sampler="grid"', "'learning_rate' is LogUniform and sampler 'grid'"),
    "an exception": ("STUDY = Study", "1 / 0\n    STUDY = Study", "asked.py:5: ZeroDivisionError: division by zero"),
    "an exit": ("STUDY = Study", "raise SystemExit(3)\n    STUDY = Study", "asked.py:5: SystemExit"),
    "an import": ("STUDY = Study", "import nowhere\n    STUDY = Study", "asked.py:5: ModuleNotFoundError"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_study_file_is_a_study_error_that_helps(case: str) -> None:
    old, new, *expected = BAD[case]
    path = write(altered((old, new)))
    with pytest.raises(StudyError) as caught:
        load_study("asked")
    message = str(caught.value)
    assert message.startswith(f"{path}:"), message
    assert "\n" not in message
    for part in expected:
        assert part in message


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


def test_a_published_figure_by_step_needs_steps() -> None:
    one = Published(source="A book", value=0.9, metric="step_val_accuracy", step=500)
    with pytest.raises(StudyError, match="measured with eval_every only"):
        study(scientific={}, published=(one,))
    study(scientific={}, published=(one,), eval_every=500)


def test_published_figures_name_cells_that_a_study_has() -> None:
    one = Published(source="A book", value=1.5, metric="train_loss")
    with pytest.raises(StudyError, match=r"expected a tuple of Published"):
        study(published=one)
    assert study(scientific={}, published=(one,)).published_cell(one) == {}
    two = dataclasses.replace(one, cell={"hidden": (5, 4)}, metric="gradient_norm/layer1")
    assert study(scientific={"hidden": Choice((5, 4), (3,))}, published=(two,)).published_cell(two) == {"hidden": "5-4"}
    with pytest.raises(StudyError, match="is a range"):
        study(
            scientific={"dropout": Uniform(0.0, 0.5)},
            sampler="tpe",
            published=(dataclasses.replace(one, cell={"dropout": 0.1}),),
        )


def test_a_fixed_learning_rate_of_zero() -> None:
    for rate in (0, 0.0, -1.0):
        with pytest.raises(StudyError, match="learning_rate="):
            study(nuisance={}, fixed={"learning_rate": rate})


@pytest.mark.parametrize("question", ["a\x1b[2Jb", "nul\0", "half \ud800", "bell\a"])
def test_a_question_that_no_terminal_should_show_is_refused(question: str) -> None:
    with pytest.raises(StudyError, match="in words") as caught:
        study(question=question)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("role", ["scientific", "nuisance", "fixed"])
def test_a_role_that_is_none(role: str) -> None:
    with pytest.raises(StudyError, match=f"{role}=None: expected a dict"):
        study(**{role: None})


def test_a_grid_has_only_so_many_points() -> None:
    grid = {"sampler": "grid", "nuisance": {"batch_size": Choice(16, 32, 64)}}
    assert study(**grid, trials=6).trials == 6
    with pytest.raises(StudyError, match="trials=7: the grid has only 6 points; write trials=6"):
        study(**grid, trials=7)


def test_combinations_that_no_trial_can_have_are_refused_at_once() -> None:
    """Not hours later, by the trial that draws one."""
    with pytest.raises(StudyError, match="momentum"):
        study(fixed={"momentum": 0.0, "nesterov": True})
    with pytest.raises(StudyError, match="momentum"):
        study(nuisance={"nesterov": Choice(True, False), "momentum": Choice(0.9, 0.0)})
    with pytest.raises(StudyError, match="init_low"):
        study(nuisance={"init_low": Uniform(0.0, 1.0), "init_high": Uniform(0.5, 2.0)})
    with pytest.raises(StudyError, match="depth"):
        study(model=MLP(hidden=()), nuisance={"depth": IntUniform(0, 3)})


def test_a_conditional_dimension_is_checked_too() -> None:
    with pytest.raises(StudyError, match="epochs"):
        study(nuisance={"optimizer": Choice("sgd", "adam", "rmsprop"), "epochs": Uniform(1, 5).when(optimizer="adam")})


def test_a_file_that_is_no_text() -> None:
    write().write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StudyError, match=r"asked\.py.*can't be read"):
        load_study("asked")


def test_a_file_with_a_byte_order_mark_loads() -> None:
    write("\ufeff" + textwrap.dedent(GOOD))
    assert load_study("asked").trials == 40


def test_the_line_is_the_study_files_own_also_for_an_error_in_a_module_that_it_imports(monkeypatch) -> None:
    write("\n\n\n\n\n\n\n\n\ndef broken(:\n", name="elsewhere")
    monkeypatch.syspath_prepend("studies")
    path = write("import elsewhere\nSTUDY = None\n")
    with pytest.raises(StudyError) as caught:
        load_study("asked")
    assert str(caught.value).startswith((f"{path}:1: ", f"{Path('studies/elsewhere.py').resolve()}:10: "))


# ------------------------------------------------------------------------------------------------------- finding


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd", "/etc/passwd", "studies/asked", "../studies/asked", "nope", ".", "..", "", "a/b", "asked\n",
        "asked\0", "a\0.py", "x" * 5000, "x" * 5000 + ".py", "nowhere/" * 900 + "x.py", "\udcff.py",
    ],
)  # fmt: skip
def test_what_is_no_study_is_not_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write()
    Path("etc").mkdir()
    Path("etc/passwd").write_text("secret")
    opened: list[str] = []
    for reader in ("read_text", "read_bytes", "open"):
        monkeypatch.setattr(Path, reader, lambda self, *args, **kwargs: opened.append(str(self)))
    with pytest.raises(StudyError) as caught:
        load_study(name)
    assert opened == []
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    with pytest.raises(StudyError):
        load_study("asked", Path(name) / "nowhere")


@pytest.mark.parametrize(
    "name",
    ["a'b", "a b", 'a"b', "a`b", "<b>", "a\nb", "a;b", "a$b", "a%2fb", "a\\b", ".hidden", "-x", "a\x1b[31m", "x" * 101],
)
def test_a_name_that_could_be_taken_for_more_than_a_name_is_refused(name: str) -> None:
    """It would become part of MLflow's queries, of file names and of pages."""
    path = Path(f"{name}.py")
    path.write_text("raise AssertionError('it was run')")
    with pytest.raises(StudyError, match="expected a name of at most 100 letters.*rename the file") as caught:
        load_study(str(path))
    assert caught.value.args[0].isprintable()
    for given in (name, "../x", ""):
        with pytest.raises(StudyError, match="expected a name of at most 100 letters"):
            study(name=given)


@pytest.mark.parametrize("name", ["größe", "learning-rate_2", "v1.2", "Ab_c", "9to5", "x" * 100])
def test_other_names_are_taken(name: str) -> None:
    Path(f"{name}.py").write_text("from searchlib import Study\nSTUDY = Study(question='?', dataset='digits')\n")
    assert load_study(f"{name}.py").name == name
    assert load_study(name, Path()).name == name


def test_an_unknown_study_names_the_nearest() -> None:
    write()
    with pytest.raises(StudyError, match=r"unknown study 'askd'; did you mean asked\? Known: asked \(in 'studies'\)"):
        load_study("askd")
    with pytest.raises(StudyError, match=r"study file 'other\.py' isn't there"):
        load_study("other.py")


def test_a_folder_that_is_not_there() -> None:
    with pytest.raises(StudyError, match=r"studies folder 'nowhere' isn't there; .*--studies"):
        list_studies(Path("nowhere"))


def test_list_studies() -> None:
    for name in ("zeta", "alpha", "_helper"):
        write(name=name)
    Path("studies/notes.txt").touch()
    Path("studies/folder.py").mkdir()
    assert list_studies(Path("studies")) == ["alpha", "zeta"]
    assert find_study("alpha", Path("studies")) == Path("studies/alpha.py")


# ------------------------------------------------------------------------------------------------------ identity

OWN = """
    import torch
    from searchlib import MLP, Choice, LogUniform, Study

    def helper(x):
        return x + 1

    def wave(x):
        return torch.sin(helper(x))

    def fill(weight, layer):
        weight.fill_(0.5)

    class Net(torch.nn.Sequential):
        def __init__(self):
            super().__init__(torch.nn.Flatten(), torch.nn.Linear(64, 10))

    def make(config, dataset):
        return Net()

    STUDY = Study(
        question="Mine?",
        dataset="digits",
        model=make,
        scientific={"activation": Choice("tanh", wave), "initializer": Choice("zeros", fill)},
        nuisance={"learning_rate": LogUniform(1e-3, 1.0)},
    )
"""


def identity_of(text: str) -> str:
    write(text)
    return load_study("asked").identity


def test_functions_of_the_study_in_a_choice() -> None:
    write(OWN)
    loaded = load_study("asked")
    assert loaded.cells[2] == {"activation": "wave", "initializer": "zeros"}
    config = loaded.config({**loaded.cells[3], "learning_rate": 0.1})
    assert config.activation.__name__ == "wave"
    assert config.initializer.__name__ == "fill"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("torch.sin", "torch.cos"),
        ("fill_(0.5)", "fill_(0.6)"),
        ("return Net()", "return Net().eval()"),
        ("x + 1", "x + 2"),
        ("torch.nn.Linear(64, 10)", "torch.nn.Linear(64, 10, bias=False)"),
    ],
    ids=["activation", "initializer", "model", "helper", "class"],
)
def test_the_studys_own_code_is_part_of_its_identity(old: str, new: str) -> None:
    assert old in OWN
    before = identity_of(OWN)
    assert identity_of(OWN) == before
    assert identity_of(OWN.replace(old, new)) != before


def test_the_identity_does_not_depend_on_the_working_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    here = identity_of(OWN)
    write(OWN)
    loaded = load_study("asked")
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert loaded.identity == here
    assert load_study("asked", Path("../studies")).identity == here


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


def test_the_order_of_fixed_values_is_not() -> None:
    fixed = {"epochs": 3, "momentum": 0.9}
    assert study(fixed=fixed).identity == study(fixed=dict(reversed(fixed.items()))).identity


def test_a_condition_written_as_a_set_keeps_its_identity_in_another_process() -> None:
    path = write(
        altered((
            '"batch_size": Choice(32, 64)',
            '"beta1": Uniform(0.5, 0.9).when(activation={"tanh", "relu", "gelu", "selu", "mish", "sigmoid"})',
        ))
    )  # fmt: skip
    code = f"import searchlib; print(searchlib.load_study({str(path)!r}).identity)"
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


def test_two_functions_of_one_name_both_count() -> None:
    text = altered(("trials=40", "sampler=lambda seed: {sampler},\n        pruner=lambda: {pruner}"))
    identities = {
        identity_of(text.replace("{sampler}", sampler).replace("{pruner}", pruner))
        for sampler, pruner in (("1", "1"), ("2", "1"), ("1", "2"))
    }
    assert len(identities) == 3


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
