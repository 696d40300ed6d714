"""What lies in a folder of images, drawn at random: classes, links, loops, strays, lists of labels."""

import json
import logging
import os
import random
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gan_lightning.data import ImageFolder
from gan_lightning.data.picture import picture_formats, read_square, read_whole
from gan_lightning.errors import DataError, SettingError

SUFFIXES = [".png", ".jpg", ".JPG", ".jpeg", ".jfif", ".gif", ".bmp", ".webp", ".tiff", ".ppm"]
STRAYS = ["notes.txt", "clip.mp4", "Thumbs.db", "labels.CSV", "archive.tar.gz", "README", "photo.heic", "page.pdf"]
seeds = st.integers(0, 10**9)


@pytest.fixture
def opened(tmp_path):
    return lambda root, **settings: ImageFolder(root, cache_dir=tmp_path / "cache", image_size=8, **settings)


@pytest.fixture
def tree(tmp_path, write_image):
    """Two classes, cats and dogs, with 6 and 3 images of different sizes and formats."""
    for index in range(6):
        write_image(tmp_path / "tree" / "cats" / f"{index}.png", 20 + index, 16, "L" if index == 0 else "RGB")
    for index in range(3):
        write_image(tmp_path / "tree" / "dogs" / "deeper" / f"{index}.jpeg", 12, 30)
    (tmp_path / "tree" / "words.txt").write_text("not an image")
    (tmp_path / "tree" / ".thumbnails").mkdir()
    return tmp_path / "tree"


