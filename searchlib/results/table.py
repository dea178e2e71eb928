"""The trials of a study as one table, for other programs: CSV, JSON or Parquet. Reads the Optuna storage alone."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from searchlib.analysis import outcome
from searchlib.errors import StudyError
from searchlib.files import output_errors, write_whole
from searchlib.stores import StoredStudy, Stores, replicates_name
from searchlib.study import Study
from searchlib.text import NO_LAYERS, unknown_name

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial
    from pandas import DataFrame

FORMATS = ("csv", "json", "parquet")

BEFORE: dict[str, type] = {"study": str, "number": int, "state": str, "outcome": str}
# between the two: the searched hyperparameters
AFTER: dict[str, type] = {
    "value": float,
    "best_epoch": int,
    "epochs_run": int,
    "seed": int,
    "replicate": int,
    "mlflow_run_id": str,
    "source": int,
    "diagnosis": str,
}


def export(study: Study, stores: Stores, *, format: str, output: Path | None = None) -> str | bytes | Path:
    """The rows of ``table`` as text (parquet: bytes), or written to *output*, whole or not at all: then *output*.

    Of a study of several data sets the rows are those of all of its parts, which the column ``study`` names.

    The same results give the same bytes: there is no time of writing in them, and floats are written so that they are
    read back exactly. (Parquet names the version of its writer, pyarrow: a new one may write other bytes.)

    csv: RFC 4180, but lines end in ``\\n``; UTF-8; names in the first line; true and false; empty where missing
    or None; ``()`` for no hidden layer.
    json: a list of objects, one a line; null where missing.
    parquet: columns of int64, double, boolean or string, with nulls. A hyperparameter's type is that of its
    dimension, whatever was drawn so far; a Choice among strings and numbers is a column of strings, as in csv.

    Raises StudyError for an unknown format, StorageError where the storage can't be read, SearchlibError where *output*
    can't be written.
    """
    if format not in FORMATS:
        raise StudyError(unknown_name("export format", format, FORMATS))
    rows = [row for part in study.parts for row in table(part, stores)]
    names = {name: None for row in rows for name in row}  # of all data sets
    rows = [{**names, **row} for row in rows]
    content: str | bytes
    if format == "parquet":
        content = _parquet(study, rows)
    else:
        content = _csv(_columns(study, rows), rows) if format == "csv" else _json(rows)
    if output is None:
        return content
    with output_errors(output):
        write_whole(output, content.encode() if isinstance(content, str) else content)
    return output


def trial_frame(study: Study, stored: StoredStudy) -> DataFrame:
    """The rows of ``table`` as a pandas frame, with one type a column, as in parquet.

    Whole numbers are Int64 and truth values boolean, which both have room for a missing value.
    """
    from pandas import DataFrame

    rows = _rows(study, stored)
    frame = DataFrame(rows, columns=_columns(study, rows))
    for name in frame.columns:
        kind = _type(study, name, [row[name] for row in rows])
        if kind is str:
            frame[name] = [None if row[name] is None else _text(row[name]) for row in rows]
        frame[name] = frame[name].astype({bool: "boolean", int: "Int64", float: "float64", str: "str"}[kind])
    return frame


def table(study: Study, stores: Stores) -> list[dict[str, Any]]:
    """One row a trial or replicate, sorted by study and number; none for a study that has not begun.

    Each row has the same keys in the same order: ``study``, ``number``, ``state`` (Optuna's), ``outcome``; every
    searched hyperparameter, None where its condition doesn't hold; ``value``, the best validation metric over the
    epochs (of a diverged trial chance level, of a pruned one the metric at which it was stopped, None where there is
    none); ``best_epoch`` (0 if no epoch was finite), ``epochs_run``, ``seed``, ``replicate``, ``mlflow_run_id``;
    ``source``, the number of the search trial that a replicate repeats; ``diagnosis``, the findings about the network
    in words, joined by "; ", "" where it is healthy and None where it wasn't examined.

    Replicates have the study ``<name>.replicates``; all are there, also those of a configuration that no longer
    leads its cell. Of search trials, ``replicate`` and ``source`` are None.
    """
    return _rows(study, stores.read(study))


def _rows(study: Study, stored: StoredStudy) -> list[dict[str, Any]]:
    homes = ((study.name, stored.trials), (replicates_name(study), stored.replicates))
    found = [(name, trial) for name, trials in homes for trial in trials]
    drawn = {name for _, trial in found for name in trial.params} - {"replicate"}
    searched = [*study.dimensions, *sorted(drawn - set(study.dimensions))]  # the file may have changed since
    return [_row(name, trial, searched) for name, trial in found]


def _row(name: str, trial: FrozenTrial, searched: Sequence[str]) -> dict[str, Any]:
    attributes = trial.user_attrs
    value = trial.values[0] if trial.values and trial.state.is_finished() else math.nan
    diagnosis = attributes.get("diagnosis")
    return {
        "study": name,
        "number": trial.number,
        "state": trial.state.name,
        "outcome": outcome(trial),
        **{parameter: trial.params.get(parameter) for parameter in searched},
        "value": float(value) if math.isfinite(value) else None,  # JSON has no infinity
        "best_epoch": attributes.get("best_epoch"),
        "epochs_run": attributes.get("epochs_run"),
        "seed": attributes.get("seed"),
        "replicate": trial.params.get("replicate"),
        "mlflow_run_id": attributes.get("mlflow_run_id"),
        "source": attributes.get("source"),
        "diagnosis": None if diagnosis is None else "; ".join(diagnosis),
    }


def _columns(study: Study, rows: Sequence[dict[str, Any]]) -> list[str]:
    return list(rows[0]) if rows else [*BEFORE, *study.dimensions, *AFTER]


def _csv(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> str:
    lines: list[str] = []
    sink = SimpleNamespace(write=lambda line: lines.append(line.removesuffix("\r\n") + "\n"))
    writer = csv.writer(sink, lineterminator="\r\n")  # Python 3.11 quotes the line ends named here, no others
    named = ([_field(*item) for item in row.items()] for row in rows)
    writer.writerows([columns, *named])
    return "".join(lines)


def _field(name: str, value: Any) -> str:
    return NO_LAYERS if name == "hidden" and value == "" else _text(value)


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "", False: "false", True: "true"}[value]
    return repr(value) if isinstance(value, float) else str(value)


def _json(rows: Sequence[dict[str, Any]]) -> str:
    lines = ",\n".join(json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
    return f"[\n{lines}\n]\n" if rows else "[]\n"


def _parquet(study: Study, rows: Sequence[dict[str, Any]]) -> bytes:
    import pyarrow
    from pyarrow import parquet

    arrow = {bool: pyarrow.bool_(), int: pyarrow.int64(), float: pyarrow.float64(), str: pyarrow.string()}
    arrays = {}
    for name in _columns(study, rows):
        values = [row[name] for row in rows]
        kind = _type(study, name, values)
        if kind is str:
            values = [None if value is None else _text(value) for value in values]
        arrays[name] = pyarrow.array(values, arrow[kind])
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.table(arrays), buffer, compression="snappy", version="2.6", store_schema=False)
    return buffer.getvalue()


def _type(study: Study, name: str, values: Iterable[Any]) -> type:
    """The one type that a column has room for: of the dimension's values and of those stored, else str."""
    kinds: set[type] = {type(value) for value in values}
    if name in BEFORE or name in AFTER:
        kinds.add(BEFORE.get(name) or AFTER[name])
    elif name in study.dimensions:
        dimension = study.dimensions[name]
        kinds |= {type(value) for value in dimension.values() or (dimension.at(0.0), dimension.at(0.5))}
    kinds.discard(type(None))
    if kinds == {int, float}:
        return float
    return kinds.pop() if len(kinds) == 1 and kinds < {bool, int, float, str} else str
