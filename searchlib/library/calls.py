"""``optimize`` and ``result``, and what the command line takes of them."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from searchlib.analysis import study_status, trials_wanted
from searchlib.errors import SearchlibError, StudyError
from searchlib.library.objects import Result, Results
from searchlib.stores import Stores
from searchlib.study import Study, identified, load_study, refuse_if_changed

if TYPE_CHECKING:
    from searchlib.search import StudyPlan

COUNTING_SECONDS = 5.0  # for an interrupted search to count what is stored


def optimize(
    study: str | os.PathLike[str] | Study,
    *,
    trials: int | None = None,
    timeout: float | None = None,
    device: str = "auto",
    evaluate: bool = True,
    storage: str | os.PathLike[str] | None = None,
    tracking_uri: str | None = None,
    data_root: str | os.PathLike[str] | None = None,
    studies: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Result | Results:
    """Answer a study: search, replicate, evaluate once on the test set, write the report. ``searchlib optimize``.

    Resumes what is unfinished, and trains nothing where nothing is left to do.

    study: a name, the path of a study file, or a Study.
    trials: how many trials the study is to have in all; None for the study's own number.
    timeout: seconds after which it stops cleanly.
    device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
    evaluate: open the test set, once, when the study is complete. That closes the study. Where all trials of a cell
    failed, the test set stays sealed.
    storage, tracking_uri, data_root, studies: as the options of the command line. None stands for the environment
    variable (``SEARCHLIB_STORAGE``, ``MLFLOW_TRACKING_URI``, ``SEARCHLIB_DATA``, ``SEARCHLIB_STUDIES``) or the default.
    progress: show where the search stands: live in a terminal or a notebook, as lines elsewhere.

    Of a study of several data sets this is done for one after the other, and then for all together: Results.

    Raises SearchlibErrors. KeyboardInterrupt, as by Ctrl-C or a notebook's stop button, says what is saved.
    """
    asked, parts, stores = _opened(study, storage, tracking_uri, data_root, studies)
    found = answers(parts, stores, trials=trials, timeout=timeout, device=device, evaluate=evaluate, progress=progress)
    if not asked.datasets:
        return next(found)
    for _ in found:
        pass
    return published_together(asked, parts, stores)


def answers(
    parts: Sequence[Study],
    stores: Stores,
    *,
    trials: int | None = None,
    timeout: float | None = None,
    device: str = "auto",
    evaluate: bool = True,
    progress: bool = True,
) -> Iterator[Result]:
    """``answered`` of each of *parts* in turn, until the time is over; first the data of those that haven't begun."""
    began = time.monotonic()
    for part in parts if len(parts) > 1 else ():
        if (definition := stores.read(part).attributes.get("definition")) is not None:
            refuse_if_changed(part, definition)
        else:
            stores.examples(part)
    left = timeout
    for part in parts:
        yield answered(part, stores, trials=trials, timeout=left, device=device, evaluate=evaluate, progress=progress)
        if timeout is not None and (left := timeout - (time.monotonic() - began)) <= 0.0:
            return


def begun(parts: Sequence[Study], stores: Stores) -> list[Study]:
    """The *parts* of a study that have begun. StorageError where none has, StudyError where one has changed since."""
    found = [part for part in parts if "definition" in stores.read(part).attributes]
    for part in found or parts[:1]:
        stores.begun(part)
    return found


def together(study: Study, parts: Sequence[Study], stores: Stores) -> Results:
    """What is stored of the *parts* of a study so far. Raises what ``begun`` raises."""
    results = {part.dataset_name: _result(part, stores) for part in begun(parts, stores)}
    return Results(study=study, stores=stores, parts=results)


def published_together(
    study: Study, parts: Sequence[Study], stores: Stores, *, output: Path | None = None, found: Results | None = None
) -> Results:
    """``together``, with the report across data sets written to *output*, by default ``NAME.html``."""
    from searchlib.report import publish_across

    found = found or together(study, parts, stores)
    findings = {name: one.findings for name, one in found.parts.items()}
    page = publish_across(output or stores.output(f"{study.name}.html"), found.findings, findings)
    made = replace(found, page=page)
    vars(made)["findings"] = found.findings  # they needn't be computed again
    return made


def planned(asked: Study, stores: Stores, *, device: str = "auto") -> StudyPlan:
    """What ``optimize --plan`` says: the cost of a study and the difference that it can detect. Stores nothing."""
    from searchlib.search import plan_study

    return plan_study(asked, stores, device=device)


