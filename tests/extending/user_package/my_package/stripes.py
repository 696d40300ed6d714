"""Stripes in four directions: a data set that is drawn instead of read."""

import math
from dataclasses import dataclass

import torch

from gan_lightning.data import ImageData
from gan_lightning.data.store import ImageStore
from gan_lightning.interfaces import Split


@dataclass(eq=False, kw_only=True)
class Stripes(ImageData):
    """Grey stripes with noise; the class is their direction.

    Args:
        noise: Standard deviation of the noise; the stripes are from -1 to 1.
    """

    name = "stripes"  # in the run's folder and in tables
    channels = 1
    label_kind = "classes"
    num_classes = 4

    image_size: int = 16
    noise: float = 0.5

    def fetch(self) -> None:
        """Download what is missing, if `--data.download=true` asks for it: here nothing is."""

    def read(self, split: Split) -> ImageStore:
        """Return a split as bytes (count, channels, height, width), and the labels."""
        count = 400 if split == "train" else 100
        rng = torch.Generator().manual_seed(0 if split == "train" else 1)
        labels = torch.arange(count) % self.num_classes
        angle = (labels * math.pi / self.num_classes)[:, None, None]
        y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
        phase = 2 * math.pi * torch.rand(count, 1, 1, generator=rng)
        stripes = torch.sin(x * angle.cos() + y * angle.sin() + phase)
        stripes += self.noise * torch.randn(stripes.shape, generator=rng)
        pixels = ((stripes.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        return ImageStore(pixels[:, None], labels)
