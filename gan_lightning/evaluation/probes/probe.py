"""The interface of a probe: a classifier fitted to frozen features; its accuracy judges the features.

A probe of your own is one class:

    @dataclass(frozen=True)
    class Centroids(Probe):
        name = "centroids"

        def accuracy(self, train, train_labels, test, test_labels, *, num_classes, seed, name):
            means = torch.stack([train[train_labels == label].mean(dim=0) for label in range(num_classes)])
            return (torch.cdist(test, means).argmin(dim=1) == test_labels).double().mean().item()
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, Integer
from torch import Tensor

from gan_lightning.errors import DataError, SettingError, at_least, refused
from gan_lightning.evaluation.tensors import is_known

TrainLabels = Integer[Tensor, " train"] | Integer[Tensor, "train attributes"]
TestLabels = Integer[Tensor, " test"] | Integer[Tensor, "test attributes"]
ImageLabels = Integer[Tensor, " images"] | Integer[Tensor, "images attributes"]

Progress = Callable[[str, int, int], None]
"""Told of work and its progress: description, done, total."""


@dataclass(frozen=True)
class Judgement:
    """A probe's result for one set of features.

    Attributes:
        accuracy: On the test split, in [0, 1].
        seconds: Wall time of fitting and testing; an equal share for probes fitted together.
        curve: Accuracy at each place of the axis.
        axis: Name of the curve's x axis.
        details: Further facts, such as a chosen strength.
    """

    accuracy: float
    seconds: float = 0.0
    curve: Mapping[int, float] = field(default_factory=dict)
    axis: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


class Probe(ABC):
    """A way to classify features. A subclass is a frozen dataclass of its settings.

    A subclass has to give `accuracy`. If it fits all sets of features at once, it overrides `judge` as well.
    """

    name: ClassVar[str]
    """The probe's name in its figures."""

    def check(self, train_labels: TrainLabels, classes: Sequence[str]) -> None:  # noqa: B027 (most take all labels)
        """Refuse labels that the probe cannot be fitted to, before any training; by default it takes all.

        Args:
            train_labels: Of the whole training split, -1 for an unknown one.
            classes: Names of the classes, or of the attributes.

        Raises:
            SettingError: It cannot; says why.
        """

    @abstractmethod
    def accuracy(
        self,
        train: Float[Tensor, "train feature"],
        train_labels: TrainLabels,
        test: Float[Tensor, "test feature"],
        test_labels: TestLabels,
        *,
        num_classes: int,
        seed: int,
        name: str,
    ) -> float:
        """Return the share of correctly classified test images, or of their known attributes.

        Args:
            train: Features of the training split.
            train_labels: A class per image; or 0/1 per attribute, with -1 for an unknown one.
            test: Features of the test split.
            test_labels: As `train_labels`.
            num_classes: Number of classes, or of attributes.
            seed: For random numbers.
            name: The features' name in an error.
        """

    def judge(
        self,
        train: Mapping[str, Float[Tensor, "train _feature"]],
        train_labels: TrainLabels,
        test: Mapping[str, Float[Tensor, "test _feature"]],
        test_labels: TestLabels,
        *,
        num_classes: int,
        seed: int,
        report: Progress,
    ) -> dict[str, Judgement]:
        """Return the judgement of each set of features, under its name; the arguments are as in `accuracy`."""

        def judge_one(name: str) -> Judgement:
            accuracy = self.accuracy(
                train[name], train_labels, test[name], test_labels, num_classes=num_classes, seed=seed, name=name
            )
            if not isinstance(accuracy, int | float) or not 0 <= accuracy <= 1:
                raise SettingError(f"the probe {self.name} must return an accuracy in [0, 1], got {accuracy!r}.")
            return Judgement(accuracy)

        return self.one_by_one(train, judge_one, report)

    def one_by_one(
        self, names: Collection[str], judge_one: Callable[[str], Judgement], report: Progress
    ) -> dict[str, Judgement]:
        """Return the judgement of each set of features in turn, each with its time.

        Args:
            names: Of the sets.
            judge_one: Returns the judgement of a set, without its time.
            report: Told after each set.
        """
        found = {}
        for done, name in enumerate(names, start=1):
            started = time.perf_counter()
            judgement = judge_one(name)
            found[name] = replace(judgement, seconds=time.perf_counter() - started)
            report(f"probes: {self.name}", done, len(names))
        return found


def cross_entropy(logits: Float[Tensor, "*heads images classes"], labels: ImageLabels) -> Float[Tensor, "*heads"]:
    """Return the mean cross entropy in nats: the softmax's for classes, the sum of the sigmoids' for attributes.

    Each attribute's mean is over the images with this attribute known, so attributes are independent of each other.

    Args:
        logits: Of one head, or of several heads for the same images. It is fastest for several heads if a class's
            logits lie side by side in memory.
        labels: A class per image; or 0/1 per attribute, with -1 for an unknown one.
    """
    if labels.ndim == 1 and logits.ndim == 2:
        return F.cross_entropy(logits, labels)
    if labels.ndim == 1:
        each = labels.expand(len(logits), -1)
        # Torch wants classes before images. Its own mean of them would have no fixed order on a GPU, and so be refused
        # where everything has to be deterministic.
        return F.cross_entropy(logits.mT, each, reduction="none").mean(dim=-1)
    known = labels >= 0
    targets = labels.clamp(min=0).to(logits.dtype).expand_as(logits)
    losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none") * known
    return (losses.sum(dim=-2) / known.sum(dim=0).clamp(min=1)).sum(dim=-1)


