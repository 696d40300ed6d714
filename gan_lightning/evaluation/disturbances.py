"""Images made harder to recognise: with noise, blurred, or partly covered."""

import math
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from gan_lightning.interfaces import Images

GREY = 0.0
"""The middle of [-1, 1]."""

Disturb = Callable[[Images, float, int], Images]
"""Takes images, a strength and a seed, and returns disturbed images in [-1, 1]."""


def noisy(images: Images, deviation: float, seed: int = 0) -> Images:
    """Return images with normal noise in each pixel, cut off at [-1, 1].

    Args:
        images: In [-1, 1].
        deviation: Standard deviation of the noise; black and white are 2 apart.
        seed: Of the noise. One seed has the same noise at every strength and on every device.
    """
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    return (images + deviation * noise.to(images)).clamp(-1, 1)


def blurred(images: Images, deviation: float, seed: int = 0) -> Images:
    """Return images blurred by a Gaussian.

    Args:
        images: In [-1, 1].
        deviation: Standard deviation of the Gaussian, pixels; 0 leaves the images as they are.
        seed: Not used: nothing is drawn.
    """
    if not deviation:
        return images
    from torchvision.transforms.functional import gaussian_blur

    most = min(images.shape[-2:]) - 1  # pixels that can be mirrored at an edge
    return gaussian_blur(images, 2 * min(math.ceil(3 * deviation), most) + 1, deviation)


def occluded(images: Images, share: float, seed: int = 0) -> Images:
    """Return images with a grey square at a random place in each.

    Args:
        images: In [-1, 1].
        share: Edge of the square, as a share of the image's edge.
        seed: Of the places.
    """
    edge = torch.tensor(images.shape[-2:])
    side = (share * edge).round().long()
    drawn = torch.rand(len(images), 2, generator=torch.Generator().manual_seed(seed))
    corners = (drawn * (edge - side + 1)).long()
    rows, columns = (_within(int(edge[i]), corners[:, i], int(side[i])) for i in (0, 1))
    covered = rows[:, None, :, None] & columns[:, None, None, :]
    return images.masked_fill(covered.to(images.device), GREY)


def _within(size: int, starts: Int64[Tensor, " images"], length: int) -> Bool[Tensor, "images {size}"]:
    """Return a mask of the places from each start on."""
    places = torch.arange(size)
    return (places >= starts[:, None]) & (places < starts[:, None] + length)


DISTURBANCES: Mapping[str, Disturb] = {"noise": noisy, "blur": blurred, "occlusion": occluded}
"""The kinds of disturbance, by name."""
