"""What repair writes, and the command ``verify`` with and without --repair."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from support import (
    STORAGE,
    curve,
    empty_mlflow_store,
    mlflow_runs,
    replicates,
    run,
    search,
    search_all,
    small_study,
    stored,
)
from support.damage import (
    kinds,
    look,
    lose_checkpoint,
    mend,
    parent_id,
    purge,
    put_database,
    run_id,
    sql,
    trials_of,
)

from searchlib import Study
from searchlib.cli import main as cli
from searchlib.results.verification import repair
from searchlib.stores import tracking
from searchlib.stores.mlflow_store import connect
from searchlib.stores.repair import REPAIRED, REPLACES
from searchlib.stores.stores import Stores


def heir_of(study: Study, lost: str):
    """The run that repair wrote in place of another one."""
    (heir,) = [found for found in mlflow_runs(study) if found.data.tags.get(REPLACES) == lost]
    return heir


def test_a_purged_run_is_written_again_with_what_optuna_holds(study: Study) -> None:
    trial = replicates(study)[2]
    lost = trial.user_attrs["mlflow_run_id"]
    old, points = connect(None).get_run(lost), curve(lost)
    purge(lost)
    mend(study)
    new = connect(None).get_run(lost)
    assert curve(lost) == points == trial.intermediate_values
    assert curve(lost, "learning_rate") == {1: trial.params["learning_rate"], 2: trial.params["learning_rate"]}
    assert new.data.params == old.data.params
    assert {**old.data.tags, REPAIRED: new.data.tags[REPAIRED]} == new.data.tags
    assert (new.info.status, new.data.metrics["best_val_accuracy"]) == ("FINISHED", trial.values[0])
    assert "losses" in new.data.tags[REPAIRED]
    assert curve(lost, "train_loss") == {}, "which verify doesn't hold against a run written again"


def test_a_run_with_other_values_makes_place_for_one_with_optunas(study: Study) -> None:
    old = run_id(study, 3)
    losses = curve(old, "train_loss")
    sql("UPDATE params SET value = 7 WHERE run_uuid = ? AND key = 'batch_size'", old)
    mend(study)
    assert connect(None).get_run(old).info.lifecycle_stage == "deleted"
    new = heir_of(study, old)
    assert new.data.tags["optuna.trial_number"] == "3"
    assert new.data.params["batch_size"] == str(stored(study).trials[3].params["batch_size"])
    assert curve(new.info.run_id, "train_loss") == losses


def test_two_optuna_storages_share_one_mlflow_store() -> None:
    """Each has runs of its own there, and neither search nor repair touches the other's."""
    study = small_study(trials=4)
    run(study)
    first = {found.info.run_id for found in mlflow_runs(study)}
    steps = search(study, Stores(storage="other.journal"))
    next(steps)
    steps.close()
    search_all(study, Stores(storage="other.journal"))
    assert repair(study, Stores(storage="other.journal", data_root=Path("data"))).mended == []
    assert look(study).differences == []
    everything = {found.info.run_id for found in mlflow_runs(study)}
    assert first < everything
    assert len(everything) == 2 * len(first) == 10


def test_a_lost_mlflow_database_is_made_again(study: Study) -> None:
    """All but losses and diagnostics: the checkpoints are files, of which the new champion is made."""
    before = trials_of(study)
    tested = stored(study).user_attrs["test_ledger"]["result"]["accuracy"]
    Path("empty.db").write_bytes(empty_mlflow_store())
    put_database(Path("empty.db"))
    assert len([each for each in look(study).differences if each.what == "run"]) == 12
    done = repair(study, Stores(STORAGE), anew=True)
    assert done.differences == []
    assert (done.runs, trials_of(study)) == (12, before)
    parent = connect(None).get_run(parent_id(study))
    assert (parent.info.status, parent.data.metrics["test_accuracy"]) == ("FINISHED", tested)
    assert connect(None).get_model_version_by_alias("small", "champion").tags["searchlib.study"] == "small"


