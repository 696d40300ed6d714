"""NaN and infinity: a training that meets them stops, and its last good checkpoint stays."""

from collections.abc import Iterable
from itertools import chain

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from gan_lightning.errors import NonFiniteError
from gan_lightning.runs.counting import batches_done


class FiniteGuard(Callback):
    """Stops a training whose losses or weights have become NaN or infinite, whatever the model.

    What a batch logs under a name with `loss` in it is looked at after the batch; on other devices than the CPU, where
    looking means waiting, after as many batches as lie between two logs. Weights and buffers are looked at after the
    last batch of an epoch, before it is validated and measured, and before a checkpoint is written. Of checkpoints that
    hold weights alone Lightning tells no callback; where there are some, weights are looked at after every batch.
    Buffers, and weights that are not trained, may be infinite from the start, as masks are.
    """

    def __init__(self) -> None:
        self._infinite_at_start: frozenset[str] | None = None
        self._before: dict[str, Tensor] = {}
        self._looked_at = -1

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forget the last training."""
        if stage == "fit":
            self._infinite_at_start, self._looked_at = None, -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note what is infinite as it should be.

        Raises:
            NonFiniteError: A weight that is to be trained is not finite.
        """
        resting = ((name, weight) for name, weight in pl_module.named_parameters() if not weight.requires_grad)
        may_be = chain(resting, pl_module.named_buffers())
        self._infinite_at_start = frozenset(name for name, tensor in may_be if not _is_finite(tensor))
        if (name := self._infinite(_tensors(pl_module))) is not None:
            raise NonFiniteError(f"{name} is not finite before the training. Start with other weights.")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Note what had been logged before."""
        self._before = dict(trainer.callback_metrics) if _reads_losses(trainer, batches_done(trainer) + 1) else {}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Check the losses that the batch has logged, and the weights where an epoch ends.

        Raises:
            NonFiniteError: One is not finite.
        """
        if _reads_losses(trainer, batches_done(trainer)):
            for name, value in trainer.callback_metrics.items():
                # What was not logged in this epoch's batches, such as a loss on held-out images, is the same object.
                if "loss" in name.lower() and value is not self._before.get(name) and not _is_finite(value):
                    raise NonFiniteError(stopped_at(trainer, f"{name} became {value.item()}"))
        if trainer.is_last_batch or _saves_weights_alone(trainer):
            self._check_weights(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the weights, if the training has stopped before the last batch of the epoch.

        Raises:
            NonFiniteError: One is not finite.
        """
        if self._looked_at != batches_done(trainer):
            self._check_weights(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, object]) -> None:
        """Check what is about to be written, so that the last checkpoint stays a good one.

        Raises:
            NonFiniteError: A tensor is not finite.
        """
        state = checkpoint["state_dict"]
        assert isinstance(state, dict)
        self._check(trainer, state.items())

    def _check_weights(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._looked_at = batches_done(trainer)
        self._check(trainer, _tensors(pl_module))

    def _check(self, trainer: Trainer, named: Iterable[tuple[str, object]]) -> None:
        if (name := self._infinite(named)) is not None:
            raise NonFiniteError(stopped_at(trainer, f"{name} is not finite"))

    def _infinite(self, named: Iterable[tuple[str, object]]) -> str | None:
        """Return the name of the first tensor that is not finite and has to be; before a training none has."""
        may_be = self._infinite_at_start
        if may_be is None:
            return None
        return next((name for name, tensor in named if name not in may_be and not _is_finite(tensor)), None)


def stopped_at(trainer: Trainer, what: str) -> str:
    """Return what to say of a training that stops.

    Args:
        trainer: Of the run.
        what: Why it stops, as the beginning of a sentence.
    """
    names = ("last_model_path", "best_model_path")  # without a metric, the best one is the newest
    saved = [getattr(callback, name, "") for callback in trainer.checkpoint_callbacks for name in names]
    last = next(filter(None, [*saved, trainer.ckpt_path]), "none was saved yet")
    return (
        f"{what} after {batches_done(trainer)} batches, in epoch {trainer.current_epoch}; training stops. "
        f"Last good checkpoint: {last}. Try lower learning rates."
    )


def _tensors(model: LightningModule) -> Iterable[tuple[str, Tensor]]:
    """Return the weights and the buffers, those that `state_dict` leaves out included."""
    return chain(model.named_parameters(), model.named_buffers())


def _is_finite(value: object) -> bool:
    """Return whether a value is finite; what is no tensor of numbers that may be infinite is."""
    if not isinstance(value, Tensor) or not (value.is_floating_point() or value.is_complex()) or value.itemsize < 2:
        return True
    values = value.detach()
    # A finite sum has finite terms and is found several times faster; finite terms may have an infinite sum.
    return bool(torch.isfinite(values.sum())) or bool(torch.isfinite(values).all())


def _reads_losses(trainer: Trainer, batches: int) -> bool:
    every = trainer.log_every_n_steps  # type: ignore[attr-defined]
    return trainer.strategy.root_device.type == "cpu" or (every > 0 and batches % every == 0)


def _saves_weights_alone(trainer: Trainer) -> bool:
    """Return whether there are checkpoints that hold weights alone."""
    return any(getattr(callback, "save_weights_only", False) for callback in trainer.checkpoint_callbacks)
