"""A set of decoded images on the disk: a folder that one process fills once, and that all map into their memory.

| file | content |
| --- | --- |
| `pixels` | the pixels of all images, one after the other, channels first |
| `index` | a record for every `CHUNK` images: their keys, heights and widths, their brightest value, and checksums |
| `checked` | length and time of `pixels` when they were last found to have their checksums |
| `lock` | locked by the process that fills the folder |

The folder is filled a chunk at a time. After a kill the next process compares what is there with the checksums and goes
on behind it. A whole cache is opened without reading its pixels, unless `pixels` was written to after the last check.
"""

import errno
import json
import logging
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8, UInt64
from torch import Tensor

from gan_lightning.data.cache_index import ENTRY, Chunk, chunks_of, entries_of
from gan_lightning.data.card import in_words
from gan_lightning.errors import DataError
from gan_lightning.system.files import flush, write_json, writing_folder
from gan_lightning.system.locks import lock, locked
from gan_lightning.system.workers import processors, shared_work

logger = logging.getLogger(__name__)

CHUNK = 512
"""Images between two points at which a killed process can be gone on from."""
WORTH_A_PROCESS = 1_024
"""Images for which a further process pays."""
WORTH_A_PROGRESS_BAR = 5_000
DARK = 32
"""Brightest value of a nearly black image. 12-bit images that are taken for 16 bits end at 16."""

