"""Any folder of images, with a folder per class, a list of labels, or neither."""

import logging
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from gan_lightning.data.decoded import decoded, decoded_whole
from gan_lightning.data.holding_out import held_out_of_class
from gan_lightning.data.image_data import ImageData
from gan_lightning.data.labels_file import labels_of, read_rows
from gan_lightning.data.listing import (
    HIDDEN,
    Content,
    Labelled,
    content_of,
    count_files,
    each_once,
    in_turn,
    suffix_of,
    without_collections,
)
from gan_lightning.data.picture import MODES
from gan_lightning.data.store import ImageStore, RectangleStore, Store
from gan_lightning.errors import DataError, SettingError, between_zero_and_one, refused, settings_of
from gan_lightning.interfaces import LabelKind, Split
from gan_lightning.system.reading import counted, expanded, named, reading, shown

logger = logging.getLogger(__name__)

Samples = list[tuple[Path, int]]

SPLITS: tuple[Split, Split] = ("train", "test")
TEST_FOLDERS = ("val", "test")
SPLIT_FOLDERS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}


@dataclass(frozen=True)
class Listing:
    """The content of an `ImageFolder`.

    Attributes:
        samples: Images and their labels, by split.
        classes: Names of the labels; empty if there are fewer than two.
        left_out: Numbers of files that are not images, by suffix, and of other entries, by kind.
    """

    samples: dict[Split, Labelled]
    classes: list[str]
    left_out: Counter[str]


