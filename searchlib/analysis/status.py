"""The status of a study: what ``searchlib status`` shows, at any moment of a search."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from searchlib.analysis.comparison import learnt
from searchlib.analysis.plain import plain
from searchlib.analysis.standing import (
    Cell,
    Stored,
    TrialCounts,
    best_trial,
    cells,
    outcome,
    outcome_counts,
    race_is_over,
    raced_cells,
    replicate_values,
    sources,
    trials_by_cell,
)
from searchlib.study import Ledger, Primitive, Study, TestResult

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


@dataclass(frozen=True, kw_only=True)
class _Target:
    target: int


# The fields of these two, and so their JSON, begin with the last base's: target, total, completed, ...


@dataclass(frozen=True, kw_only=True)
class SearchStatus(TrialCounts, _Target):
    """The search trials by outcome. target: the trials that the study is to have."""


@dataclass(frozen=True, kw_only=True)
class ReplicateStatus(TrialCounts, _Target):
    """The replicates by outcome. target: seeds for each cell, at most.

    race: whether cells that fall behind the leader get no more seeds. reached: seeds of the last complete look; without
    a race, the seeds that all cells have. finished: nothing is left to run.
    """

    race: bool
    reached: int
    finished: bool


@dataclass(frozen=True, kw_only=True)
class BestTrial:
    """The best completed trial of the search. value: its objective. params: the searched hyperparameters."""

    number: int
    value: float
    params: Mapping[str, Primitive]


@dataclass(frozen=True, kw_only=True)
class CellStatus(Cell):
    """A cell, and the values of the replicates of its best trials that learnt, in the order of their seeds."""

    replicates: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class FailedCell:
    """A cell of which every finished trial failed. trial: the first of them; reason: why, in one line."""

    scientific: Mapping[str, Primitive]
    trials: int
    trial: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Status:
    """Trials and replicates by outcome, the best so far, the cells (best first), and the test set.

    enqueued: trials, counted as running, that wait in Optuna's queue. replicates: None for a study without. foreign:
    numbers of trials in its Optuna study that another program made, and that are ignored. test_result (``test`` in
    JSON): None before the test. test_ledger: None before the claim.
    """

    study: str
    question: str
    trials: SearchStatus
    best: BestTrial | None
    cells: tuple[CellStatus, ...]
    failed_cells: tuple[FailedCell, ...]
    enqueued: int
    replicates: ReplicateStatus | None
    test_result: TestResult | None = field(metadata={"json": "test"})
    test_ledger: Ledger | None
    foreign: tuple[int, ...]

    @property
    def complete(self) -> bool:
        """Whether nothing is left to train: all trials are finished, and the replicates decided or seeds used up."""
        trials, replicates = self.trials, self.replicates
        raced = replicates is None or replicates.finished or self.test_ledger is not None
        return trials.total >= trials.target and not trials.running and raced

    def to_json(self) -> dict[str, Any]:
        """The object that ``status --json`` prints."""
        return dict(plain(self))


def study_status(study: Study, stored: Stored, *, target: int | None = None) -> Status:
    """The status of *study*; all zero and None for a study that has not begun.

    target: the trials that the study is to have, where that isn't what its last search was for.
    """
    best = best_trial(study, stored.trials)
    found = cells(study, stored.trials)
    values = replicate_values(sources(found), stored.replicates)
    race, ledger = stored.race, stored.ledger
    return Status(
        study=study.name,
        question=study.question,
        trials=SearchStatus(
            target=target or stored.target or study.trials,
            **vars(outcome_counts(stored.trials)),
        ),
        best=BestTrial(number=best.number, value=best.values[0], params=best.params) if best and best.values else None,
        cells=tuple(
            CellStatus(**vars(cell), replicates=tuple(learnt(values.get(cell.key, {})).values())) for cell in found
        ),
        failed_cells=tuple(_failed_cells(study, stored.trials)),
        enqueued=sum(trial.state.name == "WAITING" for trial in stored.trials),
        replicates=ReplicateStatus(
            target=study.replicates,
            **vars(outcome_counts(stored.replicates)),
            race=study.replicate_race,
            reached=race.get("reached", 0) if study.replicate_race else _complete(study, found, stored.replicates),
            finished=race_is_over(study, race, found),
        )
        if study.replicates
        else None,
        test_result=ledger.result if ledger else None,
        test_ledger=ledger,
        foreign=tuple(stored.foreign),
    )


def _failed_cells(study: Study, trials: Sequence[FrozenTrial]) -> Iterator[FailedCell]:
    for key, members in trials_by_cell(study, trials).items():
        if all(outcome(trial) == "failed" for trial in members):
            reason = next(filter(None, (trial.user_attrs.get("error") for trial in members)), "")
            yield FailedCell(scientific=dict(key), trials=len(members), trial=members[0].number, reason=reason)


def _complete(study: Study, found: Sequence[Cell], replicates: Sequence[FrozenTrial]) -> int:
    """The seeds of the present target that all cells to be replicated have behind them."""
    ran = {(t.user_attrs.get("source"), t.params["replicate"]) for t in replicates if t.state.is_finished()}
    wanted = [cell.picks for cell in raced_cells(study, found)]
    return sum(
        all(((source := picks[(seed - 1) % study.searches]), seed) in ran or source is None for picks in wanted)
        for seed in range(1, study.replicates + 1)
        if wanted
    )
