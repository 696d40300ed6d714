"""PASCAL VOC as distributed: `VOCdevkit/VOC2007` with its lists, images, boxes and masks.

torchvision's readers open each image to read its boxes, and know nothing of the lists of labels. The tests compare with
them.

Source:
    Everingham et al. 2010, *The PASCAL Visual Object Classes (VOC) Challenge*, and the development kit's readme.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from torch import Tensor

from gan_lightning.errors import DataError, at_least, refused, settings_of
from gan_lightning.system.reading import expanded, named, reading, shown

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
"""Names of the classes; a label is a place here, and a mask has the label plus 1."""

FIRST_YEAR = 2007
"""The first year with these classes."""

BACKGROUND, VOID = 0, 255
"""Values of a mask where there is no object, and where the mask does not say."""

UNKNOWN = -1
"""Label of an image all of whose objects of a class are marked as difficult; the protocols ignore it."""

AGAIN = "Unpack the data set again."
"""Remedy for a damaged file."""


@dataclass(frozen=True, kw_only=True)
class VocData:
    """The place of PASCAL VOC; all measurements on it share these settings.

    Args:
        root: Folder that holds `VOCdevkit`.
        limit: Keep only the first images of each list.
    """

    root: str | Path = "data"
    limit: int | None = None

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            SettingError: `limit` is below 1.
        """
        if self.limit is not None:
            at_least(self, 1, limit=self.limit)

    def folder(self, year: int) -> Path:
        """Return the folder of a year, such as `<root>/VOCdevkit/VOC2007`.

        Raises:
            SettingError: There is none.
        """
        with settings_of(self):
            folder = expanded(self.root, "root") / "VOCdevkit" / f"VOC{year}"
        if not folder.is_dir():
            remedy = "Unpack VOC there, or set root to the folder that holds VOCdevkit."
            raise refused(self, "root", f"hold VOCdevkit/VOC{year}", shown(self.root), remedy)
        return folder


VOC = VocData()


class BoxedImage(NamedTuple):
    """An image with its objects' boxes.

    Attributes:
        path: The image file.
        boxes: Left, top, right and bottom edges in pixels from the image's upper left corner. A box of one pixel has
            edges 1 apart: VOC's numbers, counted from 1 and with both ends, less 1 at the left and at the top.
        labels: Places in `CLASSES`.
        difficult: Whether an object is marked as difficult, which the test ignores.
    """

    path: Path
    boxes: Float32[Tensor, "boxes 4"]
    labels: Int64[Tensor, " boxes"]
    difficult: Bool[Tensor, " boxes"]

    @property
    def name(self) -> str:
        """The image's id, such as `000012`."""
        return self.path.stem


class LabelledList(NamedTuple):
    """Images and, for each class, whether it is in the image.

    Attributes:
        paths: The image files.
        labels: 1 or 0, and -1 where all objects of the class are difficult.
    """

    paths: Sequence[Path]
    labels: Int64[Tensor, "images 20"]


class MaskedImage(NamedTuple):
    """An image with a class for each pixel.

    Attributes:
        path: The image file.
        mask: The file of its mask (`read_mask`).
    """

    path: Path
    mask: Path


def labelled_images(data: VocData, year: int, split: str) -> LabelledList:
    """Return the images of a list, such as "trainval", and their labels, of `ImageSets/Main`.

    Raises:
        SettingError: There is no such year.
        DataError: A list or an image is missing, or a list is damaged; names it.
    """
    folder = data.folder(year)
    names = listed(folder, "Main", split, data.limit)
    labels = torch.zeros(len(names), len(CLASSES), dtype=torch.int64)
    for at, kind in enumerate(CLASSES):
        file = folder / "ImageSets" / "Main" / f"{kind}_{split}.txt"
        with reading(file, AGAIN):
            found = {name: int(label) for name, label in (line.split() for line in lines_of(file))}
        if unlabelled := [name for name in names if name not in found]:
            raise DataError(f"'{shown(file)}' must label each image of {split}.txt, lacks {named(unlabelled)}. {AGAIN}")
        if wrong := sorted({found[name] for name in names} - {-1, 0, 1}):
            raise DataError(f"'{shown(file)}' must have the labels -1, 0 and 1, got {wrong[0]}. {AGAIN}")
        labels[:, at] = torch.tensor([{1: 1, 0: UNKNOWN, -1: 0}[found[name]] for name in names])
    return LabelledList(image_files(folder, names), labels)


def boxed_images(data: VocData, year: int, split: str) -> list[BoxedImage]:
    """Return the images of a list of `ImageSets/Main` and their boxes, of `Annotations`. An image may have no box.

    Raises:
        SettingError: There is no such year.
        DataError: A list, an image or its boxes are missing or damaged; names the file.
    """
    folder = data.folder(year)
    names = listed(folder, "Main", split, data.limit)
    files = files_of(folder / "Annotations", names, ".xml", "boxes")
    return [BoxedImage(path, *read_boxes(file)) for path, file in zip(image_files(folder, names), files, strict=True)]


def masked_images(data: VocData, year: int, split: str) -> list[MaskedImage]:
    """Return the images of a list of `ImageSets/Segmentation` and the files of their masks, of `SegmentationClass`.

    Raises:
        SettingError: There is no such year.
        DataError: A list, an image or a mask is missing; names it.
    """
    folder = data.folder(year)
    names = listed(folder, "Segmentation", split, data.limit)
    masks = files_of(folder / "SegmentationClass", names, ".png", "masks")
    return [MaskedImage(*pair) for pair in zip(image_files(folder, names), masks, strict=True)]


