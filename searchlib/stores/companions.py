"""What in Optuna's storage belongs to a study: matched by identity, not by its name alone.

Each search study has a ``uid``. The Optuna study of its replicates carries it, as do its parent run in MLflow and its
registered model. Of the trials in an Optuna study those are the study's own that searchlib made, or that wait in the
queue: another program can add trials to any Optuna study.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from searchlib.errors import Command, Message, StorageError, StudyError
from searchlib.study import Primitive, Study, check_enqueued, refuse_if_changed

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

FIXED = "fixed_params"  # system attribute of Optuna's: the hyperparameters of a trial in its queue
STUDY_UID = "study_uid"  # user attribute of the replicates' Optuna study: the ``uid`` of the search that they repeat
OF_A_TRIAL = {"seed", "signature"}  # user attributes with which searchlib makes a trial of the search
OF_A_REPLICATE = {*OF_A_TRIAL, "source", "batch"}


def own_trials(search: optuna.Study) -> list[FrozenTrial]:
    """The trials of a search that are its own: those that searchlib made, and those that wait in Optuna's queue."""
    trials = search.get_trials(deepcopy=False)
    return [trial for trial in trials if trial.user_attrs.keys() >= OF_A_TRIAL or trial.state.name == "WAITING"]


def own_replicates(replicated: optuna.Study) -> list[FrozenTrial]:
    """The trials of a study of replicates that searchlib made."""
    return [trial for trial in replicated.get_trials(deepcopy=False) if _is_replicate(trial)]


def _is_replicate(trial: FrozenTrial) -> bool:
    return trial.user_attrs.keys() >= OF_A_REPLICATE and "replicate" in trial.params


def foreign_numbers(found: optuna.Study, own: Sequence[FrozenTrial]) -> tuple[int, ...]:
    """The numbers of the trials that another program made, by ``ask``, ``add_trial`` or ``optimize``."""
    numbers = {trial.number for trial in own}
    return tuple(trial.number for trial in found.get_trials(deepcopy=False) if trial.number not in numbers)


def enqueued_values(study: Study, trial: FrozenTrial) -> dict[str, Primitive]:
    """The hyperparameters with which a trial waits in Optuna's queue. StudyError where the study can't train them."""
    return check_enqueued(study, {**trial.system_attrs.get(FIXED, {}), **trial.params})


def check_queue(study: Study, trials: Iterable[FrozenTrial], *, begun: bool = True) -> None:
    """StudyError where one of *trials* waits in Optuna's queue and the study can't train it. begun: has the study?"""
    for trial in trials:
        if trial.state.name == "WAITING":
            try:
                enqueued_values(study, trial)
            except StudyError as error:
                remedy = Message("to withdraw it: ", Command("verify", study.name, ("--repair",)))
                if not begun:
                    remedy = Message("delete the Optuna study, and enqueue again")
                raise StudyError(
                    f"trial {trial.number} of study {study.name!r} was enqueued with {error}; ", remedy
                ) from None


def withdraw(search: optuna.Study, trial: FrozenTrial) -> None:
    """Take a trial out of Optuna's queue: it is failed then, and no trial of the study."""
    from optuna.trial import TrialState

    search._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)


def check_search(study: Study, search: optuna.Study) -> None:
    """StorageError where *search*, an Optuna study of the study's name, isn't the study's and can't become it."""
    stored = search.user_attrs.get("definition")
    if stored is not None:
        try:
            refuse_if_changed(study, stored)
        except StudyError:  # whoever needs the study as it was says so; the direction may have changed with it
            return
    elif any(trial.state.name != "WAITING" for trial in search.get_trials(deepcopy=False)):
        raise StorageError(
            f"the storage holds a study {study.name!r} that searchlib did not make; rename the study file or give "
            "another --storage"
        )
    _check_direction(study, search, "rename the study file, delete that study, or give another --storage")


def check_replicates(study: Study, search: optuna.Study | None, replicated: optuna.Study) -> None:
    """StorageError where *replicated*, an Optuna study of the name of the replicates, isn't of this search.

    Earlier versions did not store of which search it is: then its trials have to fit those of the search.
    """
    remedy = "delete it (optuna.delete_study, or in the dashboard), or save the study under a new name"
    uid = replicated.user_attrs.get(STUDY_UID)
    if uid is None:
        problem = next(_misfits(search, replicated), "")
    else:
        problem = "" if search is not None and uid == search.user_attrs.get("uid") else "it has the uid of another one"
    if problem:
        raise StorageError(
            f"the storage holds a study {replicated.study_name!r} that isn't of this study {study.name!r}: {problem}; "
            + remedy
        )
    _check_direction(study, replicated, remedy)


def _check_direction(study: Study, found: optuna.Study, remedy: str) -> None:
    directions = [direction.name.lower() for direction in found.directions]
    if directions != [study.direction]:
        raise StorageError(
            f"the storage holds a study {found.study_name!r} that searchlib did not make: its direction is "
            f"{' and '.join(directions)}, expected {study.direction} (of {study.metric}); {remedy}"
        )


def _misfits(search: optuna.Study | None, replicated: optuna.Study) -> Iterator[str]:
    """Why trials can't be replicates of this search."""
    never = datetime.max
    sources = {trial.number: trial for trial in (own_trials(search) if search else ())}
    for trial in replicated.get_trials(deepcopy=False):
        if not _is_replicate(trial):
            yield f"searchlib did not make its trial {trial.number}"
            continue
        number: Any = trial.user_attrs["source"]
        source = sources.get(number)
        name = f"its trial {trial.number} repeats trial {number}"
        if source is None:
            yield f"{name}, which isn't there"
        elif {key: value for key, value in trial.params.items() if key != "replicate"} != source.params:
            yield f"{name}, which has other parameters"
        elif source.user_attrs.get("signature") != trial.user_attrs["signature"]:
            yield f"{name}, which has another signature"
        elif (trial.datetime_start or never) < (source.datetime_complete or never):
            yield f"{name}, which ended only after it had begun"
