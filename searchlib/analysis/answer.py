"""The answer of a study in words."""

from __future__ import annotations

from collections.abc import Sequence

from searchlib.analysis.comparison import ALPHA, NOT_TOLD_APART, UNDECIDED
from searchlib.analysis.effects import Effect
from searchlib.analysis.findings import CellFinding, Findings
from searchlib.text import describe, number

LISTED_CELLS = 5  # the rest of a longer list are counted


def answer(findings: Findings) -> str:
    """One paragraph: the winner, its comparisons, the effects, ranges to widen, optimism, the test result."""
    if not findings.cells:
        running = findings.trials.running
        return f"No trial has finished yet; {running} started." if running else "The search has not begun."
    if findings.winner is None:
        return " ".join(["No trial completed, so there is no answer.", *_failed(findings)])
    winner = findings.cells[0]
    compared = _comparison(findings) if winner.n else _without_replicates(findings)
    sentences = [
        _lead(findings, winner),
        *_best_pick(findings),
        *compared,
        *_failures(findings),
        *_unfinished(findings),
        *_worst(findings),
        *_failed(findings),
        *_effects(findings.effects),
        *_without_dominating(findings),
        *_edges(winner),
        *_optimism(findings),
        *_test(findings),
        *_test_by_cell(findings),
    ]
    return " ".join(sentences)


def _interval(metric: str, low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"95 % interval {number(low, metric)} to {number(high, metric)}"


def _difference(findings: Findings, value: float, *, more: Sequence[str] = ()) -> str:
    """``0.42 points (p = 0.01)``: percentage points of an accuracy, the unit of a loss."""
    unit = " points" if findings.metric == "val_accuracy" else ""
    return f"{_size(findings, value)}{unit}" + (f" ({'; '.join(more)})" if more else "")


def _size(findings: Findings, difference: float) -> str:
    shown = f"{100 * difference:.2f}" if findings.metric == "val_accuracy" else f"{difference:.3g}"
    return shown.removeprefix("-") if float(shown) == 0 else shown


def _p(p: float) -> str:
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.2g}"


def _listed(labels: Sequence[str]) -> str:
    more = len(labels) - LISTED_CELLS
    return "; ".join(labels[:LISTED_CELLS]) + (f"; and {more} more" if more > 0 else "")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 'es' if noun.endswith('ch') else 's'}"


def _lead(findings: Findings, winner: CellFinding) -> str:
    metric = findings.metric.replace("val_", "validation ")
    value, measured = winner.search_best, " in the search"
    if winner.n:
        assert findings.winner is not None
        interval = _interval(findings.metric, findings.winner.low, findings.winner.high)
        interval += f", as the best of {findings.winner.among}" if interval and findings.winner.among > 1 else ""
        value = winner.mean
        seeds = _count(winner.n, "fresh seed")
        over = f"{findings.searches} searches, with {seeds}" if findings.searches > 1 else seeds
        measured = f" on average over {over}" + (f" ({interval})" if interval else "")
    setting = describe(winner.nuisance)
    if setting and winner.n and findings.searches == 1:
        tried = f", the best of {winner.points} configurations tried" if winner.points > 1 else ""
        measured += f", with {setting}{tried}"
    elif setting and not winner.n:
        measured += f", with {setting}"
    if not winner.n:
        finished = _count(findings.trials.ended, "trial")
        measured += f" (trial {winner.trial}). As the best of {finished}, this is optimistic"
    shown = number(value, findings.metric)
    if len(findings.cells) == 1:
        return f"The best configuration has {metric} {shown}{measured}."
    if tied := _ties_first(findings):
        tie = f"{len(tied)} of {len(findings.cells)} cells are not significantly different: {_listed(tied)}."
        return f"{tie} The best mean {metric} is that of {winner.label}: {shown}{measured}."
    return f"{winner.label} has the best {metric}: {shown}{measured}."


def _ties_first(findings: Findings) -> list[str]:
    """Of several searches, the winner and the cells that it isn't significantly better than; empty without these."""
    ties = [one.against_label for one in findings.comparisons if not one.told_apart]
    if findings.searches == 1 or findings.margin is not None or not ties:
        return []
    return [findings.cells[0].label, *ties]


