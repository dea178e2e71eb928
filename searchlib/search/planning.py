"""What a study will cost and can show, before it runs."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import optuna

from searchlib.analysis import LEAST_SEEDS, error_factor, plan
from searchlib.search.design import round_length
from searchlib.search.pruning import halving_rungs
from searchlib.search.samplers import ask_round
from searchlib.search.trainer import task_of
from searchlib.stores import Stores
from searchlib.study import Study, get_pruner
from searchlib.training import Deadline, Engine, resolve_device

STACKS = 4  # that are timed
POWER = 0.8


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """The cost of a study, in whole trainings, and the difference that it can detect.

    cells: that are compared. search: trainings of the search, fewer than its trials where successive halving stops
    some. replicates_least, replicates_most: trainings of the replicates, if all cells but one leave the race at its
    first look, and if none does. seconds: of ``search + replicates_most`` trainings at the speed of one epoch of a few
    stacks, measured now. units: pieces of independent evidence for each cell, searches or, of one search, seeds.
    detectable: the smallest difference of two cells that is told apart with a chance of 0.8 if there are only two;
    detectable_among_all: the same corrected for all pairs of cells; in deviations of the difference from unit to unit.
    None without units to compare.
    """

    cells: int
    search: float
    replicates_least: int
    replicates_most: int
    seconds: float
    units: int
    detectable: float | None
    detectable_among_all: float | None


def plan_study(study: Study, stores: Stores, *, device: str = "auto") -> StudyPlan:
    """Plan *study*: trains one epoch of a few stacks, and stores nothing. DataError, DeviceError as in a search."""
    cells = max(len(study.cells), 1)
    raced = min(cells, study.replicate_cells or cells)
    looks, overlap = plan(study).looks, plan(study).overlap
    least = study.replicates
    if raced > 1 and looks:
        least = raced * looks[0] + next((look for look in looks if look >= LEAST_SEEDS), looks[-1]) - looks[0]
    units = study.searches if study.searches > 1 else study.replicates
    search = _epochs_searched(study)
    most = raced * study.replicates
    return StudyPlan(
        cells=cells,
        search=search,
        replicates_least=least,
        replicates_most=most,
        seconds=(search + most) * _seconds_a_training(study, stores, resolve_device(device)),
        units=units,
        detectable=_detectable(units, 1, overlap) if raced > 1 else None,
        detectable_among_all=_detectable(units, raced * (raced - 1) // 2, overlap) if raced > 1 else None,
    )


def _epochs_searched(study: Study) -> float:
    """What a search trains, in whole trainings: less than its trials with successive halving."""
    if not get_pruner(study.pruner).bracket:
        return study.trials
    epochs = max(study.possible("epochs"))
    groups = max(len(study.cells), 1) * study.searches  # whose points are halved among themselves
    trained, left, most = 0, study.trials // groups, round_length(study) // groups
    while left > 0:
        alive, before = min(left, most), 0
        left -= alive
        for rung in (*halving_rungs(study, epochs), epochs):
            trained += alive * (rung - before)
            alive, before = -(-alive // 2), rung
    share: float = trained / epochs
    return groups * share


def _seconds_a_training(study: Study, stores: Stores, device: str) -> float:
    """Wall-clock seconds of one training among others, from one epoch of the first round's stacks."""
    engine = Engine(study, stores.examples(study), device)
    made = optuna.create_study(direction=study.direction)
    trials = ask_round(study, made, range(min(round_length(study), study.trials)))
    groups = list(engine.group([task_of(study, trial) for trial in trials]))
    spread = groups[:: max(len(groups) // STACKS, 1)][:STACKS]
    stacks = [engine.start(group, keeps=lambda run, value: False) for group in spread]
    with engine.workers() as workers:
        began = time.perf_counter()
        for _ in workers.advance(stacks, deadline=Deadline(None), until=1):
            pass
        spent = time.perf_counter() - began
    for stack in stacks:
        stack.close()
    epochs: int = max(study.possible("epochs"))
    return spent / sum(map(len, spread)) * epochs


def _detectable(units: int, comparisons: int, overlap: float) -> float | None:
    """The difference, in deviations, that a paired t test of *units* pairs finds with a chance of POWER.

    At 0.05 over the number of *comparisons* (Bonferroni). From statsmodels. overlap: of the units' splits.
    """
    from statsmodels.stats.power import TTestPower

    if units < 2:
        return None
    found = TTestPower().solve_power(nobs=units, alpha=0.05 / comparisons, power=POWER)
    return float(found) * math.sqrt(units) * error_factor(units, overlap)
