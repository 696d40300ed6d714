"""Which pixels are read of a file: every mode and format, turns, transparency, and everything that can be wrong."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features
from torchvision import transforms

from gan_lightning.data import picture
from gan_lightning.data.picture import LONGEST, picture_formats, read_square, read_whole
from gan_lightning.errors import DataError

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),
    pytest.mark.filterwarnings("ignore:IM image format:DeprecationWarning"),
]

SIZE = 12
LOSSLESS = {
    "1": "png tif bmp pbm tga pcx im msp xbm ico",
    "L": "png tif bmp pgm tga pcx sgi im gif j2k ico dds",
    "P": "png tif bmp pcx tga im gif ico",
    "RGB": "png tif bmp ppm tga pcx sgi im webp j2k qoi ico dds apng dib",
    "LA": "png tif tga im j2k ico dds",
    "RGBA": "png tif tga sgi im webp j2k qoi ico dds",
    "I;16": "png tif pgm j2k",
    "I;16B": "png tif",
    "CMYK": "tif im",
    "YCbCr": "tif im",
    "LAB": "tif",
}
"""Formats that keep every value of a mode, by their suffixes."""
WRITTEN = [(mode, suffix) for mode, suffixes in LOSSLESS.items() for suffix in suffixes.split()]


def drawn(mode: str, seed: int = 0, size: int = SIZE) -> Image.Image:
    """Return an image of random pixels; of L*a*b* those that sRGB has."""
    rng = np.random.default_rng(seed)
    if mode == "LAB":
        return Image.frombytes(
            mode, (size, size), rng.integers((90, 0, 0), (200, 20, 20), (size, size, 3), np.uint8).tobytes()
        )
    if mode.startswith("I;16"):
        values = rng.integers(0, 65536, (size, size))
        return Image.frombytes(mode, (size, size), values.astype(">u2" if mode.endswith("B") else "<u2").tobytes())
    bands = len(Image.new(mode, (1, 1)).getbands())
    if mode == "1":
        return Image.fromarray(rng.integers(0, 2, (size, size), np.uint8) * 255).convert("1")
    if mode == "P":
        image = Image.frombytes("P", (size, size), rng.integers(0, 256, (size, size), np.uint8).tobytes())
        image.putpalette(rng.integers(0, 256, 768, np.uint8).tobytes())
        return image
    return Image.frombytes(mode, (size, size), rng.integers(0, 256, (size, size, bands), np.uint8).tobytes())


def in_colour(image: Image.Image) -> np.ndarray:
    """Return what a person sees of an image on white paper, computed without Pillow's conversions."""
    values = np.asarray(image).astype(float)
    match image.mode:
        case "1":
            grey = values * 255
        case "L":
            grey = values
        case "LA":
            grey = values[..., 0] * values[..., 1] / 255 + 255 - values[..., 1]
        case "I;16" | "I;16B":
            grey = values / 257
        case "P":
            return np.array(image.getpalette("RGB")).reshape(-1, 3)[np.asarray(image)]
        case "RGB":
            return values
        case "RGBA":
            return values[..., :3] * values[..., 3:] / 255 + 255 - values[..., 3:]
        case "CMYK":
            return (255 - values[..., :3]) * (255 - values[..., 3:]) / 255
        case "YCbCr":
            y, blue, red = values[..., 0], values[..., 1] - 128, values[..., 2] - 128
            mixed = [y + 1.402 * red, y - 0.344136 * blue - 0.714136 * red, y + 1.772 * blue]
            return np.stack(mixed, axis=-1).clip(0, 255)
        case "LAB":
            return lab_in_colour(values)
    return np.repeat(grey[..., None], 3, axis=2)


