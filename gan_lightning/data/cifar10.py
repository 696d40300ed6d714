"""CIFAR-10: small photographs of animals and vehicles; and the common format of CIFAR-10 and CIFAR-100."""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Integer

from gan_lightning.data.image_data import ImageData
from gan_lightning.data.store import ImageStore
from gan_lightning.interfaces import Split
from gan_lightning.system.private_names import PICKLED_ARRAYS
from gan_lightning.system.reading import reading, shown


@dataclass(eq=False, kw_only=True)
class CIFAR10(ImageData):
    """Colour photographs of 32x32 pixels in 10 classes: 50,000 train, 10,000 test.

    Reads `<root>/cifar-10-batches-py`.

    Source:
        Krizhevsky 2009, "Learning multiple layers of features from tiny images".
    """

    name = "cifar10"
    channels = 3
    label_kind = "classes"
    num_classes = 10

    def fetch(self) -> None:
        """Download the archive unless its files are there."""
        from torchvision import datasets

        datasets.CIFAR10(self.root, download=True)

    def read(self, split: Split) -> ImageStore:
        """Return the images in the files' order.

        Raises:
            DataError: Files are missing, damaged, or not the published ones.
        """
        from torchvision import datasets

        return read_batches(self, datasets.CIFAR10, split, "labels")


def read_batches(data: ImageData, published: Any, split: Split, label_key: str) -> ImageStore:
    """Return the images of a split's pickled batches, one after the other.

    Args:
        data: The data set, with its folder and `verify`.
        published: torchvision's class, with the files of each split, their folder and their MD5.
        split: The split to read.
        label_key: Entry of a batch that holds the labels.

    Raises:
        DataError: Files are missing, damaged, or not the published ones.
    """
    from torchvision.datasets.utils import check_md5

    images, labels = [], []
    for name, md5 in published.train_list if split == "train" else published.test_list:
        file = Path(data.root, published.base_folder, name)
        with reading(file, "Fetch it anew."):
            if not file.exists():
                raise data.missing(file)
            if not check_md5(file, md5):
                data.doubt(f"'{shown(file)}' is not the published file (MD5).")
            with file.open("rb") as stream:
                batch = ArrayUnpickler(stream, encoding="latin1").load()
            images.append(whole_numbers(batch["data"], np.uint8).reshape(-1, 3, 32, 32))
            labels.append(whole_numbers(batch[label_key], np.int64).reshape(len(images[-1])))
    return ImageStore(torch.from_numpy(np.concatenate(images)), torch.from_numpy(np.concatenate(labels)))


def whole_numbers(values: object, dtype: type[np.integer]) -> Integer[np.ndarray, "..."]:
    """Return values as whole numbers of a type; none may change.

    Raises:
        ValueError: A value does not fit the type.
    """
    found = np.asarray(values)
    same = found.astype(dtype, casting="unsafe")
    if found.dtype.kind not in "iu" or not np.array_equal(found, same):
        raise ValueError(f"its values are no {np.dtype(dtype).name}")
    return same


class ArrayUnpickler(pickle.Unpickler):
    """Unpickles arrays and plain values only, because a pickle can run any code when it is loaded."""

    def find_class(self, module: str, name: str) -> Any:
        """Return a class or function that rebuilds arrays; refuse all others."""
        if (module, name) in {("numpy", "ndarray"), ("numpy", "dtype"), *PICKLED_ARRAYS}:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it would load {module}.{name}")
