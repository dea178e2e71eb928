"""The champion as a registered MLflow model: registered, found again, asked for decisions."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchlib.data import get_dataset
from searchlib.errors import Command, TrackingError
from searchlib.stores import UID_TAG, Tracker

if TYPE_CHECKING:
    import torch
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

CHECKPOINT_TAG = "searchlib.checkpoint"  # the hash of the checkpoint that a model, or a version of it, was made from

FOREIGN = "rename or delete that model in MLflow, or give another --tracking-uri"


def register_champion(tracker: Tracker, predictor: torch.nn.Module, example: torch.Tensor, tags: dict[str, str]) -> str:
    """Log *predictor* as an MLflow model on the parent run and point alias ``champion`` at it; its version.

    example: a few raw inputs ``[n, *shape]`` from the training split. tags: of the version; ``searchlib.checkpoint``
    says what it was made from. The model is stored as an exported graph and the source of ``champion_model``: nothing
    is pickled, nothing of searchlib is needed to load it. A registration that a kill cut short is completed.
    """
    with tracker.errors("can't store the champion"):
        checkpoint = tags[CHECKPOINT_TAG]
        version = _version_made_from(tracker, checkpoint)
        if version is None:
            model = _model_made_from(tracker, checkpoint)
            if model is None:
                with tempfile.TemporaryDirectory() as folder:
                    model = _store(tracker, predictor, example, checkpoint, Path(folder))
            version = _register(tracker, model, tags)
        tracker.client.set_registered_model_alias(tracker.study.name, "champion", version)
        return version


def _version_made_from(tracker: Tracker, checkpoint: str) -> str | None:
    for found in tracker.client.search_model_versions(f"name = '{tracker.study.name}'"):
        if found.tags.get(CHECKPOINT_TAG) == checkpoint and _has_files(tracker, found.source):
            return str(found.version)
    return None


def _has_files(tracker: Tracker, place: str) -> bool:
    import mlflow

    return bool(mlflow.artifacts.list_artifacts(artifact_uri=place, tracking_uri=tracker.client.tracking_uri))


def _model_made_from(tracker: Tracker, checkpoint: str) -> LoggedModel | None:
    """The stored model, if it is whole; what a killed process left half stored is deleted."""
    from mlflow.entities import LoggedModelStatus

    whole = None
    for model in tracker.client.search_logged_models([tracker.experiment]):
        if model.source_run_id == tracker.parent and model.tags.get(CHECKPOINT_TAG) == checkpoint:
            if model.status == LoggedModelStatus.READY and _has_files(tracker, model.artifact_location):
                whole = model
            elif model.status == LoggedModelStatus.PENDING:
                tracker.client.delete_logged_model(model.model_id)
    return whole


def _store(
    tracker: Tracker, predictor: torch.nn.Module, example: torch.Tensor, checkpoint: str, folder: Path
) -> LoggedModel:
    import mlflow
    import numpy as np
    import torch
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    dataset = get_dataset(tracker.study.dataset)
    exported = torch.export.export(predictor, (example.float(),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    exported.example_inputs = None  # the archive would hold them pickled
    torch.export.save(exported, folder / "module.pt2")
    raw = example.numpy()
    signature = ModelSignature(
        inputs=Schema([TensorSpec(raw.dtype, (-1, *dataset.shape))]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, dataset.outputs))]),
    )
    # The signature says what the model was made for; the model itself checks and converts other number types.
    signature._is_signature_from_type_hint = True
    logged = tracker.client.create_logged_model(
        tracker.experiment, name="champion", source_run_id=tracker.parent, tags={CHECKPOINT_TAG: checkpoint}
    )
    versions = {"mlflow": mlflow.__version__, "torch": torch.__version__.split("+")[0], "numpy": np.__version__}
    try:
        mlflow.pyfunc.save_model(
            folder / "model",
            python_model=str(Path(__file__).with_name("champion_model.py")),
            artifacts={"module": str(folder / "module.pt2")},
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
        tracker.client.log_model_artifacts(logged.model_id, str(folder / "model"))
    except BaseException:
        tracker.client.finalize_logged_model(logged.model_id, "FAILED")
        raise
    return tracker.client.finalize_logged_model(logged.model_id, "READY")


def _register(tracker: Tracker, model: LoggedModel, tags: dict[str, str]) -> str:
    from mlflow.entities import LoggedModelOutput
    from mlflow.exceptions import MlflowException

    outputs = tracker.client.get_run(tracker.parent).outputs
    if model.model_id not in {output.model_id for output in (outputs.model_outputs if outputs else ())}:
        tracker.client.log_outputs(tracker.parent, [LoggedModelOutput(model.model_id, step=0)])
    try:
        tracker.client.create_registered_model(tracker.study.name, description=tracker.study.question)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version: str = tracker.client.create_model_version(
        tracker.study.name,
        source=model.artifact_location,  # a models:/ address is looked up in MLflow's global store
        run_id=tracker.parent,
        model_id=model.model_id,
        tags=tags,
    ).version
    return version


@dataclass(frozen=True, kw_only=True)
class RegisteredChampion:
    """The version of the study's registered model that has the alias ``champion``.

    checkpoint: the hash of the checkpoint that it was made from. replicate: which replicate it is, None for a trial of
    the search. source: the address of its files. foreign: whether it isn't of this study, but of another one of its
    name or of another program.
    """

    checkpoint: str
    replicate: int | None
    source: str
    foreign: bool


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
            source=version.source,
            foreign=_is_foreign(tracker, version),
        )
        return champion if champion.foreign or _has_files(tracker, champion.source) else None


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
    with tracker.errors("can't read the champion"), tempfile.TemporaryDirectory() as folder:
        # load_model by a registry URI has no argument for the store; a local copy of the files needs none
        path = mlflow.artifacts.download_artifacts(
            artifact_uri=champion.source, dst_path=folder, tracking_uri=tracker.client.tracking_uri
        )
        return mlflow.pyfunc.load_model(path).predict(inputs)
