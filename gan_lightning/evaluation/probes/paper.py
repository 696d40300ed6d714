"""The papers' probe: a linear head, trained by SGD for a fixed number of epochs.

It has a fixed learning rate and budget, so features of a larger scale learn faster: its accuracy mixes quality with
scale. The test split is looked at after each epoch, but no choice depends on it.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from gan_lightning.errors import above, at_least, below_one
from gan_lightning.evaluation.probes.probe import (
    Judgement,
    Probe,
    Progress,
    TestLabels,
    TrainLabels,
    accuracy,
    checked_labels,
    cross_entropy,
)
from gan_lightning.figures import HEAD_EPOCH

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


@torch.enable_grad()
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

    The gradient of the heads' summed loss is each head's own gradient, so a head is the same as if trained alone. Every
    head starts from the same seed and sees the same batches. The global random state is not used.

    Args:
        train: Features of the training split under their extractor's name.
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
    weights = {name: _initial_weight(features, num_classes, seed) for name, features in train.items()}
    accuracies: dict[str, list[float]] = {name: [] for name in train}
    optimizer = torch.optim.SGD(weights.values(), lr=protocol.learning_rate, momentum=protocol.momentum)
    shuffle = torch.Generator().manual_seed(seed)
    for epoch in range(1, protocol.epochs + 1):
        order = torch.randperm(len(train_labels), generator=shuffle).to(train_labels.device)
        for batch in order.split(protocol.batch_size):
            labels = train_labels[batch]
            losses = [
                cross_entropy(F.linear(features[batch], weights[name]), labels) for name, features in train.items()
            ]
            optimizer.zero_grad()
            torch.stack(losses).sum().backward()
            optimizer.step()
        for name, features in test.items():
            accuracies[name].append(accuracy(F.linear(features, weights[name].detach()), test_labels))
        if on_epoch is not None:
            on_epoch(epoch)
    return {name: Head(accuracies[name], weight.detach()) for name, weight in weights.items()}


def _initial_weight(features: Tensor, num_classes: int, seed: int) -> Tensor:
    """Draw a head's weight on the CPU, so that it is the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.normal(0.0, INITIAL_STD, (num_classes, features.shape[1]), generator=generator)
    return weight.to(features).requires_grad_()
