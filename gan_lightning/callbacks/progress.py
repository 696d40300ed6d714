"""The progress bar, with the losses under names that fit beside it."""

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar


class LossBar(RichProgressBar):
    """Lightning's rich bar; `train/generator_loss` stands as `generator`, so that all losses fit on a line."""

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Return what stands behind the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        return {
            name.removeprefix("train/").removesuffix("_loss"): value
            for name, value in metrics.items()
            if name != "v_num"
        }
