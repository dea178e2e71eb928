"""Optuna's storage: opening it, the one coordinator of a study, and a storage that keeps its changes in memory.

Searchlib leans on Optuna's storage in four places where the public API stops: a lock for the journal that survives
a killed owner, a torn last line, many records in one write, and samplers or pruners that must see trials which the
storage doesn't hold (yet). All four are here.
"""

from __future__ import annotations

import contextlib
import copy
import fcntl
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from searchlib.errors import BusyError, SearchlibError, StorageError
from searchlib.study import refuse_if_changed

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage
    from optuna.storages.journal import BaseJournalBackend
    from optuna.storages.journal._file import BaseJournalFileLock
    from optuna.trial import FrozenTrial, TrialState

    from searchlib.databases import AdvisoryLock
    from searchlib.study import Study

__all__ = [
    "DEFAULT_STORAGE",
    "OverlayStorage",
    "StudyLock",
    "at_work",
    "begun",
    "count_trials",
    "load_optuna_study",
    "mask",
    "open_storage",
    "replicates_name",
    "storage_errors",
    "why",
    "written_together",
]

DEFAULT_STORAGE = "optuna.journal"
JOURNAL_START = b'{"op_code"'
FOREIGN_LOCK_SECONDS = 30.0  # Optuna's own patience with a lock that nobody releases
LOCK_FOLDER = Path(".searchlib")
ESCAPE = "its password isn't escaped; write %40 for @, %2F for /, %3A for :, %23 for # and %3F for ?"
CHECK_SECONDS = 5.0  # between two looks at a lock that a server keeps


def is_url(storage: str) -> bool:
    return "://" in storage


def mask(text: str) -> str:
    """A storage, a tracking URI, or an error that quotes one, as it may be shown: secrets become ``***``.

    Those are a URL's password, up to the last @ of the word, as people write @ and / into passwords; what stands alone
    before the @ of a web address, as a token does; and the values of parameters named like a secret.
    """
    shown = re.sub(r"(?s)^([\w+.-]+:/+[^:/@]*):.*@", r"\1:***@", text)  # nothing but a URL may hold spaces, too
    shown = re.sub(r"(\w:/+[^:/@\s]*):\S*@", r"\1:***@", shown)
    shown = re.sub(r"((?:^|[\s'\"(=/])[^:/@\s'\"(=]*):(?!/)\S*@", r"\1:***@", shown)  # a URL that isn't one
    shown = re.sub(r"(https?:/+)[^:/@\s]+@", r"\1***@", shown)
    return re.sub(r"(?i)((?:pass|pwd|secret|token|key|credential)\w*=)[^&;\s'\"]*", r"\1***", shown)


def misread(url: str) -> bool:
    """Whether libraries take a part of the URL's password for its host, which they show in their errors."""
    userinfo, at, _ = url.partition("://")[2].rpartition("@")
    user, colon, password = userinfo.partition(":")
    return bool(at and colon and "/" not in user) and any(
        character in password for character in ("@/?#" if url.startswith("http") else "@")
    )


def file_of(storage: str) -> str | None:
    """The file behind a storage, of a journal or of an SQLite database; None for a server."""
    if not is_url(storage):
        return storage
    return storage.split("?")[0].split("///", 1)[-1] if storage.startswith("sqlite") else None


def is_postgresql(storage: str) -> bool:
    return storage.split("://")[0].split("+")[0] == "postgresql"


def storage_exists(storage: str) -> bool:
    """Whether there is anything to read; a server is taken to be there."""
    file = file_of(storage)
    return file is None or os.path.exists(file)


def open_storage(storage: str) -> BaseStorage:
    """Open a journal file (any path) or a database (an Optuna URL), creating it where it is missing.

    StorageError for a path that is something else, a folder that isn't there, a malformed or unreachable URL.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if not is_url(storage):
        return _open_journal(Path(storage))
    _refuse_if_misread(storage)
    try:
        from searchlib.databases import open_database

        return open_database(storage)
    except Exception as error:  # SQLAlchemy, its drivers and Optuna each raise their own kinds
        raise _cannot_open(storage, error) from None


def _refuse_if_misread(storage: str) -> None:
    if misread(storage):
        raise StorageError(f"storage {mask(storage)!r} can't be opened: {ESCAPE}")


def _cannot_open(storage: str, error: Exception) -> StorageError:
    return StorageError(
        f"storage {mask(storage)!r} can't be opened ({why(error)}); expected a path or an Optuna URL such as "
        "sqlite:///study.db or postgresql://user:password@host/database"
    )


def why(error: Exception) -> str:
    """The reason that an error of a storage gives, on one line, without a password."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    from searchlib.databases import reason_of

    reason = reason_of(error) or error
    return mask(" ".join(str(reason).split("\n")[0].split())) or type(reason).__name__


