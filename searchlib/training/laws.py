"""Whether the activations of a study have what its initializers need, before anything of the study is stored."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from searchlib.errors import StudyError
from searchlib.networks import INITIALIZERS, critical_point, get_initializer, recommended_gain
from searchlib.study import MLP, Study, TrialConfig, encode
from searchlib.training.own_activations import hidden_widths, place_of


def check_laws(study: Study) -> None:
    """Ask for the recommended gain and the critical point of each activation with which the study needs them.

    StudyError where there is none, with the line of a function of the study's own.
    """
    for activation, initializer, gain in _together(study):
        fields = TrialConfig(activation=activation).activation_fields
        law = get_initializer(initializer)
        try:
            if gain == "recommended" and not law.knows_activation and _has_hidden(study):
                recommended_gain(activation, **fields)
            if law is INITIALIZERS["critical"]:
                critical_point(activation, **fields)
        except StudyError as error:
            raise StudyError(place_of(activation) if callable(activation) else "", error.message) from None


def _together(study: Study) -> Iterator[tuple[Any, Any, Any]]:
    """Activation, initializer and init_gain, in each combination that the study may try."""
    names = ("activation", "initializer", "init_gain")
    for values in itertools.product(*(study.possible(name) for name in names)):
        params = dict(zip(names, map(encode, values), strict=True))
        dimensions = [study.dimensions[name] for name in names if name in study.dimensions]
        if all(dimension.active({**study.fixed, **params}) for dimension in dimensions):
            yield values


def _has_hidden(study: Study) -> bool:
    """Whether a layer other than the last may stand in the study's networks."""
    return not isinstance(study.model, MLP) or bool(hidden_widths(study))
