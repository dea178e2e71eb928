"""The end of the time that a search was given."""

from __future__ import annotations

import time


class OutOfTimeError(Exception):
    """The time given by ``timeout`` is over; it ends the work, and nobody outside sees it."""


class Deadline:
    """The end of the time given, in seconds from now; None is never."""

    def __init__(self, seconds: float | None) -> None:
        self.at = None if seconds is None else time.monotonic() + seconds

    def check(self) -> None:
        """Raise OutOfTimeError once the time is over."""
        if self.at is not None and time.monotonic() > self.at:
            raise OutOfTimeError
