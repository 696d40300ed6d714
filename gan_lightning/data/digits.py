"""Digits: 8x8 scans that scikit-learn ships, for runs of seconds."""

from dataclasses import dataclass

import numpy as np
import torch

from gan_lightning.data.image_data import ImageData
from gan_lightning.data.store import ImageStore
from gan_lightning.interfaces import Split


@dataclass(eq=False, kw_only=True)
class Digits(ImageData):
    """1,797 handwritten digits of 8x8 pixels, enlarged: 1,437 train, 360 test.

    They come with scikit-learn, so `root`, `download` and `verify` have no effect. The file ships no split; this one
    is fixed and stratified by class. The same writers are in both parts, so test accuracy is flattering.

    Source:
        Test part of UCI "Optical Recognition of Handwritten Digits", as `sklearn.datasets.load_digits`.
    """

    name = "digits"
    channels = 1
    label_kind = "classes"
    num_classes = 10

    def fetch(self) -> None:
        """Do nothing: scikit-learn ships the file."""

    def read(self, split: Split) -> ImageStore:
        """Return the images in the file's order; 0..16 becomes 0..255."""
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        digits = load_digits()
        everything = np.arange(len(digits.target))
        train, test = train_test_split(everything, test_size=360, stratify=digits.target, random_state=0)
        chosen = np.sort(train if split == "train" else test)
        pixels = np.rint(digits.images[chosen] * (255 / 16)).astype(np.uint8)
        labels = digits.target[chosen].astype(np.int64)
        return ImageStore(torch.from_numpy(pixels[:, None]), torch.from_numpy(labels))
