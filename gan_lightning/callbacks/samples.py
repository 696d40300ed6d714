"""Pictures of what the generators make."""

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from gan_lightning.callbacks.run_folder import run_folder, whole_file
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

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, if the epoch is one of those that are drawn."""
        done = trainer.current_epoch + 1
        if self.every_n_epochs and (done % self.every_n_epochs == 0 or done == trainer.max_epochs):
            self._draw(trainer, pl_module, trainer.current_epoch)

    def _draw(self, trainer: Trainer, pl_module: LightningModule, epoch: int) -> None:
        folder = run_folder(trainer)
        if folder is None or not trainer.is_global_zero or not isinstance(pl_module, GeneratesImages):
            return
        from torchvision.transforms.functional import to_pil_image
        from torchvision.utils import make_grid

        rng = torch.Generator(pl_module.device).manual_seed(self.seed)
        with frozen({type(pl_module).__name__: pl_module}), torch.no_grad():
            rows = pl_module.generate(self.columns, rng)
        grid = make_grid(rows.flatten(0, 1).float().cpu(), self.columns, normalize=True, value_range=(-1, 1))
        picture = to_pil_image(grid)
        with whole_file(folder / "samples" / f"epoch-{epoch:04d}.png") as path:
            picture.save(path)
        for logger in trainer.loggers:
            if hasattr(logger, "log_image"):
                logger.log_image("samples", [picture], step=trainer.global_step)
