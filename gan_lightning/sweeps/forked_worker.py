"""Trials that are forked from a warm parent, which has imported for all of them; see `warm_parent`."""

import errno
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL

from gan_lightning.system.sweep_trial import RUNS_TO_GO_ON, SWEEP_POINT

FRESH = "GAN_LIGHTNING_FRESH_TRIALS"
"""Environment variable that has every trial started as a fresh process."""

OF_A_TRIAL = (SWEEP_POINT, RUNS_TO_GO_ON, "WANDB_DIR")
"""Environment variables that differ between trials. They are read long after the start of a process."""

LEAVES_CUDA_ALONE = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
"""Environment of a parent, in which torch looks for cards without starting CUDA."""

PROGRAM = ["-m", "gan_lightning"]
"""What a warm parent can be forked for; it has imported this alone."""

PARENT = ["-m", "gan_lightning.sweeps.warm_parent"]
"""How the interpreter is called for a warm parent."""


class WarmParent:
    """A process that forks itself for trials.

    Args:
        environment: Of the process. Some variables are read at the start alone, such as `OMP_NUM_THREADS`.

    Raises:
        OSError: It cannot be started.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._asking = threading.Lock()
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, *PARENT, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**environment, **LEAVES_CUDA_ALONE},
                start_new_session=True,
                pass_fds=(theirs.fileno(),),
            )
        self._running: dict[int, ForkedWorker] = {}
        self._begun: list[ForkedWorker] = []

    @property
    def is_idle(self) -> bool:
        """Whether each of its trials has ended, as far as it has been heard."""
        return not self._running

    def fork(self, arguments: Sequence[str], environment: Mapping[str, str], output: int, lock: int) -> "ForkedWorker":
        """Start a trial; where this is interrupted, no trial goes on that nobody knows of.

        Args:
            arguments: Of `gan-lightning`.
            environment: The trial's whole environment.
            output: Descriptor that its output goes to.
            lock: Descriptor that it holds as long as it lives.

        Raises:
            OSError: The parent does not answer.
        """
        request = {"arguments": list(arguments), "environment": dict(environment), "folder": str(Path.cwd())}
        with self._asking:
            try:
                socket.send_fds(self.channel, [json.dumps(request).encode()], [output, lock])
                while not self._begun:
                    self._hear(waits=True)
                return self._begun.pop()
            except OSError:
                raise
            except BaseException:  # the parent may still import, for seconds, and would fork then
                self._give_up()
                raise

    def hear_of(self, worker: "ForkedWorker", *, waits: bool) -> None:
        """Give a trial its exit status once it has ended; that is waited for if `waits` is set."""
        with self._asking:
            try:
                while worker.status is None and self._hear(waits=waits):
                    pass
            except OSError:  # the parent has been killed: nobody knows how its trials end, but when they do
                if waits:
                    _wait_for(worker.pid)
                if waits or not _is_alive(worker.pid):
                    worker.status = -SIGKILL
                    self._running.pop(worker.pid, None)

    def close(self) -> None:
        """End the parent; trials that run go on."""
        self.channel.close()
        self.process.wait()

    def _give_up(self) -> None:
        """End a trial that has been asked for: with its parent, unless it has begun already."""
        if not self._begun:
            self.process.kill()
            with suppress(OSError):
                while not self._begun:  # the parent may have forked at the last moment
                    self._hear(waits=True)
        for worker in self._begun:
            with suppress(ProcessLookupError):
                os.killpg(worker.pid, SIGKILL)
            self._running.pop(worker.pid, None)
        self._begun.clear()

    def _hear(self, *, waits: bool) -> bool:
        """Take an answer; return whether there was one.

        Raises:
            OSError: The parent has ended.
        """
        try:
            said = self.channel.recv(1 << 12, 0 if waits else socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        if not said:
            raise ConnectionResetError("the warm parent has ended")
        answer = json.loads(said)
        pid = answer["pid"]
        if "status" not in answer:
            self._running[pid] = ForkedWorker(self, pid)
            self._begun.append(self._running[pid])
        elif pid in self._running:
            self._running.pop(pid).status = answer["status"]  # the system may give the id to a later trial
        return True


class ForkedWorker:
    """A trial's process that a warm parent has forked.

    Attributes:
        status: Its exit status as far as its parent has been heard; None until then.
    """

    def __init__(self, parent: WarmParent, pid: int) -> None:
        self._parent, self.pid = parent, pid
        self.status: int | None = None

    def poll(self) -> int | None:
        """Return its exit status, minus the signal's number where one ended it; None while it runs."""
        self._parent.hear_of(self, waits=False)
        return self.status

    def wait(self) -> int:
        """Wait for its end, and return its exit status."""
        self._parent.hear_of(self, waits=True)
        assert self.status is not None
        return self.status


_parents: dict[tuple[object, ...], WarmParent] = {}
_unfit: set[tuple[object, ...]] = set()
"""The surroundings in which no parent comes up; the next trial should not wait for one again."""


def forked_worker(
    command: Sequence[str], environment: Mapping[str, str], output: int, lock: int
) -> ForkedWorker | None:
    """Return a trial's process that a warm parent has forked, or None where a fresh process has to be started.

    That is for other programs, on other systems than Linux, if `GAN_LIGHTNING_FRESH_TRIALS` is set, and where the
    parent does not come up: where importing starts CUDA, for one.

    Args:
        command: Interpreter, `-m`, the package, and its arguments.
        environment: The trial's whole environment.
        output: Descriptor that its output goes to.
        lock: Descriptor that it holds as long as it lives.
    """
    if list(command[:3]) != [sys.executable, *PROGRAM] or sys.platform != "linux" or os.environ.get(FRESH):
        return None
    shared = {name: value for name, value in environment.items() if name not in OF_A_TRIAL}
    key = (str(Path.cwd()), *sorted(shared.items()))
    is_new = False
    while key not in _unfit and not is_new:  # one that has been killed has a successor
        try:
            if is_new := key not in _parents:
                _parents[key] = WarmParent(shared)
            return _parents[key].fork(command[3:], environment, output, lock)
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                return None  # a longer command line than one message takes
            if (parent := _parents.pop(key, None)) is not None:
                parent.close()
    _unfit.add(key)
    return None


def end_warm_parents() -> None:
    """End the processes that trials are forked from, but for those with trials that somebody waits for."""
    for key in [key for key, parent in _parents.items() if parent.is_idle]:
        _parents.pop(key).close()


def _is_alive(pid: int) -> bool:
    """Return whether a process lives that is not ours; one that nobody has waited for does not."""
    with suppress(OSError, IndexError):
        return Path("/proc", str(pid), "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in "ZX"
    return False


def _wait_for(pid: int) -> None:
    """Wait until a process that is not ours has ended."""
    while _is_alive(pid):
        threading.Event().wait(0.05)
