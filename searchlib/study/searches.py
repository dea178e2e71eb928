"""The searches of a study: they share its trials, and its replicates, evenly."""

from __future__ import annotations

from searchlib.errors import StudyError


def check_searches(
    searches: int, *, replicates: int, points: int | None, search_split: bool, replicate_split: bool
) -> None:
    """StudyError where searches can't share the replicates, or have nothing of their own, or splits are drawn twice.

    points: how many points the study has where its sampler takes each once, else None.
    """
    if search_split and searches == 1:
        raise StudyError(
            "search_split=True: a single search has nothing to draw a split apart from; set searches=4, say, or leave "
            "search_split out"
        )
    if search_split and replicate_split:
        raise StudyError(
            "search_split=True and replicate_split=True: a seed has either its search's split or one of its own; "
            "leave one of the two out"
        )
    if searches > 1 and points is not None:
        raise StudyError(f"searches={searches}: each search would have the same points; take searches=1")
    if replicates % searches:
        raise StudyError(
            f"replicates={replicates}: the {searches} searches take turns, so expected a multiple of {searches}, such "
            f"as {_multiple(replicates, searches)}"
        )


def check_target(trials: int, *, searches: int, block: int) -> None:
    """StudyError where so many trials don't give each search, and in it each of *block* cells, the same number."""
    unit = searches * block
    if searches > 1 and trials % unit:
        cells = f" of {block} cells" if block > 1 else ""
        raise StudyError(
            f"trials={trials}: {searches} searches{cells} get equal numbers of points from a multiple of {unit} "
            f"trials, such as {_multiple(trials, unit)}"
        )


def _multiple(number: int, unit: int) -> int:
    """The multiple of *unit* that is nearest to *number*, at least one."""
    return max(round(number / unit), 1) * unit