@dataclass(eq=False, kw_only=True)
class ImageFolder(ImageData):
    """Your own images: `<root>/<class>/**`, or `<root>/*` without labels, or at any depth with a list of labels.

    If `<root>/train` exists, it is the training split, and `<root>/val` or else `<root>/test` is the test split.
    Otherwise `test_fraction` of each class is held out: at least one image of each class that has two. A class of one
    image stays in the training split, with a warning.

    Every file whose suffix Pillow reads is an image, except EPS. If it has several frames or pages, the first is read.
    Each real file counts once, for any number of links to it, and a file of the training split is not in the test
    split. Other files are left out, and so are hidden files and folders. Their numbers by suffix are logged, and stand
    in `about`. Images beside class folders are refused, and so is a file that links put into two classes. One class
    alone is no label: then `label_kind` is `none`, with a warning.

    Grey, colour and palette images of up to 8 bits are read as they are. 16-bit grey is divided by 257. Transparent
    images are laid over white, unless `channels` has alpha. CMYK, YCbCr and LAB become RGB. An image is turned as its
    EXIF data ask. Images of unknown range are refused, such as floating-point TIFFs. The shorter side is resized to
    `image_size` and the centre kept. With `crop_from` training sees squares from the whole resized image; an image more
    than eight times as long as wide is first cut to its middle. The classes alternate in stored order, so `limit` keeps
    all of them. `verify` has no effect.

    `labels_file` is Parquet, or text separated by commas, semicolons or tabs, whose first line names the columns.
    `file_column` has the file of an image. `label_column` has its class; it is empty if the class is unknown. The
    file's path is from `root` or from the list's own folder. The end of the path is enough if only one image has it.
    Images without a row have no label, with a warning. Classes are sorted, as numbers if all are whole numbers.

    Args:
        root: Folder of the images.
        image_size: Edge of the images in pixels.
        channels: 3 for colour, 1 for grey; 4 and 2 for these with alpha.
        labels_file: List of labels, by its path from `root` or the working directory; else the folders are classes.
        file_column: Column of the list that names the images.
        label_column: Column of the list that has the classes.
        test_fraction: Share of each class held out for testing, if the folder ships no split.
        cache_dir: Folder for decoded images; by default the user's cache folder.
    """

    image_size: int = 64
    channels: int = 3
    labels_file: str | Path | None = None
    file_column: str = "file"
    label_column: str = "label"
    test_fraction: float = 0.1
    cache_dir: str | Path | None = None

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            SettingError: A setting is out of range.
        """
        super().__post_init__()
        self.name = shown(Path(os.path.realpath(self.root)).name) or "images"
        if self.channels not in MODES:
            raise refused(self, "channels", "be 3 (colour) or 1 (grey), or 4 or 2 with alpha", self.channels)
        between_zero_and_one(self, "0.1 is usual.", test_fraction=self.test_fraction)
        if self.file_column == self.label_column:
            raise SettingError(
                f"label_column must not be file_column, got '{self.label_column}' for both. Set label_column.", self
            )
        if self.download:
            raise SettingError(
                "download must be false for an ImageFolder, got true. Put the images into the folder yourself.", self
            )

    @property
    def classes(self) -> list[str]:
        """Names of the classes, sorted; empty if there are fewer than two.

        Raises:
            DataError: The folder has no usable layout.
        """
        return self.listing.classes

    @property
    def label_kind(self) -> LabelKind:
        """`classes`, or `none` if there are fewer than two."""
        return "classes" if self.classes else "none"

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 if there are fewer than two."""
        return len(self.classes)

    @property
    def about(self) -> dict[str, Any]:
        """Facts on the folder's content, in values that JSON can hold.

        `images`: the number in each split; `images_per_class`: the same for each class; `without_label`: the number in
        each split without a known class; `left_out`: the numbers of other files, by suffix. `limit` is not applied.
        """
        counts = {split: Counter(label for _, label in self.listing.samples[split]) for split in SPLITS}
        return {
            "images": {split: count.total() for split, count in counts.items()},
            "images_per_class": {
                shown(name): {split: count[label] for split, count in counts.items()}
                for label, name in enumerate(self.classes)
            },
            "without_label": {split: count[-1] for split, count in counts.items()},
            "left_out": dict(self.listing.left_out.most_common()),
        }

    def fetch(self) -> None:
        """Do nothing: the images are the user's own."""

    def read(self, split: Split) -> Store:
        """Return the images, the classes in turn.

        Raises:
            DataError: The folder has no usable layout, or an image cannot be read.
        """
        samples = self.listing.samples[split][: self.limit]
        files, labels = [each.path for each, _ in samples], torch.tensor([label for _, label in samples])
        title = f"{self.name}-{split}"
        with settings_of(self):
            if split == "train" and self.crop_from is not None:
                pixels, sizes = decoded_whole(files, self.whole_size, self.cache_dir, title, self.channels)
                return RectangleStore(pixels, sizes, labels, self.channels, self.image_size)
            pixels = decoded(files, self.whole_size, None, self.cache_dir, title, self.channels)
        return ImageStore(pixels, labels)

    def file_names(self, split: Split) -> list[str]:
        """Return the path of each image below `root`."""
        return [os.path.relpath(file, self.root) for file, _ in self.samples(split)[: self.limit]]

    def samples(self, split: Split) -> Samples:
        """Return the files of a split and their labels, without regard to `limit`."""
        return [(Path(each.path), label) for each, label in self.listing.samples[split]]

    @cached_property
    @without_collections()
    def listing(self) -> Listing:
        """The folder's content; read once, and logged then.

        Raises:
            DataError: The folder has no usable layout.
        """
        root, left_out = Path(self.root), Counter[str]()
        with reading(root, "Set root to a folder of images.", "listed"):
            if not root.is_dir():
                raise DataError(f"No folder '{shown(root)}'. Set root to a folder of images.")
            folders = split_folders(root, left_out)
        contents = {split: content_of(folder) for split, folder in folders.items()}
        for content in contents.values():
            left_out.update(content.others)
        classes, found = self.listed(contents) if self.labels_file else by_folder(folders, contents)
        found = each_once(found, classes, left_out)
        if len(classes) == 1:
            logger.warning(
                "'%s' has one class only, '%s': there are no labels to evaluate with, and label_kind is none.%s",
                *(shown(root), shown(classes[0]), hint(root, self.labels_file)),
            )
            classes, found = [], {split: [(each, -1) for each, _ in samples] for split, samples in found.items()}
        if "test" not in found:
            found = hold_out(found["train"], classes, self.test_fraction)
        for split in SPLITS:
            if not found[split]:
                raise DataError(
                    f"'{shown(folders.get(split, root))}' must hold images for the {split} split, got "
                    f"{in_words(sum(map(len, found.values())), classes, left_out)}. Add images."
                )
        listing = Listing({split: in_turn(found[split]) for split in SPLITS}, classes, left_out)
        self.report(listing)
        return listing

    def listed(self, contents: dict[Split, Content]) -> tuple[list[str], dict[Split, Labelled]]:
        """Return the classes in the list of labels, and the images with their labels; -1 for images without a row.

        Raises:
            DataError: The list cannot be read or contradicts itself or the folder.
        """
        root, file = Path(self.root), expanded(str(self.labels_file), "labels_file")
        with reading(file, "Set labels_file to a list of labels."):
            file = root / file if (root / file).exists() else file
        images = {split: content.all_images for split, content in contents.items()}
        everything = [each for part in images.values() for each in part]
        labels = labels_of(everything, read_rows(file, self.file_column, self.label_column), file, root)
        classes = sorted({label for label in labels.values() if label}, key=number_or_name(labels.values()))
        unlisted = [os.path.relpath(each.path, root) for each in everything if each.identity not in labels]
        if unlisted:
            logger.warning(
                "%s without a row in '%s', so the label is not known: %s.",
                *(counted(len(unlisted), "image"), shown(file), named(unlisted)),
            )
        indices = {name: index for index, name in enumerate(classes)}
        return classes, {
            split: [(each, indices.get(labels.get(each.identity, ""), -1)) for each in part]
            for split, part in images.items()
        }

    def report(self, listing: Listing) -> None:
        """Log the numbers of images and of left out files, and the classes without images in one split."""
        count = sum(map(len, listing.samples.values()))
        worth_reading = listing.left_out.keys() - {HIDDEN}
        logger.log(
            logging.WARNING if worth_reading else logging.INFO,
            "'%s': %s; %d to train on, %d to test on.",
            shown(self.root),
            in_words(count, listing.classes, listing.left_out),
            *(len(listing.samples[split]) for split in SPLITS),
        )
        for split in SPLITS:
            present = {label for _, label in listing.samples[split]}
            absent = [name for label, name in enumerate(listing.classes) if label not in present]
            if absent:
                logger.warning(
                    "'%s' has no image for the %s split of %d classes: %s. Figures say nothing about them.",
                    *(shown(self.root), split, len(absent), named(absent)),
                )


