"""Disks, clocks and data that fail in the middle of the work: one line, nothing lost, and the same call goes on.

A journal with a torn last line is in test_storage, a killed search in test_kill, a diverging neighbour in test_stack.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import itertools
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import blobs, mlflow_runs, prepare, search, search_all, stored, table, write_idx
from support.faults import STUDY, assert_nothing_lost, assert_one_line, before_batch, uninterrupted

from searchlib.analysis import study_status
from searchlib.data.datasets import fetch
from searchlib.data.idx_files import IdxFile
from searchlib.data.sources import Folder
from searchlib.errors import BusyError, DataError, IntegrityError, SearchlibError, StorageError
from searchlib.search import rounds
from searchlib.search.recorder import Recorder
from searchlib.stores.mlflow_store import connect
from searchlib.stores.parent_run import log_summary, open_parent
from searchlib.stores.stores import StoredStudy, Stores
from searchlib.stores.tracking import Tracker

# ------------------------------------------------------------------------------------------------------------- disks


def mount(*arguments: str | Path) -> bool:
    return (
        shutil.which("mount") is not None and not subprocess.run(["mount", *arguments], capture_output=True).returncode
    )


@pytest.fixture
def disk() -> Iterator[Path]:
    """A folder that is a file system of a few megabytes, where this user can mount one."""
    folder = Path("small").absolute()
    folder.mkdir()
    mounted = mount("-t", "tmpfs", "-o", "size=8m", "none", folder)
    yield folder
    if mounted:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def small_disk(disk: Path) -> Path:
    if not disk.is_mount():
        pytest.skip("this user can't mount anything")
    return disk


@contextlib.contextmanager
def full(folder: Path) -> Iterator[None]:
    """No space left in *folder*; where it is no file system of its own, no file anywhere grows beyond its largest."""
    if folder.is_mount():
        filler = folder / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(65536))
        assert not shutil.disk_usage(folder).free
        yield
        filler.unlink()
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    largest = max((path.stat().st_size for path in folder.iterdir()), default=0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest + 1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """No more writing into *folder*, for root neither."""
    if mount("--bind", folder, folder):
        try:
            assert mount("-o", "remount,ro,bind", folder)
            yield
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)
        return
    modes = {path: path.stat().st_mode for path in (folder, *folder.rglob("*"))}
    try:
        for path, mode in modes.items():
            path.chmod(mode & ~0o222)
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


STORES = ("journal", "sqlite", "mlflow.db", "artifacts")


def place(store: str, folder: Path) -> Stores:
    """Where the search keeps its records, with *store* in *folder*."""
    prepare()
    if store == "journal":
        return Stores(str(folder / "optuna.journal"))
    if store == "sqlite":
        return Stores(f"sqlite:///{folder}/optuna.db")
    if store == "mlflow.db":
        shutil.copy("mlflow.db", folder)
        return Stores(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    Path("mlruns").symlink_to(folder)
    return Stores()


def finish(stores: Stores) -> None:
    """Search to the end, as a process of its own would: with nothing opened yet."""
    search_all(STUDY, dataclasses.replace(stores))


def completed(stores: Stores) -> int:
    return [row[1] for row in table(STUDY, stores)].count("COMPLETE")


NO_SPACE = "No space left", "disk is full", "disk I/O error", "File too large"
NO_WRITING = "Read-only file system", "Permission denied", "readonly", "unable to open database"


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize(("fault", "expected"), [(full, NO_SPACE), (read_only, NO_WRITING)])
def test_a_disk_that_takes_no_more(
    fault: Callable[..., Any], expected: tuple[str, ...], store: str, disk: Path
) -> None:
    if fault is read_only and os.geteuid() == 0 and not disk.is_mount():
        pytest.skip("root writes anywhere, and can't mount anything here")
    stores = place(store, disk)
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as faults:
        # only trials that lead have artifacts, and the first batch has one that does
        before_batch(patch, 1 if store == "artifacts" else 2, lambda: faults.enter_context(fault(disk)))
        with pytest.raises(SearchlibError) as caught:
            finish(stores)
    assert_one_line(caught.value, *expected)
    assert (store != "artifacts") <= completed(stores) < 12
    finish(stores)
    assert_nothing_lost(stores)


@pytest.mark.parametrize("store", ["journal", "sqlite"])
def test_a_disk_that_is_full_when_trials_are_asked(store: str, small_disk: Path) -> None:
    """They are created on another thread than they are recorded on."""
    stores = place(store, small_disk)
    ask_round, asked = rounds.ask_round, itertools.count(1)
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as faults:

        def ask(*arguments):
            if next(asked) == 2:
                faults.enter_context(full(small_disk))
            return ask_round(*arguments)

        patch.setattr(rounds, "ask_round", ask)
        patch.setattr(Recorder, "put", lambda recorder, record: recorder.check())  # it would be the first to fail
        with pytest.raises(StorageError) as caught:
            finish(stores)
    assert_one_line(caught.value, "fails (No space left", "fails (database or disk is full", "fails (disk I/O error")
    finish(stores)
    assert_nothing_lost(stores)


def test_a_study_is_locked_on_a_full_disk_too(small_disk: Path) -> None:
    """Who holds it can't be noted; that costs the holder nothing, and the next one either."""
    journal = str(small_disk / "optuna.journal")
    with Stores(journal).lock("s", "optimize"):
        pass
    with full(small_disk), Stores(journal).lock("s", "optimize") as lock:
        assert lock.path.read_text() == ""
        with pytest.raises(BusyError), Stores(journal).lock("s", "optimize"):
            pass
    with Stores(journal).lock("s", "optimize") as lock:
        assert str(os.getpid()) in lock.path.read_text()