def lab_in_colour(values: np.ndarray) -> np.ndarray:
    """Return sRGB (D50 adapted to D65) of L*a*b*, from the formulas of CIE and of IEC 61966-2-1."""
    lightness, a, b = values[..., 0] * 100 / 255, values[..., 1], values[..., 2]
    a, b = np.where(a > 127, a - 256, a), np.where(b > 127, b - 256, b)
    fy = (lightness + 16) / 116
    f = np.stack([fy + a / 500, fy, fy - b / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * (0.9642, 1, 0.8249)
    linear = xyz @ np.array([[3.1338561, -1.6168667, -0.4906146], [-0.9787684, 1.9161415, 0.0334540],
                             [0.0719453, -0.2289914, 1.4052427]]).T  # fmt: skip
    linear = linear.clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255


def write(image: Image.Image, path: Path, **how: object) -> Path:
    """Write an image without loss."""
    if path.suffix in (".webp", ".avif"):
        how |= {"lossless": True} if path.suffix == ".webp" else {"quality": 100, "subsampling": "4:4:4"}
    if path.suffix == ".ico":
        how |= {"bitmap_format": "png", "sizes": [image.size]}
    image.save(path, **how)
    return path


@pytest.mark.parametrize(("mode", "suffix"), WRITTEN, ids=lambda value: value.replace(";", ""))
def test_every_mode_of_the_table_is_read_as_a_person_sees_it_in_every_format(tmp_path, mode, suffix):
    if mode == "LAB" and not features.check("littlecms2"):
        pytest.skip("Pillow was built without colour management")
    image, size = drawn(mode), SIZE
    file = write(image, tmp_path / f"image.{suffix}")
    expected = in_colour(image).transpose(2, 0, 1)
    tolerance = {"CMYK": 1.01, "YCbCr": 1.5, "LAB": 4}.get(mode, 0.51 if "A" in mode or "I" in mode else 0)
    found = read_square(file, size, None)
    assert (found.dtype, found.shape) == (np.uint8, (3, size, size))
    np.testing.assert_allclose(found.astype(float), expected, atol=tolerance)
    grey = read_square(file, size, None, channels=1).astype(float)
    assert grey.shape == (1, size, size)
    luma = np.tensordot((0.299, 0.587, 0.114), found.astype(float), 1)
    np.testing.assert_allclose(grey[0], luma, atol=0.51)
    np.testing.assert_array_equal(read_whole(file, size), found)


def tiff(
    values: np.ndarray,
    bits: int,
    *,
    photometric: int = 1,
    sample_format: int = 1,
    extra: int | None = None,
    order: str = "<",
    data: bytes = b"",
) -> bytes:
    """Return an uncompressed TIFF, as the specification of TIFF 6.0 has it; Pillow cannot write each kind."""
    height, width, samples = (*values.shape, 1)[:3]
    pixels = data or values.astype(values.dtype.newbyteorder(order)).tobytes()
    bits_of_samples = struct.pack(f"{order}{samples}H", *[bits] * samples)
    shorts = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 277: samples, 278: height,
              338: extra, 339: sample_format}  # fmt: skip
    longs = {273: 8, 279: len(pixels)}
    entries = {
        tag: struct.pack(f"{order}HHIH2x", tag, 3, 1, value) for tag, value in shorts.items() if value is not None
    }
    entries |= {tag: struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in longs.items()}
    if samples == 2:
        entries[258] = struct.pack(f"{order}HHI", 258, 3, 2) + bits_of_samples
    elif samples > 2:
        entries[258] = struct.pack(f"{order}HHII", 258, 3, samples, 8 + len(pixels))
    head = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8 + len(pixels) + len(bits_of_samples))
    table = struct.pack(f"{order}H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries)) + bytes(4)
    return head + pixels + bits_of_samples + table


PLAIN, PREMULTIPLIED, STRAIGHT = 0, 1, 2
"""What TIFF's tag 338 says of the sample after the colours."""


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("colours", "extra", "bits"),
    [
        (colours, extra, bits)
        for colours in (1, 3)
        for extra in (None, PLAIN, PREMULTIPLIED, STRAIGHT)
        for bits in (8, 16)
        if colours == 3 or bits == 8 or extra is None  # Pillow itself refuses the others
    ],
)
def test_a_fourth_sample_hides_what_it_says_and_16_bits_a_channel_lose_their_low_half(
    tmp_path, colours, extra, bits, order
):
    rng = np.random.default_rng(0)
    alpha = rng.integers(1, 256, (SIZE, SIZE, 1))
    straight = rng.integers(0, 256, (SIZE, SIZE, colours))
    shown = straight if extra is not PREMULTIPLIED else straight * alpha // 255
    values = shown if extra is None else np.concatenate([shown, alpha], axis=2)
    values = values.astype(np.uint8) if bits == 8 else (values * 257).astype(np.uint16)
    if extra is None and colours == 1:
        values = values[..., 0]
    content = tiff(values, bits, photometric=1 if colours == 1 else 2, extra=extra, order=order)
    (tmp_path / "image.tif").write_bytes(content)
    seen = straight if extra in (None, PLAIN) else straight * alpha / 255 + 255 - alpha
    found = read_square(tmp_path / "image.tif", SIZE, None).transpose(1, 2, 0).astype(float)
    np.testing.assert_allclose(found, np.broadcast_to(seen, found.shape), atol=2 if extra == PREMULTIPLIED else 0.51)


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bits_are_divided_by_257_and_rounded_whatever_their_byte_order(tmp_path, order):
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    (tmp_path / "image.tif").write_bytes(tiff(values, 16, order=order))
    expected = (values.astype(int) + 128) // 257
    np.testing.assert_array_equal(read_square(tmp_path / "image.tif", 256, None, channels=1)[0], expected)
    assert np.bincount(expected.ravel()).tolist() == [129, *[257] * 254, 129]


