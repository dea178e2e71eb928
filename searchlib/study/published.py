"""A figure that somebody published, to stand beside what a study measures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from searchlib.errors import StudyError
from searchlib.study.space import Dimension, encode
from searchlib.text import unknown_name

METRICS = (
    "best_epoch", "best_val_accuracy", "best_val_loss", "learning_rate", "step_train_accuracy", "step_train_loss",
    "step_val_accuracy", "step_val_loss", "train_accuracy", "train_loss", "val_accuracy", "val_loss",
)  # fmt: skip
MOST = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published figure. The report puts the mean of the cell's replicates beside it. Checked on construction.

    source: where it was published, in words.
    value: the figure, in the metric's own unit: accuracies from 0 to 1.
    metric: what it is to be compared with, an MLflow metric of the runs: ``val_accuracy``, ``train_accuracy``,
    ``best_val_accuracy``, ``step_val_accuracy``, ... or a diagnostic such as ``gradient_norm/layer1``.
    step: the epoch, or the iteration for ``step_*``; None is the last that a run has.
    cell: the scientific values that it was measured with, one for each that the cell has.
    note: what else a reader should know, such as why the figures may differ.
    """

    source: str
    value: float
    metric: str
    step: int | None = None
    cell: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.source, str) or not self.source.strip():
            raise StudyError(f"Published: source={self.source!r}; expected where the figure was published, in words")
        if not isinstance(self.metric, str) or not ("/" in self.metric or self.metric in METRICS):
            raise StudyError(f"Published: metric={self.metric!r}; {unknown_name('metric', self.metric, METRICS)}")
        if isinstance(self.value, bool) or not isinstance(self.value, (int, float)) or not math.isfinite(self.value):
            raise StudyError(f"Published: value={self.value!r}; expected a finite number")
        if self.metric.endswith("_accuracy") and not 0 <= self.value <= 1:
            raise StudyError(f"Published: {self.metric} {self.value!r}; accuracies run from 0 to 1 (0.879 for 87.9 %)")
        if self.step is not None and (type(self.step) is not int or not 0 <= self.step <= MOST):
            raise StudyError(f"Published: step={self.step!r}; expected an epoch, an iteration for step_*, or None")
        if self.step is not None and self.metric.startswith("best_"):
            raise StudyError(f"Published: step={self.step!r}; {self.metric} is one figure a run, so leave step out")
        if not isinstance(self.cell, Mapping):
            raise StudyError(f"Published: cell={self.cell!r}; expected a dict from scientific hyperparameter to value")
        if not isinstance(self.note, str):
            raise StudyError(f"Published: note={self.note!r}; expected words")


def check_published(published: Any, scientific: Mapping[str, Dimension], *, by_step: bool) -> None:
    """StudyError where a study with these dimensions can't have the figures *published*.

    by_step: whether it evaluates within epochs, too.
    """
    if not isinstance(published, tuple) or not all(isinstance(one, Published) for one in published):
        raise StudyError(f"published={published!r}: expected a tuple of Published(...)")
    for one in published:
        if one.metric.startswith("step_") and not by_step:
            raise StudyError(f"published: {one.metric} is measured with eval_every only; write eval_every=500, say")
        for name, value in one.cell.items():
            if name not in scientific:
                raise StudyError(f"published, cell: {unknown_name('scientific dimension', name, scientific)}")
            values = scientific[name].values()
            if values is None:
                raise StudyError(f"published, cell: {name!r} is a range, which makes no cells; write Choice")
            if encode(value) not in values:
                known = map(str, values)
                raise StudyError(f"published, cell: {unknown_name(f'value of {name}', encode(value), known)}")