def test_a_store_that_knows_nothing_of_the_study_is_left_alone_unless_it_is_named(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may be the wrong one: then there would be a second set of runs."""
    Path("other.db").write_bytes(empty_mlflow_store())
    before = Path("other.db").read_bytes()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db")  # which may have been meant for other work
    assert command(study, monkeypatch, "--repair", "--storage", STORAGE) == 1
    remedy = f"searchlib verify --study small --repair --tracking-uri sqlite:///other.db --storage {STORAGE}"
    said = capsys.readouterr().err
    assert said.startswith("Error: MLflow store 'sqlite:///other.db' has no run of study 'small'; ")
    assert said.endswith(f"{remedy}\n")
    assert said.count("\n") == 1
    assert Path("other.db").read_bytes() == before
    assert command(study, monkeypatch, *remedy.split()[4:]) == 0
    assert len(mlflow_runs(study, uri="sqlite:///other.db")) == 13


def test_on_a_server_a_lost_run_gets_another_id(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is reached through MLflow's client alone chooses ids itself."""
    monkeypatch.setattr(tracking, "store_of", lambda uri: None)
    trial = next(trial for trial in stored(study).trials if "checkpoint_sha256" not in trial.user_attrs)
    lost = trial.user_attrs["mlflow_run_id"]
    purge(lost)
    assert [each.what for each in mend(study).mended] == ["run"]
    heir = heir_of(study, lost)
    assert curve(heir.info.run_id) == trial.intermediate_values

    connect(None).delete_tag(heir.info.run_id, REPLACES)  # now it is a run of the trial's number that nobody knows
    found = look(study)
    assert kinds(found) == [("run", "small", trial.number, True)]
    assert f"run {heir.info.run_id} of the same number" in found.differences[0].problem
    assert mend(study).differences == []
    assert heir_of(study, lost).info.run_id == heir.info.run_id


def test_a_lost_parent_run_is_made_again(study: Study) -> None:
    lost = parent_id(study)
    purge(lost)
    assert ("parent run", "small", None, True) in kinds(look(study))
    assert mend(study).differences == []
    assert parent_id(study) != lost
    assert {found.data.tags["mlflow.parentRunId"] for found in mlflow_runs(study, "trial")} == {parent_id(study)}


# ----------------------------------------------------------------------------------------- the command line


def command(study: Study, monkeypatch: pytest.MonkeyPatch, *options: str) -> int | str | None:
    monkeypatch.setattr("searchlib.study.load_study", lambda name, folder: study)
    monkeypatch.setattr(sys, "argv", ["searchlib", "verify", "--study", "small", *options])
    with pytest.raises(SystemExit) as done:
        cli.main()
    return done.value.code


def test_the_command(study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(study, monkeypatch) == 0
    assert capsys.readouterr().out.endswith("the champion and the ledger agree\n")
    connect(None).set_terminated(run_id(study, 3), "FAILED")
    assert command(study, monkeypatch) == 1
    assert (
        capsys.readouterr().err
        == "Error: 1 difference in study 'small'; run searchlib verify --study small --repair to repair it\n"
    )
    lose_checkpoint(study)
    assert command(study, monkeypatch) == 1
    printed = capsys.readouterr()
    assert [line.split(":")[0] for line in printed.out.splitlines()] == ["status", "checkpoint"]
    assert printed.err == (
        "Error: 2 differences in study 'small'; run searchlib verify --study small --repair to repair 1 of them\n"
    )
    assert command(study, monkeypatch, "--storage", STORAGE, "--data-root", "my data") == 1
    assert capsys.readouterr().err.endswith(
        f"; run searchlib verify --study small --repair --storage {STORAGE} --data-root 'my data' to repair 1 of them\n"
    )
    assert command(study, monkeypatch, "--repair") == 1
    printed = capsys.readouterr()
    assert [line.split(":")[0] for line in printed.out.splitlines()] == ["repaired", "checkpoint"]
    assert "1 difference in study 'small', which --repair can't repair" in printed.err
    assert command(study, monkeypatch, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["agree"], found["trials"], len(found["differences"])) == (False, 4, 1)
    assert found["differences"][0]["what"] == "checkpoint"
    assert list(found["differences"][0]) == ["what", "study", "trial", "told", "remedy", "repairable"]
