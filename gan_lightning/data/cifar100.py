"""CIFAR-100: small photographs in a hundred classes."""

from dataclasses import dataclass

from gan_lightning.data.cifar10 import read_batches
from gan_lightning.data.image_data import ImageData
from gan_lightning.data.store import ImageStore
from gan_lightning.interfaces import Split


@dataclass(eq=False, kw_only=True)
class CIFAR100(ImageData):
    """Colour photographs of 32x32 pixels in 100 (fine) classes: 50,000 train, 10,000 test.

    Reads `<root>/cifar-100-python`.

    Source:
        Krizhevsky 2009, "Learning multiple layers of features from tiny images".
    """

    name = "cifar100"
    channels = 3
    label_kind = "classes"
    num_classes = 100

    def fetch(self) -> None:
        """Download the archive unless its files are there."""
        from torchvision import datasets

        datasets.CIFAR100(self.root, download=True)

    def read(self, split: Split) -> ImageStore:
        """Return the images in the files' order.

        Raises:
            DataError: Files are missing, damaged, or not the published ones.
        """
        from torchvision import datasets

        return read_batches(self, datasets.CIFAR100, split, "fine_labels")
