"""From one image file to its pixels, 8 bits a channel: the only place where the package opens an image of the user's.

A file's mode decides the meaning of its pixels. The table has each known mode, with the way it is read. A file of
another mode is refused.

| Pillow's mode | how it is read |
| --- | --- |
| 1, L, RGB, RGBX | as it is; of 16 bits a channel the high 8, as Pillow reads them |
| P | the palette's colours |
| LA, La, PA, RGBA, RGBa; P, 1, L, RGB, 16 bits with a transparent colour | laid over white |
| I;16, I;16L, I;16B, I;16N, and I of a format whose I has 16 bits | 0..65535 divided by 257 and rounded; a TIFF of \
12 bits, 0..4095, in proportion; a TIFF whose 0 is white, inverted |
| CMYK, YCbCr, LAB | Pillow's conversion to RGB |
| F, other I, signed values | refused: their range is not known |

A colour profile is not applied. If there are several frames or pages, the first is read. An image is turned as its EXIF
data ask.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from gan_lightning.errors import DataError
from gan_lightning.system.reading import reading, shown

if TYPE_CHECKING:
    from PIL.Image import Image

ALPHA = {"LA", "La", "PA", "RGBA", "RGBa"}
KEYED = {"1", "L", "RGB"}
"""Modes in which a file may declare one colour transparent."""
CONVERTED = {"1": "L", "L": "L", "RGB": "RGB", "RGBX": "RGB", "P": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB"}
SIXTEEN_BITS = {"I;16", "I;16L", "I;16B", "I;16N"}
SIXTEEN_BIT_FORMATS = {"PNG", "TIFF", "JPEG2000", "PPM"}
"""Formats whose 16-bit values go from 0 to 65535."""
SIXTEEN_BIT_I = {"PNG", "PPM"}
"""Formats whose 16-bit images Pillow opens as I; PNG before Pillow 11."""

NO_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
"""Formats that Pillow recognises but cannot decode, and EPS: decoding it runs the file as a program."""

GREY_STEPS = {"L;2": 85, "L;4": 17}
"""One step of 2-bit and 4-bit grey, in 8 bits."""

ORIENTATION = 0x0112
TIFF_PHOTOMETRIC, TIFF_SAMPLE_FORMAT = 262, 339
WHITE_IS_ZERO, SIGNED = 0, 2

MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
"""Pillow's modes of pixels with so many channels."""

WITH_ALPHA = {2, 4}

LONGEST = 8
"""Largest ratio of an image's sides; of a longer image the middle is kept."""

REMEDY = "Replace or remove it."


def picture_formats() -> tuple[list[str], frozenset[str]]:
    """Return the readable formats, by Pillow's names, and the suffixes of their files, in small letters."""
    from PIL import Image

    suffixes = Image.registered_extensions()  # loads all of Pillow's formats
    formats = sorted(Image.OPEN.keys() - NO_PICTURES)
    return formats, frozenset(suffix for suffix, name in suffixes.items() if name in formats)


def read_square(
    file: Path, size: int, crop_size: int | None, channels: int = 3
) -> UInt8[np.ndarray, "{channels} {size} {size}"]:
    """Return the centre of an image.

    Args:
        file: Any format that Pillow reads, in a mode of the table above.
        size: Edge of the result in pixels.
        crop_size: Edge of the square that is cut out and then resized; by default the whole shorter side.
        channels: 3 for colour, 1 for grey (0.299 R + 0.587 G + 0.114 B); 4 and 2 for these with alpha, which is then
            not laid over white.

    Raises:
        DataError: The file cannot be read, its mode is not in the table, or it is smaller than `crop_size`.

    Source:
        Without `crop_size`, `Resize(size)` and `CenterCrop(size)` of torchvision, as in the DCGAN tutorial of PyTorch.
    """
    with reading(file, REMEDY, "read as an image"):
        image = opened(file, alpha=channels in WITH_ALPHA)
        if crop_size is None:
            image, edge = shorter_side_resized(image, size), size
        elif min(image.size) < crop_size:
            raise DataError(
                f"'{shown(file)}' must be as large as crop_size, {crop_size}, got {image.width}x{image.height} pixels. "
                "Lower crop_size."
            )
        else:
            edge = crop_size
        left, top = round((image.width - edge) / 2), round((image.height - edge) / 2)
        square = image.crop((left, top, left + edge, top + edge))
        return planes(resized(square, size, size), channels)


