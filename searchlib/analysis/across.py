"""Several data sets: the cells of a study compared across them. Each data set is a block, with findings of its own.

Ranks are about data sets like these: Friedman's test and Nemenyi's critical difference (Demsar 2006, Statistical
Comparisons of Classifiers over Multiple Data Sets, JMLR 7, section 3.2). Interquartile means are about these data sets
only (Agarwal 2021, Deep RL at the Edge of the Statistical Precipice, section 4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from searchlib.analysis.answer import LISTED_CELLS
from searchlib.analysis.comparison import ALPHA, unit_means
from searchlib.analysis.findings import CellFinding, Findings
from searchlib.analysis.plain import plain
from searchlib.analysis.ranks import RankTest, rank_test
from searchlib.analysis.spending import Plan
from searchlib.analysis.standing import CellKey
from searchlib.analysis.statistics import Direction
from searchlib.study import Primitive, Study
from searchlib.text import number

if TYPE_CHECKING:
    from numpy.typing import NDArray

RESAMPLES = 2_000  # of the bootstrap
LISTED_DATASETS = 4  # whose winners the answer names


@dataclass(frozen=True, kw_only=True)
class CellAcross:
    """One combination of the scientific values, on all data sets.

    means: by data set, of its units (seeds or, of several searches, the searches), or the best value of the search
    where it has no replicates; None where no trial completed. ranks: by data set, 1 for the best, ties with their mean
    rank. worse: significantly worse than the first cell, by the critical difference. iqm: interquartile mean over data
    sets and units, low to high its 95 % bootstrap interval; behind: by how much the first cell's is better, behind_low
    to behind_high its interval, paired by unit. None where the data sets have fewer than two units in common, and for
    losses.
    """

    label: str
    scientific: Mapping[str, Primitive]
    means: Mapping[str, float | None]
    ranks: Mapping[str, float]
    mean_rank: float
    worse: bool
    iqm: float | None
    low: float | None
    high: float | None
    behind: float | None
    behind_low: float | None
    behind_high: float | None


@dataclass(frozen=True, kw_only=True)
class OnDataset:
    """What the study of one data set says: its winner, the *mean* of its units with the interval *low* to *high*, as
    the best of those not significantly different from it; resolved: significantly better than all others. ties: the
    labels of the cells that aren't significantly worse. None where there are no replicates."""

    dataset: str
    study: str
    winner: str | None
    mean: float | None
    low: float | None
    high: float | None
    resolved: bool | None
    ties: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Across:
    """The cells of a study across its data sets.

    datasets: those that are finished, and so compared; unfinished: the others. cells: the best mean rank first; those
    that have a finished trial on each data set. friedman: None with fewer than two cells or data sets. notes: what
    can't be computed, and why.
    """

    study: str
    question: str
    metric: str
    direction: Direction
    alpha: float
    answer: str
    datasets: tuple[OnDataset, ...]
    unfinished: tuple[str, ...]
    cells: tuple[CellAcross, ...]
    friedman: RankTest | None
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, without NaN or infinity."""
        return dict(plain(self))


def compare_across(study: Study, findings: Mapping[str, Findings], unfinished: Sequence[str] = ()) -> Across:
    """Compare the cells of *study* across data sets.

    findings: of the finished data sets, by name. unfinished: the names of the others.
    """
    rows = {name: {tuple(cell.scientific.items()): cell for cell in one.cells} for name, one in findings.items()}
    everywhere = list(dict.fromkeys(key for cells in rows.values() for key in cells))
    common = [key for key in everywhere if all(key in cells for cells in rows.values())]
    cells = _cells(study, findings, {key: [rows[name][key] for name in rows] for key in common})
    made = Across(
        study=study.name,
        question=study.question,
        metric=study.metric,
        direction=study.direction,
        alpha=ALPHA,
        answer="",
        datasets=tuple(_on_dataset(name, one) for name, one in findings.items()),
        unfinished=tuple(unfinished),
        cells=cells,
        friedman=rank_test([[cell.ranks[name] for cell in cells] for name in rows]) if cells else None,
        notes=tuple(_notes(study, [*findings.values()], len(everywhere) - len(common), cells)),
    )
    if (test := made.friedman) and test.significant:
        limit = cells[0].mean_rank + test.critical_difference
        made = replace(made, cells=tuple(replace(cell, worse=cell.mean_rank >= limit) for cell in cells))
    return replace(made, answer=" ".join(_answer(made)))


def _cells(
    study: Study, findings: Mapping[str, Findings], rows: Mapping[CellKey, Sequence[CellFinding]]
) -> tuple[CellAcross, ...]:
    """The cells by mean rank, none significantly worse so far; () with fewer than two cells or data sets.

    rows: what each data set found of the cells.
    """
    if len(rows) < 2 or len(findings) < 2:
        return ()
    by_dataset = [ranked(cells, study.direction) for cells in zip(*rows.values(), strict=True)]
    ranks = dict(zip(rows, zip(*by_dataset, strict=True), strict=True))
    values = {key: _values(findings, cells) for key, cells in rows.items()}
    order = sorted(rows, key=lambda key: sum(ranks[key]))
    return tuple(
        CellAcross(
            label=rows[key][0].label,
            scientific=dict(key),
            means=dict(zip(findings, map(_score, rows[key]), strict=True)),
            ranks=dict(zip(findings, ranks[key], strict=True)),
            mean_rank=sum(ranks[key]) / len(findings),
            worse=False,
            **_interquartile(study.metric, values[key], None if key == order[0] else values[order[0]]),
        )
        for key in order
    )


# ------------------------------------------------------------------------------------------------------------ ranks


def ranked(cells: Sequence[CellFinding], direction: Direction) -> list[float]:
    """The rank of each cell on one data set: 1 for the best, equal ones have the mean of their ranks.

    By the mean over units; then come cells without replicates, by the search; cells that failed come last: no trial
    completed, or more than half of the replicates diverged or learnt nothing.
    """
    from scipy.stats import rankdata

    sign = -1.0 if direction == "maximize" else 1.0
    standings = []
    for cell in cells:
        value = _score(cell)
        if value is None or cell.failed > cell.n:
            standings.append((2, 0.0))
        else:
            standings.append((0 if cell.n else 1, sign * float(f"{value:.12g}")))  # without round-off
    places = {standing: place for place, standing in enumerate(sorted(set(standings)))}
    return [float(rank) for rank in rankdata([places[standing] for standing in standings])]


# ------------------------------------------------------------------------------------------- interquartile means


def interquartile_mean(units: NDArray[Any]) -> tuple[float, NDArray[Any]]:
    """The mean of the middle half of all values, and that of RESAMPLES stratified resamples.

    units: [data sets, units]. Each data set is a stratum, from whose units as many are drawn, with replacement. Tables
    of one shape are resampled alike, so that their resamples are paired. The estimator is that of rliable (Agarwal
    2021): scipy's mean trimmed by a quarter at each end, with the percentiles of the bootstrap as its interval.
    """
    import numpy as np
    from scipy.stats import trim_mean

    drawn = np.random.default_rng(0).integers(units.shape[1], size=(RESAMPLES, *units.shape))
    resampled = np.take_along_axis(units[None], drawn, axis=2).reshape(RESAMPLES, -1)
    return float(trim_mean(units, 0.25, axis=None)), np.asarray(trim_mean(resampled, 0.25, axis=1))


def _values(findings: Mapping[str, Findings], cells: Sequence[CellFinding]) -> list[dict[int, float]]:
    """A cell's values by unit on each data set."""
    plans = [Plan(direction=one.direction, searches=one.searches) for one in findings.values()]
    return [unit_means(cell.values, plan) for cell, plan in zip(cells, plans, strict=True)]


