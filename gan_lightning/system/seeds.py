"""The seed of a run: what Lightning's `seed_everything` was given."""

import os

VARIABLE = "PL_GLOBAL_SEED"
"""Environment variable in which Lightning keeps the seed, also for the processes that it starts."""


def run_seed() -> int | None:
    """Return the run's seed; None if nothing was seeded."""
    return int(os.environ[VARIABLE]) if VARIABLE in os.environ else None


def own_or_run_seed(own: int | None) -> int:
    """Return a seed of one's own if there is one, else the run's; 0 if nothing was seeded.

    Args:
        own: The setting `seed`; None follows the run.
    """
    return own if own is not None else run_seed() or 0
