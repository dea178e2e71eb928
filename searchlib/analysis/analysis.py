"""From stored trials to findings: cells, winner, comparisons, effects, notes, answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from searchlib.analysis.answer import answer
from searchlib.analysis.comparison import ALPHA, chosen_interval, compare, learnt, resolved, unit_means
from searchlib.analysis.edges import edges
from searchlib.analysis.effects import effects, simple_effects, without_dominating
from searchlib.analysis.examples import correct_by_unit, crossed, for_new_examples
from searchlib.analysis.failures import failure_rates
from searchlib.analysis.findings import (
    CellComparison,
    CellFinding,
    Findings,
    Optimism,
    RaceState,
    Winner,
)
from searchlib.analysis.method import method
from searchlib.analysis.on_test_set import counted_reasons, tested_cells
from searchlib.analysis.picks import best_pick, picks_of
from searchlib.analysis.spending import EXTENSION_SHARE, Plan
from searchlib.analysis.standing import (
    Cell,
    CellKey,
    Stored,
    cells,
    has_learnt,
    outcome,
    outcome_counts,
    plan,
    race_is_over,
    replicate_values,
    sources,
    trials_by_cell,
)
from searchlib.analysis.statistics import mean_interval, proportion_interval, within_limits
from searchlib.analysis.tuning import budget
from searchlib.data import get_dataset
from searchlib.study import Study
from searchlib.text import describe

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from optuna.trial import FrozenTrial


def analyze(study: Study, stored: Stored) -> Findings:
    """Everything that the stores say about the question. The same stores give the same findings.

    Replicates count up to the last complete look: a look under way has reached some cells and not others.
    """
    trials, replicates, race, ledger = stored.trials, stored.replicates, stored.race, stored.ledger
    found, compared_by = cells(study, trials), plan(study, race)
    reached = int(race.get("reached", 0))
    values = {key: of for key, of in replicate_values(sources(found), replicates, reached).items() if of}
    leading, compared = compare(values, compared_by)
    examples = correct_by_unit(sources(found), replicates, reached, compared_by)
    rows = _cells(study, stored, found, values, leading, compared_by, examples)
    able = {key: units for key, of in values.items() if (units := unit_means(of, compared_by))}
    layout = [dict(key) for key in able], list(able.values()), list(study.scientific), compared_by.overlap
    terms, why_no_effects = effects(*layout)
    if 0 < len(able) < len(values):
        without = _cells_counted(len(values) - len(able))
        left_out = f"the analysis of variance leaves out {without}, in which no replicate learnt"
        why_no_effects = f"no effects: in {without} no replicate learnt" if why_no_effects else left_out
    ties = [other for other, one in compared.items() if not one.told_apart]
    dominating, others = without_dominating(*layout) if terms else ({}, [])
    importances, among, why_no_importances = _importances(study, trials)
    labels = {tuple(row.scientific.items()): row.label for row in rows}
    tied = {leading, *ties} if leading else set()
    tested = tested_cells(study, stored, sources(found), reached, labels, tied)
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
                **for_new_examples(examples, compared_by, leading, other, one),
            )
            for other, one in compared.items()
        ),
        winner=_winner(study, rows, ties, able, compared_by.overlap),
        resolved=resolved(compared.values()),
        alpha=ALPHA,
        margin=study.margin,
        effects=tuple(terms),
        dominating=dominating,
        effects_without=tuple(others),
        simple_effects=tuple(simple_effects(values, compared_by, list(study.scientific))),
        importances=importances,
        importances_among=among,
        searches=study.searches,
        method=method(study, replicates, compared_by, tested=tested is not None),
        optimism=_optimism(rows),
        replicates=RaceState(
            target=study.replicates,
            race=study.replicate_race,
            reached=reached,
            looks=compared_by.looks,
            finished=race_is_over(study, race, found),
            planned_end=compared_by.planned_end or max(compared_by.looks, default=None),
            undecided=tuple(race.get("undecided", ())),
            runs=sum(trial.state.is_finished() for trial in replicates),
        )
        if study.replicates or replicates
        else None,
        test_result=ledger.result if ledger else None,
        test_by_cell=tested,
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
    values: Mapping[CellKey, Mapping[int, float | None]],
    leading: CellKey | None,
    compared_by: Plan,
    examples: Mapping[CellKey, Mapping[int, NDArray[Any]]],
) -> tuple[CellFinding, ...]:
    """The cells, the leading one first; then by number of replicates, then mean, then as the search has *found* them.

    values: of the replicates that count, by cell and replicate.
    """
    members = trials_by_cell(study, stored.trials)
    best = sources(found)
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
        own = [trial for trial in stored.replicates if best.get(trial.user_attrs.get("source", -1)) == cell.key]
        rows[cell.key] = _cell(study, cell, members[cell.key], values.get(cell.key, {}), own, flags, compared_by)
        if len(known := examples.get(cell.key, {})) > 1:
            interval = crossed(list(known.values())).population
            low, high = within_limits(study.metric, interval.low, interval.high)
            rows[cell.key] = replace(rows[cell.key], population_low=low, population_high=high)
    sign = -1.0 if study.direction == "maximize" else 1.0
    ordered = sorted(rows, key=lambda key: (-len(values.get(key, ())), sign * (rows[key].mean or 0.0)))
    ordered.sort(key=lambda key: leading is not None and key != leading)
    return tuple(rows[key] for key in ordered)


def _winner(
    study: Study,
    rows: Sequence[CellFinding],
    ties: Sequence[CellKey],
    units: Mapping[CellKey, Mapping[int, float]],
    overlap: float,
) -> Winner | None:
    """The first row. ties: the cells that it isn't told apart from; units: the values of each cell by unit."""
    first = rows[0] if rows else None
    if first is None or first.trial is None:
        return None
    own = tuple(first.scientific.items())
    low, high = chosen_interval(units.get(own, {}), [units[key] for key in ties if key in units], overlap=overlap)
    low, high = within_limits(study.metric, low, high)
    return Winner(
        label=first.label,
        scientific=first.scientific,
        nuisance=first.nuisance,
        trial=first.trial,
        pick=best_pick(study, first.picks),
        among=1 + len(ties),
        low=low,
        high=high,
    )


