import numpy as np
import pytest
import torch

from gan_lightning.data import ImageArrays
from gan_lightning.data.image_arrays import held_out
from gan_lightning.data.store import ImageStore
from gan_lightning.errors import DataError, SettingError
from gan_lightning.interfaces import LabelledImages

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (12, 3, 8, 8), dtype=np.uint8)
LABELS = np.arange(12) % 3


def saved(tmp_path, **arrays) -> ImageArrays:
    np.savez(tmp_path / "mine.npz", **arrays)
    return ImageArrays(tmp_path / "mine.npz", image_size=8)


def images(data, split="train"):
    return torch.cat([batch for batch, _ in data.evaluation_batches(split, torch.device("cpu"))])


@pytest.mark.parametrize("names", [("train_images", "train_labels", "test_images", "test_labels"),
                                   ("x_train", "y_train", "x_test", "y_test")])  # fmt: skip
def test_a_file_of_arrays_is_a_data_set(tmp_path, names):
    data = saved(tmp_path, **dict(zip(names, (BYTES, LABELS, BYTES[:6], LABELS[:6]), strict=True)),
                 classes=np.array(["cat", "dog", "cow"]))  # fmt: skip
    assert isinstance(data, LabelledImages)
    assert (data.name, data.channels, data.label_kind, data.num_classes) == ("mine", 3, "classes", 3)
    assert data.classes == ["cat", "dog", "cow"]
    torch.testing.assert_close(images(data), torch.from_numpy(BYTES).float() / 127.5 - 1)
    assert (len(data.store("train")), len(data.store("test"))) == (12, 6)
    assert data.store("test").labels.tolist() == LABELS[:6].tolist()


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ((12, 8, 8), {}),
        ((12, 8, 8, 1), {}),
        ((12, 1, 8, 8), {}),
        ((12, 2, 8, 8), {}),
        ((12, 8, 8, 4), {}),
        ((12, 3, 3, 3), {"layout": "channels_last"}),
    ],
)
def test_the_channels_are_found_by_the_shape(shape, settings):
    values = RNG.integers(0, 256, shape, dtype=np.uint8)
    data = ImageArrays.of((values, None), image_size=max(shape[1:3]), **settings)
    assert data.label_kind == "none"
    assert data.num_classes == 0
    last = settings or shape[-1] <= 4
    expected = values[:, None] if values.ndim == 3 else values.transpose(0, 3, 1, 2) if last else values
    stored = torch.cat([data.store(split).images for split in ("train", "test")]).numpy()
    assert stored.shape == expected.shape
    assert {image.tobytes() for image in stored} == {image.tobytes() for image in np.ascontiguousarray(expected)}


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (0, 65535)])
def test_values_of_a_range_are_rounded_to_bytes(low, high):
    values = low + (high - low) * BYTES.astype(np.float64) / 255
    pair = torch.from_numpy(values.astype(np.float32)), torch.from_numpy(LABELS)
    data = ImageArrays.of(pair, pair, value_range=(low, high), image_size=8)
    np.testing.assert_array_equal(data.store("train").images.numpy(), BYTES)


def test_attributes_and_columns_of_classes_are_taken():
    attributes = np.stack([LABELS == 0, LABELS == 1], axis=1)
    data = ImageArrays.of((BYTES, attributes.astype(int)), (BYTES, attributes.astype(int)))
    assert (data.label_kind, data.num_classes) == ("attributes", 2)
    data = ImageArrays.of((BYTES, LABELS[:, None]), (BYTES, LABELS[:, None]))
    assert (data.label_kind, data.num_classes) == ("classes", 3)


def test_a_part_of_each_class_is_held_out_the_same_each_time():
    labels = torch.tensor([0] * 20 + [1] * 10 + [2] * 2 + [3])
    store = ImageStore(torch.zeros(33, 1, 2, 2, dtype=torch.uint8), labels)
    first, again = (held_out(store, 0.2) for _ in range(2))
    assert first["test"].labels.bincount(minlength=4).tolist() == [4, 2, 1, 0]
    assert first["train"].labels.bincount().tolist() == [16, 8, 1, 1]
    assert torch.equal(first["train"].images, again["train"].images)


@pytest.mark.parametrize(
    ("pair", "settings", "message"),
    [
        ((BYTES[:, :, :, :3], LABELS), {}, r"have at most four channels in one of two places, got \(12, 3, 8, 3\)"),
        ((BYTES[0, 0], LABELS), {}, r"train images must be \(count, height, width\)"),
        ((BYTES / 255, LABELS), {}, r"be bytes or of a known range, got float64\. Set value_range"),
        ((BYTES / 1.0, LABELS), {"value_range": (0, 1)}, r"lie in value_range, 0 to 1, got 0 to 255\. Correct value"),
        ((BYTES / np.nan, LABELS), {"value_range": (0, 1)}, r"lie in value_range, 0 to 1, got nan to nan"),
        ((BYTES, LABELS[:5]), {}, r"whole numbers, a class or attributes for each of 12 images, got int64 \(5,\)"),
        ((BYTES, LABELS / 2), {}, r"train labels must be whole numbers"),
    ],
)
def test_what_is_no_data_set_is_refused(pair, settings, message):
    with pytest.raises(DataError, match=rf"^arrays: .*{message}"):
        ImageArrays.of(pair, pair, **settings).store("train")


def test_splits_that_do_not_fit_together_are_refused():
    with pytest.raises(DataError, match="test images must have 3 channels as the training images, got 1"):
        ImageArrays.of((BYTES, LABELS), (BYTES[:, :1], LABELS)).store("train")
    with pytest.raises(DataError, match=r"test labels must be of the form \(\) an image, got \(2,\)"):
        ImageArrays.of((BYTES, LABELS), (BYTES, np.zeros((12, 2), int))).store("train")


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(DataError, match=r"No file '.*none\.npz'\. Set root to a \.npz file"):
        _ = ImageArrays(tmp_path / "none.npz").channels
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(DataError, match=r"text\.npz' cannot be read .*no \.npz file"):
        _ = ImageArrays(tmp_path / "text.npz").channels
    np.savez(tmp_path / "other.npz", pictures=BYTES)
    with pytest.raises(DataError, match=r"must hold an array train_images or x_train or images, got \['pictures'\]"):
        _ = ImageArrays(tmp_path / "other.npz").channels
    np.savez(tmp_path / "objects.npz", images=np.array([{}, {}], dtype=object))
    with pytest.raises(DataError, match=r"objects\.npz' cannot be read"):  # unpickling would run code
        _ = ImageArrays(tmp_path / "objects.npz").channels


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"value_range": (1.0, 0.0)}, "value_range must be black and white, the smaller first"),
        ({"test_fraction": 1.0}, "test_fraction must be between 0 and 1"),
        ({"download": True}, "download must be false for arrays of your own"),
    ],
)
def test_unusable_settings_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        ImageArrays(**settings)


def test_fewer_names_than_classes_and_a_test_split_without_images_are_refused(tmp_path):
    with pytest.raises(DataError, match="classes must name each of 3 labels, got 2 names"):
        saved(tmp_path, images=BYTES, labels=LABELS, classes=np.array(["cat", "dog"])).store("train")
    with pytest.raises(DataError, match="a test split must have images, got none: each class has one"):
        ImageArrays.of((BYTES[:3], LABELS[:3])).store("train")
