"""Pictures of what the generators make."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from gan_lightning.callbacks.run_folder import run_folder, write_picture
from gan_lightning.errors import SettingError
from gan_lightning.evaluation import frozen
from gan_lightning.interfaces import GeneratesImages


class SampleGrid(Callback):
    """Draws samples as a PNG grid, a row per generator, always from the same latents.

    Models that generate nothing are passed over.

    Args:
        every_n_epochs: Epochs between two pictures; the last epoch always has one, and 0 draws none.
        columns: Samples in a row.
        seed: Seed of the latents.
    """

    def __init__(self, every_n_epochs: int = 1, columns: int = 10, seed: int = 0) -> None:
        for name, value, least in (("every_n_epochs", every_n_epochs, 0), ("columns", columns, 1)):
            if value < least:
                raise SettingError(f"samples.{name} must be at least {least}, got {value}.")
        self.every_n_epochs, self.columns, self.seed = every_n_epochs, columns, seed
        self._undrawn: int | None = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, if the epoch is one of those that are drawn."""
        self._undrawn = trainer.current_epoch
        if self.every_n_epochs and (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._draw(trainer, pl_module, trainer.current_epoch)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the last epoch, however the training ended."""
        if self.every_n_epochs and self._undrawn is not None:
            self._draw(trainer, pl_module, self._undrawn)

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch that has no picture yet, for the case that it is the last one."""
        return {} if self._undrawn is None else {"undrawn": self._undrawn}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with it."""
        self._undrawn = state_dict["undrawn"]

    def _draw(self, trainer: Trainer, pl_module: LightningModule, epoch: int) -> None:
        self._undrawn = None
        if run_folder(trainer) is None or not trainer.is_global_zero or not isinstance(pl_module, GeneratesImages):
            return
        from torchvision.utils import make_grid

        rng = torch.Generator(pl_module.device).manual_seed(self.seed)
        precise = trainer.precision_plugin.forward_context()
        with frozen({type(pl_module).__name__: pl_module}), torch.no_grad(), precise:
            rows = pl_module.generate(self.columns, rng)
        grid = make_grid(rows.flatten(0, 1).float().cpu(), self.columns, normalize=True, value_range=(-1, 1))
        write_picture(trainer, f"samples/epoch-{epoch:04d}", grid, "samples")
