"""A folder that the package `datasets` of Hugging Face has written: images with classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gan_lightning.data.image_arrays import held_out
from gan_lightning.data.image_data import ImageData
from gan_lightning.data.picture import eight_bits, packing, planes, shorter_side_resized
from gan_lightning.data.store import ImageStore
from gan_lightning.errors import DataError, SettingError, between_zero_and_one, refused
from gan_lightning.interfaces import LabelKind, Split
from gan_lightning.system.reading import reading, shown

TEST_NAMES = ("test", "validation", "valid", "val")
"""Names of the split that counts as the test split; the first that is there."""


@dataclass(eq=False, kw_only=True)
class HuggingFace(ImageData):
    """A data set in a folder that `datasets` has written: `data_set.save_to_disk("folder")`, or Parquet files.

    The split `train` is for training; `test`, or else `validation`, is the test split. A folder with one split has no
    test split: a part of each class is held out. Images are resized, cut to a square and kept in memory as bytes.
    Nothing is fetched.

    Args:
        root: The folder.
        channels: 3 for colour, 1 for grey.
        image_column: Name of the images' column; by default the first column of images.
        label_column: Name of the classes' column; by default the first of classes. Without one there is only training.
        test_fraction: Share of each class that is held out, of a folder with one split.
    """

    channels: int = 3
    image_column: str | None = None
    label_column: str | None = None
    test_fraction: float = 0.1

    class_names: list[str] = field(init=False, repr=False, default_factory=list)

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            SettingError: A setting is out of range, or the package is missing.
        """
        super().__post_init__()
        self.name = shown(Path(self.root).name) or "data_set"
        if self.channels not in (1, 3):
            raise refused(self, "channels", "be 3 (colour) or 1 (grey)", self.channels)
        between_zero_and_one(self, "0.1 is usual.", test_fraction=self.test_fraction)
        if self.download:
            raise SettingError("download must be false: fetch the data set with the package datasets.", self)

    @property
    def classes(self) -> list[str]:
        """Names of the classes; empty without labels."""
        _ = self.stores
        return self.class_names

    @property
    def label_kind(self) -> LabelKind:
        """`classes`, or `none` without a column of classes."""
        return "classes" if self.classes else "none"

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 without labels."""
        return len(self.classes)

    def fetch(self) -> None:
        """Do nothing: the folder is the user's own."""

    def read(self, split: Split) -> ImageStore:
        """Return the images in the folder's order.

        Raises:
            DataError: The folder cannot be read, or has no images.
        """
        return self.stores[split]

    @cached_property
    def stores(self) -> dict[Split, ImageStore]:
        """Both splits, decoded.

        Raises:
            DataError: The folder cannot be read, or has no images.
            SettingError: The package is missing.
        """
        tables = self._tables()
        if "train" not in tables:
            raise DataError(f"'{shown(Path(self.root))}' must have a split train, got {sorted(tables)}. Rename one.")
        test = next((name for name in TEST_NAMES if name in tables), None)
        used = {"train": tables["train"]} if test is None else {"train": tables["train"], "test": tables[test]}
        labels = self._labels(used)
        stores = {split: self._store(table, labels[split]) for split, table in used.items()}
        if test is None:
            return held_out(stores["train"], self.test_fraction)
        return {"train": stores["train"], "test": stores["test"]}

    def _labels(self, tables: Mapping[str, Any]) -> dict[str, list[int]]:
        """Return each split's classes as numbers, and keep their names; -1 where one is not known.

        Raises:
            DataError: There is no column of the given name, or the splits name their classes differently.
        """
        columns = {
            split: self._column("label_column", self.label_column, table.features, "ClassLabel")
            for split, table in tables.items()
        }
        if None in columns.values():
            return {split: [-1] * len(table) for split, table in tables.items()}
        values = {split: list(table[columns[split]]) for split, table in tables.items()}
        declared = [getattr(table.features[columns[split]], "names", None) for split, table in tables.items()]
        if any(names != declared[0] for names in declared):
            raise DataError(f"'{shown(Path(self.root))}' must name its classes alike in all splits, got {declared}.")
        known = {each for split in values.values() for each in split if each is not None}
        if declared[0]:
            self.class_names = list(declared[0])
        elif all(isinstance(each, int) and each >= 0 for each in known):
            self.class_names = [str(number) for number in range(max(known, default=-1) + 1)]
        elif all(isinstance(each, str) for each in known):
            self.class_names = sorted(known)
            place = {name: number for number, name in enumerate(self.class_names)}
            values = {split: [each if each is None else place[each] for each in own] for split, own in values.items()}
        else:
            kinds = sorted({type(each).__name__ for each in known})
            raise DataError(f"'{shown(Path(self.root))}' must have classes by number or by name, got {kinds}.")
        return {split: [-1 if each is None else each for each in own] for split, own in values.items()}

    def _tables(self) -> Mapping[str, Any]:
        """Return the folder's tables under the splits' names; a folder of one table is the training split."""
        try:
            import datasets
        except ImportError as error:
            raise SettingError(
                "data must not be HuggingFace without the package datasets. Install it: "
                "pip install 'gan-lightning[datasets]'"
            ) from error
        folder = Path(self.root)
        with reading(folder, "Set root to a folder that `save_to_disk` has written, or to one of Parquet files."):
            if not folder.is_dir():
                raise DataError(f"No folder '{shown(folder)}'. Set root to the folder of a data set.")
            files: dict[str, list[str]] = {}
            for file in sorted(folder.rglob("*.parquet")):
                files.setdefault(file.name.split("-")[0].removesuffix(".parquet"), []).append(str(file))
            found = (
                datasets.load_dataset("parquet", data_files=files) if files else datasets.load_from_disk(str(folder))
            )
        return found if isinstance(found, datasets.DatasetDict) else {"train": found}

    def _store(self, table: Any, labels: Sequence[int]) -> ImageStore:
        features = table.features
        image = self._column("image_column", self.image_column, features, "Image")
        if image is None:
            raise DataError(f"'{shown(Path(self.root))}' must have a column of images, got {sorted(features)}.")
        count = len(table) if self.limit is None else min(self.limit, len(table))
        pixels = np.empty((count, self.channels, self.whole_size, self.whole_size), np.uint8)
        for place in range(count):
            named = Path(self.root, f"image {place}")
            with reading(named, "Replace or remove it.", "read as an image"):
                given = table[place][image]
                picture = shorter_side_resized(eight_bits(given, packing(given), named), self.whole_size)
                left, top = ((edge - self.whole_size) // 2 for edge in picture.size)
                square = picture.crop((left, top, left + self.whole_size, top + self.whole_size))
                pixels[place] = planes(square, self.channels)
        return ImageStore(torch.from_numpy(pixels), torch.tensor(labels[:count], dtype=torch.long))

    def _column(self, setting: str, name: str | None, features: Mapping[str, Any], kind: str) -> str | None:
        """Return a column's name; None if it is not named and there is none of this kind.

        Raises:
            DataError: There is no column of the given name.
        """
        if name is None:
            return next((each for each, feature in features.items() if type(feature).__name__ == kind), None)
        if name not in features:
            raise DataError(
                f"'{shown(Path(self.root))}' has no column '{name}', but {sorted(features)}. Set {setting}."
            )
        return name
