"""Progress bars of the training, with the losses under short names, and of the measurements."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from gan_lightning.measurements.bench import Progress
from gan_lightning.system.terminal import console


class LossBar(RichProgressBar):
    """Lightning's rich bar; `train/generator_loss` stands as `generator`, so that all losses fit on a line."""

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Return the values behind the bar."""
        metrics = super().get_metrics(trainer, pl_module)
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
