"""searchlib as a contender: its training alone, and the whole command."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.problem import Data, Outcome, engine, tasks
from searchlib import Study
from searchlib.search.design import round_length
from searchlib.search.optimize import search
from searchlib.stores.stores import Stores
from searchlib.study.record import TrialRecord
from searchlib.training.deadline import Deadline
from searchlib.training.engine import Engine
from searchlib.training.run import Task


def fused(trainer: Engine, rounds: Iterable[Sequence[Task]]) -> dict[int, list[float]]:
    """Train trials as the search does, with nothing recorded: validation accuracy after each epoch, by trial."""
    stacks = (
        trainer.start(group, keeps=lambda run, value: False) for round_ in rounds for group in trainer.group(round_)
    )
    accuracy: dict[int, list[float]] = {}
    with trainer.workers() as workers:
        for _, finished, _ in workers.finish(stacks, deadline=Deadline(None)):
            for stack in finished:
                accuracy |= {
                    number: [point["val_accuracy"] for point in run.curves] for number, run in stack.runs.items()
                }
                stack.close()
    return accuracy


def training_only(study: Study, data: Data) -> Outcome:
    """``fused`` on all trials of *study*, in its rounds; the data is in memory before the clock starts."""
    trainer, asked, length = engine(study, data), tasks(study), round_length(study)
    trainer.data(str(study.fixed["input_scaling"]))
    rounds = [asked[start : start + length] for start in range(0, len(asked), length)]
    started = time.perf_counter()
    accuracy = fused(trainer, rounds)
    return Outcome(seconds=time.perf_counter() - started, accuracy=accuracy)


def whole_command(study: Study, data: Data) -> Outcome:
    """``searchlib optimize`` from its call to its end: data read, MLflow's store made, all recorded."""
    started = time.perf_counter()
    finished = searched(study, data)
    seconds = time.perf_counter() - started
    accuracy = {record.number: [point["val_accuracy"] for point in record.curves] for record in finished}
    return Outcome(seconds=seconds, accuracy=accuracy)


def searched(study: Study, data: Data, folder: Path | None = None) -> list[TrialRecord]:
    """Run the search in *folder*, or in a temporary one: a journal file, MLflow on SQLite. The finished trials."""
    asked = dataclasses.replace(study, dataset=data.dataset)
    with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(folder or temporary):
        store = f"sqlite:///{Path.cwd()}/mlflow.db"  # MLflow keeps one connection a name in a process
        progress = search(asked, Stores(storage="optuna.journal", tracking_uri=store, data_root=data.root))
        return [record for step in progress for record in step.finished]
