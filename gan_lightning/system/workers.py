"""Work that several processes share; they end with the process that started them."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any, TypeVar

Thing = TypeVar("Thing")
Result = TypeVar("Result")

GROUP = 32
"""Things that a process gets at a time: the exchange of one costs as much as that of many."""

_work: Callable[[Any], Any] | None = None
"""The work of this process, if it is one of those that share it."""


def processors() -> int:
    """Return the number of processors that this process may use; 1 on systems that cannot fork, or not safely."""
    if sys.platform == "darwin" or "fork" not in multiprocessing.get_all_start_methods():
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def shared_work(
    work: Callable[[Thing], Result], processes: int, closed: Sequence[int] = ()
) -> Iterator[Callable[[Iterable[Thing]], Iterator[Result]]]:
    """Yield a function that gives the results of work in the order of the things; the first error ends it.

    No more results wait than the processes make in two rounds.

    Args:
        work: Computes without torch, since the processes are forked. Things and results have to be picklable.
        processes: How many; with one or none, this process does the work itself.
        closed: Descriptors that the processes must not keep open, such as those of locks.

    Raises:
        BrokenProcessPool: A process was ended from outside.
    """
    if processes < 2:
        yield partial(map, work)
        return
    begin = (work, os.getpid(), tuple(closed))
    with ProcessPoolExecutor(processes, multiprocessing.get_context("fork"), _begin, begin) as pool:
        # The first task starts all processes, before other threads take locks that would be copied as they are.
        pool.submit(_share, []).result()
        try:
            yield partial(_in_order, pool, 2 * processes)
        finally:
            pool.shutdown(cancel_futures=True)


def _in_order(pool: ProcessPoolExecutor, most: int, things: Iterable[Any]) -> Iterator[Any]:
    """Yield the results of a pool; at most so many groups of things wait or are worked on."""
    rest = iter(things)
    waiting: deque[Future[list[Any]]] = deque()
    while group := list(islice(rest, GROUP)):
        waiting.append(pool.submit(_share, group))
        if len(waiting) == most:
            yield from waiting.popleft().result()
    while waiting:
        yield from waiting.popleft().result()


def _begin(work: Callable[[Any], Any], parent: int, closed: tuple[int, ...]) -> None:
    """Set up a forked process."""
    global _work
    _work = work
    # An interrupted run ends its processes itself, in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for descriptor in closed:
        os.close(descriptor)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process soon after its parent, which may have been killed."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


def _share(things: list[Any]) -> list[Any]:
    assert _work is not None
    return [_work(thing) for thing in things]