# -------------------------------------------------------------------------------------------------------------- data


def test_a_disk_that_is_full_when_data_are_fetched(small_disk: Path) -> None:
    write_idx(Path("elsewhere"))
    dataset = blobs(sources=[Folder(Path("elsewhere/Blobs/raw").absolute())])
    expected = r"^[^\n]*can't be written \(No space left on device\)[^\n]*free space[^\n]*$"
    with full(small_disk), pytest.raises(DataError, match=expected):
        fetch(dataset, small_disk)
    assert {path.name for path in (small_disk / "Blobs/raw").iterdir()} <= {".lock"}, "nothing half-written"
    assert len(fetch(dataset, small_disk)) == 4


MEDDLE = """
import os, sys, time
path = sys.argv[1]
whole = open(path, "rb").read()
part = len(whole) // 3
with open(path, "r+b", buffering=0) as file:
    print("ready", flush=True)
    while True:
        time.sleep(0.003)
        file.truncate(part)
        time.sleep(0.001)
        file.seek(part)
        for start in range(part, len(whole), 65536):
            file.write(whole[start : start + 65536])
"""


def test_a_file_that_is_truncated_while_it_is_read() -> None:
    """Right data or an IntegrityError; never other data, and no SIGBUS, as from a mapped file."""
    content = np.random.default_rng(0).integers(0, 256, (4000, 28, 28), dtype=np.uint8)
    file = IdxFile(name="images", shape=content.shape, md5=None)
    path = Path("images")
    path.write_bytes(file.header + content.tobytes())
    meddler = subprocess.Popen([sys.executable, "-c", MEDDLE, str(path)], stdout=subprocess.PIPE)
    whole = damaged = 0
    try:
        assert meddler.stdout is not None
        meddler.stdout.readline()
        until = time.monotonic() + 20
        while min(whole, damaged) < 5 and time.monotonic() < until:
            try:
                read = file.array(file.read(path))
            except IntegrityError:
                damaged += 1
            else:
                assert np.array_equal(read, content)
                whole += 1
    finally:
        meddler.kill()
        meddler.communicate()
    assert damaged, "it was never caught at it"