def _best_pick(findings: Findings) -> list[str]:
    """Which of the winner's configurations, one a search, is best: the mean before is of all of them."""
    pick = findings.winner.pick if findings.winner else None
    if pick is None or pick.mean is None or not (setting := describe(pick.nuisance)):
        return []
    mean = f"{number(pick.mean, findings.metric)} over {_count(pick.n, 'seed')}"
    return [f"Each search found a configuration of its own; the best on fresh seeds has {setting} ({mean})."]


def _without_replicates(findings: Findings) -> list[str]:
    if len(findings.cells) == 1:
        return []
    why = "There are no replicates"
    if findings.replicates:
        why = "No look of the replicates is complete" if findings.replicates.runs else "The replicates have not begun"
    return [f"{why}, so the differences between cells can't be tested."]


def _comparison(findings: Findings) -> list[str]:
    """The winner against the other replicated cells, of which the first is the closest that has a common seed."""
    comparisons = findings.comparisons
    if not comparisons:
        return []
    alone = [one for one in comparisons if one.told_apart]
    other = [one.against_label for one in comparisons if not one.told_apart]
    if findings.margin is not None:
        sentences = _by_margin(findings, findings.margin)
    elif findings.resolved:
        others = "the other replicated cell" if len(comparisons) == 1 else "every other replicated cell"
        sentences = [f"It is significantly better than {others}."]
    elif _ties_first(findings):
        sentences = []
    else:
        sentences = [f"It is not significantly different from {_count(len(other), 'other cell')}: {_listed(other)}."]
    near = next((one for one in comparisons if one.difference is not None), None)
    if near and near.difference is not None:
        more = []
        if near.low is not None and near.high is not None:
            more.append(f"95 % interval {_size(findings, near.low)} to {_size(findings, near.high)}")
        if near.p is not None:
            more.append(_p(near.p))
        gap = _difference(findings, near.difference, more=more)
        sentences.append(f"The difference from the next, {near.against_label}, is {gap}.")
        if near.told_apart and near.population_p is not None and near.population_p > ALPHA:
            wide = f"{_size(findings, near.population_low or 0.0)} to {_size(findings, near.population_high or 0.0)}"
            sentences.append(
                f"That is for these validation examples; for new ones it may be none (95 % interval {wide})."
            )
    if near and near.units_to_decide:
        would = f"{_count(near.units_to_decide, 'seed')} would decide between these two"
        if findings.searches > 1:
            more_searches = f"a new study of about {near.units_to_decide} searches would have an even chance"
            would = f"{more_searches} of a significant difference between these two, tested alone"
        sentences.append(f"If difference and spread stay as they are, {would}; there were {near.units}.")
    if alone and other and findings.margin is None:
        corrected = sum(one.verdict != NOT_TOLD_APART for one in comparisons)
        if findings.searches > 1 and corrected == len(alone):
            worse = "Significantly worse, also after correction for the number of cells"
            return [*sentences, f"{worse}: {_count(corrected, 'cell')}."]
        sentences.append(
            f"Tested alone, {_count(len(alone), 'cell')} {'is' if len(alone) == 1 else 'are'} significantly worse; "
            f"{corrected or 'none'} after correction for the number of cells and the choice of the winner."
        )
    return sentences


def _by_margin(findings: Findings, margin: float) -> list[str]:
    """The other cells by verdict."""
    groups: dict[str, list[str]] = {}
    for one in findings.comparisons:
        kind = one.verdict if one.verdict in ("equivalent", UNDECIDED) else "worse"
        groups.setdefault(kind, []).append(one.against_label)
    within = f"less than {_difference(findings, margin)} apart"
    said = {
        "equivalent": f"Equivalent to it ({within}):",
        "worse": "Significantly worse:",
        UNDECIDED: "Undecided:",
    }
    return [f"{words} {_listed(groups[kind])}." for kind, words in said.items() if kind in groups]


