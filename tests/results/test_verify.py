"""verify finds each way in which the stores can disagree, repair repairs it, and Optuna's trials stay as they are.

Every damage is done to real stores: through MLflow's client, to its tables, to files, to Optuna's journal.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
import torch
from optuna.trial import TrialState, create_trial
from support import STORAGE, empty_mlflow_store, prepare, run, search, search_all, small_study, stored

from searchlib import Choice, Dataset, Examples, LogUniform, Study, StudyError
from searchlib.cli import main as cli
from searchlib.data import datasets as data
from searchlib.errors import BusyError, StorageError
from searchlib.results import holdout
from searchlib.results.verification import Verification, repair, verify
from searchlib.stores import tracking
from searchlib.stores.mlflow_store import connect
from searchlib.stores.repair import REPAIRED, REPLACES
from searchlib.stores.stores import Stores


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Path, Path]:
    """A finished study (a search, its replicates, an evaluated champion), its folder, and a copy of that."""
    folder, copy = tmp_path_factory.mktemp("verified"), tmp_path_factory.mktemp("copies") / "verified"
    study = small_study(trials=4, replicates=2, eval_every=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run(study)
        holdout.evaluate(study, Stores(STORAGE))
    shutil.copytree(folder, copy)
    return study, folder, copy


@pytest.fixture
def study(finished: tuple[Study, Path, Path], monkeypatch: pytest.MonkeyPatch) -> Study:
    """The study as it was when it was finished, in its folder; its test data can't be opened any more.

    All tests have it in one folder: MLflow takes a second to open a database that it hasn't seen.
    """
    made, folder, copy = finished
    monkeypatch.chdir(folder)
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "mlflow.db":
            path.unlink()
    shutil.copytree(copy, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("mlflow.db"))
    put_database(copy / "mlflow.db")
    forbid_test_data(monkeypatch)
    return made


def put_database(content: Path) -> None:
    """Make MLflow's database one with that of *content*, so that its open connections see it."""
    with contextlib.closing(sqlite3.connect(content)) as new, contextlib.closing(sqlite3.connect("mlflow.db")) as old:
        new.backup(old)


def forbid_test_data(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*args: object, **kwargs: object) -> None:
        raise AssertionError("the test set was opened")

    monkeypatch.setattr(holdout, "load_test", opened)


def look(study: Study) -> Verification:
    return verify(study, Stores(STORAGE))


def mend(study: Study) -> Verification:
    return repair(study, Stores(STORAGE))


def kinds(found: Verification) -> list[tuple[str, str, int | None, bool]]:
    return [(each.what, each.study, each.trial, each.repairable) for each in found.differences]


def trials_of(study: Study) -> list[tuple]:
    """All that Optuna holds of the trials of the search and of the replicates."""
    homes = [Stores(STORAGE).optuna_study(name) for name in (study.name, f"{study.name}.replicates")]
    return [
        (t.number, t.state, t.params, t.values, t.intermediate_values, t.user_attrs, t.system_attrs)
        for home in homes
        if home is not None
        for t in home.get_trials(deepcopy=False)
    ]


def replicates(study: Study) -> list[optuna.trial.FrozenTrial]:
    found = Stores(STORAGE).optuna_study(f"{study.name}.replicates")
    assert found is not None
    return found.get_trials(deepcopy=False)


def run_id(study: Study, number: int) -> str:
    """Of a trial of the search."""
    return stored(study).get_trials(deepcopy=False)[number].user_attrs["mlflow_run_id"]


def parent_id(study: Study) -> str:
    return stored(study).user_attrs["mlflow_run_id"]


def purge(run: str) -> None:
    """What ``mlflow gc`` does to a deleted run, but for its files."""
    connect(None)._tracking_client.store._hard_delete_run(run)


def sql(statement: str, *values: object) -> None:
    with contextlib.closing(sqlite3.connect("mlflow.db")) as connection, connection:
        assert connection.execute(statement, values).rowcount > 0


