"""Frozen dataclasses as plain JSON objects."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any


def plain(value: Any) -> Any:
    """*value* as JSON has it: a dataclass as an object of its fields, no NaN or infinity, no -0.0.

    A field's metadata may give it another name, ``json``, or say that it is left out where it is None, ``optional``.
    """
    if is_dataclass(value):
        return {
            field.metadata.get("json", field.name): plain(item)
            for field in fields(value)
            if (item := getattr(value, field.name)) is not None or not field.metadata.get("optional")
        }
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(value) + 0.0 if math.isfinite(value) else None
    return value
