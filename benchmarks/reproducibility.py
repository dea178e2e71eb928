"""Do the claims come out again? The same question asked with many study seeds, on real trainings.

    python -m benchmarks.reproducibility [--studies R] [--plan NAME ...] [--row NAME ...] [--jobs J] [--json FILE]

Each study is searched, raced and analyzed by searchlib's own functions, with stores in memory and no MLflow. Its data
are a fixed part of FashionMNIST's training images, its network a small MLP. Studies of one row differ in their seed
alone: in the points of the search, the weights and the order of examples.

The truth is what the procedure gives on average: the mean over all R studies of a cell's mean, with its Monte-Carlo
standard error. Figures of a row:

- coverage: of the 95 % interval of a cell's mean, over cells and studies; of differences: of the winner's difference
  from each other cell, which is too large on average where cells are equal, as the winner was chosen by it;
- false: the share of studies that tell two cells apart (adjusted p <= 0.05) of which the winner isn't better in truth,
  by more than two standard errors of the truth;
- both ways: of pairs of studies, the share in which one claims A better than B and the other B better than A;
- told: the share of studies that tell the winner from the cell that is worst in truth; resolved: from all others;
- epochs: trained by a study, in units of a whole training; seconds: of a study.

Rows: ``same``: cells that are the same under several names; ``rates``: plain SGD and momentum 0.9, whose best learning
rates differ tenfold; ``known``: two initializers; ``three``: three activations.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import json
import math
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import optuna
import torch

from searchlib import MLP, Choice, Examples, LogUniform, Study
from searchlib.analysis import Findings, analyze
from searchlib.data import Split
from searchlib.data.datasets import load_train
from searchlib.search import race
from searchlib.search.race import Race
from searchlib.search.recorder import Recorder
from searchlib.search.rounds import Rounds
from searchlib.search.trainer import Trainer
from searchlib.stores import StoredStudy, Stores, Tracker, own_replicates, own_trials
from searchlib.training import Deadline, Engine, Snapshots, Workers

TRAIN, VALIDATION = 2_000, 2_000  # images
RATES = {"learning_rate": LogUniform(0.003, 1.0), "batch_size": Choice(32, 128)}
FIXED = {"optimizer": "sgd", "momentum": 0.9, "lr_schedule": "cosine", "input_scaling": "standard"}
ROWS: dict[str, dict[str, Any]] = {
    "same": {"scientific": {"weight_decay": Choice(0.0, 1e-12, 2e-12)}},
    "rates": {"scientific": {"momentum": Choice(0.0, 0.9)}},
    "known": {"scientific": {"initializer": Choice("xavier_normal", "normal")}},
    "three": {"scientific": {"activation": Choice("sigmoid", "gelu", "tanh")}},
}
HALVED = {"searches": 4, "replicates": 8, "pruner": "within_cell"}
PLANS: dict[str, dict[str, Any]] = {  # trials: a cell
    "1 search, 8 points, 10 seeds": {"trials": 8, "replicates": 10},
    "4 searches, 8 points halved, 8 seeds": {**HALVED, "trials": 32},
    "4 searches, 12 points refined, 8 seeds": {**HALVED, "trials": 48, "sampler": "refined"},
}


def make_study(row: str, plan: str, seed: int, epochs: int) -> Study:
    """The study of one row and plan."""
    chosen = ROWS[row]
    cells = math.prod(len(dimension.values()) for dimension in chosen["scientific"].values())
    settings = {**PLANS[plan], "trials": PLANS[plan]["trials"] * cells}
    return Study(
        question="Does it come out again?",
        dataset="fashion_mnist",
        model=MLP(hidden=(16,)),
        scientific=chosen["scientific"],
        nuisance=RATES,
        fixed={**{name: value for name, value in FIXED.items() if name not in chosen["scientific"]}, "epochs": epochs},
        seed=seed,
        **settings,
    )


@functools.cache
def examples(root: Path) -> Split:
    """A fixed part of FashionMNIST's training images."""
    whole = load_train("fashion_mnist", root)
    chosen = torch.randperm(len(whole), generator=torch.Generator().manual_seed(7))[: TRAIN + VALIDATION]
    train, held = chosen[:TRAIN], chosen[TRAIN:]
    return Split(
        train=Examples(inputs=whole.inputs[train], targets=whole.targets[train]),
        validation=Examples(inputs=whole.inputs[held], targets=whole.targets[held]),
        seed=0,
        fraction=VALIDATION / (TRAIN + VALIDATION),
    )


class InMemory(Recorder):
    """Records in Optuna's storage alone."""

    def _write(self, records: Any) -> None:
        for record in records:
            self._describe(record, "", None)
            self._tell(record)


def run_study(study: Study, split: Split) -> StoredStudy:
    """Search and race a study in memory: what its stores would hold."""
    search = optuna.create_study(study_name=study.name, direction=study.direction)
    search.set_user_attr("uid", "0")
    engine, tracker = Engine(study, split, "cpu"), Tracker(study, Stores())  # the tracker is never opened
    with tempfile.TemporaryDirectory() as folder, _without_mlflow(), Workers(1, threads=1) as workers:
        trainer = Trainer(engine, workers, Snapshots(Path(folder)), Deadline(None))
        with InMemory(search, tracker) as recorder:
            for _ in Rounds(study, search, study.trials, trainer, recorder).run():
                pass
        for _ in Race(study, search).run(trainer, tracker, lambda: None):
            pass
    replicated = optuna.load_study(study_name=f"{study.name}.replicates", storage=search._storage)
    return StoredStudy(
        search=search,
        trials=own_trials(search),
        replicates=own_replicates(replicated),
        race=replicated.user_attrs["race"],
        attributes=search.user_attrs,
    )