def journal(change: Callable[[dict], dict | None]) -> None:
    """Change, or with None remove, lines of Optuna's journal."""
    lines = [json.loads(line) for line in Path(STORAGE).read_text().splitlines()]
    changed = [change(line) for line in lines]
    assert changed != lines or None in changed
    Path(STORAGE).write_text("".join(json.dumps(line) + "\n" for line in changed if line is not None))


def curve(run: str, name: str = "val_accuracy") -> dict[int, float]:
    return {point.step: point.value for point in connect(None).get_metric_history(run, name)}


def checkpoint(run: str) -> Path:
    return next(Path("mlruns").rglob(f"{run}/artifacts/checkpoint.safetensors"))


def start_run(study: Study, number: int) -> str:
    """A run for a trial of this number, as a killed search leaves it."""
    client = connect(None)
    tags = {
        "searchlib.kind": "trial",
        "mlflow.parentRunId": parent_id(study),
        "optuna.study_name": study.name,
        "optuna.trial_number": str(number),
    }
    return client.create_run(client.get_experiment_by_name(study.name).experiment_id, tags=tags).info.run_id


def test_a_finished_study_agrees(study: Study) -> None:
    found = look(study)
    assert found.differences == []
    assert (found.trials, found.replicates, found.runs) == (4, 8, 12)
    assert found.checkpoints == len(list(Path("mlruns").rglob("checkpoint.safetensors"))) > 1
    assert list(found.lines()) == [
        f"4 trials, 8 replicates, 12 runs, {found.checkpoints} checkpoints, the champion and the ledger agree"
    ]
    assert mend(study) == found


# ------------------------------------------------------------------------------------------- what repair repairs


def run_deleted(study: Study) -> None:
    connect(None).delete_run(run_id(study, 1))


def run_purged(study: Study) -> None:
    purge(replicates(study)[2].user_attrs["mlflow_run_id"])


def run_without_a_trial(study: Study) -> None:
    start_run(study, 99)


def second_run_of_a_trial(study: Study) -> None:
    start_run(study, 2)


def curve_cut_short(study: Study) -> None:
    sql("DELETE FROM metrics WHERE run_uuid = ? AND key = 'val_accuracy' AND step = 2", run_id(study, 1))


def curve_altered(study: Study) -> None:
    sql("UPDATE metrics SET value = 0.125 WHERE run_uuid = ? AND key = 'val_accuracy' AND step = 1", run_id(study, 2))


def best_missing(study: Study) -> None:
    sql("DELETE FROM latest_metrics WHERE run_uuid = ? AND key = 'best_val_accuracy'", run_id(study, 0))


def status_differs(study: Study) -> None:
    connect(None).set_terminated(run_id(study, 3), "FAILED")


def run_left_running(study: Study) -> None:
    sql("UPDATE runs SET status = 'RUNNING', end_time = NULL WHERE run_uuid = ?", run_id(study, 3))


def outcome_differs(study: Study) -> None:
    connect(None).set_tag(replicates(study)[5].user_attrs["mlflow_run_id"], "searchlib.outcome", "pruned")


def parent_left_running(study: Study) -> None:
    connect(None).update_run(parent_id(study), status="RUNNING")


def parameter_altered(study: Study) -> None:
    sql("UPDATE params SET value = '7' WHERE run_uuid = ? AND key = 'batch_size'", run_id(study, 3))


def parameter_missing(study: Study) -> None:
    sql("DELETE FROM params WHERE run_uuid = ? AND key = 'batch_size'", run_id(study, 3))


def parent_deleted(study: Study) -> None:
    connect(None).delete_run(parent_id(study))


def another_champion(study: Study) -> None:
    client = connect(None)
    source = client.get_model_version_by_alias("small", "champion").source
    made = client.create_model_version("small", source, tags={"searchlib.checkpoint": "0" * 64})
    client.set_registered_model_alias("small", "champion", made.version)


def champion_files_gone(study: Study) -> None:
    shutil.rmtree(connect(None).get_model_version_by_alias("small", "champion").source)


