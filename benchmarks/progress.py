"""Lines on stderr: what is being timed, how far it is, and how long it will still take."""

import sys
import threading
import time
from types import TracebackType

EVERY = 5.0
"""Seconds between two lines."""


class Progress:
    """Says every few seconds what is being timed. A thread says it: a single step may take minutes.

    Args:
        title: Of what is timed.
        seconds: What it may take.
    """

    def __init__(self, title: str, seconds: float) -> None:
        self.title, self.doing = title, "sets up"
        self.started = time.perf_counter()
        self.deadline = self.started + seconds
        self.expected: float | None = self.deadline
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._talk, args=(EVERY,), daemon=True)

    def __enter__(self) -> "Progress":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def left(self) -> float:
        """Seconds until the deadline; negative after it."""
        return self.deadline - time.perf_counter()

    def now(self, doing: str) -> None:
        """Note what is being done."""
        self.doing = doing

    def allow(self, seconds: float) -> None:
        """Move the deadline."""
        self.deadline += seconds

    def expect(self, seconds: float | None) -> None:
        """Note how long it will still take; None if nobody knows."""
        self.expected = None if seconds is None else time.perf_counter() + seconds

    def say(self, text: str) -> None:
        """Write a line."""
        print(f"{self.title}: {text}", file=sys.stderr, flush=True)

    def _talk(self, every: float) -> None:
        while not self._ended.wait(every):
            now = time.perf_counter()
            self.say(f"{self.doing}; {in_words(now - self.started)} so far, {self._rest(now)}")

    def _rest(self, now: float) -> str:
        if self.expected is None:
            return "the rest is not known yet"
        left = self.expected - now
        return f"{in_words(left)} left" if left >= 0 else f"{in_words(-left)} longer than expected"


def in_words(seconds: float) -> str:
    """Return a time with its unit."""
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"