def listed(folder: Path, kind: str, split: str, limit: int | None = None) -> list[str]:
    """Return the names of a list of images, the first `limit` of them.

    Raises:
        DataError: The list is missing, empty, or names an image twice.
    """
    file = folder / "ImageSets" / kind / f"{split}.txt"
    with reading(file, f"Unpack VOC's lists there, or name another list than {split!r}."):
        names = [line.split()[0] for line in lines_of(file)]
    if not names:
        raise DataError(f"'{shown(file)}' must name images, got none. {AGAIN}")
    if twice := sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []:
        raise DataError(f"'{shown(file)}' must name each image once, got {named(twice)} again. {AGAIN}")
    return names[:limit]


def lines_of(file: Path) -> Iterator[str]:
    """Yield the lines of a text file that are not blank."""
    yield from (line for line in file.read_text(encoding="utf-8").splitlines() if line.strip())


def image_files(folder: Path, names: Sequence[str]) -> list[Path]:
    """Return the image files of a year's names.

    Raises:
        DataError: One is missing.
    """
    return files_of(folder / "JPEGImages", names, ".jpg", "images")


def files_of(folder: Path, names: Sequence[str], suffix: str, what: str) -> list[Path]:
    """Return the files of a folder for names.

    Raises:
        DataError: The folder or a file is missing.
    """
    files = [folder / f"{name}{suffix}" for name in names]
    if not folder.is_dir():
        raise DataError(f"'{shown(folder)}' must hold VOC's {what}, and there is no such folder. Unpack VOC's {what}.")
    if missing := [file.name for file in files if not file.is_file()]:
        raise DataError(
            f"'{shown(folder)}' must hold the {what} of each listed image, lacks {named(missing)}. Unpack VOC's {what}."
        )
    return files


def read_boxes(
    file: Path,
) -> tuple[Float32[Tensor, "boxes 4"], Int64[Tensor, " boxes"], Bool[Tensor, " boxes"]]:
    """Return boxes, labels and difficult flags of a file of `Annotations`, as `BoxedImage` has them.

    Raises:
        DataError: It is damaged, names an unknown class, or a box has no area or lies outside of its image.
    """
    with reading(file, AGAIN):
        tree = ElementTree.parse(file).getroot()  # of a data set, as distributed
        width, height = (int(_text(tree, f"size/{side}")) for side in ("width", "height"))
        objects = tree.findall("object")
        kinds = [_text(each, "name").strip() for each in objects]
        difficult = [int(each.findtext("difficult", "0")) == 1 for each in objects]
        ends = [[float(_text(each, f"bndbox/{end}")) for end in ("xmin", "ymin", "xmax", "ymax")] for each in objects]
    if unknown := [kind for kind in kinds if kind not in CLASSES]:
        raise DataError(f"'{shown(file)}' must name VOC's classes, got {unknown[0]!r}. {AGAIN}")
    for left, top, right, bottom in ends:
        if not (1 <= left <= right <= width and 1 <= top <= bottom <= height):
            raise DataError(
                f"'{shown(file)}' must have boxes inside the image of {width}x{height} pixels, got "
                f"{left:g} {top:g} {right:g} {bottom:g} (left, top, right, bottom, from 1). {AGAIN}"
            )
    boxes = torch.tensor(ends, dtype=torch.float32).reshape(-1, 4)
    boxes[:, :2] -= 1
    labels = torch.tensor([CLASSES.index(kind) for kind in kinds], dtype=torch.int64)
    return boxes, labels, torch.tensor(difficult, dtype=torch.bool)


def _text(tree: ElementTree.Element, path: str) -> str:
    if (found := tree.findtext(path)) is None:
        raise ValueError(f"it has no {path}")
    return found


def read_image(file: Path, channels: int = 3) -> UInt8[Tensor, "{channels} height width"]:
    """Return an image's pixels as they are stored, in which its boxes and its mask count.

    Args:
        file: The image.
        channels: 3 for colours, 1 for shades of grey.

    Raises:
        DataError: It is missing or damaged.
    """
    from PIL import Image

    with reading(file, AGAIN), Image.open(file) as image:
        pixels = np.array(image.convert("L" if channels == 1 else "RGB"))
    return torch.from_numpy(pixels).reshape(*pixels.shape[:2], -1).permute(2, 0, 1)


def image_size(file: Path) -> tuple[int, int]:
    """Return an image's width and height in pixels, without decoding it.

    Raises:
        DataError: It is missing or damaged.
    """
    from PIL import Image

    with reading(file, AGAIN), Image.open(file) as image:
        return image.size


def read_mask(file: Path) -> UInt8[Tensor, "height width"]:
    """Return a mask: 0 for the background, a label plus 1 for an object, 255 where the mask does not say.

    Raises:
        DataError: It is missing, damaged, or has other values.
    """
    from PIL import Image

    with reading(file, AGAIN), Image.open(file) as image:
        mask = torch.from_numpy(np.array(image))
    if mask.ndim != 2 or mask.dtype != torch.uint8:
        wrong = "colours"
    elif strange := [value for value in mask.unique().tolist() if value > len(CLASSES) and value != VOID]:
        wrong = f"the value {strange[0]}"
    else:
        return mask
    raise DataError(
        f"'{shown(file)}' must have VOC's values for pixels, 0 to {len(CLASSES)} and {VOID}, got {wrong}. {AGAIN}"
    )
