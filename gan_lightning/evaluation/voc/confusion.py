"""How often pixels of one class are taken for another, and what follows from these counts."""

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from gan_lightning.evaluation.voc.devkit import VOID


def confusion(
    answers: Int64[Tensor, "*places"], truth: Int64[Tensor, "*places"], classes: int
) -> Int64[Tensor, "{classes} {classes}"]:
    """Return the number of pixels of each class (rows) with each answer (columns). Void pixels do not count.

    Args:
        answers: A class for each pixel.
        truth: The class of each pixel, or 255 where it is unknown.
        classes: Number of classes.
    """
    known = truth != VOID
    pairs = truth[known] * classes + answers[known]
    return torch.bincount(pairs, minlength=classes * classes).view(classes, classes)


def intersection_over_union(counts: Int64[Tensor, "classes classes"]) -> Float64[Tensor, " classes"]:
    """Return the share of right pixels among those that are of a class or taken for it; NaN where there are none.

    Args:
        counts: Of all images together, from `confusion`.

    Source:
        Long et al. 2015, section 5: nᵢᵢ / (tᵢ + Σⱼ nⱼᵢ - nᵢᵢ).
    """
    right = counts.diagonal()
    return right.double() / (counts.sum(dim=0) + counts.sum(dim=1) - right)


def pixel_accuracy(counts: Int64[Tensor, "classes classes"]) -> float:
    """Return the share of right pixels among those that are known, in [0, 1]; NaN where there are none."""
    return float(counts.diagonal().sum().double() / counts.sum())
