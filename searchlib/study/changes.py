"""Whether a study is still the one that began, and what of it has changed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from searchlib.errors import StudyError
from searchlib.study.study import LATER, Study


def refuse_if_changed(study: Study, stored: Mapping[str, Any]) -> None:
    """StudyError, with what changed, unless *stored*, the definition at the study's first trial, is still its own."""
    now = study.definition()
    before, after = (_flat({k: v for k, v in one.items() if k in stored or k not in LATER}) for one in (stored, now))
    changes = [
        _change(key, before.get(key, "nothing"), after.get(key, "nothing"))
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key) and not (key == "statements" and before.get("code") != after.get("code"))
    ]
    if changes:
        remedy = "save it under a new name to start again, or restore the old file to resume"
        if study.path is None:
            remedy = "give it another name to start again, or restore its definition to resume"
        raise StudyError(f"study {study.name!r} has changed since its first trial ({'; '.join(changes)}); {remedy}")


def _change(key: str, before: Any, after: Any) -> str:
    """What of a definition changed, in words: of code the first line that differs, of a module its name."""
    if key.startswith("modules."):
        other = "was not imported" if before == "nothing" else "had other code"
        return f"module {key.removeprefix('modules.')} {'is gone' if after == 'nothing' else other}"
    if key in ("code", "statements"):
        pairs = itertools.zip_longest(str(before).splitlines(), str(after).splitlines(), fillvalue="")
        before, after = next((pair for pair in pairs if pair[0] != pair[1]), (before, after))
    return f"{key}: {_short(before)} became {_short(after)}"


def _flat(definition: Mapping[str, Any]) -> dict[str, Any]:
    """One entry a field: ``fixed.epochs`` instead of a dict under ``fixed``."""
    flat: dict[str, Any] = {}
    for key, value in definition.items():
        flat |= {f"{key}.{name}": entry for name, entry in value.items()} if isinstance(value, dict) else {key: value}
    return flat


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 120 else text[:117] + "..."
