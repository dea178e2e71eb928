"""The lock of a study, which one process at a time holds: on this host and, with PostgreSQL, on all hosts."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchlib.errors import BusyError, StorageError
from searchlib.stores.journal import check_journal
from searchlib.stores.places import LOCK_FOLDER, file_of, is_url, open_lock, refuse_hard_links
from searchlib.stores.storage import opening_errors, refuse_if_misread, storage_errors
from searchlib.text import mask

if TYPE_CHECKING:
    from searchlib.stores.databases import AdvisoryLock

CHECK_SECONDS = 5.0  # between two checks of a lock that a server keeps


class StudyLock:
    """Whoever holds the lock of a study may create, resume and finish its trials, or open its test set.

    It is a kernel lock on a file in ``.searchlib`` beside the storage (for a server: in *folder*). The kernel
    releases it when its owner ends, in whatever way. The file says who holds it. It guards one host, and of a server's
    database one working folder. A PostgreSQL server keeps a second lock, which guards all hosts until the connection of
    its owner is gone. A server that is restarted forgets it: ``check`` then takes it again, or finds that another host
    was faster.

    shared: for those that only read, together, while nobody writes; nothing is written, the lock's file neither.
    """

    # flock itself: filelock has no shared lock, with which ``at_work`` looks, and before version 4 it empties the file

    def __init__(self, storage: str, study: str, purpose: str, *, shared: bool = False, folder: Path = Path()) -> None:
        self.file = file_of(storage)
        name = mask(storage)
        if self.file is not None:  # its name alone, so that a folder may be moved
            folder, name = Path(os.path.realpath(self.file)).parent, os.path.basename(os.path.realpath(self.file))
        self.storage, self.study, self.purpose, self.shared = storage, study, purpose, shared
        digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:8]
        self.path = folder / LOCK_FOLDER / f"{study}-{digest}.lock"
        self.descriptor: int | None = None
        self.server: AdvisoryLock | None = None
        self.next_check = 0.0
        self.checking = threading.Lock()

    def __enter__(self) -> StudyLock:
        if is_url(self.storage):
            refuse_if_misread(self.storage)
        else:
            check_journal(Path(self.storage))
        self._open()
        owner: dict[str, Any] = {
            "purpose": self.purpose,
            "pid": os.getpid(),
            "since": datetime.now().astimezone().isoformat(timespec="seconds"),
            "host": socket.gethostname(),
        }
        try:
            if self.descriptor is not None:
                self._take(self._try_file)
            if self.descriptor is not None and not self.shared:
                with contextlib.suppress(OSError):  # the name is for others: a full disk doesn't hinder the holder
                    os.ftruncate(self.descriptor, 0)
                    os.pwrite(self.descriptor, json.dumps(owner).encode(), 0)
            if self.storage.split("://")[0].split("+")[0] == "postgresql":
                self._take(lambda: self._try_server(owner))
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        if self.descriptor is not None and not self.shared:
            with contextlib.suppress(OSError):
                os.ftruncate(self.descriptor, 0)
        self._leave()

    def _open(self) -> None:
        """Open the lock's file. Who shares the lock writes nothing: without a file nobody is at work."""
        if self.shared:
            with contextlib.suppress(OSError):
                self.descriptor = os.open(self.path, os.O_RDONLY)
            return
        try:
            if self.file is not None:
                refuse_hard_links(self.file, "storage", StorageError)
            self.descriptor = open_lock(self.path, self.file)
        except OSError as error:
            raise StorageError(
                f"storage {mask(self.storage)!r}: its folder can't be written ({error.strerror}: {self.path}); give "
                "another --storage"
            ) from None

    def _leave(self) -> None:
        server, self.server = self.server, None
        if server is not None:
            server.release()
        descriptor, self.descriptor = self.descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def check(self, *, now: bool = False) -> None:
        """BusyError where another host has taken the lock. To be called often: it asks the server every few seconds.

        now: ask in any case. Threads may call it at the same time.
        """
        with self.checking:
            if self.server is None or (not now and time.monotonic() < self.next_check):
                return
            self.next_check = time.monotonic() + CHECK_SECONDS
            with storage_errors(self.storage):
                holder = self.server.check()
        if holder is not None:
            raise self._busy(_owner(holder))

    def _take(self, attempt: Callable[[], dict[str, Any] | None]) -> None:
        """Call *attempt* until it gives None, and not the lock's owner; BusyError where waiting is of no use."""
        nameless_since: float | None = None
        tried = False
        while (holder := attempt()) is not None:
            if not holder:  # its name isn't written yet, or is already removed
                nameless_since = nameless_since or time.monotonic()
                if time.monotonic() > nameless_since + 1.0:
                    raise self._busy(holder)
                time.sleep(0.02)
            elif self.purpose == "evaluate" == holder.get("purpose"):
                nameless_since = None
                time.sleep(0.1)  # an evaluation takes seconds, and its result is the answer to this one, too
            elif not tried:
                tried = True
                time.sleep(0.02)  # it may be ``at_work`` that has the lock, and the name that of a killed process
            else:
                raise self._busy(holder)

    def _try_file(self) -> dict[str, Any] | None:
        assert self.descriptor is not None
        try:
            fcntl.flock(self.descriptor, (fcntl.LOCK_SH if self.shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            return None
        except BlockingIOError:
            pass
        try:
            found = json.loads(self.path.read_text())
            return found if isinstance(found, dict) else {}
        except (OSError, ValueError):
            return {}

    def _try_server(self, owner: Mapping[str, Any]) -> dict[str, Any] | None:
        with opening_errors(self.storage):
            from searchlib.stores.databases import AdvisoryLock

            self.server = self.server or AdvisoryLock(self.storage, f"searchlib {self.study}")
            holder = self.server.acquire(" ".join(map(str, owner.values())))
        return None if holder is None else _owner(holder)

    def _busy(self, holder: Mapping[str, Any]) -> BusyError:
        if not holder:
            return BusyError(f"study {self.study!r} is being read by another process, such as verify; wait for it")
        return BusyError(
            f"study {self.study!r} has been locked by process {holder.get('pid', '?')} on {holder.get('host', '?')} "
            f"({holder.get('purpose', '?')}) since {holder.get('since', '?')}; wait for it, or end it first"
        )


def _owner(text: str) -> dict[str, Any]:
    """Who holds a server's lock, from the line of text that the server keeps."""
    return dict(zip(("purpose", "pid", "since", "host"), text.split(" ", 3), strict=False)) if text else {}


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a kernel lock on a lock file, made where it is missing; wait for it where another process has it."""
    descriptor = open_lock(path, None)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def at_work(storage: str, study: str, folder: Path = Path()) -> bool | None:
    """Whether a search is at work on the study; None where that can't be known. Creates nothing.

    Of a server's database only the searches of this working folder are seen.
    """
    try:
        with StudyLock(storage, study, "status", folder=folder).path.open() as file:
            if json.loads(file.read() or "{}").get("purpose") == "optimize":
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # succeeds where the owner was killed
    except BlockingIOError:
        return True
    except (OSError, ValueError, AttributeError):  # no such file, or another program's
        pass
    return None if file_of(storage) is None else False
