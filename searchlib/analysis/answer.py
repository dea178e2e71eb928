"""The answer in words, made from the figures of ``analysis.analyze``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from searchlib.text import describe, number

__all__ = [
    "answer",
]


NAMED_CELLS = 5  # of a longer list; the rest are counted


def answer(report: Mapping[str, Any]) -> str:
    """One paragraph of short sentences, from the object that ``analysis.analyze`` makes."""
    if not report["cells"]:
        running = report["trials"]["running"]
        return f"No trial is finished yet; {running} begun." if running else "The search has not begun."
    if report["winner"] is None:
        return " ".join(["No trial completed, so there is no answer.", *_failed(report)])
    winner = report["cells"][0]
    sentences = [_lead(report, winner), *_comparison(report, winner), *_worst(report, winner), *_failed(report)]
    sentences += [*_effects(report["effects"]), *_edges(report, winner), *_optimism(report), *_test(report)]
    return " ".join(sentences)


def _metric(report: Mapping[str, Any]) -> str:
    return str(report["metric"]).replace("val_", "validation ")


def _value(report: Mapping[str, Any], value: float) -> str:
    return number(value, report["metric"])


def _interval(report: Mapping[str, Any], low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"95 % interval {_value(report, low)} to {_value(report, high)}"


def _difference(
    report: Mapping[str, Any], value: float, low: float | None = None, high: float | None = None, more: str = ""
) -> str:
    """``0.42 points (95 % interval 0.20 to 0.64)``: percent points of an accuracy, plain figures of a loss."""
    points = report["metric"] == "val_accuracy"

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


def _lead(report: Mapping[str, Any], winner: Mapping[str, Any]) -> str:
    setting = describe(winner["nuisance"])
    at = f", with {setting}" if setting else ""
    one = len(report["cells"]) == 1
    if winner["mean"] is None:
        counts = report["trials"]
        finished = counts["completed"] + counts["pruned"] + counts["diverged"] + counts["failed"]
        found = "The best" if one else f"{winner['label']} leads: its best"
        return (
            f"{found} {_metric(report)} is {_value(report, winner['search_best'])}{at} (trial {winner['trial']}), "
            f"the best of {_count(finished, 'trial')} and so optimistic."
        )
    interval = _interval(report, winner["low"], winner["high"])
    over = _count(winner["n"], "fresh seed") + (f" ({interval})" if interval else "")
    mean = f"{_value(report, winner['mean'])} on average over {over}{at}"
    if one:
        return f"The best configuration has {_metric(report)} {mean}."
    return f"{winner['label']} has the best {_metric(report)}: {mean}."


def _comparison(report: Mapping[str, Any], winner: Mapping[str, Any]) -> list[str]:
    race, cells = report["replicates"], report["cells"]
    if winner["mean"] is None:
        if len(cells) == 1:
            return []
        why = "There are no replicates"
        if race and race["runs"]:
            why = "No look of the replicates is complete"
        elif race:
            why = "The replicates have not begun"
        return [f"{why}: without replicates the leading cells can't be told apart."]
    found = []
    comparisons = report["comparisons"]
    if comparisons:
        near = next((one for one in comparisons if one["difference"] is not None), comparisons[0])
        gap = "nothing to compare"
        if near["difference"] is not None:
            more = "" if near["p"] is None else _p(near["p"])
            gap = _difference(report, near["difference"], near["low"], near["high"], more)
        if report["resolved"]:
            others = "the other replicated cell" if len(comparisons) == 1 else "each of the other replicated cells"
            found.append(f"It is better than {others}; the next, {near['against_label']}, is behind by {gap}.")
        else:
            left = [one["against_label"] for one in comparisons if not one["told_apart"]]
            found.append(
                f"It isn't told apart from {_count(len(left), 'other cell')}: {_named(left)}. "
                f"The difference from the next, {near['against_label']}, is {gap}."
            )
            behind = len(comparisons) - len(left)
            shown = sum(one["verdict"] != "not told apart" for one in comparisons)
            if behind:
                found.append(
                    f"{_count(behind, 'cell')} fell behind, each judged alone; {shown} of {behind} are shown to be "
                    "worse when corrected for the number of cells and the choice of the winner."
                )
    if race and not race["finished"] and not report["test_ledger"]:
        found.append(
            f"The replicates are unfinished ({race['reached']} of {race['target']} seeds), so this may change."
        )
    return found


def _worst(report: Mapping[str, Any], winner: Mapping[str, Any]) -> list[str]:
    """The cell at the end of the order, where that says something: three cells or more."""
    valued = [cell for cell in report["cells"] if cell["search_best"] is not None]
    if len(valued) < 3:
        return []

    def value(cell: Mapping[str, Any]) -> float:
        shown = cell["search_best"] if cell["mean"] is None else cell["mean"]
        return float(shown) if report["direction"] == "maximize" else -float(shown)

    last = min(valued, key=value)
    if last is winner:
        return []
    why = f": {'; '.join(last['diagnosis'])}" if last["diagnosis"] else ""
    return [f"Worst is {last['label']} with {_value(report, abs(value(last)))}{why}."]


def _failed(report: Mapping[str, Any]) -> list[str]:
    """Cells in which no trial completed, with the reason that the first of them gives."""
    failed = [cell for cell in report["cells"] if cell["search_best"] is None]
    if not failed or len(report["cells"]) == 1:
        return []
    reason = next(("; ".join(cell["diagnosis"]) for cell in failed if cell["diagnosis"]), "")
    names = _named([cell["label"] for cell in failed])
    return [f"No trial completed in {_count(len(failed), 'cell')}: {names}{f' ({reason})' if reason else ''}."]


def _effects(effects: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which factor matters, by partial eta squared; the strongest interaction."""

    def size(effect: Mapping[str, Any]) -> str:
        return f"partial eta squared {effect['partial_eta_squared']:.2f}, {_p(effect['p'])}"

    found = []
    by_size = sorted(effects, key=lambda effect: -effect["partial_eta_squared"])
    main = [effect for effect in by_size if ":" not in effect["term"]]
    if len(main) == 1:
        found.append(f"The effect of {main[0]['term']}: {size(main[0])}.")
    elif main:
        rest = ", then ".join(f"{effect['term']} ({size(effect)})" for effect in main[1:])
        found.append(f"The largest effect is that of {main[0]['term']} ({size(main[0])}), then {rest}.")
    together = [effect for effect in by_size if ":" in effect["term"]]
    if together:
        seen = "depends on" if together[0]["p"] <= 0.05 else "isn't seen to depend on"
        one, other = together[0]["term"].split(":")
        found.append(f"The effect of {one} {seen} {other} ({size(together[0])}).")
    return found


