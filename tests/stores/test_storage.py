"""Storage: what can't be opened is explained, a kill costs neither data nor time, one coordinator a study."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import TrialState, create_trial

from searchlib.errors import BusyError, StorageError
from searchlib.stores import journal, locks
from searchlib.stores.journal import JournalLock
from searchlib.stores.locks import StudyLock
from searchlib.stores.storage import open_storage, storage_exists
from searchlib.stores.stores import Stores

JOURNAL, SQLITE = "optuna.journal", "sqlite:///study.db"


def make_trials(place: str, name: str = "s", finished: int = 3, running: int = 1) -> optuna.Study:
    study = optuna.create_study(study_name=name, storage=open_storage(place), load_if_exists=True)
    for number in range(finished):
        study.add_trial(
            create_trial(params={"x": 0.1 * number}, distributions={"x": FloatDistribution(0, 1)}, value=float(number))
        )
    for _ in range(running):
        study.ask()
    return study


@contextlib.contextmanager
def other_process(code: str) -> Iterator[subprocess.Popen[str]]:
    """Another Python at work in this folder, after it printed 'ready'; killed by SIGKILL at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


def made_to_wait(action: Callable[[], object]) -> Callable[[], None]:
    """Begin *action* in a thread, where it has to wait for something; a function that checks that it goes on now."""
    done = threading.Event()
    thread = threading.Thread(target=lambda: (action(), done.set()))
    thread.start()
    assert not done.wait(0.4)

    def goes_on() -> None:
        assert done.wait(5.0)
        thread.join()

    return goes_on


# ------------------------------------------------------------------------------------------------------------ opening


@pytest.mark.parametrize("place", [JOURNAL, "./optuna.journal", "sub/optuna.journal", SQLITE])
def test_what_was_stored_is_there_again(place: str) -> None:
    Path("sub").mkdir()
    make_trials(place)
    again = Stores(place).optuna_study("s")
    assert [trial.state.name for trial in again.trials] == ["COMPLETE"] * 3 + ["RUNNING"]
    assert Stores(place).optuna_study("other") is None
    if place == SQLITE:
        assert Stores(f"{place}?timeout=30").count_trials() == {"s": 3}


def test_asking_for_a_study_creates_nothing() -> None:
    for place in (JOURNAL, SQLITE, "nowhere/optuna.journal"):
        assert Stores(place).optuna_study("s") is None
        assert Stores(place).count_trials() == {}
        assert not storage_exists(place)
    assert list(Path().iterdir()) == []


def test_a_place_that_is_no_storage() -> None:
    Path("folder").mkdir()
    Path("text.txt").write_text("hello, world\n")
    Path("some.json").write_text('{"op": 1}')
    sqlite3.connect("study.db").execute("create table t (x)").connection.close()
    Path("torn.db").write_bytes(b"SQLite format 3\0" + b"\1" * 200)
    for place, *expected in [
        ("nowhere/optuna.journal", "the folder 'nowhere' isn't there; create it first"),
        ("folder", "is a folder; expected a file, such as optuna.journal"),
        ("text.txt", "is no journal of Optuna; give another file"),
        ("some.json", "is no journal of Optuna"),
        ("study.db", "is no journal of Optuna", "sqlite:///study.db"),
        ("sqlite:///text.txt", "can't be opened", "expected a path or an Optuna URL such as"),
        ("sqlite:///nowhere/study.db", "can't be opened"),
        ("sqlite:///torn.db", "can't be opened"),
        ("nosuch://host/db", "can't be opened", "postgresql://user:password@host/database"),
        ("://", "can't be opened"),
        ("postgresql://ann:s3cret@localhost:1/db", "can't be opened", "ann:***@localhost"),
        ("nosuch://ann:s3cret@localhost:1/db", "can't be opened"),
    ]:
        before = {path: path.read_bytes() for path in Path().glob("*.*") if path.is_file()}
        with pytest.raises(StorageError) as caught:
            open_storage(place)
        message = str(caught.value)
        assert message.startswith("storage ")
        assert "s3cret" not in message
        assert "\n" not in message
        for part in expected:
            assert part in message
        assert {path: path.read_bytes() for path in before} == before, "nothing was written into it"


@pytest.mark.parametrize("begun", [0, 4])
@pytest.mark.parametrize(
    "torn",
    ["{", '{"op_code": 4, "study_id": 0}', '{"op_code": 9, "user_attr": "' + "x" * 200_000],
    ids=["first byte", "all but its end", "long"],
)
def test_a_torn_last_line_is_dropped_and_all_before_it_is_kept(torn: str, begun: int) -> None:
    if begun:
        make_trials(JOURNAL)
    whole = Path(JOURNAL).read_bytes() if begun else b""
    Path(JOURNAL).write_bytes(whole + torn.encode())
    assert Stores(JOURNAL).count_trials() == ({"s": 3} if begun else {})
    study = make_trials(JOURNAL, finished=1, running=0)
    assert Path(JOURNAL).read_bytes().startswith(whole)
    theirs = optuna.load_study(study_name="s", storage=JournalStorage(JournalFileBackend(JOURNAL)))
    assert len(study.trials) == len(theirs.trials) == begun + 1