FETCH = """
import sys, time
from pathlib import Path
from searchlib.data import fetch, idx_dataset
from searchlib.data.sources import Folder

class Slow(Folder):
    def deliver(self, files, scratch):
        (scratch / files[0].name).write_bytes(b"half")
        print("begun", flush=True)
        time.sleep(float(sys.argv[1]))
        return self.path

print("started", flush=True)
source = Slow(Path("elsewhere/Blobs/raw").absolute())
dataset = idx_dataset(name="blobs", title="Blobs", classes="abc", shape=(6, 6), train=240, test=60, sources=[source])
print(len(fetch(dataset, Path("data"))), flush=True)
"""


def test_of_two_that_fetch_the_same_one_is_killed() -> None:
    """Under its own name a file is whole or not there, at any moment; the other one ends well."""
    write_idx(Path("elsewhere"))
    whole = {path.name: hashlib.sha256(path.read_bytes()).digest() for path in Path("elsewhere/Blobs/raw").iterdir()}

    def look() -> int:
        there = list(Path("data/Blobs/raw").glob("*ubyte"))
        assert all(hashlib.sha256(path.read_bytes()).digest() == whole[path.name] for path in there)
        return len(there)

    def start(seconds: str) -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-c", FETCH, seconds], stdout=subprocess.PIPE, text=True)

    first = start("60")
    assert first.stdout is not None
    assert [first.stdout.readline() for _ in range(2)] == ["started\n", "begun\n"]
    second = start("0.1")
    assert second.stdout is not None
    try:
        assert second.stdout.readline() == "started\n"
        time.sleep(0.3)
        assert look() == 0
        assert second.poll() is None, "it waits for the first"
        first.kill()
        while second.poll() is None:
            look()
            time.sleep(0.001)
        assert second.stdout.read().split() == ["begun", "4"]
        assert second.returncode == 0
        assert look() == 4
        assert not list(Path("data/Blobs/raw").glob(".fetch-*")), "what the killed one had begun is gone"
    finally:
        for process in (first, second):
            process.kill()
            process.communicate()


# ------------------------------------------------------------------------------------------------------------ clocks


def test_a_clock_that_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """By an hour, while stacks train: nothing ends before it began, and the latest figure is the last one written."""
    prepare()
    uninterrupted()  # by the true clock
    clock, shift = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: clock() + shift[0])
    began = clock()

    def set_back() -> None:
        shift[0] -= 3600.0

    before_batch(monkeypatch, 2, set_back)  # with MLflow's parent run open
    steps = search(STUDY)
    next(steps)
    set_back()  # with stacks in training
    for _ in steps:
        pass
    assert shift == [-7200.0]
    assert_nothing_lost()
    for found in mlflow_runs(STUDY):
        assert found.info.end_time >= found.info.start_time
    for found in mlflow_runs(STUDY, "trial"):
        points = connect(None).get_metric_history(found.info.run_id, "train_loss")
        assert all(found.info.start_time <= point.timestamp <= found.info.end_time for point in points)
        assert found.info.end_time - found.info.start_time < 1000 * (clock() - began)
    with Tracker(STUDY, Stores()) as tracker:
        parent = open_parent(tracker, stored(STUDY))
        log_summary(tracker, {"figure": 1.0}, tags={})
        set_back()
        log_summary(tracker, {"figure": 2.0}, tags={})
        assert tracker.client.get_run(parent).data.metrics["figure"] == 2.0


def test_the_errors_of_a_disk_have_numbers_that_the_terminal_does_not_take_for_its_own() -> None:
    """Only a pipe without a reader and a closed terminal count as an interruption."""
    from searchlib.report.progress import show_progress

    status = study_status(STUDY, StoredStudy())

    def steps(number: int):
        raise OSError(number, os.strerror(number))
        yield

    for number, expected in ((errno.ENOSPC, OSError), (errno.EPIPE, KeyboardInterrupt), (errno.EIO, KeyboardInterrupt)):
        with pytest.raises(expected):
            show_progress(STUDY, steps(number), status)
