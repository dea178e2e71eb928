"""searchlib from Python: ``optimize`` answers the question of a study, ``result`` reads what is stored of it.

    import searchlib

    result = searchlib.optimize("init_vs_act")
    print(result.answer)

Importing this module is cheap; torch, Optuna, MLflow and pandas are imported when they are needed.
"""

from __future__ import annotations

import contextlib
import html
import os
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchlib.analysis import Findings, Status, analyze, study_status, trials_wanted
from searchlib.errors import SearchlibError, StudyError
from searchlib.stores import StoredStudy, Stores, without_autologging
from searchlib.study import Study, TestResult, identified, load_study

if TYPE_CHECKING:
    import torch
    from pandas import DataFrame
    from plotly.graph_objects import Figure

    from searchlib.report import Material
    from searchlib.search import StudyPlan as StudyPlan

__all__ = ["Result", "optimize", "result"]

PAGE_HEIGHT = 800  # of the report in a notebook, in pixels
COUNTING_SECONDS = 5.0  # for an interrupted search to count what is stored


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """What is stored of a study at one moment. Each part is made when it is first asked for, and kept.

    study: the study. stores: where it is stored. page: the report file that ``optimize`` wrote, None without.
    A notebook shows the report in place of a Result.
    """

    study: Study
    stores: Stores
    stored: StoredStudy
    status: Status
    page: Path | None = None

    def __repr__(self) -> str:
        trials = self.status.trials
        return f"<Result of study {self.study.name!r}: {trials.ended} of {trials.target} trials>"

    @property
    def answer(self) -> str:
        """The answer to the study's question in words."""
        return self.findings.answer

    @cached_property
    def findings(self) -> Findings:
        """Cells, comparisons, winner, effects and importances, as frozen dataclasses."""
        with without_autologging():
            return analyze(self.study, self.stored)

    @property
    def complete(self) -> bool:
        """Whether nothing is left to train: all trials are finished, and the replicates decided or seeds used up."""
        trials, replicates = self.status.trials, self.status.replicates
        raced = replicates is None or replicates.finished or self.status.test_ledger is not None
        return trials.total >= trials.target and not trials.running and raced

    @property
    def test(self) -> TestResult | None:
        """The result on the test set; None where it has not been opened."""
        return self.status.test_result

    @cached_property
    def trials(self) -> DataFrame:
        """A row for each trial and replicate, with the columns of ``searchlib export``."""
        from searchlib.results import trial_frame

        return trial_frame(self.study, self.stored)

    @cached_property
    def cells(self) -> DataFrame:
        """A row for each cell: its values, its best trial, and its replicates. The winner is the first.

        Columns: ``label``, the scientific hyperparameters, the nuisance hyperparameters of the best trial, and fields
        of ``CellFinding``.
        """
        fields = ("trial", "search_best", "points", "pruned", "diverged", "n", "mean", "sd", "low", "high", "flags")
        return _frame(
            {
                "label": cell.label,
                **cell.scientific,
                **cell.nuisance,
                **{name: getattr(cell, name) for name in fields},
            }
            for cell in self.findings.cells
        )

    @cached_property
    def comparisons(self) -> DataFrame:
        """A row for each comparison of the winner with another replicated cell, with fields of ``CellComparison``."""
        fields = ("n", "difference", "low", "high", "p", "adjusted_p", "probability", "verdict", "told_apart")
        return _frame(
            {
                "cell": one.cell_label,
                "against": one.against_label,
                **{name: getattr(one, name) for name in fields},
            }
            for one in self.findings.comparisons
        )

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """The figures of the report by name. One that can't be drawn is missing; the report says why."""
        from searchlib.report import figures

        return figures(self._material)

    @cached_property
    def champion(self) -> torch.nn.Module:
        """The network that the ledger names or, before the test, that leads: raw inputs ``[N, *shape]``, as the data
        set has them, to soft decisions ``[N, classes]`` or, for a regression, to outputs ``[N, outputs]``.

        HoldoutError where no trial completed, or where the checkpoint was altered.
        """
        from searchlib.results import champion_network

        return champion_network(self.study, self.stores, self.stored)

    @cached_property
    def _material(self) -> Material:
        from searchlib.report import gather

        return gather(self.study, self.stores, self.stored)

    def _repr_html_(self) -> str:
        """The report, in a frame of its own, as it is a whole page."""
        from searchlib.report import render

        page = html.escape(render(self._material), quote=True)
        return f'<iframe srcdoc="{page}" style="width:100%; height:{PAGE_HEIGHT}px; border:0"></iframe>'


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
) -> Result:
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

    Raises SearchlibErrors. KeyboardInterrupt, as by Ctrl-C or a notebook's stop button, says what is saved.
    """
    asked, stores = _opened(study, storage, tracking_uri, data_root, studies)
    return answered(asked, stores, trials=trials, timeout=timeout, device=device, evaluate=evaluate, progress=progress)


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
) -> Result:
    """What is stored of a study so far. Trains nothing, creates nothing, and opens no test data.

    The arguments are those of ``optimize``. StorageError where the study has not begun, StudyError where it has changed
    since its first trial.
    """
    asked, stores = _opened(study, storage, tracking_uri, data_root, studies)
    stores.begun(asked)
    return _result(asked, stores)


def _opened(
    study: str | os.PathLike[str] | Study,
    storage: str | os.PathLike[str] | None,
    tracking_uri: str | None,
    data_root: str | os.PathLike[str] | None,
    studies: str | os.PathLike[str] | None,
) -> tuple[Study, Stores]:
    """The study, and the places that were given, or that the environment or the defaults name."""
    stores = Stores(
        os.fspath(storage or os.environ.get("SEARCHLIB_STORAGE") or Stores.storage),
        tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or None,
        Path(data_root or os.environ.get("SEARCHLIB_DATA") or Stores.data_root),
    )
    if isinstance(study, Study):
        return identified(study), stores
    if not isinstance(study, (str, os.PathLike)):
        raise StudyError(f"study {study!r}: expected a name, the path of a study file, or a Study")
    folder = Path(studies or os.environ.get("SEARCHLIB_STUDIES") or "studies").expanduser()
    return load_study(os.path.expanduser(study), folder), stores


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


def _frame(rows: Any) -> DataFrame:
    """A table in which whole numbers and truth values stay what they are where others are missing."""
    from pandas import DataFrame

    frame = DataFrame(list(rows))
    for name in frame.columns:
        kinds = {type(value) for value in frame[name].dropna()} if frame[name].dtype == object else set()
        if kinds in ({int}, {bool}):
            frame[name] = frame[name].astype("Int64" if kinds == {int} else "boolean")
    return frame
