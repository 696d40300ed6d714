"""Features of the same images in two layers -> their likeness, by linear centred kernel alignment."""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from gan_lightning.errors import DataError

LEAST = 4
"""Fewest images of the estimate without bias."""


def products(features: Float[Tensor, "images feature"]) -> Float64[Tensor, "images images"]:
    """Return the inner products of centred features of each pair of images, in float64."""
    centred = features.double() - features.double().mean(dim=0)
    return centred @ centred.T


def linear_cka(first: Float64[Tensor, "images images"], second: Float64[Tensor, "images images"]) -> float | None:
    """Return the linear CKA of two layers, in [0, 1]: 1 if one is a rotation of the other, times a number.

    Layers with more features than there are images are alike by chance: features that have nothing to do with each
    other may come near 1. `debiased_cka` is 0 for these in the mean.

    Args:
        first: Inner products of the first layer's centred features, as `products` returns them.
        second: Of the second layer's, for the same images.

    Returns:
        The likeness; None if a layer's features are all equal.

    Source:
        Kornblith et al. 2019, *Similarity of neural network representations revisited*, section 3.
    """
    return _ratio((first * second).sum(), (first * first).sum(), (second * second).sum())


def debiased_cka(first: Float64[Tensor, "images images"], second: Float64[Tensor, "images images"]) -> float | None:
    """Return the linear CKA of two layers by estimates of HSIC without bias; at most 1, and 0 in the mean by chance.

    Args:
        first: Inner products of the first layer's features.
        second: Of the second layer's, for the same images.

    Returns:
        The likeness; None if a layer's features are all equal.

    Raises:
        DataError: There are fewer than `LEAST` images.

    Source:
        Song et al. 2012, *Feature selection via dependence maximization*, equation (5), for HSIC without bias; Nguyen
        et al. 2021, *Do wide and deep networks learn the same things?*, section 2, for its use in CKA.
    """
    return _ratio(unbiased_hsic(first, second), unbiased_hsic(first, first), unbiased_hsic(second, second))


def unbiased_hsic(
    first: Float64[Tensor, "images images"], second: Float64[Tensor, "images images"]
) -> Float64[Tensor, ""]:
    """Return the estimate without bias of the Hilbert-Schmidt independence criterion of two kernel matrices.

    Raises:
        DataError: There are fewer than `LEAST` images.

    Source:
        Song et al. 2012, equation (5).
    """
    n = len(first)
    if n < LEAST:
        raise DataError(f"the estimate of HSIC needs at least {LEAST} images, got {n}; use more images.")
    one, other = (matrix - torch.diag(matrix.diagonal()) for matrix in (first, second))
    sums = one.sum() * other.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one.sum(dim=0) @ other.sum(dim=0))
    return ((one * other).sum() + sums) / (n * (n - 3))


def _ratio(both: Tensor, first: Tensor, second: Tensor) -> float | None:
    norm = float(first) * float(second)
    return None if norm <= 0 else float(both) / norm**0.5
