"""A bright spot in one of four corners, as a plain LightningDataModule."""

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from gan_lightning.evaluation import TensorBatches
from gan_lightning.interfaces import Split


class Blobs(LightningDataModule):
    """Noise with a bright spot; the class is its corner.

    Args:
        batch_size: Training images per step.
    """

    # What a measurement has to know. Without these lines the data set is for training alone.
    name = "blobs"
    channels = 1
    image_size = 16
    label_kind = "classes"
    num_classes = 4

    def __init__(self, batch_size: int = 50) -> None:
        super().__init__()
        self.batch_size = batch_size

    def evaluation_batches(self, split: Split, device: torch.device) -> TensorBatches:
        """Return a split in a fixed order: float images in [-1, 1] and labels, on the device."""
        images, labels = self.images(split)
        return TensorBatches(images.to(device), labels.to(device), 100)

    def images(self, split: Split) -> tuple[Tensor, Tensor]:
        """Return images and their labels."""
        count = 400 if split == "train" else 100
        rng = torch.Generator().manual_seed(0 if split == "train" else 1)
        images = torch.rand(count, self.channels, self.image_size, self.image_size, generator=rng) - 1
        labels = torch.arange(count) % self.num_classes
        for image, label in zip(images, labels.tolist(), strict=True):
            top, left = 2 + 8 * (label // 2), 2 + 8 * (label % 2)
            image[:, top : top + 4, left : left + 4] += 1
        return images, labels

    # The loaders, as Lightning has them

    def train_dataloader(self) -> DataLoader:
        """Return shuffled batches of the training split."""
        return DataLoader(TensorDataset(*self.images("train")), self.batch_size, shuffle=True)

    def test_dataloader(self) -> DataLoader:
        """Return batches of the test split."""
        return DataLoader(TensorDataset(*self.images("test")), self.batch_size)
