"""The sealed test set: opened once, by ``evaluate``, for the champion and the replicates. No other module opens it.

The ledger (a user attribute of the Optuna study, and tags of the MLflow parent run) is claimed before the test
files are opened and completed after. A crash in between leads to the evaluation of the same checkpoints, and of no
others; a second call returns the stored result and opens nothing.

Before the claim, all that follows it is done on validation data: the checkpoints are restored and measured, and the
champion's model is stored. After it, only reading the test files and writing to the stores can fail.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from searchlib.analysis import champion, claimed_or_leading, drawn_split, search_of, split_number, study_status
from searchlib.data import Examples, get_dataset, load_test
from searchlib.errors import Command, DataError, HoldoutError, SearchlibError, TrackingError
from searchlib.results.champion import Candidate, refuse_foreign, register_champion, store_champion
from searchlib.results.measuring import is_as_noted, measure
from searchlib.results.tested_replicates import listed, restore_replicates, score
from searchlib.stores import (
    LEDGER_TAG,
    UID_TAG,
    StoredStudy,
    Stores,
    Tracker,
    code_version,
    log_summary,
    now,
    open_parent,
    own_trials,
    remove_tags,
)
from searchlib.study import Ledger, Study, TestResult, refuse_if_changed
from searchlib.training import restore, try_network

if TYPE_CHECKING:
    import optuna
    import torch

COMPARED = 64  # training inputs on which the champion's network and its exported program are tried


def evaluate(study: Study, stores: Stores, *, fetch: bool = False) -> TestResult:
    """Evaluate the study's champion on the test set, or return the stored result of an earlier call.

    The replicates that count are evaluated with it; their results are in the ledger.

    fetch: get missing test files from their sources. Without it they must be there: DataError says what is missing,
    and a claim made by this call is withdrawn: nothing was seen. HoldoutError where there is no completed trial, where
    the checkpoint isn't the one that was claimed, or where its network can't be evaluated.
    """
    optuna_study = stores.optuna_study(study.name)
    if optuna_study is None:  # the lock would be a file where there is nothing
        raise _nothing_to_evaluate(study)
    with stores.storage_errors(), stores.lock(study.name, "evaluate"):
        stored = stores.read(study)
        best = champion(study, stored)
        if best is None:
            raise _nothing_to_evaluate(study)
        ledger = stored.ledger
        if ledger is None:
            _refuse_unfinished(study, stored)
        elif ledger.result and stored.attributes.get("champion_checkpoint") == ledger.checkpoint_sha256:
            return ledger.result
        with Tracker(study, stores) as tracker:
            if ledger is None or ledger.result is None:
                ledger = _open_test_set(study, stored, tracker, ledger or _proposal(best), fetch)
            result = ledger.result
            assert result is not None
            try:
                publish(study, optuna_study, tracker, ledger)
            except SearchlibError as error:
                measured = result.loss if result.accuracy is None else result.accuracy
                raise HoldoutError(
                    f"the test set was evaluated ({measured:.4f}, stored), but MLflow can't show it yet: ",
                    error.message,
                ) from error
            return result


def _nothing_to_evaluate(study: Study) -> HoldoutError:
    return HoldoutError(
        f"study {study.name!r} has no completed trial to evaluate; run ", Command("optimize", study.name)
    )


def _refuse_unfinished(study: Study, stored: StoredStudy) -> None:
    """Opening the test set ends the study: not before its replicates, which decide on the champion, are through."""
    seeds = study_status(study, stored).replicates
    if seeds and not seeds.finished:
        raise HoldoutError(
            f"study {study.name!r} has unfinished replicates ({seeds.ended} runs so far), which "
            "opening the test set would end; run ",
            Command("optimize", study.name),
            " first, or set replicates=0 in its file to evaluate the best trial of the search",
        )


def _proposal(best: optuna.trial.FrozenTrial) -> Ledger:
    """Which checkpoint the test set is for: the claim, not yet stored."""
    checkpoint = best.user_attrs.get("checkpoint_sha256")
    if not checkpoint:
        raise HoldoutError(f"trial {best.number} leads, but has no checkpoint; it was not recorded by searchlib")
    return Ledger(
        claimed_at=now(),
        trial=best.user_attrs.get("source", best.number),
        replicate=best.params.get("replicate"),
        run_id=best.user_attrs["mlflow_run_id"],
        checkpoint_sha256=checkpoint,
        code=code_version(),
    )


def _open_test_set(study: Study, stored: StoredStudy, tracker: Tracker, ledger: Ledger, fetch: bool) -> Ledger:
    """Claim the test set, measure the champion and the replicates on it, store the results, all in one write."""
    optuna_study = stored.search
    assert optuna_study is not None
    refuse_if_changed(study, optuna_study.user_attrs["definition"])
    open_parent(tracker, optuna_study)
    refuse_foreign(tracker)
    network, inputs = _try(study, stored, tracker, ledger)
    ledger, replicates = restore_replicates(study, stored, tracker, ledger)
    if stored.ledger is None and optuna_study.user_attrs.get("test_ledger"):  # that took seconds
        raise HoldoutError(
            f"another process has claimed the test set of study {study.name!r} meanwhile; run ",
            Command("evaluate", study.name),
            " again",
        )
    open_parent(tracker, optuna_study)  # refuses where MLflow has a claim, also by another copy of the storage
    optuna_study.set_user_attr("test_ledger", ledger.written())
    try:
        log_summary(tracker, {}, tags=_tags(ledger))
        examples = load_test(study.dataset, tracker.stores.data_root, fetch=fetch)
        if examples.inputs.dtype != inputs.dtype:
            raise DataError(
                f"{get_dataset(study.dataset).name}: test inputs are {examples.inputs.dtype}, training inputs "
                f"{inputs.dtype}; give both parts one type"
            )
    except (DataError, TrackingError):
        if stored.ledger is None:  # under a claim of an earlier call the test set may have been seen: that one stands
            remove_tags(tracker, _tags(ledger))  # where that fails, too, the claim stands
            optuna_study.set_user_attr("test_ledger", None)
        raise
    try:
        measured = measure(network, examples)
    except Exception as error:  # it worked on validation data
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise HoldoutError(
            f"the test set was opened, and the module of trial {ledger.trial} fails on it, as it did not on validation "
            f"data ({said}); correct it in a study of another name"
        ) from error
    result = TestResult(
        evaluated_at=now(),
        trial=ledger.trial,
        replicate=ledger.replicate,
        checkpoint_sha256=ledger.checkpoint_sha256,
        code=code_version(),
        n=len(examples),
        **measured,
    )
    finished = replace(ledger, finished_at=result.evaluated_at, result=result)
    if ledger.replicates:
        finished = replace(finished, replicates=score(study, ledger, replicates, examples))
    optuna_study.set_user_attr("test_ledger", finished.written())
    return finished


def _try(study: Study, stored: StoredStudy, tracker: Tracker, ledger: Ledger) -> tuple[torch.nn.Module, torch.Tensor]:
    """Do on validation data what follows a claim, and store the champion's model.

    Returns the network, from raw inputs to outputs, and training inputs. HoldoutError where it can't be evaluated.
    """
    assert stored.search is not None
    examples = tracker.stores.examples(study, stored.attributes)
    inputs = examples.train.inputs[:COMPARED]
    network = _candidate(study, stored.search, tracker, ledger, soft=False).predictor
    try:
        try_network(network, inputs, get_dataset(study.dataset), single=False)
        search = _search(stored.search, ledger)
        examples = drawn_split(study, examples, split_number(study, search=search, replicate=ledger.replicate))
        measured = measure(network, examples.validation)
    except Exception as error:  # the module is code of the study's own
        raise HoldoutError(
            f"the test set isn't opened: the checkpoint of trial {ledger.trial} can't be evaluated "
            f"({type(error).__name__}: {' '.join(str(error).split())[:300]}); save the study under a new name with a "
            "module that can, or restore what the module needs"
        ) from error
    _compare(study, stored, ledger, examples.validation, measured)
    store_champion(tracker, _candidate(study, stored.search, tracker, ledger, soft=True), inputs)
    return network, inputs


def _compare(study: Study, stored: StoredStudy, ledger: Ledger, validation: Examples, measured: dict[str, Any]) -> None:
    """HoldoutError where the restored network is plainly another one than the search has measured.

    A module may keep what it learns outside its state dict.
    """
    noted = next(
        (
            trial.values[0]
            for trial in (*stored.replicates, *stored.trials)
            if trial.values and trial.user_attrs.get("checkpoint_sha256") == ledger.checkpoint_sha256
        ),
        None,
    )
    if noted is None:
        return
    name = study.metric.removeprefix("val_")
    found = measured[name]
    if not is_as_noted(study, found, noted, len(validation)):
        raise HoldoutError(
            f"the test set isn't opened: restored from its checkpoint, the network of trial {ledger.trial} has "
            f"validation {name} {found:.4g}, and the search measured {noted:.4g}; its code has changed, or its module "
            "keeps state outside its state dict: restore the code, or save the study under a new name with that state "
            "as a buffer (register_buffer)"
        )


def champion_network(study: Study, stores: Stores, stored: StoredStudy) -> torch.nn.Module:
    """The network that the ledger names or, before the claim, that leads.

    It takes raw inputs ``[N, *shape]``, as the data set has them, and gives soft decisions ``[N, classes]`` or, for a
    regression, outputs ``[N, outputs]``. HoldoutError where no trial completed, where the storage has lost the claimed
    one, or where its checkpoint was altered; TrackingError where MLflow doesn't give the checkpoint.
    """
    best = claimed_or_leading(study, stored)
    if best is None or stored.search is None:
        raise _nothing_to_evaluate(study)
    with Tracker(study, stores) as tracker:
        return _candidate(study, stored.search, tracker, stored.ledger or _proposal(best), soft=True).predictor


def _tags(ledger: Ledger) -> dict[str, str]:
    """The ledger as tags of the MLflow parent run; the champion's result is in its metrics.

    The replicates' results are in Optuna's ledger only: a tag has no room for them.
    """
    shown = {key: str(value) for key, value in ledger.written().items() if key != "result"}
    if ledger.replicates is not None:
        shown["replicates"] = listed(ledger.replicates)
    return {f"{LEDGER_TAG}{key}": value for key, value in shown.items()}


def _candidate(study: Study, optuna_study: optuna.Study, tracker: Tracker, ledger: Ledger, *, soft: bool) -> Candidate:
    """The claimed network, from raw inputs to its outputs or, with *soft*, to soft decisions (classification)."""
    content = tracker.checkpoint(ledger.run_id)
    if hashlib.sha256(content).hexdigest() != ledger.checkpoint_sha256:
        raise HoldoutError(
            f"the checkpoint of trial {ledger.trial} (MLflow run {ledger.run_id}) was altered since the search; "
            "restore the file: the test set is not opened for another network"
        )
    params = next((trial.params for trial in own_trials(optuna_study) if trial.number == ledger.trial), None)
    if params is None:
        raise HoldoutError(f"Optuna's storage has lost trial {ledger.trial}; restore it from a backup")
    dataset = get_dataset(study.dataset)
    classify = soft and dataset.task == "classification"
    return Candidate(
        predictor=restore(content, study.model, study.config(params), dataset, classify=classify),
        content=content,
        checkpoint=ledger.checkpoint_sha256,
        params=params,
    )


def _search(optuna_study: optuna.Study, ledger: Ledger) -> int:
    """The search that found the claimed configuration, from 1."""
    return next((search_of(trial) for trial in own_trials(optuna_study) if trial.number == ledger.trial), 1)


def published(ledger: Ledger) -> tuple[dict[str, float], dict[str, str]]:
    """The metrics and tags with which the MLflow parent run shows a ledger that has its result."""
    result = ledger.result
    assert result is not None
    figures = {
        "test_loss": result.loss,
        "test_r2": result.r2,
        "test_accuracy": result.accuracy,
        "test_accuracy_low": result.low,
        "test_accuracy_high": result.high,
    }
    return {name: value for name, value in figures.items() if value is not None}, _tags(ledger)


def publish(study: Study, optuna_study: optuna.Study, tracker: Tracker, ledger: Ledger) -> None:
    """Put the stored result and its champion where MLflow shows them. Opens no test data; may be repeated.

    HoldoutError, TrackingError or DataError where the champion has to be registered and its checkpoint, or the training
    data for an example of its input, isn't there.
    """
    open_parent(tracker, optuna_study)
    metrics, tags = published(ledger)
    log_summary(tracker, metrics, tags=tags)
    registered = refuse_foreign(tracker)
    no_program = registered.no_program if registered else ""
    if registered is None or registered.checkpoint != ledger.checkpoint_sha256:
        examples = tracker.stores.examples(study, optuna_study.user_attrs)
        no_program = register_champion(
            tracker,
            _candidate(study, optuna_study, tracker, ledger, soft=True),
            examples.train.inputs[:COMPARED],
            {
                "searchlib.trial": str(ledger.trial),
                "searchlib.study": study.name,
                UID_TAG: str(tracker.uid),
                **({"searchlib.replicate": str(ledger.replicate)} if ledger.replicate is not None else {}),
                **({"searchlib.search": str(_search(optuna_study, ledger))} if study.search_split else {}),
            },
        )
    if no_program != optuna_study.user_attrs.get("champion_no_program", ""):
        optuna_study.set_user_attr("champion_no_program", no_program)
    optuna_study.set_user_attr("champion_checkpoint", ledger.checkpoint_sha256)
