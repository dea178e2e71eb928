"""By which method a study was run, as the stores show it: earlier versions of searchlib ran studies otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from searchlib.analysis.race import looks
from searchlib.analysis.spending import Plan
from searchlib.analysis.standing import outcome
from searchlib.study import CORRECT, Study

COVERAGE = "0.88 to 0.95"  # of cells' 95 % intervals over four searches: the table "Asked again" of docs/method.md

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


def method(study: Study, replicates: Sequence[FrozenTrial], compared_by: Plan, *, tested: bool) -> str:
    """How the study was run, and what an earlier version has left out of it, in a few sentences.

    replicates: those stored. compared_by: the plan by which they are compared. tested: whether any was evaluated on
    the test set.
    """
    completed = [trial for trial in replicates if outcome(trial) == "completed"]
    end = compared_by.planned_end or max(compared_by.looks, default=0)
    planned = [look for look in compared_by.looks if look <= end]
    later = [look for look in compared_by.looks if look > end]
    today = looks(end, race=study.replicate_race, searches=study.searches)
    earlier, after = bool(completed) and tuple(planned) != today, ""
    if completed:
        after = f", after {_listed(planned)} seeds"
        after += f" as in earlier versions (now {_listed(today)})" if earlier else ""
        after += f", and after the extension to {_listed(later)}" if later else ""
    own = ", each on a split of its own" if study.search_split or study.replicate_split else ""
    if study.searches > 1:
        of_search, of_seed = (own, "") if study.search_split else ("", own)
        said = [f"{study.searches} searches{of_search}: the cells are compared over these{after}{of_seed}."]
        if completed:
            said.append(
                "In benchmarks on real trainings a cell's interval over four searches, stated as 95 %, held the "
                f"procedure's mean in {COVERAGE} of the studies: so few searches rarely show the worst picks."
            )
    else:
        said = ["One search: the claims are about the best configurations that it found."]
        said += [f"The cells are compared over its seeds{own}{after}."] if completed else []
    unknown = sum(CORRECT not in trial.system_attrs for trial in completed) if study.metric == "val_accuracy" else 0
    if unknown:
        of = "the replicates" if unknown == len(completed) else f"{unknown} of the {len(completed)} replicates"
        said.append(
            f"An earlier version ran {of} and didn't store which validation examples they classify correctly: their "
            "cells have no intervals for new examples."
        )
    if completed and not tested and not any("kept_bytes" in trial.user_attrs for trial in completed):
        said.append("No weights of replicates were kept, so there is no test by cell.")
    if unknown or earlier:
        said.append("Intervals and tests are those of this version.")
    return " ".join(said)


def _listed(numbers: Sequence[int]) -> str:
    """``2, 3 and 5``."""
    words = [str(number) for number in numbers]
    return " and ".join([*([", ".join(words[:-1])] if words[1:] else []), *words[-1:]])
