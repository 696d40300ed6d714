"""The nearest class mean as a probe."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gan_lightning.evaluation import Probe


@dataclass(frozen=True)
class Centroids(Probe):
    """The class whose mean is nearest to the features.

    Args:
        standardise: Whether each feature is first divided by its standard deviation.
    """

    name = "centroids"  # of its figures: transfer/<extractor>/centroids/accuracy

    standardise: bool = True

    def accuracy(
        self,
        train: Tensor,
        train_labels: Tensor,
        test: Tensor,
        test_labels: Tensor,
        *,
        num_classes: int,
        seed: int,
        name: str,
    ) -> float:
        """Return the share of test images that are classified rightly."""
        if self.standardise:
            scale = train.std(dim=0).clamp(min=1e-6)
            train, test = train / scale, test / scale
        classes = train_labels.unique()
        means = torch.stack([train[train_labels == label].mean(dim=0) for label in classes])
        answers = classes[torch.cdist(test, means).argmin(dim=1)]
        return (answers == test_labels).double().mean().item()
