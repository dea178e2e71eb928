"""Where a study stands: the outcomes of its trials, its cells, its champion."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from searchlib.analysis.comparison import leader
from searchlib.analysis.race import looks
from searchlib.analysis.resampling import split_number, split_overlap
from searchlib.analysis.spending import Plan
from searchlib.study import Ledger, Primitive, Study, get_sampler

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

SEARCH = "search"  # user attribute of a trial: the study's search that drew it; only where there are several
UNLEARNT = "unlearnt"  # user attribute of a trial that is no better than always giving the same answer
ENQUEUED = "enqueued"  # user attribute of a trial that searchlib took from Optuna's queue
CellKey = tuple[tuple[str, Primitive], ...]  # the scientific values of a cell


class Stored(Protocol):
    """What the stores hold of a study: ``stores.StoredStudy``."""

    @property
    def trials(self) -> Sequence[FrozenTrial]: ...
    @property
    def replicates(self) -> Sequence[FrozenTrial]: ...
    @property
    def race(self) -> Mapping[str, Any]: ...
    @property
    def ledger(self) -> Ledger | None: ...
    @property
    def target(self) -> int | None: ...
    @property
    def foreign(self) -> Sequence[int]: ...


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One combination of the scientific values, with its best trial.

    points: finished trials; diverged: those of them that diverged. best: the value of the best completed trial, of
    number *trial* and with the searched values *nuisance*; None where no trial completed. picks: the number of the best
    completed trial of each search, which its replicates repeat in turn; None for a search in which none completed.
    """

    scientific: Mapping[str, Primitive]
    points: int
    diverged: int
    best: float | None
    trial: int | None
    nuisance: Mapping[str, Primitive]
    picks: tuple[int | None, ...]

    @property
    def key(self) -> CellKey:
        """The scientific values, hashable."""
        return tuple(self.scientific.items())


@dataclass(frozen=True, kw_only=True)
class TrialCounts:
    """Trials by outcome. total: all that began, those that are running included."""

    total: int
    completed: int
    pruned: int
    diverged: int
    failed: int
    running: int

    @property
    def ended(self) -> int:
        """The trials that aren't running any more, whatever their outcome."""
        return self.total - self.running


def outcome(trial: FrozenTrial) -> str:
    """``completed``, ``pruned``, ``diverged``, ``failed`` or ``running``."""
    if not trial.state.is_finished():
        return "running"
    return str(trial.user_attrs.get("outcome", "failed"))


def search_of(trial: FrozenTrial) -> int:
    """The search, from 1, that drew a trial: of those among which the study's trials are shared."""
    return int(trial.user_attrs.get(SEARCH, 1))


def split_of(study: Study, trial: FrozenTrial) -> int:
    """The number of the split that a trial of the search, or a replicate, is trained and validated on."""
    return split_number(study, search=search_of(trial), replicate=trial.params.get("replicate"))


def is_enqueued(trial: FrozenTrial) -> bool:
    """Whether the trial waits in Optuna's queue (``enqueue_trial``), or came from there."""
    return trial.state.name == "WAITING" or ENQUEUED in trial.user_attrs


def trials_wanted(study: Study, target: int, trials: Sequence[FrozenTrial]) -> int:
    """How many trials a search for *target* ends with, beside those of *trials* that it has.

    Enqueued ones count, but not in a design, of which they are no part: its cells stay balanced.
    """
    extra = sum(map(is_enqueued, trials)) if get_sampler(study.sampler).is_design else 0
    return max(target + extra, len(trials))