def read_whole(file: Path, size: int, channels: int = 3) -> UInt8[np.ndarray, "{channels} height width"]:
    """Return an image whose shorter side is resized to `size`; the longer one follows.

    Raises:
        DataError: The file cannot be read, or its mode is not in the table.
    """
    with reading(file, REMEDY, "read as an image"):
        return planes(shorter_side_resized(opened(file, alpha=channels in WITH_ALPHA), size), channels)


def opened(file: Path, *, alpha: bool = False) -> "Image":
    """Return an image as grey (L) or RGB, or as RGBA if its alpha is wanted, the right way up."""
    from PIL import Image, UnidentifiedImageError

    formats, _ = picture_formats()
    # Given a name, Pillow maps a file into memory, and garbles an uncompressed TIFF that is turned by 90 degrees.
    with file.open("rb") as stream:
        try:
            image = Image.open(stream, formats=formats)
        except UnidentifiedImageError as error:
            raise ValueError("no image of a format that is read") from error
        packed = packing(image)
        image.load()
        return turned((with_alpha if alpha else eight_bits)(image, packed, file), image)


def packing(image: "Image") -> str:
    """Return the file's packing of pixels, by Pillow's name (`L;4`, `RGB;16B`); known until they are loaded."""
    arguments: Any = image.tile[0][3] if getattr(image, "tile", None) else ""  # type: ignore[attr-defined]
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def eight_bits(image: "Image", packed: str, file: Path) -> "Image":
    """Return a loaded image as grey or RGB: the table at the top.

    Raises:
        DataError: The table does not have its mode.
    """
    mode, transparent = image.mode, image.info.get("transparency")
    if is_signed(image):
        raise refusal(file, mode, "signed values")
    if mode in SIXTEEN_BITS or (mode == "I" and image.format in SIXTEEN_BIT_I):
        if image.format not in SIXTEEN_BIT_FORMATS:
            raise refusal(file, mode, f"16-bit values of a {image.format}")
        return sixteen_bits(image, packed, transparent)
    if mode in ALPHA or (mode == "P" and (transparent is not None or has_alpha_palette(image))):
        straight = image.convert("LA") if mode == "La" else image  # Pillow does not convert it in one step
        return over_white(straight.convert("RGBA"))
    if mode not in CONVERTED:
        raise refusal(file, mode, {"F": "floating-point values", "I": "values of 32 bits"}.get(mode, "a rare mode"))
    plain = image.convert(CONVERTED[mode])
    plain.info.pop("transparency", None)
    return plain if transparent is None or mode not in KEYED else without_key(plain, key_colour(image, packed))


def with_alpha(image: "Image", packed: str, file: Path) -> "Image":
    """Return a loaded image as RGBA. An image without alpha is opaque; so is 16-bit grey with a transparent colour.

    Raises:
        DataError: The table does not have its mode.
    """
    plain = eight_bits(image, packed, file)  # refuses what has no known range
    if image.mode in SIXTEEN_BITS or image.mode == "I" or image.mode not in ALPHA | KEYED | {"P"}:
        return plain.convert("RGBA")
    return (image.convert("LA") if image.mode == "La" else image).convert("RGBA")