@contextlib.contextmanager
def storage_errors(storage: str) -> Iterator[None]:
    """What the file system, a database or Optuna raise while a storage is in use, as a StorageError of one line."""
    try:
        yield
    except SearchlibError:
        raise
    except Exception as error:
        from searchlib.databases import reason_of

        if not isinstance(error, OSError) and reason_of(error) is None:
            raise
        raise StorageError(
            f"storage {mask(storage)!r} fails ({why(error)}); mend it, or free some space, then run the same "
            "command again: what was recorded stays"
        ) from error


def _open_journal(path: Path) -> BaseStorage:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    place = os.path.abspath(path)  # a relative path with a folder makes Optuna's lock spin on a dangling link
    check_journal(path)
    lock = JournalLock(place)
    try:
        if path.exists():
            lock.acquire()  # mends the end of the file before Optuna reads it
            try:
                _check_last_line(place)
            finally:
                lock.release()
        backend = JournalFileBackend(place, lock_obj=cast("BaseJournalFileLock", lock))
        return JournalStorage(cast("BaseJournalBackend", _Journal(backend)))
    except Exception as error:  # a line that is no record of Optuna's makes it raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise StorageError(
            f"storage {mask(str(path))!r} can't be opened ({mask(reason)}); expected a journal file of Optuna in a "
            "folder that can be written; give another with --storage"
        ) from None


def _check_last_line(place: str) -> None:
    """ValueError for a last line that is whole and no JSON.

    Optuna takes it for one that another process is writing and reads on without it, until a line comes after it: then
    it reads nothing any more.
    """
    with open(place, "rb") as file:
        end, size = file.seek(0, os.SEEK_END), 65536
        while True:
            start = max(end - size, 0)
            file.seek(start)
            lines = file.read().split(b"\n")  # the last one is what comes after the last newline: nothing
            if start == 0 or len(lines) > 2:
                break
            size *= 16
    if len(lines) > 1:
        try:
            json.loads(lines[-2])
        except ValueError:
            raise ValueError(
                f"its last line is broken; cut it off, {len(lines[-2]) + 1} bytes, to go on without it"
            ) from None


class _Journal:
    """A backend of Optuna's journal in which a thread can hold its writes back, to make them all by one."""

    def __init__(self, backend: BaseJournalBackend) -> None:
        self._backend = backend
        self._held = threading.local()

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        return iter(self._backend.read_logs(log_number_from))

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        held: list[dict[str, Any]] | None = getattr(self._held, "logs", None)
        if held is None:
            self._backend.append_logs(logs)
        else:
            held.extend(logs)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        logs: list[dict[str, Any]] = []
        self._held.logs = logs
        try:
            yield
        finally:
            del self._held.logs
        if logs:
            self._backend.append_logs(logs)


@contextlib.contextmanager
def written_together(storage: BaseStorage) -> Iterator[None]:
    """Make this thread's writes at the end, by one append and one fsync; after an exception in between, not at all.

    Until then nobody sees them, this thread neither. For a journal only: a database writes each at once, as ever.
    """
    journal = getattr(storage, "_backend", None)
    with journal.together() if isinstance(journal, _Journal) else contextlib.nullcontext():
        yield


def check_journal(path: Path) -> None:
    """Refuse what is no journal before Optuna, which would append to it, sees it."""
    shown, folder = mask(str(path)), mask(str(path.parent))
    if os.path.isdir(path):
        raise StorageError(f"storage {shown!r} is a folder; expected a file, such as {DEFAULT_STORAGE}")
    if not os.path.isdir(path.parent):
        raise StorageError(f"storage {shown!r}: the folder {folder!r} isn't there; create it first")
    if os.path.exists(path):
        try:
            with path.open("rb") as file:
                start = file.read(len(JOURNAL_START))
        except OSError as error:
            raise StorageError(f"storage {shown!r} can't be read: {error.strerror}") from None
        if start and not JOURNAL_START.startswith(start):
            raise StorageError(
                f"storage {shown!r} is no journal of Optuna; give another file, or for a database its URL "
                f"(sqlite:///{shown})"
            )


