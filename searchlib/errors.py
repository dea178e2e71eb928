"""Everything that searchlib raises on purpose.

    SearchlibError
    ├── StudyError          a study, its file or one of its values is wrong
    ├── DataError           a data set can't be found, fetched or read
    │   └── IntegrityError  a data file is truncated, altered or not what its name says
    ├── StorageError        the Optuna storage can't be opened, or holds something else
    │   └── BusyError       another process is at work on the same study
    ├── TrackingError       MLflow can't be reached or written
    ├── DeviceError         the device asked for is not there
    └── HoldoutError        the test set can't be opened: no trial, or not the claimed checkpoint

Each message is one line: what was given, what was expected, what to do. The command line prints it and exits
with status 1; a library user can catch ``SearchlibError``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "BusyError",
    "DataError",
    "DeviceError",
    "HoldoutError",
    "IntegrityError",
    "SearchlibError",
    "StorageError",
    "StudyError",
    "TrackingError",
    "unknown_name",
]


class SearchlibError(Exception):
    """Base class of searchlib's own errors."""


class StudyError(SearchlibError):
    """A study, its file or one of its values is wrong."""


class DataError(SearchlibError):
    """A data set can't be found, fetched or read."""


class IntegrityError(DataError):
    """A data file is truncated, altered or not what its name says."""


class StorageError(SearchlibError):
    """The Optuna storage can't be opened, or holds something else."""


class BusyError(StorageError):
    """Another process is at work on the same study."""


class TrackingError(SearchlibError):
    """MLflow can't be reached or written."""


class DeviceError(SearchlibError):
    """The device asked for is not there."""


class HoldoutError(SearchlibError):
    """The test set can't be opened: no completed trial, or the checkpoint isn't the claimed one."""


def unknown_name(kind: str, given: object, known: Iterable[str]) -> str:
    """Say that *given* is no known *kind*, and name the nearest ones.

    >>> unknown_name("activation", "rellu", ["relu", "tanh"])
    "unknown activation 'rellu'; did you mean relu? Known: relu, tanh"
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(given), names, n=3, cutoff=0.5)
    hint = f"; did you mean {', '.join(near)}?" if near else "."
    return f"unknown {kind} {str(given)!r}{hint} Known: {', '.join(names) or 'none'}"
