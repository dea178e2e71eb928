"""The champion as a registered MLflow model: stored, registered, found again, asked for decisions.

The model is the network as a program of torch.export, checked against the network. Python code that depends on values
can't be exported; such a champion is its checkpoint alone, which the study's own code runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchlib.data import get_dataset
from searchlib.errors import Command, StudyError, TrackingError
from searchlib.files import temporary_folder
from searchlib.stores import UID_TAG, Tracker
from searchlib.training import restore

if TYPE_CHECKING:
    import torch
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

    from searchlib.study import Study

CHECKPOINT_TAG = "searchlib.checkpoint"  # the hash of the checkpoint that a model, or a version of it, was made from
PROGRAM_TAG = "searchlib.no_program"  # why such a model has no exported program
CHECKPOINT, TRIAL = "checkpoint.safetensors", "trial.json"  # the files of a model without a program
EXAMPLES = 4  # inputs that are stored with the model
LONGEST = 5000  # characters of a registered model's description, in MLflow's databases

FOREIGN = "rename or delete that model in MLflow, or give another --tracking-uri"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A network that may be the champion.

    predictor: from raw inputs to soft decisions or, of a regression, to outputs. content: its checkpoint; checkpoint:
    the hash of that. params: of its trial.
    """

    predictor: torch.nn.Module
    content: bytes
    checkpoint: str
    params: Mapping[str, Any]


def store_champion(tracker: Tracker, candidate: Candidate, inputs: torch.Tensor) -> LoggedModel:
    """*candidate* as an MLflow model of the parent run, stored unless it is; and the name to register it under.

    inputs: raw ones ``[n, *shape]`` from the training split, for the example of an input and to compare the exported
    program with the network. The model is this program and the source of ``champion_model``: nothing is pickled,
    nothing of searchlib is needed to load it. What a kill cut short is stored anew. TrackingError where that fails.
    """
    with tracker.errors("can't store the champion"):
        model = _model_made_from(tracker, candidate.checkpoint)
        if model is None:
            with temporary_folder() as folder:
                model = _store(tracker, candidate, inputs, folder)
        _name(tracker)
        return model


def register_champion(tracker: Tracker, candidate: Candidate, inputs: torch.Tensor, tags: dict[str, str]) -> str:
    """Make *candidate* a version of the study's registered model, with the alias ``champion``. May be repeated.

    tags: of the version, beside those that say what it was made from. Returns why it has no exported program; "" with
    one. TrackingError where MLflow fails.
    """
    with tracker.errors("can't register the champion"):
        version = _version_made_from(tracker, candidate.checkpoint)
        if version is None:
            model = store_champion(tracker, candidate, inputs)
            made = {name: model.tags[name] for name in (CHECKPOINT_TAG, PROGRAM_TAG) if name in model.tags}
            version = _register(tracker, model, {**tags, **made})
        tracker.client.set_registered_model_alias(tracker.study.name, "champion", str(version.version))
        return str(version.tags.get(PROGRAM_TAG, ""))


def _version_made_from(tracker: Tracker, checkpoint: str) -> ModelVersion | None:
    for found in tracker.client.search_model_versions(f"name = '{tracker.study.name}'"):
        if found.tags.get(CHECKPOINT_TAG) == checkpoint and tracker.artifacts.names(found.source):
            return found
    return None


def _model_made_from(tracker: Tracker, checkpoint: str) -> LoggedModel | None:
    """The stored model, if it is whole; what a killed process left half stored is deleted."""
    from mlflow.entities import LoggedModelStatus

    whole = None
    for model in tracker.client.search_logged_models([tracker.experiment]):
        if model.source_run_id == tracker.parent and model.tags.get(CHECKPOINT_TAG) == checkpoint:
            if model.status == LoggedModelStatus.READY and tracker.artifacts.names(model.artifact_location):
                whole = model
            elif model.status == LoggedModelStatus.PENDING:
                tracker.client.delete_logged_model(model.model_id)
    return whole