def best_trial(study: Study, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The best completed trial; of equal ones the first. Diverged and pruned trials don't count."""
    best: FrozenTrial | None = None
    for trial in trials:
        if outcome(trial) != "completed" or not trial.values:
            continue
        if best is None or not best.values or study.better(trial.values[0], best.values[0]):
            best = trial
    return best


def cells(study: Study, trials: Sequence[FrozenTrial]) -> list[Cell]:
    """The cells that have a finished trial, best first; with no scientific dimension one cell of all trials."""
    found = []
    for key, members in trials_by_cell(study, trials).items():
        best = best_trial(study, members)
        own = [best_trial(study, [t for t in members if search_of(t) == each + 1]) for each in range(study.searches)]
        found.append(
            Cell(
                scientific=dict(key),
                points=len(members),
                diverged=sum(outcome(trial) == "diverged" for trial in members),
                best=best.values[0] if best and best.values else None,
                trial=best.number if best else None,
                nuisance={name: value for name, value in best.params.items() if name not in dict(key)} if best else {},
                picks=tuple(pick.number if pick else None for pick in own),
            )
        )
    worst = float("-inf") if study.direction == "maximize" else float("inf")
    return sorted(
        found, key=lambda cell: worst if cell.best is None else cell.best, reverse=study.direction == "maximize"
    )


def sources(cells: Sequence[Cell]) -> dict[int, CellKey]:
    """The trials that are repeated, each with its cell, in the order of *cells*."""
    return {pick: cell.key for cell in cells for pick in cell.picks if pick is not None}


def trials_by_cell(study: Study, trials: Sequence[FrozenTrial]) -> dict[CellKey, list[FrozenTrial]]:
    """The finished trials of each cell that has one, in the order of *trials*."""
    grouped: dict[CellKey, list[FrozenTrial]] = {}
    for trial in trials:
        if trial.state.is_finished():
            grouped.setdefault(study.cell_of(trial.params), []).append(trial)
    return grouped


def champion(study: Study, stored: Stored) -> FrozenTrial | None:
    """The trial whose weights are the champion: a replicate (it has ``replicate`` in its params), or the best trial.

    After a finished race it is the best completed replicate, of equal ones the first, of the leading cell: the one with
    the best mean among those with most replicates. Otherwise, and where that cell has no completed replicate, it is the
    best trial of the search.
    """
    found = cells(study, stored.trials)
    if _race_finished(study, stored.race, found):
        reached, repeated = stored.race["reached"], sources(found)
        first = leader(replicate_values(repeated, stored.replicates, reached), plan(study))
        raced = [trial for trial in stored.replicates if trial.params["replicate"] <= reached]
        own = [trial for trial in raced if first and repeated.get(trial.user_attrs.get("source", -1)) == first]
        best = best_trial(study, [trial for trial in own if has_learnt(trial)])
        if best is not None:
            return best
    return best_trial(study, stored.trials)


def possible_champions(study: Study, stored: Stored) -> list[FrozenTrial]:
    """The champion by the study as its file has it, and as it was raced: ``replicate_cells`` may have changed since."""
    repeated = {*stored.race.get("candidates", ())}
    raced = sum(not repeated.isdisjoint(cell.picks) for cell in cells(study, stored.trials)) or None
    found = [champion(each, stored) for each in (study, replace(study, replicate_cells=raced))]
    return [best for best in found if best is not None]


def claimed_or_leading(study: Study, stored: Stored) -> FrozenTrial | None:
    """The trial, or replicate, that the ledger names; before the claim the champion as of now.

    None where no trial completed, or where Optuna's storage lost the claimed one.
    """
    ledger = stored.ledger
    if ledger is None:
        return champion(study, stored)
    trials = (*stored.trials, *stored.replicates)
    return next((trial for trial in trials if trial.user_attrs.get("mlflow_run_id") == ledger.run_id), None)


def raced_cells(study: Study, found: Sequence[Cell]) -> list[Cell]:
    """The cells whose best trials are repeated: those of *found*, best first, in which any completed."""
    return [cell for cell in found if cell.trial is not None][: study.replicate_cells]


def _race_finished(study: Study, race: Mapping[str, Any], found: Sequence[Cell]) -> bool:
    """Whether the race is over, and still about the cells' best trials: the search may have found better ones since."""
    wanted = sources(raced_cells(study, found))
    return bool(race.get("finished")) and set(race.get("candidates", ())) == set(wanted)


def has_learnt(trial: FrozenTrial) -> bool:
    """Whether a finished trial is better than one that always answers the same; a diverged one isn't."""
    return outcome(trial) != "diverged" and not trial.user_attrs.get(UNLEARNT, False)


def replicate_values(
    repeated: Mapping[int, CellKey], replicates: Sequence[FrozenTrial], most: float = math.inf
) -> dict[CellKey, dict[int, float | None]]:
    """The values of the finished replicates, by cell and replicate up to *most*; None for one that has not learnt.

    repeated: the trials of the search that are repeated, each with its cell.
    """
    found: dict[CellKey, dict[int, float | None]] = {cell: {} for cell in repeated.values()}
    for trial in sorted(replicates, key=lambda trial: trial.params["replicate"]):
        source, replicate = trial.user_attrs.get("source", -1), trial.params["replicate"]
        if source in repeated and trial.state.is_finished() and trial.values and replicate <= most:
            found[repeated[source]][replicate] = trial.values[0] if has_learnt(trial) else None
    return found


def outcome_counts(trials: Sequence[FrozenTrial]) -> TrialCounts:
    """How many of *trials* have each outcome."""
    outcomes = Counter(map(outcome, trials))
    names = ("completed", "pruned", "diverged", "failed", "running")
    return TrialCounts(total=len(trials), **{name: outcomes[name] for name in names})


def plan(study: Study, race: Mapping[str, Any] | None = None) -> Plan:
    """How the cells of the study are compared. race: what was noted of its race so far.

    The looks of a race that has ended are those noted, as earlier versions raced with others. If it goes on to more
    seeds than it was planned for, it keeps the looks that it had, and has one more at its new end. An end that was
    reached stays a look, also where ``replicates`` was lower in between.
    """
    noted = race or {}
    planned = looks(study.replicates, race=study.replicate_race, searches=study.searches)
    past, first = tuple(noted.get("looks", ())), noted.get("planned_end")
    if past and (first or noted.get("finished")):
        first = first or past[-1]
        ends = {first, *(end for end in noted.get("undecided", ()) if end > first)}
        had = {look for look in past if look <= max(first, noted.get("reached", 0))} | ends
        planned = (*sorted(look for look in had if look < study.replicates), study.replicates) if planned else past
    return Plan(
        direction=study.direction,
        looks=planned,
        race=study.replicate_race,
        planned_end=first,
        searches=study.searches,
        margin=study.margin,
        overlap=split_overlap(study),
    )


def race_is_over(study: Study, race: Mapping[str, Any], found: Sequence[Cell]) -> bool:
    """Whether the race is over for the study as its file has it now. found: its cells."""
    return _race_finished(study, race, found) and tuple(race.get("looks", ()))[-1:] == plan(study).looks[-1:]
