"""A configuration that was put into Optuna's queue by ``enqueue_trial``: whether the study can train it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from searchlib.errors import StudyError
from searchlib.study.space import Primitive, encode
from searchlib.study.study import Study
from searchlib.text import unknown_name


def check_enqueued(study: Study, given: Mapping[str, Any]) -> dict[str, Primitive]:
    """The (encoded) values of the searched hyperparameters that *given* names; others are left to the sampler.

    StudyError for an unknown hyperparameter, for another value of a fixed one, for a value outside of the space, and
    for one whose condition doesn't hold or depends on what isn't given.
    """
    checked: dict[str, Primitive] = {}
    for name, value in given.items():
        if name in study.dimensions:
            try:
                checked[name] = study.dimensions[name].checked(value)
            except StudyError as error:
                raise StudyError(f"{name}={value!r}: {error}") from None
        elif name not in study.fixed:
            raise StudyError(unknown_name("hyperparameter", name, study.dimensions))
        elif encode(study.fixed[name]) != encode(value):
            raise StudyError(f"{name}={value!r}: the study fixes {name}={study.fixed[name]!r}")
    known = {**study.fixed, **checked}
    for name in checked:
        dimension = study.dimensions[name]
        if not dimension.active(known):
            wanted = " and ".join(
                f"{other} {' or '.join(map(repr, values))}" for other, values in dimension.condition.items()
            )
            raise StudyError(f"{name}={checked[name]!r}: it exists only beside {wanted}; enqueue these together")
    return checked
