"""Progress bars of the training, with the losses under short names, and of the measurements."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from gan_lightning.measurements.bench import Progress
from gan_lightning.system.terminal import console

SECONDS_BETWEEN_READS = 0.25
"""Time between two looks of the bar at the losses. On a GPU the host waits for them."""


class LossBar(RichProgressBar):
    """Lightning's rich bar; `train/generator_loss` stands as `generator`, so that all losses fit on a line.

    It reads the logged losses itself, a few times a second. Lightning reads what is logged with `prog_bar` after every
    batch.
    """

    def __init__(self) -> None:
        super().__init__()
        self._losses: dict[str, float] = {}
        self._next_read = 0.0

    def looks_at_batch(self, trainer: Trainer, number: int) -> bool:
        """Return whether it is time to read the losses."""
        return time.monotonic() >= self._next_read

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the last losses of the epoch."""
        self._next_read = 0.0
        super().on_train_epoch_end(trainer, pl_module)

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Return the values behind the bar."""
        if time.monotonic() >= self._next_read:
            logged = {name: loss for name, loss in trainer.callback_metrics.items() if name.startswith("train/")}
            self._losses = dict(zip(logged, torch.stack([*logged.values()]).tolist(), strict=True)) if logged else {}
            self._next_read = time.monotonic() + SECONDS_BETWEEN_READS
        metrics = {**self._losses, **super().get_metrics(trainer, pl_module)}
        return {
            name.removeprefix("train/").removesuffix("_loss"): value
            for name, value in metrics.items()
            if name != "v_num"
        }


@contextmanager
def progress_bars(trainer: Trainer) -> Iterator[Progress | None]:
    """Yield a function that draws a rich bar per part of the evaluation; None if the trainer shows no bars."""
    if trainer.progress_bar_callback is None or not trainer.is_global_zero:
        yield None
        return
    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    bars = Bars(*columns, console=console())
    tasks: dict[str, Any] = {}

    def progress(description: str, done: int, total: int) -> None:
        bars.start()  # at the first progress: without any, no empty line is left
        if description not in tasks:
            tasks[description] = bars.add_task(description, total=total)
        bars.update(tasks[description], completed=done, total=total)

    try:
        yield progress
    finally:
        if tasks:
            bars.stop()
