"""Layers that torch lacks."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gan_lightning.nets.initialisation import init_normal_


class Affine(nn.Module):
    """The same straight line for every value: x -> scale * x + offset, without parameters.

    In mixed precision it computes in float32. bfloat16 has steps of 1/256 next to 1: a black near 0 would be lost on
    its way to almost -1 and back.
    """

    def __init__(self, scale: float, offset: float) -> None:
        super().__init__()
        self.scale, self.offset = scale, offset

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Return the values on the line."""
        kind = x.device.type
        if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
            x = x.to(torch.promote_types(x.dtype, torch.float32))
        return self.scale * x + self.offset

    def extra_repr(self) -> str:
        """Return the text for `print`."""
        return f"{self.scale} * x + {self.offset}"


class JointDiscriminator(nn.Module):
    """D(x, z): the rows of D(x). Some rows add a learned linear map of z to their layer's output.

    The sum is taken before the row's batch norm and nonlinearity. For a convolution, z gives one value per channel, the
    same at every place.

    Args:
        rows: Named rows of `nets.blocks` from images to one logit; in each row the layer comes first.
        latent_dim: Length of z.
        injected: Names of the rows that z enters.

    Source:
        Donahue et al. 2017, section 4: "at each linear layer thereafter, the latent representation z is transformed
        using a learned linear transformation to the hidden layer dimension and added to the non-linearity input"; and
        appendix C, "Optimization": weights of z that are added to a convolution's output start at 0.02 times the
        kernel's area. A k x k kernel adds up k² values; z's map adds one.
    """

    def __init__(self, rows: nn.Sequential, latent_dim: int, injected: Sequence[str]) -> None:
        super().__init__()
        self.rows = rows
        self.latent_maps = nn.ModuleDict({name: latent_map(rows.get_submodule(name), latent_dim) for name in injected})

    def forward(
        self, images: Float[Tensor, "batch channels height width"], latents: Float[Tensor, "batch latent"]
    ) -> Float[Tensor, " batch"]:
        """Return the logits of the pairs, before the sigmoid."""
        return through_rows(self.rows, self.latent_maps, images, latents).squeeze(1)


class LatentsAgain(nn.Module):
    """G(z), of which some rows add a learned linear map of z to their layer's output, as `JointDiscriminator` does.

    Args:
        rows: Named rows of `nets.blocks` from latents to images.
        latent_dim: Length of z.
        injected: Names of the rows that z enters again.
    """

    def __init__(self, rows: nn.Sequential, latent_dim: int, injected: Sequence[str]) -> None:
        super().__init__()
        self.rows = rows
        self.latent_maps = nn.ModuleDict({name: latent_map(rows.get_submodule(name), latent_dim) for name in injected})

    def forward(self, latents: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch channels height width"]:
        """Return the images."""
        return through_rows(self.rows, self.latent_maps, latents, latents)


def through_rows(rows: nn.Sequential, latent_maps: nn.ModuleDict, x: Tensor, latents: Tensor) -> Tensor:
    """Return the rows' output for x, with the maps of the latents added before a row's batch norm and nonlinearity."""
    for name, row in rows.named_children():
        if name in latent_maps:
            layer, *rest = row.children()
            x = layer(x)
            added = latent_maps[name](latents)
            x = x + added.reshape(*added.shape, *(1,) * (x.ndim - 2))
            for part in rest:
                x = part(x)
        else:
            x = row(x)
    return x


def latent_map(row: nn.Module, latent_dim: int) -> nn.Linear:
    """Return the linear map of z for a row; it starts at the scale of the layer's own sums."""
    layer = row.get_submodule("0")
    weight = layer.get_parameter("weight")
    return init_normal_(nn.Linear(latent_dim, len(weight), bias=False), std=0.02 * weight[0, 0].numel())


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
        The first row of G in Mao et al. 2022, Table 1; the generators do not share it.
    """

    def __init__(self, copies: int, latent_dim: int, channels: int, size: int) -> None:
        super().__init__()
        self.copies, self.channels, self.size = copies, channels, size
        self.weight = nn.Parameter(torch.empty(copies, latent_dim, channels * size * size))
        self.norm = nn.BatchNorm2d(copies * channels)
        init_normal_(self)

    def forward(self, latents: Float[Tensor, "copies count latent"]) -> Float[Tensor, "images channels size size"]:
        """Return the maps, ordered by layer: image i comes from layer i // count."""
        copies, count, _ = latents.shape
        maps = torch.bmm(latents, self.weight)
        # Batch norm wants the copies' channels side by side; the rows that follow want one image after another.
        beside = maps.transpose(0, 1).reshape(count, copies * self.channels, self.size, self.size)
        activated = torch.relu(self.norm(beside)).unflatten(1, (copies, self.channels))
        return activated.transpose(0, 1).flatten(0, 1)


class PairDiscriminator(nn.Module):
    """D(x, z) from a network's values of x and from z, side by side.

    Args:
        images: Images to values (batch, value).
        pairs: The values of x, then z, to logits.

    Source:
        Liu 2018, Tables 4.1 to 4.7, D2.
    """

    def __init__(self, images: nn.Module, pairs: nn.Module) -> None:
        super().__init__()
        self.images, self.pairs = images, pairs

    def forward(
        self, values: Float[Tensor, "batch value"], latents: Float[Tensor, "batch latent"]
    ) -> Float[Tensor, "batch logits"]:
        """Return the logits of pairs. `values` are outputs of `images`; several pairs may share an x."""
        return self.pairs(torch.cat([values, latents], dim=1))
