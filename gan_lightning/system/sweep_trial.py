"""What `gan-lightning sweep` tells the process of a trial by its environment, besides the metric."""

import json
import os
from collections.abc import Sequence

SWEEP_POINT = "GAN_LIGHTNING_SWEEP_POINT"
"""Environment variable with a trial's parameters, as JSON."""

RUNS_TO_GO_ON = "GAN_LIGHTNING_RUNS_TO_GO_ON"
"""Environment variable with the names of the run folders that a killed trial may go on with, as JSON."""


def is_a_trial() -> bool:
    """Return whether this process is a trial of `gan-lightning sweep`."""
    return SWEEP_POINT in os.environ


def runs_to_go_on() -> Sequence[str] | None:
    """Return the names of the run folders since this trial last began anew; None if nobody has told them."""
    told = os.environ.get(RUNS_TO_GO_ON)
    return None if told is None else list(json.loads(told))