def split_folders(root: Path, left_out: Counter[str]) -> dict[Split, Path]:
    """Return the folders of the splits, or the root for training alone if the folder ships no split.

    Args:
        root: Folder of the images.
        left_out: Counts the entries beside the splits.

    Raises:
        DataError: There is a folder for training, and none for testing.
    """
    train = root / "train"
    if not train.is_dir():
        return {"train": root}
    test = next((root / name for name in TEST_FOLDERS if (root / name).is_dir()), None)
    if test is None:
        raise DataError(
            f"'{shown(root)}' has 'train' but neither 'val' nor 'test'. Add the test images there, or, if 'train' is "
            "a class, call it something else."
        )
    for entry in root.iterdir():
        if entry.name.startswith("."):
            left_out[HIDDEN] += 1
        elif entry not in (train, test):
            is_folder = entry.is_dir()
            kind = f"folder '{shown(entry.name)}'" if is_folder else suffix_of(entry.name)
            left_out[kind] += count_files(entry) if is_folder else 1
    return {"train": train, "test": test}


def by_folder(folders: dict[Split, Path], contents: dict[Split, Content]) -> tuple[list[str], dict[Split, Labelled]]:
    """Return the names of the class folders, and the images with their class; -1 if the images lie in one folder.

    Raises:
        DataError: Images lie beside class folders, a class has none, or the splits have different classes.
    """
    for split, content in contents.items():
        check_layout(folders[split], content)
    classes = sorted(contents["train"].classes)
    for split, content in contents.items():
        if sorted(content.classes) != classes:
            other = sorted(set(classes) ^ set(content.classes)) or ["images without a class folder"]
            raise DataError(
                f"'{shown(folders[split])}' must hold the same class folders as '{shown(folders['train'])}', "
                f"got {named(other)} in one of them only. Add or remove class folders."
            )
    if classes and set(map(str.lower, classes)) <= SPLIT_FOLDERS:
        raise DataError(
            f"'{shown(folders['train'])}' must hold classes, or 'train' and 'val' or 'test', got the folders "
            f"{named(classes)}. Call the folder with the training images 'train', or the classes something else."
        )
    if not classes:
        return [], {split: [(each, -1) for each in content.images] for split, content in contents.items()}
    return classes, {
        split: [(each, label) for label, name in enumerate(classes) for each in content.folders[name]]
        for split, content in contents.items()
    }


