"""Decoded images in memory, and the batches that each process takes from them.

A pure function decides each image's place in the batches, and the part cut out of it. Its arguments are the number of
images, the batch size, the seed, the epoch, the rank and the number of processes. Batches are gathered by index,
without worker processes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from gan_lightning.errors import SettingError
from gan_lightning.interfaces import Labels
from gan_lightning.system.processes import process_count, process_rank

Pixels = UInt8[Tensor, "batch channels stored_height stored_width"]
"""Images as stored, 0 to 255."""

Batch = tuple[Pixels, Labels]

PLACES = 1
"""Number of a random stream: the squares' places must differ from the order of the images with the same seed."""


@dataclass(frozen=True)
class ImageStore:
    """One split of a data set, decoded; the images may be a memory-mapped file.

    Args:
        images: Pixels, 0 to 255.
        labels: As in `gan_lightning.interfaces.Labels`.
    """

    images: UInt8[Tensor, "count channels height width"]
    labels: Int64[Tensor, " count"] | Int64[Tensor, "count attributes"]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: Int64[Tensor, " batch"]) -> Batch:
        # On bytes several times as fast as indexing with a tensor.
        return self.images.index_select(0, indices), self.labels.index_select(0, indices)

    def head(self, limit: int | None) -> "ImageStore":
        """Return the first `limit` images, or all of them, without copying."""
        return ImageStore(self.images[:limit], self.labels[:limit])

    def for_training(self, seed: int, epoch: int) -> Callable[[Int64[Tensor, " batch"]], Batch]:
        """Return a function that gives batches of an epoch: the images as stored."""
        return self.__getitem__


@dataclass(frozen=True)
class RectangleStore:
    """One split of images with one common edge and any other edge; batches are squares cut out of them.

    Evaluations see the square in the middle, as long as the common edge. Training sees smaller squares from the whole
    image; seed, epoch and image decide their places.

    Args:
        pixels: The images one after the other, channels first, 0 to 255; may be a memory-mapped file.
        sizes: Height and width of each; the smaller is the same for all.
        labels: As in `gan_lightning.interfaces.Labels`.
        channels: Of each image.
        training_edge: Edge of the squares for training, pixels.
    """

    pixels: UInt8[Tensor, " bytes"]
    sizes: Int64[np.ndarray, "count 2"]
    labels: Int64[Tensor, " count"] | Int64[Tensor, "count attributes"]
    channels: int
    training_edge: int

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, indices: Int64[Tensor, " batch"]) -> Batch:
        edge = int(self.sizes[0].min())
        middle = np.rint((self.sizes[indices.numpy()] - edge) / 2).astype(np.int64)
        return self.squares(indices, edge, middle), self.labels.index_select(0, indices)

    def for_training(self, seed: int, epoch: int) -> Callable[[Int64[Tensor, " batch"]], Batch]:
        """Return a function that gives batches of an epoch: squares, all places of an image equally likely."""
        # An image's place is the same in any batch and process.
        drawn = np.random.default_rng((seed, epoch, PLACES)).random((len(self), 2))
        places = (drawn * (self.sizes - self.training_edge + 1)).astype(np.int64)

        def batch(indices: Int64[Tensor, " batch"]) -> Batch:
            squares = self.squares(indices, self.training_edge, places[indices.numpy()])
            return squares, self.labels.index_select(0, indices)

        return batch

    def squares(
        self, indices: Int64[Tensor, " batch"], edge: int, corners: Int64[np.ndarray, "batch 2"]
    ) -> UInt8[Tensor, "batch {self.channels} {edge} {edge}"]:
        """Return a square of each image; `corners` has the row and column of its upper left pixel."""
        pixels = self.pixels.numpy()
        cut = np.empty((len(indices), self.channels, edge, edge), np.uint8)
        for square, index, (top, left) in zip(cut, indices.tolist(), corners, strict=True):
            height, width = self.sizes[index]
            start = self.starts[index]
            image = pixels[start : start + self.channels * height * width].reshape(self.channels, height, width)
            square[:] = image[:, top : top + edge, left : left + edge]
        return torch.from_numpy(cut)

    @cached_property
    def starts(self) -> Int64[np.ndarray, " count"]:
        """Index of each image's first pixel value."""
        lengths = self.channels * self.sizes.prod(axis=1)
        return np.cumsum(lengths) - lengths

    @property
    def images(self) -> Pixels:
        """The squares in the middle, of all images."""
        return self[torch.arange(len(self))][0]

    def head(self, limit: int | None) -> "RectangleStore":
        """Return the first `limit` images, or all of them, without copying."""
        return replace(self, sizes=self.sizes[:limit], labels=self.labels[:limit])


