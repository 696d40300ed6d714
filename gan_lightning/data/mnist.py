"""MNIST: handwritten digits."""

import gzip
import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8

from gan_lightning.data.image_data import ImageData
from gan_lightning.data.store import ImageStore, shuffled
from gan_lightning.data.transforms import Enlarge
from gan_lightning.errors import DataError, refused
from gan_lightning.interfaces import Split
from gan_lightning.system.reading import reading, shown

EDGE = 28
FILES: dict[Split, tuple[str, str]] = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
UNPACKED_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
"""Checksums of the files inside the archives that torchvision lists."""

DRAW = 0
"""Seed of the draw of validation images."""

PUBLISHED_COUNT: dict[Split, int] = {"train": 60_000, "test": 10_000}


@dataclass(eq=False, kw_only=True)
class MNIST(ImageData):
    """Handwritten digits of 28x28 pixels: 60,000 train, 10,000 test.

    Reads `<root>/MNIST/raw`, the IDX files as they are or still packed (`.gz`).

    Args:
        enlarge: From 28 pixels to `image_size`: `pad` keeps the pixels and adds black, `resize` interpolates.
        evaluate_on: The images that are not trained on: the 10,000 of `test`, or for `validation` 10,000 of the
            training images, drawn at random, always the same ones. Training then has the other 50,000.

    Source:
        LeCun et al. 1998, "Gradient-based learning applied to document recognition".
    """

    enlarge: Enlarge = "pad"
    evaluate_on: Literal["test", "validation"] = "test"

    name = "mnist"
    channels = 1
    label_kind = "classes"
    num_classes = 10

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            SettingError: Padding cannot make an image smaller.
        """
        super().__post_init__()
        if self.enlarge == "pad" and self.whole_size < EDGE:
            condition = f"be at least {EDGE} with enlarge=pad"
            raise refused(self, "image_size", condition, self.image_size, "Set enlarge to resize.")

    def fetch(self) -> None:
        """Download the four files unless they are there, packed or not."""
        from torchvision import datasets

        try:
            for name in sum(FILES.values(), ()):
                self.find(name)
        except DataError:
            datasets.MNIST(self.root, download=True)

    def read(self, split: Split) -> ImageStore:
        """Return the images in the files' order.

        Raises:
            DataError: Files are missing, damaged, or not the published ones.
        """
        if self.evaluate_on == "validation":
            store = self.read_files("train")
            order, trained = shuffled(len(store), DRAW, 0), len(store) * 5 // 6
            chosen = (order[:trained] if split == "train" else order[trained:]).sort().values
            return ImageStore(*store[chosen])
        return self.read_files(split)

    def read_files(self, split: Split) -> ImageStore:
        """Return a split as published.

        Raises:
            DataError: Files are missing, damaged, or not the published ones.
        """
        images_file, labels_file = (self.find(name) for name in FILES[split])
        images, labels = self.read_idx(images_file), self.read_idx(labels_file)
        if images.shape[1:] != (EDGE, EDGE) or labels.shape != images.shape[:1]:
            raise DataError(
                f"'{shown(images_file)}' must hold images of {EDGE}x{EDGE} pixels, and '{shown(labels_file)}' a label "
                f"for each, got {images.shape} and {labels.shape}. Fetch both anew."
            )
        if images.shape != (PUBLISHED_COUNT[split], EDGE, EDGE):
            self.doubt(f"'{shown(images_file)}' holds {images.shape} values, not {PUBLISHED_COUNT[split]:,} images.")
        return ImageStore(torch.from_numpy(images[:, None]), torch.from_numpy(labels.astype(np.int64)))

    def find(self, name: str) -> Path:
        """Return a file, unpacked if it is there, else packed."""
        file = Path(self.root, "MNIST", "raw", name)
        packed = file.with_name(f"{name}.gz")
        with reading(file, "Fetch it anew."):
            if not file.exists() and not packed.exists():
                raise self.missing(file)
            return file if file.exists() else packed

    def read_idx(self, file: Path) -> UInt8[np.ndarray, "..."]:
        """Return the array of an IDX file of bytes.

        Source:
            The layout, from the page of the data set: two zero bytes, type 8 (unsigned byte), the number of
            dimensions, each dimension as a big-endian int32, the values.
        """
        with reading(file, "Fetch it anew."):
            content = file.read_bytes()
            if file.suffix == ".gz":
                content = gzip.decompress(content)
            dimensions = content[3] if content.startswith(b"\0\0\x08") and len(content) > 3 else 0
            start = 4 + 4 * dimensions
            shape = np.frombuffer(content[4:start], ">i4").tolist() if len(content) >= start else []
            if not shape or min(shape) < 0 or len(content) != start + math.prod(shape):
                raise ValueError("it is not an IDX file of bytes, or is cut short")
            if hashlib.md5(content, usedforsecurity=False).hexdigest() != UNPACKED_MD5[file.name.removesuffix(".gz")]:
                self.doubt(f"'{shown(file)}' is not the published file (MD5).")
            return np.frombuffer(bytearray(content), np.uint8, offset=start).reshape(shape)