def answered(
    asked: Study,
    stores: Stores,
    *,
    trials: int | None = None,
    timeout: float | None = None,
    device: str = "auto",
    evaluate: bool = True,
    progress: bool = True,
) -> Result:
    """What ``optimize`` does, with the study and its stores at hand."""
    from searchlib.report import publish
    from searchlib.report.progress import show_progress
    from searchlib.results import evaluate as evaluate_once
    from searchlib.search import search

    if trials is not None and (type(trials) is not int or trials < 1):
        raise SearchlibError(f"trials={trials!r}: expected a whole number of 1 or more, or None")
    if timeout is not None and not (isinstance(timeout, (int, float)) and timeout > 0):
        raise SearchlibError(f"timeout={timeout!r}: expected seconds, above 0, or None")
    stored = stores.read(asked)
    target = trials_wanted(asked, asked.trials if trials is None else trials, stored.trials)
    before = study_status(asked, stored, target=target)
    steps = search(asked, stores, trials=trials, timeout=timeout, device=device)
    try:
        show_progress(asked, steps, before, silent=not progress)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_saved(asked, stores, target)) from None
    found = _result(asked, stores, target)
    if evaluate and found.complete and found.status.best and not found.status.failed_cells:
        if found.status.test_result is None:
            publish(asked, stores)  # a report that can't be written is known before the test set is opened
        evaluate_once(asked, stores, fetch=True)
    page, findings = publish(asked, stores)
    found = _result(asked, stores, target, page)
    vars(found)["findings"] = findings  # of the same trials: they needn't be analyzed again
    return found


def result(
    study: str | os.PathLike[str] | Study,
    *,
    storage: str | os.PathLike[str] | None = None,
    tracking_uri: str | None = None,
    data_root: str | os.PathLike[str] | None = None,
    studies: str | os.PathLike[str] | None = None,
) -> Result | Results:
    """What is stored of a study so far, of several data sets as Results. Trains nothing, creates nothing, and opens no
    test data.

    The arguments are those of ``optimize``. StorageError where the study has not begun, StudyError where it has changed
    since its first trial.
    """
    asked, parts, stores = _opened(study, storage, tracking_uri, data_root, studies)
    if asked.datasets:
        return together(asked, parts, stores)
    stores.begun(parts[0])
    return _result(parts[0], stores)


def _opened(
    study: str | os.PathLike[str] | Study,
    storage: str | os.PathLike[str] | None,
    tracking_uri: str | None,
    data_root: str | os.PathLike[str] | None,
    studies: str | os.PathLike[str] | None,
) -> tuple[Study, Sequence[Study], Stores]:
    """The study, its parts, and the places that were given, or that the environment or the defaults name."""
    stores = Stores(
        os.fspath(storage or os.environ.get("SEARCHLIB_STORAGE") or Stores.storage),
        tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or None,
        Path(data_root or os.environ.get("SEARCHLIB_DATA") or Stores.data_root),
    )
    if isinstance(study, Study):
        return study, [identified(part) for part in study.parts], stores
    if not isinstance(study, (str, os.PathLike)):
        raise StudyError(f"study {study!r}: expected a name, the path of a study file, or a Study")
    folder = Path(studies or os.environ.get("SEARCHLIB_STUDIES") or "studies").expanduser()
    asked = load_study(os.path.expanduser(study), folder)
    return asked, asked.parts, stores


def _result(study: Study, stores: Stores, target: int | None = None, page: Path | None = None) -> Result:
    stored = stores.read(study)
    status = study_status(study, stored, target=target)
    return Result(study=study, stores=stores, stored=stored, status=status, page=page)


def _saved(study: Study, stores: Stores, target: int) -> str:
    """What an interrupted search has recorded; a storage that doesn't answer soon isn't waited for."""
    saved = ["what was recorded is saved"]

    def count() -> None:
        with contextlib.suppress(Exception):
            status = study_status(study, stores.read(study))
            seeds = f" and {status.replicates.completed} replicates" if status.replicates else ""
            saved.append(f"{status.trials.ended} of {target} trials{seeds} are saved")

    counting = threading.Thread(target=count, daemon=True)
    counting.start()
    counting.join(COUNTING_SECONDS)
    return f"{saved[-1]}; run the same again to resume"
