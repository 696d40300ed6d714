"""Linear heads with many learning rates, trained in one pass; the best rate is chosen on training images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import cos, pi
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from gan_lightning.errors import DataError, above, at_least, below_one, between_zero_and_one, refused
from gan_lightning.evaluation.probes.probe import (
    ImageLabels,
    Judgement,
    Probe,
    Progress,
    TestLabels,
    TrainLabels,
    checked_labels,
    cross_entropy,
    held_out_places,
    right_answers,
)

INITIAL_STD = 0.01
"""Standard deviation of the heads' initial weights; biases start from 0."""

PER_IMAGES = 256
"""A learning rate is for batches of this size, and grows with the batch."""

RATES = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1)


@dataclass(frozen=True)
class ManyRatesProbe(Probe):
    """Linear heads by SGD, one for each learning rate, all trained on the same batches.

    The rate is chosen on held-out training images, and a head with it is trained on all training images. The test split
    is looked at once. It takes one pass over the features per epoch, however many rates there are, so it serves where
    a regression that has converged (`tuned`) would take too long. Features are used as they are.

    Attributes:
        learning_rates: For batches of 256 images. They fall to 0 along a cosine.
        momentum: Share of the last step that is added to the next.
        batch_size: Images per step; the last of an epoch may be smaller.
        epochs: Passes over the training split.
        held_out: Share of the training split on which the rates are compared.

    Source:
        Oquab et al. 2023, *DINOv2*, appendix B.3 and its code: the rates, their unit, SGD with momentum 0.9 without
        weight decay, the cosine, 10 epochs. The code chooses the rate on the images that it reports.
    """

    learning_rates: Sequence[float] = RATES
    momentum: float = 0.9
    batch_size: int = 128
    epochs: int = 10
    held_out: float = 0.1

    name: ClassVar[str] = "many_rates"

    def __post_init__(self) -> None:
        """Refuse values that do not allow a training or a choice."""
        if not self.learning_rates:
            raise refused(self, "learning_rates", "hold at least one value", self.learning_rates, "Try [0.01].")
        for rate in self.learning_rates:
            above(self, 0, learning_rates=rate)
        below_one(self, "0.9 is usual.", momentum=self.momentum)
        at_least(self, 1, "128 is usual.", batch_size=self.batch_size)
        at_least(self, 1, "10 is usual.", epochs=self.epochs)
        between_zero_and_one(self, "0.1 is usual.", held_out=self.held_out)

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
        """Return the accuracy of a head with the chosen rate."""
        return self._judged(train, train_labels, test, test_labels, num_classes, seed, name)[0]

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
        """Return the judgement of each set of features, with the chosen rate."""

        def judge_one(name: str) -> Judgement:
            accuracy, rate = self._judged(train[name], train_labels, test[name], test_labels, num_classes, seed, name)
            return Judgement(accuracy, details={"learning_rate": rate})

        return self.one_by_one(train, judge_one, report)

    def _judged(
        self,
        train: Float[Tensor, "train feature"],
        train_labels: TrainLabels,
        test: Float[Tensor, "test feature"],
        test_labels: TestLabels,
        num_classes: int,
        seed: int,
        name: str,
    ) -> tuple[float, float]:
        """Return the test accuracy of a head with the chosen rate, and this rate."""
        train_labels, test_labels = checked_labels({name: train}, train_labels, {name: test}, test_labels, num_classes)
        count, rates = len(train), list(self.learning_rates)
        if count < 2:
            raise DataError(
                f"The probe {self.name} needs at least 2 labelled training images, got {count}; add images."
            )
        best = 0
        if len(rates) > 1:
            fitting, validation = held_out_places(count, self.held_out, seed, train_labels.device)
            heads = train_heads(train[fitting], train_labels[fitting], rates, num_classes, self, seed)
            right = [right_answers(logits, train_labels[validation]) for logits in heads(train[validation])]
            best = int(torch.stack(right).argmax())  # the first of equals: the lowest rate, in the order given
        (logits,) = train_heads(train, train_labels, rates[best : best + 1], num_classes, self, seed)(test)
        right_of_test, known = torch.stack([right_answers(logits, test_labels), (test_labels >= 0).sum()]).tolist()
        return right_of_test / known, rates[best]


@dataclass(frozen=True)
class Heads:
    """Linear heads on the same features.

    Attributes:
        weight: Of all heads.
        bias: Of all heads.
    """

    weight: Float[Tensor, "heads classes feature"]
    bias: Float[Tensor, "heads classes"]

    def __call__(self, features: Float[Tensor, "images feature"]) -> Float[Tensor, "heads images classes"]:
        """Return the logits of each head; a class's logits lie side by side in memory."""
        flat = torch.addmm(self.bias.reshape(-1, 1), self.weight.flatten(0, 1), features.T)
        return flat.reshape(*self.bias.shape, -1).mT


def train_heads(
    features: Float[Tensor, "images feature"],
    labels: ImageLabels,
    rates: Sequence[float],
    num_classes: int,
    protocol: ManyRatesProbe,
    seed: int,
) -> Heads:
    """Return a head for each learning rate, trained on the same batches from the same weights.

    The gradient of the heads' summed loss is each head's own gradient, so a head is the same as if trained alone, up to
    rounding. A head that diverges becomes NaN, and answers the first class.

    Args:
        features: Of the training images.
        labels: A class per image; or 0/1 per attribute, with -1 for an unknown one.
        rates: For batches of `PER_IMAGES` images.
        num_classes: Number of classes, or of attributes.
        protocol: Settings of the training.
        seed: For the initial weights and the order of the images.
    """
    rng, count = torch.Generator().manual_seed(seed), len(features)
    first = torch.normal(0.0, INITIAL_STD, (num_classes, features.shape[1]), generator=rng).to(features)
    weight = first.repeat(len(rates), 1, 1).requires_grad_()
    bias = features.new_zeros(len(rates), num_classes, requires_grad=True)
    size = min(protocol.batch_size, count)
    scaled = torch.tensor(rates, dtype=torch.float64).mul(size / PER_IMAGES).to(features)
    batches = -(-count // size)
    velocities = [torch.zeros_like(each, requires_grad=False) for each in (weight, bias)]
    for epoch in range(protocol.epochs):
        order = torch.randperm(count, generator=rng).to(features.device)
        for batch, rows in enumerate(order.split(size)):
            with torch.enable_grad():
                losses = cross_entropy(Heads(weight, bias)(features[rows]), labels[rows])
                gradients = torch.autograd.grad(losses.sum(), [weight, bias])
            done = (epoch * batches + batch) / (protocol.epochs * batches)
            now = scaled * (1 + cos(pi * done)) / 2
            with torch.no_grad():
                for each, velocity, gradient in zip((weight, bias), velocities, gradients, strict=True):
                    velocity.mul_(protocol.momentum).add_(gradient)
                    each.sub_(velocity * now.view(-1, *[1] * (each.ndim - 1)))
    return Heads(weight.detach(), bias.detach())
