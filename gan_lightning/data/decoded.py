"""Sets of image files: decoded once, at their final size, into a memory-mapped cache that later runs open.

The name of a cache ends with two hashes. The first is the kind: the way of decoding. The second is of the files: their
paths, sizes and times. To free the space, delete the folder of the cache.
"""

import hashlib
import json
import os
import re
import stat
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import UInt8, UInt64
from torch import Tensor

from gan_lightning.data.decoded_cache import Decode, ImageCache, Pictures, made
from gan_lightning.data.picture import REMEDY, read_square, read_whole
from gan_lightning.errors import SettingError
from gan_lightning.system.files import user_cache
from gan_lightning.system.reading import expanded, failure, reason

FORMAT = 3
"""Version of the cache; raised if the same files would give other pixels, or the files of a cache another layout."""


def decoded(
    files: Sequence[str | Path],
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
    pixels, _ = cached(files, decode, [size, crop_size, channels], channels, size, cache_dir, title)
    return pixels.view(len(files), channels, size, size)


def decoded_whole(
    files: Sequence[str | Path], size: int, cache_dir: str | Path | None, title: str, channels: int = 3
) -> Pictures:
    """Return images whose shorter side is `size`, as `decoded` does.

    Raises:
        DataError: An image cannot be read.
        SettingError: `cache_dir` cannot be written to, or is full.
    """
    decode = partial(read_whole, size=size, channels=channels)
    return cached(files, decode, [size, "whole", channels], channels, size, cache_dir, title)


def cached(
    files: Sequence[str | Path],
    decode: Decode,
    recipe: list[int | str | None],
    channels: int,
    edge: int,
    cache_dir: str | Path | None,
    title: str,
) -> Pictures:
    """Return the images that `decode` makes of files, from the cache if possible.

    Args:
        files: Image files.
        decode: Reads one.
        recipe: Identifies `decode`.
        channels: Of the images.
        edge: Their shorter edge, pixels.
        cache_dir: As `decoded` takes it.
        title: As `decoded` takes it.
    """
    folder = expanded(cache_dir, "cache_dir") if cache_dir else user_cache()
    name = re.sub(r"[^\w.-]", "_", title, flags=re.ASCII)[:80]
    keys = keys_of(files)
    kind = hashlib.sha256(json.dumps([FORMAT, *recipe]).encode()).hexdigest()[:12]
    cache = ImageCache(folder / f"{name}-{kind}-{hashlib.sha256(keys.tobytes()).hexdigest()[:20]}", keys, channels)
    try:
        return made(cache, files, decode, edge)
    except OSError as error:
        stays = f" The images decoded so far stay in '{cache.folder}'; room made, it goes on there."
        raise SettingError(
            f"cache_dir must be a folder to write to, with room for {len(files):,} decoded images, got '{folder}' "
            f"({reason(error)}). Set cache_dir to another folder.{stays if cache.partial else ''}"
        ) from error


def keys_of(files: Sequence[str | Path]) -> UInt64[np.ndarray, " count"]:
    """Return a hash of each file's path, size and time of the last change.

    Raises:
        DataError: There is no such file, or no way to it.
    """
    here, keys = os.fsencode(Path.cwd()), bytearray()
    for file in files:
        try:
            # A Path for each of a million files takes seconds.
            status = os.stat(file)  # noqa: PTH116
            if not stat.S_ISREG(status.st_mode):  # reading a pipe might wait without end
                raise ValueError("no file, but a folder, a pipe or a device")
        except Exception as error:
            raise failure(file, error, REMEDY, "read as an image") from error
        path = os.path.join(here, os.fsencode(file))  # noqa: PTH118
        text = b"%b\0%d\0%d" % (path, status.st_size, status.st_mtime_ns)
        keys += hashlib.blake2b(text, digest_size=8).digest()
    return np.frombuffer(keys, "<u8")
