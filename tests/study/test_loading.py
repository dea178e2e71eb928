"""Study files: a good one loads; a bad one is a StudyError with file, line and the nearest name."""

from __future__ import annotations

import itertools
import textwrap
from pathlib import Path

import pytest
from support.command import write_study

from searchlib import Study, StudyError, list_studies, load_study
from searchlib.study.loading import find_study
from searchlib.study.preview import Preview, preview_study


def write(text: str, name: str = "asked") -> Path:
    """A study file in ./studies."""
    Path("studies").mkdir(exist_ok=True)
    path = Path(f"studies/{name}.py")
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def test_a_good_study() -> None:
    path = write_study()
    loaded = load_study("asked")
    assert (loaded.name, loaded.path, loaded.question, loaded.trials) == ("asked", path.absolute(), "Which of two?", 12)
    assert list(loaded.dimensions) == ["initializer", "activation", "learning_rate", "batch_size"]
    assert loaded.cells == [
        {"initializer": initializer, "activation": activation}
        for initializer, activation in itertools.product(("xavier_normal", "normal"), ("tanh", "relu"))
    ]
    assert (loaded.metric, loaded.direction) == ("val_accuracy", "maximize")
    assert loaded.better(0.9, 0.8)
    params = {"initializer": "normal", "activation": "relu", "learning_rate": 0.1, "batch_size": 32}
    assert loaded.cell_of(params) == (("initializer", "normal"), ("activation", "relu"))
    config = loaded.config(params)
    assert (config.hidden, config.momentum, config.batch_size, config.epochs) == ((8,), 0.9, 32, 2)
    assert load_study(str(path)) == loaded, "a path to the file does as well"


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


def test_functions_of_the_study_in_a_choice() -> None:
    write(OWN)
    loaded = load_study("asked")
    assert loaded.cells[2] == {"activation": "wave", "initializer": "zeros"}
    config = loaded.config({**loaded.cells[3], "learning_rate": 0.1})
    assert config.activation.__name__ == "wave"
    assert config.initializer.__name__ == "fill"


def test_the_code_of_the_file_is_part_of_the_identity() -> None:
    def identity_with(new: str) -> str:
        write(OWN.replace("x + 1", new))
        return load_study("asked").identity

    assert identity_with("x + 1") == identity_with("x + 1  # a comment") != identity_with("x + 2")


def test_the_identity_does_not_depend_on_the_working_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    write(OWN)
    loaded = load_study("asked")
    here = loaded.identity
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert loaded.identity == here
    assert load_study("asked", Path("../studies")).identity == here


