"""The content of a folder of images: each real file once, and a count of all other entries.

A file's identity is its place on the disk instead of its path. Links to it change nothing, nor do folders that are met
again through a link.
"""

import gc
import os
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from pathlib import Path
from typing import NamedTuple

from gan_lightning.data.picture import picture_formats
from gan_lightning.errors import DataError
from gan_lightning.interfaces import Split
from gan_lightning.system.reading import failure, reading, shown

Identity = tuple[int, int] | str
"""A file's device and its number there; its resolved path on a system without such numbers."""

FOLDER_REMEDY = "Make it readable, or remove it."
FILE_REMEDY = "Put the file back, or remove the link."

HIDDEN, NO_FILE, LINKED_FOLDER, LINKED_FILE, NO_SUFFIX = (
    "hidden",
    "no file",
    "folder listed already",
    "file listed already",
    "no suffix",
)
"""Kinds of left out entries that are not counted by suffix."""


class FoundImage(NamedTuple):
    """An image file below a folder.

    Attributes:
        path: The path by which it was found.
        identity: Its identity on the disk.
    """

    path: str
    identity: Identity

    @property
    def name(self) -> str:
        """The end of its path."""
        return self.path.rpartition(os.sep)[2]


Labelled = list[tuple[FoundImage, int]]
"""Images and their labels."""


@dataclass(frozen=True)
class Content:
    """The content of a folder.

    Attributes:
        images: In the folder itself.
        folders: By name, the images below each folder in it, at any depth.
        others: Numbers of other files below the folder, of hidden entries, and of links to files and folders listed
            already.
    """

    images: list[FoundImage] = field(default_factory=list)
    folders: dict[str, list[FoundImage]] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)

    @property
    def classes(self) -> list[str]:
        """Names of the folders, if no images lie in the folder itself."""
        return [] if self.images else list(self.folders)

    @property
    def all_images(self) -> list[FoundImage]:
        """The images at any depth."""
        return [*self.images, *chain.from_iterable(self.folders.values())]


@contextmanager
def without_collections() -> Iterator[None]:
    """Let Python look for garbage afterwards only: its searches take as long again as listing a million files."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def content_of(folder: Path) -> Content:
    """Return the content of a folder, in the order of the names.

    Raises:
        DataError: A folder cannot be read, or a link with an image's suffix leads nowhere.
    """
    _, suffixes = picture_formats()
    with reading(folder, FOLDER_REMEDY, "listed"):
        place = folder.resolve(strict=True)
        above = {identity_of(str(place), place.stat())}
    for parent in place.parents:
        # A link to a folder above would bring in the whole disk, with this folder again.
        with suppress(OSError):
            above.add(identity_of(str(parent), parent.stat()))
    content = Content()
    for name, found, is_folder in entries_of(str(folder), suffixes, content.others):
        if not is_folder:
            content.images.append(found)
        elif found.identity in above:
            content.others[LINKED_FOLDER] += 1
        else:
            seen = above | {found.identity}
            content.folders[name] = list(images_below(found.path, suffixes, content.others, seen))
    return content


def images_below(
    folder: str, suffixes: frozenset[str], others: Counter[str], seen: set[Identity]
) -> Iterator[FoundImage]:
    """Yield the images of a folder, then the images of each folder in it that has not been `seen` yet."""
    waiting = [folder]
    while waiting:
        folders = []
        for _, found, is_folder in entries_of(waiting.pop(), suffixes, others):
            if not is_folder:
                yield found
            elif found.identity in seen:
                others[LINKED_FOLDER] += 1
            else:
                seen.add(found.identity)
                folders.append(found.path)
        waiting += reversed(folders)


def entries_of(folder: str, suffixes: frozenset[str], others: Counter[str]) -> Iterator[tuple[str, FoundImage, bool]]:
    """Yield the image files and the folders in a folder, sorted by name; True marks folders. Count the rest.

    Raises:
        DataError: The folder cannot be read, or a link with an image's suffix leads nowhere.
    """
    with reading(folder, FOLDER_REMEDY, "listed"), os.scandir(folder) as scanned:
        entries = sorted(scanned, key=lambda entry: entry.name)
    for entry in entries:
        name, path = entry.name, entry.path
        if name.startswith("."):
            others[HIDDEN] += 1
            continue
        is_image = suffix_of(name) in suffixes
        try:
            status = entry.stat()
        except OSError as error:
            if is_image:
                raise failure(path, error, FILE_REMEDY, "found") from error
            others[suffix_of(name)] += 1
            continue
        is_file, is_folder = stat.S_ISREG(status.st_mode), stat.S_ISDIR(status.st_mode)
        if is_folder or (is_file and is_image):
            yield name, FoundImage(path, identity_of(path, status)), is_folder
        else:
            others[suffix_of(name) if is_file else NO_FILE] += 1


def suffix_of(name: str) -> str:
    """Return the suffix by which a file is counted."""
    stem, _, end = name.rpartition(".")
    return f".{shown(end)}".lower() if stem and end else NO_SUFFIX


def identity_of(path: str, status: os.stat_result) -> Identity:
    """Return a file's identity, the same for all paths to it."""
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(path)


def count_files(folder: Path) -> int:
    """Return the number of files below a folder, without following links."""
    return sum(len(files) for _, _, files in os.walk(folder))


def each_once(splits: dict[Split, Labelled], classes: list[str], others: Counter[str]) -> dict[Split, Labelled]:
    """Return the images of each split without repeated ones, in this split or the one before it.

    Args:
        splits: Images and their labels.
        classes: Names of the labels.
        others: Counts the repeated images.

    Raises:
        DataError: The same file has two labels.
    """
    met: dict[Identity, tuple[FoundImage, int]] = {}
    kept: dict[Split, Labelled] = {}
    for split, samples in splits.items():
        kept[split] = []
        for found, label in samples:
            first, first_label = met.setdefault(found.identity, (found, label))
            if first is found:
                kept[split].append((found, label))
            elif label == first_label:
                others[LINKED_FILE] += 1
            else:
                names = [shown(classes[each]) if each >= 0 else "no class" for each in (first_label, label)]
                raise DataError(
                    f"'{shown(found.path)}' must have one class, got '{names[1]}', and '{names[0]}' as "
                    f"'{shown(first.path)}', the same file. Remove one of the two."
                )
    return kept


def in_turn(samples: Labelled) -> Labelled:
    """Return the first image of every class, then the second of every class, and so on; unlabelled ones come last."""
    groups: dict[int, Labelled] = {}
    for sample in samples:
        groups.setdefault(sample[1], []).append(sample)
    ordered = [groups[label] for label in sorted(groups, key=lambda label: (label < 0, label))]
    return [sample for turn in zip_longest(*ordered) for sample in turn if sample is not None]
