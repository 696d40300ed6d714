"""Resizing of images, the same way everywhere."""

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Interpolation = Literal["bilinear", "bicubic"]
"""Ways to resize images; both with antialiasing."""


def resized(
    images: Float[Tensor, "batch channels height width"], size: int, interpolation: Interpolation = "bilinear"
) -> Float[Tensor, "batch channels {size} {size}"]:
    """Return g_X(x), images of another size (with antialiasing); images of this size stay the same.

    Source:
        Donahue et al. 2017, section 3.5: "g_X is an image resizing function that downsamples a high resolution image".
    """
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, (size, size), mode=interpolation, antialias=True)
