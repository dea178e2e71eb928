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

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

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