def _optimism(rows: Sequence[CellFinding]) -> Optimism:
    if not rows or rows[0].trial is None:
        return Optimism(search_best=None, fresh_mean=None, fresh_low=None, fresh_high=None)
    first = rows[0]
    repeated = [pick.search_best for pick in first.picks if pick.n or not first.n]
    return Optimism(
        search_best=mean_interval(repeated)[0], fresh_mean=first.mean, fresh_low=first.low, fresh_high=first.high
    )


def _label(scientific: Mapping[str, Any]) -> str:
    return describe(scientific) or "all trials"


def _cells_counted(count: int) -> str:
    return f"{count} cell{'' if count == 1 else 's'}"


def _cell(
    study: Study,
    cell: Cell,
    members: Sequence[FrozenTrial],
    values: Mapping[int, float | None],
    replicates: Sequence[FrozenTrial],
    flags: Sequence[str],
    compared_by: Plan,
) -> CellFinding:
    """One cell. members: its finished trials. values: of those *replicates* that count. flags: more of them."""
    counting, units = learnt(values), unit_means(values, compared_by)
    mean, _, low, high = (
        mean_interval(list(units.values()), overlap=compared_by.overlap) if units else (None, None, None, None)
    )
    deviation = mean_interval(list(counting.values()))[1] if counting else None
    low, high = within_limits(study.metric, low, high)
    failed = len(values) - len(counting)
    rates = failure_rates(values, compared_by)
    rare, often = proportion_interval(sum(rates), len(rates)) if rates else (None, None)
    picks = picks_of(study, cell, members, counting)
    edge = edges(study.nuisance, [pick.nuisance for pick in picks])
    points = budget(study, members, deviation)
    counted = [trial for trial in replicates if trial.params["replicate"] in values]
    diverged = sum(outcome(trial) == "diverged" for trial in counted)
    own_flags = [f"edge: {one.name} {one.side}" for one in edge if one.in_most]
    own_flags += ["budget short"] if points.enough is False else []
    own_flags += [f"{cell.diverged} of {cell.points} diverged"] if cell.diverged else []
    own_flags += [f"{diverged} of {len(counted)} replicates diverged"] if diverged else []
    own_flags += [f"{failed - diverged} of {len(values)} replicates learnt nothing"] if failed > diverged else []
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
        picks=picks,
        n=len(counting),
        mean=mean,
        sd=deviation,
        low=low,
        high=high,
        population_low=None,
        population_high=None,
        values=counting,
        failed=failed,
        failed_low=rare,
        failed_high=often,
        edges=edge,
        budget=points,
        diagnosis=next((tuple(found) for trial in own if (found := trial.user_attrs.get("diagnosis"))), ()),
        flags=(*own_flags, *flags),
    )


