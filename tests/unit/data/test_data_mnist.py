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


def header(*dimensions: int, kind: int = 8) -> bytes:
    return bytes([0, 0, kind, len(dimensions)]) + np.array(dimensions, ">i4").tobytes()


DAMAGES = {
    "truncated": lambda whole: whole[:-20],
    "too long": lambda whole: whole + b"\0",
    "empty": lambda whole: b"",
    "half a header": lambda whole: whole[:6],
    "magic alone": lambda whole: whole[:3],
    "no dimensions": lambda whole: header(),
    "of floats": lambda whole: header(2, kind=13) + bytes(8),
    "a web page": lambda whole: b"<html>Not found</html>",
    "less than none": lambda whole: header(-1, -1, 1) + b"\0",
    "more than there are": lambda whole: header(2**31 - 1, 2**31 - 1, 28) + bytes(28),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("part", ["images", "labels"])
def test_whatever_is_wrong_with_a_file_it_is_named(root, damage, part):
    (file,) = (root / "MNIST" / "raw").glob(f"t10k-{part}*")
    packed = file.suffix == ".gz"
    content = damage(gzip.decompress(file.read_bytes()) if packed else file.read_bytes())
    file.write_bytes(gzip.compress(content) if packed else content)
    message = rf"^'{file}' cannot be read \(it is not an IDX file of bytes, or is cut short\)\. Fetch it anew\.$"
    with pytest.raises(DataError, match=message):
        MNIST(root, verify=False).setup("test")


@pytest.mark.parametrize(
    "damage", [lambda whole: whole[:-9], lambda whole: b"no gzip", lambda whole: whole[:15] + b"x" * 9]
)
def test_a_damaged_archive_is_named(tmp_path, arrays, damage):
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, array in zip(("images-idx3", "labels-idx1"), arrays["t10k"], strict=True):
        (folder / f"t10k-{name}-ubyte.gz").write_bytes(gzip.compress(idx(array)))
    file = folder / "t10k-images-idx3-ubyte.gz"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DataError, match=rf"^'{file}' cannot be read \(.+\)\. Fetch it anew\.$"):
        MNIST(tmp_path, verify=False).setup("test")


def test_what_is_no_file_is_named(tmp_path):
    file = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    file.mkdir(parents=True)
    file.with_name("t10k-labels-idx1-ubyte").touch()
    with pytest.raises(DataError, match=rf"^'{file}' cannot be read \(Is a directory\)\. Fetch it anew\.$"):
        MNIST(tmp_path, verify=False).setup("test")


@pytest.mark.parametrize(
    ("images", "labels"),
    [((5, 28, 28), (7,)), ((5, 27, 28), (5,)), ((5, 40, 40), (5,)), ((5, 784), (5,)), ((5, 28, 28), (5, 1))],
)
def test_images_have_28_pixels_and_a_label_each(root, images, labels):
    for name, shape in (("images", images), ("labels", labels)):
        for file in (root / "MNIST" / "raw").glob(f"t10k-{name}*"):
            content = idx(np.zeros(shape, np.uint8))
            file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)
    with pytest.raises(DataError) as caught:
        MNIST(root, verify=False).setup("test")
    assert "must hold images of 28x28 pixels, and '" in str(caught.value)
    assert f"a label for each, got {images} and {labels}. Fetch both anew." in str(caught.value)


@pytest.mark.parametrize(("count", "label", "message"), [
    (0, 0, r"must hold images and as many labels, got 0 and 0\. Fetch it anew\.$"),
    (3, 10, r"^The test split of mnist in '.*' must have labels from 0 to 9, or -1 where one is not known, got 10\."),
])  # fmt: skip
def test_there_are_images_and_their_labels_are_digits(root, count, label, message):
    arrays = {"images": np.zeros((count, 28, 28), np.uint8), "labels": np.full(count, label, np.uint8)}
    for name, array in arrays.items():
        for file in (root / "MNIST" / "raw").glob(f"t10k-{name}*"):
            file.write_bytes(gzip.compress(idx(array)) if file.suffix == ".gz" else idx(array))
    with pytest.raises(DataError, match=message):
        MNIST(root, verify=False).setup("test")


def test_missing_files_are_named_with_the_way_to_fetch_them(tmp_path):
    message = (
        rf"^mnist not found: no '{tmp_path}/MNIST/raw/t10k-images-idx3-ubyte'\. Fetch it with download=true "
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


def test_a_sixth_of_the_training_images_is_held_out_for_validation_always_the_same_one(root, arrays):
    data, again = (MNIST(root, verify=False, evaluate_on="validation", seed=seed) for seed in (0, 1))
    images, labels = arrays["train"]
    trained, held_out = data.store("train"), data.store("test")
    assert (len(trained), len(held_out)) == (5, 2)
    found = torch.cat([trained.images, held_out.images])[:, 0].numpy()
    places = [next(i for i, image in enumerate(images) if np.array_equal(image, each)) for each in found]
    assert sorted(places) == list(range(7))
    assert torch.cat([trained.labels, held_out.labels]).tolist() == labels[places].tolist()
    assert torch.equal(again.store("test").images, held_out.images)


def test_padding_cannot_make_images_smaller():
    message = r"^image_size must be at least 28 with enlarge=pad, got 16\. Set enlarge to resize\.$"
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