def test_a_whole_journal_is_not_touched_by_opening() -> None:
    make_trials(JOURNAL)
    before = Path(JOURNAL).stat()
    open_storage(JOURNAL)
    assert (Path(JOURNAL).stat().st_mtime_ns, Path(JOURNAL).stat().st_size) == (before.st_mtime_ns, before.st_size)


def test_a_journal_broken_in_its_middle_is_refused() -> None:
    make_trials(JOURNAL)
    lines = Path(JOURNAL).read_text().splitlines(keepends=True)
    Path(JOURNAL).write_text("".join([*lines[:2], '{"op_code": 4, "stu\n', *lines[2:]]))
    with pytest.raises(StorageError, match="can't be opened"):
        open_storage(JOURNAL)
    with pytest.raises(StorageError, match="can't be opened"):
        Stores(JOURNAL).count_trials()
    Path(JOURNAL).write_text("hello\n")
    with pytest.raises(StorageError, match="no journal of Optuna"):
        Stores(JOURNAL).count_trials()


# -------------------------------------------------------------------------------------------------------------- locks

HOLD = """
    import os, sys
    from searchlib.stores.journal import JournalLock
    JournalLock(os.path.abspath("optuna.journal")).acquire()
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_a_killed_writer_costs_no_wait() -> None:
    make_trials(JOURNAL)
    with other_process(HOLD) as holder:
        assert os.path.islink("optuna.journal.lock")
    assert holder.returncode == -signal.SIGKILL
    assert os.path.islink("optuna.journal.lock"), "it left its link behind"
    started = time.monotonic()
    assert len(make_trials(JOURNAL, finished=1, running=0).trials) == 5
    assert time.monotonic() - started < 2.0
    assert not os.path.lexists("optuna.journal.lock")


def test_a_living_writer_is_waited_for() -> None:
    make_trials(JOURNAL)
    study = Stores(JOURNAL).optuna_study("s")
    with other_process(HOLD):
        goes_on = made_to_wait(study.ask)
    goes_on()  # the kernel's lock died with its owner


def test_optunas_own_lock_and_ours_keep_each_other_out() -> None:
    """A bare optuna-dashboard takes Optuna's default lock."""
    make_trials(JOURNAL)
    ours, theirs = JournalLock(os.path.abspath(JOURNAL)), JournalFileSymlinkLock(JOURNAL)
    for first, second in ((ours, theirs), (theirs, ours)):
        first.acquire()
        goes_on = made_to_wait(second.acquire)
        first.release()
        goes_on()
        second.release()
    assert not os.path.lexists("optuna.journal.lock")


def test_a_foreign_link_of_a_killed_process_is_broken_after_optunas_patience(monkeypatch) -> None:
    monkeypatch.setattr(journal, "FOREIGN_LOCK_SECONDS", 0.3)
    make_trials(JOURNAL)
    JournalFileSymlinkLock(JOURNAL).acquire()
    started = time.monotonic()
    make_trials(JOURNAL, finished=1, running=0)
    assert 0.3 <= time.monotonic() - started < 2.0


def test_many_writers_lose_nothing() -> None:
    make_trials(JOURNAL, finished=0, running=0)
    code = """
        import optuna
        from searchlib.stores import Stores
        study = Stores("optuna.journal").optuna_study("s")
        print("ready", flush=True)
        for number in range(20):
            study.add_trial(optuna.trial.create_trial(value=float(number)))
        print("done", flush=True)
    """
    with other_process(code) as first, other_process(code) as second:
        assert first.stdout.readline() == second.stdout.readline() == "done\n"
    assert len(Stores(JOURNAL).optuna_study("s").trials) == 40


def hold_study(purpose: str) -> str:
    return f"""
        import sys
        from searchlib.stores import Stores
        with Stores("optuna.journal").lock("s", {purpose!r}):
            print("ready", flush=True)
            sys.stdin.read()
    """


def test_a_second_coordinator_is_told_who_is_at_work() -> None:
    lock = Stores(JOURNAL).lock("s", "optimize")
    with other_process(hold_study("optimize")) as holder:
        with pytest.raises(BusyError) as caught, lock:
            pass
        message = str(caught.value)
        assert f"process {holder.pid} " in message
        assert "'s'" in message
        assert "optimize" in message
        assert "wait for it, or end it first" in message
        with Stores(JOURNAL).lock("other", "optimize"), Stores("other.journal").lock("s", "optimize"):
            pass
        with pytest.raises(BusyError), Stores("./optuna.journal").lock("s", "optimize"):
            pass
    started = time.monotonic()
    with lock:
        assert json.loads(lock.path.read_text())["pid"] == os.getpid()
        assert time.monotonic() - started < 1.0
    assert lock.path.read_text() == ""


