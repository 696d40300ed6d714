"""The papers' probe: a linear head, trained by SGD for a fixed number of epochs.

It has a fixed learning rate and budget, so features of a larger scale learn faster: its accuracy mixes quality with
scale. The test split is looked at after each epoch, but no choice depends on it.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from gan_lightning.errors import above, at_least, below_one
from gan_lightning.evaluation.probes.probe import (
    Judgement,
    Probe,
    Progress,
    TestLabels,
    TrainLabels,
    checked_labels,
    cross_entropy,
    names_by_kind,
    right_answers,
)
from gan_lightning.evaluation.recorded_step import repeatable
from gan_lightning.figures import HEAD_EPOCH
from gan_lightning.system.copies import copied
from gan_lightning.system.cuda_graph import recorder_for

INITIAL_STD = 0.02
"""Table 1, "Weight, bias initialization": N(0, 0.02)."""


@dataclass(frozen=True)
class PaperProbe(Probe):
    """A linear head without bias on frozen features, trained by SGD for a fixed number of epochs.

    Attributes:
        learning_rate: Step size, constant.
        momentum: Share of the last step that is added to the next.
        batch_size: Images per step; the last of an epoch may be smaller.
        epochs: Passes over the training split.

    Source:
        Mao et al. 2022, Table 1, "Target classification supervised training".
    """

    learning_rate: float = 2e-4
    momentum: float = 0.9
    batch_size: int = 120
    epochs: int = 20

    name: ClassVar[str] = "paper"

    def __post_init__(self) -> None:
        """Refuse values that do not allow a training."""
        above(self, 0, "The paper's is 0.0002.", learning_rate=self.learning_rate)
        below_one(self, "The paper's is 0.9.", momentum=self.momentum)
        at_least(self, 1, "The paper's is 120.", batch_size=self.batch_size)
        at_least(self, 1, "The paper's is 20.", epochs=self.epochs)

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
        """Return the accuracy of a head after its last epoch."""
        heads = sgd_heads(
            {name: train}, train_labels, {name: test}, test_labels, num_classes=num_classes, protocol=self, seed=seed
        )
        return heads[name].accuracies[-1]

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
        """Return the judgement of each set of features; all heads are trained in the same pass."""
        started = time.perf_counter()
        heads = sgd_heads(
            train,
            train_labels,
            test,
            test_labels,
            num_classes=num_classes,
            protocol=self,
            seed=seed,
            on_epoch=lambda epoch: report("probes: paper", epoch, self.epochs),
        )
        seconds = (time.perf_counter() - started) / len(heads)
        return {
            name: Judgement(head.accuracies[-1], seconds, dict(enumerate(head.accuracies, start=1)), HEAD_EPOCH)
            for name, head in heads.items()
        }


PAPER = PaperProbe()


@dataclass(frozen=True)
class Head:
    """A head trained by the paper's protocol.

    Attributes:
        accuracies: Test accuracy in [0, 1] after each epoch.
        weight: After the last epoch.
    """

    accuracies: list[float]
    weight: Float[Tensor, "classes feature"]


@dataclass(frozen=True)
class _HeadsOfOneWidth:
    """The heads of all sets of features of one width; their products are one batched product.

    Attributes:
        train: Features of the training split, each set where it was extracted.
        test: Features of the test split, in the same order.
        weight: Of all heads.
        velocity: The last change of the weights, in units of the learning rate.
        batch: The present batch's features, copied from `train`.
    """

    train: Mapping[str, Float[Tensor, "train feature"]]
    test: Mapping[str, Float[Tensor, "test feature"]]
    weight: Float[Tensor, "heads classes feature"]
    velocity: Float[Tensor, "heads classes feature"]
    batch: Float[Tensor, "heads batch feature"]

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        train: Mapping[str, Tensor],
        test: Mapping[str, Tensor],
        num_classes: int,
        batch_size: int,
        seed: int,
    ) -> "_HeadsOfOneWidth":
        """Return the heads of the named sets before their first step."""
        first = train[names[0]]
        weight = _initial_weight(first, num_classes, seed).repeat(len(names), 1, 1).requires_grad_()
        batch = first.new_empty(len(names), min(batch_size, len(first)), first.shape[1])
        velocity = torch.zeros_like(weight, requires_grad=False)
        return cls({name: train[name] for name in names}, {name: test[name] for name in names}, weight, velocity, batch)

    def losses(self, rows: Int64[Tensor, " batch"], labels: TrainLabels) -> Float[Tensor, " heads"]:
        """Return the loss of each head on a batch.

        Args:
            rows: Places of the batch's images in the training split.
            labels: Of these images.
        """
        batch = self.batch[:, : len(rows)]
        for place, features in zip(batch, self.train.values(), strict=True):
            torch.index_select(features, 0, rows, out=place)
        # With a class's logits side by side the CPU takes half the time.
        return cross_entropy(torch.bmm(self.weight, batch.mT).mT, labels)

    @torch.no_grad()
    def move(self, gradient: Float[Tensor, "heads classes feature"], protocol: PaperProbe) -> None:
        """Make a step of gradient descent with momentum: v <- μ v + g, w <- w - η v."""
        self.velocity.mul_(protocol.momentum).add_(gradient)
        self.weight.sub_(self.velocity, alpha=protocol.learning_rate)

    def right_answers(self, labels: TestLabels) -> Int64[Tensor, " heads"]:
        """Return each head's number of correct answers on the test split."""
        heads = zip(self.test.values(), self.weight.detach(), strict=True)
        return torch.stack([right_answers(F.linear(features, weight), labels) for features, weight in heads])


