"""What the command line prints of a study: its status, and the summary at the end of ``optimize``."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from searchlib.report.progress import LEADING_CELLS, Output
from searchlib.text import describe, mask, number

if TYPE_CHECKING:
    from searchlib.analysis import Status
    from searchlib.library import Result, Results, StudyPlan
    from searchlib.stores import Stores
    from searchlib.study import Study, TestResult


MOST_RANKED = 12  # cells in the table across data sets


def show_summary(result: Result, commands: Sequence[tuple[str, str]]) -> None:
    """The end of ``optimize``: best cell, validation, test with its interval, the answer, where everything is.

    commands: what can be run next, each with its label.
    """
    console = Output()
    study, status = result.study, result.status
    counts = status.trials
    lost = ", ".join(f"{count} {name}" for name in ("diverged", "failed") if (count := getattr(counts, name)))
    rows = [
        ("study", f"{study.name}: {study.question}"),
        ("trials", f"{counts.ended} of {counts.target}{f' ({lost})' if lost else ''}"),
    ]
    best = status.best
    if best:
        cell = dict(study.cell_of(best.params))
        rest = {name: value for name, value in best.params.items() if name not in cell}
        if cell:
            tuned = f", with {describe(rest)}" if rest else ""
            rows.append(("best in search", f"{describe(cell)}{tuned} (trial {best.number})"))
        else:
            rows.append(("best trial", f"{describe(rest)} (trial {best.number})"))
        extreme = "highest" if study.direction == "maximize" else "lowest"
        among = str(counts.completed)
        if counts.pruned:
            among = f"{counts.ended - counts.failed}, {counts.completed} of them trained to the end"
        value = f"{number(best.value, study.metric)}  (the {extreme} of {among}, so optimistic)"
        rows.append((study.metric.replace("val_", "validation "), value))
        if cell:
            leading = [
                f"{describe(one.scientific)} {number(one.best, study.metric)}"
                for one in status.cells
                if one.best is not None
            ]
            rows.append(("leading cells", "; ".join(leading[:LEADING_CELLS])))
    if seeds := status.replicates:
        up_to = "up to " if study.replicate_race else ""
        rows.append(("replicates", f"{seeds.completed} runs, {up_to}{seeds.reached} seeds a cell"))
        if result.findings.winner and (first := result.findings.cells[0]).n:
            name = f"{describe(first.scientific)}, " if first.scientific else ""
            over = f"{study.searches} searches, {first.n} seeds" if study.searches > 1 else first.n
            value = f"{study.metric} {number(first.mean, study.metric)}, mean of {over}"
            rows.append(("best over seeds", name + value))
    if status.test_result:
        rows.append(test_row(status.test_result))
    if note := result.stored.champion_note:
        rows.append(("champion", note))
    rows += [("answer", result.answer), *_places(result.stores), *commands, ("report", str(result.page))]
    for name, value in rows:
        line = f"{name:20} {value}"
        if console.is_terminal:
            line = textwrap.fill(line, max(console.width - 1, 40), subsequent_indent=" " * 21)
        console.say(line)


def show_across(results: Results) -> None:
    """What several data sets say together: ranks, answer, where the page is."""
    console, found = Output(), results.findings
    console.say(f"{'study':20} {results.study.name}: {results.study.question}")
    if found.cells:
        names = [one.dataset for one in found.datasets]
        heads = ["cell", "mean rank", *names]
        rows = [
            [
                cell.label,
                f"{cell.mean_rank:.2f}",
                *(f"{number(cell.means[name], found.metric)} ({cell.ranks[name]:g})" for name in names),
            ]
            for cell in found.cells[:MOST_RANKED]
        ]
        _show_table(console, heads, rows)
        if len(found.cells) > len(rows):
            console.say(f"and {len(found.cells) - len(rows)} more")
    console.say(f"{'answer':20} {found.answer}")
    console.say(f"{'report':20} {results.page}")


def _show_table(console: Output, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        console.say("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def show_plan(study: Study, plan: StudyPlan, *, named: bool = False) -> None:
    """``optimize --plan``. named: with the name of the study, as of one of several."""
    console = Output()
    searches = f" of {study.searches} searches" if study.searches > 1 else ""
    replicates = f"{plan.replicates_least} to {plan.replicates_most}" if plan.replicates_most else "no"
    unit = "search to search" if study.searches > 1 else "seed to seed"
    rows = [
        ("trials", f"{study.trials}{searches}, {plan.cells} {'cells' if plan.cells > 1 else 'cell'}"),
        ("trainings", f"{plan.search:.0f} in the search, {replicates} replicates (counted in whole trainings)"),
        ("time", f"about {_duration(plan.seconds)} at most, by the speed of one epoch just now"),
    ]
    if plan.detectable is None:
        rows.append(("detects", "nothing: differences need two cells, and two searches or replicates of each"))
    else:
        among = plan.detectable_among_all or math.inf
        pairs = "" if plan.cells == 2 else f", and {among:.1f} if all pairs of the cells are compared"
        rows.append(
            (
                "detects",
                f"with a chance of 80 %, a difference of {plan.detectable:.1f} times its deviation from {unit}{pairs}",
            )
        )
        rows.append(("example", f"{plan.detectable * 0.2:.2f} points, where that deviation is 0.2 points"))
    for name, value in [("study", study.name), *rows] if named else rows:
        console.say(f"{name:20} {value}")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _places(stores: Stores) -> list[tuple[str, str]]:
    """Where the trials are, and how to look at them."""
    uri = mask(stores.tracking_uri or "")
    return [
        ("optuna", f"{stores.shown} (optuna-dashboard {stores.shown})"),
        ("mlflow", f"{uri} (mlflow ui --backend-store-uri {uri})" if uri else "mlflow.db, mlruns/ (mlflow ui)"),
    ]


def test_row(result: TestResult) -> tuple[str, str]:
    which = f"trial {result.trial}" + (f", replicate {result.replicate}" if result.replicate is not None else "")
    if result.accuracy is None:
        more = "" if result.r2 is None else f"R² {result.r2:.3f}, "
        name, value = "test loss", f"{number(result.loss, 'test_loss')}  ({more}"
    else:
        name = "test accuracy"
        value = f"{result.accuracy:.4f}  (95 % interval {result.low:.4f} to {result.high:.4f}, "
    return name, f"{value}n = {result.n:,}; {which}; opened once, {result.evaluated_at})"


def show_status(study: Study, status: Status, at_work: bool | None) -> None:
    """``status`` for a person. at_work: whether a search is at work on the study; None where that can't be known."""
    console = Output()
    counts = status.trials
    console.say(f"{study.name}: {study.question}")
    outcomes = ("completed", "pruned", "diverged", "failed")
    shown = ", ".join(f"{count} {name}" for name in outcomes if (count := getattr(counts, name)))
    begun = {True: "in training", False: "interrupted", None: "in training or interrupted"}[at_work]
    console.print(
        f"{counts.ended} of {counts.target} trials finished"
        + (f": {shown}" if shown else "")
        + (f"; {active} {begun}" if (active := counts.running - status.enqueued) else "")
        + (f"; {status.enqueued} enqueued" if status.enqueued else ""),
        highlight=False,
    )
    if status.foreign:
        console.say(f"ignored, as another program made them: trials {', '.join(map(str, status.foreign))}")
    if best := status.best:
        value = number(best.value, study.metric)
        console.say(f"best {study.metric} {value}, trial {best.number}: {describe(best.params)}")
    if seeds := status.replicates:
        state = "so far" if seeds.total else "not begun"
        if seeds.finished:
            state = "finished"
        elif seeds.running and at_work:
            state = "under way"
        console.print(
            f"replicates {state}: {seeds.ended} runs, {seeds.reached} of at most {seeds.target} seeds a cell",
            highlight=False,
        )
    if status.cells:
        heads = ("cell", f"best {study.metric}", "trial", "points", "diverged", "with")
        rows = [
            (
                describe(cell.scientific) or "all trials",
                "-" if cell.best is None else number(cell.best, study.metric),
                "-" if cell.trial is None else str(cell.trial),
                str(cell.points),
                str(cell.diverged),
                describe(cell.nuisance),
            )
            for cell in status.cells
        ]
        _show_table(console, heads, rows)
    for one in status.failed_cells:
        reason = one.reason or "an error that its MLflow run has"
        console.say(f"all {one.trials} trials of {describe(one.scientific) or 'the study'} failed: {reason}")
    if status.test_result is None:
        console.print("test set: sealed" if not status.test_ledger else "test set: claimed, not finished")
    else:
        console.print(": ".join(test_row(status.test_result)), highlight=False, soft_wrap=True)
