"""The race of the replicates: its looks, the cells that stay in it, and what runs next."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from searchlib.analysis.comparison import ALPHA, Key, differs_from_leader, leader, paired_tests
from searchlib.analysis.statistics import Direction

FIRST_LOOK = 5  # seeds: with fewer, a paired t test finds only differences that are plain without it


def looks(replicates: int, *, race: bool = True) -> tuple[int, ...]:
    """The numbers of seeds at which a race looks at its cells: 5, then doubling, at last *replicates*.

    Without a race there is one look, at the end: all cells have all seeds, and the one look has all of alpha.

    >>> looks(29)
    (5, 10, 20, 29)
    >>> looks(29, race=False)
    (29,)
    """
    if not race:
        return (replicates,) if replicates > 0 else ()
    found = []
    seeds = min(FIRST_LOOK, replicates)
    while 0 < seeds < replicates:
        found.append(seeds)
        seeds *= 2
    return (*found, replicates) if replicates > 0 else ()


def contenders(
    values: Mapping[Key, Mapping[int, float]],
    direction: Direction,
    looks: Sequence[int],
    alpha: float = ALPHA,
    overlap: float = 0.0,
) -> list[Key]:
    """The leader, and the cells that are not significantly worse: a race continues while these are more than one.

    Significantly worse: p of the two-sided paired t test over the common replicates is at most alpha * share(n). Give
    all cells that ever raced, also those that dropped out: where the leader changes, one of them may return. overlap:
    of the replicates' splits (``split_overlap``).

    Each comparison has the level alpha on its own, so of many equal cells some drop out: this decides only where to
    spend seeds. What is claimed afterwards, ``resolved`` and the adjusted p, holds for all comparisons together.
    """
    first = leader(values, direction)
    if first is None:
        return list(values)
    tests = paired_tests(values, first, direction, overlap)
    return [cell for cell in values if cell == first or not differs_from_leader(tests[cell], looks, alpha)]


def next_runs(
    candidates: Sequence[Key],
    values: Mapping[Key, Mapping[int, float]],
    ran: Collection[tuple[Key, int]],
    direction: Direction,
    looks: Sequence[int],
    overlap: float = 0.0,
) -> tuple[int, list[Key], list[tuple[Key, int]]]:
    """The state of a race: (seeds of the last complete look, cells left, what to run next as (cell, replicate)).

    ran: what was run, also where it gave no value. overlap: as in ``contenders``. Nothing is left to run when the race
    is over: one cell is left, or all that are left have all seeds. The state follows from the values alone, so an
    interrupted race resumes as it would have continued. Each cell left at a look has all its seeds: a cell that dropped
    out behind an earlier leader, and isn't significantly worse than the present one, catches up.
    """
    left, reached = list(candidates), 0
    for look in looks if len(candidates) > 1 else looks[-1:]:  # alone there is nothing to look at
        seen = {
            cell: {replicate: value for replicate, value in values.get(cell, {}).items() if replicate <= look}
            for cell in candidates
        }
        while True:
            wanted = [(cell, replicate) for replicate in range(1, look + 1) for cell in left]
            if wanted := [run for run in wanted if run not in ran]:
                return reached, left, wanted
            still = set(contenders({cell: of for cell, of in seen.items() if of}, direction, looks, overlap=overlap))
            before, left = left, [cell for cell in candidates if cell in still]
            if still <= set(before):
                break
        reached = look
        if len(left) == 1 < len(candidates):
            break
    return reached, left, []
