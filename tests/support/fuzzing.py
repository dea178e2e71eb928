"""What fuzz tests have in common: how long they look, bytes with typing errors, and an end to whatever hangs."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

PATIENCE = 20  # seconds, for any one example


def fuzzing(examples: int) -> settings:
    return settings(
        max_examples=examples, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )


@contextlib.contextmanager
def no_hang() -> Iterator[None]:
    def over(*_: object) -> None:
        raise AssertionError(f"no end within {PATIENCE} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def mutated(content: bytes) -> st.SearchStrategy[bytes]:
    """Bytes changed, left out, put in or moved in a few places."""

    def change(edits: list[tuple[int, int, bytes]]) -> bytes:
        changed = content
        for place, length, new in edits:
            place %= len(changed) + 1
            changed = changed[:place] + new + changed[place + length :]
        return changed

    pieces = st.one_of(
        st.sampled_from(b'09-.,()"e\n \0\xff{[').map(lambda character: bytes([character])),
        st.binary(max_size=3),
        st.builds(lambda start, size: content[start : start + size], st.integers(0, len(content)), st.integers(1, 30)),
    )
    edits = st.tuples(st.integers(0, 4 * len(content)), st.integers(0, 4), pieces)
    return st.lists(edits, min_size=1, max_size=4).map(change)