def _failures(findings: Findings) -> list[str]:
    """Replicates that diverged or learnt nothing: the winner's, and those of cells in which it happens more often.

    More often at ALPHA over the number of cells compared (Bonferroni).
    """
    winner, sentences = findings.cells[0], []
    if winner.failed:
        often = f"95 % interval {100 * (winner.failed_low or 0):.0f} to {100 * (winner.failed_high or 0):.0f} %"
        sentences.append(
            f"Of its {winner.n + winner.failed} replicates {winner.failed} diverged or learnt nothing ({often}); the "
            "mean is of the others."
        )
    rows = {cell.label: cell for cell in findings.cells}
    more = [
        f"{one.against_label} ({row.failed} of {row.n + row.failed})"
        for one in findings.comparisons
        if one.failures_p is not None
        and one.failures_p <= ALPHA / len(findings.comparisons)
        and (row := rows[one.against_label]).failed * (winner.n + winner.failed) > winner.failed * (row.n + row.failed)
    ]
    if more:
        sentences.append(f"Significantly more replicates diverged or learnt nothing with {_listed(more)}.")
    return sentences


def _unfinished(findings: Findings) -> list[str]:
    race = findings.replicates
    if race is None or race.finished or findings.test_ledger or not findings.cells[0].n:
        return []
    return [f"The replicates are unfinished ({race.reached} of {race.target} seeds), so this may change."]


def _worst(findings: Findings) -> list[str]:
    """The worst cell, of three or more."""
    values = [(cell.search_best if cell.mean is None else cell.mean, cell) for cell in findings.cells]
    known = [(value, cell) for value, cell in values if value is not None]
    if len(known) < 3:
        return []
    value, last = (min if findings.direction == "maximize" else max)(known, key=lambda one: one[0])
    if last is findings.cells[0]:
        return []
    why = f" ({'; '.join(last.diagnosis)})" if last.diagnosis else ""
    return [f"The worst is {last.label}, with {number(value, findings.metric)}{why}."]


def _failed(findings: Findings) -> list[str]:
    """Cells in which no trial completed, with the diagnosis of the first that has one."""
    failed = [cell for cell in findings.cells if cell.search_best is None]
    if not failed or len(findings.cells) == 1:
        return []
    reason = next(("; ".join(cell.diagnosis) for cell in failed if cell.diagnosis), "")
    names = _listed([cell.label for cell in failed])
    return [f"No trial completed in {_count(len(failed), 'cell')}: {names}{f' ({reason})' if reason else ''}."]


def _effects(effects: Sequence[Effect]) -> list[str]:
    """The hyperparameters by partial eta squared, and the strongest interaction."""

    def size(effect: Effect) -> str:
        return f"partial eta squared {effect.partial_eta_squared:.2f}, {_p(effect.p)}"

    sentences = []
    by_size = sorted(effects, key=lambda effect: -effect.partial_eta_squared)
    main = [effect for effect in by_size if ":" not in effect.term]
    if len(main) == 1:
        sentences.append(f"The effect of {main[0].term} has {size(main[0])}.")
    elif main:
        rest = ", then ".join(f"{effect.term} ({size(effect)})" for effect in main[1:])
        sentences.append(f"The largest effect is that of {main[0].term} ({size(main[0])}), then {rest}.")
    together = [effect for effect in by_size if ":" in effect.term]
    if together:
        one, other = together[0].term.split(":")
        depends = f"The effect of {one} depends on {other}"
        if together[0].p > ALPHA:
            depends = f"The interaction of {one} and {other} is not significant"
        sentences.append(f"{depends} ({size(together[0])}).")
    return sentences


def _without_dominating(findings: Findings) -> list[str]:
    """That a level makes up almost all of an effect, and what is left without it."""
    if not findings.dominating:
        return []
    names = " and ".join(f"{name} {level}" for name, level in findings.dominating.items())
    first = f"Almost all of that is the effect of {names}."
    return [first, *(f"Without it: {sentence}" for sentence in _effects(findings.effects_without))]


def _edges(winner: CellFinding) -> list[str]:
    sentences = []
    for edge in winner.edges:
        if edge.further:
            further = " to ".join(f"{end:.4g}" for end in edge.further)
            side = "lower" if edge.side == "low" else "upper"
            end = f"at the {side} end of its range, {edge.low:g} to {edge.high:g}"
            where = f"The winner's {edge.name}, {edge.value:.3g}, is {end}"
            if edge.of > 1:
                where = f"In {edge.searches} of {edge.of} searches the winner's best {edge.name} is {end}"
            sentences.append(f"{where}: try {further}.")
    return sentences


