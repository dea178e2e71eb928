"""Claims across data sets: their level, and the coverage of interquartile means, on synthetic studies.

    python -m benchmarks.across [--studies N] [--seed S]

A study has a value for each cell, data set and unit (seed or search): normal, with a deviation of 1 over units, and of
*own* of the cells on a data set; *shared* is a deviation of the cells that all data sets have in common by accident, as
if they were searched with one seed. ``differ``: the share of studies in which Friedman's test is significant;
``worse``: in which a cell is called worse than the first, although it is one of the best in truth. Nominally both are
at most 0.05 where all cells are equal. ``coverage``: of the 95 % interval of a cell's interquartile mean, of its mean
over studies of the same data sets. Each has its Monte-Carlo standard error.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

import numpy as np

from searchlib.analysis.across import interquartile_mean
from searchlib.analysis.ranks import rank_test


@dataclass(frozen=True, kw_only=True)
class Row:
    """One kind of study. below: by how much all cells but the first two are worse, in deviations of a unit."""

    name: str
    cells: int
    datasets: int
    own: float = 0.0
    shared: float = 0.0
    below: float = 0.0
    units: int = 4


def rows() -> list[Row]:
    """The table."""
    table = [Row(name="all equal", cells=k, datasets=n) for n in (3, 5, 10) for k in (2, 4, 12)]
    table += [Row(name="all equal on average", cells=4, datasets=n, own=2.0) for n in (3, 5, 10)]
    table += [Row(name="all equal, one seed for all data sets", cells=4, datasets=n, shared=0.5) for n in (3, 5, 10)]
    table += [Row(name="two equal, rest below", cells=k, datasets=n, below=3.0) for n in (3, 10) for k in (4, 12)]
    return table


def simulate(row: Row, studies: int, seed: int) -> dict[str, float]:
    """The shares of *studies* of this kind."""
    generator = np.random.default_rng([seed, row.cells, row.datasets, int(10 * row.own), int(10 * row.below)])
    truth = np.where(np.arange(row.cells) < 2, 0.0, -row.below)
    differ = worse = 0
    for _ in range(studies):
        means = truth + row.shared * generator.normal(size=row.cells)
        means = means + row.own * generator.normal(size=(row.datasets, row.cells))
        values = means + generator.normal(size=(row.units, row.datasets, row.cells))
        ranks = row.cells - values.mean(axis=0).argsort(axis=1).argsort(axis=1)  # without ties
        test = rank_test(ranks.tolist())
        differ += test.significant
        mean = ranks.mean(axis=0)
        beaten = mean >= mean.min() + test.critical_difference
        worse += test.significant and bool((beaten & (truth == truth.max())).any())
    return {"differ": differ / studies, "worse": worse / studies}


def coverage(datasets: int, units: int, studies: int, seed: int) -> float:
    """How often the interval of an interquartile mean has the mean of such means over studies in it."""
    generator = np.random.default_rng([seed, datasets, units])
    levels = np.linspace(0.0, 3.0, datasets)[:, None]  # data sets differ by more than units do
    found = [interquartile_mean(levels + generator.normal(size=(datasets, units))) for _ in range(studies)]
    truth = sum(mean for mean, _ in found) / studies
    limits = [np.quantile(resampled, [0.025, 0.975]) for _, resampled in found]
    return sum(bool(low <= truth <= high) for low, high in limits) / studies


def error(share: float, studies: int) -> float:
    return math.sqrt(max(share * (1.0 - share), 1.0 / studies) / studies)


def main() -> None:
    """Print both tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print("| cells | data sets | number of cells | differ | worse, but isn't |\n|---|---|---|---|---|")
    for row in rows():
        found = simulate(row, given.studies, given.seed)
        shares = [f"{share:.3f} ± {error(share, given.studies):.3f}" for share in found.values()]
        print(f"| {row.name} | {row.datasets} | {row.cells} | {' | '.join(shares)} |", flush=True)
    print("\n| data sets | units | coverage |\n|---|---|---|")
    for datasets in (2, 3, 5, 10):
        for units in (2, 4, 8):
            share = coverage(datasets, units, given.studies, given.seed)
            print(f"| {datasets} | {units} | {share:.3f} ± {error(share, given.studies):.3f} |", flush=True)


if __name__ == "__main__":
    main()
