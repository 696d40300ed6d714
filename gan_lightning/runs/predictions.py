"""The file that `predict` writes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor

from gan_lightning.errors import SettingError
from gan_lightning.evaluation.features import described
from gan_lightning.runs.contract import check_predicts
from gan_lightning.runs.run_folder import run_folder
from gan_lightning.system.files import whole_file

PREDICTIONS = "predictions"
"""Name of the array of a model that predicts one tensor."""


class FeatureWriter(BasePredictionWriter):
    """Writes the results of a model's `predict_step` to `features.npz` in the run's folder.

    A dictionary of tensors becomes an array (images, ...) per entry. A model without its own `predict_step` gives the
    features of each extractor and the labels. A tensor becomes the array `predictions`. If several processes run, each
    writes its own share as `features-<rank>.npz`; the shares in rank order are the split.
    """

    def __init__(self) -> None:
        super().__init__("epoch")

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that there is something to write.

        Raises:
            SettingError: The model has nothing to predict.
        """
        super().setup(trainer, pl_module, stage)
        if stage == "predict":
            check_predicts(pl_module)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Check that the batch can be written.

        Raises:
            SettingError: `predict_step` returned something that is no array of so many images.
        """
        if run_folder(trainer) is not None:
            _tensors(outputs)

    def write_on_epoch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        predictions: Sequence[Any],
        batch_indices: Sequence[Any],
    ) -> None:
        """Write the arrays; several data loaders follow each other in them."""
        folder = run_folder(trainer)
        of_loaders = predictions if predictions and isinstance(predictions[0], list) else [predictions]
        batches = [_tensors(output) for of_loader in of_loaders for output in of_loader]
        if folder is None or not batches:
            return
        arrays = {name: _array(torch.cat([batch[name] for batch in batches])) for name in batches[0]}
        share = f"-{trainer.global_rank}" if trainer.world_size > 1 else ""
        with whole_file(folder / f"features{share}.npz") as path:
            np.savez(path, allow_pickle=False, **arrays)


def _tensors(output: object) -> Mapping[str, Tensor]:
    """Return the tensors of `predict_step`'s result, under their names.

    Raises:
        SettingError: The result has other values, or no dimension of the images.
    """
    named = {PREDICTIONS: output} if isinstance(output, Tensor) else output
    if isinstance(named, Mapping) and named:
        if all(isinstance(each, Tensor) and each.ndim for each in named.values()):
            return {str(name): each for name, each in named.items()}
        name = next(name for name, each in named.items() if not isinstance(each, Tensor) or not each.ndim)
        output, where = named[name], f" for {name!r}"
    else:
        where = ""
    raise SettingError(
        f"predict_step must return a tensor (images, ...) or a dictionary of such, got {described(output)}{where}. "
        "Leave it out of the model to have the features of its extractors written."
    )


def _array(values: Tensor) -> np.ndarray:
    """Return the values on the CPU. Mixed precision may leave bfloat16; numpy has none, so it becomes float32."""
    return (values.float() if values.dtype is torch.bfloat16 else values).cpu().numpy()
