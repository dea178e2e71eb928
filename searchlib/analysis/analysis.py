"""From stored trials to findings: cells, winner, comparisons, effects, notes, answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from searchlib.analysis.answer import answer
from searchlib.analysis.comparison import ALPHA, compare, resolved
from searchlib.analysis.edges import edges
from searchlib.analysis.findings import Budget, CellComparison, CellFinding, Findings, Optimism, RaceState, Winner
from searchlib.analysis.on_test_set import counted_reasons, tested_cells
from searchlib.analysis.standing import (
    Cell,
    CellKey,
    Stored,
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
from searchlib.study import Study
from searchlib.text import describe

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


def analyze(study: Study, stored: Stored) -> Findings:
    """Everything that the stores say about the question. The same stores give the same findings.

    Replicates count up to the last complete look: a look under way has reached some cells and not others.
    """
    trials, replicates, race, ledger = stored.trials, stored.replicates, stored.race, stored.ledger
    found = cells(study, trials)
    sources = {cell.trial: cell.key for cell in found if cell.trial is not None}
    reached = int(race.get("reached", 0))
    values = {key: of for key, of in replicate_values(sources, replicates, reached).items() if of}
    looks = planned_looks(study) or tuple(race.get("looks", ()))
    leading, compared = compare(values, study.direction, looks)
    rows = _cells(study, stored, found, values, leading)
    terms, why_no_effects = effects([dict(key) for key in values], list(values.values()), list(study.scientific))
    importances, why_no_importances = _importances(study, trials)
    findings = Findings(
        study=study.name,
        question=study.question,
        metric=study.metric,
        direction=study.direction,
        dataset=get_dataset(study.dataset).name,
        answer="",
        cells=rows,
        comparisons=tuple(
            CellComparison(
                cell=dict(leading or ()),
                against=dict(other),
                cell_label=_label(dict(leading or ())),
                against_label=_label(dict(other)),
                **vars(one),
            )
            for other, one in compared.items()
        ),
        winner=_winner(rows),
        resolved=resolved(compared.values()),
        alpha=ALPHA,
        effects=tuple(terms),
        importances=importances,
        optimism=_optimism(rows),
        replicates=RaceState(
            target=study.replicates,
            race=study.replicate_race,
            reached=reached,
            looks=looks,
            finished=race_is_over(study, race, sources),
            undecided=tuple(race.get("undecided", ())),
            runs=sum(trial.state.is_finished() for trial in replicates),
        )
        if study.replicates or replicates
        else None,
        test_result=ledger.result if ledger else None,
        test_by_cell=tested_cells(
            study, stored, sources, reached, {tuple(row.scientific.items()): row.label for row in rows}
        ),
        test_ledger=ledger,
        trials=outcome_counts(trials),
        notes=(),
    )
    findings = replace(findings, notes=_notes(study, findings, [why_no_effects, why_no_importances]))
    if stored.foreign:
        numbers = ", ".join(map(str, stored.foreign))
        ignored = f"trials {numbers} of the Optuna study are ignored: another program made them"
        findings = replace(findings, notes=(*findings.notes, ignored))
    return replace(findings, answer=answer(findings))


def _cells(
    study: Study,
    stored: Stored,
    found: Sequence[Cell],
    values: Mapping[CellKey, Mapping[int, float]],
    leading: CellKey | None,
) -> tuple[CellFinding, ...]:
    """The cells, the leading one first; then by number of replicates, then mean, then as the search has *found* them.

    values: of the replicates that count, by cell and replicate.
    """
    members = trials_by_cell(study, stored.trials)
    best = {cell.trial for cell in found if cell.trial is not None}
    stale = {
        study.cell_of(trial.params)
        for trial in stored.replicates
        if trial.user_attrs.get("source") not in best and trial.state.is_finished()
    }
    rows = {}
    for cell in found:
        flags = ["ignored: stale replicates"] if cell.key in stale else []
        if stored.replicates and cell.key not in values:
            flags.append("not replicated")
        own = [trial for trial in stored.replicates if trial.user_attrs.get("source") == cell.trial is not None]
        rows[cell.key] = _cell(study, cell, members[cell.key], values.get(cell.key, {}), own, flags)
    sign = -1.0 if study.direction == "maximize" else 1.0
    ordered = sorted(rows, key=lambda key: (-rows[key].n, sign * (rows[key].mean or 0.0)))
    ordered.sort(key=lambda key: leading is not None and key != leading)
    return tuple(rows[key] for key in ordered)


def _winner(rows: Sequence[CellFinding]) -> Winner | None:
    first = rows[0] if rows else None
    if first is None or first.trial is None:
        return None
    return Winner(label=first.label, scientific=first.scientific, nuisance=first.nuisance, trial=first.trial)


def _optimism(rows: Sequence[CellFinding]) -> Optimism:
    if not rows or rows[0].trial is None:
        return Optimism(search_best=None, fresh_mean=None, fresh_low=None, fresh_high=None)
    first = rows[0]
    return Optimism(search_best=first.search_best, fresh_mean=first.mean, fresh_low=first.low, fresh_high=first.high)


def _label(scientific: Mapping[str, Any]) -> str:
    return describe(scientific) or "all trials"


def _cell(
    study: Study,
    cell: Cell,
    members: Sequence[FrozenTrial],
    values: Mapping[int, float],
    replicates: Sequence[FrozenTrial],
    flags: Sequence[str],
) -> CellFinding:
    """One cell. members: its finished trials. values: of those *replicates* that count. flags: more of them."""
    mean, deviation, low, high = mean_interval(list(values.values())) if values else (None, None, None, None)
    edge = edges(study.nuisance, cell.nuisance)
    budget = _budget(study, members, deviation)
    counted = [trial for trial in replicates if trial.params["replicate"] in values]
    diverged = sum(outcome(trial) == "diverged" for trial in counted)
    own_flags = [f"edge: {one.name} {one.side}" for one in edge]
    own_flags += ["budget short"] if budget.enough is False else []
    own_flags += [f"{cell.diverged} of {cell.points} diverged"] if cell.diverged else []
    own_flags += [f"{diverged} of {len(counted)} replicates diverged"] if diverged else []
    own = [trial for trial in members if trial.number == cell.trial] or members
    return CellFinding(
        label=_label(cell.scientific),
        scientific=cell.scientific,
        nuisance=cell.nuisance,
        trial=cell.trial,
        search_best=cell.best,
        points=cell.points,
        pruned=sum(outcome(trial) == "pruned" for trial in members),
        diverged=cell.diverged,
        diverged_fraction=cell.diverged / cell.points,
        n=len(values),
        mean=mean,
        sd=deviation,
        low=low,
        high=high,
        values=values,
        edges=edge,
        budget=budget,
        diagnosis=next((tuple(found) for trial in own if (found := trial.user_attrs.get("diagnosis"))), ()),
        flags=(*own_flags, *flags),
    )


def _budget(study: Study, members: Sequence[FrozenTrial], noise: float | None) -> Budget:
    """Enough where doubling half of the points gained no more than the noise between seeds."""
    biased, unbiased = expected_best([trial.values[0] for trial in members if trial.values], study.direction)
    gain = abs(unbiased[-1] - unbiased[len(unbiased) // 2 - 1]) if len(unbiased) > 1 else None
    enough = None if gain is None or noise is None else gain <= noise
    return Budget(biased=tuple(biased), unbiased=tuple(unbiased), gain=gain, enough=enough)


def _importances(study: Study, trials: Sequence[FrozenTrial]) -> tuple[dict[str, float], str | None]:
    """Optuna's, by its default evaluator, over all completed trials; or why there are none."""
    import warnings

    import optuna
    from optuna.importance import get_param_importances
    from optuna.trial import TrialState, create_trial

    done = [trial for trial in trials if trial.state == TrialState.COMPLETE and trial.values]
    if len({trial.values[0] for trial in done}) < 2:
        return {}, "no importances: fewer than two trials with different values"
    search = optuna.create_study(direction=study.direction, storage=optuna.storages.InMemoryStorage())
    search.add_trials(  # copies without attributes: Optuna copies each trial whole
        [create_trial(params=one.params, distributions=one.distributions, values=one.values) for one in done]
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = get_param_importances(search)
    except (ValueError, RuntimeError) as error:
        return {}, f"no importances: {' '.join(str(error).split())}"
    names = list(study.dimensions)  # equal ones come in any order from Optuna
    return {name: found[name] for name in sorted(found, key=lambda name: (-found[name], names.index(name)))}, None


def _notes(study: Study, findings: Findings, reasons: Sequence[str | None]) -> tuple[str, ...]:
    """What can't be computed, or doesn't hold for all cells, and why."""
    notes = []
    rows, race = findings.cells, findings.replicates
    if not rows:
        return ("no trial is finished: there is nothing to analyze yet",)
    if race is None:
        notes.append("no replicates: each cell is judged by its best trial of the search, on one seed")
    elif not race.runs:
        notes.append("the replicates have not begun: each cell is judged by its best trial of the search, on one seed")
    elif not race.finished:
        state = "were stopped by the opening of the test set" if findings.test_ledger else "are unfinished"
        if race.race or race.reached:
            counts = f"{race.reached} of at most {race.target} seeds are complete, and only these count"
        else:
            counts = f"cells are compared once, when all of them have all {race.target} seeds"
        notes.append(f"the replicates {state}: {counts}")
    if race and (earlier := [end for end in race.undecided if end != race.reached]):
        ends = ", then ".join(map(str, [*earlier, race.reached]))
        notes.append(
            f"replicates was raised after a race without a single leader (to {ends} seeds): each race spends alpha "
            "anew, so the error rate of the claims is above alpha"
        )
    if race and not any(row.n for row in rows):
        notes.append("no intervals or comparisons: no look of the replicates is complete")
    missing = sum(row.n == 0 for row in rows)
    if 0 < missing < len(rows):
        notes.append(f"{missing} of {len(rows)} cells have no replicates: the winner isn't compared with them")
    if len(rows) == 1:
        notes.append("a single cell: there is nothing to compare it with")
    if any(one.p is None for one in findings.comparisons):
        notes.append("some comparisons have no p-value: the two cells have fewer than two seeds in common")
    cells_wanted = len(study.cells)
    if len(rows) < cells_wanted:
        notes.append(f"{cells_wanted - len(rows)} of {cells_wanted} cells have no finished trial")
    ledger = findings.test_ledger
    if ledger and ledger.result and ledger.left_out:
        what = "no test by cell" if findings.test_by_cell is None else "left out of the test by cell"
        notes.append(f"{what}: {counted_reasons(ledger.left_out)}")
    return (*notes, *filter(None, reasons))
