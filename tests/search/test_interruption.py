"""A search that is interrupted, however often, ends as one that never was, and trains no epoch twice.

Here it is interrupted between two epochs; tests/whole/test_kill.py kills it in the middle of its writes, and
test_sampling.py in the middle of asking for trials, with every sampler.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from support import curve, mlflow_runs, prepare, run, search, small_study, table

from searchlib import Study
from searchlib.stores.stores import Stores
from searchlib.training.stack_run import StackRun

VARIANTS = {
    "balanced, median": {"pruner": "median", "trials": 28},
    "within_cell": {"pruner": "within_cell", "trials": 32},
    "tpe, within_cell": {"sampler": "tpe", "pruner": "within_cell", "trials": 32},
    "tpe, asha": {"sampler": "tpe", "pruner": "asha", "trials": 16},
    "a race of several looks": {"trials": 4, "replicates": 7, "eval_every": 5, "fixed": {"momentum": 0.9, "epochs": 2}},
}


def replicates(study: Study) -> list[tuple]:
    """What must not depend on interruptions: the race; each replicate's number, parameters, value, curve and bits."""
    found = Stores().optuna_study(f"{study.name}.replicates")
    if found is None:
        return []
    return [
        found.user_attrs["race"],
        *((t.number, t.params, t.values, t.intermediate_values, t.system_attrs) for t in found.trials),
    ]


def runs(study: Study) -> dict[str, list[Any]]:
    """Of each of MLflow's runs, by its name: what it measured by step. Two runs of one trial would be two entries."""
    found: dict[str, list[Any]] = {}
    for one in mlflow_runs(study):
        names = [name for name in one.data.metrics if name.startswith("step_")]
        found.setdefault(one.info.run_name, []).append({name: curve(one.info.run_id, name) for name in names})
    return found


def interrupt_after(study: Study, steps: int) -> bool:
    """Search, but stop after so many steps; whether there was anything left to do."""
    running = search(study)
    taken = sum(1 for _ in itertools.islice(running, steps))
    running.close()
    return taken == steps


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_interrupted_search_ends_as_an_uninterrupted_one(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    study = small_study(**{"fixed": {"momentum": 0.9, "epochs": 4}, **VARIANTS[variant]})
    epochs: list[int] = []
    advance = StackRun._advance

    def counted(stack: StackRun):
        went = advance(stack)
        epochs.append(stack.epoch)
        return went

    monkeypatch.setattr(StackRun, "_advance", counted)
    run(study)
    expected, uninterrupted = (table(study), replicates(study), runs(study)), len(epochs)
    assert len(expected[0]) == study.trials
    assert any(row[1] == "PRUNED" for row in expected[0]) == (study.pruner != "none")
    assert all(len(of_one_trial) == 1 for of_one_trial in expected[2].values())
    if study.replicates:
        race = expected[1][0]
        assert (race["looks"], race["reached"]) == ([2, 3, 5, 7], 7), "it has several looks"
    Path("again").mkdir()
    monkeypatch.chdir("again")
    prepare()
    for steps in (1, 2, 3):  # nothing was checkpointed yet: what was in training is trained again
        interrupt_after(study, steps)
    monkeypatch.setattr("searchlib.training.snapshots.SECONDS", -1.0)
    epochs.clear()
    while interrupt_after(study, 8):  # more than the steps between two snapshots of a round with a pruner
        pass
    assert (table(study), replicates(study), runs(study)) == expected
    assert len(epochs) <= 3 * uninterrupted, "an interruption costs the epochs that are in training, no more"
    assert not list(Path(".searchlib").glob("*.stacks"))
