"""Where a study stands: the outcomes of its trials, its cells, its champion."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from searchlib.analysis.comparison import leader
from searchlib.analysis.race import looks
from searchlib.study import Ledger, Primitive, Study, get_sampler

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

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
    number *trial* and with the searched values *nuisance*; None where no trial completed.
    """

    scientific: Mapping[str, Primitive]
    points: int
    diverged: int
    best: float | None
    trial: int | None
    nuisance: Mapping[str, Primitive]

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
        found.append(
            Cell(
                scientific=dict(key),
                points=len(members),
                diverged=sum(outcome(trial) == "diverged" for trial in members),
                best=best.values[0] if best and best.values else None,
                trial=best.number if best else None,
                nuisance={name: value for name, value in best.params.items() if name not in dict(key)} if best else {},
            )
        )
    worst = float("-inf") if study.direction == "maximize" else float("inf")
    return sorted(
        found, key=lambda cell: worst if cell.best is None else cell.best, reverse=study.direction == "maximize"
    )


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
    sources = {cell.trial: cell.trial for cell in cells(study, stored.trials) if cell.trial is not None}
    if _race_finished(study, stored.race, sources):
        reached = stored.race["reached"]
        first = leader(replicate_values(sources, stored.replicates, reached), study.direction)
        raced = [trial for trial in stored.replicates if trial.params["replicate"] <= reached]
        best = best_trial(study, [trial for trial in raced if trial.user_attrs.get("source") == first])
        if best is not None:
            return best
    return best_trial(study, stored.trials)


def possible_champions(study: Study, stored: Stored) -> list[FrozenTrial]:
    """The champion by the study as its file has it, and as it was raced: ``replicate_cells`` may have changed since."""
    raced = len(stored.race.get("candidates", ())) or None
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


def _race_finished(study: Study, race: Mapping[str, Any], sources: Mapping[int, Any]) -> bool:
    """Whether the race is over, and still about the cells' best trials: the search may have found better ones since."""
    wanted = list(sources)[: study.replicate_cells]
    return bool(race.get("finished")) and set(race.get("candidates", ())) == set(wanted)


def replicate_values(
    sources: Mapping[int, Any], replicates: Sequence[FrozenTrial], most: float = math.inf
) -> dict[Any, dict[int, float]]:
    """The values of the finished replicates of *sources* (search trial to cell), by cell and replicate up to *most*."""
    found: dict[Any, dict[int, float]] = {cell: {} for cell in sources.values()}
    for trial in sorted(replicates, key=lambda trial: trial.params["replicate"]):
        source, replicate = trial.user_attrs.get("source", -1), trial.params["replicate"]
        if source in sources and trial.state.is_finished() and trial.values and replicate <= most:
            found[sources[source]][replicate] = trial.values[0]
    return found


def outcome_counts(trials: Sequence[FrozenTrial]) -> TrialCounts:
    """How many of *trials* have each outcome."""
    outcomes = Counter(map(outcome, trials))
    names = ("completed", "pruned", "diverged", "failed", "running")
    return TrialCounts(total=len(trials), **{name: outcomes[name] for name in names})


def planned_looks(study: Study) -> tuple[int, ...]:
    """The looks of the study as its file has it now."""
    return looks(study.replicates, race=study.replicate_race)


def race_is_over(study: Study, race: Mapping[str, Any], sources: Mapping[int, Any]) -> bool:
    """Whether the race is over for the study as its file has it now."""
    return _race_finished(study, race, sources) and tuple(race.get("looks", ())) == planned_looks(study)
