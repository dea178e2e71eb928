"""Real damage to the real stores of a study: through MLflow's client, to its tables, to files, to Optuna's journal."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

from searchlib import Study
from searchlib.results.verification import Verification, repair, verify
from searchlib.stores.mlflow_store import connect
from searchlib.stores.stores import Stores
from support import STORAGE, replicates, stored


def look(study: Study) -> Verification:
    return verify(study, Stores(STORAGE))


def mend(study: Study) -> Verification:
    return repair(study, Stores(STORAGE))


def kinds(found: Verification) -> list[tuple[str, str, int | None, bool]]:
    return [(each.what, each.study, each.trial, each.repairable) for each in found.differences]


def trials_of(study: Study) -> list[tuple]:
    """All that Optuna holds of the trials of the search and of the replicates."""
    repeated = replicates(study) if study.replicates else []
    return [
        (t.number, t.state, t.params, t.values, t.intermediate_values, t.user_attrs, t.system_attrs)
        for t in [*stored(study).get_trials(deepcopy=False), *repeated]
    ]


def run_id(study: Study, number: int) -> str:
    """Of a trial of the search."""
    return stored(study).get_trials(deepcopy=False)[number].user_attrs["mlflow_run_id"]


def replicate_run(study: Study, number: int) -> str:
    return replicates(study)[number].user_attrs["mlflow_run_id"]


def parent_id(study: Study) -> str:
    return stored(study).user_attrs["mlflow_run_id"]


def champion_run(study: Study) -> str:
    return stored(study).user_attrs["test_ledger"]["run_id"]


def checkpoint(run: str) -> Path:
    return next(Path("mlruns").rglob(f"{run}/artifacts/checkpoint.safetensors"))


# ------------------------------------------------------------------------------------------------------ kinds of damage


def put_database(content: Path) -> None:
    """Make MLflow's database one with that of *content*, so that its open connections see it."""
    with contextlib.closing(sqlite3.connect(content)) as new, contextlib.closing(sqlite3.connect("mlflow.db")) as old:
        new.backup(old)


def sql(statement: str, *values: object) -> None:
    """A statement that changes MLflow's database."""
    with contextlib.closing(sqlite3.connect("mlflow.db")) as connection, connection:
        assert connection.execute(statement, values).rowcount > 0


def lose_point(run: str, name: str, step: int) -> None:
    sql("DELETE FROM metrics WHERE run_uuid = ? AND key = ? AND step = ?", run, name, step)


def journal(change: Callable[[dict], dict | None]) -> None:
    """Change, or with None remove, lines of Optuna's journal."""
    lines = [json.loads(line) for line in Path(STORAGE).read_text().splitlines()]
    changed = [change(line) for line in lines]
    assert changed != lines or None in changed
    Path(STORAGE).write_text("".join(json.dumps(line) + "\n" for line in changed if line is not None))


def lose_attribute(name: str) -> None:
    """Of the trial with id 1, from Optuna's journal."""
    journal(lambda line: None if line.get("trial_id") == 1 and name in line.get("user_attr", {}) else line)


def purge(run: str) -> None:
    """What ``mlflow gc`` does to a deleted run, but for its files."""
    connect(None)._tracking_client.store._hard_delete_run(run)


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


def alter(checkpoint: Path) -> None:
    """One bit of its last byte."""
    content = bytearray(checkpoint.read_bytes())
    content[-1] ^= 1
    checkpoint.write_bytes(content)


def lose_checkpoint(study: Study) -> None:
    """Of a trial that was kept, but isn't the champion's."""
    kept = [t.user_attrs["mlflow_run_id"] for t in stored(study).trials if "checkpoint_sha256" in t.user_attrs]
    checkpoint(kept[0]).unlink()


def register_another(study: Study) -> None:
    """Give the champion's alias to a model of another checkpoint."""
    client = connect(None)
    source = client.get_model_version_by_alias(study.name, "champion").source
    made = client.create_model_version(study.name, source, tags={"searchlib.checkpoint": "0" * 64})
    client.set_registered_model_alias(study.name, "champion", made.version)


def withdraw_result(study: Study) -> None:
    """Leave the ledger's claim as it is between the claim and the result."""
    ledger = stored(study).user_attrs["test_ledger"]
    claim = {name: value for name, value in ledger.items() if name not in ("finished_at", "result")}
    stored(study).set_user_attr("test_ledger", claim)
