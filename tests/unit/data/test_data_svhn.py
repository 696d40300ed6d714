import numpy as np
import pytest
from scipy.io import savemat

from gan_lightning.data import SVHN
from gan_lightning.errors import DataError

COUNTS = {"train": 6, "test": 4, "extra": 3}


@pytest.fixture
def written(tmp_path, rng):
    """Write the three parts; return their images, images first, and their labels, 1 to 10."""
    parts = {}
    for part, count in COUNTS.items():
        images = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
        labels = np.arange(10, 10 - count, -1, np.uint8)
        savemat(
            tmp_path / f"{part}_32x32.mat", {"X": np.moveaxis(images, 0, 3), "y": labels[:, None]}, do_compression=True
        )
        parts[part] = images, labels
    return parts


def test_images_are_read_and_label_10_is_the_digit_0(tmp_path, written, caplog):
    data = SVHN(tmp_path, verify=False)
    for split in ("train", "test"):
        images, _ = written[split]
        np.testing.assert_array_equal(data.store(split).images.permute(0, 2, 3, 1).numpy(), images)
        assert data.store(split).labels.tolist() == [0, 9, 8, 7, 6, 5][: len(images)]
    assert f"'{tmp_path}/train_32x32.mat' is not the published file (MD5). Accepted" in caplog.text


def test_the_extra_part_joins_the_training_split_alone(tmp_path, written):
    data = SVHN(tmp_path, verify=False, extra=True)
    expected = np.concatenate([written["train"][0], written["extra"][0]])
    np.testing.assert_array_equal(data.store("train").images.permute(0, 2, 3, 1).numpy(), expected)
    assert data.store("train").labels.tolist() == [0, 9, 8, 7, 6, 5, 0, 9, 8]
    assert len(data.store("test")) == 4


def test_other_files_than_the_published_ones_are_refused(tmp_path, written):
    with pytest.raises(DataError, match=r"test_32x32\.mat' is not the published file \(MD5\)\..*verify=false\.$"):
        SVHN(tmp_path).setup("test")


IMAGES, DIGITS = np.zeros((32, 32, 3, 4), np.uint8), np.ones((4, 1), np.uint8)
CONTENTS = {
    "empty": b"",
    "a web page": b"<html>Not found</html>",
    "no images": {"y": DIGITS},
    "no labels": {"X": IMAGES},
    "grey": {"X": IMAGES[:, :, 0], "y": DIGITS},
    "another size": {"X": IMAGES[:28, :28], "y": DIGITS},
    "too few labels": {"X": IMAGES, "y": DIGITS[:3]},
    "fractions": {"X": IMAGES / 255.0, "y": DIGITS},
    "values above 255": {"X": IMAGES.astype(np.int64) + 256, "y": DIGITS},
    "a label that there is not": {"X": IMAGES, "y": DIGITS * 11},
    "labels in words": {"X": IMAGES, "y": np.array(["one"] * 4)},
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_whatever_is_wrong_with_a_file_it_is_named(tmp_path, content):
    file = tmp_path / "test_32x32.mat"
    file.write_bytes(content) if isinstance(content, bytes) else savemat(file, content)
    with pytest.raises(DataError, match=rf"^'{file}' cannot be read \(.+\)\. Fetch it anew\.$") as caught:
        SVHN(tmp_path, verify=False).setup("test")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_named(tmp_path, written, share):
    file = tmp_path / "test_32x32.mat"
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    with pytest.raises(DataError, match=rf"^'{file}' cannot be read \(.+\)\. Fetch it anew\.$"):
        SVHN(tmp_path, verify=False).setup("test")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=rf"^svhn not found: no '{tmp_path}/test_32x32\.mat'\. Fetch it with"):
        SVHN(tmp_path).prepare_data()


@pytest.mark.parametrize(("extra", "parts"), [(False, ["train", "test"]), (True, ["train", "extra", "test"])])
def test_only_the_parts_in_use_are_downloaded(tmp_path, monkeypatch, extra, parts):
    downloads = []
    monkeypatch.setattr("torchvision.datasets.SVHN.__init__", lambda self, root, part, download: downloads.append(part))
    SVHN(tmp_path, download=True, extra=extra).fetch()
    assert downloads == parts
