"""Checks of the trials' runs in MLflow against Optuna: parameters, curves, status and tags."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from searchlib.analysis import outcome
from searchlib.results.audit import FIXED, Audit, counted, listed
from searchlib.results.audit_trials import Recorded
from searchlib.stores import FIGURES, REPAIRED, REPLACES, amend_run, delete_run, write_again
from searchlib.study import Study

CHUNK = 500  # runs whose curves are read at once
BACKUP = "restore MLflow from a backup"


def check_runs(audit: Audit, recorded: Sequence[Recorded]) -> None:
    """Whether each run has what Optuna has of its trial."""
    names = (*FIGURES, *_step_metrics(audit.study))
    for start in range(0, len(recorded), CHUNK):
        chunk = recorded[start : start + CHUNK]
        histories = audit.tracker.histories([one.run.run_id for one in chunk], names)
        for one in chunk:
            history = histories[one.run.run_id]
            if _check_values(audit, one, history.get(audit.study.metric, [])):
                _check_curves(audit, one, history)
                _check_labels(audit, one)


def _step_metrics(study: Study) -> list[str]:
    """The metrics by step that a run has where the study evaluates between epochs."""
    if study.eval_every is None:
        return []
    classifies = study.metric == "val_accuracy"
    return [f"step_{name}" for name in FIGURES if classifies or not name.endswith("_accuracy")]


def _check_values(audit: Audit, one: Recorded, points: Sequence[tuple[int, float]]) -> bool:
    """Whether parameters and values are Optuna's. In MLflow they can't be changed: it takes another run."""
    run, curve = one.run, one.trial.intermediate_values
    params = [name for name, value in one.expected.params.items() if run.params.get(name, value) != value]
    epochs = sorted({epoch for epoch, value in points if curve.get(epoch, value) != value})
    if not params and not epochs:
        return True
    audit.differs(
        "parameters" if params else "curve",
        f"run {run.run_id} has other values than Optuna of "
        + ", ".join([*params, *([f"{audit.study.metric} (epochs {listed(epochs)})"] if epochs else [])]),
        "puts a run with Optuna's in its place, and deletes this one in MLflow, which can restore it",
        partial(_replace, audit, one),
        home=one.home,
        trial=one.trial.number,
    )
    return False


def _replace(audit: Audit, one: Recorded) -> None:
    """Store a run with Optuna's values, and with what else the old one has; then delete that."""
    old = one.run.run_id
    known = {name for name, *_ in one.expected.metrics}
    kept = [
        (name, value, one.expected.ended, step)
        for name, points in audit.tracker.histories([old])[old].items()
        for step, value in dict(points).items()
        if name not in known and math.isfinite(value)
    ]
    own = {name: value for name, value in one.run.tags.items() if name not in ("mlflow.runName", REPLACES)}
    new = replace(one.expected, tags={**own, **one.expected.tags}, metrics=[*kept, *one.expected.metrics])
    write_again(audit.tracker, new, one.trial.user_attrs.get("mlflow_run_id") or "")
    delete_run(audit.tracker, old)


def _check_curves(audit: Audit, one: Recorded, history: Mapping[str, Sequence[tuple[int, float]]]) -> None:
    """Whether the curves are whole."""
    run, expected, curve, metric = one.run, one.expected, one.trial.intermediate_values, audit.study.metric
    differs = partial(audit.differs, "curve", home=one.home, trial=one.trial.number)
    there = {epoch for epoch, _ in history.get(metric, [])}
    if lacking := sorted(set(curve) - there):
        problem = f"{metric} of run {run.run_id} lacks {counted(len(lacking), 'epoch')} that Optuna has"
        points = [(metric, curve[epoch], expected.ended, epoch) for epoch in lacking]
        differs(problem, "completes it", partial(amend_run, audit.tracker, run.run_id, metrics=points))
    if more := sorted(there - set(curve)):
        differs(f"{metric} of run {run.run_id} has epochs that Optuna lacks ({listed(more)})", FIXED)
    epochs = one.trial.user_attrs.get("epochs_run") or 0
    if outcome(one.trial) in ("completed", "pruned") and REPAIRED not in run.tags:
        others = [name for name in ("train_loss", "val_loss") if name != metric]
        others += ["train_accuracy"] if "train_accuracy" in history else []  # runs of older versions have none
        short = [name for name in others if len({epoch for epoch, _ in history.get(name, [])}) < epochs]
        if short:
            problem = f"run {run.run_id} lacks some of the {counted(epochs, 'epoch')} of {' and '.join(short)}"
            differs(problem, f"this can't be repaired, as Optuna holds the objective only; {BACKUP}")
        evaluations = one.trial.user_attrs.get("evaluations", 0)
        if short := [name for name in _step_metrics(audit.study) if len(dict(history.get(name, []))) < evaluations]:
            problem = (
                f"run {run.run_id} lacks some of the {counted(evaluations, 'evaluation')} of {' and '.join(short)}"
            )
            differs(problem, f"this can't be repaired, as Optuna doesn't hold them; {BACKUP}")
    summary = [point for point in expected.metrics if point[0] in (f"best_{metric}", "best_epoch")]
    if wrong := [point for point in summary if run.metrics.get(point[0]) != point[1]]:
        problem = f"run {run.run_id} lacks Optuna's {' and '.join(name for name, *_ in wrong)}"
        differs(problem, "writes it", partial(amend_run, audit.tracker, run.run_id, metrics=wrong))


def _check_labels(audit: Audit, one: Recorded) -> None:
    """Whether status and tags are Optuna's, and no parameter is missing."""
    run, expected = one.run, one.expected
    differs = partial(audit.differs, home=one.home, trial=one.trial.number)
    amend = partial(amend_run, audit.tracker, run.run_id)
    params = {name: value for name, value in expected.params.items() if name not in run.params}
    if params:
        differs("parameters", f"run {run.run_id} lacks {', '.join(params)}", "adds it", partial(amend, params=params))
    tags = {name: value for name, value in expected.tags.items() if run.tags.get(name) != value}
    wrong = [f"tag {name} {run.tags.get(name, 'missing')}, not {value}" for name, value in tags.items()]
    if run.status != expected.status:
        wrong.insert(0, f"status {run.status}, not {expected.status}")
    if wrong:
        problem = f"run {run.run_id} has {', '.join(wrong)}"
        repair = partial(amend, status=expected.status, ended=run.ended or expected.ended, tags=tags)
        differs("status", problem, "sets what Optuna says", repair)
