"""The search: ask for a round of trials, train them in stacks, record them, repeat; then the replicates.

All trials of a round are created before any of them has a result, and everything that a trial does depends on (study,
number) alone. So an interrupted search resumes: its unfinished trials form the same stacks again, and the result is
that of an uninterrupted search.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import uuid
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from searchlib.analysis import trials_wanted
from searchlib.data import FunctionPart, get_dataset
from searchlib.errors import StudyError
from searchlib.search.race import Race
from searchlib.search.recorder import Recorder
from searchlib.search.rounds import Rounds
from searchlib.search.samplers import warm_up
from searchlib.search.trainer import Trainer
from searchlib.stores import (
    Stores,
    Tracker,
    check_queue,
    discard_runs,
    end_parent,
    environment,
    own_trials,
    recording,
    refuse_if_opened,
)
from searchlib.study import Progress, Study, refuse_if_changed
from searchlib.training import (
    Deadline,
    Engine,
    OutOfTimeError,
    Snapshots,
    check_precision,
    resolve_device,
)

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
) -> Generator[Progress, None, None]:
    """Search until the study has *trials* (default: the study's own number), then run its replicates.

    A generator that yields Progress after each epoch of a stack. It resumes an unfinished study, and yields nothing for
    a finished one. Results are recorded as they come, and stay however the search ends.

    timeout: seconds after which it stops cleanly. device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises StudyError (the study has changed since its first trial, its test set was opened, or it doesn't fit its
    data), BusyError (another process works on it), DataError (the data set isn't available), DeviceError,
    StorageError and TrackingError.
    """
    from searchlib.training.dry_run import dry_run
    from searchlib.training.loop import denormals_flushed

    deadline = Deadline(timeout)
    target = study.trials if trials is None else trials
    if target < 1:
        raise StudyError(f"trials={target}: expected 1 or more")
    if study.points is not None and target > study.points:
        raise StudyError(f"trials={target}: the study has only {study.points} points; ask for no more trials")
    study.check_target(target)
    tracker = Tracker(study, stores, create=True)
    device = resolve_device(device)
    for precision in study.possible("precision"):
        check_precision(precision, device)
    with denormals_flushed(), stores.storage_errors(), stores.lock(study.name, "optimize") as lock:
        begun, engine = stores.optuna_study(study.name), None
        if begun is None or all(trial.state.name == "WAITING" for trial in own_trials(begun)):
            refuse_if_opened(study, stores)
            engine = Engine(study, stores.examples(study), device)
            dry_run(engine)
        optuna_study = _open_study(study, stores)
        race = Race(study, optuna_study)
        stored = own_trials(optuna_study)
        snapshots = Snapshots(_snapshot_folder(lock.path, optuna_study.user_attrs["uid"], begun=bool(stored)))
        target = trials_wanted(study, target, stored)
        unfinished = [trial.number for trial in stored if not trial.state.is_finished()]
        ledger = optuna_study.user_attrs.get("test_ledger")
        if len(stored) >= target and not unfinished and (race.finished or ledger):
            if parent := optuna_study.user_attrs.get("mlflow_run_id"):
                with tracker:
                    end_parent(tracker, parent)
            snapshots.clear()
            return
        if ledger:
            raise StudyError(
                f"study {study.name!r} is closed: its test set was opened at {ledger['claimed_at']} with {len(stored)} "
                f"trials, and a search for {target} would select on a test set that was used; save the study under a "
                "new name to search more"
            )
        examples = stores.examples(study, optuna_study.user_attrs)
        engine = engine or Engine(study, examples, device)
        optuna_study.set_user_attr("target", target)
        computed = isinstance(get_dataset(study.dataset).train, FunctionPart)  # its last bits depend on the machine
        if not computed and "data_sha256" not in optuna_study.user_attrs:
            optuna_study.set_user_attr("data_sha256", examples.digest)
        warm_up(study)  # before other threads compete for Python's lock
        tags = {**environment(), "device": device, "optuna.storage": stores.shown}
        with contextlib.ExitStack() as opened:

            def open_tracker() -> None:  # takes seconds, in which the first stack trains
                opened.enter_context(tracker)
                named = {f"searchlib.{key}": value for key, value in tags.items()}
                opened.enter_context(recording(tracker, optuna_study, examples, tags=named))
                discard_runs(tracker, study.name, unfinished)

            guard = functools.partial(lock.check, now=True)
            with contextlib.suppress(OutOfTimeError), engine.workers() as workers:
                trainer = Trainer(engine, workers, snapshots, deadline)
                with Recorder(optuna_study, tracker, begin=open_tracker, guard=guard) as recorder:
                    rounds = Rounds(study, optuna_study, target, trainer, recorder)
                    with contextlib.closing(rounds.run()) as steps:
                        for progress in steps:
                            recorder.check()
                            lock.check()
                            yield progress
                with contextlib.closing(race.run(trainer, tracker, guard)) as steps:
                    for progress in steps:
                        lock.check()
                        yield progress
                snapshots.clear()


def _snapshot_folder(lock: Path, uid: str, *, begun: bool) -> Path:
    """The folder of a search's snapshots, beside its lock. Those of other searches of that name are removed.

    Folders of earlier versions carry no uid. A search that has begun takes such a one: its files are named after the
    study's definition and the trials' seeds.
    """
    folder, unmarked = lock.with_suffix(f".{uid[:8]}.stacks"), lock.with_suffix(".stacks")
    if begun and unmarked.is_dir() and not folder.exists():
        unmarked.rename(folder)
    for other in lock.parent.glob(f"{lock.stem}*.stacks"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    return folder


def _open_study(study: Study, stores: Stores) -> optuna.Study:
    """Create or load the Optuna study.

    StudyError where its stored definition differs or where it can't train what is enqueued, StorageError where it, or
    that of its replicates, isn't this study's.
    """
    import optuna

    stored = stores.read(study)
    if (definition := stored.attributes.get("definition")) is not None:
        refuse_if_changed(study, definition)
    check_queue(study, stored.trials, begun=definition is not None)
    made = optuna.create_study(
        study_name=study.name, storage=stores.optuna_storage, direction=study.direction, load_if_exists=True
    )
    if "uid" not in stored.attributes:
        made.set_user_attr("question", study.question)
        made.set_user_attr("uid", uuid.uuid4().hex)
    if definition is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            made.set_metric_names([study.metric])
    if definition is None or definition.keys() != study.definition().keys():  # an earlier version stored less
        made.set_user_attr("definition", study.definition())
    return made
