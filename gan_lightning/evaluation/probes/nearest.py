"""The nearest neighbour's label, as a probe: nothing is fitted."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from gan_lightning.errors import SettingError
from gan_lightning.evaluation.neighbour_search import Metric, nearest_neighbours
from gan_lightning.evaluation.probes.probe import Probe, TestLabels, TrainLabels


@dataclass(frozen=True)
class NearestProbe(Probe):
    """The label of the nearest training image in feature space; nothing is trained.

    Attributes:
        metric: Distance between features. The paper's table is Euclidean, its pictures of neighbours are by cosine.

    Source:
        Donahue et al. 2017, section 4.2 and Table 1 ("1NN"); Figure 5 for the cosine distance.
    """

    metric: Metric = "euclidean"

    name: ClassVar[str] = "nearest"

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
        """Return the share of test images whose nearest training image has their label."""
        return nearest_accuracy(train, train_labels, test, test_labels, metric=self.metric, name=name)


NEAREST = NearestProbe()


def nearest_accuracy(
    train: Float[Tensor, "_train feature"],
    train_labels: TrainLabels,
    test: Float[Tensor, "_test feature"],
    test_labels: TestLabels,
    *,
    metric: Metric = "euclidean",
    name: str = "features",
) -> float:
    """Return the share of test images whose nearest training image has their label.

    For attributes, the share is of known ones. Each is looked up in the nearest training image with this attribute
    known.

    Args:
        train: Features of the training split.
        train_labels: A class per image; or 0/1 per attribute, with -1 for an unknown one.
        test: Features of the test split.
        test_labels: As `train_labels`.
        metric: Distance between features.
        name: The features' name in an error.

    Raises:
        SettingError: Rows and labels do not fit together, or no label is known.
        DataError: Features are not finite.
    """
    for split, features, labels in (("train", train, train_labels), ("test", test, test_labels)):
        if len(features) != len(labels):
            raise SettingError(
                f"{split} features of {name!r} must have one row for each of {len(labels)} labels, got "
                f"{len(features)}; extract features and labels in the same pass."
            )
        if not (labels >= 0).any():
            raise SettingError(f"{split}_labels must hold a known label, got none of {len(labels)}; leave it out.")
    truth, answers = (labels if labels.ndim == 2 else labels[:, None] for labels in (test_labels, train_labels))
    known = answers >= 0
    right = torch.zeros((), dtype=torch.int64, device=truth.device)
    # Attributes known of the same training images share a search; mostly all attributes do.
    masks, kinds = torch.unique(known, dim=1, return_inverse=True)
    counts, kind_of = masks.sum(dim=0).tolist(), kinds.tolist()
    for kind, count in enumerate(counts):
        if not count:
            continue  # Nothing is known: every answer is wrong.
        rows = masks[:, kind].nonzero()[:, 0] if count < len(answers) else slice(None)
        columns = [column for column, each in enumerate(kind_of) if each == kind]
        names = f"test features of {name!r}", f"train features of {name!r}"
        nearest = nearest_neighbours(test, train[rows], metric=metric, names=names)[:, 0]
        asked, given = truth[:, columns], answers[rows][nearest][:, columns]
        right += ((given == asked) & (asked >= 0)).sum()
    found, every = torch.stack([right, (truth >= 0).sum()]).tolist()
    return found / every
