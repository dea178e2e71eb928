"""Stores opens each place once, reading creates nothing, and errors of a storage in use are StorageErrors."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from support import prepare, run, small_study

from searchlib.errors import StorageError, TrackingError
from searchlib.stores import mlflow_store, stores
from searchlib.stores.stores import StoredStudy, Stores

PLACES = {  # what opens it, and what asks for it
    "optuna": (stores, "open_storage", lambda shared: shared.optuna_storage),
    "mlflow": (mlflow_store, "connect", lambda shared: shared.mlflow_client(small_study())),
    "data": (stores, "load_train", lambda shared: shared.examples(small_study())),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_place_is_opened_once_whichever_thread_asks_first(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare()
    where, name, ask = PLACES[place]
    opening, calls = getattr(where, name), []

    def slowly(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        time.sleep(0.1)
        return opening(*arguments, **options)

    monkeypatch.setattr(where, name, slowly)
    shared, got = Stores(), []
    threads = [threading.Thread(target=lambda: got.append(ask(shared))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert all(one is got[0] for one in got)
    assert len(got) == 4


def test_another_split_is_made_when_another_is_asked_for() -> None:
    prepare()
    shared = Stores()
    first, second = shared.examples(small_study()), shared.examples(small_study(split_seed=1))
    assert first.train.digest != second.train.digest
    assert shared.examples(small_study()).train.digest == first.train.digest


def test_what_could_not_be_opened_is_tried_again() -> None:
    shared = Stores("folder/optuna.journal")
    with pytest.raises(StorageError, match="isn't there"):
        _ = shared.optuna_storage
    Path("folder").mkdir()
    assert shared.optuna_storage is shared.optuna_storage


def test_reading_creates_nothing() -> None:
    study, empty = small_study(), Stores()
    assert empty.read(study) == StoredStudy()
    assert empty.at_work(study.name) is False
    with pytest.raises(StorageError, match="'small' has not begun: .*searchlib optimize --study small"):
        empty.begun(study)
    with pytest.raises(TrackingError, match=r"mlflow\.db' isn't there; .*searchlib verify --study small --repair"):
        empty.mlflow_client(study)
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("error", "expected"),
    [(OSError(28, "No space left on device"), StorageError), (ZeroDivisionError("a bug"), ZeroDivisionError)],
)
def test_an_error_of_the_storage_in_use(
    error: Exception, expected: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug stays what it is."""
    study, shared = small_study(trials=4), Stores()
    run(study)

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(type(shared.optuna_storage), "get_all_trials", fail)
    with pytest.raises(expected) as caught:
        shared.read(study)
    if expected is StorageError:
        assert str(caught.value).startswith("storage 'optuna.journal' fails (No space left on device); ")