class JournalLock:
    """A lock for a journal that costs no wait after its owner was killed.

    Optuna's lock is a symbolic link beside the file; one left behind by a dead process makes the next writer wait
    for 30 s. Here a kernel lock, which dies with its owner, comes first; whoever holds it may remove a link with
    our mark at once. The link itself keeps out processes with Optuna's own lock, such as a bare optuna-dashboard.

    Taking it also cuts off a last line without its end, a write that a kill or a full disk cut short and that nobody
    was told of: Optuna would append to it, and never read the file again.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        self.kernel_lock = place + ".flock"
        self.link = place + ".lock"
        self.mark = "./././" + os.path.basename(place)  # resolves to the journal, as Optuna expects of a link
        self.descriptor: int | None = None

    def acquire(self) -> bool:
        descriptor = os.open(self.kernel_lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            self._link()
            self._cut_torn_line()
        except BaseException:
            os.close(descriptor)
            raise
        self.descriptor = descriptor
        return True

    def _link(self) -> None:
        seen: tuple[int, int] | None = None
        since, pause = time.monotonic(), 0.001
        while True:
            try:
                os.symlink(self.mark, self.link)
                return
            except FileExistsError:
                pass
            try:
                status = os.lstat(self.link)
                ours = os.path.islink(self.link) and os.readlink(self.link) == self.mark
            except FileNotFoundError:
                continue
            if (status.st_ino, status.st_mtime_ns) != seen:
                seen, since = (status.st_ino, status.st_mtime_ns), time.monotonic()
            if ours or time.monotonic() - since > FOREIGN_LOCK_SECONDS:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.link)
                continue
            time.sleep(pause)
            pause = min(pause * 2, 0.05)

    def _cut_torn_line(self) -> None:
        if not os.path.exists(self.place):
            return
        with open(self.place, "r+b") as file:
            end = position = file.seek(0, os.SEEK_END)
            while position:
                step = min(position, 65536)
                file.seek(position - step)
                newline = file.read(step).rfind(b"\n")
                if newline >= 0:
                    position = position - step + newline + 1
                    break
                position -= step
            if position < end:
                file.truncate(position)
                os.fsync(file.fileno())

    def release(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.link)
        descriptor, self.descriptor = self.descriptor, None
        if descriptor is not None:
            os.close(descriptor)


class StudyLock:
    """One coordinator a study: whoever holds this may create, adopt and tell its trials, or open its test set.

    A file in ``.searchlib``, beside the storage (for a server: in the working folder), with a kernel lock on it,
    which is gone when its owner is, however it ended. The file says who holds it. It guards one host, and of a server's
    database one working folder. In PostgreSQL the server keeps a second lock, which guards all hosts, until the
    connection of its owner is gone. A server that is restarted forgets it: ``check`` takes it again, or finds that
    another host was quicker.
    """

    def __init__(self, storage: str, study: str, purpose: str) -> None:
        import hashlib

        file = file_of(storage)
        place = mask(storage) if file is None else os.path.realpath(file)
        self.storage, self.study, self.purpose = storage, study, purpose
        folder = LOCK_FOLDER if file is None else Path(place).parent / LOCK_FOLDER
        self.path = folder / f"{study}-{hashlib.sha256(os.fsencode(place)).hexdigest()[:8]}.lock"
        self.descriptor: int | None = None
        self.server: AdvisoryLock | None = None
        self.next_look = 0.0
        self.looking = threading.Lock()

    def __enter__(self) -> StudyLock:
        if is_url(self.storage):
            _refuse_if_misread(self.storage)
        else:
            check_journal(Path(self.storage))
        try:
            self.path.parent.mkdir(exist_ok=True)
            self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StorageError(
                f"storage {mask(self.storage)!r}: its folder can't be written ({error.strerror}: {self.path}); give "
                "another --storage"
            ) from None
        owner: dict[str, Any] = {
            "purpose": self.purpose,
            "pid": os.getpid(),
            "since": datetime.now().astimezone().isoformat(timespec="seconds"),
            "host": socket.gethostname(),
        }
        try:
            self._take(self._try_file)
            with contextlib.suppress(OSError):  # who holds it is a courtesy: a full disk doesn't hinder the holder
                os.ftruncate(self.descriptor, 0)
                os.pwrite(self.descriptor, json.dumps(owner).encode(), 0)
            if is_postgresql(self.storage):
                self._take(lambda: self._try_server(owner))
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        if self.descriptor is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self.descriptor, 0)
        self._leave()

    def _leave(self) -> None:
        server, self.server = self.server, None
        if server is not None:
            server.release()
        descriptor, self.descriptor = self.descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def check(self, *, now: bool = False) -> None:
        """BusyError where another host has taken the study over. To be called often: it looks every few seconds.

        now: look in any case. Threads may call it at the same time.
        """
        with self.looking:
            if self.server is None or (not now and time.monotonic() < self.next_look):
                return
            self.next_look = time.monotonic() + CHECK_SECONDS
            with storage_errors(self.storage):
                holder = self.server.check()
        if holder is not None:
            raise self._busy(_owner(holder))

    def _take(self, attempt: Callable[[], dict[str, Any] | None]) -> None:
        """Until *attempt* gives None, not the lock's present owner; BusyError where waiting for it has no point."""
        nameless_since: float | None = None
        looked = False
        while (holder := attempt()) is not None:
            if not holder:  # it has just come, or is about to go: its name isn't there yet, or any more
                nameless_since = nameless_since or time.monotonic()
                if time.monotonic() > nameless_since + 1.0:
                    raise self._busy(holder)
                time.sleep(0.02)
            elif self.purpose == "evaluate" == holder.get("purpose"):
                nameless_since = None
                time.sleep(0.1)  # it takes seconds, and then there is one result for all who asked
            elif not looked:
                looked = True
                time.sleep(0.02)  # ``at_work`` may have had the lock, and the name be a dead process's
            else:
                raise self._busy(holder)

    def _try_file(self) -> dict[str, Any] | None:
        assert self.descriptor is not None
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return None
        except BlockingIOError:
            pass
        try:
            found = json.loads(self.path.read_text())
            return found if isinstance(found, dict) else {}
        except (OSError, ValueError):
            return {}

    def _try_server(self, owner: Mapping[str, Any]) -> dict[str, Any] | None:
        try:
            from searchlib.databases import AdvisoryLock

            self.server = self.server or AdvisoryLock(self.storage, f"searchlib {self.study}")
            holder = self.server.acquire(" ".join(map(str, owner.values())))
        except Exception as error:  # SQLAlchemy and its drivers each raise their own kinds
            raise _cannot_open(self.storage, error) from None
        return None if holder is None else _owner(holder)

    def _busy(self, holder: Mapping[str, Any]) -> BusyError:
        return BusyError(
            f"study {self.study!r} is in the hands of process {holder.get('pid', '?')} on {holder.get('host', '?')} "
            f"({holder.get('purpose', '?')}) since {holder.get('since', '?')}; wait for it, or end it first"
        )