NO_LOCKS = (None, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
"""Error numbers of systems and disks without locks; the number is None if Python has no module for locks."""

Decode = Callable[[Path], UInt8[np.ndarray, "channels height width"]]
"""Reads the pixels of a file."""

Pictures = tuple[UInt8[Tensor, " bytes"], Int64[np.ndarray, "count 2"]]
"""The pixels of images, one after the other, channels first; and the height and width of each image."""


@dataclass(frozen=True)
class ImageCache:
    """A cache of the images with these keys.

    Args:
        folder: Its own.
        keys: Of the images, in their order.
        channels: Of each image.
    """

    folder: Path
    keys: UInt64[np.ndarray, " count"]
    channels: int

    @property
    def pixels(self) -> Path:
        """The file of the pixels."""
        return self.folder / "pixels"

    @property
    def index(self) -> Path:
        """The file of the index."""
        return self.folder / "index"

    @property
    def noted(self) -> Path:
        """The file that says of what length and time the checked pixels were."""
        return self.folder / "checked"

    @property
    def partial(self) -> bool:
        """Whether it holds some images, but has never been whole."""
        return not self.noted.exists() and bool(chunks_of(self.index))

    def open(self) -> Pictures | None:
        """Return the content; None if the cache is not whole, or was written to after the last check."""
        state = state_of(self.pixels)
        try:
            unchanged = state is not None and json.loads(self.noted.read_text(encoding="utf-8")) == state
        except (OSError, ValueError):
            unchanged = False
        return self._content(chunks_of(self.index)) if unchanged else None

    def check(self) -> Pictures | None:
        """Return the content if it is whole and has its checksums, and note that; else None."""
        if self._content(chunks_of(self.index)) is None:
            return None
        content = self._content(self.intact())
        if content is not None:
            with suppress(OSError):  # a folder that cannot be written to is checked each time
                write_json(self.noted, state_of(self.pixels) or {})
        return content

    def intact(self) -> list[Chunk]:
        """Return the chunks at the start whose pixels have their checksums; reads all pixels, a chunk at a time."""
        chunks = chunks_of(self.index)
        try:
            with self.pixels.open("rb") as stream:
                for number, chunk in enumerate(chunks):
                    if zlib.crc32(stream.read(self.channels * chunk.values)) != chunk.checksum:
                        return chunks[:number]
        except OSError:
            return []
        return chunks

    def fill(self, files: Sequence[str | Path], decode: Decode, edge: int, held: int | None = None) -> None:
        """Decode the images that are not there yet, in all processors, and put them behind the others.

        Images that another cache of the same kind has are copied from it.

        Args:
            files: Of the images.
            decode: Reads one.
            edge: The shorter edge of each image, pixels; at least so much room is needed.
            held: The descriptor of the lock, if there is one.

        Raises:
            DataError: An image cannot be read.
            OSError: A file cannot be written, such as on a full disk.
        """
        from rich.progress import track

        if self.noted.exists():
            # Another process may have mapped these files, so they are replaced instead of written to.
            for file in (self.noted, self.index, self.pixels):
                file.unlink(missing_ok=True)
        chunks = self.intact()
        done = sum(len(chunk.entries) for chunk in chunks)
        for file, length in (
            (self.pixels, self.channels * sum(chunk.values for chunk in chunks)),
            (self.index, sum(len(chunk.record()) for chunk in chunks)),
        ):
            file.touch()
            os.truncate(file, length)
        check_room(self.folder, (len(files) - done) * self.channels * edge * edge)
        if done:
            logger.info("%d of %d images are in '%s' already.", done, len(files), self.folder)
        older = OlderCaches(self, done)
        missing = (Path(files[number]) for number in range(done, len(files)) if number not in older)
        processes = min(processors(), (len(files) - done - older.count) // WORTH_A_PROCESS)
        with (
            shared_work(decode, processes, () if held is None else (held,)) as results,
            self.pixels.open("ab") as pixels,
            self.index.open("ab") as index,
        ):
            decoded = results(missing)
            images = (older[number] if number in older else next(decoded) for number in range(done, len(files)))
            for start in track(
                range(done, len(files), CHUNK),
                description=f"Decoding {len(files) - done:,} images",
                disable=len(files) - done < WORTH_A_PROGRESS_BAR,
                transient=True,
            ):
                found = list(islice(images, CHUNK))
                content = b"".join(image.tobytes() for image in found)
                entries = np.empty(len(found), ENTRY)
                entries["key"] = self.keys[start : start + len(found)]
                entries["height"], entries["width"] = np.array([image.shape[1:] for image in found]).T
                chunk = Chunk(entries, max(int(image.max()) for image in found), zlib.crc32(content))
                chunks.append(chunk)
                for stream, part in ((pixels, content), (index, chunk.record())):
                    stream.write(part)
                    stream.flush()
        flush(self.pixels)
        flush(self.index)
        write_json(self.noted, state_of(self.pixels) or {})
        copied = f", {older.count:,} of them copied from {older}" if older.count else ""
        logger.info("Decoded %d images into '%s'%s.", len(files), self.folder, copied)
        older.remove_partial()
        brightest = max(chunk.brightest for chunk in chunks)
        if brightest <= DARK:
            logger.warning(
                "No value of the %d images from '%s' on is above %d of 255. Values of 10 or 12 bits that "
                "are kept in 16 must be scaled to the whole range of 16 bits first.",
                *(len(files), files[0], brightest),
            )

    def _content(self, chunks: Sequence[Chunk]) -> Pictures | None:
        """Return the content that chunks describe; None if they are not all images, or the file has another length."""
        entries = entries_of(chunks)
        sizes = np.stack([entries["height"], entries["width"]], axis=1).astype(np.int64)
        length, state = self.channels * int(sizes.prod(axis=1).sum()), state_of(self.pixels)
        if not np.array_equal(entries["key"], self.keys) or state is None or state["bytes"] != length:
            return None
        return map_pixels(self.pixels, length), sizes


class OlderCaches:
    """Images that a new cache can copy from other caches of the same kind, whole or not.

    After a file was changed, added or removed, the cache has another name. All other images are copied.

    Args:
        cache: The new one; its folder's name but for the last part is the kind.
        done: Number of images that it has.
    """

    def __init__(self, cache: ImageCache, done: int) -> None:
        self.folders: list[Path] = []
        self._keys, self._channels, self._maps = cache.keys, cache.channels, list[UInt8[np.ndarray, " bytes"]]()
        self._map = np.full(len(cache.keys), -1)
        """Number of the map that has each image; -1 if none has."""
        self._places = np.zeros((len(cache.keys), 3), np.int64)
        """Index of each image's first pixel value there, its height and its width."""
        kind = cache.folder.name.split("-")[-2]
        for folder in sorted(cache.folder.parent.glob(f"*-{kind}-*")):
            older = ImageCache(folder, cache.keys[:0], cache.channels)
            if folder != cache.folder and len(self._found(cache.keys[done:], chunks_of(older.index))[0]):
                self._take(cache.keys, done, older)

    def _take(self, keys: UInt64[np.ndarray, " count"], done: int, older: ImageCache) -> None:
        """Note the places of the images that an older cache has."""
        chunks = older.intact()
        numbers, places = self._found(keys[done:], chunks)
        if not len(numbers):
            return
        entries = entries_of(chunks)
        lengths = self._channels * entries["height"].astype(np.int64) * entries["width"]
        starts = np.cumsum(lengths) - lengths
        self._map[done + numbers] = len(self._maps)
        self._places[done + numbers] = np.stack([starts, entries["height"], entries["width"]], axis=1)[places]
        self._maps.append(np.memmap(older.pixels, np.uint8, "r", shape=(int(lengths.sum()),)))
        self.folders.append(older.folder)

    @staticmethod
    def _found(
        keys: UInt64[np.ndarray, " count"], chunks: Sequence[Chunk]
    ) -> tuple[Int64[np.ndarray, " found"], Int64[np.ndarray, " found"]]:
        """Return the numbers of the keys that chunks have, and their places there."""
        theirs = entries_of(chunks)["key"]
        if not len(theirs):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        order = np.argsort(theirs, kind="stable")
        places = order[np.searchsorted(theirs, keys, sorter=order).clip(max=len(theirs) - 1)]
        (numbers,) = np.nonzero(theirs[places] == keys)
        return numbers, places[numbers]

    def __contains__(self, number: int) -> bool:
        return bool(self._map[number] >= 0)

    def __getitem__(self, number: int) -> UInt8[np.ndarray, "channels height width"]:
        start, height, width = self._places[number].tolist()
        length = self._channels * height * width
        return self._maps[self._map[number]][start : start + length].reshape(self._channels, height, width)

    def __str__(self) -> str:
        return " and ".join(f"'{folder}'" for folder in self.folders)

    @property
    def count(self) -> int:
        """Number of images to copy."""
        return int((self._map >= 0).sum())

    def remove_partial(self) -> None:
        """Remove the caches that have been copied from and were never whole, unless a process fills them.

        One that has images beside those of the new cache stays.
        """
        for folder in self.folders:
            with suppress(OSError), locked(folder / "lock", waits=False) as held:
                theirs = entries_of(chunks_of(folder / "index"))["key"]
                if held is not None and not (folder / "checked").exists() and np.isin(theirs, self._keys).all():
                    shutil.rmtree(folder, ignore_errors=True)


def made(cache: ImageCache, files: Sequence[str | Path], decode: Decode, edge: int) -> Pictures:
    """Return a cache's content; the cache is filled first if it is not whole. One process fills it, others wait.

    Arguments as `ImageCache.fill` takes them.

    Raises:
        DataError: An image cannot be read, or a process that decodes was ended.
        OSError: The folder cannot be written to.
    """
    from concurrent.futures.process import BrokenProcessPool

    if (content := cache.open()) is not None:
        return content
    try:
        with filling(cache.folder) as held:
            content = cache.open()
            if content is None and cache.noted.exists():
                content = cache.check()
                if content is None:
                    logger.warning("'%s' is damaged. Decoding its %d images again.", cache.folder, len(files))
            if content is None:
                cache.fill(files, decode, edge, held)
    except BrokenProcessPool as error:
        raise DataError(
            f"A process that decoded images for '{cache.folder}' was ended, such as for lack of memory. Start again: "
            "the images decoded so far stay."
        ) from error
    except OSError as error:
        if (content := cache.check()) is not None:  # a whole cache that may not be written to, such as another user's
            return content
        if error.errno not in NO_LOCKS:
            raise
        fill_elsewhere(cache, files, decode, edge)
    content = cache.open() if content is None else content
    if content is None:
        raise OSError("another program writes to it")
    return content


@contextmanager
def filling(folder: Path) -> Iterator[int]:
    """Hold the lock of a cache's folder, which is made if there is none, and removed again if nothing came into it.

    Yields:
        The descriptor of the lock.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            held = lock(folder / "lock", waits=False)
            if held is None:
                logger.info("Another process decodes the images of '%s'. Waiting for it.", folder)
                held = lock(folder / "lock")
        except FileNotFoundError:
            continue  # another process has removed the folder
        break
    assert held is not None
    try:
        yield held
    finally:
        if not chunks_of(folder / "index"):
            shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def fill_elsewhere(cache: ImageCache, files: Sequence[str | Path], decode: Decode, edge: int) -> None:
    """Fill a folder of this process's own and move it to its place: for disks without locks."""
    with writing_folder(cache.folder.parent) as own:
        private = ImageCache(own / cache.folder.name, cache.keys, cache.channels)
        private.folder.mkdir()
        private.fill(files, decode, edge)
        if cache.check() is None:
            shutil.rmtree(cache.folder, ignore_errors=True)
            with suppress(OSError):  # another process has moved its own there
                private.folder.rename(cache.folder)


def check_room(folder: Path, needed: int) -> None:
    """Check that a disk has room for so many bytes.

    Raises:
        OSError: It has not.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(errno.ENOSPC, f"at least {in_words(needed)} needed, {in_words(free)} free")


def state_of(file: Path) -> dict[str, int] | None:
    """Return the length of a file and the time of its last change, ns; None if there is none."""
    try:
        status = file.stat()
    except OSError:
        return None
    return {"bytes": status.st_size, "changed": status.st_mtime_ns}


def map_pixels(file: Path, length: int) -> UInt8[Tensor, " {length}"]:
    """Return the pixels of a cache without reading them into memory."""
    # Copied on write: nothing here writes, and a write would not reach the file.
    return torch.from_numpy(np.memmap(file, np.uint8, "c", shape=(length,)))
