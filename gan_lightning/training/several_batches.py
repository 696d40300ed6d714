"""Several batches in one call of `training_step`: Lightning's loop takes about a millisecond of Python a batch.

Between the batches of a call the loop's counters move as it would move them. Its hooks are not called. A batch around
which somebody wants a hook therefore has a call of its own: a logged row, a checkpoint, a validation, the end of an
epoch or of the training, a check of the density ratio.
"""

from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, ProgressBar
from lightning.pytorch.utilities.model_helpers import is_overridden

from gan_lightning.interfaces import Batch
from gan_lightning.system.private_names import data_fetcher, end_batch, logged_batch, steps_between_saves

HOOKS = ("on_train_batch_start", "on_train_batch_end")
"""Hooks around a batch."""

TRANSFER = "on_before_batch_transfer"
"""A hook before a batch's way to the device."""


@runtime_checkable
class LooksAtBatches(Protocol):
    """A callback with hooks around batches, which knows the batches that it needs them for."""

    def looks_at_batch(self, trainer: Trainer, number: int) -> bool:
        """Return whether it wants its hooks around a batch.

        Args:
            trainer: Of the run.
            number: Of the batch, over all epochs; the first one is 1.
        """


def further_batches(trainer: Trainer, most: int) -> Iterator[Batch]:
    """Yield the batches after the present one, ready to train on, as Lightning's loop would.

    The last one that is yielded is left to the loop, which counts it and calls its hooks.

    Args:
        trainer: In `training_step`, with a batch that is trained on.
        most: Largest number of further batches.
    """
    fetcher, progress = data_fetcher(trainer), trainer.fit_loop.epoch_loop.batch_progress
    if is_looked_at(trainer, progress.total.ready):
        return
    for _ in range(most):
        if fetcher.done or trainer.should_stop or trainer.received_sigterm:
            return
        if is_looked_at(trainer, progress.total.ready + 1):
            return
        end_batch(trainer)
        batch, *_ = next(fetcher)
        progress.is_last_batch = fetcher.done
        progress.increment_ready()
        progress.increment_started()
        yield trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch), dataloader_idx=0)


def is_looked_at(trainer: Trainer, number: int) -> bool:
    """Return whether somebody wants a hook around a batch.

    Args:
        trainer: Its present batch is `number`, or the one before.
        number: Of the batch, over all epochs; the first one is 1.
    """
    progress = trainer.fit_loop.epoch_loop.batch_progress
    ahead = number - progress.total.ready
    of_epoch, steps = progress.current.ready + ahead, trainer.global_step + ahead
    counted = number if trainer.check_val_every_n_epoch is None else of_epoch
    validates = isinstance(trainer.val_check_batch, int) and counted % trainer.val_check_batch == 0
    every = trainer.log_every_n_steps  # type: ignore[attr-defined]
    logs = every > 0 and (logged_batch(trainer) + ahead) % every == 0
    if of_epoch >= trainer.num_training_batches or steps == trainer.max_steps or validates or logs:
        return True
    return any(_looks(callback, trainer, number, steps) for callback in _callbacks(trainer))


def _looks(callback: Callback, trainer: Trainer, number: int, steps: int) -> bool:
    # `isinstance` of a protocol takes as long as a small operation, and this runs in every batch.
    looks: Callable[[Trainer, int], bool] | None = getattr(callback, "looks_at_batch", None)
    if looks is not None:
        return looks(trainer, number)
    if isinstance(callback, ModelCheckpoint):
        every = steps_between_saves(callback)
        return every > 0 and steps % every == 0
    return False


def obstacles(trainer: Trainer, model: LightningModule) -> list[str]:
    """Return the names of the objects whose hooks have to be called around every batch."""
    has_hooks = [
        callback
        for callback in _callbacks(trainer)
        # The last one looks where a row is logged.
        if not isinstance(callback, LooksAtBatches | ModelCheckpoint | ProgressBar | LearningRateMonitor)
    ]
    around = [one for one in [*has_hooks, model] if any(is_overridden(hook, one) for hook in HOOKS)]
    data = trainer.datamodule  # type: ignore[attr-defined]
    before = [one for one in (model, data) if one is not None and is_overridden(TRANSFER, one)]
    return list(dict.fromkeys(type(one).__name__ for one in [*around, *before]))


def _callbacks(trainer: Trainer) -> list[Callback]:
    return trainer.callbacks  # type: ignore[attr-defined]
