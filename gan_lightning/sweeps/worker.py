"""The process of a trial: how it is started, with which environment, and how it is ended."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol, runtime_checkable

from gan_lightning.sweeps.forked_worker import forked_worker
from gan_lightning.sweeps.spec import Point, Sweep
from gan_lightning.system.sweep_metric import SWEEP_METRIC
from gan_lightning.system.sweep_trial import RUNS_TO_GO_ON, SWEEP_POINT

POLL_SECONDS = 0.1
GRACE_SECONDS = 20.0
"""Seconds for a trial to end by itself once it was asked to."""

_SHARED = ("WANDB_RUN_ID", "WANDB_RESUME", "WANDB_SERVICE", RUNS_TO_GO_ON)
"""Variables that a trial must not take over.

They would make one W&B run of all trials, let them write through another process's W&B service, or have them go on with
another trial's runs.
"""


@runtime_checkable
class Worker(Protocol):
    """A trial's process. It leads a process group of its own."""

    @property
    def pid(self) -> int:
        """Its id, and its group's."""

    def poll(self) -> int | None:
        """Return its exit status, minus the signal's number where one ended it; None while it runs."""

    def wait(self) -> int:
        """Wait for its end, and return its exit status."""


def start_worker(command: Sequence[str], environment: Mapping[str, str], log: Path, lock: int) -> Worker:
    """Start a trial's process: forked from a parent that has imported already, or fresh where that is not possible.

    The trial has a session of its own. An interrupt of the sweep then does not reach its trials at the same moment, and
    a trial ends together with the processes that it has started.

    Args:
        command: Its arguments; the first three are the interpreter, `-m` and the package, as `trial_command` has them.
        environment: Its whole environment.
        log: File to which its output is appended.
        lock: Descriptor of the trial's lock. The process holds it as long as it lives.
    """
    with log.open("ab") as output:
        if (forked := forked_worker(command, environment, output.fileno(), lock)) is not None:
            return forked
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            pass_fds=(lock,),
        )


def stop_workers(workers: Sequence[Worker]) -> None:
    """Ask processes to end, then make them."""
    for number, seconds in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, GRACE_SECONDS)):
        left = [worker for worker in workers if worker.poll() is None]
        for worker in left:
            with suppress(ProcessLookupError):  # it has ended since
                os.killpg(worker.pid, number)
        deadline = time.monotonic() + seconds
        while any(worker.poll() is None for worker in left) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)


def end_group(pid: int) -> None:
    """End the rest of a process group after its first process has ended."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def trial_environment(
    sweep: Sweep, point: Point, folder: Path, workers: int, goes_on: Sequence[str] | None = None
) -> Mapping[str, str]:
    """Return a trial's environment: the user's, with defaults for variables that trials share or must not share.

    Args:
        sweep: Of the trial.
        point: The trial's parameters.
        folder: The trial's.
        workers: Number of trials at a time.
        goes_on: Names of the run folders that the trial may go on with; None if it begins anew.
    """
    threads = max(1, usable_cores() // workers)  # with more threads than cores torch only waits
    defaults = {
        "OMP_NUM_THREADS": str(threads),
        # A sweep file may ask for W&B's logger. It must not need an account here. `wandb sync` uploads the runs later.
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(folder.absolute()),
        "WANDB_RUN_GROUP": sweep.name,
    }
    own = {name: value for name, value in os.environ.items() if name not in _SHARED}
    named = {
        "WANDB_PROJECT": sweep.project,
        "WANDB_ENTITY": sweep.entity,
        SWEEP_METRIC: (sweep.metric or {}).get("name"),
        RUNS_TO_GO_ON: None if goes_on is None else json.dumps(goes_on),
    }
    asked = {name: value for name, value in named.items() if value is not None}
    return defaults | own | asked | {SWEEP_POINT: json.dumps(point.parameters)}


def usable_cores() -> int:
    """Return the number of cores for this process: a cluster's job often has fewer than the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
