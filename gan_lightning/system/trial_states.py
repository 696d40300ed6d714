"""The states of a sweep's trials and of runs, and how a sweep stands in words, for all that shows it."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from gan_lightning.system.locks import is_locked

TRIAL_LOCK, RUN_LOCK = ".lock", ".running"
"""Files in a trial's and in a run's folder that their processes hold locked; every end of a process ends the lock."""

ENDED = ("finished", "stopped")
"""States of a completed trial: run to its end, or given up by early stopping."""


def state_of(status: str, attempts: int, folder: Path) -> str:
    """Return a trial's state: its status, unless this is `running` and no process holds the trial.

    Such a trial is `killed`, since its runner has left it so, or `chosen` if it never began.

    Args:
        status: That its record states.
        attempts: Number of its starts.
        folder: The trial's folder.
    """
    if status != "running":
        return status
    return "running" if is_locked(folder / TRIAL_LOCK) else "killed" if attempts else "chosen"


def is_going_on(run_folder: Path) -> bool:
    """Return whether the process of the run in this folder still runs."""
    return is_locked(run_folder / RUN_LOCK)


def in_words(states: Sequence[str], total: int | None) -> str:
    """Return how a sweep stands: `8 of 15, 2 running, 1 failed`.

    Args:
        states: Of its trials.
        total: Number of its trials, if it is known.
    """
    counts = Counter(states)
    ended = sum(counts[state] for state in ENDED)
    early = [f"{counts['stopped']} of them stopped early"] if counts["stopped"] else []
    others = [f"{counts[state]} {state}" for state in ("running", "failed", "killed") if counts[state]]
    return ", ".join([str(ended) if total is None else f"{ended} of {total}", *early, *others])


def stopped_in_words(number: int, best: str | None) -> str:
    """Return what stands beside the best trial of a search on those that early stopping gave up; empty for none.

    Args:
        number: Of trials that were stopped early. None of them counts as the best.
        best: The best of their last values, if one is known.
    """
    if not number:
        return ""
    which, s = (", last", "") if number == 1 else (", the best of them last", "s")
    return f"{number} further trial{s} stopped early{f'{which} at {best}' if best else ''}."
