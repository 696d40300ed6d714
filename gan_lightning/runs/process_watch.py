"""Ends a run of several processes with a message when one of them has died; the others would wait for it."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from lightning.pytorch import Callback, LightningModule, Trainer

from gan_lightning.runs.run_folder import RunFolder
from gan_lightning.system.private_names import relieve_child_process_observer
from gan_lightning.system.signals import BY_SIGNAL, SIGNALS

FAILED = 1
"""Exit status of ended processes."""

GRACE = 3.0
"""Seconds for the other processes to end by themselves, with an error of their own."""

GRACE_IF_TOLD = 120.0
"""Seconds for the first process to end by itself, if another one was told to end; usually all are told at once."""

TOLD = tuple(BY_SIGNAL + each for each in SIGNALS)
"""Exit statuses of processes that were told to end."""

FIRST = "GAN_LIGHTNING_FIRST_PROCESS"
"""Environment variable with the first process's id, for the processes that Lightning starts."""

FIRST_HAS_ENDED = (
    "the first process has ended, so this one ends, too. Go on with the same command and --ckpt_path=last."
)

POLL = 0.5
"""Seconds between two looks at the process that started this one."""


_watched: list[subprocess.Popen] = []
_killed = threading.Event()


class ProcessWatch(Callback):
    """Watches the processes that Lightning started for the devices of this machine.

    If one of them was killed, the others end at once. If it failed, they end after `GRACE` seconds; they may fail by
    themselves meanwhile. If it was told to end, they end after `GRACE_IF_TOLD` seconds; usually they were told, too.
    `run.json` then says `failed`, and the last printed line has the event and the command to go on. torchrun and SLURM
    end the processes that they started.
    """

    def __init__(self) -> None:
        self._watched = False
        if int(os.environ.get("LOCAL_RANK", 0)) == 0:
            os.environ[FIRST] = str(os.getpid())

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin to watch, once per process."""
        launcher = trainer.strategy.launcher
        children: Sequence[subprocess.Popen] = getattr(launcher, "procs", ())
        if self._watched or trainer.world_size == 1:
            return
        self._watched = True
        for rank, child in enumerate(children, start=1):
            _watched.append(child)
            _in_background(lambda child=child, rank=rank: self._watch_child(trainer, child, rank))
        if children:
            relieve_child_process_observer()
        elif started_by_first():
            _in_background(lambda: self._watch_first(trainer))

    def _watch_child(self, trainer: Trainer, child: subprocess.Popen, rank: int) -> None:
        code = child.wait()
        if not code:
            return
        if code < 0:
            _killed.set()
        else:
            time.sleep(GRACE_IF_TOLD if code in TOLD else GRACE)
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"failed with status {code}"
        message = (
            f"process {rank} of 0 to {trainer.world_size - 1} (pid {child.pid}) {how} at batch {trainer.global_step}: "
            f"the others are ended, too. Last good checkpoint: {_last_good(trainer)}. Go on from it with the same "
            "command and --ckpt_path=last."
        )
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, RunFolder):
                with contextlib.suppress(OSError):  # on a full disk, too, this process has to end
                    callback.end(trainer, "failed", message, anew=True)
        _end(message, trainer)

    def _watch_first(self, trainer: Trainer) -> None:
        while not first_has_ended():
            time.sleep(POLL)
        _end(FIRST_HAS_ENDED, trainer)


def another_was_killed() -> bool:
    """Return whether a process started by this one was killed; this one is then about to end with a message."""
    return bool(_watched) and _killed.wait(POLL)


def started_by_first() -> bool:
    """Return whether Lightning started this process for the first one; torchrun's may have the variable, too."""
    return int(os.environ.get("LOCAL_RANK", 0)) > 0 and FIRST in os.environ and "TORCHELASTIC_RUN_ID" not in os.environ


def first_has_ended() -> bool:
    """Return whether the first process started this one and has ended."""
    return started_by_first() and os.environ[FIRST] != str(os.getppid())


def _in_background(watch: object) -> None:
    threading.Thread(target=watch, daemon=True, name="process-watch").start()  # type: ignore[arg-type]


def _last_good(trainer: Trainer) -> Path | str:
    written = getattr(trainer.strategy.checkpoint_io, "written", None)
    return written or trainer.ckpt_path or "none was saved yet"


def _end(message: str, trainer: Trainer) -> None:
    """End this process at once: its main thread may wait for another process for ever."""
    launcher = trainer.strategy.launcher
    if launcher is not None:
        launcher.kill(signal.SIGKILL)
    end_at_once(message)


def end_at_once(message: str) -> NoReturn:
    """End this process with a message, without waiting for anything."""
    print(f"gan-lightning: error: {message}", file=sys.stderr, flush=True)
    os._exit(FAILED)
