"""The findings of a study: what ``analyze`` makes of the stored trials, as frozen dataclasses.

Values and differences are in the unit of the study's metric: an accuracy from 0 to 1, a loss in its own unit. What
can't be computed is None or empty, and ``Findings.notes`` says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from searchlib.analysis.comparison import Comparison
from searchlib.analysis.edges import Edge
from searchlib.analysis.effects import Effect, SimpleEffect
from searchlib.analysis.on_test_set import TestByCell
from searchlib.analysis.plain import plain
from searchlib.analysis.standing import TrialCounts
from searchlib.analysis.statistics import Direction
from searchlib.study import Ledger, Primitive, TestResult

Curve = tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Expected best result of a cell against its number of nuisance points.

    biased, unbiased: for 1, 2, ... points, with and without replacement; see ``statistics.expected_best``. gain: what
    the second half of the points brought, at least 0. enough: whether that is at most the deviation between seeds.
    median: of the best of 1, 2, ... points, with the simultaneous 95 % confidence band median_low to median_high, None
    where the points give no bound; see ``tuning``. Empty where the points aren't independent draws, as *no_band* says.
    With a pruner all are empty or None.
    """

    biased: tuple[float, ...]
    unbiased: tuple[float, ...]
    gain: float | None
    enough: bool | None
    median: Curve
    median_low: Curve
    median_high: Curve
    no_band: str | None


@dataclass(frozen=True, kw_only=True)
class Pick:
    """The best configuration that one search found for a cell.

    search: from 1. trial: its number, with the searched values *nuisance* and the objective *search_best*. n, mean: of
    its replicates that learnt; None without any.
    """

    search: int
    trial: int
    nuisance: Mapping[str, Primitive]
    search_best: float
    n: int
    mean: float | None


@dataclass(frozen=True, kw_only=True)
class CellFinding:
    """One combination of the scientific values: its best configurations, and the replicates of these.

    trial: the number of the best completed trial of all searches, with the searched values *nuisance* and the objective
    *search_best*; None where no trial completed. points: finished trials; pruned, diverged: how many of them were or
    did; diverged_fraction: diverged / points. picks: the best configuration of each search, in this order; these are
    what the replicates repeat. n: replicates that count and learnt, of all picks, with the standard deviation *sd*
    (ddof 1) of their values by replicate, from 1.
    failed: replicates that count and diverged or learnt nothing; failed_low to failed_high: the 95 % Wilson interval of
    their share, over searches where there are several; None where there is no replicate. mean, low, high: of the
    replicates that learnt, or of the searches
    where there are several (each the mean over its seeds), with its 95 % t interval; an accuracy's stays within 0 and
    1; it is about this validation set, or where splits are drawn about the population. population_low to
    population_high: for new examples of the same kind, too; None where it isn't known which examples the replicates
    classified correctly. edges: of the nuisance ranges. diagnosis: symptoms of the best trial in words. flags: short
    warnings, such as ``edge: learning_rate high``.
    """

    label: str
    scientific: Mapping[str, Primitive]
    nuisance: Mapping[str, Primitive]
    trial: int | None
    search_best: float | None
    points: int
    pruned: int
    diverged: int
    diverged_fraction: float
    picks: tuple[Pick, ...]
    n: int
    mean: float | None
    sd: float | None
    low: float | None
    high: float | None
    population_low: float | None
    population_high: float | None
    values: Mapping[int, float]
    failed: int
    failed_low: float | None
    failed_high: float | None
    edges: tuple[Edge, ...]
    budget: Budget
    diagnosis: tuple[str, ...]
    flags: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Pair:
    cell: Mapping[str, Primitive]
    against: Mapping[str, Primitive]
    cell_label: str
    against_label: str


