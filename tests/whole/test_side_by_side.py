"""One coordinator a study, and many studies beside each other in the same stores."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import pytest
from support import prepare
from support.killing import STORAGES, VARIANTS, Folder, finish, first_step, live, start

from benchmarks.comparing import DELETED, differences

SIDE_BY_SIDE = 8
SOON = 1.0  # seconds in which a refusal comes


def test_a_second_search_is_refused_and_takes_over_when_the_first_is_dead(tmp_path: Path) -> None:
    endless = {"trials": 4, "fixed": {"momentum": 0.9, "epochs": 100_000}}
    prepare(folder=tmp_path)
    first = start(first_step, tmp_path, endless, "data", "first.json")
    wait_for(tmp_path / "first.json")

    second = start(first_step, tmp_path, endless, "no data there", "second.json")
    assert finish(second, tmp_path)
    seconds, refusal = json.loads((tmp_path / "second.json").read_text())
    assert seconds < SOON
    assert f"process {first.pid} on {socket.gethostname()} (optimize) since 20" in refusal

    first.kill()
    first.join()
    third = start(first_step, tmp_path, endless, "data", "third.json")
    wait_for(tmp_path / "third.json")
    third.kill()
    third.join()
    seconds, refusal = json.loads((tmp_path / "third.json").read_text())
    assert not refusal
    assert seconds < 10, "its first epoch comes without a wait for the dead one"


def wait_for(path: Path) -> None:
    patience = time.monotonic() + 60
    while not path.exists() or not path.read_text():
        assert time.monotonic() < patience, f"{path.name} didn't come"
        time.sleep(0.02)


@pytest.mark.parametrize("storage", STORAGES)
def test_studies_side_by_side_in_the_same_new_stores(storage: str, tmp_path: Path) -> None:
    """Eight processes that start at the same time, where neither store is there yet; each ends as one alone does."""
    alone = Folder(tmp_path / "alone", "balanced", storage)
    assert alone.live()
    together = tmp_path / "together"
    prepare(folder=together)
    if storage != "sqlite":  # then MLflow's tables are made in the middle of it
        (together / "mlflow.db").unlink()
    names = [f"small{number}" for number in range(SIDE_BY_SIDE)]
    processes = [
        start(live, together, {**VARIANTS["balanced"], "name": name}, STORAGES[storage], False, None, False)
        for name in names
    ]
    for process in processes:
        assert finish(process, together)
    for name in names:
        text = (together / f"{name}.json").read_text()
        found = json.loads(text.replace(name, "small"))
        assert differences(alone.record, found) == []
        assert found[DELETED] == 0
