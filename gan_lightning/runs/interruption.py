"""The end of a run on request: by SIGTERM (as from SLURM), by Ctrl-C, or by closing its terminal."""

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from gan_lightning.system.signals import heard

logger = logging.getLogger(__name__)

SAME_REQUEST = 1.0
"""Seconds within which signals count as one request: a terminal and the first process both pass it on."""


class Interrupted(BaseException):
    """The run was told to end. It is no `Exception`, so handlers of errors in a user's code let it pass."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"the run was told to end by {signal.Signals(signum).name}")
        self.signum = signum


@contextmanager
def ends_when_told() -> Iterator[None]:
    """Let a signal that asks this process to end raise `Interrupted` while the block runs.

    Within the block, `Interruption` takes over while a model trains.
    """
    told_at: list[float] = []
    process = os.getpid()

    def end(signum: int, frame: FrameType | None) -> None:
        if os.getpid() != process or (told_at and time.monotonic() - told_at[-1] < SAME_REQUEST):
            return  # a process that loads data ends with this one
        told_at.append(time.monotonic())
        raise Interrupted(signum)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.signal(each, end) for each in heard()}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


class Interruption(Callback):
    """Lets a training that is told to end finish its batch and write a checkpoint, to go on exactly from there.

    During the training the first signal is only noted. `Checkpoints` looks for it at the places for checkpoints: after
    a batch, or, from an epoch's last batch on, at the end of the epoch. A second signal, at least a second later, ends
    the run at once. The first signal also ends the run at once after the training, because its checkpoint is written by
    then, and in the test or measurement of a finished model. A signal that is ignored at the run's start stays ignored,
    such as SIGHUP under nohup.

    Lightning's own handlers would end a validation in the middle, and no run can go on exactly from there. They would
    also let one of several processes end without the others.
    """

    def __init__(self) -> None:
        self.told: int | None = None
        """The signal that told the run to end."""
        self._told_at = 0.0
        self._trains = False
        self._trainer: Trainer | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._process = os.getpid()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen, from here on instead of Lightning."""
        self._listen(trainer, trains=True)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen, if no training is around the validation, and end at once if the run is told to."""
        if trainer.state.fn == "validate":
            self._listen(trainer, trains=False)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen, and end at once if the run is told to."""
        self._listen(trainer, trains=False)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen, and end at once if the run is told to."""
        self._listen(trainer, trains=False)

    def _listen(self, trainer: Trainer, *, trains: bool) -> None:
        self.told, self._trains, self._trainer = None, trains, trainer
        if threading.current_thread() is threading.main_thread() and not self._before:
            self._before, self._process = {each: signal.signal(each, self._note) for each in heard()}, os.getpid()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wait for nothing any more: a run that goes on makes the next measurements again."""
        self._trains = False
        if (told := self.agreed(trainer)) is not None:
            raise Interrupted(told)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Listen no longer."""
        self._stop_listening()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Listen no longer."""
        self._stop_listening()

    def agreed(self, trainer: Trainer) -> int | None:
        """Return a signal that told this process or another one to end; all processes end at the same place."""
        if trainer.world_size > 1 and trainer.strategy.reduce_boolean_decision(self.told is not None, all=False):
            self.told = self.told or signal.SIGTERM
        return self.told

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a process that loads data; it ends with the training one
        again, now = self.told is not None, time.monotonic()
        if again and now - self._told_at < SAME_REQUEST:
            return
        launcher = None if self._trainer is None else self._trainer.strategy.launcher
        if launcher is not None:
            launcher.kill(signal.Signals(signum))
        if again or not self._trains:
            raise Interrupted(signum)
        self.told, self._told_at = signum, now
        if self._trainer is not None and self._trainer.is_global_zero:
            logger.warning(
                "%s: the run writes a checkpoint after this batch or epoch and ends. A second one ends it at once.",
                signal.Signals(signum).name,
            )

    def _stop_listening(self) -> None:
        self._trains = False
        for each, handler in self._before.items():
            signal.signal(each, handler)
        self._before = {}


def interruption(trainer: Trainer) -> Interruption | None:
    """Return the trainer's callback that listens for signals."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return next((callback for callback in callbacks if isinstance(callback, Interruption)), None)
