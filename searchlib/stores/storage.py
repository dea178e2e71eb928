"""Optuna's storage: what kind it is, opening it, counting its trials, and its errors as one line each."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from searchlib.errors import SearchlibError, StorageError
from searchlib.stores.journal import check_journal, count_in_journal, open_journal
from searchlib.stores.places import file_of, is_url
from searchlib.study import Study
from searchlib.text import ESCAPE, mask, misread

if TYPE_CHECKING:
    from optuna.storages import BaseStorage


def storage_exists(storage: str) -> bool:
    """Whether there is anything to read; a server is assumed to be there."""
    file = file_of(storage)
    return file is None or os.path.exists(file)


def open_storage(storage: str) -> BaseStorage:
    """Open a journal file (any path) or a database (an Optuna URL), creating it where it is missing.

    StorageError for a path that is something else, a folder that isn't there, a malformed or unreachable URL.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if not is_url(storage):
        return open_journal(Path(storage))
    refuse_if_misread(storage)
    with opening_errors(storage):
        from searchlib.stores.databases import open_database

        return open_database(storage)


def refuse_if_misread(storage: str) -> None:
    if misread(storage):
        raise StorageError(f"storage {mask(storage)!r} can't be opened: {ESCAPE}")


@contextlib.contextmanager
def opening_errors(storage: str) -> Iterator[None]:
    """What SQLAlchemy, its drivers and Optuna, each with errors of their own, raise while a database is opened."""
    try:
        yield
    except Exception as error:
        raise StorageError(
            f"storage {mask(storage)!r} can't be opened ({_reason(error)}); expected a path or an Optuna URL such as "
            "sqlite:///study.db or postgresql://user:password@host/database"
        ) from None


@contextlib.contextmanager
def storage_errors(storage: str) -> Iterator[None]:
    """What the file system or a database raise while a storage is in use, as a StorageError; other errors pass."""
    try:
        yield
    except SearchlibError:
        raise
    except Exception as error:
        from searchlib.stores.databases import reason_of

        if not isinstance(error, OSError) and reason_of(error) is None:
            raise
        raise StorageError(
            f"storage {mask(storage)!r} fails ({_reason(error)}); repair it or free some space, then run the same "
            "command again: what was recorded stays"
        ) from error


def _reason(error: Exception) -> str:
    """The reason that an error of a storage gives, on one line, without a password."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    from searchlib.stores.databases import reason_of

    reason = reason_of(error) or error
    return mask(" ".join(str(reason).split("\n")[0].split())) or type(reason).__name__


def replicates_name(study: Study) -> str:
    """The name of the Optuna study that holds a study's replicates."""
    return f"{study.name}.replicates"


def count_trials(storage: str) -> dict[str, int]:
    """Finished trials by study name. For ``list``, which has no time to import Optuna: a journal is read without it.

    Optuna counts where a line of the journal isn't as expected.
    """
    if not storage_exists(storage):
        return {}
    if not is_url(storage):
        check_journal(Path(storage))
        try:
            return dict(count_in_journal(Path(storage)))
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
    except Exception as error:  # a database's; or anything, from a line of a journal that isn't Optuna's
        raise StorageError(f"storage {mask(storage)!r} can't be read ({mask(' '.join(str(error).split()))})") from None
