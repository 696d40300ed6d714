"""How a sweep stands: the time that it will still take, and a bar."""

import heapq
import time
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from gan_lightning.sweeps.trials import Trial, read_trials
from gan_lightning.system.trial_states import ENDED, in_words

LOOK_SECONDS = 2.0
"""Seconds between two looks at the trials, those of other machines included."""


def seconds_left(trials: Sequence[Trial], total: int, workers: int, now: datetime) -> float | None:
    """Return the seconds until a sweep will have ended; None before its first trial has.

    A trial takes as long as those that have ended did on average. Whichever worker is free takes the next one.

    Args:
        trials: Its trials, with the time that each has taken.
        total: Number of its trials.
        workers: Trials at a time here; more may run elsewhere.
        now: The time.
    """
    taken = [trial.seconds for trial in trials if trial.status in ENDED and trial.seconds is not None]
    if not taken:
        return None
    mean = sum(taken) / len(taken)
    begun = [trial.started for trial in trials if trial.state == "running" and trial.started]
    passed = [(now - datetime.fromisoformat(started)).total_seconds() for started in begun]
    ends = [max(mean - seconds, 0.0) for seconds in passed]
    ends += [0.0] * (workers - len(ends))
    heapq.heapify(ends)
    over = sum(trial.status in (*ENDED, "failed") for trial in trials)
    for _ in range(total - over - len(begun)):
        heapq.heapreplace(ends, ends[0] + mean)
    return max(ends)


class SweepBar:
    """A bar with a sweep's progress, the time that has passed and the time that is left.

    Args:
        name: The sweep's.
        folder: Its folder.
        total: Number of its trials, if it is known.
        chosen: Ids of the trials to count; None counts all.
        workers: Trials at a time.
        console: The console to draw on.
    """

    def __init__(
        self, name: str, folder: Path, total: int | None, chosen: Collection[str] | None, workers: int, console: Console
    ) -> None:
        self.folder, self.total, self.chosen, self.workers = folder, total, chosen, workers
        self._looked = 0.0
        self.bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[stands]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}", markup=False),
            console=console,
        )
        self._bar = self.bars.add_task(name, total=total, stands="", left="")

    def trials(self) -> list[Trial]:
        """Return the counted trials."""
        return [trial for trial in read_trials(self.folder) if self.chosen is None or trial.id in self.chosen]

    def update(self) -> None:
        """Read the trials, and draw how they stand."""
        self._looked = time.monotonic()
        trials = self.trials()
        left = None if self.total is None else seconds_left(trials, self.total, self.workers, datetime.now(UTC))
        self.bars.update(
            self._bar,
            completed=sum(trial.status in ENDED for trial in trials),
            stands=in_words([trial.state for trial in trials], self.total),
            left="" if left is None else f"{timedelta(seconds=round(left))} left",
        )

    def look(self) -> None:
        """Update the bar if the last time is long enough ago."""
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self.update()
