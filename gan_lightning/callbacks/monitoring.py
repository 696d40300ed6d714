"""Figures that are measured while a model trains: for loggers, for curves, and for what chooses checkpoints by them."""

from collections.abc import Mapping
from typing import Literal

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from gan_lightning.errors import SettingError

Best = Literal["min", "max"]
"""Which value of a metric is best, as `ModelCheckpoint` has it."""

Curve = dict[int, dict[str, float]]
"""Figures under their metrics' names, by the number of epochs after which they were measured."""


def log_figures(trainer: Trainer, figures: Mapping[str, float]) -> None:
    """Give figures to the loggers at once: who decides on stopping early reads them from outside."""
    for logger in trainer.loggers if trainer.is_global_zero else []:
        logger.log_metrics(dict(figures), step=trainer.global_step)
        logger.save()


def show_to_monitors(pl_module: LightningModule, figures: Mapping[str, float]) -> None:
    """Let the callbacks that monitor a metric see figures; to be called in `on_train_epoch_end`, on every process.

    Those callbacks' own `on_train_epoch_end` comes after all others'. The loggers are not told: what a module logs they
    get at the end of the epoch, under another step.
    """
    for name, value in figures.items():
        pl_module.log(name, value, on_step=False, on_epoch=True, logger=False, batch_size=1, sync_dist=True)


def checkpoints_by(trainer: Trainer, group: str) -> list[ModelCheckpoint]:
    """Return the callbacks that choose checkpoints by a figure of this group of metrics."""
    callbacks = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]
    return [callback for callback in callbacks if (callback.monitor or "").startswith(f"{group}/")]


def check_monitors(trainer: Trainer, group: str, known: Mapping[str, Best | None], every_n_epochs: int) -> None:
    """Check that checkpoints that are chosen by a figure of this group find a new one whenever they look.

    Otherwise Lightning would stop in the middle of the training, or take the figure of an older epoch for theirs, or
    keep the worst.

    Args:
        trainer: Of the fit.
        group: The settings' group, and the first part of the metrics' names.
        known: Metrics that are measured while training, and whether the lowest or the highest is best; none where
            nothing is measured at all.
        every_n_epochs: How often.

    Raises:
        SettingError: If they do not.
    """
    for callback in checkpoints_by(trainer, group):
        if not known or not every_n_epochs:
            raise SettingError(
                f"checkpoint.monitor must be measured while training, got '{callback.monitor}', which is not. Set "
                f"--{group}.enabled=true and --{group}.every_n_epochs=1."
            )
        if callback.monitor is None or callback.monitor not in known:
            raise SettingError(
                f"checkpoint.monitor must be one of {', '.join(sorted(known))}, got '{callback.monitor}'."
            )
        if (best := known[callback.monitor]) not in (None, callback.mode):
            raise SettingError(
                f"checkpoint.mode must be {best} with checkpoint.monitor={callback.monitor}, got {callback.mode}, "
                f"which would keep the worst. Set --checkpoint.mode={best}."
            )
        if not callback.every_n_epochs or callback.every_n_epochs % every_n_epochs:
            raise SettingError(
                f"checkpoint.every_n_epochs must be a multiple of {group}.every_n_epochs, {every_n_epochs}, with "
                f"checkpoint.monitor={callback.monitor}, got {callback.every_n_epochs}: in between there is no new "
                f"figure. Set --checkpoint.every_n_epochs={every_n_epochs}."
            )
        if callback._save_on_train_epoch_end is False:
            raise SettingError(
                f"checkpoint.save_on_train_epoch_end must not be false with checkpoint.monitor={callback.monitor}, "
                "which is measured after the validation. Leave it out."
            )
        # Left to itself, Lightning saves right after the validation where that is not run once an epoch.
        callback._save_on_train_epoch_end = True