def champion_not_noted(study: Study) -> None:
    stored(study).set_user_attr("champion_checkpoint", None)


def figure_altered(study: Study) -> None:
    connect(None).log_metric(parent_id(study), "test_accuracy", 0.999)


def ledger_tag_altered(study: Study) -> None:
    connect(None).set_tag(parent_id(study), "searchlib.test.trial", "77")


MENDABLE: dict[Callable[[Study], None], tuple[str, str, int | None]] = {
    run_deleted: ("run", "small", 1),
    run_purged: ("run", "small.replicates", 2),
    run_without_a_trial: ("extra run", "small", None),
    second_run_of_a_trial: ("extra run", "small", 2),
    curve_cut_short: ("curve", "small", 1),
    curve_altered: ("curve", "small", 2),
    best_missing: ("curve", "small", 0),
    status_differs: ("status", "small", 3),
    run_left_running: ("status", "small", 3),
    outcome_differs: ("status", "small.replicates", 5),
    parent_left_running: ("status", "small", None),
    parameter_altered: ("parameters", "small", 3),
    parameter_missing: ("parameters", "small", 3),
    parent_deleted: ("parent run", "small", None),
    another_champion: ("champion", "small", -1),
    champion_files_gone: ("champion", "small", -1),
    champion_not_noted: ("champion", "small", -1),
    figure_altered: ("ledger", "small", -1),
    ledger_tag_altered: ("ledger", "small", -1),
}


@pytest.mark.parametrize("damage", MENDABLE, ids=lambda damage: damage.__name__)
def test_each_difference_is_found_and_repaired(damage: Callable[[Study], None], study: Study) -> None:
    what, home, number = MENDABLE[damage]
    before = trials_of(study)
    damage(study)
    number = stored(study).user_attrs["test_ledger"]["trial"] if number == -1 else number
    found = look(study)
    assert kinds(found) == [(what, home, number, True)]
    done = mend(study)
    assert (done.differences, done.mended) == ([], found.differences)
    assert trials_of(study) == before


def test_all_of_it_at_once(study: Study) -> None:
    before = trials_of(study)
    alone = (parent_deleted, parameter_missing, run_left_running)  # on a run that another damage is done to
    for damage in MENDABLE:
        if damage not in alone:
            damage(study)
    expected = {(what, home) for damage, (what, home, _) in MENDABLE.items() if damage not in alone}
    found = look(study)
    assert {(each.what, each.study) for each in found.differences} == expected
    assert look(study) == found, "looking changes nothing"
    assert mend(study).differences == []
    assert look(study).differences == []
    assert trials_of(study) == before


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
    number, old = 3, run_id(study, 3)
    losses = curve(old, "train_loss")
    parameter_altered(study)
    mend(study)
    client = connect(None)
    assert client.get_run(old).info.lifecycle_stage == "deleted"
    experiment = client.get_experiment_by_name("small").experiment_id
    (new,) = client.search_runs([experiment], f"tags.`{REPLACES}` = '{old}'")
    assert new.data.tags["optuna.trial_number"] == str(number)
    assert new.data.params["batch_size"] == str(stored(study).trials[number].params["batch_size"])
    assert curve(new.info.run_id, "train_loss") == losses


def test_two_optuna_storages_share_one_mlflow_store() -> None:
    """Each has runs of its own there, and neither search nor repair touches the other's."""
    study = small_study(trials=4)
    run(study)
    first = {found.info.run_id for found in runs_of(study)}
    steps = search(study, Stores(storage="other.journal"))
    next(steps)
    steps.close()
    search_all(study, Stores(storage="other.journal"))
    assert repair(study, Stores(storage="other.journal", data_root=Path("data"))).mended == []
    assert look(study).differences == []
    everything = {found.info.run_id for found in runs_of(study)}
    assert first < everything
    assert len(everything) == 2 * len(first) == 10


def runs_of(study: Study) -> list:
    client = connect(None)
    return list(client.search_runs([client.get_experiment_by_name(study.name).experiment_id]))


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
    client = connect("sqlite:///other.db")
    runs = client.search_runs([client.get_experiment_by_name("small").experiment_id])
    assert len(runs) == 13


