"""What `apply` writes."""

import numpy as np
import pytest
import torch
from PIL import Image

from gan_lightning.applications.base import ClassImages
from gan_lightning.apply import write_data_set
from gan_lightning.data import ImageFolder


def data_set(train_labels: list[int], test_labels: list[int], channels: int = 1) -> ClassImages:
    rng = torch.Generator().manual_seed(0)
    splits = {
        split: (torch.rand(len(labels), channels, 8, 8, generator=rng) * 2 - 1, torch.tensor(labels))
        for split, labels in (("train", train_labels), ("test", test_labels))
    }
    return ClassImages(splits, ["cat", "dog", "eel"])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_written_data_set_is_read_back_with_its_splits_classes_and_bytes(tmp_path, channels):
    written = data_set([0, 1, 2, 1], [2, 0, 1], channels)
    write_data_set(tmp_path / "made", written)
    data = ImageFolder(tmp_path / "made", image_size=8, cache_dir=tmp_path / "cache")
    assert data.classes == ["cat", "dog", "eel"]
    for split in ("train", "test"):
        store = data.store(split)
        images, labels = written.splits[split]
        expected = ((images + 1) * 127.5).round().to(torch.uint8).expand(-1, 3, -1, -1)
        assert len(store) == len(images)
        for image, label in zip(expected, labels, strict=True):
            same = (store.images == image).flatten(1).all(dim=1)
            assert store.labels[same].tolist() == [label]


def test_classes_that_a_split_lacks_are_left_out_of_both(tmp_path):
    write_data_set(tmp_path / "made", data_set([0, 1, 1], [1, 2]))
    files = sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.png"))
    assert files == ["made/test/dog/000000.png", "made/train/dog/000001.png", "made/train/dog/000002.png"]


def test_values_out_of_range_become_black_and_white_and_do_not_wrap(tmp_path):
    images = torch.tensor([-1.2, -1.0, 0.0, 1.0, 1.3]).reshape(1, 1, 1, 5)
    labels = torch.zeros(1, dtype=torch.int64)
    write_data_set(tmp_path / "made", ClassImages({"train": (images, labels)}, ["all"]))
    pixels = np.asarray(Image.open(tmp_path / "made/train/all/000000.png"))
    assert pixels.tolist() == [[0, 0, 128, 255, 255]]


def test_a_data_set_that_cannot_be_finished_leaves_nothing_behind(tmp_path):
    broken = data_set([0, 1], [0, 1])
    broken.classes[1] = "no/such\0name"
    with pytest.raises(ValueError, match="null byte"):
        write_data_set(tmp_path / "made", broken)
    assert not list(tmp_path.iterdir())
