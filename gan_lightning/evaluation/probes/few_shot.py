"""Logistic regression on a few training images of each class, drawn again and again."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from gan_lightning.errors import above, at_least, between_zero_and_one, refused
from gan_lightning.evaluation.probes.logistic import LogisticModel, fit_together
from gan_lightning.evaluation.probes.probe import (
    Judgement,
    Probe,
    Progress,
    TestLabels,
    TrainLabels,
    accuracy,
    check_curve,
    checked_labels,
)

SHOTS = "images per class"
"""The x axis of the probe's curve."""


@dataclass(frozen=True)
class FewShotProbe(Probe):
    """Logistic regression on a few labelled images of each class; the mean accuracy over repeated draws.

    Features are scaled to length 1. The figure's curve has the mean accuracy for each number of images per class, and
    the figure's single value is that of `reported` images. The interval of each mean lies in the details. It covers the
    draw of the images, and not that of the test images or of the training.

    Attributes:
        shots: Numbers of training images per class.
        reported: The number for the single value; one of `shots`.
        draws: Draws of the training images. Every set of features gets the same ones.
        inverse_penalty: C in: C · summed cross entropy + ½ ‖W‖².
        max_iterations: Most L-BFGS iterations of a fit.
        confidence: Of the interval of the mean over the draws.

    Source:
        Tian et al. 2020, *Rethinking few-shot image classification: a good embedding is all you need?*, section 3, and
        its code: logistic regression on features of length 1, with scikit-learn's C = 1.
    """

    shots: Sequence[int] = (1, 5, 10)
    reported: int = 5
    draws: int = 20
    inverse_penalty: float = 1.0
    max_iterations: int = 1000
    confidence: float = 0.95

    name: ClassVar[str] = "few_shot"

    def __post_init__(self) -> None:
        """Refuse values that do not allow a draw or a fit."""
        check_curve(self, "5 is usual.", reported=self.reported, shots=self.shots)
        at_least(self, 2, "An interval needs two.", draws=self.draws)
        above(self, 0, "1 is usual.", inverse_penalty=self.inverse_penalty)
        at_least(self, 1, "1000 is usual.", max_iterations=self.max_iterations)
        between_zero_and_one(self, "0.95 is usual.", confidence=self.confidence)

    def check(self, train_labels: TrainLabels, classes: Sequence[str]) -> None:
        """Check that every class has as many training images as are drawn.

        Raises:
            SettingError: The labels are attributes, or a class has fewer images.
        """
        if train_labels.ndim != 1:
            remedy = "Leave the probe out with null, or use a data set with classes."
            raise refused(self, "shots", "be of classes, one per image", "attributes", remedy)
        most, counts = max(self.shots), torch.bincount(train_labels[train_labels >= 0].long(), minlength=len(classes))
        few = [f"{name} ({count})" for name, count in zip(classes, counts.tolist(), strict=True) if count < most]
        if few:
            raise refused(
                self,
                "shots",
                "be at most the number of labelled training images of each class",
                most,
                f"Too few have: {', '.join(few[:10])}{', ...' * (len(few) > 10)}. Use fewer shots or more images.",
            )

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
        """Return the mean accuracy with `reported` images per class."""
        return fmean(self._accuracies(train, train_labels, test, test_labels, self.reported, num_classes, seed, name))

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
        """Return the judgement of each set of features, with a curve over the numbers of images per class."""
        found: dict[str, Judgement] = {}
        total = len(train) * len(self.shots)
        for name, features in train.items():
            started, curve, intervals = time.perf_counter(), {}, {}
            for shots in self.shots:
                each = self._accuracies(features, train_labels, test[name], test_labels, shots, num_classes, seed, name)
                curve[shots] = fmean(each)
                intervals[str(shots)] = mean_interval(each, self.confidence)
                report(f"probes: {self.name}", len(found) * len(self.shots) + len(curve), total)
            details = {"draws": self.draws, "confidence": self.confidence, "intervals": intervals}
            seconds = time.perf_counter() - started
            found[name] = Judgement(curve[self.reported], seconds, curve, SHOTS, details)
        return found

    def _accuracies(
        self,
        train: Float[Tensor, "_train feature"],
        train_labels: TrainLabels,
        test: Float[Tensor, "_test feature"],
        test_labels: TestLabels,
        shots: int,
        num_classes: int,
        seed: int,
        name: str,
    ) -> list[float]:
        """Return the accuracy of each draw."""
        train_labels, test_labels = checked_labels({name: train}, train_labels, {name: test}, test_labels, num_classes)
        drawn = draw_of_each_class(train_labels, shots, self.draws, seed)
        found: list[float] = []
        test = F.normalize(test, dim=1)
        # On a GPU all draws are fitted at once; on the CPU a fit that is done would only cost time beside the others.
        for some in drawn.split(1 if train.device.type == "cpu" else self.draws):
            images = F.normalize(train[some.reshape(-1)], dim=1).reshape(*some.shape, -1)
            labels = train_labels[some[0]]  # the classes stand in the same order in each draw
            start = LogisticModel(images.new_zeros(num_classes, images.shape[2]), images.new_zeros(num_classes), 0)
            models = fit_together(
                images,
                labels,
                [1 / (self.inverse_penalty * some.shape[1])] * len(some),
                [start] * len(some),
                max_iterations=self.max_iterations,
                gradient_tolerance=1e-4,
                names=[f"{name}, {shots} images per class"] * len(some),
            )
            found += [accuracy(model(test), test_labels) for model in models]
        return found


def draw_of_each_class(labels: TrainLabels, count: int, draws: int, seed: int) -> Int64[Tensor, "draws images"]:
    """Return the places of `count` images of each class, class after class, drawn anew in each draw.

    Args:
        labels: A class per image; every class that occurs has `count` images or more.
        count: Images per class.
        draws: Number of draws.
        seed: Of the draws. They are the same on every device.
    """
    rng = torch.Generator().manual_seed(seed)
    places = [(labels.cpu() == label).nonzero()[:, 0] for label in labels[labels >= 0].unique().tolist()]
    drawn = [torch.cat([own[torch.randperm(len(own), generator=rng)[:count]] for own in places]) for _ in range(draws)]
    return torch.stack(drawn).to(labels.device)


def mean_interval(values: Sequence[float], confidence: float) -> tuple[float, float]:
    """Return Student's interval of the mean of values that were drawn independently."""
    from scipy.special import stdtrit

    half = float(stdtrit(len(values) - 1, (1 + confidence) / 2)) * stdev(values) / math.sqrt(len(values))
    mean = fmean(values)
    return mean - half, mean + half
