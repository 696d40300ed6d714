"""The file that `predict` writes."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor

from gan_lightning.errors import SettingError, one_of, refused
from gan_lightning.evaluation.features import described
from gan_lightning.interfaces import Split
from gan_lightning.runs.contract import check_predicts
from gan_lightning.runs.run_folder import run_folder
from gan_lightning.system.files import whole_file

FileFormat = Literal["npz", "parquet"]

PREDICTIONS = "predictions"
"""Name of the array of a model that predicts one tensor."""


class FeatureWriter(BasePredictionWriter):
    """Writes the results of a model's `predict_step` to `features.npz` in the run's folder.

    A dictionary of tensors becomes an array (images, ...) per entry. A model without its own `predict_step` gives the
    features of each extractor and the labels. A tensor becomes the array `predictions`. If the images have files, the
    array `file_name` has their names. If several processes run, each writes its own share as
    `features-<rank>.npz`; the shares in rank order are the split. A Parquet file has a column per array, and a list of
    numbers for each image.

    Args:
        split: Split whose images `predict` takes.
        file_format: "npz", or "parquet", which needs the extra `parquet`.

    Raises:
        SettingError: A setting has another value, or the package for Parquet is missing.
    """

    def __init__(self, split: Split = "test", file_format: FileFormat = "npz") -> None:
        super().__init__("epoch")
        one_of(self, get_args(Split), split=split)
        one_of(self, get_args(FileFormat), file_format=file_format)
        if file_format == "parquet" and find_spec("pyarrow") is None:
            remedy = "Install it: pip install 'gan-lightning[parquet]'"
            raise refused(self, "file_format", "be npz without the package pyarrow", file_format, remedy)
        self.split, self.file_format = split, file_format

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that there is something to write.

        Raises:
            SettingError: The model has nothing to predict, or the data set does not give this split.
        """
        super().setup(trainer, pl_module, stage)
        if stage != "predict":
            return
        check_predicts(pl_module)
        data = getattr(trainer, "datamodule", None)
        if data is not None and hasattr(data, "predict_split"):
            data.predict_split = self.split
        elif self.split != "test":
            condition = f"be test for {type(data).__name__}, whose predict_dataloader() decides"
            raise refused(self, "split", condition, self.split)

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
        if (names := self._file_names(trainer, len(next(iter(arrays.values()))))) is not None:
            arrays.setdefault("file_name", names)
        share = f"-{trainer.global_rank}" if trainer.world_size > 1 else ""
        with whole_file(folder / f"features{share}.{self.file_format}") as path:
            if self.file_format == "npz":
                np.savez(path, allow_pickle=False, **arrays)
            else:
                _write_parquet(path, arrays)

    def _file_names(self, trainer: Trainer, count: int) -> np.ndarray | None:
        """Return the names of this process's files; None if there are none, or not one for each prediction."""
        data = getattr(trainer, "datamodule", None)
        if data is None or not hasattr(data, "file_names") or (names := data.file_names(self.split)) is None:
            return None
        mine = np.array_split(np.array(names), trainer.world_size)[trainer.global_rank]
        return mine if len(mine) == count else None


def _write_parquet(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a table with a column per array; images with several numbers have a list each."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    flat = {name: array if array.ndim == 1 else array.reshape(len(array), -1) for name, array in arrays.items()}
    columns = {name: pa.array(array if array.ndim == 1 else list(array)) for name, array in flat.items()}
    pq.write_table(pa.table(columns), path)


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
