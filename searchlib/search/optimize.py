"""The search: ask a round, train it in stacks, report, prune, record; then the replicates. Goes on where it stopped.

``search`` is a generator of ``Progress``; whoever runs it decides what to show. A round's trials are all created
before any of them is told, and everything that a trial does depends on (study, number) alone, so a run that was
interrupted goes on as if it had not been: its open trials are adopted, their stacks formed as before.
"""

from __future__ import annotations

import contextlib
import functools
import uuid
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from searchlib.data import Split, get_dataset
from searchlib.errors import StorageError, StudyError
from searchlib.search.race import Race
from searchlib.search.recorder import Recorder
from searchlib.search.rounds import _Search
from searchlib.search.samplers import warm_up
from searchlib.stores import Stores, Tracker, discard_runs, end_parent, environment, recording
from searchlib.study import Progress, Study, refuse_if_changed
from searchlib.training import Deadline, Engine, OutOfTimeError, Shelf, check_precision, resolve_device

if TYPE_CHECKING:
    import optuna

__all__ = ["search"]


def search(
    study: Study,
    stores: Stores,
    *,
    trials: int | None = None,
    timeout: float | None = None,
    device: str = "auto",
) -> Iterator[Progress]:
    """Search until the study has *trials* (default: the study's own number), then run its replicates.

    Stops cleanly when *timeout* seconds are over; runs nothing when nothing is left to do. What was recorded stays,
    however this ends. MLflow is opened while the first stack trains; nothing is recorded before. Raises
    SearchlibErrors: a changed study, a closed study, a device or data set that isn't there, a storage or tracking
    server that fails.
    """
    from searchlib.training.loop import denormals_flushed

    deadline = Deadline(timeout)
    target = study.trials if trials is None else trials
    if target < 1:
        raise StudyError(f"trials={target}: expected 1 or more")
    tracker = Tracker(study, stores, create=True)
    device = resolve_device(device)
    for precision in _possible(study, "precision"):
        check_precision(precision, device)
    with denormals_flushed(), stores.storage_errors(), stores.lock(study.name, "optimize") as lock:
        optuna_study = _open_study(study, stores)
        shelf = Shelf(lock.path.with_suffix(".stacks"))
        race = Race(study, optuna_study)
        existing = len(optuna_study.get_trials(deepcopy=False))
        unfinished = [trial for trial in optuna_study.get_trials(deepcopy=False) if not trial.state.is_finished()]
        searched = existing >= target and not unfinished
        if searched and (race.finished or optuna_study.user_attrs.get("test_ledger")):
            if parent := optuna_study.user_attrs.get("mlflow_run_id"):
                with tracker:
                    end_parent(tracker, parent)
            shelf.clear()
            return
        _refuse_if_closed(study, optuna_study, existing, target)
        examples = stores.examples(study)
        _check_against_data(study, examples)
        optuna_study.set_user_attr("target", max(target, existing))
        engine = Engine(study, examples, device)
        warm_up(study)  # before another thread competes for the interpreter
        tags = {**environment(), "device": device, "optuna.storage": stores.shown}
        with contextlib.ExitStack() as opened:

            def open_tracker() -> None:  # seconds, in which the first stack trains
                opened.enter_context(tracker)
                named = {f"searchlib.{key}": value for key, value in tags.items()}
                opened.enter_context(recording(tracker, optuna_study, examples, tags=named))
                discard_runs(tracker, study.name, [trial.number for trial in unfinished])

            guard = functools.partial(lock.check, now=True)
            with contextlib.suppress(OutOfTimeError), engine.workers() as workers:
                with Recorder(optuna_study, tracker, begin=open_tracker, guard=guard) as recorder:
                    rounds = _Search(
                        study, optuna_study, engine, workers, recorder, shelf, max(target, existing), deadline
                    )
                    with contextlib.closing(rounds.run()) as steps:
                        for progress in steps:
                            recorder.check()
                            lock.check()
                            yield progress
                with contextlib.closing(race.run(engine, workers, tracker, guard, shelf, deadline)) as steps:
                    for progress in steps:
                        lock.check()
                        yield progress
                shelf.clear()


def _open_study(study: Study, stores: Stores) -> optuna.Study:
    """Create or load the Optuna study; StudyError where the stored one was defined otherwise."""
    import optuna

    made = optuna.create_study(
        study_name=study.name, storage=stores.optuna_storage, direction=study.direction, load_if_exists=True
    )
    stored = made.user_attrs.get("definition")
    if stored is None and made.get_trials(deepcopy=False):
        raise StorageError(
            f"the storage holds a study {study.name!r} that searchlib did not make; rename the study file or give "
            "another --storage"
        )
    if stored is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            made.set_metric_names([study.metric])
        made.set_user_attr("question", study.question)
        made.set_user_attr("uid", uuid.uuid4().hex)
        made.set_user_attr("definition", study.definition())
    else:
        refuse_if_changed(study, stored)
    return made


def _refuse_if_closed(study: Study, optuna_study: optuna.Study, existing: int, target: int) -> None:
    ledger = optuna_study.user_attrs.get("test_ledger")
    if ledger:
        raise StudyError(
            f"study {study.name!r} is closed: its test set was opened at {ledger['claimed_at']} with {existing} "
            f"trials, so going on to {target} would select on a used test set; "
            "save the study under a new name to search more"
        )


def _check_against_data(study: Study, examples: Split) -> None:
    """What only the data can tell: batches that are too large, or too small for batch normalization."""
    count = len(examples.train)
    sizes = _possible(study, "batch_size")
    if max(sizes) > count:
        raise StudyError(
            f"batch_size={max(sizes)} is larger than the training split of {count:,} examples "
            f"({get_dataset(study.dataset).name}); take at most {count}"
        )
    lonely = [size for size in sizes if size == 1 or count % size == 1]
    if True in _possible(study, "batch_norm") and lonely:
        raise StudyError(
            f"batch_size={lonely[0]} leaves a last batch of one example of {count:,}, and batch_norm needs two; take "
            "another batch size"
        )


def _possible(study: Study, name: str) -> list[Any]:
    if name in study.dimensions:
        dimension = study.dimensions[name]
        values = dimension.values()
        return [dimension.decode(value) for value in values] if values is not None else list(dimension.extremes())
    return [getattr(study.config({}) if not study.dimensions else _any_config(study), name)]


def _any_config(study: Study) -> Any:
    params: dict[str, Any] = {}
    for name, dimension in study.dimensions.items():
        if dimension.active({**study.fixed, **params}):
            params[name] = dimension.at(0.5)
    return study.config(params)
