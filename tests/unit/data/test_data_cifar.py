import os
import pickle

import numpy as np
import pytest

from gan_lightning.data import CIFAR10, CIFAR100
from gan_lightning.errors import DataError

FOLDERS = {CIFAR10: "cifar-10-batches-py", CIFAR100: "cifar-100-python"}
FILES = {
    CIFAR10: {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]},
    CIFAR100: {"train": ["train"], "test": ["test"]},
}


@pytest.fixture(params=[CIFAR10, CIFAR100], ids=["CIFAR10", "CIFAR100"])
def data_set(request):
    return request.param


@pytest.fixture
def written(tmp_path, rng, data_set):
    """Write small batches; return the values of each split."""
    folder = tmp_path / FOLDERS[data_set]
    folder.mkdir()
    values = {}
    for split, names in FILES[data_set].items():
        batches = [(rng.integers(0, 256, (4, 3072), np.uint8), rng.integers(0, 10, 4).tolist()) for _ in names]
        for name, (rows, labels) in zip(names, batches, strict=True):
            content = {"data": rows, "labels" if data_set is CIFAR10 else "fine_labels": labels, "filenames": ["x.png"]}
            (folder / name).write_bytes(pickle.dumps(content, protocol=2))
        values[split] = (
            np.concatenate([rows for rows, _ in batches]),
            [label for _, labels in batches for label in labels],
        )
    return values


@pytest.mark.parametrize("split", ["train", "test"])
def test_batches_are_read_one_after_the_other_as_red_green_and_blue_planes(tmp_path, written, data_set, split, caplog):
    store = data_set(tmp_path, verify=False).store(split)
    rows, labels = written[split]
    for channel in range(3):
        plane = rows[:, 1024 * channel : 1024 * (channel + 1)].reshape(-1, 32, 32)
        np.testing.assert_array_equal(store.images[:, channel].numpy(), plane)
    assert store.labels.tolist() == labels
    files = [str(tmp_path / FOLDERS[data_set] / name) for name in FILES[data_set][split]]
    assert [record.message for record in caplog.records] == [
        f"'{file}' is not the published file (MD5). Accepted, since verify is false." for file in files
    ]


def test_other_files_than_the_published_ones_are_refused(tmp_path, written, data_set):
    message = r"^'.*/test(_batch)?' is not the published file \(MD5\)\. Fetch it anew, or .* verify=false\.$"
    with pytest.raises(DataError, match=message):
        data_set(tmp_path).setup("test")


LABELS = {CIFAR10: "labels", CIFAR100: "fine_labels"}
ROWS = np.zeros((4, 3072), np.uint8)
DAMAGES = {
    "truncated": lambda whole, key: whole[:-50],
    "empty": lambda whole, key: b"",
    "a text": lambda whole, key: b"<html>Not found</html>",
    "a list": lambda whole, key: pickle.dumps([1, 2]),
    "no labels": lambda whole, key: pickle.dumps({"data": ROWS}),
    "too few labels": lambda whole, key: pickle.dumps({"data": ROWS, key: [1, 2, 3]}, protocol=2),
    "another size": lambda whole, key: pickle.dumps({"data": ROWS[:, 1:], key: [1] * 4}, protocol=2),
    "values above 255": lambda whole, key: pickle.dumps({"data": ROWS + np.int64(256), key: [1] * 4}, protocol=2),
    "fractions": lambda whole, key: pickle.dumps({"data": ROWS / 2.0, key: [1] * 4}, protocol=2),
    "labels in words": lambda whole, key: pickle.dumps({"data": ROWS, key: ["cat"] * 4}, protocol=2),
    "labels with fractions": lambda whole, key: pickle.dumps({"data": ROWS, key: [0.5] * 4}, protocol=2),
    "far too long": lambda whole, key: b"\x80\x02X\xff\xff\xff\x7f",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_whatever_is_wrong_with_a_file_it_is_named(tmp_path, written, data_set, damage):
    file = tmp_path / FOLDERS[data_set] / FILES[data_set]["test"][0]
    file.write_bytes(damage(file.read_bytes(), LABELS[data_set]))
    with pytest.raises(DataError, match=rf"^'{file}' cannot be read \(.+\)\. Fetch it anew\.$") as caught:
        data_set(tmp_path, verify=False).setup("test")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "make", [lambda file: file.mkdir(), lambda file: file.symlink_to(file)], ids=["folder", "loop"]
)
def test_what_is_no_file_is_named(tmp_path, data_set, make):
    file = tmp_path / FOLDERS[data_set] / FILES[data_set]["test"][0]
    file.parent.mkdir()
    make(file)
    with pytest.raises(DataError, match=rf"'{file}'( cannot be read|\. Fetch it with)"):
        data_set(tmp_path, verify=False).setup("test")


@pytest.mark.parametrize("label", [-2, 100])
def test_a_label_that_there_is_not_is_refused(tmp_path, written, data_set, label):
    file = tmp_path / FOLDERS[data_set] / FILES[data_set]["test"][0]
    file.write_bytes(pickle.dumps({"data": ROWS, LABELS[data_set]: [1, label, 1, 1]}, protocol=2))
    message = (
        rf"^The test split of {data_set.name} in '{tmp_path}' must have labels from 0 to {data_set.num_classes - 1}, "
        rf"or -1 where one is not known, got {label}\. Correct the labels\.$"
    )
    with pytest.raises(DataError, match=message):
        data_set(tmp_path, verify=False).setup("test")


def test_a_missing_file_is_named(tmp_path, data_set):
    file = tmp_path / FOLDERS[data_set] / FILES[data_set]["test"][0]
    with pytest.raises(DataError, match=rf"^{data_set.name} not found: no '{file}'\. Fetch it with download=true"):
        data_set(tmp_path).setup("test")


def test_a_pickle_that_would_run_code_is_refused(tmp_path, written, data_set):
    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harm"),)

    file = tmp_path / FOLDERS[data_set] / FILES[data_set]["test"][0]
    file.write_bytes(pickle.dumps({"data": Harmful()}))
    with pytest.raises(DataError, match=rf"^'{file}' cannot be read \(it would load \w+\.mkdir\)"):
        data_set(tmp_path, verify=False).setup("test")
    assert not (tmp_path / "harm").exists()


def test_the_download_is_torchvisions(tmp_path, data_set, monkeypatch):
    downloads = []
    name = f"torchvision.datasets.{data_set.__name__}"
    monkeypatch.setattr(name, lambda root, download: downloads.append((root, download)))
    data_set(tmp_path, download=True).fetch()
    assert downloads == [(tmp_path, True)]


def test_a_real_subset_has_the_real_statistics(shared_data):
    data = CIFAR10(shared_data, verify=False)
    assert data.store("train").labels.bincount().tolist() == [1800] * 10
    assert data.store("test").labels.bincount().tolist() == [400] * 10
    means = data.store("train").images.float().mean((0, 2, 3)) / 255
    np.testing.assert_allclose(means, (0.4914, 0.4822, 0.4465), atol=0.002)
