"""The training so far, counted in batches; a batch may take any number of optimizer steps."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle

from gan_lightning.errors import SettingError


def batches_done(trainer: Trainer) -> int:
    """Return the number of trained batches in all epochs, also before a resume.

    A batch counts from the end of its `training_step` on: in `on_train_batch_end` it counts, in `on_train_batch_start`
    it does not.
    """
    return trainer.fit_loop.epoch_loop.batch_progress.total.processed  # type: ignore[attr-defined]


def count_batch(trainer: Trainer) -> None:
    """Advance `trainer.global_step` by one, after a batch of a model that steps its optimizers by hand."""
    progress = trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
    progress.increment_ready()
    progress.increment_completed()


def counts_in(checkpoint: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Return the numbers of epochs and batches that the model in a checkpoint has been trained for.

    An epoch counts once its last batch has been trained on. None if the checkpoint does not say.

    Args:
        checkpoint: Its content, in Lightning's layout.
    """
    loop = checkpoint.get("loops", {}).get("fit_loop")
    if loop is None:
        return None, None
    return loop["epoch_progress"]["current"]["processed"], loop["epoch_loop.batch_progress"]["total"]["processed"]


def is_last_epoch(trainer: Trainer, epochs: int) -> bool:
    """Return whether a training ends with the present epoch, by epochs, steps or time.

    Args:
        trainer: Of the training, in `on_train_epoch_end`.
        epochs: Epochs of training so far, the present one included.
    """
    steps = trainer.global_step
    enough = epochs >= (trainer.min_epochs or 0) and steps >= (trainer.min_steps or 0)
    return epochs == trainer.max_epochs or 0 <= trainer.max_steps <= steps or (trainer.should_stop and enough)


class StepCount(Callback):
    """Ends a training if its optimizers step but `trainer.global_step` stands still.

    `max_steps`, the checkpoints and the loggers go by that count; without it a training never ends, or leaves no
    checkpoint. Batches without a step are allowed, such as those of accumulated gradients.
    """

    def __init__(self) -> None:
        self._steps = self._global_step = 0
        self._counting: RemovableHandle | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count the steps of every optimizer with a weight of the model, also of optimizers made elsewhere."""
        self._stop()
        weights = {id(weight) for weight in pl_module.parameters()}

        def count(optimizer: Optimizer, *_: Any) -> None:
            self._steps += any(id(weight) in weights for group in optimizer.param_groups for weight in group["params"])

        self._counting = register_optimizer_step_post_hook(count)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Begin to count the batch's steps."""
        self._steps, self._global_step = 0, trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Compare the steps of the batch with Lightning's count.

        Raises:
            SettingError: Optimizers have stepped, but the count has not moved.
        """
        if self._steps and trainer.global_step == self._global_step:
            kind = type(pl_module).__name__
            raise SettingError(
                f"{kind}.training_step must step an optimizer that Lightning counts in every batch in which it steps "
                f"one, got {self._steps} step(s) in batch {batches_done(trainer)} and trainer.global_step still "
                f"{self._global_step}: max_steps, checkpoints and loggers go by it. Step the optimizers that "
                "self.optimizers() returns, not those that configure_optimizers made."
            )

    def looks_at_batch(self, trainer: Trainer, number: int) -> bool:
        """Return false: further batches of a call step as the first one does."""
        return False

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count no longer."""
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Count no longer."""
        self._stop()

    def _stop(self) -> None:
        if self._counting is not None:
            self._counting.remove()
            self._counting = None
