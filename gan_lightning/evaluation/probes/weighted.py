"""The weighted vote of the nearest training images, as a probe: nothing is fitted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from gan_lightning.errors import above
from gan_lightning.evaluation.neighbour_search import nearest_neighbours
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

NEIGHBOURS = "neighbours"
"""The x axis of the probe's curve."""

BLOCK = 2**24
"""Most values of neighbours' features at a time."""


@dataclass(frozen=True)
class WeightedNeighboursProbe(Probe):
    """The nearest training images vote for their classes by exp(cosine similarity / temperature).

    The figure's curve has the accuracy for each number of neighbours. Its single value is that of `reported`
    neighbours: the number is not chosen by the test images. If there are fewer training images, all of them vote. Of
    equal votes the lowest class wins; an attribute is then 0.

    Attributes:
        neighbours: Numbers of neighbours.
        reported: The number for the single value; one of `neighbours`.
        temperature: Divides the similarities. The lower, the more the nearest count.

    Source:
        Wu et al. 2018, *Unsupervised feature learning via non-parametric instance discrimination*, section 3.4, for
        the vote; Caron et al. 2021, *Emerging properties in self-supervised vision transformers*, appendix F, for the
        numbers and for 20 neighbours as the usual best.
    """

    neighbours: Sequence[int] = (10, 20, 100, 200)
    reported: int = 20
    temperature: float = 0.07

    name: ClassVar[str] = "weighted_neighbours"

    def __post_init__(self) -> None:
        """Refuse values that do not allow a vote."""
        check_curve(self, "20 is usual.", reported=self.reported, neighbours=self.neighbours)
        above(self, 0, "0.07 is usual.", temperature=self.temperature)

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
        """Return the accuracy of the vote of `reported` neighbours."""
        found = self._accuracies(train, train_labels, test, test_labels, [self.reported], num_classes, name)
        return found[self.reported]

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
        """Return the judgement of each set of features, with a curve over the numbers of neighbours."""

        def judge_one(name: str) -> Judgement:
            curve = self._accuracies(
                train[name], train_labels, test[name], test_labels, self.neighbours, num_classes, name
            )
            return Judgement(curve[self.reported], curve=curve, axis=NEIGHBOURS)

        return self.one_by_one(train, judge_one, report)

    def _accuracies(
        self,
        train: Float[Tensor, "_train feature"],
        train_labels: TrainLabels,
        test: Float[Tensor, "_test feature"],
        test_labels: TestLabels,
        counts: Sequence[int],
        num_classes: int,
        name: str,
    ) -> dict[int, float]:
        """Return the accuracy for each number of neighbours; one search serves all."""
        train_labels, test_labels = checked_labels({name: train}, train_labels, {name: test}, test_labels, num_classes)
        most = min(max(counts), len(train))
        names = f"test features of {name!r}", f"train features of {name!r}"
        nearest = nearest_neighbours(test, train, most, metric="cosine", names=names)
        weights = (cosine_similarities(test, train, nearest) / self.temperature).softmax(dim=1)
        found = {}
        for count in counts:
            votes = class_votes(weights[:, :count], train_labels[nearest[:, :count]], num_classes)
            found[count] = accuracy(votes, test_labels)
        return found


def cosine_similarities(
    queries: Float[Tensor, "queries feature"],
    references: Float[Tensor, "references feature"],
    listed: Int64[Tensor, "queries neighbours"],
) -> Float[Tensor, "queries neighbours"]:
    """Return each query's cosine similarity to the references listed for it, in float32; 0 for a vector of zeros."""
    references = F.normalize(references.float(), dim=1)
    some = max(1, BLOCK // (listed.shape[1] * references.shape[1]))
    blocks = zip(F.normalize(queries.float(), dim=1).split(some), listed.split(some), strict=True)
    return torch.cat([torch.einsum("qf,qnf->qn", block, references[places]) for block, places in blocks])


def class_votes(
    weights: Float[Tensor, "images neighbours"], labels: Tensor, num_classes: int
) -> Float[Tensor, "images {num_classes}"]:
    """Return the votes for each class; for attributes the votes for 1 minus those for 0.

    Args:
        weights: Of each neighbour's vote. A factor common to an image's neighbours changes no winner.
        labels: Of each neighbour: a class (images, neighbours); or 0/1 per attribute (images, neighbours, attributes),
            with -1 for an unknown one, which has no vote.
        num_classes: Number of classes, or of attributes.
    """
    if labels.ndim == 2:
        votes = weights.new_zeros(len(weights), num_classes)
        return votes.scatter_add_(1, labels.long(), weights)
    signs = (2 * labels - 1) * (labels >= 0)
    return torch.einsum("qn,qna->qa", weights, signs.to(weights))