def right_answers(logits: Float[Tensor, "images classes"], labels: ImageLabels) -> Int64[Tensor, ""]:
    """Return the number of images, or of known attributes, that are classified correctly; on the logits' device."""
    predictions = logits.argmax(dim=1) if labels.ndim == 1 else (logits > 0).long()
    return ((predictions == labels) & (labels >= 0)).sum()


def accuracy(logits: Float[Tensor, "images classes"], labels: ImageLabels) -> float:
    """Return the share of images, or of known attributes, that are classified correctly."""
    right, known = torch.stack([right_answers(logits, labels), (labels >= 0).sum()]).tolist()
    return right / known


def check_curve(owner: object, usual: str, *, reported: int, **places: Sequence[int]) -> None:
    """Check the places of a curve, and that the one for the single value is among them.

    Args:
        owner: The probe.
        usual: What to do instead.
        reported: The place for the single value.
        places: The setting that has the places.

    Raises:
        SettingError: There is no place, one stands twice or is below 1, or the reported one is not among them.
    """
    for setting, numbers in places.items():
        if not numbers or len(set(numbers)) < len(numbers):
            raise refused(owner, setting, "hold at least one number, each once", numbers, usual)
        for number in numbers:
            at_least(owner, 1, "", **{setting: number})
        if reported not in numbers:
            raise refused(owner, "reported", f"be one of {setting}, {', '.join(map(str, numbers))}", reported)


def held_out_places(
    count: int, share: float, seed: int, device: torch.device
) -> tuple[Int64[Tensor, " fitting"], Int64[Tensor, " validation"]]:
    """Return the places of the training images to fit to and of those to compare candidates on, drawn from a seed.

    Args:
        count: Number of training images, two or more.
        share: Of the images to compare on; one image at least is in each part.
        seed: Of the draw, which is the same on every device.
        device: Of the places.
    """
    shuffled = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).to(device)
    held_out = min(max(round(share * count), 1), count - 1)
    return shuffled[held_out:], shuffled[:held_out]


def majority_accuracy(train_labels: TrainLabels, test_labels: TestLabels) -> float:
    """Return the test accuracy of always answering with the training split's most frequent label."""
    if train_labels.ndim == 1:
        most = torch.bincount(train_labels[train_labels >= 0].long()).argmax()
        known = test_labels >= 0
        return (test_labels[known] == most).double().mean().item()
    known_train, known_test = train_labels >= 0, test_labels >= 0
    ones = (train_labels.clamp(min=0) * known_train).sum(dim=0)
    answers = (2 * ones > known_train.sum(dim=0)).long()
    return (test_labels == answers)[known_test].double().mean().item()


def names_by_kind(features: Mapping[str, Tensor]) -> dict[tuple[int, torch.dtype], list[str]]:
    """Return the names of the sets of features that can be stacked: those of one width and one type."""
    names: dict[tuple[int, torch.dtype], list[str]] = {}
    for name, matrix in features.items():
        names.setdefault((matrix.shape[1], matrix.dtype), []).append(name)
    return names


def checked_labels(
    train: Mapping[str, Tensor],
    train_labels: Tensor,
    test: Mapping[str, Tensor],
    test_labels: Tensor,
    num_classes: int,
) -> tuple[Tensor, Tensor]:
    """Return the labels in the form of torch's losses, after checking that everything fits together.

    Raises:
        SettingError: Names, rows or labels do not fit together.
        DataError: Features are not finite.
    """
    if train.keys() != test.keys():
        raise SettingError(
            f"train and test must hold features of the same names, got {sorted(train)} and {sorted(test)}; "
            "extract both splits with the same extractors."
        )
    for split, features, labels in (("train", train, train_labels), ("test", test, test_labels)):
        unknown, lowest, largest = _facts(labels)
        if len(labels) == 0 or unknown:
            raise SettingError(
                f"{split}_labels must be of one image or more, each with a known label, got {len(labels)} "
                f"images, {unknown} of them without; leave those out."
            )
        highest = num_classes - 1 if labels.ndim == 1 else 1
        if largest > highest or (labels.ndim == 2 and labels.shape[1] != num_classes):
            raise SettingError(
                f"{split}_labels must fit num_classes={num_classes}, got values up to {largest} "
                f"in shape {tuple(labels.shape)}; give the number of classes or of attributes."
            )
        if split == "train" and labels.ndim == 1 and lowest == largest:
            raise SettingError(
                f"train_labels must be of two classes or more, got one, {lowest}: every accuracy would be 1. "
                "Use images of more classes."
            )
        for name, matrix in features.items():
            if len(matrix) != len(labels):
                raise SettingError(
                    f"{split} features of {name!r} must have one row for each of {len(labels)} labels, got "
                    f"{len(matrix)}; extract features and labels in the same pass."
                )
        # All sets are looked at before the answers are read: a GPU would wait for each read.
        finite = torch.stack([matrix.isfinite().all() for matrix in features.values()]).tolist()
        if broken := [name for name, sound in zip(features, finite, strict=True) if not sound]:
            raise DataError(
                f"{split} features of {broken[0]!r} must be finite, got NaN or infinity; "
                "look for a diverged training run or damaged images."
            )
    return train_labels.long(), test_labels.long()


def _facts(labels: ImageLabels) -> tuple[int, int, int]:
    """Return the number of images without a known label, the lowest label and the largest one, in one read."""
    if not labels.numel():
        return 0, 0, 0
    unknown, lowest, largest = torch.stack([(~is_known(labels)).sum(), *labels.long().aminmax()]).tolist()
    return unknown, lowest, largest