def test_a_16_bit_tiff_whose_0_is_white_is_inverted(tmp_path):
    values = np.linspace(0, 65535, 144).round().astype(np.uint16).reshape(12, 12)
    for photometric in (0, 1):
        (tmp_path / f"{photometric}.tif").write_bytes(tiff(values, 16, photometric=photometric))
    white_is_0, black_is_0 = (read_square(tmp_path / f"{photometric}.tif", 12, None) for photometric in (0, 1))
    np.testing.assert_array_equal(white_is_0, 255 - black_is_0)
    assert white_is_0[0, 0, 0] == 255


def test_12_bits_fill_the_whole_range(tmp_path):
    packed = b"".join(struct.pack(">I", (high << 12) | low)[1:] for high, low in [(0, 4095), (2048, 1024)])
    (tmp_path / "image.tif").write_bytes(tiff(np.zeros((2, 2)), 12, data=packed))
    assert read_square(tmp_path / "image.tif", 2, None)[0].tolist() == [[0, 255], [128, 64]]


@pytest.mark.parametrize("maximum", [300, 1023, 4095, 65535])
def test_a_portable_graymap_of_more_than_8_bits_is_scaled_by_its_own_maximum(tmp_path, maximum):
    values = np.linspace(0, maximum, 16).round().astype(int)
    for magic, body in ((b"P5", values.astype(">u2").tobytes()), (b"P2", " ".join(map(str, values)).encode())):
        (tmp_path / "image.pgm").write_bytes(magic + f"\n4 4\n{maximum}\n".encode() + body)
        found = read_square(tmp_path / "image.pgm", 4, None)[0].ravel()
        np.testing.assert_allclose(found, values * 255 / maximum, atol=0.6)


def fits(values: np.ndarray, bits: int) -> bytes:
    cards = [
        f"{key:8}= {value:>20}"
        for key, value in [
            ("SIMPLE", "T"),
            ("BITPIX", bits),
            ("NAXIS", 2),
            ("NAXIS1", values.shape[1]),
            ("NAXIS2", values.shape[0]),
        ]
    ]
    header = "".join(f"{card:80}" for card in [*cards, "END"])
    return f"{header:2880}".encode() + values.tobytes().ljust(2880, b"\0")


FLOATS = np.linspace(0, 1, 144, dtype=np.float32).reshape(12, 12)
WHOLES = np.arange(144, dtype=np.int32).reshape(12, 12)
UNKNOWN_RANGES = {
    "float.tif": tiff(FLOATS, 32, sample_format=3),
    "float-big.tif": tiff(FLOATS, 32, sample_format=3, order=">"),
    "float.pfm": b"Pf\n12 12\n-1.0\n" + FLOATS.tobytes(),
    "float.fits": fits(FLOATS.astype(">f4"), -32),
    "signed-8.tif": tiff(WHOLES.astype(np.int8), 8, sample_format=2),
    "signed-16.tif": tiff(WHOLES.astype(np.int16), 16, sample_format=2),
    "signed-16-big.tif": tiff(WHOLES.astype(np.int16), 16, sample_format=2, order=">"),
    "signed-32.tif": tiff(WHOLES, 32, sample_format=2),
    "unsigned-32.tif": tiff(WHOLES, 32),
    "signed-16.fits": fits(WHOLES.astype(">i2"), 16),
    "signed-32.fits": fits(WHOLES.astype(">i4"), 32),
}


