"""Pictures of a network's results, as tensors (3, height, width) in [0, 1]; the caller writes them.

`torchvision.utils.save_image(picture, path)` writes a PNG.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from gan_lightning.evaluation.curves import Picture
from gan_lightning.interfaces import Images


def rows_picture(
    rows: Float[Tensor, "rows columns channels height width"], *, value_range: tuple[float, float] = (-1.0, 1.0)
) -> Picture:
    """Return a picture of rows of images.

    Args:
        rows: The images. If they have more than three channels, the first three are drawn; if they have two, the third
            is black.
        value_range: Values of black and of white.
    """
    return _grid(rows.flatten(0, 1), rows.shape[1], value_range)


def neighbours_picture(
    queries: Images,
    neighbours: Float[Tensor, "batch count channels height width"],
    *,
    value_range: tuple[float, float] = (-1.0, 1.0),
) -> Picture:
    """Return a row per query: the query, then its neighbours.

    Args:
        queries: Images.
        neighbours: Of each query, the nearest first.
        value_range: Values of black and of white.

    Source:
        Donahue et al. 2017, Figure 5.
    """
    return rows_picture(torch.cat([queries[:, None], neighbours], dim=1), value_range=value_range)


def reconstructions_picture(
    images: Images, reconstructions: Images, *, columns: int = 10, value_range: tuple[float, float] = (-1.0, 1.0)
) -> Picture:
    """Return rows of images, each above the row of their reconstructions.

    Args:
        images: x.
        reconstructions: G(E(x)).
        columns: Images in a row; a last row that is not full ends in black.
        value_range: Values of black and of white.

    Source:
        Donahue et al. 2017, Figures 2 and 4.
    """
    pairs = []
    for originals, copies in zip(images.split(columns), reconstructions.split(columns), strict=True):
        for row in (originals, copies):
            blank = row.new_full((columns - len(row), *row.shape[1:]), value_range[0])
            pairs.append(torch.cat([row, blank]))
    return _grid(torch.cat(pairs), columns, value_range)


def filters_picture(
    filters: Float[Tensor, "units channels height width"], *, columns: int = 16, zoom: int | None = None
) -> Picture:
    """Return filters, each stretched to the whole range from black to white.

    Args:
        filters: Weights that touch an image, one set per hidden unit.
        columns: Filters in a row.
        zoom: Edge of a filter's pixel in the picture, pixels; by default such that a filter is about 44 wide.

    Source:
        Donahue et al. 2017, Figure 3.
    """
    zoom = zoom or max(1, round(44 / filters.shape[-1]))
    enlarged = filters.detach().repeat_interleave(zoom, dim=2).repeat_interleave(zoom, dim=3)
    return _grid(enlarged, columns, None)


def _grid(images: Tensor, columns: int, value_range: tuple[float, float] | None) -> Tensor:
    """Return a grid with a frame; without a range, each image has its own."""
    from torchvision.utils import make_grid

    each = value_range is None
    images = images[:, :3]
    if images.shape[1] == 2:
        black = images.amin().item() if value_range is None else value_range[0]
        images = torch.cat([images, torch.full_like(images[:, :1], black)], dim=1)
    padding = 1 if images.shape[-1] < 16 else 2
    return make_grid(images.float().cpu(), columns, padding, normalize=True, value_range=value_range, scale_each=each)
