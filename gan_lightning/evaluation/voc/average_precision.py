"""Average precision: how high the right ones stand among all, sorted by their scores."""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gan_lightning.errors import DataError

PrecisionRule = Literal["area", "11_points"]
"""Area below the steps of precision over recall, or VOC 2007's mean over eleven recalls."""


def average_precision(
    scores: Float[Tensor, " items"],
    right: Bool[Tensor, " items"],
    rule: PrecisionRule = "area",
    *,
    positives: int | None = None,
) -> float:
    """Return the average precision of images or detections, sorted by their scores.

    Equal scores are one step: precision and recall are taken after all of them. "area" is Σ (Rₙ - Rₙ₋₁) Pₙ, as
    scikit-learn computes it. "11_points" is the mean, over the recalls 0, 0.1, ..., 1, of the highest precision at this
    recall or a larger one. A recall that is never reached has the precision 0.

    Args:
        scores: Higher is surer. Leave out what the protocol ignores, such as difficult objects.
        right: Whether it is a positive.
        rule: Way to sum up precision and recall.
        positives: Number of all positives; by default of the right ones here. Detections may miss some.

    Returns:
        In [0, 1].

    Raises:
        DataError: There is no positive.

    Source:
        Everingham et al. 2010, section 4.2 (eleven points); 2012's development kit, section 3.4.1 (area, but there of
        the highest precision at each recall or a larger one).
    """
    total = int(right.sum()) if positives is None else positives
    if total < 1:
        raise DataError("Average precision needs a positive, got none; leave the class out.")
    order = scores.argsort(descending=True, stable=True)
    found, scores = right[order].cumsum(0), scores[order]
    last = torch.ones_like(right)
    last[:-1] = scores[1:] != scores[:-1]
    counts = torch.arange(1, len(scores) + 1, device=scores.device)[last]
    found = found[last]
    precision = found.double() / counts
    if rule == "area":
        steps = found.diff(prepend=found.new_zeros(1)).double() / total
        return float((steps * precision).sum())
    reached = [precision[10 * found >= tenth * total] for tenth in range(11)]
    return sum(float(each.max()) if len(each) else 0.0 for each in reached) / 11
