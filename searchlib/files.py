"""Output files: replaced whole, and their errors as one line each."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from searchlib.errors import SearchlibError

UNFINISHED = ".unfinished"  # ends the names of files that are being written


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write *content* to *path*: a reader sees the old file or the new one, never a part, also after a power failure.

    A link stays a link: the file that it points to is replaced. What is no regular file (a pipe, a terminal,
    ``/dev/stdout``) is written to directly.
    Raises OSError; the old file is then unchanged. A process that is killed leaves a hidden file beside *path*.
    """
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    place = Path(os.path.realpath(path))
    unfinished = place.with_name(f".{place.name}.{os.getpid()}-{threading.get_native_id()}{UNFINISHED}")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, place)
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()


@contextlib.contextmanager
def output_errors(path: Path, what: str = "output") -> Iterator[None]:
    """What the file system raises while *path* is written, as a SearchlibError; a closed pipe stays BrokenPipeError.

    what: the kind of file, for the message.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise SearchlibError(
            f"{what} {str(path)!r} can't be written ({error.strerror or error}); give another path with --output"
        ) from None


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for files that are needed for a moment. SearchlibError where it can't be made, or its disk is full."""
    made = ""
    try:
        with tempfile.TemporaryDirectory() as made:
            yield Path(made)
    except OSError as error:
        place = tempfile.tempdir or "that of the system"
        if made and (error.errno != errno.ENOSPC or shutil.disk_usage(place).free > 2**20):
            raise  # of another place
        raise SearchlibError(
            f"the folder for temporary files, {place!r}, can't be written ({error.strerror}); free some space there, "
            "or name another folder with TMPDIR"
        ) from None
