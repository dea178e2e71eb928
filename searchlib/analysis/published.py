"""Published figures beside the replicates of their cell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from searchlib.analysis.findings import CellFinding, Findings
from searchlib.analysis.plain import plain
from searchlib.analysis.resampling import split_overlap
from searchlib.analysis.standing import outcome
from searchlib.analysis.statistics import mean_interval, prediction_interval
from searchlib.study import Primitive, Published, Study
from searchlib.text import describe

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

History = Mapping[str, Sequence[tuple[int, float]]]  # of an MLflow run: metric -> (step, value)


@dataclass(frozen=True, kw_only=True)
class PublishedFinding:
    """A published figure beside the replicates of its cell.

    source, label (of the cell), cell, metric, step, published and note are the study's; a step that isn't given is
    filled in where all replicates end at the same. n completed replicates that have the metric give mean, sd (ddof 1),
    low and high (95 % t interval of the mean), predicted_low and predicted_high (95 % prediction interval of one
    further seed), inside: whether the published figure lies in the latter; diverged ones are only counted. What can't
    be computed is None, and ``reason`` says why.
    """

    source: str
    label: str
    cell: Mapping[str, Primitive]
    metric: str
    step: int | None
    published: float
    n: int
    diverged: int
    mean: float | None
    sd: float | None
    low: float | None
    high: float | None
    predicted_low: float | None
    predicted_high: float | None
    inside: bool | None
    note: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        """One entry of ``published`` in ``report --json``."""
        return dict(plain(self))


def published_runs(study: Study, findings: Findings, replicates: Sequence[FrozenTrial]) -> list[str]:
    """The MLflow runs, sorted, whose histories ``beside_published`` needs."""
    return sorted(
        {
            run
            for _, cell in _cells(study, findings)
            for trial in _counted(findings, cell, replicates)
            for run in _run(trial)
        }
    )


def beside_published(
    study: Study,
    findings: Findings,
    replicates: Sequence[FrozenTrial],
    histories: Mapping[str, History],
    gap: str = "",
) -> tuple[PublishedFinding, ...]:
    """Each figure of ``study.published`` beside the replicates that count.

    histories: by MLflow run, of the runs that ``published_runs`` names. gap: why they are missing, if they are.
    """
    found = []
    for one, cell in _cells(study, findings):
        counted = _counted(findings, cell, replicates)
        own = [histories.get(run, {}) for trial in counted for run in _run(trial)]
        diverged = sum(outcome(trial) == "diverged" for trial in counted)
        found.append(_beside(study, one, cell, own, diverged, gap))
    return tuple(found)


def _cells(study: Study, findings: Findings) -> Iterator[tuple[Published, CellFinding | None]]:
    by_key = {tuple(cell.scientific.items()): cell for cell in findings.cells}
    for one in study.published:
        yield one, by_key.get(tuple((study.published_cell(one) or {}).items()))


def _counted(findings: Findings, cell: CellFinding | None, replicates: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The replicates of *cell* that count, whether they learnt or not."""
    return [
        trial
        for trial in replicates
        if cell
        and trial.user_attrs.get("source") in {pick.trial for pick in cell.picks}
        and findings.replicates
        and trial.params["replicate"] <= findings.replicates.reached
    ]


def _run(trial: FrozenTrial) -> list[str]:
    """The trial's MLflow run, if it completed and has one."""
    run = trial.user_attrs.get("mlflow_run_id")
    return [run] if run and outcome(trial) == "completed" else []


def _beside(
    study: Study, one: Published, cell: CellFinding | None, histories: Sequence[History], diverged: int, gap: str
) -> PublishedFinding:
    curves = [dict(history[one.metric]) for history in histories if history.get(one.metric)]
    steps = {max(curve) for curve in curves}
    step = next(iter(steps)) if one.step is None and len(steps) == 1 else one.step
    values = [curve[max(curve) if one.step is None else one.step] for curve in curves if one.step in (None, *curve)]
    mean, deviation, low, high = (
        mean_interval(values, overlap=split_overlap(study)) if values else (None, None, None, None)
    )
    predicted = prediction_interval(values)
    return PublishedFinding(
        source=one.source,
        label=cell.label if cell else describe(study.published_cell(one) or {}) or "all trials",
        cell=study.published_cell(one) or {},
        metric=one.metric,
        step=step,
        published=float(one.value),
        n=len(values),
        diverged=diverged,
        mean=mean,
        sd=deviation,
        low=low,
        high=high,
        predicted_low=predicted and predicted[0],
        predicted_high=predicted and predicted[1],
        inside=predicted and predicted[0] <= one.value <= predicted[1],
        note=one.note,
        reason=gap or ("" if predicted else _why_not(study, one, cell, curves, len(values), len(histories), step)),
    )


def _why_not(
    study: Study,
    one: Published,
    cell: CellFinding | None,
    curves: Sequence[Mapping[int, float]],
    values: int,
    completed: int,
    step: int | None,
) -> str:
    """Why fewer than two of the *completed* replicates have a value to compare."""
    if cell is None:
        return "the cell has no finished trial"
    if not cell.values:
        return "no look of the replicates is complete" if study.replicates else "the study has no replicates"
    if completed < 2:
        return f"{completed} of its replicates completed; an interval needs 2"
    steps = [str(step) for step in sorted(curves[0])] if curves else []
    shown = [*steps[:3], "...", steps[-1]] if len(steps) > 5 else steps
    there = f"; they have it at {', '.join(shown)}" if steps else ""
    at = "" if step is None else f" at step {step}"
    return f"{values} of its {completed} replicates have {one.metric}{at}{there}"
