"""The states of a sweep's trials, and how a sweep stands in words, for all that shows it."""

from collections import Counter
from collections.abc import Sequence

ENDED = ("finished", "stopped")
"""States of a completed trial: run to its end, or given up by early stopping."""


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
