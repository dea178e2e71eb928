"""What a person sees while a study runs: a live display in a terminal or a notebook, plain lines elsewhere."""

from __future__ import annotations

import errno
import io
import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from searchlib.analysis import Status
from searchlib.study import Progress, Study
from searchlib.text import describe, number

LEADING_CELLS = 6
REFRESH_SECONDS = 0.25
NOTEBOOK_COLUMNS = 110
LOADING = "Loading data and opening the stores ..."


class Output(Console):
    """A console that raises BrokenPipeError where rich's own would end the process."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    def say(self, text: str) -> None:
        """Print *text* as it is, on one line."""
        self.print(text, highlight=False, markup=False, soft_wrap=True)


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Board:
    """The running tally behind every kind of display."""

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


def show_progress(
    study: Study, steps: Generator[Progress, None, None], status: Status, *, silent: bool = False
) -> None:
    """Run *steps*, a search, to their end, and show where they stand: on stdout, or below the cell of a notebook.

    status: of the study before them. silent: show nothing. Raises what they raise, and KeyboardInterrupt, as Ctrl-C
    does, where nobody can see the display any more: the terminal was closed, or a pipe's reader is gone.
    """
    board, console = _Board(study, status), Output()
    show = _show_in_notebook if console.is_jupyter else _show_live if console.is_terminal else _show_lines
    try:
        with closing(steps):
            if silent:
                for _ in steps:
                    pass
            else:
                show(board, steps, console)
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EIO):
            raise
        raise KeyboardInterrupt from None


def _show_live(board: _Board, steps: Iterator[Progress], console: Console) -> None:
    # without a thread of its own, in which a closed terminal would be an error that nobody catches
    with Live(console=console, auto_refresh=False, transient=True) as live:
        live.update(Text(LOADING), refresh=True)
        for _ in _refresh(board, steps, lambda panel: live.update(panel, refresh=True)):
            pass


def _show_in_notebook(board: _Board, steps: Iterator[Progress], _console: Console) -> None:
    """One output of the cell, replaced as the work goes on; at the end it holds the last line."""
    from IPython.display import HTML, display

    shown = display(HTML(_html(LOADING)), display_id=True)
    line = ""
    try:
        for progress in _refresh(board, steps, lambda panel: shown.update(HTML(_html(panel)))):
            line = _line(board, progress)
    finally:
        shown.update(HTML(_html(line)))


def _html(shown: RenderableType) -> str:
    """What rich would print, as an element of a page."""
    page = Console(
        file=io.StringIO(), record=True, width=NOTEBOOK_COLUMNS, force_jupyter=False, color_system="truecolor"
    )
    page.print(shown, highlight=False, markup=False)
    return page.export_html(inline_styles=True, code_format='<pre style="line-height:normal">{code}</pre>')


def _refresh(board: _Board, steps: Iterator[Progress], draw: Callable[[Group], object]) -> Iterator[Progress]:
    """Draw the panel as the steps come, a few times a second."""
    drawn = 0.0
    for progress in steps:
        board.add(progress)
        if time.monotonic() - drawn > REFRESH_SECONDS:
            draw(_panel(board, progress))
            drawn = time.monotonic()
        yield progress


def _show_lines(board: _Board, steps: Iterator[Progress], console: Output) -> None:
    for progress in steps:
        board.add(progress)
        if progress.finished:
            console.say(_line(board, progress))


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
