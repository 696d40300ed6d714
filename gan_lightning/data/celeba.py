"""CelebA: faces, with attributes and identities."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int64

from gan_lightning.data.decoded import decoded
from gan_lightning.data.image_data import ImageData
from gan_lightning.data.store import ImageStore
from gan_lightning.errors import DataError, refused, settings_of
from gan_lightning.interfaces import LabelKind, Split
from gan_lightning.system.reading import reading, shown

PUBLISHED_COUNT = 202_599
PUBLISHED_HEIGHT, PUBLISHED_WIDTH = 218, 178
ATTRIBUTES = 40
IDENTITIES = 10_177
PARTITION: dict[Split, int] = {"train": 0, "test": 2}


@dataclass(eq=False, kw_only=True)
class CelebA(ImageData):
    """Aligned faces of 178x218 pixels: 162,770 train, 19,962 test. The published validation part is not used.

    Reads `<root>/celeba`: `img_align_celeba/*.jpg`, `list_eval_partition.txt`, and the list of the labels asked for
    (`list_attr_celeba.txt`, `identity_CelebA.txt`). An image without a row in the list has the label -1. No person is
    in two parts: identities of the test split never occur in training.

    Args:
        image_size: Edge of the images in pixels.
        crop_size: Edge of the square cut from the centre, then resized; by default the image's whole width.
        labels: 40 attributes (0 or 1), one of 10,177 identities, or no labels.
        cache_dir: Folder for decoded images; by default the user's cache folder.

    Source:
        Liu et al. 2015, "Deep learning face attributes in the wild".
    """

    image_size: int = 64
    crop_size: int | None = None
    labels: Literal["attributes", "identity", "none"] = "attributes"
    cache_dir: str | Path | None = None

    name = "celeba"
    channels = 3

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            SettingError: The crop does not fit into the images.
        """
        super().__post_init__()
        if self.crop_size is not None and not 1 <= self.crop_size <= PUBLISHED_WIDTH:
            condition = f"be 1 to {PUBLISHED_WIDTH}, the width of the images"
            raise refused(self, "crop_size", condition, self.crop_size, "Leave it out to use the whole width.")

    @property
    def label_kind(self) -> LabelKind:
        """Kind of the labels, by the setting `labels`."""
        return "classes" if self.labels == "identity" else self.labels

    @property
    def num_classes(self) -> int:
        """Number of attributes, or of people in all parts of the data set; 0 without labels."""
        return {"attributes": ATTRIBUTES, "identity": IDENTITIES, "none": 0}[self.labels]

    def fetch(self) -> None:
        """Download and unpack the archive and the lists unless they are there; needs the package gdown."""
        from torchvision import datasets

        datasets.CelebA(self.root, download=True)

    def read(self, split: Split) -> ImageStore:
        """Return the images in the order of the partition list.

        Raises:
            DataError: Files are missing, damaged, or not the published ones.
        """
        images = Path(self.root, "celeba", "img_align_celeba")
        with reading(images, "Fetch it anew.", "listed"):
            if not images.is_dir():
                raise self.missing(images)
            present = {file.name for file in images.iterdir()}
        partition = self.read_list("list_eval_partition.txt", columns=1, allowed=range(3))
        listed = [name for name, (part,) in partition.items() if part == PARTITION[split]]
        chosen = [name for name in listed if name in present][: self.limit]
        found = len(present & partition.keys())
        if not found == len(partition) == PUBLISHED_COUNT:
            self.doubt(
                f"'{shown(images.parent)}' lists {len(partition):,} images and holds {found:,} of them, "
                f"of {PUBLISHED_COUNT:,} published."
            )
        if not chosen:
            raise DataError(f"'{shown(images)}' holds no image of the {split} split. Fetch it anew.")
        labels = self.read_labels(chosen)
        files = [images / name for name in chosen]
        with settings_of(self):
            pixels = decoded(files, self.whole_size, self.crop_size, self.cache_dir, f"{self.name}-{split}")
        return ImageStore(pixels, labels)

    def read_labels(self, names: list[str]) -> Int64[torch.Tensor, " count"] | Int64[torch.Tensor, "count 40"]:
        """Return the labels of images; -1 for images that are not in the list."""
        if self.labels == "none":
            return torch.full((len(names),), -1)
        if self.labels == "identity":
            people = self.read_list("identity_CelebA.txt", columns=1, allowed=range(1, IDENTITIES + 1))
            self.check_complete("identity_CelebA.txt", people)
            # The list counts people from 1.
            return torch.tensor([int(people[name][0]) - 1 if name in people else -1 for name in names])
        attributes = self.read_list("list_attr_celeba.txt", columns=ATTRIBUTES, allowed=(-1, 1), header=2)
        self.check_complete("list_attr_celeba.txt", attributes)
        unknown = np.full(ATTRIBUTES, -1, np.int64)
        # The list says -1 for no and 1 for yes.
        return torch.from_numpy(
            np.stack([(attributes[name] + 1) // 2 if name in attributes else unknown for name in names])
        )

    def read_list(
        self, name: str, columns: int, allowed: Sequence[int], header: int = 0
    ) -> dict[str, Int64[np.ndarray, " columns"]]:
        """Return a list's integers for each image; empty lines are skipped.

        Args:
            name: Of the list.
            columns: Number of integers in a row, after the image's name.
            allowed: Their allowed values.
            header: Number of lines before the rows.

        Raises:
            DataError: The list is missing or is not of this form.
        """
        file = Path(self.root, "celeba", name)
        with reading(file, "Fetch it anew."):
            if not file.exists():
                raise self.missing(file)
            text = file.read_text(encoding="utf-8")
        lines = [(number, line.split()) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
        if header and lines and len(lines[0][1]) != 1:
            raise DataError(
                f"Line {lines[0][0]} of '{shown(file)}' must be the number of images, before a line of names, got "
                f"{shown(' '.join(lines[0][1])[:80])!r}. Fetch it anew."
            )
        values: dict[str, Int64[np.ndarray, " columns"]] = {}
        possible = frozenset(allowed)
        for number, (image, *cells) in lines[header:]:
            try:
                row = [int(cell) for cell in cells]
            except ValueError:
                row = []
            if len(row) != columns or not possible.issuperset(row) or image in values:
                twice = f" a second time for {shown(image)}" if image in values else ""
                what = (
                    f"a whole number from {allowed[0]} to {allowed[-1]}"
                    if columns == 1
                    else (f"{columns} whole numbers, {allowed[0]} or {allowed[-1]}")
                )
                raise DataError(
                    f"Line {number} of '{shown(file)}' must give {what} for an image of its own, "
                    f"got {shown(' '.join([image, *cells])[:80])!r}{twice}. Correct it, or fetch the list anew."
                )
            values[image] = np.array(row, np.int64)
        return values

    def check_complete(self, name: str, labels: dict[str, Int64[np.ndarray, " columns"]]) -> None:
        """Demand that a list has a row for every published image."""
        if len(labels) != PUBLISHED_COUNT:
            file = Path(self.root, "celeba", name)
            self.doubt(f"'{shown(file)}' has {len(labels):,} rows, of {PUBLISHED_COUNT:,} published.")
