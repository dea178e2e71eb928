"""The exported table: its columns, its types, every value exactly, and the same bytes for the same results."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import optuna
import pandas
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial
from pyarrow import parquet
from support import STORAGE, replicates, run, small_study, stored
from support.wide import wide_study

from searchlib import Choice, IntUniform, LogUniform, Study, StudyError, Uniform
from searchlib.errors import SearchlibError, StorageError
from searchlib.results.table import FORMATS, export, table
from searchlib.search.samplers import distribution
from searchlib.stores.storage import open_storage
from searchlib.stores.stores import Stores
from searchlib.study.config import FIELDS

FIRST = ["study", "number", "state", "outcome"]
LAST = ["value", "best_epoch", "epochs_run", "seed", "replicate", "mlflow_run_id"]  # other programs rely on these
EXTRA = ["source", "diagnosis"]
SEED = 2**53 - 1  # the largest that derive_seed gives


def point(**changes) -> dict:
    return {
        "initializer": "größer",
        "optimizer": "sgd",
        "learning_rate": 0.1 + 0.2,
        "momentum": 0.9,
        "nesterov": True,
        "init_gain": "recommended",
        "init_std": None,
        "init_value": 1,
        "width": 8,
        "hidden": "16-8",
        **changes,
    }


def adam(**changes) -> dict:
    own = {"optimizer": "adam", "initializer": "normal", "init_gain": 2, "init_std": 0.05, "hidden": ""}
    return {name: value for name, value in point(**own | changes).items() if name not in ("momentum", "nesterov")}


def trial(study: Study, params: dict, *, state: TrialState = TrialState.COMPLETE, value: float | None = None, **notes):
    dimensions = {"replicate": IntUniform(1, 1000), **study.dimensions}
    distributions = {name: distribution(dimensions[name]) for name in params}
    attributes = {"seed": 1, "signature": "s", "batch": 0, **notes}
    return create_trial(state=state, value=value, params=params, distributions=distributions, user_attrs=attributes)


def store(name: str, *trials, storage: str = STORAGE) -> None:
    opened = open_storage(storage)
    made = optuna.create_study(study_name=name, storage=opened, direction="maximize")
    made.add_trials(trials)
    for attribute in ("uid", "study_uid", "definition"):
        made.set_user_attr(attribute, "u" if "uid" in attribute else {})


def fill(study: Study, storage: str = STORAGE) -> None:
    """A study with each outcome, and replicates that were stored first."""
    ended = {"seed": SEED, "mlflow_run_id": "a1", "epochs_run": 5, "best_epoch": 4, "signature": "s"}
    store(
        f"{study.name}.replicates",
        trial(study, {**point(), "replicate": 2}, value=0.7, outcome="completed", source=0, **ended),
        trial(study, {**adam(), "replicate": 1}, value=0.1, outcome="diverged", source=1, **ended),
        storage=storage,
    )
    words = ['87 % of layer 1\'s units saturated, "at" epoch 1', "größer; vanishing"]
    store(
        study.name,
        trial(study, point(), value=1 / 3, outcome="completed", diagnosis=[], **ended),
        trial(study, adam(), value=0.1, outcome="diverged", diagnosis=words, diverged_step=3, **ended),
        trial(study, adam(), state=TrialState.PRUNED, value=0.25, outcome="pruned", **ended),
        trial(
            study,
            adam(init_std=None),
            state=TrialState.FAIL,
            outcome="failed",
            seed=1,
            signature="s",
            mlflow_run_id="b",
        ),
        trial(study, point(init_gain=0.5, init_value=0.5), state=TrialState.RUNNING, seed=0),
        storage=storage,
    )


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def text(study: Study, format: str = "csv") -> str:
    content = export(study, Stores(), format=format)
    assert isinstance(content, str)
    return content


def test_a_real_search_with_its_replicates_comes_out_as_it_is_stored() -> None:
    study = small_study(trials=4, replicates=2)
    run(study)
    rows = read(text(study))
    assert list(rows[0]) == [*FIRST, "initializer", "activation", "learning_rate", "batch_size", *LAST, *EXTRA]
    assert [row["study"] for row in rows] == ["small"] * 4 + ["small.replicates"] * 8  # two seeds of four cells
    for row, expected in zip(rows, [*stored(study).trials, *replicates(study)], strict=True):
        assert (row["number"], row["state"]) == (str(expected.number), "COMPLETE")
        assert row["outcome"] == expected.user_attrs["outcome"]
        assert float(row["value"]) == expected.value
        for name in study.dimensions:
            assert row[name] == str(expected.params[name])
        for name in ("best_epoch", "epochs_run", "seed", "mlflow_run_id"):
            assert row[name] == str(expected.user_attrs[name])
        assert row["replicate"] == str(expected.params.get("replicate", ""))
        assert row["source"] == str(expected.user_attrs.get("source", ""))
    assert {row["replicate"] for row in rows[4:]} == {"1", "2"}


@pytest.fixture
def wide() -> Study:
    """A study of every kind of dimension, with trials of every outcome."""
    study = wide_study()
    fill(study)
    return study


def test_every_kind_of_row_and_value(wide: Study) -> None:
    rows = json.loads(text(wide, "json"))
    assert rows == table(wide, Stores())
    for row in rows:
        assert list(row) == [*FIRST, *wide.dimensions, *LAST, *EXTRA]
    columns = ("study", "number", "state", "outcome", "value", "replicate", "source")
    assert [tuple(row[name] for name in columns) for row in rows] == [
        ("wide", 0, "COMPLETE", "completed", 1 / 3, None, None),
        ("wide", 1, "COMPLETE", "diverged", 0.1, None, None),
        ("wide", 2, "PRUNED", "pruned", 0.25, None, None),
        ("wide", 3, "FAIL", "failed", None, None, None),
        ("wide", 4, "RUNNING", "running", None, None, None),
        ("wide.replicates", 0, "COMPLETE", "completed", 0.7, 2, 0),
        ("wide.replicates", 1, "COMPLETE", "diverged", 0.1, 1, 1),
    ]
    assert [row["diagnosis"] for row in rows[:3]] == [
        "", "87 % of layer 1's units saturated, \"at\" epoch 1; größer; vanishing", None,
    ]  # fmt: skip
    assert rows[0] | point() == rows[0]
    assert rows[1] | adam() | {"momentum": None, "nesterov": None} == rows[1]
    assert (rows[4]["epochs_run"], rows[4]["mlflow_run_id"]) == (None, None)
    assert rows[0]["seed"] == SEED


def test_csv_of_every_kind_of_value(wide: Study) -> None:
    content = text(wide)
    assert content.endswith("\n")
    assert "\r" not in content
    lines = content.split("\n")
    assert lines[0] == ",".join([*FIRST, *wide.dimensions, *LAST, *EXTRA])
    assert lines[1] == (
        "wide,0,COMPLETE,completed,größer,sgd,0.30000000000000004,0.9,true,recommended,,1,8,16-8,"
        "0.3333333333333333,4,5,9007199254740991,,a1,,"
    )
    assert lines[4] == "wide,3,FAIL,failed,normal,adam,0.30000000000000004,,,2,,1,8,(),,,,1,,b,,"
    assert lines[2].endswith(',"87 % of layer 1\'s units saturated, ""at"" epoch 1; größer; vanishing"')


@pytest.mark.parametrize("format", FORMATS)
def test_pandas_reads_it_back(format: str, wide: Study) -> None:
    path = Path(f"out.{format}")
    assert export(wide, Stores(), format=format, output=path) == path
    frame = {
        "csv": lambda: pandas.read_csv(path, float_precision="round_trip"),
        "json": lambda: pandas.read_json(path, precise_float=True),
        "parquet": lambda: pandas.read_parquet(path),
    }[format]()
    expected = table(wide, Stores())
    assert list(frame.columns) == list(expected[0])
    for name in ("study", "number", "state", "outcome", "initializer", "width"):
        assert frame[name].tolist() == [row[name] for row in expected], name
    for name in ("learning_rate", "momentum", "value", "init_std", "init_value", "replicate", "epochs_run"):
        got = [None if math.isnan(found) else found for found in frame[name].astype(float)]
        assert got == [row[name] for row in expected], name
    assert [bool(flag) for flag in frame["nesterov"].dropna()] == [True, True, True]
    assert [str(gain) for gain in frame["init_gain"]] == [str(row["init_gain"]) for row in expected]


def test_parquet_columns_have_the_studys_types_from_the_first_trial_on() -> None:
    study = wide_study()
    whole, number, flag, string = "int64", "double", "bool", "string"
    types = [string, whole, string, string]
    types += [string, string, number, number, flag, string, number, number, whole, string]
    types += [number, whole, whole, whole, whole, string, whole, string]
    export(study, Stores(), format="parquet", output=Path("none.parquet"))
    store(study.name, trial(study, adam(init_std=None, init_gain=0.5), state=TrialState.RUNNING, seed=0))
    export(study, Stores(), format="parquet", output=Path("one.parquet"))
    fill(study, storage="full.journal")
    export(study, Stores(storage="full.journal"), format="parquet", output=Path("full.parquet"))
    for name, rows in (("none", 0), ("one", 1), ("full", 7)):
        found = parquet.read_table(f"{name}.parquet")
        assert [str(field.type) for field in found.schema] == types, name
        assert found.num_rows == rows
    gains = parquet.read_table("full.parquet")["init_gain"].to_pylist()
    assert gains == ["recommended", "2", "2", "2", "0.5", "recommended", "2"]
    hidden = parquet.read_table("full.parquet")["hidden"].to_pylist()
    assert hidden[:2] == ["16-8", ""]  # no hidden layer isn't a missing value
    assert parquet.read_metadata("full.parquet").metadata is None  # nothing of the writer's beside the table


SCRIPT = """
from pathlib import Path
from support.wide import wide_study
from searchlib.results import export
from searchlib.stores import Stores
for name in ("out.csv", "out.json", "out.parquet", "/dev/stdout"):
    export(wide_study(), Stores(), format=Path(name).suffix[1:] or "parquet", output=Path(name))
