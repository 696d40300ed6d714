"""From stored bytes to images for networks: batch-wise, on the batch's device."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from gan_lightning.data.store import Pixels
from gan_lightning.interfaces import Images
from gan_lightning.nets.resizing import resized

Enlarge = Literal["pad", "resize"]
BLACK = -1.0


def to_images(pixels: Pixels, size: int, enlarge: Enlarge) -> Float[Tensor, "batch channels {size} {size}"]:
    """Return images of `size` x `size` in [-1, 1].

    Args:
        pixels: Images as stored, 0 to 255.
        size: Edge in pixels.
        enlarge: `resize` interpolates (bilinear, with antialiasing); `pad` keeps every pixel and adds a black border.
    """
    images = pixels.float().div_(127.5).sub_(1)
    height, width = images.shape[-2:]
    if (height, width) == (size, size):
        return images
    if enlarge == "pad":
        left, top = (size - width) // 2, (size - height) // 2
        return F.pad(images, (left, size - width - left, top, size - height - top), value=BLACK)
    # The weights of an interpolation sum to 1 only up to rounding.
    return resized(images, size).clamp_(-1, 1)


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
