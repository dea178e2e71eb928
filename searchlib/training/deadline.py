"""The time limit of a search."""

from __future__ import annotations

import time


class OutOfTimeError(Exception):
    """The time limit has passed. Ends the search cleanly; callers of ``search`` never see it."""


class Deadline:
    """A time limit in seconds from now; None is no limit."""

    def __init__(self, seconds: float | None) -> None:
        self.at = None if seconds is None else time.monotonic() + seconds

    def check(self) -> None:
        """Raise OutOfTimeError when the time limit has passed."""
        if self.at is not None and time.monotonic() > self.at:
            raise OutOfTimeError