def sixteen_bits(image: "Image", packed: str, transparent: int | None) -> "Image":
    """Return 16-bit grey in 8 bits, rounded: 65535 / 257 is 255."""
    from PIL import Image

    values = np.asarray(image).astype(np.int64)
    highest = 4095 if packed == "I;12" else 65535
    grey = (values * 255 + highest // 2) // highest
    if tiff_tag(image, TIFF_PHOTOMETRIC) == WHITE_IS_ZERO:  # Pillow respects it with fewer bits only
        grey = 255 - grey
    if transparent is not None:
        grey[values == transparent] = 255
    return Image.fromarray(grey.astype(np.uint8))


def over_white(image: "Image") -> "Image":
    """Return an RGBA image laid over white; the colours of transparent pixels do not show."""
    from PIL import Image

    ground = Image.new("RGB", image.size, "white")
    ground.paste(image, mask=image.getchannel("A"))
    return ground


def key_colour(image: "Image", packed: str) -> tuple[int, ...]:
    """Return a file's transparent colour, in 8 bits; a PNG gives it in the bits of its own pixels."""
    declared = image.info["transparency"]
    values = (declared,) if isinstance(declared, int) else tuple(declared)
    if image.format == "PNG" and packed.endswith(";16B"):
        return tuple(value >> 8 for value in values)
    step = 255 if image.mode == "1" else GREY_STEPS.get(packed, 1) if image.format == "PNG" else 1
    return tuple(value * step for value in values)


def without_key(image: "Image", colour: tuple[int, ...]) -> "Image":
    """Return an image with the pixels of one colour made white."""
    from PIL import Image

    pixels = np.array(image).reshape(image.height, image.width, -1)
    if pixels.shape[2] != len(colour):
        raise ValueError(f"its transparent colour has {len(colour)} values, its pixels {pixels.shape[2]}")
    pixels[(pixels == colour).all(axis=2)] = 255
    return Image.fromarray(pixels.squeeze(2) if image.mode == "L" else pixels)


def has_alpha_palette(image: "Image") -> bool:
    """Return whether the palette's colours themselves are transparent to some degree."""
    return image.palette is not None and image.palette.mode.endswith("A")


def is_signed(image: "Image") -> bool:
    """Return whether a TIFF declares its values signed; Pillow respects this with more than 8 bits only."""
    found = tiff_tag(image, TIFF_SAMPLE_FORMAT)
    return SIGNED in (found if isinstance(found, tuple) else (found,))


def tiff_tag(image: "Image", tag: int) -> Any:
    """Return the value of a tag of a TIFF; None if it has none or the image is no TIFF."""
    return image.tag_v2.get(tag) if image.format == "TIFF" else None  # type: ignore[attr-defined]


def refusal(file: Path, mode: str, what: str) -> DataError:
    """Return the error for pixels of unknown range or meaning."""
    return DataError(
        f"'{shown(file)}' must have pixels of a known range, got {what} (Pillow's mode {mode}). "
        "Save it as a PNG or JPEG of 8 or 16 bits a channel."
    )


def turned(plain: "Image", image: "Image") -> "Image":
    """Return an image turned as the file's EXIF data ask; unreadable data are ignored."""
    from PIL import Image

    if image.format == "TIFF":  # Pillow itself has turned it by now
        return plain
    try:
        orientation = image.getexif().get(ORIENTATION)
    except Exception:
        return plain
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    return plain.transpose(turns[orientation]) if orientation in turns else plain


def shorter_side_resized(image: "Image", size: int) -> "Image":
    """Return an image whose shorter side is `size`; of a very long image only the middle."""
    shorter = min(image.size)
    width, height = (min(edge, LONGEST * shorter) for edge in image.size)
    if (width, height) != image.size:
        left, top = (image.width - width) // 2, (image.height - height) // 2
        image = image.crop((left, top, left + width, top + height))
    return resized(image, size * width // shorter, size * height // shorter)


def resized(image: "Image", width: int, height: int) -> "Image":
    """Return an image resized (bilinear, with antialiasing)."""
    from PIL import Image

    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BILINEAR)


def planes(image: "Image", channels: int) -> UInt8[np.ndarray, "{channels} height width"]:
    """Return the pixels, channels first."""
    pixels = np.asarray(image.convert(MODES[channels]))
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
