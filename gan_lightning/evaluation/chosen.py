"""Some images of a split: drawn at random, or at given places."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64, Integer
from torch import Tensor

from gan_lightning.interfaces import ImageBatches, Images, Labels
from gan_lightning.system.processes import gather_objects, gather_rows, process_count, process_rank


@dataclass(frozen=True)
class ChosenImages:
    """Some images of a split, in stored order.

    Attributes:
        batches: All batches; if several processes run, this process's share.
        places: Places of the images in the share, ascending.
        count: Number of the images, of all processes together.
    """

    batches: ImageBatches
    places: Int64[Tensor, " places"]
    count: int

    def __iter__(self) -> Iterator[tuple[Images, Labels]]:
        """Yield the chosen images and labels of each batch that has any."""
        start = 0
        for images, labels in self.batches:
            end = start + len(images)
            here = self.places[(self.places >= start) & (self.places < end)] - start
            if len(here):
                yield images[here.to(images.device)], labels[here.to(labels.device)]
            start = end


def choose(batches: ImageBatches, count: int, seed: int) -> ChosenImages:
    """Return `count` images, chosen at random, or all if there are fewer.

    The choice is the same for any number of processes.

    Args:
        batches: Read once to count the images; if several processes run, this process's share.
        count: Number of images.
        seed: For the choice.
    """
    shares = gather_objects(sum(len(images) for images, _ in batches))
    total, start, own = sum(shares), sum(shares[: process_rank()]), shares[process_rank()]
    places = _drawn(total, count, seed)
    return ChosenImages(batches, places[(places >= start) & (places < start + own)] - start, len(places))


def drawn_images(batches: ImageBatches, count: int, seed: int) -> Images:
    """Return images drawn from the whole of a split, in stored order, or all if there are fewer.

    Args:
        batches: Read twice, the first time to count. If several processes run, this is one process's share. All
            processes get the same images, for any number of processes.
        count: Number of images.
        seed: Of the draw.
    """
    total = sum(gather_objects(sum(len(images) for images, _ in batches)))
    return images_at(batches, _drawn(total, count, seed))


def images_at(
    batches: ImageBatches, indices: Integer[Tensor, " places"]
) -> Float[Tensor, "places channels height width"]:
    """Return the images at these places of the stored order.

    Args:
        batches: If several processes run, this process's share; all of them get the same images.
        indices: Places; one may be asked for again.
    """
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


def _drawn(total: int, count: int, seed: int) -> Int64[Tensor, " places"]:
    """Return `count` of the first `total` numbers, chosen at random, or all if there are fewer; ascending."""
    return torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:count].sort().values