def saved(mode: str, suffix: str) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (12, 12)).save(stream, Image.registered_extensions()[f".{suffix}"])
    return stream.getvalue()


UNKNOWN_RANGES |= {f"{mode.replace(';', '')}.im": saved(mode, "im") for mode in ("I", "F", "I;16", "I;16B")}


@pytest.mark.parametrize("name", UNKNOWN_RANGES)
def test_pixels_of_an_unknown_range_are_refused_with_the_file_and_its_mode(tmp_path, name):
    (tmp_path / name).write_bytes(UNKNOWN_RANGES[name])
    message = (
        rf"^'{tmp_path}/{name}' must have pixels of a known range, got .* \(Pillow's mode (I|F|L|I;16B?)\)\. "
        r"Save it as a PNG or JPEG of 8 or 16 bits a channel\.$"
    )
    for read in (lambda file: read_square(file, 8, None), lambda file: read_whole(file, 8)):
        with pytest.raises(DataError, match=message):
            read(tmp_path / name)


def test_a_mode_that_the_table_does_not_have_is_refused(tmp_path, monkeypatch):
    file = write(drawn("RGB"), tmp_path / "image.png")
    monkeypatch.delitem(picture.CONVERTED, "RGB")
    with pytest.raises(DataError, match=r"image\.png' must have pixels of a known range, got a rare mode .*mode RGB\)"):
        read_square(file, 8, None)


# What is transparent ---------------------------------------------------------------------------------------------


