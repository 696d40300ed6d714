"""Layers that torch lacks."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gan_lightning.nets.init import init_normal_


class ParallelProjection(nn.Module):
    """K latent-to-map layers side by side: transposed convolution, batch norm and ReLU with weights of their own.

    A transposed convolution with stride 1 and no padding on a 1x1 input is a matrix product, so the K layers are
    one batched product. Batch norm over K times as many channels gives each of the K its own statistics, gain and
    bias. The result equals K separate `ConvTranspose2d`, `BatchNorm2d`, `ReLU` modules on their own latents.

    Args:
        copies: K, the number of layers.
        latent_dim: Length of a latent.
        channels: Channels of each layer's output.
        size: Height and width of each layer's output, pixels.

    Source:
        The first row of G in Mao et al. 2022, Table 1: the one that the generators do not share.
    """

    def __init__(self, copies: int, latent_dim: int, channels: int, size: int) -> None:
        super().__init__()
        self.copies, self.channels, self.size = copies, channels, size
        self.weight = nn.Parameter(torch.empty(copies, latent_dim, channels * size * size))
        self.norm = nn.BatchNorm2d(copies * channels)
        init_normal_(self)

    def forward(self, latents: Float[Tensor, "copies count latent"]) -> Float[Tensor, "images channels size size"]:
        """Return the maps, those of the first layer first: image i comes from layer i // count."""
        copies, count, _ = latents.shape
        maps = torch.bmm(latents, self.weight)
        # Batch norm wants the copies' channels side by side; the rows that follow want one image after another.
        beside = maps.transpose(0, 1).reshape(count, copies * self.channels, self.size, self.size)
        activated = torch.relu(self.norm(beside)).unflatten(1, (copies, self.channels))
        return activated.transpose(0, 1).flatten(0, 1)
