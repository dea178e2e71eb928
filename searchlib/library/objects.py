"""What the calls of the library return: a Result, or the Results of several data sets."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchlib.analysis import Across, Findings, Status, analyze, compare_across
from searchlib.data import get_dataset
from searchlib.stores import StoredStudy, Stores, without_autologging
from searchlib.study import Study, TestResult

if TYPE_CHECKING:
    import torch
    from pandas import DataFrame
    from plotly.graph_objects import Figure

    from searchlib.report import Material

PAGE_HEIGHT = 800  # of the report in a notebook, in pixels


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
        return self.status.complete

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

        return _frame_of(render(self._material))


@dataclass(frozen=True, kw_only=True, eq=False)
class Results:
    """What is stored of a study of several data sets: a Result of each, and what they say together.

    parts: the Results of the data sets whose searches have begun, by the data set's name. page: the report across data
    sets, where it was written.
    """

    study: Study
    stores: Stores
    parts: Mapping[str, Result]
    page: Path | None = None

    def __repr__(self) -> str:
        return f"<Results of study {self.study.name!r} on {', '.join(self.parts) or 'no data set yet'}>"

    @property
    def answer(self) -> str:
        """What the finished data sets say together, in words."""
        return self.findings.answer

    @cached_property
    def findings(self) -> Across:
        """Ranks and interquartile means of the cells across the finished data sets, as frozen dataclasses."""
        names = [get_dataset(one).name for one in self.study.datasets]
        finished = {name: one.findings for name, one in self.parts.items() if one.complete}
        return compare_across(self.study, finished, [name for name in names if name not in finished])

    @property
    def complete(self) -> bool:
        """Whether nothing is left to train on any data set."""
        return not self.findings.unfinished

    @cached_property
    def trials(self) -> DataFrame:
        """``Result.trials`` of all data sets, with a column ``dataset`` before them."""
        from pandas import concat

        return concat([one.trials.assign(dataset=name) for name, one in self.parts.items()], ignore_index=True)

    @cached_property
    def cells(self) -> DataFrame:
        """A row for each cell, the best mean rank first.

        Columns: ``label``, the scientific hyperparameters, ``mean_rank``, ``worse``, ``iqm``, ``low``, ``high``, and
        for each data set ``rank_NAME`` and ``mean_NAME``.
        """
        return _frame(
            {
                "label": cell.label,
                **cell.scientific,
                **{name: getattr(cell, name) for name in ("mean_rank", "worse", "iqm", "low", "high")},
                **{f"rank_{name}": rank for name, rank in cell.ranks.items()},
                **{f"mean_{name}": mean for name, mean in cell.means.items()},
            }
            for cell in self.findings.cells
        )

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """``ranks``, with the critical difference, where there is anything to compare."""
        from searchlib.report import draw_ranks

        drawn = draw_ranks(self.findings)
        return {"ranks": drawn.plot.figure()} if drawn else {}

    def to_json(self) -> dict[str, Any]:
        """The object that ``searchlib report --json`` prints: ``datasets`` and ``across``."""
        from searchlib.report import across_json

        return across_json(self.findings, {name: one.findings for name, one in self.parts.items()})

    def _repr_html_(self) -> str:
        """The report across data sets, in a frame of its own."""
        from searchlib.report import render_across

        return _frame_of(render_across(self.findings, {name: one.findings for name, one in self.parts.items()}))


def _frame_of(page: str) -> str:
    """A whole page as an element of another one."""
    page = html.escape(page, quote=True)
    return f'<iframe srcdoc="{page}" style="width:100%; height:{PAGE_HEIGHT}px; border:0"></iframe>'


def _frame(rows: Any) -> DataFrame:
    """A table in which whole numbers and truth values stay what they are where others are missing."""
    from pandas import DataFrame

    frame = DataFrame(list(rows))
    for name in frame.columns:
        kinds = {type(value) for value in frame[name].dropna()} if frame[name].dtype == object else set()
        if kinds in ({int}, {bool}):
            frame[name] = frame[name].astype("Int64" if kinds == {int} else "boolean")
    return frame
