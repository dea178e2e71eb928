"""Threads that train stacks in parallel, in the search and in the race of the replicates."""

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


MOST_WAITING = 6  # stacks for each worker, begun and not yet recorded


class Workers:
    """Threads that train stacks in parallel, each stack on one thread and one core. A context manager.

    A stack of a few megabytes then stays in the cache of its core, and no core waits for another within a step, as it
    would if each matrix product were spread over all cores. Python's global lock matters little: torch releases it
    while it computes, so only small stacks wait for it.

    threads: torch's threads within one operation, for each worker; None leaves the setting unchanged.
    """

    def __init__(self, count: int, *, threads: int | None = 1) -> None:
        self.count, self.threads = count, threads
        self._halt = threading.Event()

    def __enter__(self) -> Workers:
        import torch

        self._threads = torch.get_num_threads()
        self._products = get_products()
        if self.threads is not None:
            torch.set_num_threads(self.threads)  # the workers copy it when they start
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
        """Train each stack to its end, or to epoch *until*; yield it after each epoch, with its runs still in training.

        The next of *stacks* is taken when a worker is free and *room* returns True. An error in taking it is raised
        when the stacks in training have finished. Closing the generator early stops them in the middle of their
        epochs. Stacks of different matrix product precision never train at the same time, since torch has one setting
        for the whole process.

        Raises OutOfTimeError when the deadline passes.
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
        """Train each stack to its end; after each epoch yield its stack, newly finished stacks, and those not finished.

        Stacks are yielded as finished in the order of *stacks*, so that the order of records doesn't depend on the
        machine's speed. When many wait for a slow one, no more are begun.
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
                stack.close()  # frees its memory; its results stay
            while begun and begun[0] in over:
                finished.append(begun.popleft())
            over.difference_update(finished)
            yield stack, finished, list(begun)


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
