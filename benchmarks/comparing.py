"""Whether two runs of one study ended alike: all that their stores hold, but for times, identifiers and places.

For whatever kills a search and goes on with it: the tests, and the soak.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from searchlib.stores.companions import STUDY_UID
from searchlib.stores.storage import replicates_name
from searchlib.stores.stores import Stores
from searchlib.stores.tracking import CHECKPOINT, Tracker
from searchlib.study.study import Study

__all__ = ["count_trials", "differences", "record"]

DELETED = "deleted runs"  # a search may leave some, if it was killed; they are counted, and not compared
LEDGER = ("trial", "replicate", "result")
RESULT = ("trial", "replicate", "n", "loss", "accuracy", "correct", "low", "high", "confusion")
OWN_TAGS = (
    "mlflow.parentRunId",
    "mlflow.source.",
    "searchlib.test.",
    "searchlib.git.",
    "searchlib.study_uid",
)  # of a place, a time, a run
ABSENT = "nothing"


def record(study: Study, *, storage: str, tracking_uri: str | None = None) -> dict[str, Any]:
    """What the stores hold of *study*, in JSON's types. MLflow's artifacts must be files of this machine."""
    with Tracker(study, Stores(storage, tracking_uri)) as tracker:
        runs = _runs(tracker)
        names = {run["id"]: run["of"] for run in runs}
        optuna = {name: _study(name, storage, names) for name in (study.name, replicates_name(study))}
        checkpoints = {
            trial.user_attrs["mlflow_run_id"]: trial.user_attrs.get("checkpoint_sha256")
            for name in optuna
            for trial in _trials(name, storage)
            if "mlflow_run_id" in trial.user_attrs
        }
        mlflow: dict[str, list[dict[str, Any]]] = {}
        histories = tracker.histories([run["id"] for run in runs if not run["deleted"]])
        for run in runs:
            if not run["deleted"]:
                found = _run(tracker, run, histories[run["id"]], checkpoints.get(run["id"]))
                mlflow.setdefault(run["of"], []).append(found)
        made = {
            "optuna": optuna,
            "mlflow": mlflow,
            "champion": _champion(tracker),
            DELETED: sum(run["deleted"] for run in runs),
        }
    plain: dict[str, Any] = json.loads(json.dumps(made))
    return plain


def differences(expected: Any, found: Any, place: str = "") -> list[str]:
    """Where two records differ, a line each; none where they are alike."""
    if isinstance(expected, dict) and isinstance(found, dict):
        keys = sorted({*expected, *found} - {DELETED})
        pairs = [(key, expected.get(key, ABSENT), found.get(key, ABSENT)) for key in keys]
    elif isinstance(expected, list) and isinstance(found, list):
        if len(expected) != len(found):
            return [f"{place}: {len(expected)} of {_short(expected)} became {len(found)}"]
        pairs = [(str(number), *both) for number, both in enumerate(zip(expected, found, strict=True))]
    else:
        return [] if expected == found else [f"{place}: {_short(expected)} became {_short(found)}"]
    lines = []
    for key, before, after in pairs:
        lines += differences(before, after, f"{place}/{key}" if place else key)
    return lines


def count_trials(of: Mapping[str, Any]) -> int:
    """The trials and replicates in a record."""
    return sum(len(study["trials"]) for study in of["optuna"].values())


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else text[:197] + "..."


def _trials(name: str, storage: str) -> list[Any]:
    found = Stores(storage).optuna_study(name)
    return found.get_trials(deepcopy=False) if found else []


def _study(name: str, storage: str, runs: Mapping[str, str]) -> dict[str, Any]:
    """An Optuna study: its trials by number, what is noted of it, and whether its ledger is in itself right."""
    found = Stores(storage).optuna_study(name)
    if found is None:
        return {"trials": {}}
    attributes = dict(found.user_attrs)
    for drawn in ("uid", STUDY_UID):
        attributes.pop(drawn, None)
    parent, ledger = attributes.pop("mlflow_run_id", None), attributes.pop("test_ledger", None) or {}
    published = attributes.pop("champion_checkpoint", None)
    return {
        "trials": {str(trial.number): _trial(trial, runs) for trial in found.get_trials(deepcopy=False)},
        "attributes": attributes,
        "parent": runs.get(parent, ABSENT) if parent else None,
        "ledger": {key: ledger[key] for key in LEDGER if key in ledger}
        | ({"result": {key: ledger["result"].get(key) for key in RESULT}} if ledger.get("result") else {})
        | {"replicates": [[row[0], *row[3:]] for row in ledger.get("replicates") or ()]},
        "published": published is not None and published == ledger.get("checkpoint_sha256"),
        "evaluated run": runs.get(ledger.get("run_id", ""), ABSENT),
    }


def _trial(trial: Any, runs: Mapping[str, str]) -> dict[str, Any]:
    attributes = dict(trial.user_attrs)
    run = attributes.pop("mlflow_run_id", None)
    return {
        "state": trial.state.name,
        "params": trial.params,
        "values": trial.values,
        "reported": {str(step): value for step, value in sorted(trial.intermediate_values.items())},
        "checkpoint": bool(attributes.pop("checkpoint_sha256", None)),
        "attributes": attributes,
        "notes": trial.system_attrs,
        "run": runs.get(run, ABSENT) if run else None,
    }


def _runs(tracker: Tracker) -> list[dict[str, Any]]:
    """All runs of the experiment, the deleted ones too, each with what it is of."""
    from mlflow.entities import ViewType

    found: list[dict[str, Any]] = []
    if not tracker.experiment:
        return found
    token = None
    while True:
        page = tracker.client.search_runs([tracker.experiment], run_view_type=ViewType.ALL, page_token=token)
        for run in page:
            tags = run.data.tags
            of = " ".join(
                tags[key] for key in ("searchlib.kind", "optuna.study_name", "optuna.trial_number") if key in tags
            )
            deleted = run.info.lifecycle_stage == "deleted"
            of = f"{of} (deleted)" if deleted else of
            found.append({"id": run.info.run_id, "of": of, "deleted": deleted, "run": run})
        token = page.token
        if not token:
            return found


def _run(
    tracker: Tracker, found: Mapping[str, Any], history: Mapping[str, list[tuple[int, float]]], sha256: str | None
) -> dict[str, Any]:
    run = found["run"]
    folder = Path(unquote(urlsplit(run.info.artifact_uri).path))
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    parent = run.data.tags.get("mlflow.parentRunId")
    outputs, inputs = run.outputs.model_outputs if run.outputs else [], run.inputs.dataset_inputs if run.inputs else []
    return {
        "name": run.info.run_name,
        "status": run.info.status,
        "over": run.info.end_time is not None,
        "below": parent and tracker.tags(parent)["searchlib.kind"],
        "tags": {key: value for key, value in sorted(run.data.tags.items()) if not key.startswith(OWN_TAGS)},
        "params": dict(sorted(run.data.params.items())),
        "metrics": {name: points for name, points in sorted(history.items()) if not name.startswith("system/")},
        "files": [str(path.relative_to(folder)) for path in files],
        "checkpoint": [_weights(path.read_bytes(), sha256) for path in files if path.name == CHECKPOINT],
        "inputs": sorted(f"{item.dataset.name} {item.dataset.digest}" for item in inputs),
        "models": len(outputs),
    }


def _weights(content: bytes, sha256: str | None) -> dict[str, Any]:
    """A checkpoint: the order of what its header says isn't the same in every process, its hash neither."""
    start = 8 + int.from_bytes(content[:8], "little")
    return {
        "header": json.loads(content[8:start]),
        "weights": hashlib.sha256(content[start:]).hexdigest(),
        "intact": hashlib.sha256(content).hexdigest() == sha256,
    }


def _champion(tracker: Tracker) -> dict[str, Any]:
    """The registered versions, which of them is the champion, and the stored models."""
    from mlflow.exceptions import MlflowException

    try:
        alias = tracker.client.get_model_version_by_alias(tracker.study.name, "champion").version
    except MlflowException:
        alias = None
    versions = tracker.client.search_model_versions(f"name = '{tracker.study.name}'")
    models = tracker.client.search_logged_models([tracker.experiment]) if tracker.experiment else []
    return {
        "versions": [
            {"trial": version.tags.get("searchlib.trial"), "champion": version.version == alias} for version in versions
        ],
        "models": sorted(str(model.status) for model in models),
    }
