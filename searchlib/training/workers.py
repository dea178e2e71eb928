"""Threads that train stacks side by side, for the search with its pruners and the race of the replicates."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import TYPE_CHECKING

from searchlib.training.precision import get_products, set_products

if TYPE_CHECKING:
    from searchlib.training.deadline import Deadline
    from searchlib.training.run import Run
    from searchlib.training.stack_run import StackRun

__all__ = [
    "Workers",
    "available_cores",
]


MOST_WAITING = 6  # stacks a worker, begun and not yet recorded


class Workers:
    """Threads that train stacks side by side, each stack by one of them, on one core.

    A stack of a few megabytes then stays in the caches of its core, and nothing waits for another core in the middle
    of a step, as it would if each product were spread over all cores. Python's lock hinders little: torch gives it up
    while it works, so only the steps of small stacks wait for it. Use as a context.

    threads: torch's own threads within one operation, for each worker; None leaves them as they are.
    """

    def __init__(self, count: int, *, threads: int | None = 1) -> None:
        self.count, self.threads = count, threads
        self._halt = threading.Event()

    def __enter__(self) -> Workers:
        import torch

        self._threads = torch.get_num_threads()
        self._products = get_products()
        if self.threads is not None:
            torch.set_num_threads(self.threads)  # the workers take it over when they start
        self._pool = ThreadPoolExecutor(self.count, thread_name_prefix="searchlib-worker")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import torch

        self._halt.set()
        self._pool.shutdown()
        torch.set_num_threads(self._threads)
        set_products(self._products)

    def advance(
        self,
        stacks: Iterable[StackRun],
        *,
        deadline: Deadline,
        until: int | None = None,
        room: Callable[[], bool] = lambda: True,
    ) -> Iterator[tuple[StackRun, list[Run]]]:
        """Train each stack to its end, or to epoch *until*; yield it after each epoch, with the runs that went on.

        *stacks* are taken when a worker is free for them and there is *room*. What goes wrong in taking the next one
        is raised when those in training are through. Whoever leaves before the end stops the others in the middle of
        their epochs. OutOfTimeError when the deadline passes. Stacks that multiply in two ways, which torch has one
        setting for, never train at the same time.
        """
        waiting = iter(stacks)
        training: dict[Future[list[Run]], StackRun] = {}
        upcoming: StackRun | None = None
        failure: Exception | None = None
        over, products = False, ""

        def submit(stack: StackRun) -> None:
            deadline.check()
            training[self._pool.submit(stack.advance, self._halt.is_set, until)] = stack

        try:
            while True:
                while not over and len(training) < self.count and (room() or not training):
                    if upcoming is None:
                        try:
                            upcoming = next(waiting, None)
                        except Exception as error:
                            failure = error
                        if upcoming is None:
                            over = True
                            break
                    if upcoming.products != products:
                        if training:
                            break
                        products = upcoming.products
                        set_products(products)
                    submit(upcoming)
                    upcoming = None
                if not training:
                    break
                for future in wait(training, return_when=FIRST_COMPLETED).done:
                    stack = training.pop(future)
                    yield stack, future.result()
                    if stack.alive and (until is None or stack.epoch < until):
                        submit(stack)
        finally:
            self._halt.set()
            wait(training)
            self._halt.clear()
        if failure is not None:
            raise failure

    def finish(
        self, stacks: Iterable[StackRun], *, deadline: Deadline
    ) -> Iterator[tuple[StackRun, list[StackRun], list[StackRun]]]:
        """Train each stack to its end; after each epoch yield its stack, the stacks that are finished, and the others.

        Stacks count as finished in the order in which they came, whichever was first: what is recorded in that order
        doesn't depend on the machine. Where many wait behind a slow one, no more are begun.
        """
        begun: deque[StackRun] = deque()
        over: set[StackRun] = set()

        def note(stack: StackRun) -> StackRun:
            begun.append(stack)
            return stack

        def room() -> bool:
            return len(begun) < MOST_WAITING * self.count

        for stack, _ in self.advance(map(note, stacks), deadline=deadline, room=room):
            finished = []
            if not stack.alive:
                over.add(stack)
                stack.close()  # its memory isn't needed any more, what it found is
            while begun and begun[0] in over:
                finished.append(begun.popleft())
            over.difference_update(finished)
            yield stack, finished, list(begun)


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
