"""Images made harder to recognise: with noise, blurred, partly covered, or as cameras and files spoil them."""

import io
import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int64
from torch import Tensor

from gan_lightning.evaluation.tensors import from_bytes, to_bytes
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


def speckled(images: Images, share: float, seed: int = 0) -> Images:
    """Return images with some values made black or white ("impulse noise").

    Args:
        images: In [-1, 1].
        share: Of all values; half of them become black.
        seed: Of the places. One seed has the same places at every strength, and more of them.

    Source:
        Hendrycks and Dietterich 2019, *Benchmarking neural network robustness to common corruptions and perturbations*.
    """
    rng = torch.Generator().manual_seed(seed)
    drawn, white = torch.rand(images.shape, generator=rng), torch.rand(images.shape, generator=rng) < 0.5
    value = torch.where(white, 1.0, -1.0).to(images)
    return torch.where((drawn < share).to(images.device), value, images)


def paler(images: Images, loss: float, seed: int = 0) -> Images:
    """Return images with less contrast: each value is moved towards the mean of its channel in its image.

    Args:
        images: In [-1, 1].
        loss: Share of the way to the mean.
        seed: Not used: nothing is drawn.

    Source:
        Hendrycks and Dietterich 2019; 1 minus their factor.
    """
    return torch.lerp(images, images.mean(dim=(2, 3), keepdim=True), loss)


def brighter(images: Images, more: float, seed: int = 0) -> Images:
    """Return images with a higher value in hue, saturation and value; hue and saturation stay.

    Args:
        images: In [-1, 1].
        more: Added to each pixel's largest channel in [0, 1], which is cut off at 1.
        seed: Not used: nothing is drawn.

    Source:
        Hendrycks and Dietterich 2019.
    """
    if not more:
        return images
    shares = (images + 1) / 2
    value = shares.amax(dim=1, keepdim=True)
    raised = (value + more).clamp(max=1)
    return torch.where(value > 0, shares * (raised / value.clamp(min=1e-12)), raised) * 2 - 1


def coarser(images: Images, loss: float, seed: int = 0) -> Images:
    """Return images of fewer pixels, each a mean, drawn at the former size ("pixelate").

    Args:
        images: In [-1, 1].
        loss: Share of the edge's pixels that are lost; one pixel is left at least.
        seed: Not used: nothing is drawn.

    Source:
        Hendrycks and Dietterich 2019; 1 minus their factor.
    """
    if not loss:
        return images
    height, width = (max(1, int(size * (1 - loss))) for size in images.shape[-2:])
    small = F.interpolate(images, (height, width), mode="area")
    return F.interpolate(small, images.shape[-2:], mode="nearest-exact")


def compressed(images: Images, loss: float, seed: int = 0) -> Images:
    """Return images as JPEG keeps them; images without three channels are compressed channel by channel, as grey ones.

    Args:
        images: In [-1, 1].
        loss: 100 minus JPEG's quality; 0 leaves the images as they are.
        seed: Not used: nothing is drawn.

    Source:
        Hendrycks and Dietterich 2019.
    """
    if not loss:
        return images
    colour = images.shape[1] == 3
    pixels = to_bytes(images).cpu()
    pictures = pixels.permute(0, 2, 3, 1) if colour else pixels.flatten(0, 1)
    kept = torch.from_numpy(np.stack([_as_jpeg(each.numpy(), round(100 - loss)) for each in pictures]))
    kept = kept.permute(0, 3, 1, 2) if colour else kept.reshape(images.shape)
    return from_bytes(kept.to(images))


def _as_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


DISTURBANCES: Mapping[str, Disturb] = {
    "noise": noisy,
    "blur": blurred,
    "occlusion": occluded,
    "speckles": speckled,
    "contrast": paler,
    "brightness": brighter,
    "pixels": coarser,
    "jpeg": compressed,
}
"""The kinds of disturbance, by name. At strength 0 each leaves the images as they are."""

MOST: Mapping[str, float] = {"occlusion": 1, "speckles": 1, "contrast": 1, "brightness": 1, "pixels": 1, "jpeg": 99}
"""The largest strength of a kind, where it has one."""
