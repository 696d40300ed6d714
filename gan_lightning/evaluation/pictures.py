"""Pictures of what a network has learned, as tensors (3, height, width) in [0, 1]; who asks for one writes it.

`torchvision.utils.save_image(picture, path)` writes a PNG.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gan_lightning.errors import SettingError
from gan_lightning.evaluation.features import extract_features, frozen
from gan_lightning.evaluation.nearest import Metric, nearest_neighbours
from gan_lightning.interfaces import ImageBatches, Images
from gan_lightning.processes import gather_objects, gather_rows, process_count, process_rank


def neighbours_picture(
    extractor: nn.Module,
    queries: Images,
    batches: ImageBatches,
    *,
    count: int = 4,
    metric: Metric = "cosine",
    name: str = "features",
    value_range: tuple[float, float] = (-1.0, 1.0),
) -> Float[Tensor, "3 picture_height picture_width"]:
    """Return a row per query: the query, then its nearest neighbours in feature space, the nearest first.

    Args:
        extractor: Maps images to features; frozen meanwhile.
        queries: On the device of the extractor; the same on every process, as `first_images` gives them.
        batches: Images to find neighbours among; where several processes run, this process's share. They are read
            twice, and once more to count the shares.
        count: Neighbours per query.
        metric: Distance between features.
        name: The extractor's name in an error.
        value_range: Values of black and of white.

    Raises:
        SettingError: There are fewer images than neighbours asked for.
        DataError: Features are not finite.

    Source:
        Donahue et al. 2017, Figure 5.
    """
    features, _ = extract_features({name: extractor}, batches)
    with frozen({name: extractor}), torch.no_grad():
        asked = extractor(queries).flatten(1).float()
    names = f"features of the queries by {name!r}", f"features of the images by {name!r}"
    nearest = nearest_neighbours(asked, features[name], count, metric, names=names)
    found = _images_at(batches, nearest.flatten()).unflatten(0, nearest.shape)
    return _grid(torch.cat([queries[:, None], found], dim=1).flatten(0, 1), count + 1, value_range)


def first_images(batches: ImageBatches, count: int) -> Images:
    """Return the first images of the stored order, or all where there are fewer.

    Args:
        batches: Where several processes run, this process's share; all of them get the same images.
        count: How many.
    """
    found: list[Tensor] = []
    for images, _ in batches:
        found.append(images[: count - sum(map(len, found))])
        if sum(map(len, found)) == count:
            break
    mine = torch.cat(found)
    return gather_rows(mine, gather_objects(len(mine)))[:count]


def drawn_images(batches: ImageBatches, count: int, seed: int) -> Images:
    """Return images drawn from the whole of a split, in stored order, or all where there are fewer.

    Args:
        batches: Read twice, the first time to count; where several processes run, this process's share. All of them
            get the same images, which do not depend on the number of processes.
        count: How many.
        seed: Of the draw.
    """
    total = sum(gather_objects(sum(len(images) for images, _ in batches)))
    drawn = torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:count]
    return _images_at(batches, drawn.sort().values)


def reconstructions_picture(
    images: Images, reconstructions: Images, *, columns: int = 10, value_range: tuple[float, float] = (-1.0, 1.0)
) -> Float[Tensor, "3 picture_height picture_width"]:
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
    network: nn.Module,
    *,
    image_shape: tuple[int, int, int] | None = None,
    most: int | None = None,
    columns: int = 16,
    zoom: int | None = None,
) -> Float[Tensor, "3 picture_height picture_width"]:
    """Return the filters that touch the image, each stretched to the whole range from black to white.

    They are those of a generator's last transposed convolution, else of the first convolution, else of the first
    linear layer; of a generator of linear layers, of the last.

    Args:
        network: D, E or G.
        image_shape: Channels, height and width; asked of a network of linear layers.
        most: Draw no more than the first ones.
        columns: Filters in a row.
        zoom: Edge of a filter's pixel in the picture, pixels; by default what makes a filter about 44 wide.

    Raises:
        SettingError: No layer's filters look like images.

    Source:
        Donahue et al. 2017, Figure 3.
    """
    filters = _image_filters(network, image_shape).detach()[:most]
    zoom = zoom or max(1, round(44 / filters.shape[-1]))
    if filters.shape[1] not in (1, 3):
        raise SettingError(
            f"network must have filters of 1 or 3 channels where it touches the image, got {filters.shape[1]}; "
            "give the part of it that sees or makes images."
        )
    enlarged = filters.repeat_interleave(zoom, dim=2).repeat_interleave(zoom, dim=3)
    return _grid(enlarged, columns, None)


def _image_filters(network: nn.Module, image_shape: tuple[int, int, int] | None) -> Tensor:
    """Return one filter per hidden unit: (units, channels, height, width)."""
    layers = list(network.modules())
    if made := [layer for layer in layers if isinstance(layer, nn.ConvTranspose2d)]:
        return made[-1].weight
    if seen := [layer for layer in layers if isinstance(layer, nn.Conv2d)]:
        return seen[0].weight
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    if linear and image_shape is not None:
        pixels = image_shape[0] * image_shape[1] * image_shape[2]
        if linear[0].in_features == pixels:
            return linear[0].weight.unflatten(1, image_shape)
        if linear[-1].out_features == pixels:
            return linear[-1].weight.T.unflatten(1, image_shape)
    raise SettingError(
        "network must have a convolution, or a linear layer that sees or makes images of image_shape, got "
        f"image_shape={image_shape} and linear layers {[(layer.in_features, layer.out_features) for layer in linear]}; "
        "give the shape (channels, height, width) of the images."
    )


def _images_at(batches: ImageBatches, indices: Tensor) -> Tensor:
    """Return the images at these places of the stored order, one of which may be asked for again."""
    wanted, places = torch.unique(indices, return_inverse=True)
    found, start = [], 0
    if process_count() > 1:
        shares = gather_objects(sum(len(images) for images, _ in batches))
        start = sum(shares[: process_rank()])
    for images, _ in batches:
        here = wanted[(wanted >= start) & (wanted < start + len(images))] - start
        found.append(images[here.to(images.device)])
        start += len(images)
    mine = torch.cat(found)
    images = gather_rows(mine, gather_objects(len(mine)))  # shares in rank order hold ascending places
    return images[places.to(images.device)]


def _grid(images: Tensor, columns: int, value_range: tuple[float, float] | None) -> Tensor:
    """Return a grid with a frame of one pixel; without a range, each image has its own."""
    from torchvision.utils import make_grid

    each = value_range is None
    padding = 1 if images.shape[-1] < 16 else 2
    return make_grid(images.float().cpu(), columns, padding, normalize=True, value_range=value_range, scale_each=each)