def _store(tracker: Tracker, candidate: Candidate, inputs: torch.Tensor, folder: Path) -> LoggedModel:
    import mlflow
    import numpy as np
    import torch
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    dataset = get_dataset(tracker.study.dataset)
    missing = _export(candidate.predictor, inputs, folder / "module.pt2")
    artifacts = {"module": str(folder / "module.pt2")}
    if missing:
        trial = {"params": dict(candidate.params), "identity": tracker.study.identity}
        (folder / CHECKPOINT).write_bytes(candidate.content)
        (folder / TRIAL).write_text(json.dumps(trial))
        artifacts = {name: str(folder / name) for name in (CHECKPOINT, TRIAL)}
    raw = inputs[:EXAMPLES].numpy()
    signature = ModelSignature(
        inputs=Schema([TensorSpec(raw.dtype, (-1, *dataset.shape))]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, dataset.outputs))]),
    )
    # The signature says what the model was made for; the model itself checks and converts other number types.
    signature._is_signature_from_type_hint = True
    logged = tracker.client.create_logged_model(
        tracker.experiment,
        name="champion",
        source_run_id=tracker.parent,
        tags={CHECKPOINT_TAG: candidate.checkpoint, **({PROGRAM_TAG: missing} if missing else {})},
    )
    versions = {"mlflow": mlflow.__version__, "torch": torch.__version__.split("+")[0], "numpy": np.__version__}
    try:
        mlflow.pyfunc.save_model(
            folder / "model",
            python_model=str(Path(__file__).with_name("champion_model.py")),
            artifacts=artifacts,
            model_config={"shape": list(dataset.shape), "scale": dataset.scale if raw.dtype.kind == "u" else 1.0},
            signature=signature,
            input_example=raw,
            pip_requirements=[f"{name}=={version}" for name, version in versions.items()],
            mlflow_model=Model(
                artifact_path=logged.artifact_location,
                model_uuid=logged.model_id,
                run_id=tracker.parent,
                model_id=logged.model_id,
            ),
        )
        tracker.artifacts.repository(logged.artifact_location).log_artifacts(str(folder / "model"))
    except BaseException:
        tracker.client.finalize_logged_model(logged.model_id, "FAILED")
        raise
    return tracker.client.finalize_logged_model(logged.model_id, "READY")


def _export(predictor: torch.nn.Module, inputs: torch.Tensor, file: Path) -> str:
    """Write *predictor* as a program of torch.export; "", or why there is none: it can't be exported, or differs."""
    import torch

    try:
        with _silence():
            exported = torch.export.export(
                predictor, (inputs[:EXAMPLES].float(),), dynamic_shapes=({0: torch.export.Dim("batch")},)
            )
            exported.example_inputs = None  # the archive would hold them pickled
            torch.export.save(exported, file)
            program = torch.export.load(file).module()
    except OSError:
        raise
    except Exception as error:  # torch has many classes for it
        return f"torch.export can't export its module ({' '.join(str(error).split())[:120]})"
    for batch in (inputs, inputs[:1]):
        try:
            with torch.no_grad():
                found, expected = (_seeded(network, batch) for network in (program, predictor))
            same = torch.allclose(found, expected, rtol=1e-3, atol=1e-4, equal_nan=True)
        except Exception:  # it may be bound to the example's shape
            same = False
        if not same:
            return f"the exported program differs from its module for a batch of {len(batch)}"
    return ""


