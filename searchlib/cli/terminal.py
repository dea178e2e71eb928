"""What a person sees while a study runs and when it is done. Rich on a terminal, plain lines elsewhere."""

from __future__ import annotations

import errno
import os
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from searchlib.text import describe, number

if TYPE_CHECKING:
    from searchlib.analysis import Findings, Status
    from searchlib.study import Progress, Study, TestResult

__all__ = ["Output", "show_progress", "show_status", "show_summary"]

LEADING_CELLS = 6
REFRESH_SECONDS = 0.25


class Output(Console):
    """A console that raises BrokenPipeError where rich's own would end the process."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Board:
    """The running tally behind both kinds of display."""

    def __init__(self, study: Study, status: Status) -> None:
        self.study = study
        self.started = time.monotonic()
        self.phase = ""
        self.fraction_before: float | None = None
        self.fraction = 0.0
        self.seeds: dict[tuple[tuple[str, Any], ...], list[float]] = {
            cell.key: list(cell.replicates) for cell in status.cells if cell.replicates
        }
        self.best: dict[tuple[tuple[str, Any], ...], float] = {
            cell.key: cell.best for cell in status.cells if cell.best is not None
        }
        self.leader: tuple[float, str] | None = (
            (status.best.value, describe(status.best.params)) if status.best else None
        )
        self.failures = status.trials.diverged + status.trials.failed

    def add(self, progress: Progress) -> None:
        if self.fraction_before is None or progress.phase != self.phase or progress.fraction < self.fraction:
            # the clock starts here: what loading took, or the phase or look before, says nothing of the pace
            self.phase, self.started, self.fraction_before = progress.phase, time.monotonic(), progress.fraction
        self.fraction = progress.fraction
        for record in progress.finished:
            self.failures += record.outcome in ("diverged", "failed")
            cell = self.study.cell_of(record.params)
            if progress.phase == "replicates":
                if record.outcome != "failed":
                    self.seeds.setdefault(cell, []).append(record.value)
                continue
            if record.outcome != "completed":
                continue
            if cell not in self.best or self.study.better(record.value, self.best[cell]):
                self.best[cell] = record.value
                self.seeds.pop(cell, None)  # they repeat another configuration
            if self.leader is None or self.study.better(record.value, self.leader[0]):
                self.leader = (record.value, describe(record.params))

    def pace(self, progress: Progress) -> tuple[float, float]:
        """(trials a minute, seconds left), from this run alone."""
        elapsed = time.monotonic() - self.started
        gained = progress.fraction - (self.fraction_before or 0.0)
        if gained <= 0.0 or elapsed <= 0.0:
            return 0.0, float("inf")
        return gained * progress.target / elapsed * 60.0, elapsed / gained * (1.0 - progress.fraction)

    def leading(self) -> list[tuple[str, str]]:
        """The leading cells, each with its best value or, while replicates run, the mean of them so far."""
        if self.phase == "replicates" and self.seeds:
            found = {cell: (sum(values) / len(values), f" ({len(values)})") for cell, values in self.seeds.items()}
        else:
            found = {cell: (value, "") for cell, value in self.best.items()}
        ordered = sorted(found.items(), key=lambda item: item[1][0], reverse=self.study.direction == "maximize")
        return [
            (describe(dict(cell)) or "all trials", f"{number(value, self.study.metric)}{seeds}")
            for cell, (value, seeds) in ordered[:LEADING_CELLS]
        ]


def show_progress(study: Study, steps: Iterator[Progress], status: Status, console: Console) -> None:
    """Run the search to its end, showing where it stands.

    KeyboardInterrupt, as by Ctrl-C, where nobody can see it any more: the terminal was closed, a pipe's reader is gone.
    """
    board = _Board(study, status)
    try:
        with closing(steps):  # type: ignore[type-var]  # a generator, which closes
            show = _show_live if console.is_terminal else _show_lines
            show(board, steps, console)
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EIO):
            raise
        raise KeyboardInterrupt from None


def _show_live(board: _Board, steps: Iterator[Progress], console: Console) -> None:
    # without a thread of its own, in which a closed terminal would be an error that nobody catches
    with Live(console=console, auto_refresh=False, transient=True) as live:
        live.update(Text("Loading data and opening the stores ..."), refresh=True)
        shown = 0.0
        for progress in steps:
            board.add(progress)
            if time.monotonic() - shown > REFRESH_SECONDS:
                live.update(_panel(board, progress), refresh=True)
                shown = time.monotonic()


def _show_lines(board: _Board, steps: Iterator[Progress], console: Console) -> None:
    for progress in steps:
        board.add(progress)
        if progress.finished:
            console.print(_line(board, progress), soft_wrap=True, highlight=False, markup=False)


def _line(board: _Board, progress: Progress) -> str:
    rate, left = board.pace(progress)
    pace = f", {rate:.0f} a minute, {duration(left)} left" if rate else ""
    diverged = f", {board.failures} diverged or failed" if board.failures else ""
    if progress.phase == "replicates":
        leaders = board.leading()
        best = f", best mean {leaders[0][1]} ({leaders[0][0]})" if board.seeds else ""
        return f"{progress.done}/{progress.target} replicates{diverged}{pace}{best}"
    best = (
        f"best {number(board.leader[0], board.study.metric)} ({board.leader[1]})"
        if board.leader
        else "none completed yet"
    )
    return f"{progress.done}/{progress.target} trials{diverged}{pace}, {best}"


def _panel(board: _Board, progress: Progress) -> Group:
    rate, left = board.pace(progress)
    head = Table.grid(padding=(0, 1))
    known = left != float("inf")
    unit = "trials" if progress.phase == "search" else "replicates"
    head.add_row(
        f"[bold]{board.study.name}[/bold]",
        ProgressBar(total=1.0, completed=progress.fraction, width=32),
        f"{progress.done}/{progress.target} {unit}",
        f"{rate:.0f} a minute" if known else "",
        f"{duration(left)} left" if known else "",
        f"[yellow]{board.failures} diverged or failed[/yellow]" if board.failures else "",
    )
    parts: list[Any] = [head]
    if progress.stack:
        parts.append(
            Text(f"training {progress.stack} {unit} as one, epoch {progress.epoch} of {progress.epochs}", style="dim")
        )
    if board.leader:
        parts.append(
            Text(f"best {board.study.metric} {number(board.leader[0], board.study.metric)}: {board.leader[1]}")
        )
        means = board.phase == "replicates" and board.seeds
        value = f"mean {board.study.metric} (seeds)" if means else board.study.metric
        table = Table("leading cells", value, box=None, padding=(0, 2, 0, 0), header_style="dim")
        for name, shown in board.leading():
            table.add_row(Text(name), shown)
        parts.append(table)
    return Group(*parts)


def show_summary(
    study: Study,
    status: Status,
    findings: Findings,
    places: Sequence[tuple[str, str]],
    console: Console,
) -> None:
    """The end of ``optimize``: best cell, validation, test with its interval, the answer, where everything is."""
    counts = status.trials
    diverged = f" ({counts.diverged} diverged)" if counts.diverged else ""
    rows = [
        ("study", f"{study.name}: {study.question}"),
        ("trials", f"{counts.ended} of {counts.target}{diverged}"),
    ]
    best = status.best
    if best:
        cell = dict(study.cell_of(best.params))
        rest = {name: value for name, value in best.params.items() if name not in cell}
        if cell:
            rows.append(("best in search", f"{describe(cell)}, with {describe(rest)} (trial {best.number})"))
        else:
            rows.append(("best trial", f"{describe(rest)} (trial {best.number})"))
        extreme = "highest" if study.direction == "maximize" else "lowest"
        rows.append(
            (
                study.metric.replace("val_", "validation "),
                f"{number(best.value, study.metric)}  (the {extreme} of {counts.completed}, so optimistic)",
            )
        )
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
        if findings.winner and findings.cells[0].n:
            first = findings.cells[0]
            name = f"{describe(first.scientific)}, " if first.scientific else ""
            value = f"{study.metric} {number(first.mean, study.metric)}, mean of {first.n}"
            rows.append(("best over seeds", name + value))
    if findings.test_result:
        rows.append(test_row(findings.test_result))
    rows.append(("answer", findings.answer))
    for name, value in (*rows, *places):
        line = f"{name:20} {value}"
        if console.is_terminal:
            line = textwrap.fill(line, max(console.width - 1, 40), subsequent_indent=" " * 21)
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def test_row(result: TestResult) -> tuple[str, str]:
    which = f"trial {result.trial}" + (f", replicate {result.replicate}" if result.replicate is not None else "")
    if result.accuracy is None:
        more = "" if result.r2 is None else f"R² {result.r2:.3f}, "
        return (
            "test loss",
            f"{number(result.loss, 'test_loss')}  ({more}n = {result.n:,}; {which}; "
            f"opened once, {result.evaluated_at})",
        )
    return (
        "test accuracy",
        f"{result.accuracy:.4f}  (95 % interval {result.low:.4f} to {result.high:.4f}, n = {result.n:,}; {which}; "
        f"opened once, {result.evaluated_at})",
    )


def show_status(study: Study, status: Status, at_work: bool | None, console: Console) -> None:
    """``status`` for a person. at_work: whether a search is at work on the study; None where that can't be told."""
    counts = status.trials
    console.print(f"{study.name}: {study.question}", highlight=False, markup=False, soft_wrap=True)
    outcomes = {
        "completed": counts.completed, "pruned": counts.pruned, "diverged": counts.diverged, "failed": counts.failed,
    }  # fmt: skip
    shown = ", ".join(f"{count} {name}" for name, count in outcomes.items() if count)
    begun = {True: "in training", False: "interrupted", None: "in training or interrupted"}[at_work]
    console.print(
        f"{counts.ended} of {counts.target} trials finished"
        + (f": {shown}" if shown else "")
        + (f"; {counts.running} {begun}" if counts.running else ""),
        highlight=False,
    )
    if best := status.best:
        value = number(best.value, study.metric)
        console.print(
            f"best {study.metric} {value}, trial {best.number}: {describe(best.params)}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
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
        widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
        for row in (heads, *rows):
            line = "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True))
            console.print(line.rstrip(), highlight=False, markup=False, soft_wrap=True)
    if status.test_result is None:
        console.print("test set: sealed" if not status.test_ledger else "test set: claimed, not finished")
    else:
        console.print(": ".join(test_row(status.test_result)), highlight=False, soft_wrap=True)
