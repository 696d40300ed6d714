"""Crops and mirror images, batch-wise, on the batch's device."""

import torch
from jaxtyping import Float
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
