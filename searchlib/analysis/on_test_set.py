"""The cells on the test set: the mean of each over its replicates, and whether their order holds there.

The test set has chosen nothing here, and is to choose nothing: the winner is that of the validation data.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from searchlib.analysis.comparison import Values, learnt, paired_tests, unit_means
from searchlib.analysis.standing import CellKey, Stored, cells, outcome, plan, replicate_values, sources
from searchlib.analysis.statistics import mean_interval, within_limits
from searchlib.study import Primitive, Study

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


@dataclass(frozen=True, kw_only=True)
class CellOnTest:
    """One cell on the test set, over the *n* replicates that were evaluated there.

    mean: of their test accuracies or, of a regression, test losses, with the 95 % t interval low to high (of accuracies
    within 0 to 1). Of several searches it is the mean over these, each the mean over its replicates, and so is the
    interval. validation_mean: of the same replicates, on validation data. rank, validation_rank: among the cells by
    these means, from 1. pairs: replicates that both this cell and the winner have; difference: the mean improvement by
    the winner over these, positive where that is better, with a paired 95 % t interval, over seeds or searches and with
    moderated variances (``moderation``); validation_difference: the same on validation data. They are None for the
    winner itself, and where there are too few pairs. All but counts and ranks is in the unit of the study's metric.
    """

    label: str
    scientific: Mapping[str, Primitive]
    n: int
    mean: float
    low: float | None
    high: float | None
    validation_mean: float
    rank: int
    validation_rank: int
    pairs: int
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    validation_difference: float | None


@dataclass(frozen=True, kw_only=True)
class TestByCell:
    """The replicates on the test set by cell.

    examples: of the test set. cells: those with replicates that were evaluated, in the order of the findings, so the
    winner's first. order_holds: whether no two cells are the other way round than on validation data, by their means;
    None with fewer than two cells.
    rank_correlation: Kendall's tau-b of the two orders, from -1 to 1; None likewise, and where all means are equal.
    ties: how many of the cells are the winner or not significantly different from it on validation data;
    ties_correlation: Kendall's tau-b among these alone.
    without_result: replicates that count, but have no test result; left_out: how many of these were known before the
    claim to have none, by the reason.
    """

    __test__ = False  # not a test case

    examples: int
    cells: tuple[CellOnTest, ...]
    order_holds: bool | None
    rank_correlation: float | None
    ties: int
    ties_correlation: float | None
    without_result: int
    left_out: Mapping[str, int]


def replicates_to_test(study: Study, stored: Stored) -> list[FrozenTrial]:
    """The completed replicates that count: of the cells' present best configurations, up to the last complete look.

    A diverged one has no network to evaluate.
    """
    repeated = sources(cells(study, stored.trials))
    reached = int(stored.race.get("reached", 0))
    return [
        trial
        for trial in stored.replicates
        if trial.user_attrs.get("source") in repeated
        and trial.params["replicate"] <= reached
        and outcome(trial) == "completed"
        and trial.values
    ]


def tested_cells(
    study: Study,
    stored: Stored,
    repeated: Mapping[int, CellKey],
    reached: int,
    labels: Mapping[CellKey, str],
    tied: Collection[CellKey],
) -> TestByCell | None:
    """The stored results of the replicates on the test set, by cell; None where there are none.

    repeated: the search trials that were repeated, each with its cell. reached: the last replicate that counts. labels:
    of the cells, the winner's first. tied: the winner, and the cells that it isn't significantly better than.
    """
    ledger = stored.ledger
    if ledger is None or ledger.result is None or not ledger.replicates:
        return None
    results = {
        one.trial: one.loss if one.correct is None else one.correct / ledger.result.n for one in ledger.replicates
    }
    tested = [trial for trial in stored.replicates if results.get(trial.number) is not None]
    on_validation = replicate_values(repeated, tested, reached)
    on_test = replicate_values(repeated, [_with_value(trial, results[trial.number]) for trial in tested], reached)
    on_test = {key: on_test[key] for key in labels if learnt(on_test.get(key, {}))}
    if not on_test:
        return None
    rows = _rows(study, on_test, on_validation, labels)
    ties = [row for row in rows if tuple(row.scientific.items()) in tied]
    known = sum(len(learnt(values)) for values in on_test.values())
    counting = replicate_values(repeated, stored.replicates, reached)
    return TestByCell(
        examples=ledger.result.n,
        cells=rows,
        order_holds=_order_holds(rows),
        rank_correlation=_rank_correlation(rows),
        ties=len(ties),
        ties_correlation=_rank_correlation(ties),
        without_result=sum(len(learnt(values)) for values in counting.values()) - known,
        left_out=dict(ledger.left_out or {}),
    )


def counted_reasons(left_out: Mapping[str, int]) -> str:
    """Why replicates have no result: ``3 replicates: weights not kept; 1 replicate: checkpoint altered``."""
    return "; ".join(
        f"{number} replicate{'' if number == 1 else 's'}: {reason}" for reason, number in sorted(left_out.items())
    )


def _with_value(trial: FrozenTrial, value: float | None) -> FrozenTrial:
    """The trial as if it had ended with its result on the test set."""
    found = copy.copy(trial)
    found.values = [value]
    return found


def _rows(
    study: Study,
    on_test: Values[CellKey],
    on_validation: Values[CellKey],
    labels: Mapping[CellKey, str],
) -> tuple[CellOnTest, ...]:
    winner, compared_by = next(iter(labels)), plan(study)
    on_validation = {key: on_validation[key] for key in on_test}
    tests = paired_tests(on_test, winner, compared_by) if winner in on_test else {}
    tests_before = paired_tests(on_validation, winner, compared_by) if winner in on_test else {}
    units = {key: list(unit_means(values, compared_by).values()) for key, values in on_test.items()}
    means = {key: mean_interval(values, overlap=compared_by.overlap) for key, values in units.items()}
    units_before = {key: list(unit_means(values, compared_by).values()) for key, values in on_validation.items()}
    before = {key: mean_interval(values)[0] for key, values in units_before.items()}
    ranks = _ranks(study, {key: found[0] for key, found in means.items()})
    ranks_before = _ranks(study, before)
    rows = []
    for key, values in on_test.items():
        mean, _, low, high = means[key]
        low, high = within_limits(study.metric, low, high)
        test = tests.get(key)
        rows.append(
            CellOnTest(
                label=labels[key],
                scientific=dict(key),
                n=len(learnt(values)),
                mean=mean,
                low=low,
                high=high,
                validation_mean=before[key],
                rank=ranks[key],
                validation_rank=ranks_before[key],
                pairs=test.n if test else len(learnt(values)) if key == winner else 0,
                difference=test.difference if test else None,
                difference_low=test.low if test else None,
                difference_high=test.high if test else None,
                validation_difference=tests_before[key].difference if test else None,
            )
        )
    return tuple(rows)


def _ranks(study: Study, means: Mapping[CellKey, float]) -> dict[CellKey, int]:
    """1 for the best; equal ones share the best of their ranks."""
    return {key: 1 + sum(study.better(other, mean) for other in means.values()) for key, mean in means.items()}


def _order_holds(rows: Sequence[CellOnTest]) -> bool | None:
    pairs = list(itertools.combinations(rows, 2))
    moves = [(one.rank - other.rank) * (one.validation_rank - other.validation_rank) for one, other in pairs]
    return all(move >= 0 for move in moves) if moves else None


def _rank_correlation(rows: Sequence[CellOnTest]) -> float | None:
    from scipy.stats import kendalltau

    if len(rows) < 2:
        return None
    tau = float(kendalltau([row.rank for row in rows], [row.validation_rank for row in rows]).statistic)
    return tau if math.isfinite(tau) else None
