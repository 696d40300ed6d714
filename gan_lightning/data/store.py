"""Decoded images in the memory of the host or of a card, and the batches that each process takes from them.

A pure function decides each image's place in the batches, and the part cut out of it. Its arguments are the number of
images, the batch size, the seed, the epoch, the rank and the number of processes. Batches are gathered by index where
the images lie, without worker processes. The host draws the places once an epoch, and reads nothing back from a card.
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

    @property
    def device(self) -> torch.device:
        """Device of the images, and of the indices of a batch."""
        return self.images.device

    @property
    def nbytes(self) -> int:
        """Bytes of the images and labels."""
        return self.images.nbytes + self.labels.nbytes

    def on(self, device: torch.device) -> "ImageStore":
        """Return the same images and labels on a device."""
        return ImageStore(self.images.to(device), self.labels.to(device))

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
        return self.squares(indices, self.common_edge, self.middles), self.labels.index_select(0, indices)

    def for_training(self, seed: int, epoch: int) -> Callable[[Int64[Tensor, " batch"]], Batch]:
        """Return a function that gives batches of an epoch: squares, all places of an image equally likely."""
        # An image's place is the same in any batch and process.
        drawn = np.random.default_rng((seed, epoch, PLACES)).random((len(self), 2))
        places = torch.from_numpy((drawn * (self.sizes - self.training_edge + 1)).astype(np.int64)).to(self.device)

        def batch(indices: Int64[Tensor, " batch"]) -> Batch:
            return self.squares(indices, self.training_edge, places), self.labels.index_select(0, indices)

        return batch

    def squares(
        self, indices: Int64[Tensor, " batch"], edge: int, corners: Int64[Tensor, "count 2"]
    ) -> UInt8[Tensor, "batch {self.channels} {edge} {edge}"]:
        """Return a square of each of some images.

        Args:
            indices: Numbers of the images.
            edge: Of the squares, pixels.
            corners: Row and column of the upper left pixel, for every image of the store.
        """
        start, height, width = self.layout.index_select(0, indices).unbind(1)
        top, left = corners.index_select(0, indices).unbind(1)
        plane = torch.arange(self.channels, device=self.device)[:, None] * (height * width)[:, None, None]
        line = torch.arange(edge, device=self.device) * width[:, None, None]
        lines = (start + top * width + left)[:, None, None] + plane + line
        # Every run of `edge` values, as a view without a copy: an index for each line of a square, not for each pixel.
        runs = self.pixels.unfold(0, edge, 1)
        return runs.index_select(0, lines.flatten()).view(len(indices), self.channels, edge, edge)

    @property
    def common_edge(self) -> int:
        """The edge that all images have, pixels."""
        return int(self.sizes[0].min())

    @cached_property
    def layout(self) -> Int64[Tensor, "count 3"]:
        """Index of each image's first pixel value, its height and its width."""
        lengths = self.channels * self.sizes.prod(axis=1)
        starts = np.cumsum(lengths) - lengths
        return torch.from_numpy(np.column_stack([starts, self.sizes])).to(self.device)

    @cached_property
    def middles(self) -> Int64[Tensor, "count 2"]:
        """Row and column of the upper left pixel of each image's square in the middle."""
        return torch.from_numpy(np.rint((self.sizes - self.common_edge) / 2).astype(np.int64)).to(self.device)

    @property
    def images(self) -> Pixels:
        """The squares in the middle, of all images."""
        return self[torch.arange(len(self), device=self.device)][0]

    @property
    def device(self) -> torch.device:
        """Device of the images, and of the indices of a batch."""
        return self.pixels.device

    @property
    def nbytes(self) -> int:
        """Bytes of the images, of the labels, and of the places in them that batches need."""
        return self.pixels.nbytes + self.labels.nbytes + self.layout.nbytes + 2 * self.middles.nbytes

    def on(self, device: torch.device) -> "RectangleStore":
        """Return the same images and labels on a device."""
        return replace(self, pixels=self.pixels.to(device), labels=self.labels.to(device))

    def head(self, limit: int | None) -> "RectangleStore":
        """Return the first `limit` images, or all of them, without copying."""
        sizes = self.sizes[:limit]
        length = self.channels * int(sizes.prod(axis=1).sum())
        return replace(self, pixels=self.pixels[:length], sizes=sizes, labels=self.labels[:limit])


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
        store: Returns the training split; asked at the first batch of an iteration.
        batch_size: Images per step and process.
        seed: Decides the order, with the epoch.
        epoch: Returns the epoch; asked at the first batch of an iteration.
    """

    def __init__(self, store: Callable[[], Store], batch_size: int, seed: int, epoch: Callable[[], int]) -> None:
        self.store = store
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = epoch
        self._position = (0, 0)
        self._resume_at = (0, 0)

    def __len__(self) -> int:
        return len(training_steps(len(self.store()), self.batch_size, process_count()))

    def __iter__(self) -> Iterator[Batch]:
        # Lightning calls `iter` before it knows the epoch: a generator starts at the first `next`.
        epoch, store = self.epoch(), self.store()
        rank, world_size = process_rank(), process_count()
        order = shuffled(len(store), self.seed, epoch).to(store.device)
        gathered = store.for_training(self.seed, epoch)
        steps = training_steps(len(store), self.batch_size, world_size)
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
    """Evaluation batches: this process's contiguous share of the stored order.

    Args:
        store: Returns the split; asked at the first batch of an iteration.
        batch_size: Images per step and process.
    """

    def __init__(self, store: Callable[[], Store], batch_size: int) -> None:
        self.store = store
        self.batch_size = batch_size

    def __len__(self) -> int:
        return len(evaluation_steps(len(self.store()), self.batch_size, process_rank(), process_count()))

    def __iter__(self) -> Iterator[Batch]:
        store = self.store()
        for step in evaluation_steps(len(store), self.batch_size, process_rank(), process_count()):
            yield store[torch.arange(step.start, step.stop, device=store.device)]
