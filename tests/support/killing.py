"""Searches that are killed: each a process of its own, which dies at a chosen one of its writes.

A fork server imports this module, and with it all that a search needs, once: a life then starts in a moment.
"""

from __future__ import annotations

import functools
import importlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, NoReturn

import sqlalchemy
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.engine.default import DefaultDialect

from benchmarks.comparing import record
from searchlib import Choice
from searchlib.errors import BusyError
from searchlib.files import UNFINISHED
from searchlib.results import holdout
from searchlib.stores.mlflow_store import connect
from searchlib.stores.sqlite_runs import SqliteRuns
from searchlib.stores.stores import Stores
from searchlib.training import snapshots
from searchlib.training.snapshots import Snapshots
from support import prepare, search, search_all, small_study

for module in (  # what a search imports only where it needs it
    "alembic.command",
    "mlflow.models",
    "mlflow.pyfunc",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.system_metrics.system_metrics_monitor",
    "optuna.storages._rdb.models",
    "safetensors.torch",
    "scipy.stats.qmc",
    "searchlib.training.watch",
    "searchlib.training.loop",
    "searchlib.training.module",
    "torch._dynamo",
    "torch.export._trace",
    "torch.utils._sympy.numbers",
):
    importlib.import_module(module)

LIFE_SECONDS = 100.0  # after which a life hangs
LONG = {"momentum": 0.9, "epochs": 4}
TWO_CELLS = {"activation": Choice("tanh", "relu")}
VARIANTS: dict[str, dict[str, Any]] = {
    "balanced": {"trials": 8, "replicates": 2},
    "balanced, median": {"pruner": "median", "scientific": TWO_CELLS, "fixed": LONG, "trials": 20},
    "balanced, within_cell": {"pruner": "within_cell", "scientific": TWO_CELLS, "fixed": LONG, "trials": 32},
    "tpe": {"sampler": "tpe", "trials": 16, "eval_every": 5},
    "tpe, median": {"sampler": "tpe", "pruner": "median", "scientific": TWO_CELLS, "fixed": LONG, "trials": 24},
    "tpe, within_cell": {
        "sampler": "tpe", "pruner": "within_cell", "scientific": TWO_CELLS, "fixed": LONG, "trials": 32, "replicates": 2
    },
    "random": {"sampler": "random", "trials": 12, "replicates": 2},
    "random, median": {"sampler": "random", "pruner": "median", "scientific": {}, "fixed": LONG, "trials": 16},
    "random, within_cell": {
        "sampler": "random", "pruner": "within_cell", "scientific": TWO_CELLS, "fixed": LONG, "trials": 32
    },
    "balanced, search_split": {"trials": 16, "searches": 2, "search_split": True, "replicates": 2},
}  # fmt: skip
STORAGES = {"journal": "optuna.journal", "sqlite": "sqlite:///optuna.db"}
THREADS = len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else threading.active_count()


# ------------------------------------------------------------------------------------------------ in the process


