"""Calibration of the race and its claims, on synthetic studies put through searchlib's own functions.

    python -m benchmarks.calibration [--studies N] [--seed S] [--jobs J] [--json FILE]

Level: in studies whose best cells are equal, the share that claims something false, nominally at most 0.05:
``resolved`` (a winner is declared that isn't the best cell), ``adjusted`` (any adjusted p <= 0.05 against a cell that
isn't worse), and for comparison ``holm``: Holm's correction as it is (statsmodels), which ignores that the winner was
picked by the same values. ``best out``: the share in which the race has dropped cell 1, which is a best one.
Power: in studies with cell 1 ahead by one deviation (of a cell's value over seeds), the share that is resolved to it,
and the share with the verdict ``better`` (Bouthillier 2021) for it against every other cell.
Rows with raises: while the race is undecided it is extended to so many seeds, one after the other, and a claim at any
of its ends counts. Each share has its Monte-Carlo standard error. ``seeds``: the mean number of runs a cell; ``worse``:
the mean number of cells that are worse than the winner and shown to be, with adjusted p <= 0.05.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from searchlib.analysis.comparison import ALPHA, compare, resolved
from searchlib.analysis.race import looks, next_runs
from searchlib.analysis.spending import Plan

NOISES = ("normal", "unequal variances", "one cell skewed", "all cells skewed", "heavy tails", "accuracies with ties")
COUNTS = ("seeds", "worse")  # of what ``simulate`` gives; the rest are 0 or 1


@dataclass(frozen=True, kw_only=True)
class Row:
    """One kind of study. ahead: of cell 1; below: all cells after the first *best* ones; correlation: within pairs.

    raises: the ends of an undecided race, one after the other, after *replicates*.
    """

    name: str
    cells: int
    replicates: int
    ahead: float = 0.0
    best: int | None = None
    below: float = 0.0
    noise: str = "normal"
    correlation: float = 0.0
    raises: tuple[int, ...] = ()


def rows() -> list[Row]:
    """The table."""
    table = [Row(name="all equal", cells=k, replicates=n) for n in (10, 29) for k in (2, 3, 4, 12, 36)]
    table += [Row(name="all equal", cells=4, replicates=29, correlation=0.7)]
    table += [
        Row(name=f"two equal, rest {below:g} below", cells=k, replicates=29, best=2, below=below)
        for k in (4, 12)
        for below in (1.0, 5.0)
    ]
    table += [
        Row(name=noise, cells=k, replicates=n, noise=noise)
        for noise in NOISES[1:]
        for k, n in ((2, 29), (4, 10), (12, 29))
    ]
    table += [
        Row(name="one ahead", cells=k, replicates=29, ahead=1.0, correlation=correlation)
        for correlation in (0.0, 0.5)
        for k in (2, 4, 12)
    ]
    # where a t test is weakest: few seeds, two cells, so that nothing else holds a false claim back
    table += [Row(name=noise, cells=2, replicates=n, noise=noise) for noise in NOISES[1:] for n in (5, 10)]
    table += [
        Row(name=f"raised to {raises[0]}, {raises[1]}, ..., {raises[-1]}", cells=k, replicates=n, raises=raises)
        for k, n, raises in (
            *((k, 10, (20, 40, 80)) for k in (2, 4, 12)),
            (2, 5, (10, 20, 40)),
            (2, 10, tuple(range(12, 31, 2))),
        )
    ]
    return table


def truth(row: Row) -> np.ndarray[Any, Any]:
    """The true means of the cells, in deviations."""
    means = np.zeros(row.cells)
    means[0] = row.ahead
    if row.best is not None:
        means[row.best :] = -row.below
    return means


def draw(row: Row, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """The values of one study [cells, replicates]."""
    shape = (row.cells, row.raises[-1] if row.raises else row.replicates)
    noise = rng.standard_normal(shape)
    if row.correlation:
        common = rng.standard_normal((1, shape[1]))
        noise = math.sqrt(1.0 - row.correlation) * noise + math.sqrt(row.correlation) * common
    skewed = 1.0 - rng.exponential(size=shape)  # mean 0, deviation 1, a long tail of bad runs
    if row.noise == "unequal variances":
        noise *= np.geomspace(0.25, 4.0, row.cells)[:, None]
    elif row.noise == "one cell skewed":
        noise[0] = skewed[0]
    elif row.noise == "all cells skewed":
        noise = skewed
    elif row.noise == "heavy tails":
        noise = rng.standard_t(3, shape)
    values = truth(row)[:, None] + noise
    if row.noise == "accuracies with ties":  # 1,000 validation images, a deviation of 1.5 images
        return np.asarray(np.round(900 + 1.5 * values) / 1000)
    return np.asarray(values)


def race(
    drawn: np.ndarray[Any, Any], plan: Plan, values: dict[int, dict[int, float]], cells: Sequence[int]
) -> list[int]:
    """Adds to *values* what a race of *cells* asks for; those still in contention at its end."""
    while True:
        ran = {(cell, replicate) for cell in cells for replicate in values[cell]}
        _, left, wanted = next_runs(cells, values, ran, plan)
        if not wanted:
            return left
        for cell, replicate in wanted:
            values[cell][replicate] = float(drawn[cell, replicate - 1])


def simulate(row: Row, rng: np.random.Generator) -> dict[str, float]:
    """What one study of this kind claims: each entry 0 or 1, and the number of runs and of cells shown worse."""
    plan, drawn = Plan(direction="maximize", looks=looks(row.replicates)), draw(row, rng)
    values: dict[int, dict[int, float]] = {cell: {} for cell in range(row.cells)}
    found = claims(row, drawn, plan, values)
    for end in row.raises:
        plan = plan.extended(end)
        more = claims(row, drawn, plan, values)
        found = {name: more[name] if name in COUNTS else max(found[name], more[name]) for name in found}
    return found


def claims(row: Row, drawn: np.ndarray[Any, Any], plan: Plan, values: dict[int, dict[int, float]]) -> dict[str, float]:
    """What is claimed at the end of one race. values: what was run before."""
    from statsmodels.stats.multitest import multipletests

    means, remaining = truth(row), race(drawn, plan, values, range(row.cells))
    winner, compared = compare(values, plan)
    found = compared.values()
    assert winner is not None
    declared = bool(resolved(found))
    false = [means[other] >= means[winner] for other in compared]
    plain = [1.0 if one.p is None else min(1.0, one.p / plan.share(one.n)) for one in found]
    holm = multipletests(plain, ALPHA, method="holm")[0]
    adjusted = [one.adjusted_p is not None and one.adjusted_p <= ALPHA for one in found]
    return {
        "resolved": declared and (winner == 0 if row.ahead else any(false)),
        "adjusted": any(wrong and claimed for wrong, claimed in zip(false, adjusted, strict=True)),
        "holm": any(wrong and claimed for wrong, claimed in zip(false, holm, strict=True)),
        "better": winner == 0 and all(one.verdict == "better" for one in found),
        "best out": 0 not in remaining,
        "seeds": sum(map(len, values.values())) / row.cells,
        "worse": sum(claimed and not wrong for wrong, claimed in zip(false, adjusted, strict=True)),
    }


def measure(job: tuple[int, Row], studies: int | None = None, seed: int = 0) -> dict[str, Any]:
    """One line of the table: the shares over many studies, with their standard errors."""
    position, row = job
    count = studies or (10_000 if row.name == "all equal" and row.cells <= 4 else 2_000)
    rng = np.random.default_rng([seed, position])
    simulate(row, np.random.default_rng())  # imports all that it needs,
    gc.freeze()  # which the collection inside multipletests would walk through in every study
    outcomes = [simulate(row, rng) for _ in range(count)]
    line: dict[str, Any] = {
        "study": row.name,
        "kind": "power" if row.ahead else "level",
        "cells": row.cells,
        "replicates": row.replicates,
        "correlation": row.correlation,
        "studies": count,
    }
    for name in outcomes[0]:
        mean = float(np.mean([outcome[name] for outcome in outcomes]))
        line[name] = mean
        if name not in COUNTS:
            line[f"{name} error"] = math.sqrt(mean * (1.0 - mean) / count)
    return line


def show(line: dict[str, Any]) -> str:
    names = ("resolved", "adjusted", "holm", "best out") if line["kind"] == "level" else ("resolved", "better")
    shares = "  ".join(f"{name} {line[name]:.4f} ± {line[f'{name} error']:.4f}" for name in names)
    paired = f", pairs correlated {line['correlation']:g}" if line["correlation"] else ""
    study = f"{line['study']}{paired}"
    return (
        f"{line['kind']}  {study:38} {line['cells']:2} cells, {line['replicates']} replicates:  {shares}  "
        f"seeds {line['seeds']:.1f}  worse {line['worse']:.1f}  ({line['studies']:,} studies)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, help="a row; default 10,000 for up to 4 equal cells, else 2,000")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table there as well")
    options = parser.parse_args()
    started = time.monotonic()
    lines = []
    with ProcessPoolExecutor(options.jobs) as pool:
        for line in pool.map(partial(measure, studies=options.studies, seed=options.seed), list(enumerate(rows()))):
            lines.append(line)
            print(show(line), flush=True)
    print(f"{time.monotonic() - started:.0f} s")
    if options.json:
        options.json.write_text(json.dumps({"seed": options.seed, "rows": lines}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
