"""From stored bytes to images for networks: batch-wise, on the batch's device."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from gan_lightning.data.store import Pixels
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
