"""What `predict` leaves behind."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor

from gan_lightning.callbacks.run_folder import run_folder
from gan_lightning.files import whole_file


class FeatureWriter(BasePredictionWriter):
    """Writes the features of each extractor and the labels to `features.npz` in the run's folder.

    With several processes, each writes its own share as `features-<rank>.npz`; the shares in rank order are the split.
    """

    def __init__(self) -> None:
        super().__init__("epoch")

    def write_on_epoch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        predictions: Sequence[Any],
        batch_indices: Sequence[Any],
    ) -> None:
        """Write one array (images, feature) per extractor, and `labels`."""
        folder = run_folder(trainer)
        if folder is None or not predictions:
            return
        batches: Sequence[dict[str, Tensor]] = predictions
        arrays = {name: _array(torch.cat([batch[name] for batch in batches])) for name in batches[0]}
        share = f"-{trainer.global_rank}" if trainer.world_size > 1 else ""
        with whole_file(folder / f"features{share}.npz") as path:
            np.savez(path, allow_pickle=False, **arrays)


def _array(values: Tensor) -> np.ndarray:
    """Return the values on the CPU; numpy has no bfloat16, which mixed precision leaves."""
    return (values.float() if values.is_floating_point() else values).cpu().numpy()
