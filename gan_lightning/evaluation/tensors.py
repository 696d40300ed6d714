"""Data sets from tensors that are in memory already."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gan_lightning.errors import SettingError
from gan_lightning.interfaces import Images, LabelKind, Labels, Split
from gan_lightning.processes import process_count, process_rank


@dataclass(frozen=True)
class TensorBatches:
    """Batches of two tensors, in their order.

    Attributes:
        images: In [-1, 1].
        labels: One row each.
        batch_size: Images per batch; the last may be smaller.
    """

    images: Images
    labels: Labels
    batch_size: int

    def __len__(self) -> int:
        """Return the number of batches."""
        return -(-len(self.images) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Images, Labels]]:
        """Yield images and their labels."""
        for start in range(0, len(self.images), self.batch_size):
            rows = slice(start, start + self.batch_size)
            yield self.images[rows], self.labels[rows]


class TensorImages:
    """A labelled data set (`LabelledImages`) of tensors.

    Args:
        name: Short name of the data set, for tables.
        train: Images in [-1, 1] and their labels: a class each, or 0/1 per attribute; -1 where not known.
        test: As `train`.
        num_classes: Number of classes, or of attributes.
        batch_size: Images that extractors see at a time.

    Raises:
        SettingError: `batch_size` is below 1.
    """

    def __init__(
        self,
        name: str,
        *,
        train: tuple[Tensor, Tensor],
        test: tuple[Tensor, Tensor],
        num_classes: int,
        batch_size: int = 256,
    ) -> None:
        if batch_size < 1:
            raise SettingError(f"batch_size must be at least 1, got {batch_size}; 256 is usual.")
        images, labels = train
        self.name = name
        self.channels = images.shape[1]
        self.image_size = images.shape[-1]
        self.label_kind: LabelKind = "classes" if labels.ndim == 1 else "attributes"
        self.num_classes = num_classes
        self.batch_size = batch_size
        self._splits: dict[Split, tuple[Tensor, Tensor]] = {"train": train, "test": test}

    def evaluation_batches(self, split: Split, device: torch.device) -> TensorBatches:
        """Return a split in stored order; where several processes run, this process's contiguous share."""
        images, labels = (
            tensor.tensor_split(process_count())[process_rank()].to(device) for tensor in self._splits[split]
        )
        return TensorBatches(images, labels, self.batch_size)
