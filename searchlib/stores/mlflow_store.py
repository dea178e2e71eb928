"""MLflow's store: opening it, making its file, and its errors as one line each."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from searchlib.errors import SearchlibError, TrackingError
from searchlib.stores.locks import LOCK_FOLDER
from searchlib.text import ESCAPE, mask, misread

if TYPE_CHECKING:
    from mlflow import MlflowClient


@contextlib.contextmanager
def tracking_errors(uri: str | None, what: str) -> Iterator[None]:
    """What MLflow and the libraries below it raise, as a TrackingError of one line. what: the store can't do."""
    try:
        yield
    except SearchlibError:
        raise
    except Exception as error:
        reason = str(error).strip() or type(error).__name__
        if uri:
            reason = reason.replace(uri, mask(uri))
        raise TrackingError(
            f"MLflow store {mask(uri or 'mlflow.db')!r} {what} ({mask(reason.splitlines()[0])[:300]}); check "
            "--tracking-uri, the server or the disk, then run the same command again: what was recorded stays"
        ) from None


@contextlib.contextmanager
def without_autologging() -> Iterator[None]:
    """No run of MLflow's for the fits of an analysis, also where a study file or a notebook called mlflow.autolog()."""
    if "mlflow" not in sys.modules:
        yield
        return
    from mlflow.utils.autologging_utils import disable_autologging

    with disable_autologging():
        yield


def connect(uri: str | None, *, create: bool = True) -> MlflowClient:
    """A client of the store at *uri*; whatever MLflow raises where it can't be opened.

    create: make the store's file where it isn't there, which takes seconds, under a lock; otherwise it must be there.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "4")  # 30 s; seven, the default, are four minutes
    check_uri(uri)
    from filelock import FileLock
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):  # what goes wrong reaches the user as one TrackingError, not as their log
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with contextlib.ExitStack() as held:
        if create:
            LOCK_FOLDER.mkdir(exist_ok=True)
            held.enter_context(FileLock(LOCK_FOLDER / "mlflow.lock"))
            if missing := missing_file(uri):
                _make_database(missing)
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_experiments(max_results=1)
    return client


def missing_file(uri: str | None) -> Path | None:
    """The SQLite file of MLflow's store, if that is one and isn't there."""
    from mlflow import get_tracking_uri

    uri = uri or get_tracking_uri()
    place, _, options = uri.removeprefix("sqlite:///").partition("?")
    path = Path(unquote(place))
    return path if uri.startswith("sqlite:///") and not options and not path.exists() else None


def _make_database(path: Path) -> None:
    """Make MLflow's SQLite file in another folder, and link it into its place when it is complete.

    Making it takes seconds, and MLflow can't open a file that a kill left incomplete. (``write_whole`` would replace a
    file that another process has made in the meantime.)
    """
    from mlflow import MlflowClient

    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "mlflow.db"
        MlflowClient(tracking_uri=f"sqlite:///{made}").search_experiments(max_results=1)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            shutil.copyfile(made, beside)
            with contextlib.suppress(OSError):  # another process was first, or there are no links here
                os.link(beside, path)
        finally:
            beside.unlink(missing_ok=True)


def check_uri(uri: str | None) -> None:
    """TrackingError for an address that can be seen to be wrong without MLflow."""
    named = uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    if misread(named):
        raise TrackingError(f"MLflow store {mask(named)!r} can't be opened: {ESCAPE}")
    if named.startswith("sqlite:///"):
        folder = Path(named.removeprefix("sqlite:///")).parent
        if not folder.is_dir():
            raise TrackingError(
                f"MLflow store {mask(named)!r}: the folder {mask(str(folder))!r} isn't there; create it first"
            )


def is_gone(error: BaseException) -> bool:
    """Whether the error says that a tracking server can't be reached, or can't answer."""
    from requests.exceptions import HTTPError, RequestException

    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, RequestException):
        cause = cause.__cause__ or cause.__context__
    return cause is not None and not isinstance(cause, HTTPError)
