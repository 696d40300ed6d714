"""The metric of a sweep, as a trial's process is told it."""

import os

SWEEP_METRIC = "GAN_LIGHTNING_SWEEP_METRIC"
"""Environment variable with the metric's name."""


def sweep_metric() -> str | None:
    """Return the name of the metric of the sweep that this process is a trial of; None outside of one."""
    return os.environ.get(SWEEP_METRIC) or None
