"""Where stores lie: one real path for each file, and addresses that the library which reads them has quoted.

A name, a symbolic link to it and a relative path from any folder are one place. Addresses of SQLite files are taken
apart and put together by SQLAlchemy, which reads them for Optuna and MLflow alike.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from searchlib.errors import SearchlibError
from searchlib.text import mask

LOCK_FOLDER = Path(".searchlib")


def is_url(storage: str) -> bool:
    return "://" in storage


def real_path(path: str | os.PathLike[str], folder: Path) -> Path:
    """The absolute path of a file without symbolic links. folder: where a relative path begins."""
    return Path(os.path.realpath(folder / os.path.expanduser(path)))


def sqlite_file(url: str) -> str | None:
    """The path in the address of an SQLite file; None for any other address."""
    if not url.startswith("sqlite"):
        return None
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    with contextlib.suppress(ArgumentError, ValueError):
        path = make_url(url).database
        return None if not path or path.startswith((":memory:", "file:")) else path
    return None


def real_address(storage: str, folder: Path) -> str:
    """A path or an address such that it means the same file from every folder; that of a server as it is."""
    if not is_url(storage):
        return str(real_path(storage, folder))
    file = sqlite_file(storage)
    if file is None:
        return storage
    from sqlalchemy import make_url

    return make_url(storage).set(database=str(real_path(file, folder))).render_as_string(hide_password=False)


def file_of(storage: str) -> str | None:
    """The file behind a storage, of a journal or of an SQLite database; None for a server."""
    return sqlite_file(storage) if is_url(storage) else storage


def refuse_hard_links(path: str | os.PathLike[str], what: str, error: Callable[[str], SearchlibError]) -> None:
    """Raise *error* for a file with several names: locks go by the name, so that they would not keep each other out."""
    names = os.stat(path).st_nlink if os.path.isfile(path) else 1
    if names > 1:
        raise error(
            f"{what} {mask(str(path))!r} is one file with {names} names (hard links), and locks go by the name; "
            "expected a file with one name: replace the other names by copies or by symbolic links"
        )


def open_lock(path: Path, storage: str | None) -> int:
    """Open a lock file, made where it is missing, with the group and the permissions of *storage*; its descriptor.

    A folder that is made for it has those of the folder above. Who may only read the file can take the lock, too.
    """
    above = path.parent.parent
    with contextlib.suppress(FileExistsError):
        path.parent.mkdir()
        _share(path.parent, above, 0o777)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:
        if not path.exists():
            raise
        return os.open(path, os.O_RDONLY)
    if storage is not None and os.path.exists(storage):
        _share(path, storage, 0o666)
    return descriptor


def _share(path: Path, like: str | os.PathLike[str], bits: int) -> None:
    """Give *path*, if it is this user's, the group and the permissions of *like*."""
    there, wanted = os.stat(path), os.stat(like)
    if there.st_uid == os.geteuid():
        with contextlib.suppress(OSError):  # a group that this user isn't in
            if there.st_gid != wanted.st_gid:
                os.chown(path, -1, wanted.st_gid)
        with contextlib.suppress(OSError):
            os.chmod(path, wanted.st_mode & bits | there.st_mode & 0o7700)