def png(
    width: int, height: int, bits: int, colour: int, rows: bytes, transparent: bytes, palette: bytes = b""
) -> bytes:
    """Return a PNG, as its specification has it; Pillow cannot write each kind."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    stride = len(rows) // height
    packed = b"".join(b"\0" + rows[row * stride : (row + 1) * stride] for row in range(height))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(name, body)
        for name, body in (
            (b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)),
            (b"PLTE", palette),
            (b"tRNS", transparent),
            (b"IDAT", zlib.compress(packed)),
            (b"IEND", b""),
        )
        if body or name in (b"IDAT", b"IEND")
    )


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_transparent_grey_becomes_white_and_all_others_stay_whatever_the_bits(tmp_path, bits):
    highest = 2**bits - 1
    levels = [0, 1, highest // 3, highest - 1, highest, 1, 0, highest]
    if bits == 16:
        rows = struct.pack(">8H", *levels)
    else:
        text = "".join(f"{level:0{bits}b}" for level in levels)
        rows = int(text, 2).to_bytes(bits, "big")
    for transparent in {0, 1, highest // 3, highest}:
        content = png(8, 1, bits, 0, rows, struct.pack(">H", transparent))
        (tmp_path / "image.png").write_bytes(content)
        expected = [255 if level == transparent else int(level * 255 / highest + 0.5) for level in levels]
        assert read_whole(tmp_path / "image.png", 1, channels=1).ravel().tolist() == expected


@pytest.mark.parametrize("bits", [8, 16])
def test_a_transparent_colour_becomes_white(tmp_path, bits):
    colours = [(10, 200, 30), (10, 200, 31), (0, 0, 0)]
    step = 257 if bits == 16 else 1
    rows = struct.pack(f">9{'H' if bits == 16 else 'B'}", *(step * value for colour in colours for value in colour))
    (tmp_path / "image.png").write_bytes(png(3, 1, bits, 2, rows, struct.pack(">3H", 10 * step, 200 * step, 30 * step)))
    assert read_whole(tmp_path / "image.png", 1)[:, 0].T.tolist() == [[255] * 3, [10, 200, 31], [0, 0, 0]]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_colours_are_as_transparent_as_the_file_says(tmp_path, bits):
    rows, palette = bytes([0b01000000] if bits < 8 else [0, 1]), bytes([200, 0, 0, 0, 0, 100])
    if bits < 8:
        rows = int("".join(f"{index:0{bits}b}" for index in (0, 1)).ljust(8, "0"), 2).to_bytes(1, "big")
    (tmp_path / "image.png").write_bytes(png(2, 1, bits, 3, rows, bytes([0, 128]), palette))
    hidden, half = read_whole(tmp_path / "image.png", 1)[:, 0].T.tolist()
    assert hidden == [255, 255, 255]
    np.testing.assert_allclose(half, np.array([0, 0, 100]) * 128 / 255 + 127, atol=1)


@pytest.mark.parametrize("mode", ["P", "L"])
def test_what_a_gif_hides_is_white(tmp_path, mode):
    image = Image.new(mode, (8, 8), 3)
    image.paste(7, (0, 0, 4, 8))
    if mode == "P":
        image.putpalette(bytes(range(30)))
    image.save(tmp_path / "image.gif", transparency=3)
    found = read_square(tmp_path / "image.gif", 8, None)
    assert (found[:, :, 4:] == 255).all()
    assert found[:, 0, 0].tolist() == ([21, 22, 23] if mode == "P" else [7, 7, 7])


def test_of_several_frames_the_first_is_read(tmp_path):
    frames = [Image.new("RGB", (8, 8), (60 * number, 0, 0)) for number in range(1, 4)]
    for suffix in ("gif", "png", "webp", "tif"):
        how = {"lossless": True} if suffix == "webp" else {}
        frames[0].save(tmp_path / f"image.{suffix}", save_all=True, append_images=frames[1:], **how)
        assert read_square(tmp_path / f"image.{suffix}", 8, None)[:, 3, 3].tolist() == [60, 0, 0]


# What is turned, resized and cut ---------------------------------------------------------------------------------

TURNS = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: np.rot90(image),
}
"""EXIF 2.3, tag 274: what brings an image that is stored so the right way up."""


TURNED = {
    "L": "jpg png webp tif lzw.tif avif",
    "RGB": "jpg png webp tif lzw.tif avif",
    "P": "png webp tif lzw.tif",
    "RGBA": "png webp tif lzw.tif",
    "I;16": "png tif lzw.tif",
}


@pytest.mark.parametrize(("mode", "suffix"), [(mode, each) for mode in TURNED for each in TURNED[mode].split()])
def test_images_are_turned_as_exif_says(tmp_path, mode, suffix):
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("Pillow was built without AVIF")
    corner = Image.new("L", (24, 16), 0)
    corner.paste(200, (0, 0, 12, 8))
    corner.paste(90, (12, 0, 24, 8))
    image = corner.convert(mode) if mode != "I;16" else Image.fromarray(np.asarray(corner).astype(np.uint16) * 257)
    stored = np.asarray(corner)
    for orientation, turn in TURNS.items():
        exif = Image.Exif()
        exif[274] = orientation
        how = {"compression": "tiff_lzw"} if suffix.startswith("lzw") else {}
        file = write(image, tmp_path / f"{orientation}.{suffix}", exif=exif, **how)
        found = read_whole(file, 16, channels=1)[0].astype(int)
        expected = turn(stored)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found[2:-2, 2:-2], expected[2:-2, 2:-2], atol=12 if suffix in ("jpg", "avif") else 0)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_a_turn_that_there_is_not_changes_nothing(tmp_path, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    plain, odd = write(drawn("RGB"), tmp_path / "plain.png"), write(drawn("RGB"), tmp_path / "odd.png", exif=exif)
    np.testing.assert_array_equal(read_square(odd, SIZE, None), read_square(plain, SIZE, None))


def test_exif_data_that_cannot_be_read_say_nothing(tmp_path):
    plain = write(drawn("RGB"), tmp_path / "plain.png")
    for number, damage in enumerate([b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"nonsense" * 20]):
        odd = write(drawn("RGB"), tmp_path / f"{number}.png", exif=damage or b"\0")
        np.testing.assert_array_equal(read_square(odd, SIZE, None), read_square(plain, SIZE, None))


@pytest.mark.parametrize(("width", "height"), [(178, 218), (97, 64), (64, 64), (30, 45), (7, 50), (300, 41)])
def test_a_whole_image_is_resized_and_cropped_as_torchvision_does(tmp_path, write_image, width, height):
    file = write_image(tmp_path / "image.png", width, height)
    resized = transforms.Resize(64)(Image.open(file))
    np.testing.assert_array_equal(read_whole(file, 64), np.asarray(resized).transpose(2, 0, 1))
    reference = transforms.CenterCrop(64)(resized)
    np.testing.assert_array_equal(read_square(file, 64, None), np.asarray(reference).transpose(2, 0, 1))


@pytest.mark.parametrize(("crop_size", "size"), [(64, 64), (108, 64), (40, 64), (178, 8)])
def test_a_crop_is_cut_from_the_centre_then_resized(tmp_path, write_image, crop_size, size):
    file = write_image(tmp_path / "image.png", 178, 218)
    reference = transforms.CenterCrop(crop_size)(Image.open(file)).resize((size, size), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(read_square(file, size, crop_size), np.asarray(reference).transpose(2, 0, 1))


def test_an_image_smaller_than_the_crop_is_refused(tmp_path, write_image):
    file = write_image(tmp_path / "image.png", 100, 60)
    with pytest.raises(
        DataError, match=r"image\.png' must be as large as crop_size, 61, got 100x60 pixels\. Lower crop"
    ):
        read_square(file, 32, 61)
    assert read_square(file, 32, 60).shape == (3, 32, 32)


@pytest.mark.parametrize(("width", "height"), [(60_000, 1), (1, 60_000), (3000, 2)])
def test_of_a_very_long_image_the_middle_is_read_and_memory_stays_small(tmp_path, width, height, monkeypatch):
    length = max(width, height)
    line = np.repeat([0, 255, 0], length // 3).astype(np.uint8)
    image = np.tile(line, (min(width, height), 1))
    Image.fromarray(image if width > height else image.T.copy()).save(tmp_path / "image.png")
    largest = []
    monkeypatch.setattr(picture, "resized", lambda *args, real=picture.resized: largest.append(args[1:]) or real(*args))
    assert (read_square(tmp_path / "image.png", 64, None) == 255).all()
    longest = read_whole(tmp_path / "image.png", 64).shape
    assert sorted(longest) == [3, 64, 64 * LONGEST]
    assert max(map(max, largest)) <= 64 * LONGEST


# What cannot be read ---------------------------------------------------------------------------------------------

CUT = [pytest.param(mode, suffix, id=f"{mode.replace(';', '')}-{suffix}") for mode, suffix in WRITTEN if mode != "LAB"]


def refused(file: Path) -> str:
    """Return the message of a file that must be refused in one line that names it."""
    with pytest.raises(DataError) as caught:
        read_square(file, 8, None)
    message = str(caught.value)
    assert message.endswith(". Replace or remove it.")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(("mode", "suffix"), CUT)
def test_a_truncated_file_is_named_whatever_its_format(tmp_path, mode, suffix):
    whole = write(drawn(mode), tmp_path / f"whole.{suffix}").read_bytes()
    for share in (0, 0.1, 0.3, 0.6):
        cut = tmp_path / f"cut.{suffix}"
        cut.write_bytes(whole[: int(len(whole) * share)])
        assert refused(cut).startswith(f"'{cut}' cannot be read as an image (")


@settings(max_examples=120)
@given(case=st.sampled_from(WRITTEN), data=st.data())
def test_whatever_damage_is_done_to_a_file_it_is_read_or_named(tmp_path_factory, case, data):
    mode, suffix = case
    file = tmp_path_factory.getbasetemp() / f"damaged.{suffix}"
    content = bytearray(write(drawn(mode), file).read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, min(len(content), 300) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(content)
    try:
        shape, message = read_square(file, 8, None).shape, f"'{file}' "
    except DataError as error:
        shape, message = (3, 8, 8), str(error)
    assert shape == (3, 8, 8)
    assert message.startswith(f"'{file}' ")
    assert "\n" not in message


def header_of_a_bomb() -> bytes:
    return png(40_000, 40_000, 8, 0, b"\0" * 40_000, b"")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda file: file.write_bytes(header_of_a_bomb()), "exceeds limit of"),
        (lambda file: file.write_text("not an image"), "no image of a format that is read"),
        (
            lambda file: file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
            "no image of a format that is read",
        ),
        (lambda file: file.symlink_to("/nowhere/at all.png"), "No such file or directory"),
        (lambda file: file.symlink_to(file), "Too many levels of symbolic links"),
        (lambda file: file.mkdir(), "Is a directory"),
        (lambda file: None, "No such file or directory"),
    ],
    ids=["too large", "a text", "a program", "link to nothing", "link to itself", "a folder", "missing"],
)
@pytest.mark.parametrize("name", [b"image.png", b"caf\xe9.png", b"two\nlines.png", "größer ☃.png".encode()])
def test_whatever_keeps_a_file_from_being_read_it_is_named_in_one_line(tmp_path, make, why, name):
    file = tmp_path / os.fsdecode(name)
    make(file)
    message = refused(file)
    assert why in message
    assert message.isprintable()
    readable = {b"caf\xe9.png": r"caf\udce9.png", b"two\nlines.png": r"two\nlines.png"}.get(name) or name.decode()
    assert message.startswith(f"'{tmp_path}/{readable}' cannot be read as an image (")


@pytest.mark.parametrize(
    ("failure", "why"),
    [
        (PermissionError(13, "Permission denied"), "Permission denied"),
        (MemoryError(), "MemoryError"),
        (SyntaxError("broken PNG file"), "broken PNG file"),
        (struct.error("unpack requires\na buffer"), "unpack requires a buffer"),
        (RecursionError(), "RecursionError"),
        (Image.DecompressionBombError("too many pixels"), "too many pixels"),
        (ZeroDivisionError("division by zero"), "division by zero"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_any_failure_of_pillow_names_the_file(tmp_path, monkeypatch, failure, why):
    file = write(drawn("RGB"), tmp_path / "image.png")

    def failing(self):
        raise failure

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", failing)
    assert f"({why})" in refused(file)


def test_an_interruption_is_not_taken_for_a_damaged_file(tmp_path, monkeypatch):
    file = write(drawn("RGB"), tmp_path / "image.png")

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Image, "open", interrupted)
    with pytest.raises(KeyboardInterrupt):
        read_square(file, 8, None)


def test_suffixes_are_those_that_pillow_decodes_and_no_program_is_run():
    formats, suffixes = picture_formats()
    assert {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm"} <= suffixes
    assert not suffixes & {".eps", ".ps", ".pdf", ".mpg", ".mpeg", ".h5", ".wmf", ".txt", ""}
    assert "EPS" not in formats
    assert (".avif" in suffixes) == features.check("avif")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_alpha_is_kept_where_it_is_wanted(tmp_path, mode):
    colours = Image.new("RGBA", (4, 4), (200, 100, 50, 255))
    colours.paste((10, 20, 30, 0), (0, 0, 2, 4))
    if mode == "P":
        given = Image.fromarray(np.repeat([[0, 0, 1, 1]], 4, axis=0).astype(np.uint8), "L")
        given.putpalette([10, 20, 30, 200, 100, 50])
        given.save(tmp_path / "a.png", transparency=0)
    else:
        colours.convert(mode).save(tmp_path / ("a.tif" if mode == "PA" else "a.png"))
    (file,) = tmp_path.iterdir()
    for channels in (2, 4):
        pixels = read_square(file, 4, None, channels)
        assert pixels.shape == (channels, 4, 4)
        np.testing.assert_array_equal(pixels[-1], np.repeat([[0, 0, 255, 255]], 4, axis=0))
    assert read_square(file, 4, None, 3)[:, 0, 0].tolist() == [255] * 3  # laid over white


def test_an_image_without_alpha_is_opaque(tmp_path):
    Image.fromarray(np.arange(16, dtype=np.uint16).reshape(4, 4) * 4000).save(tmp_path / "a.png")
    found = read_square(tmp_path / "a.png", 4, None, 2)
    np.testing.assert_array_equal(found[0], read_square(tmp_path / "a.png", 4, None, 1)[0])
    assert (found[1] == 255).all()