def _importances(study: Study, trials: Sequence[FrozenTrial]) -> tuple[dict[str, float], int, str | None]:
    """Optuna's, by its default evaluator, PED-ANOVA (Watanabe et al. 2023): for reaching the best tenth of the trials.

    Of so many trials, those that were trained to the end and learnt: those that diverged or learnt nothing would decide
    alone, and a pruned one has the result of fewer epochs. Or why there are none.
    """
    import warnings

    import optuna
    from optuna.importance import get_param_importances
    from optuna.trial import TrialState, create_trial

    done = [trial for trial in trials if trial.state == TrialState.COMPLETE and trial.values and has_learnt(trial)]
    if len({trial.values[0] for trial in done}) < 2:
        return {}, len(done), "no importances: fewer than two trials with different values"
    search = optuna.create_study(direction=study.direction, storage=optuna.storages.InMemoryStorage())
    search.add_trials(  # copies without attributes: Optuna copies each trial whole
        [create_trial(params=one.params, distributions=one.distributions, values=one.values) for one in done]
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = get_param_importances(search)
    except (ValueError, RuntimeError) as error:
        return {}, len(done), f"no importances: {' '.join(str(error).split())}"
    names = list(study.dimensions)  # equal ones come in any order from Optuna
    ordered = sorted(found, key=lambda name: (-found[name], names.index(name)))
    return {name: found[name] for name in ordered}, len(done), None


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
    planned = min(race.planned_end or 0, race.reached) if race else 0
    if race and (earlier := [end for end in race.undecided if end < planned]):
        ends = ", then ".join(map(str, [*earlier, planned]))
        notes.append(
            f"replicates was raised after a race without a single leader (to {ends} seeds), by an earlier version that "
            "spent alpha anew at each end: the error rate of the claims is above alpha"
        )
    if race and (later := [look for look in race.looks if planned < look <= race.reached]):
        notes.append(
            f"the race was planned for {planned} seeds and extended to {', then '.join(map(str, later))}: comparisons "
            f"at more than {planned} seeds are tested by alpha spending, at {ALPHA * EXTENSION_SHARE:g} for all "
            f"extensions together beside the {ALPHA:g} of the planned race"
        )
    if race and race.runs and findings.searches == 1 and len(rows) > 1:
        notes.append(
            f"one search: the claims are about the best of {max(row.points for row in rows)} configurations of each "
            "cell, and another search may find others; searches=4 makes the search itself a part of what is repeated"
        )
    if race and not any(row.n for row in rows):
        notes.append("no intervals or comparisons: no look of the replicates is complete")
    missing = sum(not row.n and not row.failed for row in rows)
    if 0 < missing < len(rows):
        notes.append(f"{missing} of {len(rows)} cells have no replicates: the winner isn't compared with them")
    failing = [row.label for row in rows if row.failed and not row.n]
    if 0 < len(failing) < len(rows):
        notes.append(
            f"in {_cells_counted(len(failing))} no replicate learnt ({'; '.join(failing)}): the winner is compared "
            f"with {'this' if len(failing) == 1 else 'these'} by the failures only"
        )
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
