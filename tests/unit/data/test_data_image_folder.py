import numpy as np
import pytest
import torch

from gan_lightning.data import ImageFolder
from gan_lightning.data.decoded import read_square
from gan_lightning.errors import DataError, SettingError


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


def file_of(tree, label, index):
    return tree / "cats" / f"{index}.png" if label == 0 else tree / "dogs" / "deeper" / f"{index}.jpeg"


def test_a_folder_declares_itself_before_any_image_is_read(tree, opened):
    for file in tree.rglob("*.*g"):
        file.write_text("damaged")
    data = opened(tree)
    assert (data.name, data.channels, data.image_size) == ("tree", 3, 8)
    assert (data.label_kind, data.num_classes, data.classes) == ("classes", 2, ["cats", "dogs"])


def test_a_shipped_split_is_used(tmp_path, tree, opened, write_image):
    for part in ("train", "val"):
        (tmp_path / "set").mkdir(exist_ok=True)
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


def test_classes_alternate_so_that_a_limit_keeps_all_of_them(tree, opened):
    samples = opened(tree).list_files(tree)
    turns = [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2), (0, 3), (0, 4), (0, 5)]
    assert samples == [(file_of(tree, label, index), label) for label, index in turns]
    assert set(opened(tree, limit=2).store("train").labels.tolist()) == {0, 1}


@pytest.mark.parametrize(("fraction", "held_out"), [(0.1, 1), (0.34, 3), (0.5, 4)])
def test_a_fixed_share_is_held_out_where_no_split_is_shipped(tree, opened, fraction, held_out):
    data = opened(tree, test_fraction=fraction)
    train, test = data.samples("train"), data.samples("test")
    assert len(test) == held_out
    assert sorted(train + test) == sorted(data.list_files(tree))
    assert opened(tree, test_fraction=fraction).samples("test") == test


def test_images_of_one_folder_have_no_labels(tmp_path, opened, write_image):
    for name in ("b.png", "a.JPG", "c.webp"):
        write_image(tmp_path / "flat" / name)
    data = opened(tmp_path / "flat", test_fraction=0.3)
    assert (data.label_kind, data.num_classes) == ("none", 0)
    assert [file.name for file, _ in data.list_files(tmp_path / "flat")] == ["a.JPG", "b.png", "c.webp"]
    assert data.store("train").labels.tolist() == [-1, -1]
    assert data.store("test").images.shape == (1, 3, 8, 8)


def test_a_damaged_image_is_named(tree, opened):
    file = file_of(tree, 1, 2)
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(
        DataError, match=rf"^'{file}' cannot be read as an image \(.*[Tt]runcated.*\)\. Replace or remove"
    ):
        opened(tree).prepare_data()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, r"^No folder '.*/set'\. Set --data\.root to a folder of images\.$"),
        (lambda root: root.mkdir(), r"^'.*/set' holds neither images nor class folders\."),
        (lambda root: (root / "cats").mkdir(parents=True), r"^'.*/set' must hold images of each class \(.*cats"),
        (lambda root: (root / "train" / "cats").mkdir(parents=True), r"^'.*/set' has 'train' but neither 'val' nor"),
    ],
    ids=["missing", "empty", "empty class", "no test split"],
)
def test_a_folder_that_cannot_be_used_is_named(tmp_path, opened, make, message):
    make(tmp_path / "set")
    with pytest.raises(DataError, match=message):
        opened(tmp_path / "set").setup("fit")


def test_a_missing_folder_is_named_when_the_classes_are_asked_for(tmp_path, opened):
    data = opened(tmp_path / "nowhere")
    for declared in ("num_classes", "label_kind"):
        with pytest.raises(DataError, match=r"^No folder '.*/nowhere'\."):
            getattr(data, declared)


def test_both_splits_must_have_the_same_classes(tmp_path, opened, write_image):
    write_image(tmp_path / "set" / "train" / "cats" / "0.png")
    write_image(tmp_path / "set" / "val" / "dogs" / "0.png")
    with pytest.raises(DataError, match=r"^'.*/set/val' must hold the same class folders as '.*/set/train'\.$"):
        opened(tmp_path / "set").setup("test")


def test_a_single_image_cannot_be_split(tmp_path, opened, write_image):
    write_image(tmp_path / "flat" / "a.png")
    with pytest.raises(DataError, match=r"^'.*/flat' holds 1 image, too few to hold one out\. Add images\.$"):
        opened(tmp_path / "flat").setup("fit")


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_the_held_out_share_must_be_a_share(fraction):
    with pytest.raises(SettingError, match=rf"^test_fraction must be between 0 and 1, got {fraction}\."):
        ImageFolder(test_fraction=fraction)


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


def test_images_are_decoded_at_the_size_that_squares_are_cut_from(tree, opened):
    data = opened(tree, crop_from=12)
    stored = data.store("train").images
    first, label = data.samples("train")[0]
    np.testing.assert_array_equal(stored[0].numpy(), read_square(first, 12, None))
    images, labels = next(iter(data.evaluation_batches("train", torch.device("cpu"))))
    assert (images.shape[2:], labels[0]) == ((8, 8), label)
    torch.testing.assert_close(images[0], stored[0, :, 2:10, 2:10] / 127.5 - 1)
