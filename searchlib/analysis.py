"""What the stored trials say: the state of a study, its cells, its leader, its answer. Reads; changes nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from searchlib.comparison import ALPHA, compare, effects, expected_best, leader, looks, mean_interval, resolved
from searchlib.data import get_dataset
from searchlib.edges import edges
from searchlib.space import Primitive
from searchlib.storage import load_optuna_study, replicates_name
from searchlib.wording import answer, describe

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from searchlib.study import Study

__all__ = [
    "Cell",
    "analyze",
    "best_trial",
    "cells",
    "champion",
    "proportion_interval",
    "stored_replicates",
    "study_status",
]

Key = tuple[tuple[str, Primitive], ...]  # of a cell: its scientific values

OUTCOMES = ("completed", "pruned", "diverged", "failed")
COMPARED = (
    "n", "difference", "low", "high", "p", "adjusted_p", "probability", "probability_low", "probability_high",
    "verdict", "told_apart",
)  # fmt: skip


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
    found = []
    for key, members in _by_cell(study, trials).items():
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


def _by_cell(study: Study, trials: Sequence[FrozenTrial]) -> dict[Key, list[FrozenTrial]]:
    grouped: dict[Key, list[FrozenTrial]] = {}
    for trial in trials:
        if trial.state.is_finished():
            grouped.setdefault(study.cell_of(trial.params), []).append(trial)
    return grouped


def champion(
    study: Study,
    trials: Sequence[FrozenTrial],
    replicates: Sequence[FrozenTrial],
    race: Mapping[str, Any] | None,
) -> FrozenTrial | None:
    """The trial whose weights are the champion: a replicate (it has ``replicate`` in its params), or the best trial.

    After a finished race: of the cell with the best mean among those that raced farthest the best completed
    replicate, of equal ones the first. Otherwise, and where that cell has none, the best trial of the search.
    """
    sources = {cell.trial: cell.trial for cell in cells(study, trials) if cell.trial is not None}
    if race and _race_finished(study, race, sources):
        reached = race["reached"]
        first = leader(_values(sources, replicates, reached), study.direction)
        raced = [trial for trial in replicates if trial.params["replicate"] <= reached]
        best = best_trial(study, [trial for trial in raced if trial.user_attrs.get("source") == first])
        if best is not None:
            return best
    return best_trial(study, trials)


def _race_finished(study: Study, race: Mapping[str, Any], sources: Mapping[int, Any]) -> bool:
    """Whether the race is over, and still about the cells' best trials: the search may have found better ones since."""
    wanted = list(sources)[: study.replicate_cells]
    return bool(race.get("finished")) and set(race.get("candidates", ())) == set(wanted)


def _values(
    sources: Mapping[int, Any], replicates: Sequence[FrozenTrial], most: float = math.inf
) -> dict[Any, dict[int, float]]:
    """The values of the finished replicates of *sources* (search trial to cell), by cell and replicate up to *most*."""
    found: dict[Any, dict[int, float]] = {cell: {} for cell in sources.values()}
    for trial in sorted(replicates, key=lambda trial: trial.params["replicate"]):
        source, replicate = trial.user_attrs.get("source", -1), trial.params["replicate"]
        if source in sources and trial.state.is_finished() and trial.values and replicate <= most:
            found[sources[source]][replicate] = trial.values[0]
    return found


def study_status(study: Study, storage: str, *, target: int | None = None) -> dict[str, Any]:
    """The object that ``status --json`` prints; all zero and null for a study that has not begun."""
    optuna_study = load_optuna_study(storage, study.name)
    trials = optuna_study.get_trials(deepcopy=False) if optuna_study else []
    attributes = optuna_study.user_attrs if optuna_study else {}
    best = best_trial(study, trials)
    ledger = attributes.get("test_ledger")
    replicates, race = stored_replicates(study, optuna_study)
    found = cells(study, trials)
    sources = {cell.trial: cell.trial for cell in found if cell.trial is not None}
    values = _values(sources, replicates)
    return {
        "study": study.name,
        "question": study.question,
        "trials": {
            "target": target if target is not None else attributes.get("target", study.trials),
            **_counts(trials),
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
                "replicates": list(values.get(cell.trial, {}).values()),
            }
            for cell in found
        ],
        "replicates": {
            "target": study.replicates,
            **_counts(replicates),
            "race": study.replicate_race,
            "reached": race.get("reached", 0) if study.replicate_race else _complete(study, sources, replicates),
            "finished": _over(study, race, sources),
        }
        if study.replicates
        else None,
        "test": ledger["result"] if ledger and ledger.get("result") else None,
        "test_ledger": ledger,
    }


