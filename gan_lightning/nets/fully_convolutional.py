"""FCN-32s on the convolutions of any network: a score of each class for each pixel.

Source:
    Long et al. 2015, *Fully Convolutional Networks for Semantic Segmentation*, and its authors' `voc-fcn-alexnet`.
"""

import copy
import math
from collections import OrderedDict

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gan_lightning.errors import SettingError
from gan_lightning.interfaces import Images
from gan_lightning.nets.stages import stride_of

KERNEL, POOL = 6, 3
"""Edges of fc6's window on pool5's maps, and of pool5's window on the last stage's maps."""

MAPS = 13
"""Edge of the smallest maps of the last stage on which fc6 has one place, as on AlexNet's."""

PADDING = 100 / 32
"""Width of the margin around an image, in strides of fc6: 100 pixels in AlexNet."""


class FullyConvolutional(nn.Module):
    """Scores for each pixel: a margin, the stages, pool5, fc6 and fc7 as convolutions, 1x1 scores, and upsampling.

    fc6 sees a place every T pixels; T is twice the stages' stride, 32 in AlexNet. The scores between the places are
    interpolated by a fixed bilinear kernel of 2T - 1 pixels, then cut to the image. A place stands at the centre of the
    pixels that it sees. If the stages are not a plain sequence of convolutions and pooling, the centre of the places
    stands at the image's centre. fc6 and fc7 end in a leaky ReLU and dropout, as in `fully_connected_head`. The scores
    start from 0.

    Args:
        stages: Convolutions, from images to maps; they become a part of this network.
        image_channels: Of the images.
        classes: Number of scores.
        width: Channels of fc6 and of fc7.
        dropout: Probability of leaving out a value of fc6 or fc7.

    Raises:
        SettingError: The stages take no images of other sizes, so that they have no stride.
    """

    def __init__(
        self, stages: nn.Sequential, image_channels: int, classes: int, *, width: int = 4096, dropout: float = 0.5
    ) -> None:
        super().__init__()
        stride = stride_of(stages, image_channels)
        if stride is None:
            raise SettingError(
                "stages must take images of any size, got some whose maps do not grow with the image. Use a network of "
                "convolutions and pooling alone."
            )
        self.stride = 2 * stride
        self.smallest, channels = _smallest_image(stages, image_channels, stride)
        first = _first_centre(stages, stride)
        self.first = None if first is None else first + (POOL - 1) / 2 * stride + (KERNEL - 1) / 2 * self.stride
        self.stages = stages
        self.head = nn.Sequential(OrderedDict(
            pool5=nn.MaxPool2d(POOL, 2),
            fc6=_row(channels, width, KERNEL, dropout),
            fc7=_row(width, width, 1, dropout),
            score=nn.Conv2d(width, classes, 1),
        ))  # fmt: skip
        self.forget_scores()
        self.kernel: Tensor
        self.register_buffer("kernel", bilinear_kernel(self.stride).expand(classes, 1, -1, -1), persistent=False)

    def forget_scores(self) -> None:
        """Set the weights and biases of the scores to 0."""
        for weight in self.head[-1].parameters():
            nn.init.zeros_(weight)

    def forward(self, images: Images) -> Float[Tensor, "batch classes height width"]:
        """Return the scores of each pixel of images of any size."""
        height, width = images.shape[-2:]
        margin = round(PADDING * self.stride)
        if self.first is not None:
            margin = max(margin, math.ceil(self.first) - self.stride + 1)
        margin = max(margin, math.ceil((self.smallest - min(height, width)) / 2))
        scores = self.head(self.stages(F.pad(images, (margin,) * 4)))
        between = F.conv_transpose2d(scores, self.kernel, stride=self.stride, groups=len(self.kernel))
        for edge, places, dim in ((height, scores.shape[2], 2), (width, scores.shape[3], 3)):
            first = (edge - 1 - (places - 1) * self.stride) / 2 if self.first is None else self.first - margin
            start = max(0, round(self.stride - 1 - first))
            rows = torch.arange(start, start + edge, device=images.device).clamp(max=between.shape[dim] - 1)
            between = between.index_select(dim, rows)
        return between


def bilinear_kernel(stride: int) -> Float[Tensor, "edge edge"]:
    """Return the kernel that interpolates linearly between places `stride` pixels apart; its edge is 2 · stride - 1."""
    steps = torch.arange(1.0, 2 * stride)
    line = 1 - (steps - stride).abs() / stride
    return line[:, None] * line


def _row(channels: int, width: int, kernel: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, kernel), nn.LeakyReLU(0.2), nn.Dropout(dropout))


@torch.no_grad()
def _smallest_image(stages: nn.Sequential, channels: int, stride: int) -> tuple[int, int]:
    """Return the edge of the smallest images, but for a stride, on which fc6 has a place; and the maps' channels."""
    network = copy.deepcopy(stages).to("meta").eval()
    edge = MAPS * stride
    while True:
        maps = network(torch.empty(2, channels, edge, edge, device="meta"))
        if min(maps.shape[2:]) >= MAPS:
            return edge, maps.shape[1]
        edge += stride


def _first_centre(stages: nn.Sequential, stride: int) -> float | None:
    """Return the centre of the pixels that the first place of the stages' maps sees, in pixels; None if unknown."""
    centre, step = 0.0, 1
    for layer in stages.modules():
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            window, each = _edge(layer.kernel_size), _edge(layer.stride)
            window = _edge(getattr(layer, "dilation", 1)) * (window - 1) + 1
            named = {"same": (window - 1) // 2, "valid": 0}
            before = named[layer.padding] if isinstance(layer.padding, str) else _edge(layer.padding)
            centre += ((window - 1) / 2 - before) * step
            step *= each
    return centre if step == stride else None


def _edge(size: int | tuple[int, ...]) -> int:
    return size[0] if isinstance(size, tuple) else size
