"""Sets of image files: decoded once, at their final size, into a memory-mapped file that later runs open.

The file holds the pixels of all images, one after the other. Then follow the height and width of each, a CRC-32 of the
pixels of every `CHUNK` images, and a CRC-32 of these numbers. Its name is a hash of all inputs: other files, other
sizes, another crop or another way of reading a mode give another file. To free the space, delete the folder.
"""

import hashlib
import json
import logging
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from gan_lightning.data.picture import REMEDY, read_square, read_whole
from gan_lightning.errors import SettingError
from gan_lightning.system.files import user_cache, whole_file
from gan_lightning.system.reading import expanded, reading, reason, shown

logger = logging.getLogger(__name__)

FORMAT = 2
"""Version of the file; raised if the same files would give other pixels, or the file another layout."""
CHUNK = 512
WORTH_A_PROGRESS_BAR = 5_000
DARK = 32
"""Brightest value of a nearly black image. 12-bit images that are taken for 16 bits end at 16."""

Pictures = tuple[UInt8[Tensor, " bytes"], Int64[np.ndarray, "count 2"]]
"""The pixels of images, one after the other, channels first; and the height and width of each image."""


def decoded(
    files: Sequence[Path],
    size: int,
    crop_size: int | None,
    cache_dir: str | Path | None,
    title: str,
    channels: int = 3,
) -> UInt8[Tensor, "count {channels} {size} {size}"]:
    """Return square images from the cache. If the cache lacks them or is damaged, they are decoded first.

    Args:
        files: Image files.
        size: Edge in pixels.
        crop_size: As `read_square` takes it.
        cache_dir: Folder of the cache; by default the user's own (`$XDG_CACHE_HOME/gan_lightning`).
        title: Start of the cache's file name, for people.
        channels: 3 for colour, 1 for grey.

    Raises:
        DataError: An image cannot be read.
        SettingError: `cache_dir` cannot be written to, or is full.
    """
    decode = partial(read_square, size=size, crop_size=crop_size, channels=channels)
    pixels, _ = cached(files, decode, [size, crop_size, channels], cache_dir, title)
    return pixels.view(len(files), channels, size, size)


def decoded_whole(
    files: Sequence[Path], size: int, cache_dir: str | Path | None, title: str, channels: int = 3
) -> Pictures:
    """Return images whose shorter side is `size`, as `decoded` does.

    Raises:
        DataError: An image cannot be read.
        SettingError: `cache_dir` cannot be written to, or is full.
    """
    decode = partial(read_whole, size=size, channels=channels)
    return cached(files, decode, [size, "whole", channels], cache_dir, title)


def cached(
    files: Sequence[Path],
    decode: Callable[[Path], UInt8[np.ndarray, "channels height width"]],
    recipe: list[int | str | None],
    cache_dir: str | Path | None,
    title: str,
) -> Pictures:
    """Return the images that `decode` makes of files, from the cache if possible; `recipe` identifies `decode`."""
    folder = expanded(cache_dir, "cache_dir") if cache_dir else user_cache()
    name = re.sub(r"[^\w.-]", "_", title, flags=re.ASCII)[:80]
    cache = folder / f"{name}-{describe(files, recipe)}.u8"
    try:
        if cache.exists():
            pictures = open_intact(cache, len(files))
            if pictures is not None:
                return pictures
            logger.warning("'%s' is damaged. Decoding its %d images again.", cache, len(files))
        return build(cache, files, decode)
    except OSError as error:
        raise SettingError(
            f"cache_dir must be a folder to write to, with room for {len(files):,} decoded images, got '{folder}' "
            f"({reason(error)}). Set cache_dir to another folder."
        ) from error


def describe(files: Iterable[Path], recipe: list[int | str | None]) -> str:
    """Return a hash of everything that decides the decoded pixels.

    Raises:
        DataError: There is no such file, or no way to it.
    """
    digest = hashlib.sha256(json.dumps([FORMAT, *recipe]).encode())
    for file in files:
        with reading(file, REMEDY, "read as an image"):
            status = file.stat()
            if not stat.S_ISREG(status.st_mode):  # reading a pipe might wait without end
                raise ValueError("no file, but a folder, a pipe or a device")
            digest.update(os.fsencode(file.absolute()))
        digest.update(f"\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:20]


def build(
    cache: Path, files: Sequence[Path], decode: Callable[[Path], UInt8[np.ndarray, "channels height width"]]
) -> Pictures:
    """Decode all files in parallel, put the cache in its place in one step, and return its content.

    If several processes build the same cache at once, each writes its own file, and the last one stays.
    """
    from rich.progress import track

    checksums, sizes, brightest = [], [], 0
    with whole_file(cache) as unfinished, unfinished.open("wb") as stream, ThreadPoolExecutor() as pool:
        for start in track(
            range(0, len(files), CHUNK),
            description=f"Decoding {len(files):,} images",
            disable=len(files) < WORTH_A_PROGRESS_BAR,
            transient=True,
        ):
            images = list(pool.map(decode, files[start : start + CHUNK]))
            pixels = b"".join(image.tobytes() for image in images)
            checksums.append(zlib.crc32(pixels))
            sizes += [image.shape[1:] for image in images]
            brightest = max(brightest, *(int(image.max()) for image in images))
            stream.write(pixels)
        trailer = np.array(sizes, "<u4").tobytes() + np.array(checksums, "<u4").tobytes()
        stream.write(trailer + np.array(zlib.crc32(trailer), "<u4").tobytes())
    logger.info("Decoded %d images into '%s'.", len(files), cache)
    if brightest <= DARK:
        logger.warning(
            "No value of the %d images from '%s' on is above %d of 255. Values of 10 or 12 bits that "
            "are kept in 16 must be scaled to the whole range of 16 bits first.",
            *(len(files), shown(files[0]), brightest),
        )
    return map_pixels(cache, cache.stat().st_size - trailer_bytes(len(files))), np.array(sizes, np.int64)


def trailer_bytes(count: int) -> int:
    """Return the number of bytes after the pixels of `count` images."""
    return 4 * (2 * count + -(-count // CHUNK) + 1)


def map_pixels(cache: Path, length: int) -> UInt8[Tensor, " {length}"]:
    """Return the pixels of a cache without reading them into memory."""
    # Copied on write: nothing here writes, and a write would not reach the file.
    return torch.from_numpy(np.memmap(cache, np.uint8, "c", shape=(length,)))


def open_intact(cache: Path, count: int) -> Pictures | None:
    """Return a cache's content, or None if its length or a checksum is wrong."""
    length = cache.stat().st_size - trailer_bytes(count)
    if length < count:
        return None
    figures = np.fromfile(cache, "<u4", offset=length)
    sizes, checksums = figures[: 2 * count].reshape(count, 2).astype(np.int64), figures[2 * count : -1]
    if zlib.crc32(figures[:-1].tobytes()) != figures[-1]:
        return None
    pixels = map_pixels(cache, length)
    areas = sizes.prod(axis=1)
    channels, rest = divmod(length, int(areas.sum()))
    if rest:
        return None
    ends = np.cumsum(areas)[CHUNK - 1 :: CHUNK] * channels
    bounds = [0, *ends.tolist()] if count % CHUNK == 0 else [0, *ends.tolist(), length]
    found = [zlib.crc32(pixels[start:stop].numpy().data) for start, stop in pairwise(bounds)]
    return (pixels, sizes) if np.array_equal(checksums, found) else None
