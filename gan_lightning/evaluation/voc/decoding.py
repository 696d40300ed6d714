"""Images of files, decoded when they are wanted."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from jaxtyping import UInt8
from torch import Tensor

from gan_lightning.evaluation.voc.devkit import read_image

KEPT = 4 * 2**30
"""Most bytes of decoded images to keep; VOC 2007's training images have 2.8 GB."""


class DecodedFiles:
    """Images of files, each of its own size. The first that are decoded stay in memory, up to a number of bytes.

    Args:
        paths: The files.
        channels: 3 for colours, 1 for shades of grey.
        keep: Most bytes to keep.
    """

    def __init__(self, paths: Sequence[Path], channels: int, keep: int = KEPT) -> None:
        self.paths, self.channels, self._room = paths, channels, keep
        self._kept: dict[int, UInt8[Tensor, "channels height width"]] = {}

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, at: int) -> UInt8[Tensor, "channels height width"]:
        """Return an image's pixels.

        Raises:
            DataError: The file is missing or damaged.
            IndexError: There are fewer files.
        """
        if at not in self._kept:
            pixels = read_image(self.paths[at], self.channels)
            if pixels.numel() > self._room:
                return pixels
            self._kept[at] = pixels
            self._room -= pixels.numel()
        return self._kept[at]

    def __iter__(self) -> Iterator[UInt8[Tensor, "channels height width"]]:
        """Yield the images in their order."""
        yield from (self[at] for at in range(len(self)))