def _owner(text: str) -> dict[str, Any]:
    """Who holds a server's lock, from the one line that the server keeps of that."""
    return dict(zip(("purpose", "pid", "since", "host"), text.split(" ", 3), strict=False)) if text else {}


def at_work(storage: str, study: str) -> bool | None:
    """Whether a search is at work on the study; None where that can't be told. Creates nothing.

    Of a server's database only the searches of this working folder are seen.
    """
    try:
        with StudyLock(storage, study, "status").path.open() as file:
            held = json.loads(file.read() or "{}").get("purpose") == "optimize"
            if held:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # its owner was killed, if this succeeds
    except BlockingIOError:
        return True
    except (OSError, ValueError, AttributeError):  # no such file, or another program's
        pass
    return None if file_of(storage) is None else False


def begun(storage: str, study: Study) -> optuna.Study:
    """The Optuna study that was begun with *study*. Creates nothing.

    StorageError where there is none, StudyError where the study has changed since.
    """
    name = study.name
    found = load_optuna_study(storage, name)
    if found is None or "definition" not in found.user_attrs:
        raise StorageError(
            f"study {name!r} has not begun: storage {mask(storage)!r} holds nothing that searchlib made of it; run "
            f"searchlib optimize --study {name}, or give another --storage"
        )
    refuse_if_changed(study, found.user_attrs["definition"])
    return found


def load_optuna_study(storage: str, name: str) -> optuna.Study | None:
    """The Optuna study of that name, or None where it (or the storage) doesn't exist. Creates nothing."""
    if not storage_exists(storage):
        return None
    import optuna

    opened = open_storage(storage)
    try:
        return optuna.load_study(study_name=name, storage=opened)
    except KeyError:
        return None


def replicates_name(study: Study) -> str:
    """The name of the Optuna study that holds a study's replicates."""
    return f"{study.name}.replicates"


