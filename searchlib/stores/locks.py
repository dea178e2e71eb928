"""The one coordinator of a study: a lock on this host and, in PostgreSQL, on all hosts."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchlib.errors import BusyError, StorageError
from searchlib.stores.journal import check_journal
from searchlib.stores.storage import file_of, is_postgresql, is_url, opening_errors, refuse_if_misread, storage_errors
from searchlib.text import mask

if TYPE_CHECKING:
    from searchlib.stores.databases import AdvisoryLock

__all__ = [
    "StudyLock",
    "at_work",
]


LOCK_FOLDER = Path(".searchlib")
CHECK_SECONDS = 5.0  # between two looks at a lock that a server keeps


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
            refuse_if_misread(self.storage)
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
        with opening_errors(self.storage):
            from searchlib.stores.databases import AdvisoryLock

            self.server = self.server or AdvisoryLock(self.storage, f"searchlib {self.study}")
            holder = self.server.acquire(" ".join(map(str, owner.values())))
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