def check_layout(folder: Path, content: Content) -> None:
    """Check that a folder holds images, or class folders that all hold images.

    Raises:
        DataError: It holds neither, or both.
    """
    filled = [name for name, images in content.folders.items() if images]
    empty = [name for name, images in content.folders.items() if not images]
    if content.images and filled:
        inside, images = sum(len(content.folders[name]) for name in filled), counted(len(content.images), "image")
        raise DataError(
            f"'{shown(folder)}' must hold images or folders of images, got both: {images} "
            f"({named([each.name for each in content.images])}) and {counted(len(filled), 'folder')} with {inside:,} "
            f"({named(filled)}). Move the ones or the others away, or give a list of labels with labels_file."
        )
    if not content.images and not filled and not empty:
        raise DataError(
            f"'{shown(folder)}' holds neither images nor class folders{in_brackets(content.others)}. "
            "Set root to another folder."
        )
    if not content.images and empty:
        raise DataError(
            f"'{shown(folder)}' must hold images of each class, got none in {named(empty)}"
            f"{in_brackets(content.others)}. Add images, or remove the folders."
        )


def hold_out(samples: Labelled, classes: list[str], fraction: float) -> dict[Split, Labelled]:
    """Return the images of both splits; a class of two or more images has at least one in each split.

    The choice of a class's held-out images depends on its name and its images alone.
    """
    groups: dict[int, list[int]] = {}
    for index, (_, label) in enumerate(samples):
        groups.setdefault(label, []).append(index)
    held: set[int] = set()
    for label, group in groups.items():
        name = classes[label] if label >= 0 else ""
        chosen = held_out_of_class(len(group), fraction, zlib.crc32(os.fsencode(name)))
        held.update(group[place] for place in chosen)
    return {
        "train": [sample for index, sample in enumerate(samples) if index not in held],
        "test": [sample for index, sample in enumerate(samples) if index in held],
    }


def number_or_name(labels: Iterable[str]) -> Callable[[str], Any]:
    """Return a sort key for labels: whole numbers if all labels are, else text."""
    if all(re.fullmatch(r"-?\d+", label, re.ASCII) for label in labels if label):
        return lambda label: (int(label), label)
    return lambda label: label


def hint(root: Path, labels_file: str | Path | None) -> str:
    """Return a remedy for a single class: the name of the list of labels, if one lies there."""
    lists = sorted(file.name for file in root.iterdir() if file.suffix.lower() in (".csv", ".tsv"))
    return f" Labels from a list: labels_file={shown(lists[0])}." if lists and not labels_file else ""


def in_words(count: int, classes: list[str], left_out: Counter[str]) -> str:
    """Return the counts in words, as `20 images, 2 classes, left out: 12 (.txt 10, .mp4 2)`."""
    kinds = f"{len(classes):,} classes" if classes else "no classes"
    return f"{counted(count, 'image')}, {kinds}{in_brackets(left_out)}"


def in_brackets(left_out: Counter[str]) -> str:
    """Return the number of left out files, as `, left out: 12 (.txt 10, .mp4 2)`; empty if there are none."""
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in left_out.most_common())
    return f", left out: {left_out.total():,} ({kinds})" if kinds else ""
