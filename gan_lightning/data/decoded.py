"""Sets of image files: decoded once, at their final size, into a memory-mapped file that later runs open.

The file holds the pixels of all images and then a CRC-32 of every `CHUNK` images. Its name is a hash of all
that made it: other files, other sizes or another crop are another file. To free the space, delete the folder.
"""

import hashlib
import json
import logging
import uuid
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from gan_lightning.errors import DataError, SettingError
from gan_lightning.files import user_cache

logger = logging.getLogger(__name__)

FORMAT = 1
CHUNK = 512
WORTH_A_PROGRESS_BAR = 5_000


def decoded(
    files: Sequence[Path], size: int, crop_size: int | None, cache_dir: str | Path | None, title: str
) -> UInt8[Tensor, "count 3 {size} {size}"]:
    """Return images from the cache, decoding them first if it has none of this description or a damaged one.

    Args:
        files: Image files.
        size: Edge in pixels.
        crop_size: As `read_square` says.
        cache_dir: Folder of the cache; the user's own (`$XDG_CACHE_HOME/gan_lightning`) if none is given.
        title: Start of the cache's file name, for people.

    Raises:
        DataError: An image cannot be decoded.
        SettingError: `cache_dir` cannot be written to, or is full.
    """
    folder = Path(cache_dir).expanduser() if cache_dir else user_cache()
    cache = folder / f"{title}-{describe(files, size, crop_size)}.u8"
    if cache.exists():
        pixels = open_intact(cache, len(files), size)
        if pixels is not None:
            return pixels
        logger.warning("'%s' is damaged. Decoding its %d images again.", cache, len(files))
    build(cache, files, size, crop_size)
    return map_pixels(cache, len(files), size)


def describe(files: Iterable[Path], size: int, crop_size: int | None) -> str:
    """Return a hash of everything the decoded pixels depend on."""
    digest = hashlib.sha256(json.dumps([FORMAT, size, crop_size]).encode())
    for file in files:
        status = file.stat()
        digest.update(f"{file.absolute()}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:20]


def read_square(file: Path, size: int, crop_size: int | None) -> UInt8[np.ndarray, "3 {size} {size}"]:
    """Return the centre of an image, in colour.

    Args:
        file: Any format that Pillow reads.
        size: Edge of the result in pixels.
        crop_size: Edge of the square that is cut out and then resized; the whole shorter side if none is given.

    Raises:
        DataError: The file is damaged or is no image.

    Source:
        Without `crop_size`, `Resize(size)` and `CenterCrop(size)` of torchvision, as in the DCGAN tutorial of PyTorch.
    """
    from PIL import Image

    try:
        with Image.open(file) as image:
            rgb = image.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:  # Pillow calls a damaged PNG a syntax error
        raise DataError(f"'{file}' cannot be read as an image ({error}). Replace or remove it.") from error
    bilinear = Image.Resampling.BILINEAR
    if crop_size is None:
        shorter = min(rgb.size)
        rgb = rgb.resize((size * rgb.width // shorter, size * rgb.height // shorter), bilinear)
    edge = crop_size or size
    left, top = round((rgb.width - edge) / 2), round((rgb.height - edge) / 2)
    square = rgb.crop((left, top, left + edge, top + edge)).resize((size, size), bilinear)
    return np.asarray(square).transpose(2, 0, 1)


def build(cache: Path, files: Sequence[Path], size: int, crop_size: int | None) -> None:
    """Decode all files in parallel and put the cache in its place in one step.

    Processes that build the same cache at once each write their own file, and the last one stays.
    """
    from rich.progress import track

    decode = partial(read_square, size=size, crop_size=crop_size)
    unfinished = cache.with_suffix(f".{uuid.uuid4().hex}.part")
    checksums = []
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as stream, ThreadPoolExecutor() as pool:
            for start in track(
                range(0, len(files), CHUNK),
                description=f"Decoding {len(files):,} images",
                disable=len(files) < WORTH_A_PROGRESS_BAR,
                transient=True,
            ):
                pixels = np.stack(list(pool.map(decode, files[start : start + CHUNK]))).tobytes()
                checksums.append(zlib.crc32(pixels))
                stream.write(pixels)
            stream.write(np.array(checksums, "<u4").tobytes())
        unfinished.replace(cache)
    except OSError as error:
        gigabytes = len(files) * 3 * size**2 / 1e9
        raise SettingError(
            f"cache_dir must be a folder with {gigabytes:.1f} GB to write to, got '{cache.parent}' ({error}). "
            "Set --data.cache_dir to another folder."
        ) from error
    finally:
        if unfinished.exists():
            unfinished.unlink()
    logger.info("Decoded %d images into '%s'.", len(files), cache)


def map_pixels(cache: Path, count: int, size: int) -> UInt8[Tensor, "{count} 3 {size} {size}"]:
    """Return the pixels of a cache without reading them into memory."""
    shape = (count, 3, size, size)
    # Privately mapped: a write, which nothing here does, would not reach the file.
    return torch.from_file(str(cache), shared=False, size=int(np.prod(shape)), dtype=torch.uint8).view(shape)


def open_intact(cache: Path, count: int, size: int) -> UInt8[Tensor, "{count} 3 {size} {size}"] | None:
    """Return the pixels of a cache, or nothing where its length or a checksum is wrong."""
    pixel_bytes, chunks = count * 3 * size**2, -(-count // CHUNK)
    if cache.stat().st_size != pixel_bytes + 4 * chunks:
        return None
    pixels = map_pixels(cache, count, size)
    found = [zlib.crc32(chunk.numpy()) for chunk in pixels.split(CHUNK)]
    return pixels if np.array_equal(np.fromfile(cache, "<u4", offset=pixel_bytes), found) else None
