"""Paths between latents: on a line, on a sphere, and tours through several."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from gan_lightning.interfaces import Latents

Path = Literal["line", "sphere"]
"""Kind of a path between two latents."""


def between(
    first: Latents, last: Float[Tensor, "batch latent"], steps: int, path: Path
) -> Float[Tensor, "batch {steps} latent"]:
    """Return latents on the path from each first latent to its last one, both ends included, at equal steps.

    On a line, the latents in the middle are shorter than both ends. In many dimensions those of a normal prior are
    almost all of one length, so the middle of a line is unlike anything that the generator was trained on. On a sphere,
    the direction turns at a constant rate and the length changes evenly. Two opposite or equal directions have no one
    arc: the path is then a line.

    Args:
        first: Beginnings.
        last: Ends.
        steps: Latents of each path, at least 2.
        path: Kind of the path.

    Source:
        White 2016, *Sampling generative networks*, section 2.1, for the sphere.
    """
    share = torch.linspace(0, 1, steps, dtype=first.dtype, device=first.device)[:, None]
    begin, end = first[:, None], last[:, None]
    line = torch.lerp(begin, end, share)
    if path == "line":
        return line
    length, other_length = (each.norm(dim=2, keepdim=True) for each in (begin, end))
    way, other_way = begin / length.clamp(min=1e-12), end / other_length.clamp(min=1e-12)
    angle = (way * other_way).sum(dim=2, keepdim=True).clamp(-1, 1).acos()
    sine = angle.sin()
    turned = (((1 - share) * angle).sin() * way + (share * angle).sin() * other_way) / sine.clamp(min=1e-12)
    return torch.where(sine > 1e-4, turned * torch.lerp(length, other_length, share), line)


def tour(points: Latents, steps: int, path: Path) -> Float[Tensor, "frames latent"]:
    """Return a closed path through points: `steps` latents from each to the next, and from the last to the first.

    Args:
        points: In the order of the path.
        steps: Latents from a point, itself included, up to the one before the next point.
        path: Kind of the path between two points.
    """
    return between(points, points.roll(-1, dims=0), steps + 1, path)[:, :-1].flatten(0, 1)
