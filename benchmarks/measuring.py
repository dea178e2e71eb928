"""What every part needs: repeats in turn, a median with its range, tables, JSON, processes to measure in, peak memory.

Imports nothing heavy: the process that measures others stays small.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "torchvision", "optuna", "mlflow", "ray", "numpy")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much is measured, and where. folder: for stores made on the way, empty at the start."""

    quick: bool
    repeats: int
    folder: Path
    data_root: Path


@dataclass(frozen=True)
class Spread:
    """Repeated values of one figure."""

    median: float
    minimum: float
    maximum: float
    n: int

    def __str__(self) -> str:
        return f"{self.median:.4g} [{self.minimum:.4g}, {self.maximum:.4g}] n={self.n}"


def spread(values: Iterable[float]) -> Spread:
    """Median, smallest, largest and number of *values*."""
    listed = list(values)
    return Spread(statistics.median(listed), min(listed), max(listed), len(listed))


def ratios(values: Sequence[float], base: Sequence[float]) -> Spread:
    """The ratios of two figures, repeat by repeat: what drifts on the machine hits both."""
    return spread(value / of for value, of in zip(values, base, strict=True))


@dataclass
class Table:
    """One section's result: a line a row, ``{column: text, number or Spread}``; notes are printed below.

    failure: what is wrong with the measurement itself; the whole run then ends with an error, once all is printed.
    """

    title: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failure: str = ""

    def add(self, **cells: Any) -> None:
        """Add a row; an underscore in a column's name is printed as a space."""
        self.rows.append({name.replace("_", " "): value for name, value in cells.items()})

    def __str__(self) -> str:
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        lines = [columns, *([_text(row.get(name, "")) for name in columns] for row in self.rows)]
        widths = [max(len(line[position]) for line in lines) for position in range(len(columns))]
        body = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        ending = [f"FAILED: {self.failure}"] if self.failure else []
        return "\n".join(
            ["", self.title, "-" * len(self.title), *(line.rstrip() for line in body), *self.notes, *ending]
        )


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write_json(path: Path, settings: Settings, sections: Mapping[str, Sequence[Table]]) -> None:
    """Everything measured, with what it was measured on."""
    content = {
        "machine": machine(),
        "quick": settings.quick,
        "sections": {name: [vars(table) for table in tables] for name, tables in sections.items()},
    }
    path.write_text(json.dumps(content, indent=1, default=vars) + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    """What the figures depend on beside the code; no name of the machine or its user."""
    return {
        "processor": _processor(),
        "cores": cores(),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        "system": platform.system(),
        "python": platform.python_version(),
        **{package: _version(package) for package in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def say(text: str) -> None:
    """Progress, apart from the tables."""
    print(f"  {text}", file=sys.stderr, flush=True)


def in_turn(repeats: int, contenders: Mapping[str, Callable[[int], Result]]) -> dict[str, list[Result]]:
    """Run every contender once a repeat, in turn. Each is called with the number of the repeat, from 0."""
    results: dict[str, list[Result]] = {name: [] for name in contenders}
    for repeat in range(repeats):
        for name, run in contenders.items():
            started = time.perf_counter()
            results[name].append(run(repeat))
            say(f"repeat {repeat + 1} of {repeats}: {name}, {time.perf_counter() - started:.1f} s")
    return results


def seconds_of(run: Callable[[], object]) -> float:
    """The wall time of one call."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def processes(count: int, prepare: Callable[..., None] | None = None, *arguments: Any) -> ProcessPoolExecutor:
    """Fresh processes that stay, each through with *prepare* when this returns.

    Contenders share nothing: neither threads nor memory nor the mode of their arithmetic.
    """
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(count)
    pool = ProcessPoolExecutor(count, context, initializer=_prepared, initargs=(barrier, prepare, arguments))
    for future in [pool.submit(os.getpid) for _ in range(count)]:
        future.result()
    return pool


def _prepared(barrier: Any, prepare: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    if prepare is not None:
        prepare(*arguments)
    barrier.wait()


def peak_memory() -> int:
    """The most memory that this process had, in bytes.

    On Linux from the process itself: getrusage counts what a large parent had before it started this one.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
