"""A search killed without warning, wherever and however often, ends as one that never was.

Each life is a process that SIGKILL ends at one of its writes: right after it, before it, or in its middle. At the end
everything that Optuna, MLflow and the registry hold is compared with what an undisturbed search left: see
``benchmarks.comparing``. With KILL_EVERYWHERE=1 in the environment many more writes have their turn, each in a search
of its own.
"""

from __future__ import annotations

import functools
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.killing import STORAGES, VARIANTS, Folder, finish, make_store, start

from benchmarks.comparing import DELETED, count_trials, differences
from benchmarks.soak import draw_study
from searchlib.stores.mlflow_store import connect
from searchlib.study.loading import load_study

EVERYWHERE = bool(os.environ.get("KILL_EVERYWHERE"))
AT_ONCE = 2
RANDOM_KILLS = 1  # of a search, and one at its end
STALE_SECONDS = 30.0  # what Optuna's own lock costs when its owner is dead
MOST_OF_A_KIND = 6  # crash points at one line of the code, where every write has its turn


def at_once(work: Callable[..., Any], jobs: Iterable[tuple[Any, ...]]) -> list[Any]:
    """What *work* gives for each job, two of them at a time; each is mostly a wait for a process."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [result.result() for result in [pool.submit(work, *job) for job in jobs]]


@functools.cache
def undisturbed(variant: str, storage: str, evaluated: bool) -> tuple[dict[str, Any], list[str]]:
    """What a search that nobody kills leaves, and the writes that it makes."""
    with tempfile.TemporaryDirectory() as folder:
        searched = Folder(Path(folder) / "undisturbed", variant, storage, evaluated=evaluated)
        assert searched.live()
        return searched.record, searched.events


def assert_as_undisturbed(searched: Folder, variant: str) -> None:
    expected, _ = undisturbed(variant, searched.storage, searched.evaluated)
    found = differences(expected, searched.record)
    assert not found, "\n".join([*found[:20], "after these kills:", *searched.kills])
    assert not list(searched.path.glob(".searchlib/*.stacks")), "half-trained stacks are left"
    unsure = [kill for kill in searched.kills if "holdout._open_test_set" in kill]
    if searched.evaluated:
        assert 1 <= searched.openings <= 1 + len(unsure), "the test set was opened for nothing"


def test_the_undisturbed_search_is_whole() -> None:
    """What the others are compared with: every trial finished, once, with one run and complete curves."""
    for variant, storage, states in (
        ("balanced", "journal", {"COMPLETE"}),
        ("balanced, median", "sqlite", {"COMPLETE", "PRUNED"}),
    ):
        found, _ = undisturbed(variant, storage, variant == "balanced")
        trials = found["optuna"]["small"]["trials"]
        assert sorted(trials, key=int) == [str(number) for number in range(VARIANTS[variant]["trials"])]
        assert {trial["state"] for trial in trials.values()} == states
        for number, trial in trials.items():
            assert trial["run"] == f"trial small {number}"
            (run,) = found["mlflow"][trial["run"]]
            epochs = list(range(1, trial["attributes"]["epochs_run"] + 1))
            assert [step for step, _ in run["metrics"]["val_loss"]] == epochs
            assert [checkpoint["intact"] for checkpoint in run["checkpoint"]] == [True] * trial["checkpoint"]
        assert found["mlflow"]["study small"][0]["status"] == "FINISHED"
        assert found[DELETED] == 0
    found, events = undisturbed("balanced", "journal", True)
    assert len(events) > 30
    assert len(found["optuna"]["small.replicates"]["trials"]) == 8
    assert count_trials(found) == 16
    assert [version["champion"] for version in found["champion"]["versions"]] == [True]
    assert found["champion"]["models"] == ["READY"]
    assert found["optuna"]["small"]["published"]


def test_a_difference_is_seen() -> None:
    expected, _ = undisturbed("balanced", "journal", True)
    run = expected["mlflow"]["trial small 3"]
    loss = {**run[0]["metrics"], "val_loss": run[0]["metrics"]["val_loss"][:1]}
    for key, altered in {
        "trial small 3": [*run, *run],
        "trial small 2": [],
        "study small": [{**expected["mlflow"]["study small"][0], "status": "RUNNING"}],
        "trial small 1": [{**run[0], "metrics": loss}],
    }.items():
        found = differences(expected, {**expected, "mlflow": {**expected["mlflow"], key: altered}})
        assert found
        assert all(line.startswith(f"mlflow/{key}") for line in found)
    assert differences(expected, {**expected, DELETED: 3}) == []


def chain(path: Path, storage: str) -> list[Folder]:
    """A search that dies in each of its writes in turn, always at the next that is new; a second where it gets through.

    Every state between two writes is met: before a write is after the one before it.
    """
    evaluated = EVERYWHERE or storage == "journal"  # the opening of the test set depends little on it, and takes long
    lives = [Folder(path / "0", "balanced", storage, evaluated=evaluated)]
    _, events = undisturbed("balanced", storage, evaluated)
    for event in dict.fromkeys(events):
        for torn in (True, False) if EVERYWHERE else (True,):
            since = time.monotonic()
            if lives[-1].live(event, torn):
                lives.append(Folder(path / str(len(lives)), "balanced", storage, evaluated=evaluated))
            assert time.monotonic() - since < STALE_SECONDS, "a dead process is waited for"
    lives[-1].live()
    return lives


def test_killed_in_every_kind_of_write(tmp_path: Path) -> None:
    """From the first to the publication of the test result, one after the other."""
    jobs = [(tmp_path / storage, storage) for storage in STORAGES]
    for path, _ in jobs:
        path.mkdir()
    for lives in at_once(chain, jobs):
        for searched in lives:
            assert_as_undisturbed(searched, "balanced")
        kinds = set(undisturbed("balanced", lives[0].storage, lives[0].evaluated)[1])
        reached = {kill.split(" ", 1)[1] for searched in lives for kill in searched.kills}
        assert len(kinds - reached) < 0.1 * len(kinds), f"never killed in {sorted(kinds - reached)}"


def at_random(path: Path, variant: str, storage: str) -> Folder:
    """A search that dies at a few of its writes, and last before it can say that it is through."""
    searched = Folder(path, variant, storage)
    _, events = undisturbed(variant, storage, False)
    draw = random.Random(f"{variant} {storage}")
    for _ in range(3 if EVERYWHERE else RANDOM_KILLS):
        if searched.live(draw.randrange(1, len(events) // 2), draw.random() < 0.5):
            return searched
    searched.live(events[-1], torn=True)
    searched.live()
    return searched


def test_killed_at_random(tmp_path: Path) -> None:
    jobs = []
    for number, variant in enumerate(VARIANTS):
        for storage in list(STORAGES) if EVERYWHERE else [list(STORAGES)[number % 2]]:
            jobs.append((tmp_path / f"{number}-{storage}", variant, storage))
    at_once(undisturbed, [(variant, storage, False) for _, variant, storage in jobs])
    for (_, variant, _), searched in zip(jobs, at_once(at_random, jobs), strict=True):
        assert len(searched.kills) >= 2
        assert_as_undisturbed(searched, variant)


def once(path: Path, variant: str, storage: str, at: int, torn: bool) -> Folder:
    searched = Folder(path, variant, storage, evaluated=True)
    if not searched.live(at, torn):
        assert searched.live()
    return searched


@pytest.mark.skipif(not EVERYWHERE, reason="takes minutes a variant: KILL_EVERYWHERE=1 runs it")
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("variant", ["balanced", "tpe, median", "random, within_cell"])
def test_killed_once_at_each_write(variant: str, storage: str, tmp_path: Path) -> None:
    """A search of its own for each, of writes that repeat themselves for a few: killed there, and never again."""
    _, events = undisturbed(variant, storage, True)
    places: dict[str, list[int]] = {}
    for number, event in enumerate(events, 1):
        places.setdefault(event, []).append(number)
    jobs = []
    for event, numbers in places.items():
        for number in numbers[:: -(-len(numbers) // MOST_OF_A_KIND)]:
            for torn in (True, False) if event.startswith(("journal", "file")) else (False,):
                jobs.append((tmp_path / f"{number}-{torn}", variant, storage, number, torn))
    kills = 0
    for first in range(0, len(jobs), 20):
        for searched in at_once(once, jobs[first : first + 20]):
            assert_as_undisturbed(searched, variant)
            kills += len(searched.kills)
            shutil.rmtree(searched.path)
    print(f"{variant}, {storage}: {kills} kills, {len(events)} writes of {len(places)} kinds")
    assert kills > 0.9 * len(jobs)


def test_a_kill_while_mlflow_makes_its_database_costs_nothing(tmp_path: Path) -> None:
    assert not finish(start(make_store, tmp_path, 600), tmp_path)
    assert finish(start(make_store, tmp_path, None), tmp_path)
    client = connect(f"sqlite:///{tmp_path}/mlflow.db")
    assert [experiment.name for experiment in client.search_experiments()] == ["Default"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".searchlib", "mlflow.db", "output.txt"]


def test_the_soak_draws_studies_of_all_kinds(tmp_path: Path) -> None:
    drawn = [draw_study(random.Random(seed)) for seed in range(60)]
    for number, (text, _, _) in enumerate(drawn):
        (tmp_path / f"drawn{number}.py").write_text(text)
    studies = [load_study(str(tmp_path / f"drawn{number}.py")) for number in range(len(drawn))]
    assert {study.sampler for study in studies} == {"balanced", "tpe", "random"}
    assert {study.pruner for study in studies} == {"none", "median", "within_cell", "asha"}
    assert {storage for _, storage, _ in drawn} == set(STORAGES)
    assert {callable(study.model) for study in studies} == {True, False}
    assert draw_study(random.Random(3)) == drawn[3]
