"""The race of the replicates: its looks, the cells that stay in it, and what runs next."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence

from searchlib.analysis.comparison import Key, Values, contenders
from searchlib.analysis.spending import Plan

EARLY_LOOKS = (2, 3, 5, 7, 10)  # with moderated variances two seeds tell cells apart that are far behind

LEAST_SEEDS = 5  # of a leader that is alone: its own mean wants an interval


def looks(replicates: int, *, race: bool = True, searches: int = 1) -> tuple[int, ...]:
    """The numbers of seeds at which a race looks at its cells: 2, 3, 5, 7, 10, then doubling, at last *replicates*.

    Several searches take turns, so these are then the numbers of turns: with 4, the looks are at 8, 12, 20 seeds, after
    a first one at 4. Without a race there is one look, at the end: all cells have all seeds, and the one look has all
    of alpha.

    >>> looks(29)
    (2, 3, 5, 7, 10, 20, 29)
    >>> looks(12, searches=4)
    (4, 8, 12)
    >>> looks(29, race=False)
    (29,)
    """
    if not race:
        return (replicates,) if replicates > 0 else ()
    turns = itertools.chain((1,) if searches > 1 else (), EARLY_LOOKS, (10 * 2**power for power in itertools.count(1)))
    early = itertools.takewhile(lambda seeds: seeds < replicates, (searches * each for each in turns))
    return (*early, replicates) if replicates > 0 else ()


def next_runs(
    candidates: Sequence[Key], values: Values[Key], ran: Collection[tuple[Key, int]], plan: Plan
) -> tuple[int, list[Key], list[tuple[Key, int]]]:
    """The state of a race: (seeds of the last complete look, cells left, what to run next as (cell, replicate)).

    ran: what was run, also where it gave no value. Nothing is left to run when the race is over: one cell is left and
    has at least five seeds, or all that are left have all seeds. The state follows from the values alone, so an
    interrupted race resumes as it would have continued. Each cell left at a look has all its seeds: a cell that dropped
    out behind an earlier leader, and isn't significantly worse than the present one, catches up.
    """
    left, reached = list(candidates), 0
    for look in plan.looks if plan.race and len(candidates) > 1 else plan.looks[-1:]:  # alone there is no rival
        seen = {
            cell: {replicate: value for replicate, value in values.get(cell, {}).items() if replicate <= look}
            for cell in candidates
        }
        while True:
            wanted = [(cell, replicate) for replicate in range(1, look + 1) for cell in left]
            if wanted := [run for run in wanted if run not in ran]:
                return reached, left, wanted
            still = set(contenders({cell: of for cell, of in seen.items() if of}, plan))
            before, left = left, [cell for cell in candidates if cell in still]
            if still <= set(before):
                break
        reached = look
        if len(left) == 1 < len(candidates) and look >= LEAST_SEEDS:
            break
    return reached, left, []