def _counts(trials: Sequence[FrozenTrial]) -> dict[str, int]:
    outcomes = [outcome(trial) for trial in trials]
    return {
        "total": len(trials),
        **{name: outcomes.count(name) for name in OUTCOMES},
        "running": outcomes.count("running"),
    }


def stored_replicates(study: Study, search: optuna.Study | None) -> tuple[list[FrozenTrial], dict[str, Any]]:
    """The trials of ``<study>.replicates`` and its race; from the storage that is open already."""
    import optuna

    if search is None:
        return [], {}
    try:
        stored = optuna.load_study(study_name=replicates_name(study), storage=search._storage)
    except KeyError:
        return [], {}
    return stored.get_trials(deepcopy=False), dict(stored.user_attrs.get("race") or {})


def _plan(study: Study) -> tuple[int, ...]:
    """The looks of the study as its file has it now."""
    return looks(study.replicates, race=study.replicate_race)


def _over(study: Study, race: Mapping[str, Any], sources: Mapping[int, Any]) -> bool:
    """Whether the race is over for the study as its file has it now."""
    return _race_finished(study, race, sources) and tuple(race.get("looks", ())) == _plan(study)


def _complete(study: Study, sources: Mapping[int, Any], replicates: Sequence[FrozenTrial]) -> int:
    """The seeds of the present target that all cells to be replicated have behind them."""
    ran = {(t.user_attrs.get("source"), t.params["replicate"]) for t in replicates if t.state.is_finished()}
    wanted = list(sources)[: study.replicate_cells]
    seeds = range(1, study.replicates + 1)
    return sum(all((source, seed) in ran for source in wanted) for seed in seeds) if wanted else 0


def proportion_interval(successes: int, total: int) -> tuple[float, float]:
    """95 % Wilson score interval of a proportion (Wilson 1927), from scipy."""
    from scipy.stats import binomtest

    interval = binomtest(successes, total).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def analyze(study: Study, storage: str) -> dict[str, Any]:
    """Everything that the stores say about the question, as plain JSON.

    The same stores give the same object. What can't be computed is null or empty, and ``notes`` says why. Replicates
    count look by look, as a look that is under way has reached some cells and not others.
    """
    search = load_optuna_study(storage, study.name)
    trials = search.get_trials(deepcopy=False) if search else []
    replicates, race = stored_replicates(study, search)
    found = cells(study, trials)
    by_cell = _by_cell(study, trials)
    sources = {cell.trial: tuple(cell.scientific.items()) for cell in found if cell.trial is not None}
    over = _over(study, race, sources)
    reached = int(race.get("reached", 0))
    values = {key: of for key, of in _values(sources, replicates, reached).items() if of}
    plan = _plan(study) or tuple(race.get("looks", ()))
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
    importances, why_no_importances = _importances(search)
    ledger = search.user_attrs.get("test_ledger") if search else None
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
        "trials": _counts(trials),
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


def _importances(search: optuna.Study | None) -> tuple[dict[str, float], str | None]:
    """Optuna's, by its default evaluator, over all completed trials; or why there are none."""
    import warnings

    from optuna.importance import get_param_importances
    from optuna.trial import TrialState

    done = search.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) if search else []
    if search is None or len({trial.values[0] for trial in done if trial.values}) < 2:
        return {}, "no importances: fewer than two trials with different values"
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
