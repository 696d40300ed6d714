"""Data sets of tensors in memory."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Num, UInt8
from torch import Tensor

from gan_lightning.errors import SettingError
from gan_lightning.interfaces import Images, LabelKind, Labels, Split
from gan_lightning.system.processes import process_count, process_rank

ROUNDING = 1e-3
"""Largest excess of an interpolation over [-1, 1]."""


def to_bytes(images: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """Return images in [-1, 1] as bytes."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def from_bytes(images: Num[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return images in [-1, 1] of values from 0 to 255."""
    return (images / 127.5).sub_(1)  # without a second copy of what may be a whole data set


@dataclass(frozen=True)
class TensorBatches:
    """Batches of two tensors, in their order.

    Attributes:
        images: In [-1, 1].
        labels: One row each.
        batch_size: Images per batch; the last may be smaller.
    """

    images: Images
    labels: Labels
    batch_size: int

    def __len__(self) -> int:
        """Return the number of batches."""
        return -(-len(self.images) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Images, Labels]]:
        """Yield images and their labels."""
        for start in range(0, len(self.images), self.batch_size):
            rows = slice(start, start + self.batch_size)
            yield self.images[rows], self.labels[rows]


class TensorImages:
    """A labelled data set (`LabelledImages`) of tensors, or of numpy arrays.

    Args:
        name: Short name of the data set, for tables.
        train: Images and their labels. Images (count, channels, size, size) are floating-point values in [-1, 1] or
            bytes, 0 to 255; evaluations see float32 in [-1, 1]. Labels are whole numbers: a class each, or 0/1 per
            attribute; -1 for an unknown one.
        test: As `train`.
        num_classes: Number of classes, or of attributes.
        batch_size: Images given to extractors at a time.

    Raises:
        SettingError: `batch_size` is below 1, or images or labels are not as above, or the splits differ in kind.
    """

    def __init__(
        self,
        name: str,
        *,
        train: tuple[Tensor | np.ndarray, Tensor | np.ndarray],
        test: tuple[Tensor | np.ndarray, Tensor | np.ndarray],
        num_classes: int,
        batch_size: int = 256,
    ) -> None:
        if batch_size < 1:
            raise SettingError(f"batch_size must be at least 1, got {batch_size}; 256 is usual.")
        splits: dict[Split, tuple[Tensor, Tensor]] = {"train": checked("train", train), "test": checked("test", test)}
        (images, labels), (test_images, test_labels) = splits.values()
        if images.shape[1:] != test_images.shape[1:]:
            raise SettingError(
                f"test images must have the channels and the size of the train images, {tuple(images.shape[1:])}, "
                f"got {tuple(test_images.shape[1:])}. Resize one of the two."
            )
        if labels.shape[1:] != test_labels.shape[1:]:
            raise SettingError(
                f"test labels must have the form of the train labels, {form(labels)}, got {form(test_labels)}. "
                "Give a class each in both, or the same attributes."
            )
        for split, (_, each) in splits.items():
            check_range(split, each, num_classes)
        self.name = name
        self.channels = images.shape[1]
        self.image_size = images.shape[-1]
        self.label_kind: LabelKind = "classes" if labels.ndim == 1 else "attributes"
        self.num_classes = num_classes
        self.batch_size = batch_size
        self._splits = splits

    def evaluation_batches(self, split: Split, device: torch.device) -> TensorBatches:
        """Return a split in stored order; if several processes run, this process's contiguous share."""
        images, labels = (
            tensor.tensor_split(process_count())[process_rank()].to(device) for tensor in self._splits[split]
        )
        return TensorBatches(images, labels, self.batch_size)


def checked(split: Split, pair: object) -> tuple[Images, Labels]:
    """Return a split's images as float32 in [-1, 1] and its labels as int64.

    Raises:
        SettingError: They are not images and their labels.
    """
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise SettingError(
            f"{split} must be a pair of images and labels, got {type(pair).__name__}. Give {split}=(images, labels)."
        )
    images, labels = (
        tensor_of(f"{split} {what}", value) for what, value in zip(("images", "labels"), pair, strict=True)
    )
    return checked_images(split, images), checked_labels(split, labels, len(images))


