"""MLflow's store: opening it, making its file, and its errors as one line each."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from searchlib.errors import SearchlibError, TrackingError
from searchlib.files import temporary_folder
from searchlib.stores.locks import locked
from searchlib.stores.places import LOCK_FOLDER, real_address, real_path, sqlite_file
from searchlib.text import ESCAPE, mask, misread

if TYPE_CHECKING:
    from mlflow import MlflowClient

DEFAULT = "mlflow.db"


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


def connect(uri: str | None, *, create: bool = True, folder: Path = Path()) -> MlflowClient:
    """A client of the store at *uri*; whatever MLflow raises where it can't be opened.

    create: make the store's file where it isn't there, which takes seconds, under a lock; otherwise it must be there.
    folder: where relative paths begin.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "4")  # 30 s; seven, the default, are four minutes
    _reach_this_machine_directly()
    address = store_address(uri, folder)
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):  # what goes wrong reaches the user as one TrackingError, not as their log
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with contextlib.ExitStack() as held:
        missing = missing_file(address)
        if create and (missing or sqlite_file(address) is None):
            above = missing.parent if missing else folder
            held.enter_context(locked(above / LOCK_FOLDER / "mlflow.lock"))
            if missing and not missing.exists():
                _make_database(missing)
        client = MlflowClient(tracking_uri=address, registry_uri=address)
        client.search_experiments(max_results=1)
    return client


def store_address(uri: str | None, folder: Path) -> str:
    """The address of MLflow's store, such that it means the same place from every folder.

    uri: None is what MLflow was told by its variable or by ``mlflow.set_tracking_uri``, or ``mlflow.db`` in *folder*.
    TrackingError for an address that can be seen to be wrong without MLflow.
    """
    named = uri or _named()
    if misread(named):
        raise TrackingError(f"MLflow store {mask(named)!r} can't be opened: {ESCAPE}")
    if not named:
        files = folder / "mlruns"  # MLflow's default, where there are some
        named = str(files) if _has_files(files) and not (folder / DEFAULT).exists() else f"sqlite:///{DEFAULT}"
    if ("://" not in named and named != "databricks") or named.startswith("file:"):
        parts = urlsplit(named)
        return _folder_of_files(named, real_path(url2pathname(parts.path) if parts.scheme == "file" else named, folder))
    file = sqlite_file(named)
    if file is None:
        return named
    address = real_address(named, folder)
    place = real_path(file, folder)
    if not place.parent.is_dir():
        raise TrackingError(
            f"MLflow store {mask(named)!r}: the folder {mask(str(Path(file).parent))!r} isn't there; create it first"
        )
    if place.is_dir():
        raise TrackingError(f"MLflow store {mask(named)!r} is a folder; expected a file, such as mlflow.db")
    # where the path is quoted, MLflow would make the folder of that name; not if the address names the driver, too
    return address.replace("sqlite://", "sqlite+pysqlite://", 1) if "%" in address else address


def _named() -> str:
    """The store that MLflow was told, "" where it was told none."""
    if "mlflow" in sys.modules:
        from mlflow import get_tracking_uri, is_tracking_uri_set

        if is_tracking_uri_set():
            return str(get_tracking_uri())
    return os.environ.get("MLFLOW_TRACKING_URI", "")


def _has_files(folder: Path) -> bool:
    """Whether a folder is a store of older versions of MLflow, which kept runs as files."""
    return any(folder.glob("[0-9]*/meta.yaml"))


def _folder_of_files(named: str, place: Path) -> str:
    """The address of a store of files, for whom MLflow was told to allow it; TrackingError for others."""
    if os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() in ("true", "1"):
        return place.as_uri()
    if not _has_files(place):
        raise TrackingError(
            f"MLflow store {mask(named)!r} is no address of a store; expected one such as sqlite:///mlflow.db or "
            "http://host:5000"
        )
    command = f"cd {shlex.quote(str(place.parent))} && mlflow migrate-filestore --source {shlex.quote(place.name)}"
    raise TrackingError(
        f"MLflow store {str(place)!r} is a folder of files, as older versions of MLflow wrote it; convert it to a "
        f"database ({command} --target sqlite:///mlflow.db), then give its address with --tracking-uri, "
        f"or run in {str(place.parent)!r}"
    )


def _reach_this_machine_directly() -> None:
    """Have requests to this machine go to it, not to the proxy that variables name."""
    named = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    known = [name.strip() for name in named.split(",")]
    proxies = [name for name, value in os.environ.items() if value and name.lower().endswith("_proxy")]
    if {*map(str.lower, proxies)} - {"no_proxy"} and "*" not in known:
        direct = ",".join(dict.fromkeys(filter(None, [*known, "localhost", "127.0.0.1", "127.0.0.0/8", "::1"])))
        os.environ.update(no_proxy=direct, NO_PROXY=direct)


def missing_file(address: str) -> Path | None:
    """The SQLite file of MLflow's store, if that is one and isn't there."""
    file = sqlite_file(address)
    return Path(file) if file is not None and not os.path.exists(file) else None


def _make_database(path: Path) -> None:
    """Make MLflow's SQLite file in another folder, and link it into its place when it is complete.

    Making it takes seconds, and MLflow can't open a file that a kill left incomplete. (``write_whole`` would replace a
    file that another process has made in the meantime.)
    """
    from mlflow import MlflowClient

    with temporary_folder() as folder:
        made = folder / DEFAULT
        MlflowClient(tracking_uri=store_address(f"sqlite:///{DEFAULT}", folder)).search_experiments(max_results=1)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            shutil.copyfile(made, beside)
            with contextlib.suppress(OSError):  # another process was first, or there are no links here
                os.link(beside, path)
        finally:
            beside.unlink(missing_ok=True)


def is_gone(error: BaseException) -> bool:
    """Whether the error says that a tracking server can't be reached, or can't answer."""
    from requests.exceptions import HTTPError, RequestException

    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, RequestException):
        cause = cause.__cause__ or cause.__context__
    return cause is not None and not isinstance(cause, HTTPError)
