"""SIGINT, SIGTERM and SIGHUP alike: the first ends the work in good order, another one the process."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from types import FrameType

INTERRUPTED = 130  # the exit status
ONE_SECOND = 1.0  # signals within it are one: a closed terminal sends two, and so does timeout(1)


def interrupt_on_signals() -> Sequence[float]:
    """From now on the first of the signals raises KeyboardInterrupt in the main thread; its time is then in the result.

    Another one, later than a second, ends the process on the spot: the stores are as good as after any kill. A signal
    that whoever started the process has it ignore (nohup: SIGHUP; a script's background job: SIGINT) stays ignored.
    """
    first: list[float] = []

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        if not first:
            first.append(time.monotonic())
            raise KeyboardInterrupt
        if time.monotonic() - first[0] > ONE_SECOND:
            with contextlib.suppress(OSError):
                os.write(2, b"\nInterrupted again: ended at once; what was recorded is saved\n")
            os._exit(INTERRUPTED)

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
            signal.signal(number, interrupt)
    return first
