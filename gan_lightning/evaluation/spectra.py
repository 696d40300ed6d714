"""Features -> the spread of their spectrum, without labels: how many directions they use."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from gan_lightning.errors import DataError

EPSILON = 1e-7
"""Added to each share of the singular values, as in RankMe."""

RANKS = (4, 100)
"""First and last rank of the fitted eigenvalues, as in the code of Agrawal et al. 2022."""

LEAST = 10
"""Fewest eigenvalues of a fit between these ranks."""


def singular_values(features: Float[Tensor, "images feature"]) -> Float64[Tensor, " values"]:
    """Return the singular values of a matrix of features, the largest first.

    They are roots of the eigenvalues of the smaller of the two matrices of products, in float64. Those below 1e-8 of
    the largest are rounding errors.
    """
    matrix = features.double()
    if not matrix.isfinite().all():
        raise DataError("features must be finite, got NaN or infinity; look for a diverged training run.")
    products = matrix @ matrix.T if len(matrix) < matrix.shape[1] else matrix.T @ matrix
    return torch.linalg.eigvalsh(products).clamp(min=0).sqrt().flip(0)


def rank_me(features: Float[Tensor, "images feature"]) -> float:
    """Return the effective rank: exp of the entropy of the singular values' shares, from 1 to the smaller dimension.

    Args:
        features: Used as they are, without centring.

    Raises:
        DataError: They are not finite, or all are 0.

    Source:
        Garrido et al. 2023, *RankMe: assessing the downstream performance of pretrained self-supervised representations
        by their rank*, equation (1).
    """
    values = singular_values(features)
    if not values[0] > 0:
        raise DataError("features must not all be 0: they have no spectrum; look for a dead network.")
    shares = values / values.sum() + EPSILON
    return math.exp(-float((shares * shares.log()).sum()))


def power_law_exponent(features: Float[Tensor, "images feature"], ranks: Sequence[int] = RANKS) -> float:
    """Return α of the eigenvalues λ of the features' covariance, where λ at rank i falls as i^(-α).

    A line is fitted to log λ over log i, each rank weighted by 1/i.

    Args:
        features: Of images drawn alike.
        ranks: First and last rank of the fit. The last is the number of eigenvalues above rounding if that is smaller,
            and the first is 1 if fewer than `LEAST` would be left.

    Returns:
        α; 0 if fewer than two eigenvalues are above rounding: there is no decay to see.

    Raises:
        DataError: The features are not finite.

    Source:
        Agrawal et al. 2022, *α-ReQ: assessing representation quality in self-supervised learning by measuring
        eigenspectrum decay*, section 3; its code for ranks and weights, which are those of Stringer et al. 2019.
    """
    centred = features.double() - features.double().mean(dim=0)
    eigenvalues = singular_values(centred).square() / len(features)
    eigenvalues = eigenvalues[: len(features) - 1]  # centring takes one direction
    above = int((eigenvalues > 1e-12 * eigenvalues[:1]).sum())
    first, last = ranks[0], min(ranks[1], above)
    if last - first + 1 < LEAST:
        first = 1
    if last < 2:
        return 0.0
    rank = torch.arange(first, last + 1, dtype=torch.float64, device=features.device)
    x, y, weight = rank.log(), eigenvalues[first - 1 : last].log(), 1 / rank
    x, y = x - (weight * x).sum() / weight.sum(), y - (weight * y).sum() / weight.sum()
    return -float((weight * x * y).sum() / (weight * x * x).sum())