def touched(*files: Path) -> None:
    """Make empty files, for tests that read no pixels."""
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def classes_of(root: Path, **counts: int) -> Path:
    """Make a folder for each class, with so many empty images."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        touched(*(root / name / f"{index:03}.png" for index in range(count)))
    return root


def every(data: ImageFolder) -> list[tuple[Path, int]]:
    return data.samples("train") + data.samples("test")


def number_of(file: Path) -> int:
    """Return what a file is on the disk."""
    return file.stat().st_ino


class Tree:
    """A random folder of classes with everything that people and programs leave in one."""

    def __init__(self, root: Path, seed: int, links: bool = True) -> None:
        self.rng, self.root = random.Random(seed), root
        self.expected: dict[str, set[Path]] = {}
        self.left_out: Counter[str] = Counter()
        outside = root.parent / f"{root.name}-outside"
        for number in range(self.rng.randint(2, 4)):
            name = f"class {number}"
            (root / name).mkdir(parents=True)
            self.expected[name] = set()
            folders = [root / name]
            for depth in range(self.rng.randint(0, 3)):
                folder = self.rng.choice(folders) / f"deeper {depth}"
                folder.mkdir()
                folders.append(folder)
            for index in range(self.rng.randint(2, 9)):
                file = self.rng.choice(folders) / f"{index}{self.rng.choice(SUFFIXES)}"
                file.touch()
                self.expected[name].add(file.resolve())
            for stray in self.rng.sample(STRAYS, self.rng.randint(0, 3)):
                (self.rng.choice(folders) / stray).touch()
                self.left_out[Path(stray).suffix.lower() or "no suffix"] += 1
            if self.rng.random() < 0.5:
                (self.rng.choice(folders) / ".DS_Store").touch()
                self.left_out["hidden"] += 1
            if links:
                self.link(name, folders, outside / name)

    def link(self, name: str, folders: list[Path], outside: Path) -> None:
        """Add links of all kinds; only `outside` has images that are not in the class already."""
        for number in range(self.rng.randint(0, 6)):
            at = self.rng.choice(folders) / f"link {number}"
            kind = self.rng.choice(
                ["above", "self", "sibling", "root", "slash", "file", "hard", "dead", "out", "twice"]
            )
            if kind in ("above", "self"):
                at.symlink_to(at.parent if kind == "self" else at.parent.parent)
                self.left_out["folder listed already"] += 1
            elif kind == "root":
                at.symlink_to(self.root)
                self.left_out["folder listed already"] += 1
            elif kind == "slash":
                at.symlink_to("/")
                self.left_out["folder listed already"] += 1
            elif kind == "sibling":
                at.symlink_to(os.path.relpath(self.rng.choice(folders), at.parent))
                self.left_out["folder listed already"] += 1
            elif kind in ("file", "hard"):
                target = self.rng.choice(sorted(self.expected[name]))
                at = at.with_suffix(target.suffix)
                at.symlink_to(target) if kind == "file" else at.hardlink_to(target)
                self.left_out["file listed already"] += 1
            elif kind == "dead":
                at.with_suffix(".txt").symlink_to("/nowhere")
                self.left_out[".txt"] += 1
            else:  # a folder elsewhere, with links back, once or twice
                if not outside.exists():
                    touched(outside / "far.png", outside / "far" / "farther.webp")
                    (outside / "back").symlink_to(self.root / name)
                    (outside / "round").symlink_to(outside)
                    self.left_out["folder listed already"] += 2
                    self.expected[name] |= {outside / "far.png", outside / "far" / "farther.webp"}
                else:
                    self.left_out["folder listed already"] += 1
                at.symlink_to(outside)


@settings(max_examples=40)
@given(seed=seeds, fraction=st.sampled_from([0.05, 0.1, 0.3, 0.5, 0.95]))
def test_each_real_file_is_listed_once_with_its_class_and_everything_else_is_counted(tmp_path_factory, seed, fraction):
    root = tmp_path_factory.mktemp("set")
    drawn = Tree(root / "images", seed)
    data = ImageFolder(root / "images", test_fraction=fraction)
    assert data.classes == sorted(drawn.expected)
    found: dict[str, list[int]] = {name: [] for name in data.classes}
    for file, label in every(data):
        found[data.classes[label]].append(number_of(file))
    assert {name: sorted(files) for name, files in found.items()} == {
        name: sorted(map(number_of, files)) for name, files in drawn.expected.items()
    }
    for label, (name, files) in enumerate(sorted(drawn.expected.items())):
        held_out = [file for file, each in data.samples("test") if each == label]
        assert len(held_out) == min(len(files) - 1, max(1, round(fraction * len(files)))), name
    about = data.about
    assert about["left_out"] == drawn.left_out
    assert about["images"] == {split: len(data.samples(split)) for split in ("train", "test")}
    assert {name: sum(counts.values()) for name, counts in about["images_per_class"].items()} == {
        name: len(files) for name, files in drawn.expected.items()
    }
    assert json.loads(json.dumps(about)) == about
    again = ImageFolder(root / "images", test_fraction=fraction)
    assert [every(again), again.about] == [every(data), about]
    shutil.rmtree(root)


@settings(max_examples=15)
@given(seed=seeds)
def test_a_shipped_split_has_each_real_file_once_and_in_one_split_only(tmp_path_factory, seed):
    root, rng = tmp_path_factory.mktemp("set"), random.Random(seed)
    test = rng.choice(["val", "test"])
    drawn = {split: Tree(root / split, seed, links=rng.random() < 0.5) for split in ("train", test)}
    for name, files in drawn["train"].expected.items():
        for number, file in enumerate(rng.sample(sorted(files), 2)):
            (root / test / name / f"leak {number}{file.suffix}").symlink_to(file)
    data = ImageFolder(root)
    for split, part in (("train", "train"), ("test", test)):
        expected = sorted(number_of(file) for files in drawn[part].expected.values() for file in files)
        assert sorted(number_of(file) for file, _ in data.samples(split)) == expected
    leaks = 2 * len(drawn["train"].expected)
    before = sum(part.left_out["file listed already"] for part in drawn.values())
    assert data.about["left_out"]["file listed already"] == leaks + before
    shutil.rmtree(root)


@pytest.mark.parametrize(
    "link",
    [
        lambda root: (root / "b" / "x.png").symlink_to(root / "a" / "000.png"),
        lambda root: (root / "b" / "x.png").hardlink_to(root / "a" / "000.png"),
        lambda root: (root / "b" / "more").symlink_to(root / "a"),
        lambda root: (root / "c").symlink_to(root / "a"),
        lambda root: [(root / "a" / "x").symlink_to("../b"), (root / "b" / "x").symlink_to("../a")],
    ],
    ids=["link to a file", "hard link", "link to a class", "two names of a class", "round"],
)
def test_a_file_that_links_put_into_two_classes_is_refused_with_both(tmp_path, link):
    root = classes_of(tmp_path / "set", a=3, b=3)
    link(root)
    message = r"^'.*/set/\w/.*\.png' must have one class, got '\w', and '\w' as '.*\.png', the same file\. Remove one"
    with pytest.raises(DataError, match=message):
        _ = ImageFolder(root).classes


def test_a_link_among_the_classes_to_the_folder_above_is_no_class(tmp_path):
    root = classes_of(tmp_path / "set", a=3, b=3)
    (root / "all").symlink_to(root)
    (root / "up").symlink_to("..")
    data = ImageFolder(root)
    assert data.classes == ["a", "b"]
    assert len(every(data)) == 6
    assert data.about["left_out"] == {"folder listed already": 2}


def test_classes_and_folders_may_themselves_be_links(tmp_path):
    store = classes_of(tmp_path / "store" / ".git" / "objects", a=3, b=3)
    root = tmp_path / "set"
    for name in "ab":
        (root / name).mkdir(parents=True)
        for file in (store / name).iterdir():
            (root / name / file.name).symlink_to(file)
    (tmp_path / "by folder").mkdir()
    for name in "ab":
        (tmp_path / "by folder" / name).symlink_to(store / name)
    (tmp_path / "whole").symlink_to(root)
    for place in (root, tmp_path / "by folder", tmp_path / "whole"):
        assert (ImageFolder(place).classes, len(every(ImageFolder(place)))) == (["a", "b"], 6)


def test_every_suffix_that_pillow_reads_is_taken_and_the_images_decode(tmp_path, opened, write_image):
    names = [f"{index}{suffix}" for index, suffix in enumerate(SUFFIXES)]
    for name in names:
        write_image(tmp_path / "flat" / name)
    data = opened(tmp_path / "flat", test_fraction=0.3)
    assert sorted(file.name for file, _ in every(data)) == sorted(names)
    data.setup("fit")
    assert len(data.store("train")) + len(data.store("test")) == len(names)
    _, suffixes = picture_formats()
    touched(*(tmp_path / "all" / f"{index}{suffix}" for index, suffix in enumerate(sorted(suffixes))))
    assert len(every(ImageFolder(tmp_path / "all"))) == len(suffixes)


def test_what_was_taken_and_what_was_left_out_is_one_line_of_the_log(tmp_path, caplog):
    root = classes_of(tmp_path / "set", a=10, b=10)
    touched(*(root / "a" / f"{index}.txt" for index in range(10)), root / "x.mp4", root / "b" / "y.mp4")
    data = ImageFolder(root)
    _ = data.classes, data.num_classes, data.label_kind, data.about
    assert [record.message for record in caplog.records] == [
        f"'{root}': 20 images, 2 classes, left out: 12 (.txt 10, .mp4 2); 18 to train on, 2 to test on."
    ]
    assert data.about == {
        "images": {"train": 18, "test": 2},
        "images_per_class": {"a": {"train": 9, "test": 1}, "b": {"train": 9, "test": 1}},
        "without_label": {"train": 0, "test": 0},
        "left_out": {".txt": 10, ".mp4": 2},
    }


def test_where_nothing_is_left_out_the_line_is_no_warning(tmp_path, caplog):
    caplog.set_level(logging.INFO, "gan_lightning")
    root = classes_of(tmp_path / "set", a=2, b=2)
    touched(root / ".DS_Store")
    assert ImageFolder(root).num_classes == 2
    assert [(record.levelname, record.message.split("': ")[1]) for record in caplog.records] == [
        ("INFO", "4 images, 2 classes, left out: 1 (hidden 1); 2 to train on, 2 to test on.")
    ]


def test_what_lies_beside_a_shipped_split_is_counted(tmp_path):
    for part in ("train", "val", "test"):
        classes_of(tmp_path / "set" / part, a=2, b=3)
    touched(tmp_path / "set" / "preview.png", tmp_path / "set" / "words.txt", tmp_path / "set" / ".git" / "x")
    data = ImageFolder(tmp_path / "set")
    assert data.about["images"] == {"train": 5, "test": 5}
    assert data.about["left_out"] == {"folder 'test'": 5, ".png": 1, ".txt": 1, "hidden": 1}
    assert all("/val/" in str(file) for file, _ in data.samples("test"))


def test_a_folder_declares_itself_before_any_image_is_read(tree, opened):
    for file in tree.rglob("*.*g"):
        file.write_text("damaged")
    data = opened(tree)
    assert (data.name, data.channels, data.image_size) == ("tree", 3, 8)
    assert (data.label_kind, data.num_classes, data.classes) == ("classes", 2, ["cats", "dogs"])


def test_a_shipped_split_is_used(tmp_path, opened, write_image):
    for part in ("train", "val"):
        for name, count in (("cats", 2), ("dogs", 1)):
            for index in range(count):
                write_image(tmp_path / "set" / part / name / f"{index}.png")
    data = opened(tmp_path / "set")
    assert data.name == "set"
    for split, part in (("train", "train"), ("test", "val")):
        files = [tmp_path / "set" / part / name for name in ("cats/0.png", "dogs/0.png", "cats/1.png")]
        expected = np.stack([read_square(file, 8, None) for file in files])
        np.testing.assert_array_equal(data.store(split).images.numpy(), expected)
        assert data.store(split).labels.tolist() == [0, 1, 0]
    (tmp_path / "set" / "val").rename(tmp_path / "set" / "test")
    assert len(opened(tmp_path / "set").store("test")) == 3


@settings(max_examples=15)
@given(sizes=st.lists(st.integers(2, 12), min_size=2, max_size=5), limit=st.integers(1, 60))
def test_classes_alternate_in_both_splits_so_that_a_limit_keeps_all_of_them(tmp_path_factory, sizes, limit):
    root = classes_of(tmp_path_factory.mktemp("set"), **{f"c{index}": size for index, size in enumerate(sizes)})
    data = ImageFolder(root, test_fraction=0.4)
    for split in ("train", "test"):
        labels = [label for _, label in data.samples(split)]
        counts = Counter(labels[:limit])
        whole = Counter(labels)
        largest = max(counts.values())
        assert all(counts[label] >= min(largest - 1, whole[label]) for label in whole)
    shutil.rmtree(root)


def test_what_is_held_out_of_a_class_does_not_depend_on_the_others(tmp_path):
    def held_out(**counts):
        shutil.rmtree(tmp_path / "set", ignore_errors=True)
        data = ImageFolder(classes_of(tmp_path / "set", **counts), test_fraction=0.3)
        return [file.name for file, label in data.samples("test") if data.classes[label] == "m"]

    assert held_out(m=20, z=2) == held_out(m=20, a=7, b=9) == held_out(m=20, z=30)
    assert len(held_out(m=20, z=2)) == 6


def test_a_class_of_one_image_stays_in_training_and_is_named(tmp_path, caplog):
    data = ImageFolder(classes_of(tmp_path / "set", a=1, b=1, c=5))
    assert data.about["images_per_class"]["a"] == {"train": 1, "test": 0}
    assert Counter(label for _, label in data.samples("test")) == {2: 1}
    assert "has no image for the test split of 2 classes: 'a', 'b'. Figures say nothing about them." in caplog.text


def test_classes_of_one_image_each_cannot_be_split(tmp_path):
    names = "abcdefghij"
    with pytest.raises(DataError, match=r"/set' must hold images for the test split, got 10 images, 10 classes\. Add"):
        _ = ImageFolder(classes_of(tmp_path / "set", **dict.fromkeys(names, 1))).num_classes


def test_one_class_alone_is_no_label_and_is_said(tmp_path, caplog):
    root = classes_of(tmp_path / "set", images=10)
    (root / "labels.csv").touch()
    data = ImageFolder(root)
    assert (data.label_kind, data.num_classes, data.classes) == ("none", 0, [])
    assert {label for _, label in every(data)} == {-1}
    assert data.about["without_label"] == {"train": 9, "test": 1}
    assert (
        f"'{root}' has one class only, 'images': there are no labels to evaluate with, and label_kind is none. "
        "Labels from a list: labels_file=labels.csv." in caplog.messages
    )


def test_images_of_one_folder_have_no_labels(tmp_path, opened, write_image):
    for name in ("b.png", "a.JPG", "c.webp"):
        write_image(tmp_path / "flat" / name)
    (tmp_path / "flat" / "notes").mkdir()
    touched(tmp_path / "flat" / "notes" / "a.txt")
    data = opened(tmp_path / "flat", test_fraction=0.3)
    assert (data.label_kind, data.num_classes) == ("none", 0)
    assert sorted(file.name for file, _ in every(data)) == ["a.JPG", "b.png", "c.webp"]
    assert data.store("train").labels.tolist() == [-1, -1]
    assert data.store("test").images.shape == (1, 3, 8, 8)
    assert data.about["left_out"] == {".txt": 1}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("crop_from", [None, 10])
def test_images_are_grey_or_in_colour_as_asked(tree, opened, channels, crop_from):
    data = opened(tree, channels=channels, crop_from=crop_from)
    images, _ = next(iter(data.evaluation_batches("test", torch.device("cpu"))))
    assert (data.channels, images.shape[1:]) == (channels, (channels, 8, 8))
    first, _ = data.samples("test")[0]
    expected = read_square(first, crop_from or 8, None, channels)
    np.testing.assert_array_equal(data.store("test").images[0].numpy(), expected)


def test_training_squares_come_from_all_of_the_resized_image_and_others_from_its_middle(tmp_path, opened):
    for name, (width, height) in (("wide", (36, 24)), ("tall", (20, 35)), ("square", (30, 30))):
        ramp = np.linspace(0, 255, max(width, height)).astype(np.uint8)
        image = np.tile(ramp, (height, 1))[:, :width] if width >= height else np.tile(ramp[:, None], (1, width))
        for index in range(3):
            (tmp_path / "set" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(tmp_path / "set" / name / f"{index}.png")
    data = opened(tmp_path / "set", crop_from=10, batch_size=4, channels=1)
    whole = [read_whole(file, 10, channels=1) for file, _ in data.samples("train")]
    squares = [square for square, _ in (data.store("train")[torch.tensor([index])] for index in range(len(whole)))]
    for square, (file, _) in zip(squares, data.samples("train"), strict=True):
        np.testing.assert_array_equal(square[0].numpy(), read_square(file, 10, None, channels=1))
    places: list[set[tuple[int, int]]] = [set() for _ in whole]
    for epoch in range(120):
        images, _ = data.store("train").for_training(0, epoch)(torch.arange(len(whole)))
        assert images.shape[1:] == (1, 8, 8)
        for number, (cut, image) in enumerate(zip(images.numpy(), whole, strict=True)):
            rows, columns = (edge - 8 + 1 for edge in image.shape[1:])
            places[number] |= {(row, column) for row in range(rows) for column in range(columns)
                               if np.array_equal(image[:, row : row + 8, column : column + 8], cut)}  # fmt: skip
            assert places[number]
    for image, found in zip(whole, places, strict=True):
        assert len(found) == np.prod([edge - 7 for edge in image.shape[1:]]), "some place was never cut out"


def test_a_limit_decodes_no_more_than_it_keeps(tree, opened):
    (last, _) = opened(tree).samples("train")[-1]
    last.write_text("damaged")
    assert len(opened(tree, limit=3).store("train")) == 3


def test_a_damaged_image_is_named(tree, opened):
    file = tree / "dogs" / "deeper" / "2.jpeg"
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(
        DataError, match=rf"^'{file}' cannot be read as an image \(.*[Tt]runcated.*\)\. Replace or remove"
    ):
        opened(tree).prepare_data()


def links_to_nothing(root: Path) -> None:
    (classes_of(root, a=2, b=2) / "a" / "z.png").symlink_to("/nowhere")


def links_to_itself(root: Path) -> None:
    (classes_of(root, a=2, b=2) / "a" / "z.png").symlink_to("z.png")


def leaks(root: Path) -> None:
    (classes_of(root / "train", a=2, b=2).parent / "val").symlink_to("train")


BOTH = r"must hold images or folders of images, got both: 2 images \('x\.png', 'y\.png'\) and 2 folders with 4 \('a'"
UNUSABLE = {
    "missing": (lambda root: None, r"^No folder '.*/set'\. Set root to a folder of images\.$"),
    "a file": (lambda root: root.touch(), r"^No folder '.*/set'\. Set root to a folder of images\.$"),
    "empty": (lambda root: root.mkdir(), r"^'.*/set' holds neither images nor class folders\. Set root"),
    "no images": (
        lambda root: touched(root / "a.heic", root / "b.txt"),
        r"holds neither images nor class folders, left out: 2 \(\.heic 1, \.txt 1\)\. Set",
    ),
    "empty class": (
        lambda root: (classes_of(root, a=2) / "cats").mkdir(),
        r"^'.*/set' must hold images of each class, got none in 'cats'\. Add images, or remove the folders\.$",
    ),
    "class of no images": (
        lambda root: touched(*(classes_of(root, a=2) / "cats" / f"{index}.heic" for index in range(3))),
        r"must hold images of each class, got none in 'cats', left out: 3 \(\.heic 3\)\. Add images",
    ),
    "no test split": (
        lambda root: classes_of(root / "train", a=2),
        r"^'.*/set' has 'train' but neither 'val' nor 'test'\. Add the test images there, or, if 'train' is a class",
    ),
    "images beside classes": (
        lambda root: touched(classes_of(root, a=2, b=2) / "x.png", root / "y.png"),
        BOTH + r".*\. Move",
    ),
    "images beside classes of a split": (
        lambda root: touched(*(classes_of(root / part, a=2, b=2) / name for part in ("train", "val")
                               for name in ("x.png", "y.png"))),
        "/train' " + BOTH,
    ),
    "splits by other names": (
        lambda root: classes_of(root, training=2, test=2),
        r"must hold classes, or 'train' and 'val' or 'test', got the folders 'test', 'training'\. Call the folder",
    ),
    "other classes in a split": (
        lambda root: (classes_of(root / "train", a=2, b=2), classes_of(root / "val", a=2, c=2)),
        r"/val' must hold the same class folders as '.*/train', got 'b', 'c' in one of them only\. Add or remove",
    ),
    "classes in one split alone": (
        lambda root: (classes_of(root / "train", a=2, b=2), touched(root / "val" / "x.png")),
        r"/val' must hold the same class folders as '.*/train', got 'a', 'b' in one of them only\.",
    ),
    "one image": (
        lambda root: touched(root / "a.png"),
        r"/set' must hold images for the test split, got 1 image, no classes\. Add images\.$",
    ),
    "the same folder twice": (leaks, r"/val' must hold images for the test split, got 4 images, 2 classes, left out"),
    "link to nothing": (links_to_nothing, r"/a/z\.png' cannot be found \(No such file or directory\)\. Put the file"),
    "link to itself": (links_to_itself, r"/a/z\.png' cannot be found \(Too many levels of symbolic links\)\. Put"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "message"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_folder_that_cannot_be_used_is_named(tmp_path, make, message):
    make(tmp_path / "set")
    data = ImageFolder(tmp_path / "set")
    for ask in (lambda: data.num_classes, lambda: data.label_kind, lambda: data.about, lambda: data.setup("fit")):
        with pytest.raises(DataError, match=message) as caught:
            ask()
        assert str(caught.value).isprintable()


def test_what_is_no_file_is_left_out_whatever_its_suffix(tmp_path):
    root = classes_of(tmp_path / "set", a=2, b=2)
    os.mkfifo(root / "a" / "pipe.png")
    (root / "a" / "broken.txt").symlink_to("/nowhere")
    assert ImageFolder(root).about["left_out"] == {"no file": 1, ".txt": 1}


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    root = classes_of(tmp_path / "set", a=2, b=2)
    scanned = os.scandir

    def forbidden(folder):
        if str(folder).endswith("/b"):
            raise PermissionError(13, "Permission denied", folder)
        return scanned(folder)

    monkeypatch.setattr(os, "scandir", forbidden)
    with pytest.raises(DataError, match=rf"^'{root}/b' cannot be listed \(Permission denied\)\. Make it readable, or"):
        _ = ImageFolder(root).classes


@pytest.mark.parametrize("name", [b"caf\xe9", b"two\nlines", "größer ☃".encode(), b" blank ", b"[red]"])
def test_folders_and_classes_may_have_any_name(tmp_path, write_image, caplog, name):
    root = tmp_path / os.fsdecode(name)
    for number in range(2):
        write_image(root / os.fsdecode(name) / f"{os.fsdecode(name)}{number}.png")
        write_image(root / "other" / f"{number}.png")
    touched(root / f"{os.fsdecode(name)}.txt")
    data = ImageFolder(root, image_size=8, cache_dir=tmp_path / "cache")
    data.setup("fit")
    assert len(data.store("train")) == len(data.store("test")) == 2
    assert data.classes == sorted([os.fsdecode(name), "other"])
    json.dumps(data.about, ensure_ascii=False).encode()
    assert all(message.isprintable() and message.encode() for message in caplog.messages)


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_the_held_out_share_must_be_a_share(fraction):
    with pytest.raises(SettingError, match=rf"^test_fraction must be between 0 and 1, got {fraction}\."):
        ImageFolder(test_fraction=fraction)


@pytest.mark.parametrize("channels", [0, 5])
def test_images_have_one_to_four_channels(channels):
    with pytest.raises(SettingError, match=rf"^channels must be 3 .* or 1 .*, or 4 or 2 .*, got {channels}\."):
        ImageFolder(channels=channels)


def test_there_is_nowhere_to_download_from():
    with pytest.raises(SettingError, match=r"^download must be false for an ImageFolder, got true\."):
        ImageFolder(download=True)


def test_real_folders_decode(shared_data, tmp_path):
    photographs = ImageFolder(shared_data / "tiny-imagenet-20", cache_dir=tmp_path, limit=100)
    assert (photographs.name, photographs.num_classes) == ("tiny-imagenet-20", 20)
    images, labels = next(iter(photographs.evaluation_batches("train", torch.device("cpu"))))
    assert images.shape == (100, 3, 64, 64)
    assert labels.bincount().tolist() == [5] * 20
    faces = ImageFolder(shared_data / "anime-faces" / "images", cache_dir=tmp_path, limit=50)
    assert faces.label_kind == "none"
    assert faces.store("test").images.shape == (50, 3, 64, 64)


@pytest.mark.parametrize("root", ["anime-faces", "anime-faces/images"])
@pytest.mark.parametrize(("column", "count"), [("hair", 12), ("eyes", 11)])
def test_real_faces_have_the_colours_that_their_list_says(shared_data, root, column, count):
    data = ImageFolder(shared_data / root, labels_file=shared_data / "anime-faces" / "labels.csv", label_column=column)
    assert (data.label_kind, data.num_classes) == ("classes", count)
    rows = [row.split(",") for row in (shared_data / "anime-faces" / "labels.csv").read_text().splitlines()]
    expected = {row[0]: row[rows[0].index(column)] for row in rows[1:]}
    assert {file.name: data.classes[label] for file, label in every(data)} == expected
    assert all(counts["test"] >= 1 for counts in data.about["images_per_class"].values())
