"""Servers that go and come back: an MLflow tracking server, a PostgreSQL that holds Optuna's storage. Real ones."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.storages import RDBStorage
from support import STORAGE, empty_mlflow_store, prepare, search, search_all, table, write_idx
from support.children import CHILDREN, preload, serve_mlflow
from support.faults import STUDY, assert_nothing_lost, assert_one_line, before_batch, uninterrupted

from searchlib.errors import BusyError, StorageError, TrackingError
from searchlib.stores import databases, locks, trial_runs
from searchlib.stores.locks import StudyLock
from searchlib.stores.storage import open_storage
from searchlib.stores.stores import Stores
from searchlib.stores.tracking import Tracker

AWAY = 1.5  # seconds that a server is gone

# ------------------------------------------------------------------------------------------------------------ MLflow

preload()


class TrackingServer:
    def __init__(self, folder: Path) -> None:
        (folder / "server.db").write_bytes(empty_mlflow_store())
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process = CHILDREN.Process(target=serve_mlflow, args=(str(self.folder), self.port), daemon=True)
        self.process.start()

    def wait(self) -> None:
        until = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=5).close()
                return
            except OSError:
                assert time.monotonic() < until
                assert self.process.is_alive()
                time.sleep(0.05)

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[TrackingServer]:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # seconds instead of half a minute
    write_idx(Path("data"))
    Path("server").mkdir()
    made = TrackingServer(Path("server").absolute())
    made.start()
    try:
        made.wait()
        yield made
    finally:
        made.kill()


def in_the_middle_of_run(patch: pytest.MonkeyPatch, number: int, fault: Callable[[], Any]) -> None:
    """Have *fault* happen when the server has half of the run with this number."""
    add, runs = trial_runs.add_run, itertools.count(1)

    def broken(tracker: Tracker, run: Any) -> str:
        if next(runs) == number:
            client, tags = tracker.client, dict(run.tags)
            client.create_run(tracker.experiment, start_time=run.started, run_name=run.name, tags=tags)
            fault()
        return add(tracker, run)

    patch.setattr(trial_runs, "add_run", broken)


def test_a_tracking_server_that_goes_and_comes_back_costs_nothing(
    server: TrackingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does an answer that is lost, to which MLflow's client asks again by itself: it makes no second run."""

    def restart() -> None:
        server.kill()
        threading.Timer(AWAY, server.start).start()

    in_the_middle_of_run(monkeypatch, 2, lambda: None)
    in_the_middle_of_run(monkeypatch, 6, restart)
    before_batch(monkeypatch, -1, lambda: None)
    began = time.monotonic()
    search_all(STUDY, Stores(tracking_uri=server.uri))
    assert time.monotonic() - began > AWAY
    assert_nothing_lost(Stores(tracking_uri=server.uri))


def test_a_tracking_server_that_stays_away_ends_the_search(
    server: TrackingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_runs, "PATIENCE", 1.0)
    with monkeypatch.context() as patch:
        in_the_middle_of_run(patch, 6, server.kill)
        before_batch(patch, -1, lambda: None)
        with pytest.raises(TrackingError) as caught:
            search_all(STUDY, Stores(tracking_uri=server.uri))
    assert_one_line(caught.value, "check --tracking-uri, the server")
    assert 0 < [row[1] for row in table(STUDY)].count("COMPLETE") < 6, "the batches before are there"
    server.start()
    server.wait()
    search_all(STUDY, Stores(tracking_uri=server.uri))
    assert_nothing_lost(Stores(tracking_uri=server.uri))


# -------------------------------------------------------------------------------------------------------- PostgreSQL


def binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")) or [Path(shutil.which("pg_ctl") or "nowhere")]
    return found[-1].parent if (found[-1].parent / "initdb").exists() else None


class Postgres:
    """A server of one's own, without a network: root lends it the account of nobody, as it refuses to run as root."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.url = folder, f"postgresql://searchlib@/postgres?host={folder}"
        self.account: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self.account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        self._run("initdb", "-U", "searchlib", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C")

    def start(self) -> None:
        options = f"-k {self.folder} -c listen_addresses='' -c fsync=off"
        self._run("pg_ctl", "-w", "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-w", "-m", "immediate", "stop")

    def restart(self) -> None:
        self.stop()
        self.start()

    def end_connections(self, which: str) -> int:
        """Break those that fulfil an SQL condition; how many there were."""
        import psycopg

        sql = f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND {which}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            return len(connection.execute(sql).fetchall())

    def _run(self, program: str, *arguments: str) -> None:
        folder = binaries()
        assert folder is not None
        subprocess.run(
            [str(folder / program), "-D", str(self.folder / "data"), *arguments],
            check=True,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **self.account,
        )


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    pytest.importorskip("psycopg")
    if binaries() is None:
        pytest.skip("no PostgreSQL server here")
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        made = Postgres(folder)
        made.start()
        yield made
        with contextlib.suppress(subprocess.CalledProcessError):
            made.stop()
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def shared(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[Postgres]:
    """PostgreSQL with an empty storage, its data and MLflow's store ready; who holds a lock looks after it often."""
    import optuna

    monkeypatch.setattr(locks, "CHECK_SECONDS", 0.0)
    prepare()
    yield postgres
    for name in optuna.get_all_study_names(open_storage(postgres.url)):
        optuna.delete_study(study_name=name, storage=open_storage(postgres.url))