Store = ImageStore | RectangleStore


def share(positions: range, rank: int, world_size: int) -> range:
    """Return one process's part. Parts are contiguous, and their lengths differ by at most one.

    Raises:
        SettingError: There are fewer positions than processes.
    """
    count = len(positions)
    if count < world_size:
        raise SettingError(
            f"devices must be at most {count}, the number of images to share, got {world_size}. "
            "Use fewer devices or more images."
        )
    return positions[count * rank // world_size : count * (rank + 1) // world_size]


def training_steps(count: int, batch_size: int, world_size: int) -> list[range]:
    """Return the positions in the epoch's order for each step of all processes together.

    A step takes `batch_size * world_size` images and the last one takes the rest. A rest of fewer than two images per
    process joins the step before it: batch normalisation could not use it.
    """
    smallest = min(2, batch_size) * world_size
    starts = range(0, max(1, count - smallest + 1), batch_size * world_size)
    return [range(start, stop) for start, stop in pairwise([*starts, count])]


def evaluation_steps(count: int, batch_size: int, rank: int, world_size: int) -> list[range]:
    """Return one process's positions in the stored order, step by step.

    The shares in rank order are the stored order. All processes take the same number of steps, so the last step
    can hold one image more than `batch_size`.
    """
    mine = share(range(count), rank, world_size)
    starts = mine[: count // world_size : batch_size]
    return [range(start, stop) for start, stop in pairwise([*starts, mine.stop])]


def shuffled(count: int, seed: int, epoch: int) -> Int64[Tensor, " count"]:
    """Return the order of an epoch; every random generator stays unchanged."""
    return torch.from_numpy(np.random.default_rng((seed, epoch)).permutation(count))


class ShuffledBatches:
    """Training batches: every image once per epoch, in an order that depends on the seed and the epoch only.

    n processes with batch size B take, step by step, the same images as one process with batch size n B. Lightning
    saves and restores the position within the epoch.

    Args:
        store: The training split.
        batch_size: Images per step and process.
        seed: Decides the order, with the epoch.
        epoch: Returns the epoch; asked at the first batch of an iteration.
    """

    def __init__(self, store: Store, batch_size: int, seed: int, epoch: Callable[[], int]) -> None:
        self.store = store
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = epoch
        self._position = (0, 0)
        self._resume_at = (0, 0)

    def __len__(self) -> int:
        return len(training_steps(len(self.store), self.batch_size, process_count()))

    def __iter__(self) -> Iterator[Batch]:
        # Lightning calls `iter` before it knows the epoch: a generator starts at the first `next`.
        epoch = self.epoch()
        rank, world_size = process_rank(), process_count()
        order, gathered = shuffled(len(self.store), self.seed, epoch), self.store.for_training(self.seed, epoch)
        steps = training_steps(len(self.store), self.batch_size, world_size)
        resumed_epoch, taken = self._resume_at
        self._resume_at = (0, 0)
        for number in range(taken if epoch == resumed_epoch else 0, len(steps)):
            self._position = (epoch, number + 1)
            mine = share(steps[number], rank, world_size)
            yield gathered(order[mine.start : mine.stop])

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and the number of its steps so far."""
        epoch, taken = self._position
        return {"epoch": epoch, "steps_taken": taken}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after the saved steps, if the next iteration is of the same epoch."""
        self._resume_at = (state["epoch"], state["steps_taken"])


class OrderedBatches:
    """Evaluation batches: this process's contiguous share of the stored order."""

    def __init__(self, store: Store, batch_size: int) -> None:
        self.store = store
        self.batch_size = batch_size

    def __len__(self) -> int:
        return len(evaluation_steps(len(self.store), self.batch_size, process_rank(), process_count()))

    def __iter__(self) -> Iterator[Batch]:
        for step in evaluation_steps(len(self.store), self.batch_size, process_rank(), process_count()):
            yield self.store[torch.arange(step.start, step.stop)]
