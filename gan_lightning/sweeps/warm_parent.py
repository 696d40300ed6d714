"""A process that has imported all that trials use, and forks itself for each trial.

It runs no operation of torch: the pools of threads and CUDA begin in the trials. It ends with the process that started
it; its trials go on.
"""

import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

MODULES = (
    "gan_lightning.cli.command",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "PIL.PngImagePlugin",
    "scipy.linalg",
    "scipy.stats",
    "sklearn.datasets",
    "sklearn.model_selection",
    "torchvision.transforms.functional",
    "torchvision.utils",
)
"""What trials use, lightning and torch among them; a missing module is the trial's affair."""

LONGEST = 1 << 22
"""Bytes of the longest request, far above what the system sends at once."""

UNFIT = 3
"""Exit status of a parent that cannot be forked."""


def main(channel: socket.socket) -> None:
    """Import, and fork for each request; return in a forked process alone, which then is the trial's.

    A request is a message of JSON, with `arguments`, `environment` and `folder`, and the descriptors of the output and
    the lock. The answers are messages of JSON: the `pid` of a new process, and its `status` once it has ended.

    Args:
        channel: To the process that asks; it keeps messages apart.

    Raises:
        SystemExit: Nobody is left to fork for, or this process cannot be forked.
    """
    import_all()
    if cuda_has_started():
        raise SystemExit(UNFIT)
    gc.collect()
    gc.freeze()  # the collector would write into pages that the trials share
    woken, wakes = socket.socketpair()
    for end in (woken, wakes):
        end.setblocking(False)
    before = signal.signal(signal.SIGCHLD, lambda number, frame: None), signal.set_wakeup_fd(wakes.fileno())
    while True:
        ready, _, _ = select.select([channel, woken], [], [])
        if woken in ready:
            woken.recv(1024)
        _tell_ends(channel)
        if channel not in ready:
            continue
        request, descriptors, _, _ = socket.recv_fds(channel, LONGEST, 2)
        if not request:
            raise SystemExit(0)  # nobody is left to fork for
        pid, go = _forked()
        if not pid:
            if not os.read(go, 1):
                os._exit(1)  # nobody has heard of this process, so nobody could end it
            os.close(go)
            signal.signal(signal.SIGCHLD, before[0])
            signal.set_wakeup_fd(before[1])
            for end in (woken, wakes, channel):
                end.close()
            _become(json.loads(request), descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)
        if _say(channel, {"pid": pid}):
            os.write(go, b"1")
        os.close(go)


def import_all() -> None:
    """Import what trials use."""
    from gan_lightning.system.lean_imports import without_unused_metrics

    without_unused_metrics()
    for module in MODULES:
        with suppress(ImportError):
            importlib.import_module(module)


def cuda_has_started() -> bool:
    """Return whether CUDA has started in this process; a forked process could not use it then."""
    torch = sys.modules.get("torch")
    return torch is not None and torch.cuda.is_initialized()


def cuda_is_out_of_reach() -> bool:
    """Return whether this forked process cannot use CUDA, and has to become a fresh one."""
    if "torch" not in sys.modules:
        return False
    from gan_lightning.system.private_names import cuda_is_lost_by_forking

    return cuda_is_lost_by_forking()


def _forked() -> tuple[int, int]:
    """Fork; return the new process's id once it leads a session of its own, and 0 in the new process.

    With it comes a descriptor: the new process reads a byte from it that lets it go on, and this one writes that byte.
    """
    told, tells = os.pipe()
    waits, lets_go = os.pipe()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # else both processes would write what is left
    pid = os.fork()
    if pid:
        os.close(tells)
        os.close(waits)
        os.read(told, 1)
        os.close(told)
        return pid, lets_go
    os.setsid()
    os.close(told)
    os.close(tells)
    os.close(lets_go)
    return 0, waits


def _become(request: Mapping[str, Any], descriptors: list[int]) -> None:
    """Give this process what a fresh one would have been started with."""
    output, lock = descriptors  # the input is empty already
    for target in (1, 2):
        os.dup2(output, target)
    os.close(output)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    if cuda_is_out_of_reach():
        os.set_inheritable(lock, True)
        os.execv(sys.executable, [sys.executable, "-m", "gan_lightning", *request["arguments"]])
    sys.path[0] = request["folder"]
    sys.argv = [sys.argv[0], *request["arguments"]]
    if (numbers := sys.modules.get("numpy.random")) is not None:
        numbers.seed()  # each trial would begin with the same ones; Python's own module sees to that itself


def _tell_ends(channel: socket.socket) -> None:
    """Say which forked processes have ended, and how."""
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            _say(channel, {"pid": ended[0], "status": os.waitstatus_to_exitcode(ended[1])})


def _say(channel: socket.socket, answer: Mapping[str, Any]) -> bool:
    """Give an answer; return whether somebody is there to hear it."""
    with suppress(OSError):
        channel.sendall(json.dumps(answer).encode())
        return True
    return False


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv.pop())))
    # As `python -m` would: other processes of a trial are started by the name of its main module.
    runpy.run_module("gan_lightning", run_name="__main__", alter_sys=True)
