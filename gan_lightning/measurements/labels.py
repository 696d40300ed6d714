"""Labels of a data set, as probes need them."""

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from gan_lightning.errors import DataError
from gan_lightning.interfaces import LabelledImages, Split
from gan_lightning.measurements.bench import Bench
from gan_lightning.system.processes import gather_objects

logger = logging.getLogger(__name__)

SPLITS: tuple[Split, ...] = ("train", "test")


def check_labels(bench: Bench, what: str) -> None:
    """Check that a probe has something to learn: labels in both splits, and two classes among the training labels.

    Args:
        bench: With the data.
        what: Name of the measurement that needs labels.

    Raises:
        DataError: It has nothing to learn.
    """
    remedy = "or set its `enabled` to false"
    if bench.without_images():
        raise DataError(
            f"{what} needs a data module that declares labelled images, got {bench.described_data}, {remedy}."
        )
    data = bench.data
    if data.label_kind == "none":
        raise DataError(
            f"{what} needs labels, and the data set {data.name} has none. Use a labelled data set {remedy}."
        )
    for split in SPLITS:
        seen = _some_labels(bench, split, enough=2 if split == "train" else 1)
        if not seen:
            raise DataError(
                f"{what} needs labels, and no {split} image of {data.name} has one. Use a labelled data set {remedy}."
            )
        if split == "train" and data.label_kind == "classes" and len(seen) < 2:
            raise DataError(
                f"{what} needs two classes or more, and all training images of {data.name} are of one: every accuracy "
                f"would be 1. Use a data set with more classes {remedy}."
            )


def check_images(bench: Bench, split: Split, least: int) -> None:
    """Check that a split has enough images.

    Raises:
        DataError: It has fewer than the least.
    """
    count = len(bench.images(split, least)[0])
    if count < least:
        raise DataError(f"{bench.data.name}: at least {least} {split} images are needed, got {count}. Add images.")


def _some_labels(bench: Bench, split: Split, enough: int) -> set[int]:
    """Return labels of a split; the search ends once there are enough."""
    seen: set[int] = set()
    for _, labels in bench.data.evaluation_batches(split, torch.device("cpu")):
        seen |= set(labels[labels >= 0].unique().tolist())
        if len(seen) >= enough:
            break
    return set().union(*gather_objects(seen))


def class_names(data: LabelledImages) -> Sequence[str]:
    """Return the names of a data set's classes or attributes: numbers where it does not give any."""
    return getattr(data, "classes", None) or [str(label) for label in range(data.num_classes)]


def classes_in_one_split(bench: Bench, train: Tensor, test: Tensor) -> dict[Split, list[str]]:
    """Return the names of classes with images in one split alone, and warn of them."""
    if train.ndim > 1:
        return {}
    in_train, in_test = set(train.unique().tolist()), set(test.unique().tolist())
    names = class_names(bench.data)
    alone: dict[Split, set[int]] = {"train": in_train - in_test, "test": in_test - in_train}
    found: dict[Split, list[str]] = {
        split: [names[label] for label in sorted(own)] for split, own in alone.items() if own
    }
    for split, own in found.items():
        shown = ", ".join(own[:10]) + (", ..." if len(own) > 10 else "")
        logger.warning("%s: only the %s split has images of %s.", bench.data.name, split, shown)
    return found
