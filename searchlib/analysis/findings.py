"""What the stored trials say: the state of a study, its cells, its leader, its answer. Reads; changes nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from searchlib.analysis.answer import answer
from searchlib.analysis.comparison import ALPHA, compare, resolved
from searchlib.analysis.edges import edges
from searchlib.analysis.standing import (
    cells,
    outcome,
    outcome_counts,
    planned_looks,
    race_is_over,
    replicate_values,
    trials_by_cell,
)
from searchlib.analysis.statistics import effects, expected_best, mean_interval
from searchlib.data import get_dataset
from searchlib.text import describe

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from searchlib.analysis.standing import Cell, Stored
    from searchlib.study import Study

__all__ = [
    "analyze",
]


COMPARED = (
    "n", "difference", "low", "high", "p", "adjusted_p", "probability", "probability_low", "probability_high",
    "verdict", "told_apart",
)  # fmt: skip


def analyze(study: Study, stored: Stored) -> dict[str, Any]:
    """Everything that the stores say about the question, as plain JSON.

    The same stores give the same object. What can't be computed is null or empty, and ``notes`` says why. Replicates
    count look by look, as a look that is under way has reached some cells and not others.
    """
    trials, replicates, race, ledger = stored.trials, stored.replicates, stored.race, stored.ledger
    found = cells(study, trials)
    by_cell = trials_by_cell(study, trials)
    sources = {cell.trial: tuple(cell.scientific.items()) for cell in found if cell.trial is not None}
    over = race_is_over(study, race, sources)
    reached = int(race.get("reached", 0))
    values = {key: of for key, of in replicate_values(sources, replicates, reached).items() if of}
    plan = planned_looks(study) or tuple(race.get("looks", ()))
    first, compared = compare(values, study.direction, plan)
    stale = {
        study.cell_of(trial.params)
        for trial in replicates
        if trial.user_attrs.get("source") not in sources and trial.state.is_finished()
    }
    rows = [
        _cell(study, cell, by_cell[key], values.get(key, {}), [trial for trial in replicates if _repeats(trial, cell)])
        for cell in found
        for key in [tuple(cell.scientific.items())]
    ]
    for row in rows:
        if tuple(row["scientific"].items()) in stale:
            row["flags"].append("ignored: stale replicates")
        if replicates and not row["n"]:
            row["flags"].append("not replicated")
    sign = -1.0 if study.direction == "maximize" else 1.0
    rows.sort(key=lambda row: (-row["n"], sign * row["mean"] if row["n"] else 0.0))  # stable: else by search_best
    rows.sort(key=lambda row: first is not None and tuple(row["scientific"].items()) != first)
    winner = rows[0] if rows and rows[0]["trial"] is not None else None
    terms, why_no_effects = effects([dict(key) for key in values], list(values.values()), list(study.scientific))
    importances, why_no_importances = _importances(study, trials)
    test = (ledger or {}).get("result")
    report = {
        "study": study.name,
        "question": study.question,
        "metric": study.metric,
        "direction": study.direction,
        "dataset": get_dataset(study.dataset).name,
        "answer": "",
        "cells": rows,
        "comparisons": [
            {
                "cell": dict(first or ()),
                "against": dict(one.against),
                "cell_label": _label(dict(first or ())),
                "against_label": _label(dict(one.against)),
                **{name: getattr(one, name) for name in COMPARED},
            }
            for one in compared
        ],
        "winner": winner and {name: winner[name] for name in ("label", "scientific", "nuisance", "trial")},
        "resolved": resolved(compared),
        "alpha": ALPHA,
        "effects": terms,
        "importances": importances,
        "optimism": {
            "search_best": winner and winner["search_best"],
            "fresh_mean": winner and winner["mean"],
            "fresh_low": winner and winner["low"],
            "fresh_high": winner and winner["high"],
            # of another configuration (evaluated before a race, say) it has no place beside the winner's
            "test": test.get("loss" if test.get("accuracy") is None else "accuracy")
            if test and winner and test["trial"] == winner["trial"]
            else None,
        },
        "replicates": {
            "target": study.replicates,
            "race": study.replicate_race,
            "reached": reached,
            "looks": list(plan),
            "finished": over,
            "undecided": list(race.get("undecided", ())),
            "runs": sum(trial.state.is_finished() for trial in replicates),
        }
        if study.replicates or replicates
        else None,
        "test": test,
        "test_ledger": ledger,
        "trials": outcome_counts(trials),
        "notes": [],
    }
    report["notes"] = _notes(study, report, [why_no_effects, why_no_importances])
    report["answer"] = answer(report)
    plain: dict[str, Any] = _plain(report)
    return plain


def _label(scientific: Mapping[str, Any]) -> str:
    return describe(scientific) or "all trials"


def _repeats(trial: FrozenTrial, cell: Cell) -> bool:
    return cell.trial is not None and trial.user_attrs.get("source") == cell.trial


def _cell(
    study: Study,
    cell: Cell,
    members: Sequence[FrozenTrial],
    values: Mapping[int, float],
    replicates: Sequence[FrozenTrial],
) -> dict[str, Any]:
    """One entry of ``cells``."""
    mean, deviation, low, high = mean_interval(list(values.values())) if values else (None, None, None, None)
    edge = edges(study.nuisance, cell.nuisance)
    budget = _budget(study, members, deviation)
    counted = [trial for trial in replicates if trial.params["replicate"] in values]
    diverged = sum(outcome(trial) == "diverged" for trial in counted)
    flags = [f"edge: {one['name']} {one['side']}" for one in edge]
    flags += ["budget short"] if budget["enough"] is False else []
    flags += [f"{cell.diverged} of {cell.points} diverged"] if cell.diverged else []
    flags += [f"{diverged} of {len(counted)} replicates diverged"] if diverged else []
    own = [trial for trial in members if trial.number == cell.trial] or members
    return {
        "label": _label(cell.scientific),
        "scientific": dict(cell.scientific),
        "nuisance": dict(cell.nuisance),
        "trial": cell.trial,
        "search_best": cell.best,
        "points": cell.points,
        "pruned": sum(outcome(trial) == "pruned" for trial in members),
        "diverged": cell.diverged,
        "diverged_fraction": cell.diverged / cell.points,
        "n": len(values),
        "mean": mean,
        "sd": deviation,
        "low": low,
        "high": high,
        "values": {str(replicate): value for replicate, value in values.items()},
        "edges": edge,
        "budget": budget,
        "diagnosis": next((list(found) for trial in own if (found := trial.user_attrs.get("diagnosis"))), []),
        "flags": flags,
    }


def _budget(study: Study, members: Sequence[FrozenTrial], noise: float | None) -> dict[str, Any]:
    """Expected best against the number of points; enough where doubling half of them gained less than the noise."""
    biased, unbiased = expected_best([trial.values[0] for trial in members if trial.values], study.direction)
    gain = abs(unbiased[-1] - unbiased[len(unbiased) // 2 - 1]) if len(unbiased) > 1 else None
    enough = None if gain is None or noise is None else gain <= noise
    return {"biased": biased, "unbiased": unbiased, "gain": gain, "enough": enough}


def _importances(study: Study, trials: Sequence[FrozenTrial]) -> tuple[dict[str, float], str | None]:
    """Optuna's, by its default evaluator, over all completed trials; or why there are none."""
    import warnings

    import optuna
    from optuna.importance import get_param_importances
    from optuna.trial import TrialState

    done = [trial for trial in trials if trial.state == TrialState.COMPLETE and trial.values]
    if len({trial.values[0] for trial in done}) < 2:
        return {}, "no importances: fewer than two trials with different values"
    search = optuna.create_study(direction=study.direction, storage=optuna.storages.InMemoryStorage())
    search.add_trials(done)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return dict(get_param_importances(search)), None
    except (ValueError, RuntimeError) as error:
        return {}, f"no importances: {' '.join(str(error).split())}"