def test_on_a_server_a_lost_run_gets_another_id(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is reached through MLflow's client alone chooses ids itself."""
    monkeypatch.setattr(tracking, "store_of", lambda uri: None)
    trial = next(trial for trial in replicates(study) if "checkpoint_sha256" not in trial.user_attrs)
    lost = trial.user_attrs["mlflow_run_id"]
    purge(lost)
    assert [each.what for each in mend(study).mended] == ["run"]
    client = connect(None)
    experiment = client.get_experiment_by_name("small").experiment_id
    (heir,) = client.search_runs([experiment], f"tags.`{REPLACES}` = '{lost}'")
    assert curve(heir.info.run_id) == trial.intermediate_values

    client.delete_tag(heir.info.run_id, REPLACES)  # now it is a run of the trial's number that nobody knows
    found = look(study)
    assert kinds(found) == [("run", "small.replicates", trial.number, True)]
    assert f"run {heir.info.run_id} of the same number" in found.differences[0].problem
    assert mend(study).differences == []
    assert client.get_run(heir.info.run_id).data.tags[REPLACES] == lost


# -------------------------------------------------------------------------------------- what repair can't mend


def champion_run(study: Study) -> str:
    return stored(study).user_attrs["test_ledger"]["run_id"]


def champion_altered(study: Study) -> None:
    path = checkpoint(champion_run(study))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def checkpoint_missing(study: Study) -> None:
    kept = [t.user_attrs["mlflow_run_id"] for t in stored(study).trials if "checkpoint_sha256" in t.user_attrs]
    checkpoint(kept[0]).unlink()


def curve_longer(study: Study) -> None:
    connect(None).log_metric(run_id(study, 1), "val_accuracy", 0.5, step=3)


def losses_cut_short(study: Study) -> None:
    sql("DELETE FROM metrics WHERE run_uuid = ? AND key = 'train_loss' AND step = 2", run_id(study, 1))


def training_accuracy_cut_short(study: Study) -> None:
    sql("DELETE FROM metrics WHERE run_uuid = ? AND key = 'train_accuracy' AND step = 2", run_id(study, 1))


def evaluations_cut_short(study: Study) -> None:
    sql("DELETE FROM metrics WHERE run_uuid = ? AND key = 'step_val_accuracy' AND step = 10", run_id(study, 1))


def claim_without_a_result(study: Study) -> None:
    ledger = stored(study).user_attrs["test_ledger"]
    claim = {name: value for name, value in ledger.items() if name not in ("finished_at", "result")}
    stored(study).set_user_attr("test_ledger", claim)


def ledger_lost(study: Study) -> None:
    stored(study).set_user_attr("test_ledger", None)


def epochs_not_noted(study: Study) -> None:
    journal(lambda line: None if line.get("trial_id") == 1 and "epochs_run" in line.get("user_attr", {}) else line)


def run_not_noted(study: Study) -> None:
    """The run is there, and known by its tags."""
    journal(lambda line: None if line.get("trial_id") == 1 and "mlflow_run_id" in line.get("user_attr", {}) else line)


def seed_altered(study: Study) -> None:
    def change(line: dict) -> dict:
        if line["op_code"] == 4 and line["user_attrs"].get("source") is None:
            line = {**line, "user_attrs": {**line["user_attrs"], "seed": 5}}
        return line

    journal(change)


def value_altered(study: Study) -> None:
    journal(lambda line: {**line, "values": [0.015625]} if line["op_code"] == 6 and line["trial_id"] == 1 else line)


HOPELESS: dict[Callable[[Study], None], tuple[str, str]] = {
    champion_altered: ("checkpoint", "it is the champion's: restore the file from a backup, or save the study under"),
    checkpoint_missing: ("checkpoint", "isn't the champion's: leave it"),
    curve_longer: ("curve", "Optuna changes no finished trial"),
    losses_cut_short: ("curve", "Optuna holds the objective only"),
    training_accuracy_cut_short: ("curve", "Optuna holds the objective only"),
    evaluations_cut_short: ("curve", "Optuna doesn't hold them"),
    claim_without_a_result: ("ledger", "searchlib evaluate --study small finishes it, with the same checkpoint"),
    ledger_lost: ("ledger", "restore Optuna's storage from a backup"),
    epochs_not_noted: ("trial", "Optuna changes no finished trial"),
    run_not_noted: ("trial", "Optuna changes no finished trial"),
    seed_altered: ("trial", "Optuna changes no finished trial"),
    value_altered: ("trial", "Optuna changes no finished trial"),
}


@pytest.mark.parametrize("damage", HOPELESS, ids=lambda damage: damage.__name__)
def test_what_cannot_be_repaired_is_said(damage: Callable[[Study], None], study: Study) -> None:
    what, remedy = HOPELESS[damage]
    damage(study)
    before = trials_of(study)
    found = [each for each in look(study).differences if each.what == what and remedy in each.remedy]
    assert found, look(study)
    assert not any(each.repairable for each in found)
    left = mend(study).differences
    assert set(found) <= set(left)
    assert not any(each.repairable for each in left)
    assert trials_of(study) == before


def test_a_claim_is_finished_by_evaluate(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    claim_without_a_result(study)
    assert kinds(look(study))[0][0] == "ledger"
    with monkeypatch.context() as patch:
        patch.setattr(holdout, "load_test", data.load_test)
        holdout.evaluate(study, Stores(STORAGE))
    assert look(study).differences == []


def test_an_altered_checkpoint_makes_no_new_champion(study: Study) -> None:
    champion_altered(study)
    another_champion(study)
    found = {each.what: each for each in mend(study).differences}
    assert set(found) == {"checkpoint", "champion"}
    assert "restore the trial's checkpoint first" in found["champion"].remedy


def test_a_champion_that_is_not_the_best(study: Study) -> None:
    """A better trial that came after the ledger, by whatever hand."""
    best = stored(study).trials[0]
    stored(study).add_trial(
        create_trial(
            state=TrialState.COMPLETE,
            params=best.params,
            distributions=best.distributions,
            value=1.5,
            intermediate_values={1: 0.5, 2: 1.5},  # better than any can be
            user_attrs={**best.user_attrs, "best_epoch": 2, "checkpoint_sha256": "0" * 64},
        )
    )
    found = {each.what: each for each in look(study).differences}
    assert "the test set was opened for it, and by what Optuna has now trial 4" in found["champion"].problem
    assert not found["champion"].repairable
    assert "its seed is" in found["trial"].problem, "the seed of a trial is that of its number"


# ------------------------------------------------------------------------------------------- other studies


def wave(root: Path) -> Examples:
    x = torch.linspace(0, 1, 120)[:, None]
    return Examples(inputs=x, targets=(6 * x).sin())


def sometimes_broken(config, dataset) -> torch.nn.Module:
    width = 7 if config.learning_rate > 0.5 else 36
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(width, 3))


ONE_CELL = {"scientific": {"initializer": Choice("xavier_normal")}, "round_size": 8}
OTHERS = {
    "pruned": {**ONE_CELL, "pruner": "within_cell", "trials": 8},
    "diverged": {**ONE_CELL, "nuisance": {"learning_rate": Choice(0.1, 1e30)}, "sampler": "grid", "trials": 2},
    "failed": {
        **ONE_CELL,
        "model": sometimes_broken,
        "nuisance": {"learning_rate": Choice(0.1, 0.9)},
        "sampler": "grid",
        "trials": 2,
    },
    "regression": {
        **ONE_CELL,
        "dataset": Dataset(name="wave", shape=(1,), scale=1.0, train=wave, test=wave, task="regression"),
        "nuisance": {"learning_rate": LogUniform(1e-4, 1e-1)},
        "fixed": {"optimizer": "adam", "epochs": 3},
        "trials": 2,
        "replicates": 1,
    },
}


@pytest.mark.parametrize("kind", OTHERS)
def test_studies_of_every_kind(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They agree when they end, not evaluated; and again after all of their runs were purged and written again."""
    forbid_test_data(monkeypatch)
    study = small_study(**OTHERS[kind])
    run(study)
    found = look(study)
    assert found.differences == []
    assert list(found.lines())[-1].endswith("agree; the test set is sealed")
    before = trials_of(study)
    outcomes = [attributes["outcome"] for *_, attributes, _ in before]
    assert kind == "regression" or kind in outcomes
    for *_, attributes, _ in before:
        purge(attributes["mlflow_run_id"])
    assert len(look(study).differences) == len(before)
    assert mend(study).differences == []
    assert trials_of(study) == before
    statuses = [connect(None).get_run(attributes["mlflow_run_id"]).info.status for *_, attributes, _ in before]
    assert statuses == [{"pruned": "KILLED", "failed": "FAILED"}.get(outcome, "FINISHED") for outcome in outcomes]


def test_a_database_with_a_gap_in_its_numbers() -> None:
    study, place = small_study(trials=4), "sqlite:///optuna.db"
    prepare()
    search_all(study, Stores(storage=place))
    assert verify(study, Stores(storage=place)).differences == []
    found = Stores(place).optuna_study("small")
    assert found is not None
    number = next(number for number in (1, 2) if number != found.best_trial.number)
    with contextlib.closing(sqlite3.connect("optuna.db")) as connection, connection:
        connection.execute("DELETE FROM trials WHERE number = ?", (number,))
    after = verify(study, Stores(storage=place))
    assert kinds(after) == [("trial", "small", None, False), ("extra run", "small", None, True)]
    assert f"lacks the numbers {number}" in after.differences[0].problem


def test_an_interrupted_study_is_no_fault() -> None:
    """Its trials go on; a run that such a trial may have is discarded then."""
    study = small_study(trials=12)
    prepare()
    steps = search(study)
    for _ in itertools.takewhile(lambda at: at.done < 4 or at.epoch > 1, steps):
        pass
    steps.close()
    unfinished = [trial.number for trial in stored(study).trials if not trial.state.is_finished()]
    assert unfinished
    start_run(study, unfinished[0])
    connect(None).update_run(parent_id(study), status="RUNNING")  # as SIGKILL leaves it
    found = mend(study)
    assert [each.remedy for each in found.mended] == ["sets it to KILLED"]
    assert found.differences == []
    assert "unfinished" in found.notes[0]
    assert found.notes[0].endswith("): searchlib optimize --study small resumes them")
    run(study)
    after = look(study)
    assert (after.differences, after.notes, after.runs) == ([], [], 12)


def test_a_lost_parent_run_is_made_again() -> None:
    study = small_study(trials=4)
    run(study)
    lost = parent_id(study)
    purge(lost)
    assert ("parent run", "small", None, True) in kinds(look(study))
    assert mend(study).differences == []
    assert parent_id(study) != lost
    parents = {
        found.data.tags["mlflow.parentRunId"]
        for found in connect(None).search_runs([connect(None).get_experiment_by_name("small").experiment_id])
        if found.data.tags["searchlib.kind"] == "trial"
    }
    assert parents == {parent_id(study)}


def test_what_is_refused() -> None:
    prepare()
    with pytest.raises(StorageError, match="'small' has not begun: .*searchlib optimize --study small"):
        look(small_study())
    study = small_study(trials=4)
    run(study)
    with pytest.raises(StudyError, match="momentum.*0.9.*0.5"):
        look(small_study(fixed={"momentum": 0.5, "epochs": 2}))
    with Stores(STORAGE).lock("small", "optimize"), pytest.raises(BusyError, match="process"):
        look(study)


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
    status_differs(study)
    assert command(study, monkeypatch) == 1
    assert (
        capsys.readouterr().err
        == "Error: 1 difference in study 'small'; run searchlib verify --study small --repair to repair it\n"
    )
    checkpoint_missing(study)
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