def test_postgresql_that_is_restarted_costs_nothing(shared: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    def restart() -> None:
        shared.stop()
        threading.Timer(AWAY, shared.start).start()

    before_batch(monkeypatch, 2, restart)
    search_all(STUDY, Stores(shared.url))
    assert_nothing_lost(Stores(shared.url))


def test_connections_that_break_again_and_again_cost_nothing(shared: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of whatever is asked or written just then."""
    before_batch(monkeypatch, -1, lambda: None)
    over, broken = threading.Event(), 0

    def breaker() -> None:
        nonlocal broken
        while not over.wait(0.25):
            broken += shared.end_connections("usename = 'searchlib' AND backend_type = 'client backend'")

    thread = threading.Thread(target=breaker)
    steps = search(STUDY, Stores(shared.url))
    next(steps)  # it is open
    thread.start()
    try:
        for _ in steps:
            pass
    finally:
        over.set()
        thread.join()
    assert broken
    assert_nothing_lost(Stores(shared.url))


def test_postgresql_that_dies_once_it_has_done_it_does_it_once(
    shared: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It commits, and is gone before it says so: at each new trial, and at every third of the other writes."""
    from sqlalchemy.engine.default import DefaultDialect

    deaths, commits, commit, prepare = 0, 0, DefaultDialect.do_commit, RDBStorage._get_prepared_new_trial

    def prepare_a_trial(*arguments: Any) -> Any:
        nonlocal commits
        commits = 2
        return prepare(*arguments)

    def commit_and_die(dialect: DefaultDialect, connection: Any) -> None:
        nonlocal commits, deaths
        commit(dialect, connection)
        if dialect.name != "postgresql" or commits == 0:  # MLflow's, or the opening's
            return
        commits += 1
        if commits % 3 == 0:
            deaths += 1
            ours = connection.driver_connection
            shared.end_connections(f"pid = {ours.info.backend_pid}")
            ours.execute("SELECT 1")  # it raises what the loss of a connection raises

    with monkeypatch.context() as patch:
        patch.setattr(RDBStorage, "_get_prepared_new_trial", prepare_a_trial)
        patch.setattr(DefaultDialect, "do_commit", commit_and_die)
        patch.setattr("random.random", lambda: 0.0)  # of two seconds that Optuna waits for before it tries again
        search_all(STUDY, Stores(shared.url))
    assert deaths > STUDY.trials
    assert_nothing_lost(Stores(shared.url))


def test_a_lock_that_another_host_has_taken_stays_lost(shared: Postgres) -> None:
    """Also when that one has gone, and though the server answers: the trials may be others by now."""
    first, second = (databases.AdvisoryLock(shared.url, "a study") for _ in range(2))
    assert first.acquire("the first") is None
    assert shared.end_connections("application_name = 'the first'") == 1
    assert second.acquire("the second") is None
    assert [first.check(), first.check()] == ["the second", "the second"]
    second.release()
    assert first.check() == "the second"
    first.release()


def test_postgresql_that_stays_away_ends_the_search(shared: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "PATIENCE", 0.5)
    with monkeypatch.context() as patch:
        before_batch(patch, 2, shared.stop)
        try:
            with pytest.raises(StorageError) as caught:
                search_all(STUDY, Stores(shared.url))
        finally:
            shared.start()
    assert_one_line(caught.value, "connection", "shutting down")
    assert 0 < [row[1] for row in table(STUDY, Stores(shared.url))].count("COMPLETE") <= 4
    search_all(STUDY, Stores(shared.url))
    assert_nothing_lost(Stores(shared.url))


def on_host(name: str, patch: pytest.MonkeyPatch, url: str, study: str = "s") -> StudyLock:
    """A lock as another host would have it: with a folder of its own."""
    Path(name).mkdir(exist_ok=True)
    patch.setattr(locks, "LOCK_FOLDER", Path(name))
    patch.setattr(socket, "gethostname", lambda: name)
    return Stores(url).lock(study, "optimize")


def test_one_coordinator_a_study_across_hosts(shared: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    url = shared.url
    with on_host("ada", monkeypatch, url) as first:
        holder = rf"process {os.getpid()} on ada \(optimize\) since \d{{4}}-\d\d-\d\dT[\d:+-]+; wait for it"
        with pytest.raises(BusyError, match=holder), on_host("bob", monkeypatch, url):
            pass
        with on_host("bob", monkeypatch, url, "another"):
            first.check()
        shared.restart()
        first.check()  # the server forgot; it's taken again
        with pytest.raises(BusyError, match="on ada"), on_host("bob", monkeypatch, url):
            pass
        shared.restart()
        with on_host("bob", monkeypatch, url), pytest.raises(BusyError, match=r"on bob \(optimize\)"):
            first.check()
    with on_host("bob", monkeypatch, url):
        pass


def test_the_search_ends_when_another_host_has_taken_over(shared: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = search(STUDY, Stores(shared.url))
    next(steps)
    shared.restart()
    with on_host("bob", monkeypatch, shared.url, STUDY.name), pytest.raises(BusyError, match="on bob"):
        for _ in steps:
            pass
    search_all(STUDY, Stores(shared.url))
    assert table(STUDY, Stores(shared.url)) == uninterrupted()
    assert not Path(STORAGE).exists()


def test_a_postgresql_that_is_not_there_is_said_at_once() -> None:
    pytest.importorskip("psycopg")
    began = time.monotonic()
    with pytest.raises(StorageError, match=r"ann:\*\*\*@127.0.0.1.*can't be opened"):
        next(search(STUDY, Stores(storage="postgresql://ann:s3cret@127.0.0.1:1/db")))
    assert time.monotonic() - began < 10