class OverlayStorage:
    """A view of a storage for one study in which some trials live in memory only.

    Reads fall through to *base*, a snapshot of the study's trials; writes change the copies in memory. Samplers
    and pruners run on it unchanged, so that a round of trials is drawn, or decided upon, without leaving
    half-written trials behind. With *cell* only trials with these parameters are visible: pruning compares within
    a cell.
    """

    def __init__(self, real: BaseStorage, study_id: int, base: list[FrozenTrial]) -> None:
        self._real, self._study_id = real, study_id
        self._trials: dict[int, FrozenTrial] = {trial._trial_id: trial for trial in base}
        self._attrs: dict[str, Any] = dict(real.get_study_system_attrs(study_id))
        self.cell: Mapping[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def insert(self, trial: FrozenTrial) -> None:
        """Put a copy of *trial* over what the storage holds of it."""
        self._trials[trial._trial_id] = copy.deepcopy(trial)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        from optuna.trial import TrialState, create_trial

        trial = copy.copy(template_trial) if template_trial else create_trial(state=TrialState.RUNNING)
        trial.number = len(self._trials)
        trial._trial_id = -1 - trial.number
        self._trials[trial._trial_id] = trial
        return trial._trial_id

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return copy.deepcopy(self._trials[trial_id])

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: tuple[TrialState, ...] | None = None
    ) -> list[FrozenTrial]:
        found = [
            trial
            for trial in sorted(self._trials.values(), key=lambda trial: trial.number)
            if (states is None or trial.state in states)
            and all(name in trial.params and trial.params[name] == value for name, value in self.cell.items())
        ]
        return copy.deepcopy(found) if deepcopy else found

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        from optuna.storages import BaseStorage

        best: FrozenTrial = BaseStorage.get_best_trial(self, study_id)  # type: ignore[arg-type]
        return best

    def set_trial_param(self, trial_id: int, name: str, internal: float, distribution: Any) -> None:
        trial = self._trials[trial_id]
        trial._params[name] = distribution.to_external_repr(internal)
        trial._distributions[name] = distribution

    def set_trial_intermediate_value(self, trial_id: int, step: int, value: float) -> None:
        self._trials[trial_id].intermediate_values[step] = value

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._trials[trial_id]._system_attrs[key] = value

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._trials[trial_id]._user_attrs[key] = value

    def get_trial_system_attrs(self, trial_id: int) -> dict[str, Any]:
        return dict(self._trials[trial_id]._system_attrs)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self._attrs[key] = value

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return dict(self._attrs)


def count_trials(storage: str) -> dict[str, int]:
    """Finished trials by study name, for ``list``, which has no time to import Optuna for a journal.

    Reads the journal's lines itself; where one isn't as expected it asks Optuna.
    """
    if not storage_exists(storage):
        return {}
    if not is_url(storage):
        check_journal(Path(storage))
        try:
            return dict(_count_in_journal(Path(storage)))
        except (ValueError, KeyError, IndexError, TypeError, RecursionError):
            pass
    import optuna

    opened = open_storage(storage)
    try:
        return {
            summary.study_name: sum(
                trial.state.is_finished() for trial in opened.get_all_trials(summary._study_id, deepcopy=False)
            )
            for summary in optuna.get_all_study_summaries(opened, include_best_trial=False)
        }
    except Exception as error:  # of a database; or a journal's record is none of Optuna's
        raise StorageError(f"storage {mask(storage)!r} can't be read ({mask(' '.join(str(error).split()))})") from None


def _count_in_journal(path: Path) -> Iterator[tuple[str, int]]:
    create_study, delete_study, create_trial, set_state = 0, 1, 4, 6
    running, waiting = 0, 4
    names: list[str | None] = []
    trials: list[tuple[int, bool]] = []
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            record = json.loads(line)
            operation = record["op_code"]
            if operation == create_study and record["study_name"] not in names:
                names.append(record["study_name"])
            elif operation == delete_study:
                names[record["study_id"]] = None
            elif operation == create_trial and names[record["study_id"]] is not None:
                trials.append((record["study_id"], record.get("state", running) not in (running, waiting)))
            elif operation == set_state:
                study_id, finished = trials[record["trial_id"]]
                trials[record["trial_id"]] = (study_id, finished or record["state"] not in (running, waiting))
    for study_id, name in enumerate(names):
        if name is not None:
            yield name, sum(finished for owner, finished in trials if owner == study_id)
