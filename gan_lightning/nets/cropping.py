"""Crops and mirror images, batch-wise, on the batch's device."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Num
from torch import Tensor

from gan_lightning.interfaces import Images


def centre_crop(images: Images, size: int) -> Float[Tensor, "batch channels {size} {size}"]:
    """Cut the middle of `size` x `size` pixels out of images that are at least as large."""
    height, width = images.shape[-2:]
    top, left = (height - size) // 2, (width - size) // 2
    return images[..., top : top + size, left : left + size]


def random_crop(images: Images, size: int) -> Float[Tensor, "batch channels {size} {size}"]:
    """Cut a square out of each image at its own random place, drawn from the global generator of its device."""
    count, _, height, width = images.shape
    if (height, width) == (size, size):
        return images
    top = torch.randint(height - size + 1, (count, 1), device=images.device)
    left = torch.randint(width - size + 1, (count, 1), device=images.device)
    square = torch.arange(size, device=images.device)
    rows, columns = (top + square)[:, None, :, None], (left + square)[:, None, None, :]
    each = torch.arange(count, device=images.device)[:, None, None, None]
    channels = torch.arange(images.shape[1], device=images.device)[:, None, None]
    return images[each, channels, rows, columns]


def random_scaled_crop(
    image: Num[Tensor, "channels height width"],
    size: int,
    scales: tuple[float, float],
    rng: torch.Generator,
    device: torch.device | None = None,
) -> Float[Tensor, "channels {size} {size}"]:
    """Cut a square out of an image at a random place and scale, mirror it with probability 1/2, and resize it.

    The scale is the number of the image's pixels beside each other that become one. It is uniform between the two
    numbers, and small enough for the square to lie inside the image. New pixels are interpolated between the old ones.

    Args:
        image: Of any size.
        size: Edge of the result, pixels.
        scales: The smallest and the largest scale.
        rng: On the CPU; for scale, place and mirror.
        device: Device to resize on; by default the image's.

    Source:
        philkr/voc-classification, the settings of train_cls.py, and the layer `Transformation` of its Caffe.
    """
    height, width = image.shape[-2:]
    most = min(scales[1], min(height, width) / size)
    least = min(scales[0], most)
    scale, down, right, mirror = torch.rand(4, generator=rng).tolist()
    edge = max(1, min(round(size * (least + scale * (most - least))), height, width))
    top, left = round(down * (height - edge)), round(right * (width - edge))
    square = image[None, :, top : top + edge, left : left + edge].to(device or image.device).float()
    square = F.interpolate(square, (size, size), mode="bilinear", align_corners=False)[0]
    return square.flip(-1) if mirror < 0.5 else square


def flip_half(images: Images) -> Images:
    """Mirror each image left to right with probability 1/2, drawn from the global generator of its device."""
    mirrored = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    return torch.where(mirrored, images.flip(-1), images)


def ten_crops(images: Images, size: int) -> Float[Tensor, "crops batch channels {size} {size}"]:
    """Return the four corners of `size` x `size` pixels and the centre, then the five mirrored left to right.

    Source:
        Krizhevsky et al. 2012, section 4.1.
    """
    corners = [images[..., rows, columns] for rows in _ends(size) for columns in _ends(size)]
    five = torch.stack([*corners, centre_crop(images, size)])
    return torch.cat([five, five.flip(-1)])


def _ends(size: int) -> tuple[slice, slice]:
    return slice(None, size), slice(-size, None)
