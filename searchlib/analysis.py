"""What the stored trials say: the state of a study, its cells, its leader. Reads; changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from searchlib.storage import load_optuna_study

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from searchlib.study import Study

__all__ = ["Cell", "best_trial", "cells", "proportion_interval", "study_status"]

OUTCOMES = ("completed", "pruned", "diverged", "failed")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One combination of the scientific values, with its best trial.

    points: finished trials; diverged: those of them that did. best is None where no trial completed.
    """

    scientific: Mapping[str, Any]
    points: int
    diverged: int
    best: float | None
    trial: int | None
    nuisance: Mapping[str, Any]


def outcome(trial: FrozenTrial) -> str:
    """``completed``, ``pruned``, ``diverged``, ``failed`` or ``running``."""
    if not trial.state.is_finished():
        return "running"
    return str(trial.user_attrs.get("outcome", "failed"))


def best_trial(study: Study, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The best completed trial; of equal ones the first. Diverged and pruned trials don't count."""
    best: FrozenTrial | None = None
    for trial in trials:
        if outcome(trial) != "completed" or not trial.values:
            continue
        if best is None or not best.values or study.better(trial.values[0], best.values[0]):
            best = trial
    return best


def cells(study: Study, trials: Sequence[FrozenTrial]) -> list[Cell]:
    """The cells that have a finished trial, best first; with no scientific dimension one cell of all trials."""
    grouped: dict[tuple[tuple[str, Any], ...], list[FrozenTrial]] = {}
    for trial in trials:
        if trial.state.is_finished():
            grouped.setdefault(study.cell_of(trial.params), []).append(trial)
    found = []
    for key, members in grouped.items():
        best = best_trial(study, members)
        found.append(
            Cell(
                scientific=dict(key),
                points=len(members),
                diverged=sum(outcome(trial) == "diverged" for trial in members),
                best=best.values[0] if best and best.values else None,
                trial=best.number if best else None,
                nuisance={name: value for name, value in best.params.items() if name not in dict(key)} if best else {},
            )
        )
    worst = float("-inf") if study.direction == "maximize" else float("inf")
    return sorted(
        found, key=lambda cell: worst if cell.best is None else cell.best, reverse=study.direction == "maximize"
    )


def study_status(study: Study, storage: str, *, target: int | None = None) -> dict[str, Any]:
    """The object that ``status --json`` prints; all zero and null for a study that has not begun."""
    optuna_study = load_optuna_study(storage, study.name)
    trials = optuna_study.get_trials(deepcopy=False) if optuna_study else []
    attributes = optuna_study.user_attrs if optuna_study else {}
    outcomes = [outcome(trial) for trial in trials]
    best = best_trial(study, trials)
    ledger = attributes.get("test_ledger")
    return {
        "study": study.name,
        "question": study.question,
        "trials": {
            "target": target if target is not None else attributes.get("target", study.trials),
            "total": len(trials),
            **{name: outcomes.count(name) for name in OUTCOMES},
            "running": outcomes.count("running"),
        },
        "best": best and {"number": best.number, "value": best.values[0], "params": best.params},
        "cells": [
            {
                "scientific": dict(cell.scientific),
                "points": cell.points,
                "diverged": cell.diverged,
                "best": cell.best,
                "trial": cell.trial,
                "nuisance": dict(cell.nuisance),
            }
            for cell in cells(study, trials)
        ],
        "test": ledger["result"] if ledger and ledger.get("result") else None,
        "test_ledger": ledger,
    }


def proportion_interval(successes: int, total: int) -> tuple[float, float]:
    """95 % Wilson score interval of a proportion (Wilson 1927), from scipy."""
    from scipy.stats import binomtest

    interval = binomtest(successes, total).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)
