"""Repairing what MLflow has of a study: runs completed, corrected, written again, deleted and restored."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from searchlib.stores.parent_run import log_definition, open_parent
from searchlib.stores.sqlite_runs import FinishedRun
from searchlib.stores.tracking import Tracker
from searchlib.stores.trial_runs import BATCH, add_run

if TYPE_CHECKING:
    import optuna

REPAIRED = "searchlib.repaired"  # tag: what of a run written again is lost
REPLACES = "searchlib.replaces"  # tag: the id, noted by Optuna, of the run in whose place this one is


def amend_run(
    tracker: Tracker,
    run_id: str,
    *,
    status: str | None = None,
    ended: int | None = None,
    tags: Mapping[str, str] = {},
    params: Mapping[str, str] = {},
    metrics: Sequence[tuple[str, float, int, int]] = (),
) -> None:
    """Give a run a status (with its end in ms, now unless said), tags, parameters, metrics; the rest stays."""
    with tracker.errors("can't be written"):
        from mlflow.entities import Metric, Param, RunTag

        points = [Metric(*metric) for metric in metrics]
        for start in range(0, max(len(points), 1), BATCH):
            tracker.client.log_batch(
                run_id,
                metrics=points[start : start + BATCH],
                params=[Param(name, value) for name, value in params.items()],
                tags=[RunTag(name, value) for name, value in tags.items()],
            )
        if status:
            tracker.client.set_terminated(run_id, status, end_time=ended)


def write_again(tracker: Tracker, run: FinishedRun, lost: str) -> None:
    """Store *run* in the place of the lost one: under its id where the store allows it, and else under a new one.

    A run with a new id is tagged with the old one (``REPLACES``), which is the one that Optuna notes.
    """
    with tracker.errors("can't be written"):
        if tracker.sqlite and lost:
            with contextlib.suppress(sqlite3.IntegrityError):  # the id is taken
                tracker.sqlite.add([run], tracker.parent, [lost])
                return
        add_run(tracker, replace(run, tags={**run.tags, REPLACES: lost}))


def make_parent(tracker: Tracker, optuna_study: optuna.Study) -> None:
    """Open a parent run in the place of a lost one: one found by its tags, or a new one."""
    run_id = open_parent(tracker, optuna_study)
    with tracker.errors("can't be written"):
        log_definition(tracker)
        tracker.client.set_tag(run_id, REPAIRED, "found or made again: data inputs, environment may be lost")


def delete_run(tracker: Tracker, run_id: str) -> None:
    """Delete a run, as MLflow does: ``restore_run`` gets it back."""
    with tracker.errors("can't be written"):
        tracker.client.delete_run(run_id)


def restore_run(tracker: Tracker, run_id: str) -> None:
    """Get a deleted run back."""
    with tracker.errors("can't be written"):
        tracker.client.restore_run(run_id)