def sgd_heads(
    train: Mapping[str, Float[Tensor, "train _feature"]],
    train_labels: TrainLabels,
    test: Mapping[str, Float[Tensor, "test _feature"]],
    test_labels: TestLabels,
    *,
    num_classes: int,
    protocol: PaperProbe = PAPER,
    seed: int = 0,
    on_epoch: Callable[[int], None] | None = None,
) -> dict[str, Head]:
    """Train one head per feature set, all in the same pass over the data.

    The gradient of the heads' summed loss is each head's own gradient, so a head is the same as if trained alone, up to
    rounding. Every head starts from the same seed and sees the same batches. The global random state is not used.

    On a GPU the step on a full batch is recorded once and replayed, and nothing is read back before the last epoch's
    end: epochs are reported when they are under way there.

    Args:
        train: Features of the training split under their extractor's name, all on one device.
        train_labels: A class per image; or 0/1 per attribute, with -1 for an unknown one.
        test: Features of the test split under the same names.
        test_labels: As `train_labels`.
        num_classes: Number of classes, or of attributes.
        protocol: Settings of the training.
        seed: For the heads' initial weights and the order of the images.
        on_epoch: Called with the number of epochs done.

    Raises:
        SettingError: Names, rows or labels do not fit together.
        DataError: Features are not finite.

    Source:
        Mao et al. 2022, section 4, steps 4 and 5; Table 1. Attributes are not in the paper: each is its own
        two-class problem with a sigmoid.
    """
    train_labels, test_labels = checked_labels(train, train_labels, test, test_labels, num_classes)
    device, count, size = train_labels.device, len(train_labels), protocol.batch_size
    groups = [
        _HeadsOfOneWidth.of(names, train, test, num_classes, size, seed) for names in names_by_kind(train).values()
    ]

    def step(rows: Int64[Tensor, " batch"]) -> Float[Tensor, ""]:
        labels = train_labels.index_select(0, rows)
        with torch.enable_grad():
            loss = torch.cat([group.losses(rows, labels) for group in groups]).sum()
            gradients = torch.autograd.grad(loss, [group.weight for group in groups])
        for group, gradient in zip(groups, gradients, strict=True):
            group.move(gradient, protocol)
        return loss.detach()

    moved = [tensor for group in groups for tensor in (group.weight, group.velocity)]
    make = repeatable(step, torch.arange(min(size, count), device=device), moved, recorder_for(device))
    shuffle = torch.Generator().manual_seed(seed)
    right = torch.empty(protocol.epochs, len(train), dtype=torch.int64, device=device)
    for epoch in range(protocol.epochs):
        order = copied(torch.randperm(count, generator=shuffle), device)
        for batch in order.split(size):
            make(batch)
        right[epoch] = torch.cat([group.right_answers(test_labels) for group in groups])
        if on_epoch is not None:
            on_epoch(epoch + 1)
    accuracies = (right.T.double() / (test_labels >= 0).sum()).tolist()
    names = [name for group in groups for name in group.train]
    weights = [weight for group in groups for weight in group.weight.detach()]
    found = {name: Head(own, weight) for name, own, weight in zip(names, accuracies, weights, strict=True)}
    return {name: found[name] for name in train}


def _initial_weight(features: Tensor, num_classes: int, seed: int) -> Float[Tensor, "classes feature"]:
    """Draw a head's weight on the CPU, so that it is the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.normal(0.0, INITIAL_STD, (num_classes, features.shape[1]), generator=generator)
    return weight.to(features)
