"""Optuna's journal file: opened after a kill without waiting or loss, and written many records at once."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from searchlib.errors import StorageError
from searchlib.text import mask

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.storages.journal import BaseJournalBackend
    from optuna.storages.journal._file import BaseJournalFileLock

DEFAULT_STORAGE = "optuna.journal"
JOURNAL_START = b'{"op_code"'
FOREIGN_LOCK_SECONDS = 30.0  # Optuna's own patience with a lock that nobody releases


def open_journal(path: Path) -> BaseStorage:
    """Optuna's storage in a journal file, which is created where it is missing; StorageError for anything else.

    A journal that is there is only read until something is stored.
    """
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    place = os.path.realpath(path)
    check_journal(path)
    try:
        if os.path.exists(place):
            _check_last_line(place)
        backend = JournalFileBackend(place, lock_obj=cast("BaseJournalFileLock", JournalLock(place)))
        return JournalStorage(cast("BaseJournalBackend", _Journal(backend)))
    except Exception as error:  # a line that is no record of Optuna's makes it raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise StorageError(
            f"storage {mask(str(path))!r} can't be opened ({mask(reason)}); expected a journal file of Optuna in a "
            "folder that can be written; give another with --storage"
        ) from None


def _check_last_line(place: str) -> None:
    """ValueError for the last of the complete lines, if it isn't JSON.

    Optuna ignores it, as if another process were still writing it; once a line follows it, Optuna can't read the file.
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
                f"its last line is broken; cut it off, {len(lines[-2]) + 1} bytes, to continue without it"
            ) from None


class _Journal:
    """A backend of Optuna's journal in which a thread can collect its writes, to make them all at once."""

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
    """Make the writes of this thread at the end, with one append and one fsync; after an exception, not at all.

    Until then nobody sees them, not even this thread. Only a journal does this; a database makes each write at once.
    """
    journal = getattr(storage, "_backend", None)
    with journal.together() if isinstance(journal, _Journal) else contextlib.nullcontext():
        yield


def check_journal(path: Path) -> None:
    """StorageError for a file that is no journal, to which Optuna would append, and for a folder that isn't there."""
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

    Optuna's lock is a symbolic link beside the file; one left behind by a killed process makes the next writer wait
    for 30 s. Here a kernel lock on the journal itself, which the kernel releases when its owner ends, comes first;
    whoever holds it may remove a link with our mark at once. The link itself keeps out processes with Optuna's own
    lock, such as optuna-dashboard. It lies beside the real file, and so is the same under all symbolic links to it.

    Taking the lock also cuts off an incomplete last line, which a kill or a full disk left and which nobody relies on:
    Optuna would append to it, and could never read the file again.
    """

    def __init__(self, place: str) -> None:
        self.place = os.path.realpath(place)
        self.link = self.place + ".lock"
        self.mark = "./././" + os.path.basename(self.place)  # resolves to the journal, as Optuna expects of a link
        self.descriptor: int | None = None

    def acquire(self) -> bool:
        descriptor = os.open(self.place, os.O_RDWR)  # writing is needed by a network's file system
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


def count_in_journal(path: Path) -> Iterator[tuple[str, int]]:
    """The name of each study in a journal and the number of its finished trials, read without Optuna.

    ValueError, KeyError, IndexError, TypeError or RecursionError for a line that isn't as expected.
    """
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
