import gzip

import numpy as np
import pytest
import torch

from gan_lightning.data import MNIST
from gan_lightning.errors import DataError, SettingError

COUNTS = {"train": 7, "t10k": 5}


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
    return header + array.tobytes()


@pytest.fixture
def arrays(rng):
    return {
        part: (rng.integers(0, 256, (count, 28, 28), np.uint8), rng.integers(0, 10, count, np.uint8))
        for part, count in COUNTS.items()
    }


@pytest.fixture(params=["raw", "gz"])
def root(tmp_path, arrays, request):
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part, (images, labels) in arrays.items():
        for name, array in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
            if request.param == "gz":
                (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
            else:
                (folder / name).write_bytes(idx(array))
    return tmp_path


def test_the_files_are_read_as_they_are_and_nothing_is_written(root, arrays, caplog):
    before = sorted(root.rglob("*"))
    data = MNIST(root, verify=False)
    data.prepare_data()
    for split, part in (("train", "train"), ("test", "t10k")):
        images, labels = arrays[part]
        np.testing.assert_array_equal(data.store(split).images[:, 0].numpy(), images)
        np.testing.assert_array_equal(data.store(split).labels.numpy(), labels)
    assert sorted(root.rglob("*")) == before
    assert "holds (7, 28, 28) values, not 60,000 images. Accepted, since verify is false." in caplog.text


def test_a_subset_is_refused_by_default(root):
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte(\.gz)?' is not the published file \(MD5\)"):
        MNIST(root).setup("test")


def test_a_truncated_file_is_named(root):
    (file,) = (root / "MNIST" / "raw").glob("t10k-images*")
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(
        DataError, match=rf"^'{file}' is (damaged \(.*\)|not an IDX file of bytes, or is cut short)\. Fetch"
    ):
        MNIST(root, verify=False).setup("test")


@pytest.mark.parametrize("content", [b"", b"\0\0\x08", b"\0\0\x0d\1" + bytes(8), b"<html>Not found</html>"])
def test_a_file_of_another_kind_is_named(tmp_path, content):
    file = tmp_path / "labels"
    file.write_bytes(content)
    with pytest.raises(DataError, match=rf"^'{file}' is not an IDX file of bytes"):
        MNIST().read_idx(file)


def test_images_and_labels_must_be_equally_many(root, arrays):
    for file in (root / "MNIST" / "raw").glob("t10k-labels*"):
        content = idx(arrays["train"][1])
        file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)
    with pytest.raises(DataError, match=r"holds \(5, 28, 28\) values, .* \(7,\) labels"):
        MNIST(root, verify=False).setup("test")


def test_missing_files_are_named_with_the_way_to_fetch_them(tmp_path):
    message = (
        rf"^mnist not found: no '{tmp_path}/MNIST/raw/t10k-images-idx3-ubyte'\. Fetch it with --data\.download=true "
        rf"\(in Python: MNIST\('{tmp_path}', download=True\)\.prepare_data\(\)\)\.$"
    )
    with pytest.raises(DataError, match=message):
        MNIST(tmp_path).prepare_data()


def test_only_missing_files_are_downloaded(root, tmp_path, monkeypatch):
    downloads = []
    monkeypatch.setattr("torchvision.datasets.MNIST", lambda root, download: downloads.append((root, download)))
    MNIST(root, download=True).fetch()
    assert downloads == []
    MNIST(tmp_path / "empty", download=True).fetch()
    assert downloads == [(tmp_path / "empty", True)]


@pytest.mark.parametrize("enlarge", ["pad", "resize"])
def test_28_pixels_become_32(root, arrays, enlarge):
    data = MNIST(root, verify=False, enlarge=enlarge)
    images, _ = next(iter(data.evaluation_batches("test", torch.device("cpu"))))
    assert images.shape == (5, 1, 32, 32)
    exact = torch.from_numpy(arrays["t10k"][0]).float() / 127.5 - 1
    assert torch.equal(images[:, 0, 2:30, 2:30], exact) == (enlarge == "pad")


def test_padding_cannot_make_images_smaller():
    message = r"^image_size must be at least 28 with enlarge=pad, got 16\. Set --data\.enlarge=resize\.$"
    with pytest.raises(SettingError, match=message):
        MNIST(image_size=16)
    assert MNIST(image_size=16, enlarge="resize").image_size == 16


def test_the_published_files_pass_and_have_the_published_statistics(shared_data):
    data = MNIST(shared_data)
    data.setup("fit")
    assert data.store("train").labels.bincount().tolist() == [
        5923,
        6742,
        5958,
        6131,
        5842,
        5421,
        5918,
        6265,
        5851,
        5949,
    ]
    pixels = data.store("train").images.float() / 255
    assert (round(float(pixels.mean()), 4), round(float(pixels.std()), 4)) == (0.1307, 0.3081)
    assert len(data.store("test")) == 10_000