def _notes(study: Study, report: Mapping[str, Any], reasons: Sequence[str | None]) -> list[str]:
    """What can't be computed, or doesn't hold for all cells, and why."""
    notes = []
    rows, race = report["cells"], report["replicates"]
    if not rows:
        return ["no trial is finished: there is nothing to analyze yet"]
    if race is None:
        notes.append("no replicates: each cell is judged by its best trial of the search, on one seed")
    elif not race["runs"]:
        notes.append("the replicates have not begun: each cell is judged by its best trial of the search, on one seed")
    elif not race["finished"]:
        state = "were stopped by the opening of the test set" if report["test_ledger"] else "are unfinished"
        if race["race"] or race["reached"]:
            counts = f"{race['reached']} of at most {race['target']} seeds are complete, and only these count"
        else:
            counts = f"they are compared once, when all cells have all {race['target']} seeds, and don't count before"
        notes.append(f"the replicates {state}: {counts}")
    if race and (earlier := [end for end in race["undecided"] if end != race["reached"]]):
        ends = ", then ".join(map(str, [*earlier, race["reached"]]))
        notes.append(
            f"the replicates were raised after an undecided end (to {ends} seeds): each end spends alpha anew, so the "
            "level of what is claimed is above it"
        )
    if race and not any(row["n"] for row in rows):
        notes.append("no intervals or comparisons: no look of the replicates is complete")
    missing = sum(row["n"] == 0 for row in rows)
    if 0 < missing < len(rows):
        notes.append(f"{missing} of {len(rows)} cells have no replicates: what is said of the winner isn't about them")
    if len(rows) == 1:
        notes.append("a single cell: there is nothing to compare it with")
    if any(one["p"] is None for one in report["comparisons"]):
        notes.append("some comparisons have no p-value: fewer than two common seeds, or differences that don't vary")
    cells_wanted = len(study.cells)
    if len(rows) < cells_wanted:
        notes.append(f"{cells_wanted - len(rows)} of {cells_wanted} cells have no finished trial")
    return notes + [reason for reason in reasons if reason]


def _plain(value: Any) -> Any:
    """As JSON has it: no NaN or infinity, no -0.0, numpy's numbers as Python's."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(value) + 0.0 if math.isfinite(value) else None
    return value