@dataclass(frozen=True, kw_only=True)
class CellComparison(Comparison, _Pair):
    """The winner, *cell*, compared with another cell, *against*; both by their scientific values.

    low, high and p are about this validation set; population_low, population_high and population_p for new examples of
    the same kind, too, uncorrected for the number of comparisons; None where it isn't known which examples were
    classified correctly.
    """

    population_low: float | None
    population_high: float | None
    population_p: float | None


@dataclass(frozen=True, kw_only=True)
class Winner:
    """The leading cell: of the best mean among those with most replicates.

    Without replicates the cell with the best trial. trial, nuisance: as in its ``CellFinding``. pick: of the
    configurations of several searches the one with the best mean over fresh seeds; None with one search, and without
    replicates. low to high: the 95 % interval of the cell's mean, adjusted for its choice as the best of the *among*
    cells that aren't told apart; None where fewer than two seeds, or searches, learnt.
    """

    label: str
    scientific: Mapping[str, Primitive]
    nuisance: Mapping[str, Primitive]
    trial: int
    pick: Pick | None
    among: int
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Optimism:
    """The winner's configuration measured twice, both on validation data: a test set can be harder than they are.

    search_best: its trial of the search, selected as the best; of several searches the mean over the best trial of
    each. fresh_mean: the mean of its replicates, or of theirs, with the 95 % t interval fresh_low to fresh_high.
    """

    search_best: float | None
    fresh_mean: float | None
    fresh_low: float | None
    fresh_high: float | None


@dataclass(frozen=True, kw_only=True)
class RaceState:
    """The replicates. target: seeds for each cell, at most. race: whether cells that fall behind get no more seeds.

    reached: seeds of the last complete look. looks: the numbers of seeds at which cells are compared. finished: nothing
    is left to run. planned_end: the seeds that the race was planned for; None without looks. If it was extended, the
    looks after it share a small part of alpha (``Plan.share``). undecided: the seeds at which it ended without a single
    leader. runs: finished replicates.
    """

    target: int
    race: bool
    reached: int
    looks: tuple[int, ...]
    finished: bool
    planned_end: int | None
    undecided: tuple[int, ...]
    runs: int


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What the stores say about the question of a study.

    answer: in words. cells: the winner's first, then those with most replicates and the best mean. comparisons: the
    winner with each other replicated cell, the closest first. resolved: whether the winner is significantly better
    than every one of them, at the level *alpha*; None without comparisons. margin: a difference that doesn't matter,
    None where the study says none. effects: of the scientific hyperparameters on the replicates. dominating: levels
    that make up almost all of an effect, by hyperparameter; effects_without: the effects without these.
    simple_effects: of each scientific hyperparameter within each combination of the others. importances: of all
    searched hyperparameters for reaching the best tenth of the *importances_among* trials that were trained to the end
    and learnt, with sum 1. searches: how many
    independent searches found the cells' configurations; with one, the claims are about the best of its points. method:
    how the study was run, in words, and what earlier versions left out of it.
    replicates: None for a study without. test_result (``test`` in JSON): None before the test. test_by_cell: the
    replicates on the test set; None where none was evaluated there. test_ledger: None before the claim. notes: what
    can't be computed, and why.
    """

    study: str
    question: str
    metric: str
    direction: Direction
    dataset: str
    answer: str
    cells: tuple[CellFinding, ...]
    comparisons: tuple[CellComparison, ...]
    winner: Winner | None
    resolved: bool | None
    alpha: float
    margin: float | None
    effects: tuple[Effect, ...]
    dominating: Mapping[str, Primitive]
    effects_without: tuple[Effect, ...]
    simple_effects: tuple[SimpleEffect, ...]
    importances: Mapping[str, float]
    importances_among: int
    searches: int
    method: str
    optimism: Optimism
    replicates: RaceState | None
    test_result: TestResult | None = field(metadata={"json": "test"})
    test_by_cell: TestByCell | None
    test_ledger: Ledger | None
    trials: TrialCounts
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The object that ``report --json`` prints, but for ``published``: plain JSON, without NaN or infinity."""
        return dict(plain(self))
