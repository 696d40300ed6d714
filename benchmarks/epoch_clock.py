"""The time of a run's epochs, among its metrics: `--trainer.callbacks+=benchmarks.epoch_clock.EpochClock`."""

import time

from lightning.pytorch import Callback, LightningModule, Trainer

from benchmarks.timing import synchronise


class EpochClock(Callback):
    """Logs the seconds of each epoch with its validation, and those of the training until then.

    They are `clock/epoch_seconds` and `clock/training_seconds`.
    """

    def __init__(self) -> None:
        self.began = self.epoch_began = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the training."""
        self.began = time.perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the epoch."""
        self.epoch_began = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log both."""
        synchronise(pl_module.device)
        now = time.perf_counter()
        pl_module.log("clock/epoch_seconds", now - self.epoch_began)
        pl_module.log("clock/training_seconds", now - self.began)