def _interquartile(
    metric: str, own: Sequence[Mapping[int, float]], leading: Sequence[Mapping[int, float]] | None
) -> dict[str, float | None]:
    """The fields of CellAcross about interquartile means. leading: the values of the first cell; None for itself.

    Each data set counts with the same number of units, its first ones, so that none weighs more in one cell than in
    another.
    """
    import numpy as np

    def table(values: Sequence[Mapping[int, float]], units: Sequence[Sequence[int]]) -> NDArray[Any]:
        return np.array([[one[unit] for unit in chosen] for one, chosen in zip(values, units, strict=True)])

    def shared(units: Sequence[Sequence[int]]) -> list[Sequence[int]]:
        return [sorted(each)[: min(map(len, units))] for each in units]

    def interval(resampled: NDArray[Any]) -> tuple[float, float]:
        low, high = np.quantile(resampled, [0.025, 0.975])
        return float(low), float(high)

    made: dict[str, float | None] = dict.fromkeys(("iqm", "low", "high", "behind", "behind_low", "behind_high"))
    if metric != "val_accuracy" or min(map(len, own)) < 2:
        return made
    made["iqm"], resampled = interquartile_mean(table(own, shared([list(one) for one in own])))
    made["low"], made["high"] = interval(resampled)
    if leading is None:
        return made
    both = shared([[unit for unit in one if unit in other] for one, other in zip(own, leading, strict=True)])
    if len(both[0]) > 1:
        (first, ahead), (second, after) = (interquartile_mean(table(values, both)) for values in (leading, own))
        made["behind"] = first - second
        made["behind_low"], made["behind_high"] = interval(ahead - after)
    return made


