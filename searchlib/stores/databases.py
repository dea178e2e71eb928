"""Databases as Optuna's storage: a server that restarts is waited for, and PostgreSQL keeps a lock for all hosts."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage, get_storage
from optuna.storages._rdb.models import TrialModel
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, PendingRollbackError, SQLAlchemyError
from sqlalchemy.orm import Session

PATIENCE = 60.0  # seconds that a server may be away
PAUSE = 0.2  # seconds between two tries
BOTH_MADE_IT = re.compile("already exists|UNIQUE constraint|duplicate key")  # said of tables by databases


def reason_of(error: Exception) -> Exception | None:
    """The driver's own error below one of SQLAlchemy's or Optuna's; None for an error that isn't a database's."""
    if isinstance(error, StorageInternalError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    if isinstance(error, DBAPIError) and isinstance(error.orig, Exception):
        return error.orig
    return error if isinstance(error, (SQLAlchemyError, StorageInternalError)) else None


def open_database(url: str) -> BaseStorage:
    """Optuna's storage in a database; where it can't be opened, whatever the libraries raise.

    A server that goes away afterwards is waited for, PATIENCE seconds, and what failed with the connection is done
    again; after that the driver's error is raised.
    """
    if url.startswith("redis"):
        return get_storage(url)  # which Optuna refuses in its own words
    since = time.monotonic()
    while True:
        try:
            if url.startswith("sqlite"):  # by default it waits for other writers for five seconds
                patience = {} if "timeout=" in url else {"connect_args": {"timeout": PATIENCE}}
                return get_storage(RDBStorage(url, engine_kwargs=patience))
            server = _Server(url, engine_kwargs={"pool_pre_ping": True})
            _wait_in_future(server.engine)
            return get_storage(server)
        except Exception as error:  # Optuna makes its tables without a lock: if another process does, try again
            if not BOTH_MADE_IT.search(str(error)) or time.monotonic() - since > PATIENCE:
                raise
            time.sleep(0.05)


def _wait_in_future(engine: sqlalchemy.Engine) -> None:
    """Make *engine* try again where a new connection is refused. It has connected once, so the URL is right."""
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)  # a lost connection is no news for the user's log
    away_since: float | None = None

    def connect(
        dialect: sqlalchemy.Dialect, _record: object, arguments: Sequence[Any], options: Mapping[str, Any]
    ) -> Any:
        nonlocal away_since
        while True:
            try:
                connection = dialect.connect(*arguments, **options)
            except dialect.loaded_dbapi.Error:
                now = time.monotonic()
                away_since = away_since or now  # of the whole outage: the calls share one patience
                if now - away_since > PATIENCE:
                    raise
                time.sleep(PAUSE)
            else:
                away_since = None
                return connection

    event.listen(engine, "do_connect", connect)


def _connection_lost(error: StorageInternalError) -> bool:
    cause = error.__cause__
    if isinstance(cause, PendingRollbackError):  # Optuna continued its transaction
        return True
    return isinstance(cause, DBAPIError) and cause.connection_invalidated


def _again(method: Callable[..., Any]) -> Callable[..., Any]:
    """*method*, called again while connections are lost, until PATIENCE seconds after the first loss."""

    @functools.wraps(method)
    def call(*arguments: Any, **options: Any) -> Any:
        lost_at: float | None = None
        while True:
            try:
                return method(*arguments, **options)
            except StorageInternalError as error:
                lost_at = lost_at or time.monotonic()
                if not _connection_lost(error) or time.monotonic() - lost_at > PATIENCE:
                    raise

    return call


class _Server(RDBStorage):
    """A storage that repeats, on a new connection, what the loss of a connection interrupted.

    Most calls may be repeated. The others check first whether the server did its work before it could confirm it.
    """

    _in_doubt: int | None = None  # id of a trial whose creation the server hasn't confirmed

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        asked = 0

        @_again
        def tell() -> bool:
            nonlocal asked
            asked += 1
            try:
                return RDBStorage.set_trial_state_values(self, trial_id, state, values)
            except UpdateFinishedTrialError:
                if asked == 1:
                    raise
                return True

        return bool(tell())

    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        self._in_doubt = None
        trial: FrozenTrial = _again(super()._create_new_trial)(study_id, template_trial)
        return trial

    def _get_prepared_new_trial(self, study_id: int, template_trial: FrozenTrial | None, session: Session) -> Any:
        """Runs in a transaction that has locked the study's row, so an earlier one has ended."""
        if self._in_doubt is not None:
            made = session.get(TrialModel, self._in_doubt)
            if made is not None and made.study_id == study_id:  # after a crash another process may have got the id
                return made
        made = super()._get_prepared_new_trial(study_id, template_trial, session)
        self._in_doubt = int(made.trial_id)
        return made


for _name in (
    "create_new_study",  # callers take the study that is there by then
    *("get_study_id_from_name", "get_study_name_from_id", "get_study_directions", "get_all_studies"),
    *("get_study_user_attrs", "get_study_system_attrs", "set_study_user_attr", "set_study_system_attr"),
    *("get_trial", "_get_trials", "_get_best_trial_id", "get_trial_id_from_study_id_trial_number"),
    *("set_trial_intermediate_value", "set_trial_user_attr", "set_trial_system_attr"),
):
    setattr(_Server, _name, _again(getattr(RDBStorage, _name)))


class AdvisoryLock:
    """A lock on a PostgreSQL server: of all sessions of its database that take *name*, one has it; others learn which.

    It belongs to a connection of its own and is released with it, in whatever way the process or its host ended. A
    server that was restarted has forgotten it: ``check`` takes it again.
    """

    def __init__(self, url: str, name: str) -> None:
        digest = hashlib.sha256(name.encode()).digest()
        self.key = {"first": int.from_bytes(digest[:4], "big") >> 1, "second": int.from_bytes(digest[4:8], "big") >> 1}
        self.owner = ""
        self._lost: str | None = None  # to whom
        self._engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, isolation_level="AUTOCOMMIT")
        self._connection: sqlalchemy.Connection | None = None

    def acquire(self, owner: str) -> str | None:
        """None where the lock is ours now; else its owner. *owner* is what others see, 63 bytes of it."""
        if self._connection is None:
            self._connection = self._engine.connect()
            if not self.owner:
                _wait_in_future(self._engine)
            self.owner = owner
            self._ask("SELECT set_config('application_name', :owner, false)", {"owner": owner[:63]})
        if self._ask("SELECT pg_try_advisory_lock(:first, :second)", self.key):
            return None
        return str(
            self._ask(
                "SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' "
                "AND granted AND CAST(classid AS bigint) = :first AND CAST(objid AS bigint) = :second AND objsubid = 2 "
                "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
                self.key,
            )
            or ""
        )

    def check(self) -> str | None:
        """None while the lock is ours, or is again after a restart of the server; else, for good, who took it."""
        lost_at: float | None = None
        while self._lost is None:
            try:
                if self._connection is not None:
                    self._ask("SELECT 1", {})
                    return None
                self._lost = self.acquire(self.owner)
                if self._lost is None:
                    return None
            except DBAPIError as error:
                lost_at = lost_at or time.monotonic()
                if not error.connection_invalidated or time.monotonic() - lost_at > PATIENCE:
                    raise
                self._leave()
        return self._lost

    def release(self) -> None:
        self._leave()
        self._engine.dispose()

    def _ask(self, statement: str, values: Mapping[str, Any]) -> Any:
        assert self._connection is not None
        return self._connection.execute(sqlalchemy.text(statement), values).scalar()

    def _leave(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(SQLAlchemyError):
                connection.close()