def _seeded(network: torch.nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """The outputs of a network that may draw random numbers, always the same."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        outputs: torch.Tensor = network(inputs.float())
        return outputs


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Without what torch prints and logs of a module that it can't export."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def _name(tracker: Tracker) -> None:
    """Create the study's registered model, which has no version before the test set was opened."""
    from mlflow.exceptions import MlflowException

    try:
        tracker.client.create_registered_model(tracker.study.name, description=tracker.study.question[:LONGEST])
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _register(tracker: Tracker, model: LoggedModel, tags: dict[str, str]) -> ModelVersion:
    from mlflow.entities import LoggedModelOutput

    outputs = tracker.client.get_run(tracker.parent).outputs
    if model.model_id not in {output.model_id for output in (outputs.model_outputs if outputs else ())}:
        tracker.client.log_outputs(tracker.parent, [LoggedModelOutput(model.model_id, step=0)])
    return tracker.client.create_model_version(
        tracker.study.name,
        source=model.artifact_location,  # a models:/ address is looked up in MLflow's global store
        run_id=tracker.parent,
        model_id=model.model_id,
        tags=tags,
    )


@dataclass(frozen=True, kw_only=True)
class RegisteredChampion:
    """The version of the study's registered model that has the alias ``champion``.

    checkpoint: the hash of the checkpoint that it was made from. replicate: which replicate it is, None for a trial of
    the search. search: which of the study's searches found its configuration (1 where no split depends on that).
    source: the address of its files. foreign: whether it isn't of this study, but of another one of its name or of
    another program. no_program: why it is stored without an exported program; "" with.
    """

    checkpoint: str
    replicate: int | None
    search: int
    source: str
    foreign: bool
    no_program: str = ""


def registered_champion(tracker: Tracker) -> RegisteredChampion | None:
    """The registered champion; None where there is none, or the files of the study's own are gone."""
    from mlflow.exceptions import MlflowException

    with tracker.errors("can't be read"):
        try:
            version = tracker.client.get_model_version_by_alias(tracker.study.name, "champion")
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # no model, no alias
                return None
            raise
        replicate = version.tags.get("searchlib.replicate")
        champion = RegisteredChampion(
            checkpoint=version.tags.get(CHECKPOINT_TAG, "unknown"),
            replicate=int(replicate) if replicate else None,
            search=int(version.tags.get("searchlib.search", 1)),
            source=version.source,
            foreign=_is_foreign(tracker, version),
            no_program=version.tags.get(PROGRAM_TAG, ""),
        )
        return champion if champion.foreign or tracker.artifacts.names(champion.source) else None


def _is_foreign(tracker: Tracker, version: ModelVersion) -> bool:
    """By the uid that it carries or, as earlier versions wrote none, by that of its parent run, if MLflow has that."""
    from mlflow.exceptions import MlflowException

    if CHECKPOINT_TAG not in version.tags:
        return True
    uid = version.tags.get(UID_TAG)
    if uid is None and version.run_id:
        try:
            uid = tracker.uid_of(tracker.client.get_run(version.run_id))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
    return None not in (uid, tracker.uid) and uid != tracker.uid


def refuse_foreign(tracker: Tracker) -> RegisteredChampion | None:
    """The registered champion of this study; TrackingError where MLflow has another one under the study's name."""
    champion = registered_champion(tracker)
    if champion is not None and champion.foreign:
        raise TrackingError(
            f"MLflow's registered model {tracker.study.name!r} has a champion that isn't of this study; {FOREIGN}"
        )
    return champion


def predict(tracker: Tracker, inputs: Any) -> Any:
    """The champion's soft decisions ``[N, classes]``, or outputs of a regression, for raw inputs ``[N, *shape]``."""
    import mlflow

    champion = refuse_foreign(tracker)
    if champion is None:
        name = tracker.study.name
        first, again = Command("evaluate", name), Command("verify", name, ("--repair",))
        raise TrackingError(f"MLflow has no champion of study {name!r}; run ", first, ", or if it was deleted ", again)
    with tracker.errors("can't read the champion"), tracker.artifacts.opened(champion.source) as folder:
        if champion.no_program:
            return _run(tracker.study, folder / "artifacts", champion.checkpoint, inputs)
        # load_model by a registry URI has no argument for the store; the files' own folder needs none
        return mlflow.pyfunc.load_model(str(folder)).predict(inputs)


def _run(study: Study, folder: Path, checkpoint: str, inputs: Any) -> Any:
    """The same from a champion without an exported program: by the study's code, if that is still the same."""
    import torch

    trial, content = json.loads((folder / TRIAL).read_text()), (folder / CHECKPOINT).read_bytes()
    if trial["identity"] != study.identity or hashlib.sha256(content).hexdigest() != checkpoint:
        raise StudyError(
            f"study {study.name!r} or its champion's checkpoint has changed since the test, and the champion has no "
            "exported program; restore the study file"
        )
    dataset = get_dataset(study.dataset)
    classify = dataset.task == "classification"
    network = restore(content, study.model, study.config(trial["params"]), dataset, classify=classify)
    with torch.no_grad():
        return network(torch.from_numpy(inputs)).numpy()
