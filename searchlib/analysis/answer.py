"""The answer of a study in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from searchlib.text import describe, number

if TYPE_CHECKING:
    from searchlib.analysis.findings import CellFinding, Findings
    from searchlib.analysis.statistics import Effect

__all__ = [
    "answer",
]


NAMED_CELLS = 5  # of a longer list; the rest are counted


def answer(findings: Findings) -> str:
    """One paragraph of short sentences."""
    if not findings.cells:
        running = findings.trials.running
        return f"No trial is finished yet; {running} begun." if running else "The search has not begun."
    if findings.winner is None:
        return " ".join(["No trial completed, so there is no answer.", *_failed(findings)])
    winner = findings.cells[0]
    sentences = [_lead(findings, winner), *_comparison(findings, winner), *_worst(findings, winner), *_failed(findings)]
    sentences += [*_effects(findings.effects), *_edges(findings, winner), *_optimism(findings), *_test(findings)]
    return " ".join(sentences)


def _metric(findings: Findings) -> str:
    return findings.metric.replace("val_", "validation ")


def _interval(metric: str, low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"95 % interval {number(low, metric)} to {number(high, metric)}"


def _difference(
    findings: Findings, value: float, low: float | None = None, high: float | None = None, more: str = ""
) -> str:
    """``0.42 points (95 % interval 0.20 to 0.64)``: percent points of an accuracy, plain figures of a loss."""
    points = findings.metric == "val_accuracy"

    def show(number: float) -> str:
        shown = f"{100 * number:.2f}" if points else f"{number:.3g}"
        return shown.removeprefix("-") if float(shown) == 0 else shown

    interval = "" if low is None or high is None else f"95 % interval {show(low)} to {show(high)}"
    inside = "; ".join(part for part in (interval, more) if part)
    return f"{show(value)}{' points' if points else ''}{f' ({inside})' if inside else ''}"


def _p(p: float) -> str:
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.2g}"


def _named(labels: Sequence[str]) -> str:
    more = len(labels) - NAMED_CELLS
    return "; ".join(labels[:NAMED_CELLS]) + (f"; and {more} more" if more > 0 else "")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _lead(findings: Findings, winner: CellFinding) -> str:
    setting = describe(winner.nuisance)
    at = f", with {setting}" if setting else ""
    one = len(findings.cells) == 1
    if winner.mean is None:
        counts = findings.trials
        finished = counts.completed + counts.pruned + counts.diverged + counts.failed
        found = "The best" if one else f"{winner.label} leads: its best"
        return (
            f"{found} {_metric(findings)} is {number(winner.search_best, findings.metric)}{at} (trial {winner.trial}), "
            f"the best of {_count(finished, 'trial')} and so optimistic."
        )
    interval = _interval(findings.metric, winner.low, winner.high)
    over = _count(winner.n, "fresh seed") + (f" ({interval})" if interval else "")
    mean = f"{number(winner.mean, findings.metric)} on average over {over}{at}"
    if one:
        return f"The best configuration has {_metric(findings)} {mean}."
    return f"{winner.label} has the best {_metric(findings)}: {mean}."


def _comparison(findings: Findings, winner: CellFinding) -> list[str]:
    race, cells = findings.replicates, findings.cells
    if winner.mean is None:
        if len(cells) == 1:
            return []
        why = "There are no replicates"
        if race and race.runs:
            why = "No look of the replicates is complete"
        elif race:
            why = "The replicates have not begun"
        return [f"{why}: without replicates the leading cells can't be told apart."]
    found = []
    comparisons = findings.comparisons
    if comparisons:
        near = next((one for one in comparisons if one.difference is not None), comparisons[0])
        gap = "nothing to compare"
        if near.difference is not None:
            more = "" if near.p is None else _p(near.p)
            gap = _difference(findings, near.difference, near.low, near.high, more)
        if findings.resolved:
            others = "the other replicated cell" if len(comparisons) == 1 else "each of the other replicated cells"
            found.append(f"It is better than {others}; the next, {near.against_label}, is behind by {gap}.")
        else:
            left = [one.against_label for one in comparisons if not one.told_apart]
            found.append(
                f"It isn't told apart from {_count(len(left), 'other cell')}: {_named(left)}. "
                f"The difference from the next, {near.against_label}, is {gap}."
            )
            behind = len(comparisons) - len(left)
            shown = sum(one.verdict != "not told apart" for one in comparisons)
            if behind:
                found.append(
                    f"{_count(behind, 'cell')} fell behind, each judged alone; {shown} of {behind} are shown to be "
                    "worse when corrected for the number of cells and the choice of the winner."
                )
    if race and not race.finished and not findings.test_ledger:
        found.append(f"The replicates are unfinished ({race.reached} of {race.target} seeds), so this may change.")
    return found


def _worst(findings: Findings, winner: CellFinding) -> list[str]:
    """The cell at the end of the order, where that says something: three cells or more."""
    values = [(cell.search_best if cell.mean is None else cell.mean, cell) for cell in findings.cells]
    known = [(value, cell) for value, cell in values if value is not None]
    if len(known) < 3:
        return []
    value, last = (min if findings.direction == "maximize" else max)(known, key=lambda one: one[0])
    if last is winner:
        return []
    why = f": {'; '.join(last.diagnosis)}" if last.diagnosis else ""
    return [f"Worst is {last.label} with {number(value, findings.metric)}{why}."]


def _failed(findings: Findings) -> list[str]:
    """Cells in which no trial completed, with the reason that the first of them gives."""
    failed = [cell for cell in findings.cells if cell.search_best is None]
    if not failed or len(findings.cells) == 1:
        return []
    reason = next(("; ".join(cell.diagnosis) for cell in failed if cell.diagnosis), "")
    names = _named([cell.label for cell in failed])
    return [f"No trial completed in {_count(len(failed), 'cell')}: {names}{f' ({reason})' if reason else ''}."]


def _effects(effects: Sequence[Effect]) -> list[str]:
    """Which factor matters, by partial eta squared; the strongest interaction."""

    def size(effect: Effect) -> str:
        return f"partial eta squared {effect.partial_eta_squared:.2f}, {_p(effect.p)}"

    found = []
    by_size = sorted(effects, key=lambda effect: -effect.partial_eta_squared)
    main = [effect for effect in by_size if ":" not in effect.term]
    if len(main) == 1:
        found.append(f"The effect of {main[0].term}: {size(main[0])}.")
    elif main:
        rest = ", then ".join(f"{effect.term} ({size(effect)})" for effect in main[1:])
        found.append(f"The largest effect is that of {main[0].term} ({size(main[0])}), then {rest}.")
    together = [effect for effect in by_size if ":" in effect.term]
    if together:
        seen = "depends on" if together[0].p <= 0.05 else "isn't seen to depend on"
        one, other = together[0].term.split(":")
        found.append(f"The effect of {one} {seen} {other} ({size(together[0])}).")
    return found


def _edges(findings: Findings, winner: CellFinding) -> list[str]:
    found = []
    for edge in winner.edges:
        if edge.further:
            further = " to ".join(f"{end:.4g}" for end in edge.further)
            found.append(
                f"The winner's {edge.name}, {edge.value:.3g}, is at the {edge.side} end of {edge.low:g} to "
                f"{edge.high:g}: try {further}."
            )
    return found


def _optimism(findings: Findings) -> list[str]:
    best, mean = findings.optimism.search_best, findings.optimism.fresh_mean
    if best is None or mean is None:
        return []
    ahead = best - mean if findings.direction == "maximize" else mean - best
    if number(best, findings.metric) == number(mean, findings.metric):
        return []
    side = "better" if ahead >= 0 else "worse"
    return [
        f"The search saw {number(best, findings.metric)} for this configuration, "
        f"{_difference(findings, abs(ahead))} {side} than the mean over fresh seeds."
    ]


def _test(findings: Findings) -> list[str]:
    test = findings.test_result
    if test is None:
        return []
    of = f"trial {test.trial}" + (f", replicate {test.replicate}" if test.replicate else "")
    if test.accuracy is None:
        loss = number(test.loss, "test_loss")
        more = "" if test.r2 is None else f", R² {test.r2:.3f}"
        return [f"The test set, opened once, gives loss {loss}{more} (n = {test.n:,}; {of})."]
    interval = _interval("test_accuracy", test.low, test.high)
    return [f"The test set, opened once, gives accuracy {test.accuracy:.4f} ({interval}; n = {test.n:,}; {of})."]
