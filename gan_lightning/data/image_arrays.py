"""Images and labels that lie in arrays: a file of numpy's, or what a program holds in its memory."""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from gan_lightning.data.holding_out import held_out_of_class
from gan_lightning.data.image_data import ImageData
from gan_lightning.data.store import ImageStore
from gan_lightning.errors import DataError, SettingError, between_zero_and_one, one_of, refused
from gan_lightning.interfaces import LabelKind, Split
from gan_lightning.system.reading import reading, shown

Layout = Literal["auto", "channels_first", "channels_last"]

MOST_CHANNELS = 4
"""Most channels of images whose layout is found by the shape."""

NAMES: Mapping[Split, tuple[tuple[str, str], ...]] = {
    "train": (("train_images", "train_labels"), ("x_train", "y_train"), ("images", "labels")),
    "test": (("test_images", "test_labels"), ("x_test", "y_test")),
}
"""Names of images and labels in a file, for each split."""

Arrays = Mapping[Split, tuple[np.ndarray, np.ndarray | None]]


@dataclass(eq=False, kw_only=True)
class ImageArrays(ImageData):
    """Images and labels in a file of numpy's, `.npz`; or arrays and tensors in memory, by `ImageArrays.of`.

    The file has the arrays `train_images`, `train_labels`, `test_images` and `test_labels`, or `x_train`, `y_train`,
    `x_test` and `y_test`. A file with `images` and `labels` alone has no test split: a part of each class is held out.
    Images are (count, height, width), (count, channels, height, width) or (count, height, width, channels). Labels are
    a class per image, or 0/1 per attribute, with -1 for an unknown one; without labels there is only training.
    `classes`, an array of names, is for pictures and tables. Images are stored as bytes: others are rounded to 8 bits.

    Args:
        root: The file.
        layout: Order of the axes; "auto" takes the axis of at most four for the channels.
        value_range: Values of black and of white, of images that are not bytes.
        test_fraction: Share of each class that is held out, of a file without a test split.
    """

    layout: Layout = "auto"
    value_range: tuple[int | float, int | float] | None = None
    test_fraction: float = 0.1

    given: Arrays | None = field(init=False, repr=False, default=None)
    class_names: list[str] = field(init=False, repr=False, default_factory=list)

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            SettingError: A setting is out of range.
        """
        super().__post_init__()
        self.name = shown(Path(self.root).stem) or "arrays"
        one_of(self, get_args(Layout), layout=self.layout)
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            raise refused(self, "value_range", "be black and white, the smaller first", self.value_range)
        between_zero_and_one(self, "0.1 is usual.", test_fraction=self.test_fraction)
        if self.download:
            raise SettingError("download must be false for arrays of your own, got true.", self)

    @classmethod
    def of(
        cls,
        train: tuple[Tensor | np.ndarray, Tensor | np.ndarray | None],
        test: tuple[Tensor | np.ndarray, Tensor | np.ndarray | None] | None = None,
        *,
        name: str = "arrays",
        **settings: Any,
    ) -> "ImageArrays":
        """Return a data set of arrays or tensors in memory.

        Args:
            train: Images and labels of the training split; the labels may be None.
            test: Of the test split; by default a part of the training split is held out.
            name: Short name of the data set, for tables and folders.
            settings: As `ImageArrays` takes them.

        Raises:
            SettingError: A setting is out of range.
        """
        made = cls(root=name, **settings)
        made.name = name
        pairs: dict[Split, Any] = {"train": train} if test is None else {"train": train, "test": test}
        made.given = {split: (_array(images), _array(labels)) for split, (images, labels) in pairs.items()}
        return made

    @property  # type: ignore[misc]
    def channels(self) -> int:  # type: ignore[override]
        """Channels of the images."""
        return self.stores["train"].images.shape[1]

    @property
    def label_kind(self) -> LabelKind:
        """Kind of the labels."""
        labels = self.stores["train"].labels
        return "attributes" if labels.ndim == 2 else "classes" if (labels >= 0).any() else "none"

    @property
    def num_classes(self) -> int:
        """Number of classes, or of attributes; 0 without labels."""
        labels = self.stores["train"].labels
        kind = self.label_kind
        if kind == "attributes":
            return labels.shape[1]
        highest = max(int(store.labels.max()) for store in self.stores.values())
        return max(highest + 1, len(self.class_names)) if kind == "classes" else 0

    @property
    def classes(self) -> list[str]:
        """Names of the classes or attributes; empty if the file has none."""
        _ = self.stores
        return self.class_names

    def fetch(self) -> None:
        """Do nothing: the arrays are the user's own."""

    def read(self, split: Split) -> ImageStore:
        """Return the images in the arrays' order.

        Raises:
            DataError: The file cannot be read, or its arrays are no images and labels.
        """
        return self.stores[split]

    @cached_property
    def stores(self) -> dict[Split, ImageStore]:
        """Both splits, checked.

        Raises:
            DataError: The file cannot be read, or its arrays are no images and labels.
        """
        arrays = self.given if self.given is not None else self._in_file()
        found = {split: self._store(split, *pair) for split, pair in arrays.items()}
        first = found["train"]
        if "test" not in found:
            found = held_out(first, self.test_fraction)
        for what in ("images", "labels"):
            of_train, of_test = (getattr(found[split], what).shape[1:] for split in ("train", "test"))
            if what == "images" and of_train[0] != of_test[0]:
                raise self._unfit("test images", f"have {of_train[0]} channels as the training images", of_test[0])
            if what == "labels" and of_train != of_test:
                raise self._unfit("test labels", f"be of the form {tuple(of_train)} an image", tuple(of_test))
        count = (
            first.labels.shape[1] if first.labels.ndim == 2 else 1 + max(int(s.labels.max()) for s in found.values())
        )
        if self.class_names and len(self.class_names) < count:
            raise self._unfit("classes", f"name each of {count} labels", f"{len(self.class_names)} names")
        return found

    def _in_file(self) -> Arrays:
        """Return the arrays of the file under the splits' names.

        Raises:
            DataError: There is no file, it cannot be read, or it has no images.
        """
        file = Path(self.root)
        with reading(file, "Set root to a .npz file of images and labels."):
            if not file.is_file():
                raise DataError(f"No file '{shown(file)}'. Set root to a .npz file of images and labels.")
            if not zipfile.is_zipfile(file):
                raise ValueError("no .npz file")
            found: dict[Split, tuple[np.ndarray, np.ndarray | None]] = {}
            with np.load(file, allow_pickle=False) as content:
                for split, names in NAMES.items():
                    for images, labels in names:
                        if images in content:
                            found[split] = content[images], content.get(labels)
                            break
                if "classes" in content:
                    self.class_names = [str(name) for name in content["classes"].tolist()]
                if "train" not in found:
                    known = " or ".join(images for images, _ in NAMES["train"])
                    raise DataError(
                        f"'{shown(file)}' must hold an array {known}, got {sorted(content)}. Rename the array."
                    )
        return found

    def _store(self, split: Split, images: np.ndarray, labels: np.ndarray | None) -> ImageStore:
        pixels = torch.from_numpy(self._bytes(split, self._channels_first(split, images)))
        if labels is None:
            return ImageStore(pixels, torch.full((len(pixels),), -1))
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]  # a column, as Keras has it
        if labels.ndim not in (1, 2) or len(labels) != len(pixels) or labels.dtype.kind not in "iub":
            expected = f"be whole numbers, a class or attributes for each of {len(pixels)} images"
            raise self._unfit(f"{split} labels", expected, f"{labels.dtype} {labels.shape}")
        return ImageStore(pixels, torch.from_numpy(labels.astype(np.int64)))

    def _channels_first(self, split: Split, images: np.ndarray) -> np.ndarray:
        """Return images as (count, channels, height, width).

        Raises:
            DataError: They have another form, or one that does not tell.
        """
        if images.ndim == 3:
            images = images[:, None]
        elif images.ndim == 4:
            layout = self.layout
            if layout == "auto":
                first, last = (images.shape[axis] <= MOST_CHANNELS for axis in (1, 3))
                if first == last:
                    raise self._unfit(
                        f"{split} images", "have at most four channels in one of two places", images.shape,
                        "Set layout to channels_first or channels_last.",
                    )  # fmt: skip
                layout = "channels_first" if first else "channels_last"
            images = images if layout == "channels_first" else images.transpose(0, 3, 1, 2)
        if images.ndim != 4 or not images.size:
            raise self._unfit(f"{split} images", "be (count, height, width) with or without channels", images.shape)
        return images

    def _bytes(self, split: Split, images: np.ndarray) -> np.ndarray:
        """Return images as bytes.

        Raises:
            DataError: Their range is not known, or they lie outside of it.
        """
        if images.dtype == np.uint8 and self.value_range is None:
            return np.ascontiguousarray(images)
        if images.dtype.kind not in "fiub":
            raise self._unfit(f"{split} images", "be numbers", images.dtype)
        if self.value_range is None:
            remedy = "Set value_range, such as [0, 1], or give bytes (uint8)."
            raise self._unfit(f"{split} images", "be bytes or of a known range", images.dtype, remedy)
        black, white = self.value_range
        lowest, highest = float(images.min()), float(images.max())
        slack = (white - black) / 512
        if not black - slack <= lowest <= highest <= white + slack:
            expected = f"lie in value_range, {black:g} to {white:g}"
            raise self._unfit(f"{split} images", expected, f"{lowest:g} to {highest:g}", "Correct value_range.")
        scaled = (images.astype(np.float32) - black) * (255 / (white - black))
        return np.ascontiguousarray(scaled.round().clip(0, 255).astype(np.uint8))

    def _unfit(self, what: str, condition: str, got: object, remedy: str = "Correct the arrays.") -> DataError:
        place = self.name if self.given is not None else f"'{shown(Path(self.root))}'"
        return DataError(f"{place}: {what} must {condition}, got {got}. {remedy}")


def held_out(store: ImageStore, fraction: float) -> dict[Split, ImageStore]:
    """Return both splits of one store; each class of two images or more has at least one in each split.

    Images with attributes, or without labels, count as one class. The choice depends on the labels alone.

    Args:
        store: All images.
        fraction: Share of each class for the test split.

    Raises:
        DataError: No class has two images.
    """
    labels = store.labels if store.labels.ndim == 1 else torch.zeros(len(store), dtype=torch.long)
    held = torch.zeros(len(store), dtype=torch.bool)
    for label in labels.unique().tolist():
        places = (labels == label).nonzero()[:, 0]
        held[places[held_out_of_class(len(places), fraction, label + 1)]] = True
    if not held.any():
        raise DataError("a test split must have images, got none: each class has one. Add images, or a test split.")
    chosen: dict[Split, Tensor] = {"train": ~held, "test": held}
    return {split: ImageStore(store.images[which], store.labels[which]) for split, which in chosen.items()}


def _array(value: Tensor | np.ndarray | None) -> Any:
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else value if value is None else np.asarray(value)