class Reaper:
    """Counts the writes of this process that last, names each by the line of searchlib behind it, kills it at one.

    at: which, by its number from 1 or by its name (then the first of that name). torn: in the middle of it, as far
    as it has one, else before it; otherwise right after it.
    """

    def __init__(self, at: int | str | None, torn: bool) -> None:
        self.at, self.torn, self.count, self.over = at, torn, 0, False
        self.lock = threading.Lock()
        self.events = os.open("events.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def due(self, kind: str) -> bool:
        """Note a write that is about to be made; whether the process shall die of it."""
        behind = _line_behind()
        if not behind or self.over:
            return False
        with self.lock:
            self.count += 1
            os.write(self.events, f"{kind} {behind}\n".encode())
            return self.at in (self.count, f"{kind} {behind}")

    def watch(self, owner: type, name: str, kind: str, tear: Callable[..., None] | None = None) -> None:
        """Let every call of a method that writes be such an event. tear: does half of it."""
        whole = getattr(owner, name)

        @functools.wraps(whole)
        def watched(*arguments: Any, **settings: Any) -> Any:
            due = self.due(kind)
            if due and self.torn:
                if tear is not None:
                    tear(*arguments, **settings)
                die()
            done = whole(*arguments, **settings)
            if due:
                die()
            return done

        setattr(owner, name, watched)

    def arm(self) -> None:
        self.watch(JournalFileBackend, "append_logs", "journal", _half_of_the_lines)
        self.watch(SqliteRuns, "add", "runs")
        self.watch(LocalArtifactRepository, "log_artifact", "file", _half_of_the_file)
        self.watch(LocalArtifactRepository, "log_artifacts", "files", _some_of_the_files)
        self.watch(Snapshots, "save", "snapshot", _half_a_snapshot)
        self.watch(Snapshots, "remove", "snapshot")
        snapshots.SECONDS = 0.0  # one after every epoch
        commit = DefaultDialect.do_commit

        def do_commit(dialect: Any, connection: Any) -> None:
            due = getattr(connection, "in_transaction", True) and self.due("commit")
            if due and self.torn:
                die()
            commit(dialect, connection)
            if due:
                die()

        DefaultDialect.do_commit = do_commit  # type: ignore[method-assign]
        load, measure, score = holdout.load_test, holdout.measure, holdout.score

        def load_test(*arguments: Any, **settings: Any) -> Any:
            with open("opened.txt", "a") as file:
                file.write("opened\n")
            return load(*arguments, **settings)

        def measured(*arguments: Any) -> Any:
            found = measure(*arguments)
            if self.due("measured"):
                die()
            return found

        def scored(*arguments: Any) -> Any:
            found = score(*arguments)
            if self.due("scored"):
                die()
            return found

        holdout.load_test, holdout.measure, holdout.score = load_test, measured, scored


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


def _line_behind() -> str:
    """The innermost line of searchlib that is at work here; "" in a thread of MLflow's own."""
    frame = sys._getframe(2)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("searchlib.") and module not in ("searchlib.stores.storage", "searchlib.stores.journal"):
            return f"{module.removeprefix('searchlib.')}.{frame.f_code.co_name}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


def _half_of_the_lines(backend: Any, logs: list[dict[str, Any]]) -> None:
    """As a kill in the middle of the write leaves them: some whole lines, half a line, and the lock."""
    content = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
    backend._lock.acquire()
    with open(backend._file_path, "ab") as file:
        file.write(content[: len(content) * 2 // 3])


def _half_a_snapshot(folder: Snapshots, stacks: Any) -> None:
    folder.folder.mkdir(exist_ok=True)
    path = folder._path(stacks)
    path.with_name(f".{path.name}.1-1{UNFINISHED}").write_bytes(b"half of")


def _half_of_the_file(repository: Any, local_file: str, artifact_path: str | None = None) -> None:
    content = Path(local_file).read_bytes()
    target = Path(repository.artifact_dir, artifact_path or "", Path(local_file).name)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content[: len(content) // 2])


def _some_of_the_files(repository: Any, local_dir: str, artifact_path: str | None = None) -> None:
    target = Path(repository.artifact_dir, artifact_path or "")
    target.mkdir(parents=True, exist_ok=True)
    first = min(path for path in Path(local_dir).iterdir() if path.is_file())
    shutil.copy(first, target)


def live(
    folder: Path, changes: dict[str, Any], storage: str, evaluated: bool, at: int | str | None, torn: bool
) -> None:
    """A search in *folder*, and the opening of its test set; at its end a record of what the stores say."""
    _begin(folder)
    reaper = Reaper(at, torn)
    reaper.arm()
    study = small_study(**changes)
    search_all(study, Stores(storage=storage))
    if evaluated:
        holdout.evaluate(study, Stores(storage=storage, data_root=Path("data")))
    reaper.over = True
    Path(f"{study.name}.json").write_text(json.dumps(record(study, storage=storage)))


def first_step(folder: Path, changes: dict[str, Any], data_root: str, answer: str) -> None:
    """A search as far as its first epoch, or its refusal; how long that took, and the refusal."""
    _begin(folder)
    study, since, refusal = small_study(**changes), time.monotonic(), ""
    try:
        with closing(search(study, Stores(data_root=Path(data_root)))) as steps:  # type: ignore[type-var]
            next(steps)
            Path(answer).write_text(json.dumps([time.monotonic() - since, refusal]))
            for _ in steps:
                pass
    except BusyError as error:
        Path(answer).write_text(json.dumps([time.monotonic() - since, str(error)]))


def make_store(folder: Path, statements: int | None) -> None:
    """Open MLflow's store in *folder*, which makes it; killed after so many of the statements that make it."""
    _begin(folder)
    left = statements or -1

    def executed(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            die()

    sqlalchemy.event.listen(sqlalchemy.Engine, "after_cursor_execute", executed)
    connect(None)


def _begin(folder: Path) -> None:
    os.chdir(folder)
    assert THREADS == 1, "the fork server has threads: its children can hang"
    output = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)


# ---------------------------------------------------------------------------------------------------- in the test


@functools.cache
def context() -> Any:
    """The fork server's."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(["support.killing"])
    wanted = {
        "MLFLOW_DISABLE_TELEMETRY": "true",  # or MLflow starts a thread when it is imported
        "JE_ARROW_MALLOC_CONF": "background_thread:false",  # pyarrow does, too
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        forkserver.ensure_running()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    return made


def start(target: Callable[..., None], folder: Path, *arguments: Any) -> Any:
    """A process that does *target*, open to SIGKILL."""
    process = context().Process(target=target, args=(folder, *arguments), daemon=True)
    process.start()
    return process


def finish(process: Any, folder: Path) -> bool:
    """Wait for a process; whether it lived to its end. What else went wrong is an AssertionError."""
    process.join(LIFE_SECONDS)
    if process.exitcode not in (0, -signal.SIGKILL):
        process.kill()
        process.join()
        output = (folder / "output.txt").read_text() if (folder / "output.txt").exists() else ""
        raise AssertionError(f"exit status {process.exitcode} in {folder}:\n{output[-4000:]}")
    return bool(process.exitcode == 0)


class Folder:
    """A working folder in which one search lives, dies and lives again.

    kills: the write of which each life died.
    """

    def __init__(self, path: Path, variant: str, storage: str, *, evaluated: bool = False) -> None:
        self.path, self.changes, self.storage, self.evaluated = path, VARIANTS[variant], storage, evaluated
        self.kills: list[str] = []
        path.mkdir()
        prepare(folder=path)

    def live(self, at: int | str | None = None, torn: bool = False) -> bool:
        """One life; whether it reached its end."""
        process = start(live, self.path, self.changes, STORAGES[self.storage], self.evaluated, at, torn)
        whole = finish(process, self.path)
        if not whole:
            self.kills.append(f"{'in' if torn else 'after'} {self.events[-1]}")
        return whole

    @property
    def events(self) -> list[str]:
        """The writes of the last life, in order."""
        return (self.path / "events.txt").read_text().splitlines()

    @property
    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.path / "small.json").read_text())
        return found

    @property
    def openings(self) -> int:
        """How often the test set was opened, in all lives."""
        path = self.path / "opened.txt"
        return len(path.read_text().splitlines()) if path.exists() else 0