BAD = {
    "syntax error": ('question="Which of two?",', 'question="Which of two?"', "asked.py:5: ", "correct the syntax"),
    "no STUDY": ("STUDY = Study", "study = Study", "asked.py: defines no STUDY; expected STUDY = Study("),
    "STUDY is something else": (
        "STUDY = Study(", "STUDY = dict(", "asked.py: STUDY is a dict; expected STUDY = Study("
    ),
    "unknown key": (
        '"batch_size"', '"batchsize"', "nuisance['batchsize']: unknown hyperparameter", "did you mean batch_size"
    ),
    "unknown fixed key": ('"momentum"', '"momentun"', "fixed['momentun']", "did you mean momentum"),
    "unknown field": ("trials=12", "trails=40", "asked.py:4: ", "unknown field of Study 'trails'; did you mean trials"),
    "two roles": ('"epochs": 2', '"batch_size": 32', "'batch_size' is both nuisance and fixed", "one role"),
    "two searched roles": (
        '"batch_size": Choice(16, 32)', '"activation": Choice("tanh")', "'activation' is both scientific and nuisance"
    ),
    "inverted range": ("LogUniform(0.01, 1.0)", "LogUniform(1.0, 0.01)", "asked.py:11: LogUniform(1.0, 0.01): the"),
    "unknown activation": ('"relu"', '"rellu"', "activation='rellu'", "did you mean relu"),
    "unknown sampler": ("trials=12", 'sampler="tpa"', "sampler='tpa'", "did you mean tpe"),
    "unknown pruner": ("trials=12", 'pruner="medium"', "pruner='medium'", "did you mean median"),
    "value in a role": ("Choice(16, 32)", "32", "nuisance['batch_size']=32: expected Choice", "belongs into fixed"),
    "dimension in fixed": ("0.9,", "Choice(0.9),", "fixed['momentum'] is a Choice; fixed takes a plain value"),
    "wrong fixed value": ('"epochs": 2', '"epochs": 0', "epochs=0: expected a whole number of 1 or more"),
    "trials 0": ("trials=12", "trials=0", "trials=0: expected a whole number of 1 or more"),
    "negative seed": ("trials=12", "seed=-1", "seed=-1: expected a whole number of 0 or more"),
    "no question": ('"Which of two?"', '" "', "expected the question that the study answers"),
    "steps": ("trials=12", "trials=12, eval_every=0", "eval_every=0: expected a whole number of 1 or more, or None"),
    "fraction": ("trials=12", "validation_fraction=1.0", "validation_fraction=1.0: expected a number between 0 and 1"),
    "a model that is none": ("MLP(hidden=(8,))", '"mlp"', "model='mlp': expected MLP(hidden=(...)) or a function"),
    "bad widths": ("hidden=(8,)", "hidden=(0,)", "hidden=(0,): expected widths"),
    "balanced over a real number": (
        'Choice("tanh", "relu")}', 'Choice("tanh"), "dropout": LogUniform(0.1, 0.5)}',
        "'dropout' is LogUniform and sampler 'balanced' needs finitely many values",
    ),
    "grid over a real number": ("trials=12", 'sampler="grid"', "'learning_rate' is LogUniform and sampler 'grid'"),
    "an exception": ("STUDY = Study", "1 / 0\nSTUDY = Study", "asked.py:4: ZeroDivisionError: division by zero"),
    "an exit": ("STUDY = Study", "raise SystemExit(3)\nSTUDY = Study", "asked.py:4: SystemExit"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_study_file_is_a_study_error_that_helps(case: str) -> None:
    old, new, *expected = BAD[case]
    path = write_study((old, new))
    with pytest.raises(StudyError) as caught:
        load_study("asked")
    message = str(caught.value)
    assert message.startswith(f"{path}:"), message
    assert "\n" not in message
    for part in expected:
        assert part in message


def test_a_file_that_is_no_text() -> None:
    write("").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StudyError, match=r"asked\.py.*can't be read"):
        load_study("asked")


def test_a_file_with_a_byte_order_mark_loads() -> None:
    path = write_study()
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert load_study("asked").trials == 12


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
    write_study()
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
    with pytest.raises(StudyError, match="expected a name of at most 100 letters"):
        Study(question="?", dataset="digits", name=name)


@pytest.mark.parametrize("name", ["größe", "learning-rate_2", "v1.2", "Ab_c", "9to5", "x" * 100])
def test_other_names_are_taken(name: str) -> None:
    Path(f"{name}.py").write_text("from searchlib import Study\nSTUDY = Study(question='?', dataset='digits')\n")
    assert load_study(f"{name}.py").name == name
    assert load_study(name, Path()).name == name


def test_an_unknown_study_names_the_nearest() -> None:
    write_study()
    with pytest.raises(StudyError, match=r"unknown study 'askd'; did you mean asked\? Known: asked \(in 'studies'\)"):
        load_study("askd")
    with pytest.raises(StudyError, match=r"study file 'other\.py' isn't there"):
        load_study("other.py")


def test_a_folder_that_is_not_there() -> None:
    with pytest.raises(StudyError, match=r"studies folder 'nowhere' isn't there; .*--studies"):
        list_studies(Path("nowhere"))


def test_list_studies() -> None:
    for name in ("zeta", "alpha", "_helper"):
        write_study(name=name)
    Path("studies/notes.txt").touch()
    Path("studies/folder.py").mkdir()
    assert list_studies(Path("studies")) == ["alpha", "zeta"]
    assert find_study("alpha", Path("studies")) == Path("studies/alpha.py")


SEVERAL = """
    from searchlib import Choice, Dataset, Study, function_dataset

    def wave(x):
        return x

    STUDY = Study(
        question="Which?",
        datasets=(function_dataset("wave", wave, low=-1.0, high=1.0), function_dataset("v.2", wave, low=0.0, high=1.0)),
        scientific={"activation": Choice("tanh", "relu")},
    )
"""


def test_a_part_of_a_study_of_several_data_sets_loads_by_its_name() -> None:
    path = write(SEVERAL)
    whole = load_study("asked")
    assert [part.name for part in whole.parts] == ["asked.wave", "asked.v.2"]
    for part in whole.parts:
        assert (load_study(part.name).name, load_study(part.name).identity) == (part.name, part.identity)
        assert part.path == path.absolute()
        assert "wave" in part.code
    with pytest.raises(StudyError, match=r"unknown part of study 'asked' 'asked\.waves'; did you mean asked\.wave"):
        load_study("asked.waves")
    assert preview_study("asked") == Preview("Which?", 2, ("asked.wave", "asked.v.2"))


def test_a_name_with_a_point_stays_a_studys_own() -> None:
    write(SEVERAL)
    write_study(name="other.wave")
    assert load_study("other.wave").name == "other.wave"
    with pytest.raises(StudyError, match=r"unknown study 'other\.v'"):
        load_study("other.v")
    write_study(name="asked.wave")
    with pytest.raises(StudyError, match=r"its part asked\.wave has the name of another study file"):
        load_study("asked")
