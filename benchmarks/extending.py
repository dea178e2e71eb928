"""Two tests for a race that goes on after its planned end, of two cells: alpha spending, and an e-process.

    python -m benchmarks.extending [--studies N] [--seed S]

Paired differences are normal, with a mean of *ahead* deviations. While the race is undecided it is raised to the next
of the ends. Spending: ``Plan.share``. E-process: the t test by a right-Haar mixture (Lai 1976; Wang & Ramdas 2025,
Anytime-valid t-tests and confidence sequences for Gaussian means with unknown variance), with variance 0.3 of the
mixture, at level 0.01 for all that follows the planned end: both then have at most about 0.05 false winners in all.
Anew: all of alpha at each end. Figures: the share decided at the last of the ends, or before.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from searchlib.analysis.comparison import ALPHA
from searchlib.analysis.race import looks
from searchlib.analysis.spending import Plan

LEVEL, MIXTURE = 0.01, 0.3
PATHS = ((10, 20), (10, 20, 40), (10, 20, 40, 80), tuple(range(10, 41)), (5, 10, 20, 40, 80), tuple(range(5, 81)))


def e_values(t: np.ndarray[Any, Any], n: int) -> np.ndarray[Any, Any]:
    """Of t statistics of *n* pairs."""
    df, shrunk = n - 1, 1.0 + n * MIXTURE
    factor = (1.0 + t**2 / df) / (1.0 + t**2 / (shrunk * df))
    return np.asarray(shrunk**-0.5 * factor ** (n / 2))


def decided(pairs: np.ndarray[Any, Any], ends: tuple[int, ...]) -> tuple[float, ...]:
    """The share of studies, rows of *pairs*, that each test decides: spending, e-process, anew."""
    from scipy.special import stdtr

    def t_at(n: int) -> np.ndarray[Any, Any]:
        part = pairs[:, :n]
        return np.asarray(part.mean(axis=1) / (part.std(axis=1, ddof=1) / np.sqrt(n)))

    plan = Plan(direction="maximize", looks=looks(ends[0]))
    first = np.zeros(len(pairs), dtype=bool)
    for n in plan.looks:
        first |= 2.0 * stdtr(n - 1, -abs(t_at(n))) <= ALPHA * plan.share(n)
    spending, mixture, anew = first.copy(), first.copy(), first.copy()
    for n in ends[1:]:
        plan, t = plan.extended(n), t_at(n)
        p = 2.0 * stdtr(n - 1, -abs(t))
        spending |= p <= ALPHA * plan.share(n)
        mixture |= e_values(t, n) >= 1.0 / LEVEL
        anew |= p <= ALPHA * plan.share(ends[0])
    return float(spending.mean()), float(mixture.mean()), float(anew.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=40_000, help="a row")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for ahead in (0.0, 0.35, 0.5, 0.7):
        drawn = np.random.default_rng(options.seed).standard_normal((options.studies, 80)) + ahead
        for ends in PATHS:
            shown = ", ".join(map(str, ends)) if len(ends) < 6 else f"{ends[0]}, {ends[1]}, ..., {ends[-1]}"
            spending, mixture, anew = decided(drawn, ends)
            print(f"ahead {ahead:<4}  {shown:18}  spending {spending:.3f}  e-process {mixture:.3f}  anew {anew:.3f}")


if __name__ == "__main__":
    main()
