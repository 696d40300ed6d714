"""A small VOCdevkit, drawn: a red rectangle is an aeroplane, a green disc a bicycle, both on grey noise.

    data = drawn_voc(tmp_path)      # VocData(root=tmp_path)

2007 has the lists trainval and test, 2012 train and val; each year has boxes, masks and the labels of all classes. The
images of a list hold in turn a rectangle, a disc, both, and a rectangle beside a difficult disc. The last one is empty.
"""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from gan_lightning.evaluation.voc.devkit import CLASSES, VocData

RECTANGLE, DISC = CLASSES[:2]
COLOURS = {RECTANGLE: (220, 40, 40), DISC: (40, 200, 60)}
SPLITS = {"2007": ("trainval", "test"), "2012": ("train", "val")}
WIDTH, HEIGHT = 48, 36
PALETTE = [value for index in range(256) for value in (index, 37 * index % 256, 91 * index % 256)]

Drawn = tuple[str, tuple[int, int, int, int], bool]
"""A class, the ends of its box (left, top, right, bottom, from 1 and with both ends), and whether it is difficult."""


def drawn_voc(root: Path, images: int = 8, width: int = WIDTH, height: int = HEIGHT, seed: int = 0) -> VocData:
    """Draw a VOCdevkit with `images` in each list, and return its place."""
    rng = np.random.default_rng(seed)
    number = 0
    for year, splits in SPLITS.items():
        folder = root / "VOCdevkit" / f"VOC{year}"
        for part in ("JPEGImages", "Annotations", "ImageSets/Main", "ImageSets/Segmentation", "SegmentationClass"):
            (folder / part).mkdir(parents=True)
        for split in splits:
            found = {}
            for at in range(images):
                number += 1
                found[f"{number:06d}"] = objects = objects_of(at, images, width, height, rng)
                draw(folder, f"{number:06d}", objects, width, height, rng)
            write_lists(folder, split, found)
    return VocData(root=root)


def objects_of(at: int, images: int, width: int, height: int, rng: np.random.Generator) -> list[Drawn]:
    """Return the objects of the image at a place of its list, from left to right."""
    if at == images - 1:
        return []
    kinds = [
        [(RECTANGLE, False)],
        [(DISC, False)],
        [(RECTANGLE, False), (DISC, False)],
        [(RECTANGLE, False), (DISC, True)],
    ]
    chosen, half = kinds[at % 4], width // 2
    first = int(rng.integers(2)) if len(chosen) == 1 else 0
    found = []
    for place, (kind, difficult) in enumerate(chosen, start=first):
        size = int(rng.integers(half // 2, half - 3))
        tall = size if kind == DISC else max(4, size * 3 // 4)
        left, top = place * half + int(rng.integers(1, half - size)), int(rng.integers(1, height - tall))
        found.append((kind, (left, top, left + size - 1, top + tall - 1), difficult))
    return found


def draw(folder: Path, name: str, objects: list[Drawn], width: int, height: int, rng: np.random.Generator) -> None:
    """Write an image, its boxes and its mask, whose edges are void."""
    pixels = rng.integers(90, 150, (height, width, 3)).astype(np.uint8)
    mask = np.zeros((height, width), np.uint8)
    rows, columns = np.mgrid[1 : height + 1, 1 : width + 1]
    for kind, (left, top, right, bottom), _ in objects:
        x, y = (
            (columns - (left + right) / 2) / ((right - left + 1) / 2),
            (rows - (top + bottom) / 2) / ((bottom - top + 1) / 2),
        )
        inside = x**2 + y**2 <= 1 if kind == DISC else np.maximum(abs(x), abs(y)) <= 1
        core = x**2 + y**2 <= 0.7 if kind == DISC else np.maximum(abs(x), abs(y)) <= 0.8
        pixels[inside] = COLOURS[kind]
        mask[inside], mask[core] = 255, 1 + CLASSES.index(kind)
    Image.fromarray(pixels).save(folder / "JPEGImages" / f"{name}.jpg", quality=95)
    picture = Image.fromarray(mask, "P")
    picture.putpalette(PALETTE)
    picture.save(folder / "SegmentationClass" / f"{name}.png")
    write_boxes(folder / "Annotations" / f"{name}.xml", objects, width, height)


def write_boxes(file: Path, objects: list[Drawn], width: int = WIDTH, height: int = HEIGHT) -> None:
    """Write a file of `Annotations`."""
    tree = ElementTree.Element("annotation")
    ElementTree.SubElement(tree, "filename").text = f"{file.stem}.jpg"
    size = ElementTree.SubElement(tree, "size")
    for side, value in (("width", width), ("height", height), ("depth", 3)):
        ElementTree.SubElement(size, side).text = str(value)
    for kind, box, difficult in objects:
        each = ElementTree.SubElement(tree, "object")
        ElementTree.SubElement(each, "name").text = kind
        ElementTree.SubElement(each, "difficult").text = str(int(difficult))
        ends = ElementTree.SubElement(each, "bndbox")
        for end, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
            ElementTree.SubElement(ends, end).text = str(value)
    ElementTree.ElementTree(tree).write(file)


def write_lists(folder: Path, split: str, found: dict[str, list[Drawn]]) -> None:
    """Write the lists of a split: its images, and each class's labels (1, 0 where all are difficult, -1)."""
    names = "".join(f"{name}\n" for name in found)
    for kind in ("Main", "Segmentation"):
        (folder / "ImageSets" / kind / f"{split}.txt").write_text(names)
    for kind in CLASSES:
        lines = []
        for name, objects in found.items():
            flags = [difficult for each, _, difficult in objects if each == kind]
            lines.append(f"{name} {-1 if not flags else 0 if all(flags) else 1:2d}\n")
        (folder / "ImageSets" / "Main" / f"{kind}_{split}.txt").write_text("".join(lines))