@contextlib.contextmanager
def _without_mlflow() -> Iterator[None]:
    with (
        mock.patch.object(race, "Recorder", InMemory),
        mock.patch.object(race, "discard_runs"),
    ):
        yield


def measure(job: tuple[str, str, int], root: Path, epochs: int) -> dict[str, Any]:
    """One study: its cells' means and intervals, its comparisons, what it cost."""
    row, plan, seed = job
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    began = time.perf_counter()
    study = make_study(row, plan, seed, epochs)
    stored = run_study(study, examples(root))
    trained = sum(trial.user_attrs.get("epochs_run", 0) for trial in (*stored.trials, *stored.replicates))
    return {
        **outcome_of(analyze(study, stored)),
        "trainings": trained / epochs,
        "seconds": time.perf_counter() - began,
    }


def outcome_of(findings: Findings) -> dict[str, Any]:
    """What a study says of its cells and their differences."""
    return {
        "cells": {cell.label: [cell.mean, cell.low, cell.high] for cell in findings.cells},
        "winner": findings.cells[0].label,
        "resolved": bool(findings.resolved),
        "compared": {
            one.against_label: [one.difference, one.low, one.high, one.p, one.adjusted_p, one.told_apart]
            for one in findings.comparisons
        },
    }


def summarize(studies: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of a row, as the head of this file defines them."""
    labels = sorted(studies[0]["cells"])
    means = np.array([[study["cells"][label][0] for label in labels] for study in studies], dtype=float)
    truth = dict(zip(labels, np.nanmean(means, axis=0).tolist(), strict=True))
    inside = [
        low <= truth[label] <= high
        for study in studies
        for label, (_, low, high) in study["cells"].items()
        if low is not None
    ]
    across = [
        low <= truth[study["winner"]] - truth[other] <= high
        for study in studies
        for other, (_, low, high, *_) in study["compared"].items()
        if low is not None
    ]

    def better(one: str, other: str) -> bool:
        gap = means[:, labels.index(one)] - means[:, labels.index(other)]
        return float(np.nanmean(gap)) > 2.0 * float(np.nanstd(gap, ddof=1)) / math.sqrt(len(gap))

    claims = [
        {(study["winner"], other) for other, one in study["compared"].items() if one[4] is not None and one[4] <= 0.05}
        for study in studies
    ]
    pairs = list(itertools.combinations(claims, 2))
    contrary = sum(any((b, a) in two for a, b in one) for one, two in pairs)
    worst = min(truth, key=lambda label: truth[label])
    return {
        "truth": truth,
        "spread": dict(zip(labels, np.nanstd(means, axis=0, ddof=1).tolist(), strict=True)),
        "coverage": float(np.mean(inside)),
        "difference coverage": float(np.mean(across)),
        "false": float(np.mean([any(not better(a, b) for a, b in one) for one in claims])),
        "both ways": contrary / max(len(pairs), 1),
        "told": float(np.mean([any(b == worst for _, b in one) for one in claims])),
        "resolved": float(np.mean([study["resolved"] for study in studies])),
        "trainings": float(np.mean([study.get("trainings", 0.0) for study in studies])),
        "seconds": float(np.mean([study.get("seconds", 0.0) for study in studies])),
        "studies": len(studies),
    }


def show(row: str, plan: str, line: Mapping[str, Any]) -> str:
    error = math.sqrt(0.05 * 0.95 / line["studies"])
    truth = ", ".join(
        f"{name} {100 * value:.2f} (sd {100 * line['spread'][name]:.2f})" for name, value in line["truth"].items()
    )
    return (
        f"{row:6} {plan:38} coverage {line['coverage']:.3f}, of differences {line['difference coverage']:.3f}; "
        f"false {line['false']:.3f} (± {error:.3f} at .05); both ways {line['both ways']:.4f}; "
        f"told {line['told']:.2f}; resolved {line['resolved']:.2f}; {line['trainings']:.0f} trainings, "
        f"{line['seconds']:.1f} s; {truth}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=100, help="a row")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--plan", action="append", choices=list(PLANS))
    parser.add_argument("--row", action="append", choices=list(ROWS))
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table there as well")
    options = parser.parse_args()
    lines = {}
    with ProcessPoolExecutor(options.jobs) as pool:
        for row, plan in itertools.product(options.row or ROWS, options.plan or PLANS):
            jobs = [(row, plan, seed) for seed in range(options.studies)]
            work = functools.partial(measure, root=options.data_root.resolve(), epochs=options.epochs)
            line = summarize(list(pool.map(work, jobs)))
            lines[f"{row}: {plan}"] = line
            print(show(row, plan, line), flush=True)
    if options.json:
        options.json.write_text(json.dumps(lines, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