# ------------------------------------------------------------------------------------------------------------ words


def _score(cell: CellFinding) -> float | None:
    return cell.search_best if cell.mean is None else cell.mean


def _on_dataset(name: str, findings: Findings) -> OnDataset:
    winner, first = findings.winner, findings.cells[0] if findings.cells else None
    return OnDataset(
        dataset=name,
        study=findings.study,
        winner=winner.label if winner else None,
        mean=_score(first) if first else None,
        low=winner.low if winner else None,
        high=winner.high if winner else None,
        resolved=findings.resolved,
        ties=tuple(one.against_label for one in findings.comparisons if not one.told_apart),
    )


def _answer(found: Across) -> list[str]:
    """What holds across the data sets, in a few sentences."""
    names = ", ".join(one.dataset for one in found.datasets)
    said = [f"Not finished: {', '.join(found.unfinished)}; so this may change."] if found.unfinished else []
    if found.friedman is None:
        why = "the cells are too few" if len(found.datasets) > 1 else f"{names or 'no data set'} alone is finished"
        return [*said, f"There is nothing to compare across data sets: {why if names else 'none is finished'}."]
    test, best = found.friedman, [cell for cell in found.cells if cell.mean_rank == found.cells[0].mean_rank]
    over = f"Over {test.datasets} data sets ({names})"
    rank = f"the best mean rank, {best[0].mean_rank:.2f} of {test.cells} cells"
    if len(best) > 1:
        said.append(f"{over}, {_listed([cell.label for cell in best])} share {rank}.")
    else:
        said.append(f"{over}, {best[0].label} has {rank}.")
    p = f"Friedman's test, p {'< 0.001' if test.p < 0.001 else f'= {test.p:.2g}'}"
    worse = [cell.label for cell in found.cells if cell.worse]
    if test.datasets < test.least:
        said.append(
            f"No two of {test.cells} cells can differ significantly over {test.datasets} data sets, whatever the "
            f"results: that takes {test.least} or more."
        )
    elif not test.significant:
        said.append(f"The cells don't differ significantly across data sets ({p}).")
    elif not worse:
        said.append(
            f"The cells differ ({p}), but none is significantly worse than that one: mean ranks would have to differ "
            f"by {test.critical_difference:.2f}."
        )
    else:
        said.append(
            f"Significantly worse across data sets: {_listed(worse)} ({p}, critical difference "
            f"{test.critical_difference:.2f})."
        )
        if rest := [cell.label for cell in found.cells[1:] if not cell.worse]:
            said.append(f"Not significantly worse: {_listed(rest)}.")
    return [*said, _alone(found)]


def _alone(found: Across) -> str:
    """The winner of each data set, and whether it is significantly better than all other cells there."""
    if len(found.datasets) > LISTED_DATASETS:
        resolved = sum(one.resolved is True for one in found.datasets)
        number_of = len({one.winner for one in found.datasets if one.winner})
        winners = "the same winner" if number_of == 1 else f"{number_of} different winners"
        return (
            f"Taken alone, all {len(found.datasets)} data sets have {winners}; on {resolved or 'none'} of them it is "
            "significantly better than all other cells."
        )
    alone = []
    for one in found.datasets:
        tie = f"tied with {len(one.ties)} other cell{'s' if len(one.ties) > 1 else ''}"
        state = "significantly better than all others" if one.resolved else tie if one.ties else "not replicated"
        best = f"{one.winner} ({number(one.mean, found.metric)}, {state})" if one.winner else "no trial completed"
        alone.append(f"{one.dataset}: {best}")
    return f"Winners by data set: {'; '.join(alone)}."


def _notes(study: Study, findings: Sequence[Findings], left_out: int, cells: Sequence[CellAcross]) -> list[str]:
    notes, rows = [], [cell for one in findings for cell in one.cells]
    if left_out:
        notes.append(f"cells that have no finished trial on some data set are left out: {left_out}")
    if any(cell.n == 0 and not cell.failed for cell in rows):
        notes.append("cells without replicates are ranked by the search, on one seed, behind those that have some")
    if any(cell.failed > cell.n or cell.search_best is None for cell in rows):
        notes.append("cells that failed in more than half of their replicates, or in all trials, have the last rank")
    if study.metric != "val_accuracy":
        notes.append("no interquartile means: losses of different data sets have no scale in common")
    elif any(cell.iqm is None for cell in cells):
        notes.append("no interquartile mean of cells with fewer than two seeds, or searches, on some data set")
    return notes


def _listed(labels: Sequence[str]) -> str:
    more = len(labels) - LISTED_CELLS
    return "; ".join(labels[:LISTED_CELLS]) + (f"; and {more} more" if more > 0 else "")