def test_two_spellings_of_one_database_are_one_study(monkeypatch: pytest.MonkeyPatch) -> None:
    """From wherever they are started."""
    place = Path("study.db").resolve()
    Path("elsewhere").mkdir()
    with Stores(SQLITE).lock("s", "evaluate"):
        monkeypatch.chdir("elsewhere")
        for spelling in (f"sqlite:///{place}", "sqlite:///../study.db?timeout=30"):
            with pytest.raises(BusyError, match="evaluate"), Stores(spelling).lock("s", "optimize"):
                pass
    with Stores("mysql://ann:one@host/db").lock("s", "evaluate"):
        with pytest.raises(BusyError), Stores("mysql://ann:two@host/db").lock("s", "optimize"):
            pass
        with Stores("mysql://ann:one@host/other").lock("s", "optimize"):
            pass


def test_a_second_evaluation_waits_for_the_first() -> None:
    with other_process(hold_study("evaluate")) as holder:
        lock = Stores(JOURNAL).lock("s", "evaluate")
        goes_on = made_to_wait(lock.__enter__)
        holder.stdin.close()
        goes_on()
    lock.__exit__(None, None, None)


def killed(lock: StudyLock) -> None:
    """What is left of a lock whose owner was killed: its name."""
    lock.__enter__()
    assert lock.descriptor is not None
    os.close(lock.descriptor)
    lock.descriptor = None


def test_whether_a_search_is_at_work() -> None:
    assert Stores(JOURNAL).at_work("s") is False
    assert not Path(".searchlib").exists()
    with Stores(JOURNAL).lock("s", "verify"):
        assert Stores(JOURNAL).at_work("s") is False
    with Stores(JOURNAL).lock("s", "optimize"):
        assert Stores(JOURNAL).at_work("s") is True
        assert Stores(JOURNAL).at_work("other") is False
    killed(Stores(JOURNAL).lock("s", "optimize"))
    assert Stores(JOURNAL).at_work("s") is False
    assert Stores("mysql://host/database").at_work("s") is None, "another host may be at it"


def test_who_looks_for_a_search_refuses_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search begins, over the name of one that was killed, at the moment in which somebody looks."""
    lock = Stores(JOURNAL).lock("s", "optimize")
    killed(lock)
    with lock.path.open() as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        monkeypatch.setattr(locks.time, "sleep", lambda seconds: fcntl.flock(look, fcntl.LOCK_UN))
        with lock:
            pass


def test_a_working_folder_that_cannot_be_written() -> None:
    Path(".searchlib").write_text("a file in the way")
    with pytest.raises(StorageError, match="can't be written"), Stores(JOURNAL).lock("s", "optimize"):
        pass


# ----------------------------------------------------------------------------------------------------------- counting


def optunas_count(place: str) -> dict[str, int]:
    return {
        name: sum(trial.state.is_finished() for trial in optuna.load_study(study_name=name, storage=place_of).trials)
        for place_of in [open_storage(place)]
        for name in optuna.get_all_study_names(place_of)
    }


@pytest.mark.parametrize("place", [JOURNAL, SQLITE])
def test_count_trials_equals_optunas_own(place: str) -> None:
    first = make_trials(place, "first", finished=2, running=2)
    second = make_trials(place, "second", finished=3, running=0)
    make_trials(place, "empty", finished=0, running=0)
    for trial, state in zip(first.trials[2:], (TrialState.PRUNED, TrialState.FAIL), strict=True):
        first.tell(optuna.trial.Trial(first, trial._trial_id), state=state)
    second.enqueue_trial({"x": 0.5})
    assert Stores(place).count_trials() == optunas_count(place) == {"first": 4, "second": 3, "empty": 0}
    optuna.delete_study(study_name="first", storage=open_storage(place))
    assert Stores(place).count_trials() == optunas_count(place) == {"second": 3, "empty": 0}
    make_trials(place, "first", finished=1, running=1)
    assert Stores(place).count_trials() == optunas_count(place) == {"second": 3, "empty": 0, "first": 1}


def test_counting_after_a_trial_for_a_study_that_another_process_deleted() -> None:
    """Optuna gives such a trial no number; the trials after it must not be taken for others."""
    doomed = make_trials(JOURNAL, "doomed", finished=1, running=0)
    make_trials(JOURNAL, "kept", finished=1, running=0)
    optuna.delete_study(study_name="doomed", storage=open_storage(JOURNAL))
    with pytest.raises(KeyError):
        doomed._storage.create_new_trial(doomed._study_id)
    kept = Stores(JOURNAL).optuna_study("kept")
    kept.tell(kept.ask(), 1.0)
    kept.ask()
    assert Stores(JOURNAL).count_trials() == optunas_count(JOURNAL) == {"kept": 2}


def test_counting_after_a_finished_trial_was_set_running_by_another_process() -> None:
    """Optuna leaves a finished trial as it is."""
    study = make_trials(JOURNAL, finished=1, running=1)
    stale = Stores(JOURNAL).optuna_study("s")
    trial = study.trials[1]
    study.tell(optuna.trial.Trial(study, trial._trial_id), 1.0)
    with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
        stale._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
    assert Stores(JOURNAL).count_trials() == optunas_count(JOURNAL) == {"s": 2}
