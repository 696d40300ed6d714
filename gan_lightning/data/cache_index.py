"""The index of a cache of decoded images: a record for every few images, each with its checksums."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ENTRY = np.dtype([("key", "<u8"), ("height", "<u4"), ("width", "<u4")])
"""An image in the index."""


@dataclass(frozen=True)
class Chunk:
    """A record of the index.

    Attributes:
        entries: The images.
        brightest: Largest value of their pixels.
        checksum: CRC-32 of their pixels.
    """

    entries: np.ndarray
    brightest: int
    checksum: int

    def record(self) -> bytes:
        """Return the record's bytes: the number of images, the images, both figures, and a CRC-32 of these."""
        figures = np.array([self.brightest, self.checksum], "<u4").tobytes()
        content = np.array(len(self.entries), "<u4").tobytes() + self.entries.tobytes() + figures
        return content + np.array(zlib.crc32(content), "<u4").tobytes()

    @property
    def values(self) -> int:
        """Number of pixels of all its images."""
        return int((self.entries["height"].astype(np.int64) * self.entries["width"]).sum())


def chunks_of(index: Path) -> list[Chunk]:
    """Return the whole records at the start of an index; none if there is no index."""
    try:
        content = index.read_bytes()
    except OSError:
        return []
    chunks, start = [], 0
    while count := int.from_bytes(content[start : start + 4], "little"):
        figures = start + 4 + count * ENTRY.itemsize
        if len(content) < figures + 12:
            break
        numbers = np.frombuffer(content, "<u4", 3, figures)
        if zlib.crc32(content[start : figures + 8]) != numbers[2]:
            break
        entries = np.frombuffer(content, ENTRY, count, start + 4)
        chunks.append(Chunk(entries, int(numbers[0]), int(numbers[1])))
        start = figures + 12
    return chunks


def entries_of(chunks: Sequence[Chunk]) -> np.ndarray:
    """Return the images of chunks in one array."""
    return np.concatenate([np.empty(0, ENTRY), *(chunk.entries for chunk in chunks)])