def _edges(report: Mapping[str, Any], winner: Mapping[str, Any]) -> list[str]:
    found = []
    for edge in winner["edges"]:
        if "try" in edge:
            further = " to ".join(f"{end:.4g}" for end in edge["try"])
            found.append(
                f"The winner's {edge['name']}, {edge['value']:.3g}, is at the {edge['side']} end of {edge['low']:g} to "
                f"{edge['high']:g}: try {further}."
            )
    return found


def _optimism(report: Mapping[str, Any]) -> list[str]:
    best, mean = report["optimism"]["search_best"], report["optimism"]["fresh_mean"]
    if best is None or mean is None:
        return []
    ahead = best - mean if report["direction"] == "maximize" else mean - best
    if _value(report, best) == _value(report, mean):
        return []
    side = "better" if ahead >= 0 else "worse"
    return [
        f"The search saw {_value(report, best)} for this configuration, {_difference(report, abs(ahead))} {side} than "
        "the mean over fresh seeds."
    ]


def _test(report: Mapping[str, Any]) -> list[str]:
    test = report["test"]
    if test is None:
        return []
    of = f"trial {test['trial']}" + (f", replicate {test['replicate']}" if test.get("replicate") else "")
    if test.get("accuracy") is None:
        loss = number(test["loss"], "test_loss")
        more = "" if test.get("r2") is None else f", R² {test['r2']:.3f}"
        return [f"The test set, opened once, gives loss {loss}{more} (n = {test['n']:,}; {of})."]
    interval = _interval({"metric": "val_accuracy"}, test["low"], test["high"])
    return [f"The test set, opened once, gives accuracy {test['accuracy']:.4f} ({interval}; n = {test['n']:,}; {of})."]
