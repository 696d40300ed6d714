"""SVHN: house numbers, cropped to single digits."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from gan_lightning.data.cifar10 import whole_numbers
from gan_lightning.data.image_data import ImageData
from gan_lightning.data.store import ImageStore
from gan_lightning.interfaces import Split
from gan_lightning.system.reading import reading, shown

EDGE = 32


@dataclass(eq=False, kw_only=True)
class SVHN(ImageData):
    """Digits of house numbers, 32x32 pixels in colour: 73,257 train, 26,032 test.

    Reads `<root>/{train,test,extra}_32x32.mat`. The files' label 10, the digit 0, becomes 0.

    Args:
        extra: Add the 531,131 easier extra images to the training split.

    Source:
        Netzer et al. 2011, "Reading digits in natural images with unsupervised feature learning".
    """

    extra: bool = False

    name = "svhn"
    channels = 3
    label_kind = "classes"
    num_classes = 10

    def fetch(self) -> None:
        """Download the files unless they are there."""
        from torchvision import datasets

        for part in [*self.parts("train"), *self.parts("test")]:
            datasets.SVHN(self.root, part, download=True)

    def read(self, split: Split) -> ImageStore:
        """Return the images in the files' order.

        Raises:
            DataError: Files are missing, damaged, or not the published ones.
        """
        stores = [self.read_part(part) for part in self.parts(split)]
        if len(stores) == 1:
            return stores[0]
        return ImageStore(torch.cat([store.images for store in stores]), torch.cat([store.labels for store in stores]))

    def parts(self, split: Split) -> list[str]:
        """Return the published parts that make up a split."""
        return ["train", "extra"] if split == "train" and self.extra else [split]

    def read_part(self, part: str) -> ImageStore:
        """Return the images of one file."""
        from scipy.io import loadmat
        from torchvision import datasets
        from torchvision.datasets.utils import check_md5

        _, name, md5 = datasets.SVHN.split_list[part]
        file = Path(self.root, name)
        with reading(file, "Fetch it anew."):
            if not file.exists():
                raise self.missing(file)
            if not check_md5(file, md5):
                self.doubt(f"'{shown(file)}' is not the published file (MD5).")
            content = loadmat(file, variable_names=["X", "y"])
            images = whole_numbers(content["X"], np.uint8).transpose(3, 2, 0, 1)
            labels = whole_numbers(content["y"], np.int64).reshape(len(images))
            if images.shape[1:] != (3, EDGE, EDGE) or not np.isin(labels, range(11)).all():
                raise ValueError(f"it holds {images.shape[1:]} values per image and the labels {np.unique(labels)}")
            images, labels = np.ascontiguousarray(images), labels % 10
        return ImageStore(torch.from_numpy(images), torch.from_numpy(labels))