"""


def test_the_same_results_give_the_same_bytes(wide: Study) -> None:
    """Again, from another kind of storage, and in another process with other settings, into files and a pipe."""
    fill(wide, "sqlite:///wide.db")

    def written(storage: str) -> list[bytes]:
        paths = [export(wide, Stores(storage=storage), format=name, output=Path(f"own.{name}")) for name in FORMATS]
        return [Path(path).read_bytes() for path in paths]

    contents = written(STORAGE)
    assert contents == written(STORAGE) == written("sqlite:///wide.db")
    assert contents[:2] == [text(wide, "csv").encode(), text(wide, "json").encode()]
    assert min(map(len, contents)) > 500
    settings = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, env=settings, timeout=120, check=True)
    assert [Path(f"out.{name}").read_bytes() for name in FORMATS] == contents
    assert done.stdout == contents[2]


@pytest.mark.parametrize("begun", [False, True])
def test_a_study_without_trials_is_an_empty_table(begun: bool) -> None:
    study = small_study()
    if begun:
        store("small")
    names = [*FIRST, "initializer", "activation", "learning_rate", "batch_size", *LAST, *EXTRA]
    assert text(study) == ",".join(names) + "\n"
    assert text(study, "json") == "[]\n"
    assert Path(STORAGE).exists() == begun  # nothing is created by reading
    store("other", trial(study, {"initializer": "normal"}, value=0.5))
    assert table(study, Stores()) == []


def test_a_parameter_that_the_study_no_longer_has_is_kept() -> None:
    fill(wide_study())
    study = wide_study(nuisance={"learning_rate": LogUniform(1e-5, 1.0), "dropout": Uniform(0.0, 0.5)})
    rows = read(text(study))
    assert list(rows[0])[4:13] == [
        "initializer", "optimizer", "learning_rate", "dropout",
        "hidden", "init_gain", "init_std", "init_value", "momentum",
    ]  # fmt: skip
    assert rows[0]["momentum"] == "0.9"
    assert rows[0]["dropout"] == ""
    export(study, Stores(), format="parquet", output=Path("changed.parquet"))
    assert parquet.read_table("changed.parquet").column_names == list(rows[0])


def test_no_hyperparameter_has_the_name_of_another_column() -> None:
    assert not {*FIRST, *LAST, *EXTRA} & set(FIELDS)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=st.floats(allow_nan=False, allow_subnormal=False),
    gain=st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False),
    words=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1),
    run_id=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
)
def test_any_value_survives(tmp_path: Path, value: float, gain: float, words: list[str], run_id: str) -> None:
    """Line ends, quotes, signs and all; an infinite value, which the search never stores, becomes a missing one."""
    study = small_study(nuisance={"init_value": Choice(gain, 0.125 if gain != 0.125 else 0.5)})
    storage = str(tmp_path / "any.journal")
    Path(storage).unlink(missing_ok=True)
    point = {"initializer": "normal", "activation": "tanh", "init_value": gain}
    store("small", trial(study, point, value=value, diagnosis=words, mlflow_run_id=run_id), storage=storage)
    content = export(study, Stores(storage=storage), format="csv")
    assert isinstance(content, str)
    [row] = read(content)
    expected = [repr(value) if math.isfinite(value) else "", repr(gain), "; ".join(words), run_id]
    assert [row[name] for name in ("value", "init_value", "diagnosis", "mlflow_run_id")] == expected
    exact = [value if math.isfinite(value) else None, gain, "; ".join(words), run_id]
    [from_json] = json.loads(str(export(study, Stores(storage=storage), format="json")))
    file = export(study, Stores(storage=storage), format="parquet", output=tmp_path / "any.parquet")
    assert export(study, Stores(storage=storage), format="parquet") == Path(str(file)).read_bytes()
    [from_parquet] = parquet.read_table(file).to_pylist()
    for found in (from_json, from_parquet):
        assert [found[name] for name in ("value", "init_value", "diagnosis", "mlflow_run_id")] == exact
        assert math.copysign(1.0, found["init_value"]) == math.copysign(1.0, gain)


def test_what_cannot_be_written_is_said() -> None:
    study = small_study()
    with pytest.raises(StudyError, match="unknown export format 'cvs'; did you mean csv"):
        export(study, Stores(), format="cvs")
    for output, reason in (("missing/out.csv", "No such file"), (".", "Is a directory")):
        with pytest.raises(SearchlibError, match=f"output '{output}' can't be written .{reason}.*--output"):
            export(study, Stores(), format="csv", output=Path(output))
    Path("no.journal").write_text("something else\n")
    with pytest.raises(StorageError, match="no journal of Optuna"):
        export(study, Stores(storage="no.journal"), format="csv")