def _optimism(findings: Findings) -> list[str]:
    best, mean = findings.optimism.search_best, findings.optimism.fresh_mean
    if best is None or mean is None or number(best, findings.metric) == number(mean, findings.metric):
        return []
    ahead = best - mean if findings.direction == "maximize" else mean - best
    gap = f"{_difference(findings, abs(ahead))} {'better' if ahead >= 0 else 'worse'} than"
    value = number(best, findings.metric)
    if findings.searches > 1:
        return [f"The winner's configurations had {value} on average in the search, {gap} over fresh seeds."]
    return [f"In the search this configuration had {value}, {gap} its mean over fresh seeds."]


def _test(findings: Findings) -> list[str]:
    test = findings.test_result
    if test is None:
        return []
    if test.accuracy is None:
        loss = number(test.loss, "test_loss")
        value = f"The loss on the test set, opened once, is {loss}"
        more = [] if test.r2 is None else [f"R² {test.r2:.3f}"]
    else:
        value = f"The accuracy on the test set, opened once, is {test.accuracy:.4f}"
        more = [_interval("test_accuracy", test.low, test.high)]
    replicate = f", replicate {test.replicate}" if test.replicate else ""
    said = [f"{value} ({'; '.join([*more, f'n = {test.n:,}', f'trial {test.trial}{replicate}'])})."]
    tested = findings.test_by_cell
    if findings.searches > 1 and tested and tested.cells[0].scientific == findings.cells[0].scientific and replicate:
        mean, count = number(tested.cells[0].mean, findings.metric), tested.cells[0].n
        said.append(
            f"That is one network, the best on validation data; the {count} of its cell have {mean} on average."
        )
    return said


def _test_by_cell(findings: Findings) -> list[str]:
    """Whether the winner leads there, too: where it and others have at least two seeds, or searches, in common."""
    tested = findings.test_by_cell
    if tested is None or findings.winner is None or tested.cells[0].scientific != findings.winner.scientific:
        return []
    gaps = [
        (cell.difference, cell)
        for cell in tested.cells
        if cell.difference is not None and cell.difference_low is not None
    ]
    if not gaps:
        return []
    gap, closest = min(gaps, key=lambda one: one[0])
    low, high = closest.difference_low or 0.0, closest.difference_high or 0.0
    if gap < 0:
        low, high = -high, -low
    by = _difference(findings, abs(gap), more=[f"95 % interval {_size(findings, low)} to {_size(findings, high)}"])
    winner, others = tested.cells[0].label, _count(len(gaps), "other cell")
    over = "seeds" if findings.searches == 1 else "searches"
    best = "the best on validation data" if _ties_first(findings) else "the winner"
    if all((cell.difference_low or 0.0) > 0 for _, cell in gaps):
        than = f"{others}: than the next, {closest.label}," if len(gaps) > 1 else closest.label
        sentences = [f"Over {over}, {winner} is better there than {than} by {by}."]
    else:
        first, behind = (winner, f"the next, {closest.label}") if gap >= 0 else (closest.label, f"{best}, {winner}")
        leads = "leads there, but not significantly:" if low <= 0 else "leads there,"
        sentences = [f"Over {over}, {first} {leads} ahead of {behind}, by {by}."]
    if len(tested.cells) > 2 and tested.order_holds:
        sentences.append(f"The {len(tested.cells)} cells have the same order as on validation data.")
    elif len(tested.cells) > 2 and tested.rank_correlation is not None:
        tau = f"Kendall's tau {tested.rank_correlation:.2f}"
        if findings.searches > 1 and 2 < tested.ties < len(tested.cells) and tested.ties_correlation is not None:
            tau += f", {tested.ties_correlation:.2f} among the {tested.ties} without significant differences"
        sentences.append(f"The order of the {len(tested.cells)} cells differs from that on validation data ({tau}).")
    return sentences
