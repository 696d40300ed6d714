"""Any folder of images, with a folder per class or without."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from gan_lightning.data.base import ImageData
from gan_lightning.data.decoded import decoded
from gan_lightning.data.store import ImageStore
from gan_lightning.errors import DataError, SettingError
from gan_lightning.interfaces import LabelKind, Split

Samples = list[tuple[Path, int]]


@dataclass(eq=False, kw_only=True)
class ImageFolder(ImageData):
    """Your own images: `<root>/<class>/*`, or `<root>/*` without labels, in any format that Pillow reads.

    Where `<root>/train` exists it is the training split, and `<root>/val` or else `<root>/test` the test split;
    otherwise a fixed share of the files is held out. Images become RGB; the shorter side is resized to
    `image_size`, or `crop_from`, and the centre is kept. The classes alternate in stored order, so `limit` keeps all of
    them. `verify` has no effect.

    Args:
        root: Folder of the images.
        image_size: Edge of the images in pixels.
        test_fraction: Share of the files held out for testing where the folder ships no split.
        cache_dir: Folder for decoded images; by default the user's cache folder.
    """

    image_size: int = 64
    test_fraction: float = 0.1
    cache_dir: str | Path | None = None

    channels = 3

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            SettingError: A setting is out of range.
        """
        super().__post_init__()
        self.name = Path(self.root).resolve().name
        if not 0 < self.test_fraction < 1:
            raise SettingError(
                f"test_fraction must be between 0 and 1, got {self.test_fraction}. Set --data.test_fraction=0.1."
            )
        if self.download:
            raise SettingError(
                "download must be false for an ImageFolder, got true. Put the images into the folder yourself."
            )

    @cached_property
    def classes(self) -> list[str]:
        """Names of the class folders, sorted; none where the images lie in one folder.

        Raises:
            DataError: The folder is missing or empty.
        """
        return class_folders(self.training_folder)

    @property
    def training_folder(self) -> Path:
        """The folder `train` where there is one, else the root."""
        train = Path(self.root, "train")
        return train if train.is_dir() else Path(self.root)

    @property
    def label_kind(self) -> LabelKind:
        """`classes`, or `none` where the images lie in one folder."""
        return "classes" if self.classes else "none"

    @property
    def num_classes(self) -> int:
        """Number of class folders."""
        return len(self.classes)

    def fetch(self) -> None:
        """Do nothing: the images are the user's own."""

    def read(self, split: Split) -> ImageStore:
        """Return the images, the classes in turn.

        Raises:
            DataError: The folder is missing or empty, or an image is damaged.
        """
        samples = self.samples(split)[: self.limit]
        files, labels = [file for file, _ in samples], torch.tensor([label for _, label in samples])
        pixels = decoded(files, self.whole_size, None, self.cache_dir, f"{self.name}-{split}")
        return ImageStore(pixels, labels)

    def samples(self, split: Split) -> Samples:
        """Return the files of a split and their labels."""
        training_folder = self.training_folder
        if training_folder != Path(self.root):
            if split == "train":
                return self.list_files(training_folder)
            for name in ("val", "test"):
                if Path(self.root, name).is_dir():
                    return self.list_files(Path(self.root, name))
            raise DataError(f"'{self.root}' has 'train' but neither 'val' nor 'test'. Add the test images there.")
        samples = self.list_files(training_folder)
        held_out = max(1, round(len(samples) * self.test_fraction))
        order = np.random.default_rng(0).permutation(len(samples))
        chosen = order[:held_out] if split == "test" else order[held_out:]
        if not len(chosen):
            raise DataError(f"'{self.root}' holds {len(samples)} image, too few to hold one out. Add images.")
        return [samples[index] for index in sorted(chosen)]

    def list_files(self, folder: Path) -> Samples:
        """Return the image files below a folder and their labels, the classes in turn.

        Raises:
            DataError: A class has no images, or the folder has other classes than the training folder.
        """
        from torchvision.datasets.folder import IMG_EXTENSIONS, is_image_file, make_dataset

        if class_folders(folder) != self.classes:
            raise DataError(f"'{folder}' must hold the same class folders as '{self.training_folder}'.")
        if not self.classes:
            return [(file, -1) for file in sorted(folder.iterdir()) if is_image_file(file.name)]
        indices = {name: index for index, name in enumerate(self.classes)}
        try:
            by_class = make_dataset(folder, indices, IMG_EXTENSIONS)
        except FileNotFoundError as error:
            raise DataError(f"'{folder}' must hold images of each class ({error}).") from error
        # The first image of every class, then the second of every class, and so on.
        turns = np.concatenate([np.arange(size) for size in np.bincount([label for _, label in by_class])])
        return [(Path(by_class[index][0]), by_class[index][1]) for index in np.argsort(turns, kind="stable")]


def class_folders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted; none where it holds images itself.

    Raises:
        DataError: The folder is missing or empty.
    """
    from torchvision.datasets.folder import is_image_file

    if not folder.is_dir():
        raise DataError(f"No folder '{folder}'. Set --data.root to a folder of images.")
    with os.scandir(folder) as entries:
        is_folder = {entry.name: entry.is_dir() for entry in entries if not entry.name.startswith(".")}
    if any(is_image_file(name) for name in is_folder):
        return []
    classes = sorted(name for name in is_folder if is_folder[name])
    if not classes:
        raise DataError(f"'{folder}' holds neither images nor class folders. Set --data.root to another folder.")
    return classes
