"""Texts for people: parameters, numbers, unknown names, and secrets masked."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any


def unknown_name(kind: str, given: object, known: Iterable[str]) -> str:
    """Say that *given* is no known *kind*, and name the nearest ones.

    >>> unknown_name("activation", "rellu", ["relu", "tanh"])
    "unknown activation 'rellu'; did you mean relu? Known: relu, tanh"
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(given), names, n=3, cutoff=0.5)
    hint = f"; did you mean {', '.join(near)}?" if near else "."
    return f"unknown {kind} {str(given)!r}{hint} Known: {', '.join(names) or 'none'}"


def encode_for_message(value: Any) -> str:
    """A value as error messages show it: a function by its name, anything else by its repr."""
    return str(getattr(value, "__name__", repr(value))) if callable(value) else repr(value)


NO_LAYERS = "()"
ESCAPE = "its password isn't escaped; write %40 for @, %2F for /, %3A for :, %23 for # and %3F for ?"


def mask(text: str) -> str:
    """A storage, a tracking URI, or an error that quotes one, with ``***`` in place of secrets.

    Secrets are the password of a URL, up to the last @ of the word, as people write @ and / into passwords; what is
    alone before the @ of a web address, as a token is; and the values of parameters with the name of a secret.
    """
    shown = re.sub(r"(?s)^([\w+.-]+:/+[^:/@]*):.*@", r"\1:***@", text)  # a text that is one URL may have spaces in it
    shown = re.sub(r"(\w:/+[^:/@\s]*):\S*@", r"\1:***@", shown)
    shown = re.sub(r"((?:^|[\s'\"(=/])[^:/@\s'\"(=]*):(?!/)\S*@", r"\1:***@", shown)  # a URL that isn't one
    shown = re.sub(r"(https?:/+)[^:/@\s]+@", r"\1***@", shown)
    return re.sub(r"(?i)((?:pass|pwd|secret|token|key|credential)\w*=)[^&;\s'\"]*", r"\1***", shown)


def misread(url: str) -> bool:
    """Whether libraries take a part of the URL's password for its host, and so would show it in their errors."""
    userinfo, at, _ = url.partition("://")[2].rpartition("@")
    user, colon, password = userinfo.partition(":")
    return bool(at and colon and "/" not in user) and any(
        character in password for character in ("@/?#" if url.startswith("http") else "@")
    )


def in_words(value: object) -> str:
    """A hyperparameter's value as people read it: ``()`` for the widths of no hidden layer, which are stored as ""."""
    return NO_LAYERS if value == "" else str(value)


def describe(values: Mapping[str, Any]) -> str:
    """Parameters in one line: ``relu, kaiming_normal, learning_rate 0.0312, batch_size 64``."""
    return ", ".join(
        in_words(value)
        if isinstance(value, str)
        else f"{name} {value:.3g}"
        if isinstance(value, float)
        else f"{name} {value}"
        for name, value in values.items()
    )


def number(value: float | None, metric: str) -> str:
    """Four decimals of an accuracy, three significant digits of anything else."""
    if value is None:
        return "–"
    return f"{value:.4f}" if metric.endswith("_accuracy") else f"{value:#.3g}".rstrip(".")


def is_legible(text: str) -> bool:
    """Whether every store can hold *text* and every terminal show it: no control characters, no half characters."""
    return not any(unicodedata.category(character) in ("Cc", "Cs") and not character.isspace() for character in text)
