"""NaN and infinity: they stop a training, and its last good checkpoint stays."""

from collections.abc import Iterable
from itertools import chain

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from gan_lightning.errors import NonFiniteError
from gan_lightning.runs.counting import batches_done
from gan_lightning.runs.finite_watch import FiniteWatch, watches
from gan_lightning.runs.stopping import stopped_at


class FiniteGuard(Callback):
    """Stops the training of any model if losses or weights become NaN or infinite.

    Logged values with `loss` in their name are checked after each batch on the CPU. On other devices a check means
    waiting, so it is made every `log_every_n_steps` batches. Weights and buffers are checked after the last batch of an
    epoch, before it is validated and measured, and before a checkpoint is written. Lightning tells no callback of
    checkpoints that hold weights alone. If there are some, weights are checked after every batch. Buffers and untrained
    weights may be infinite from the start, such as masks.
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
        """Note the tensors that may be infinite.

        Raises:
            NonFiniteError: A trained weight is not finite.
        """
        resting = ((name, weight) for name, weight in pl_module.named_parameters() if not weight.requires_grad)
        may_be = chain(resting, pl_module.named_buffers())
        self._infinite_at_start = frozenset(name for name, tensor in may_be if not _is_finite(tensor))
        if (name := self._infinite(_tensors(pl_module))) is not None:
            raise NonFiniteError(f"{name} is not finite before the training. Start with other weights.")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Note the values logged before this batch."""
        self._before = dict(trainer.callback_metrics) if _reads_losses(trainer, batches_done(trainer) + 1) else {}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Check the losses of the batch, and at the end of an epoch the weights.

        Raises:
            NonFiniteError: One is not finite.
        """
        if _reads_losses(trainer, batches_done(trainer)):
            _check_watch(trainer, pl_module)
            for name, value in trainer.callback_metrics.items():
                # A value that no batch of this epoch has logged is the same object, such as a loss on held-out images.
                if "loss" in name.lower() and value is not self._before.get(name) and not _is_finite(value):
                    raise NonFiniteError(stopped_at(trainer, f"{name} became {value.item()}"))
        if trainer.is_last_batch or _saves_weights_alone(trainer):
            self._check_weights(trainer, pl_module)

    def looks_at_batch(self, trainer: Trainer, number: int) -> bool:
        """Return whether losses are read in this batch, or weights checked."""
        return _reads_losses(trainer, number) or _saves_weights_alone(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the weights, if the training has stopped before the last batch of the epoch.

        Raises:
            NonFiniteError: One is not finite.
        """
        if self._looked_at != batches_done(trainer):
            self._check_weights(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, object]) -> None:
        """Check the new checkpoint before it is written, so that the last one stays good.

        Raises:
            NonFiniteError: A tensor is not finite.
        """
        _check_watch(trainer, pl_module)
        state = checkpoint["state_dict"]
        assert isinstance(state, dict)
        self._check(trainer, state.items())

    def _check_weights(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._looked_at = batches_done(trainer)
        _check_watch(trainer, pl_module)
        self._check(trainer, _tensors(pl_module))

    def _check(self, trainer: Trainer, named: Iterable[tuple[str, object]]) -> None:
        if (name := self._infinite(named)) is not None:
            raise NonFiniteError(stopped_at(trainer, f"{name} is not finite"))

    def _infinite(self, named: Iterable[tuple[str, object]]) -> str | None:
        """Return the name of the first tensor that has to be finite and is not. Before a training none has to be."""
        may_be = self._infinite_at_start
        if may_be is None:
            return None
        return next((name for name, tensor in named if name not in may_be and not _is_finite(tensor)), None)


def _check_watch(trainer: Trainer, model: LightningModule) -> None:
    """Check what a model that does not wait for its losses has noted.

    Raises:
        NonFiniteError: A loss was not finite.
    """
    watch = getattr(model, "finite_watch", None)
    if isinstance(watch, FiniteWatch):
        watch.check(trainer)


def _tensors(model: LightningModule) -> Iterable[tuple[str, Tensor]]:
    """Return the weights and the buffers, also buffers that `state_dict` leaves out."""
    return chain(model.named_parameters(), model.named_buffers())


def _is_finite(value: object) -> bool:
    """Return whether a value is finite. Values that cannot be infinite are, such as whole numbers."""
    if not isinstance(value, Tensor) or not (value.is_floating_point() or value.is_complex()) or value.itemsize < 2:
        return True
    values = value.detach()
    # A finite sum has finite terms and is found several times faster; finite terms may have an infinite sum.
    return bool(torch.isfinite(values.sum())) or bool(torch.isfinite(values).all())


def _reads_losses(trainer: Trainer, batches: int) -> bool:
    every = trainer.log_every_n_steps  # type: ignore[attr-defined]
    return not watches(trainer.strategy.root_device) or (every > 0 and batches % every == 0)


def _saves_weights_alone(trainer: Trainer) -> bool:
    """Return whether there are checkpoints that hold weights alone."""
    return any(getattr(callback, "save_weights_only", False) for callback in trainer.checkpoint_callbacks)