def tensor_of(what: str, value: object) -> Tensor:
    """Return a tensor, or an array as one.

    Raises:
        SettingError: It is none, or of a type that torch does not know.
    """
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, np.ndarray):
        try:
            native = value.astype(value.dtype.newbyteorder("="), order="C", copy=not value.flags.writeable)
            return torch.from_numpy(native)
        except TypeError as error:
            raise SettingError(f"{what} must be numbers that torch knows, got {value.dtype}. Convert them.") from error
    raise SettingError(
        f"{what} must be a tensor or a numpy array, got {type(value).__name__}. Convert it with torch.as_tensor."
    )


def checked_images(split: Split, images: Tensor) -> Images:
    """Return images as float32 in [-1, 1].

    Raises:
        SettingError: They have another form or other values.
    """
    what = f"{split} images"
    if images.ndim != 4 or not images.numel() or images.shape[2] != images.shape[3]:
        raise SettingError(
            f"{what} must be of the shape (count, channels, size, size), got {tuple(images.shape)}. Reshape them."
        )
    if images.dtype == torch.uint8:
        return from_bytes(images)
    if not images.is_floating_point():
        raise SettingError(
            f"{what} must be floating-point values in [-1, 1] or bytes (uint8), got {images.dtype}. Convert them."
        )
    images = images.float()
    lowest, highest = (float(end) for end in images.aminmax())
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        raise SettingError(
            f"{what} must be finite, got NaN or infinity. Look for what made them so, or leave them out."
        )
    if lowest < -1 - ROUNDING or highest > 1 + ROUNDING:
        raise SettingError(
            f"{what} must lie in [-1, 1], got {lowest:.4g} to {highest:.4g}. Scale them; values from 0 to 255 with "
            "images / 127.5 - 1."
        )
    return images


def checked_labels(split: Split, labels: Tensor, count: int) -> Labels:
    """Return labels as int64.

    Raises:
        SettingError: They have another form or other values.
    """
    what = f"{split} labels"
    if labels.is_floating_point() or labels.is_complex():
        raise SettingError(
            f"{what} must be whole numbers, got {labels.dtype}. Convert them with labels.long() if they are classes."
        )
    if labels.ndim not in (1, 2) or len(labels) != count:
        raise SettingError(
            f"{what} must be one row for each of {count} images, a class each or attributes, got the shape "
            f"{tuple(labels.shape)}. Give as many labels as images."
        )
    return labels.long()


def check_range(split: Split, labels: Labels, num_classes: int) -> None:
    """Check that labels are -1, or existing classes or attributes.

    Raises:
        SettingError: One is not, or there are other attributes than `num_classes`.
    """
    if labels.ndim == 2 and labels.shape[1] != num_classes:
        raise SettingError(
            f"{split} labels must have num_classes={num_classes} attributes each, got {labels.shape[1]}. "
            "Set num_classes to their number."
        )
    highest = num_classes - 1 if labels.ndim == 1 else 1
    lowest, largest = (int(end) for end in labels.aminmax())
    if lowest < -1 or largest > highest:
        raise SettingError(
            f"{split} labels must be from 0 to {highest}, or -1 where not known, got {lowest} to {largest}. "
            "Number the classes from 0, and set num_classes."
        )


def is_known(labels: Labels) -> Bool[Tensor, " images"]:
    """Return a mask of the images with a known label: the class, or at least one attribute."""
    return labels >= 0 if labels.ndim == 1 else (labels >= 0).any(dim=1)


def form(labels: Labels) -> str:
    """Return the kind of labels, in words."""
    return "a class each" if labels.ndim == 1 else f"{labels.shape[1]} attributes each"
