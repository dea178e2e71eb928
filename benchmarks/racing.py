"""What each part of the race is good for: studies like ``init_vs_act``, raced as before and as now.

    python -m benchmarks.racing [--studies N] [--seed S] [--json FILE]

36 cells, whose means in percentage points are like those of a study on FashionMNIST: 20 within 0.6 of the best, 10 up
to 3 behind, 6 up to 11 behind. A search finds a configuration of each cell that is worse than its optimum by
|N(0, 0.2)|, and sees it with the luck of the best of eight points; seeds have a deviation of 0.2. One search and races
to 10 seeds, or four searches and races to 8. The search itself takes 108, or 432, whole trainings (eight points a cell,
halved).

Rows: what the race has, each with what is above it. Figures: replicates; cells shown worse, with adjusted p <= 0.05;
the share of studies that claim something false; the share in which the race dropped the best cell; effects: the share
of studies whose effects can be computed, since every cell has two units or more.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.calibration import race
from searchlib.analysis import comparison
from searchlib.analysis.comparison import ALPHA, compare, leader, paired_tests
from searchlib.analysis.race import looks
from searchlib.analysis.spending import Plan

MEANS = -np.concatenate([np.linspace(0.0, 0.6, 20), np.linspace(0.8, 3.0, 10), np.linspace(5.0, 11.0, 6)])
SEED, PICK, POINTS = 0.2, 0.2, 8
BEHIND = 8.0  # deviations over seeds by which a hopeless cell is behind in every search
ROWS = ("t at 5, 10 seeds", "moderated t", "looks at 2, 3, 5, 7, 10", "leaves when corrected", "hopeless left out")
Values = dict[int, dict[int, float]]


def alone(values: Mapping[int, Mapping[int, float]], plan: Plan, alpha: float = ALPHA) -> list[int]:
    """The cells still in the race by the rule of before: not significantly worse than the leader, each by itself."""
    first = leader(values, plan)
    if first is None:
        return list(values)
    tests = paired_tests(values, first, plan)
    behind = {
        cell
        for cell, one in tests.items()
        if one.p is not None
        and (one.difference or 0.0) > 0
        and one.p <= alpha * plan.share(len(values[cell].keys() & values[first].keys()))
    }
    return [cell for cell in values if cell not in behind]


@contextlib.contextmanager
def as_in(row: str) -> Iterator[None]:
    """searchlib's functions as they are in this row."""
    with contextlib.ExitStack() as stack:
        if ROWS.index(row) < 1:
            stack.enter_context(mock.patch.object(comparison, "moderated", lambda variances, df: (variances, df)))
        if ROWS.index(row) < 3:
            stack.enter_context(mock.patch("searchlib.analysis.race.contenders", alone))
        yield


def draw(searches: int, seeds: int, rng: np.random.Generator) -> tuple[np.ndarray[Any, Any], ...]:
    """The means of the picks [cells, searches], their values in the search, and the replicates [cells, seeds]."""
    picks = MEANS[:, None] - abs(PICK * rng.standard_normal((len(MEANS), searches)))
    seen = picks + SEED * rng.standard_normal((POINTS, *picks.shape)).max(axis=0)
    replicates = picks[:, np.arange(seeds) % searches] + SEED * rng.standard_normal((len(MEANS), seeds))
    return picks, seen, replicates


def hopeful(seen: np.ndarray[Any, Any], drawn: np.ndarray[Any, Any], first: int, values: Values) -> list[int]:
    """The cells that the search leaves in: the leading third has its first *first* seeds, which give the deviation.

    Hopeless: in every search behind its best by more than BEHIND deviations.
    """
    leading = np.argsort(-seen.mean(axis=1), kind="stable")[: len(seen) // 3]
    for cell in leading:
        values[int(cell)] = {replicate: float(drawn[cell, replicate - 1]) for replicate in range(1, first + 1)}
    deviation = float(np.sqrt(drawn[leading, :first].var(axis=1, ddof=1).mean()))
    behind = (seen.max(axis=0) - seen > BEHIND * deviation).all(axis=1)
    return [cell for cell in range(len(seen)) if not behind[cell]]


def simulate(row: str, searches: int, rng: np.random.Generator) -> dict[str, float]:
    """One study."""
    seeds = 8 if searches > 1 else 10
    picks, seen, drawn = draw(searches, seeds, rng)
    means = picks.mean(axis=1) if searches == 1 else MEANS
    planned = looks(seeds, searches=searches)
    if ROWS.index(row) < 2:
        planned = (5, 10) if searches == 1 else (8,)
    plan = Plan(direction="maximize", looks=planned, searches=searches)
    values: Values = {cell: {} for cell in range(len(MEANS))}
    with as_in(row):
        every = list(values)
        candidates = every if row != ROWS[-1] else hopeful(seen, drawn, planned[0], values)
        left = race(drawn, plan, values, candidates)
        winner, compared = compare({cell: values[cell] for cell in candidates}, plan)
    assert winner is not None
    claimed = [cell for cell, one in compared.items() if one.adjusted_p is not None and one.adjusted_p <= ALPHA]
    wrong = [cell for cell in claimed if means[cell] >= means[winner]]
    return {
        "replicates": sum(map(len, values.values())),
        "shown worse": len(claimed) - len(wrong),
        "false": bool(wrong),
        "best dropped": int(np.argmax(means)) not in left,
        "effects": len(candidates) == len(MEANS),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=300, help="a row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table there as well")
    options = parser.parse_args()
    started, lines = time.monotonic(), []
    for searches in (1, 4):
        for row in ROWS:
            rng = np.random.default_rng([options.seed, searches])
            outcomes = [simulate(row, searches, rng) for _ in range(options.studies)]
            line = {name: float(np.mean([one[name] for one in outcomes])) for name in outcomes[0]}
            lines.append({"race": row, "searches": searches, "studies": options.studies, **line})
            shown = "  ".join(f"{name} {value:.3f}" for name, value in line.items())
            print(f"{searches} {'search' if searches == 1 else 'searches'}  {row:24} {shown}", flush=True)
    print(f"{time.monotonic() - started:.0f} s")
    if options.json:
        options.json.write_text(json.dumps({"seed": options.seed, "rows": lines}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
