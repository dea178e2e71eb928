"""The data sets of a study that has several: which may stand together, and what the parts of the study are called."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from searchlib.data import Dataset, get_dataset
from searchlib.errors import StudyError

NAME = re.compile(r"\w[\w.-]{0,99}")  # of a study: it becomes part of file names, of addresses and of queries
NAME_RULE = "expected a name of at most 100 letters, digits, '_', '-' and '.', with a letter, digit or '_' first"


def check_datasets(datasets: Any, study: str) -> None:
    """StudyError unless *datasets* are two or more data sets of one task, whose names can end that of a part.

    study: the name of the study.
    """
    if not isinstance(datasets, (tuple, list)) or not all(isinstance(one, (str, Dataset)) for one in datasets):
        raise StudyError(
            f"datasets={datasets!r}: expected several names or Datasets, such as ('fashion_mnist', 'mnist')"
        )
    if len(datasets) < 2:
        raise StudyError("datasets: expected two or more; write a single one as dataset=...")
    found = [get_dataset(one) for one in datasets]
    names = [one.name for one in found]
    if doubled := [name for name, count in Counter(names).items() if count > 1]:
        raise StudyError(f"datasets: {doubled[0]!r} occurs more than once; expected different data sets")
    if len({one.task for one in found}) > 1:
        tasks = ", ".join(f"{one.name} ({one.task})" for one in found)
        raise StudyError(f"datasets: {tasks}; expected data sets of one task, as the cells are compared across them")
    for name in names:
        if not NAME.fullmatch(f"{study}.{name}") or f".{name}".endswith(".replicates"):
            part = f"{study}.{name}"
            raise StudyError(f"datasets: {part!r} can't be the name of a study; give the data set another name")
