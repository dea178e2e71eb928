"""Failures that say something: the terminal names the cause, the exit status tells, and output stays for programs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from support import mlflow_runs, prepare, run, small_study
from support.command import searchlib, write_study

from searchlib import MLP, Choice, Dataset, Examples, LogUniform
from searchlib.errors import DataError
from searchlib.results import export
from searchlib.search import search
from searchlib.stores import Stores
from searchlib.stores.mlflow_store import connect

OWN = """
def broken(x):
    return x @ x


def fine(x):
    return x.tanh()


STUDY = Study("""


@pytest.mark.parametrize("options", ["broken, fine", "broken"])
def test_a_cell_whose_trials_all_fail_is_an_error_with_the_line_of_the_user_s_code(options: str) -> None:
    prepare()
    path = write_study(("STUDY = Study(", OWN), ('"tanh", "relu"', options), ("trials=12", "trials=4"))
    done = searchlib("optimize", "--study", "asked")
    error = done.stderr.splitlines()[-1]
    line = path.read_text().splitlines().index("    return x @ x") + 1
    assert done.returncode == 1
    assert error.startswith("Error: all ")
    assert f"broken failed, and so did those of 1 more of the {2 * len(options.split(','))} cells: trial " in error
    assert f"with {path}:{line}: RuntimeError: " in error
    assert error.endswith("; correct it, and save the study under a new name; the test set stays sealed")
    assert "Traceback" not in done.stderr
    status = json.loads(searchlib("status", "--study", "asked", "--json").stdout)
    assert status["test_ledger"] is None
    assert [cell["scientific"]["activation"] for cell in status["failed_cells"]] == ["broken", "broken"]


def test_a_study_file_that_prints_leaves_json_as_it_is() -> None:
    prepare()
    write_study(("STUDY = Study(", "print('loaded')\nSTUDY = Study("))
    done = searchlib("status", "--study", "asked", "--json")
    assert json.loads(done.stdout)["study"] == "asked"
    assert done.stderr == "loaded\n"


def test_autologging_of_a_study_file_makes_no_run_of_the_analysis() -> None:
    prepare()
    text = "import mlflow, mlflow.statsmodels, mlflow.sklearn\nmlflow.autolog(silent=True)\nSTUDY = Study("
    write_study(("STUDY = Study(", text), ("trials=12", "trials=8, replicates=3, replicate_race=False"))
    done = searchlib("optimize", "--study", "asked")
    assert done.returncode == 0, done.stderr
    client = connect(None)
    assert {one.name for one in client.search_experiments() if client.search_runs([one.experiment_id])} == {"asked"}
    kinds = {one.data.tags.get("searchlib.kind") for one in mlflow_runs(small_study(name="asked"))}
    assert kinds == {"study", "trial", "replicate"}


def test_a_helper_beside_a_study_is_no_study_and_a_missing_one_has_a_hint() -> None:
    write_study(("STUDY = Study(", "from helping import VALUE\nSTUDY = Study("))
    done = searchlib("status", "--study", "asked")
    assert done.returncode == 1
    assert "No module named 'helping'; install it, or put its file beside the study file" in done.stderr
    Path("studies/helping.py").write_text("VALUE = 1\n")
    assert searchlib("status", "--study", "asked").returncode == 0
    assert "helping" not in searchlib("list").stdout


@pytest.mark.parametrize("place", ["inputs", "targets"])
def test_a_value_that_is_no_number_is_refused_before_anything_is_stored(place: str) -> None:
    def examples(root: Path) -> Examples:
        inputs = torch.linspace(0, 1, 80).view(40, 2)
        targets = torch.linspace(0, 1, 40).view(40, 1)
        {"inputs": inputs, "targets": targets}[place][7, 0] = float("nan")
        return Examples(inputs=inputs, targets=targets)

    own = Dataset(name="own", task="regression", shape=(2,), scale=1.0, train=examples, test=examples)
    prepare()
    with pytest.raises(DataError, match=f"own: 1 of 40 {place} have NaN or infinite values, the first is number 7"):
        next(search(small_study(dataset=own), Stores()))
    assert not Stores().read(small_study(dataset=own)).attributes.get("target")


def test_every_cell_of_a_table_is_read_back_by_pandas() -> None:
    study = small_study(
        model=MLP(hidden=(4,)),
        scientific={"hidden": Choice((), (4,), (4, 4)), "init_std": Choice(None, 0.1), "activation": Choice("tanh")},
        nuisance={"learning_rate": LogUniform(0.01, 0.1)},
        trials=6,
    )
    run(study)
    export(study, Stores(), format="csv", output=Path("trials.csv"))
    trials = pandas.read_csv("trials.csv")
    cells = trials.groupby(list(study.scientific), dropna=False).value.agg(["mean", "count"])
    assert cells["count"].tolist() == [1] * 6
    assert sorted(trials.hidden.astype(str).unique()) == ["()", "4", "4-4"]
    assert np.isnan(trials.init_std).sum() == 3
