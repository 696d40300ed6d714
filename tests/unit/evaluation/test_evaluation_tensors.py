"""Data sets of tensors and arrays: what is converted, and what is refused when they are made."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_lightning.errors import SettingError
from gan_lightning.evaluation import TensorImages
from gan_lightning.evaluation.tensors import checked
from gan_lightning.interfaces import LabelledImages

CPU = torch.device("cpu")
BYTES = np.random.default_rng(0).integers(0, 256, (6, 3, 8, 8), np.uint8)
FLOATS = BYTES / 127.5 - 1
CLASSES = np.arange(6) % 3


def made(images, labels=CLASSES, test=None, **settings) -> TensorImages:
    test = (images, labels) if test is None else test
    return TensorImages("mine", **{"train": (images, labels), "test": test, "num_classes": 3} | settings)


IMAGES = {
    "float32": torch.tensor(FLOATS, dtype=torch.float32),
    "float64": torch.tensor(FLOATS),
    "bytes": torch.from_numpy(BYTES),
    "an array of bytes": BYTES,
    "an array of float64": FLOATS,
    "an array of float32": FLOATS.astype(np.float32),
    "big-endian": FLOATS.astype(">f4"),
    "read-only": np.frombuffer(BYTES.tobytes(), np.uint8).reshape(BYTES.shape),
    "turned around": FLOATS[:, :, ::-1].copy()[:, :, ::-1],
    "columns first": np.asfortranarray(FLOATS),
    "with gradients": torch.tensor(FLOATS, requires_grad=True),
    "beyond by rounding": torch.tensor(FLOATS * (1 + 1e-6)),
}


@pytest.mark.parametrize("images", IMAGES.values(), ids=IMAGES)
def test_images_are_float32_from_minus_1_to_1_whatever_they_are_given_as(images):
    data = made(images)
    assert isinstance(data, LabelledImages)
    assert (data.channels, data.image_size, data.label_kind) == (3, 8, "classes")
    for split in ("train", "test"):
        ((found, labels),) = data.evaluation_batches(split, CPU)
        assert (found.dtype, found.requires_grad) == (torch.float32, False)
        torch.testing.assert_close(found, torch.tensor(FLOATS, dtype=torch.float32), atol=1e-5, rtol=0)
        assert torch.equal(labels, torch.from_numpy(CLASSES))


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_images_of_half_precision_are_float32_then(half):
    ((found, _),) = made(torch.tensor(FLOATS).to(half)).evaluation_batches("test", CPU)
    torch.testing.assert_close(found, torch.tensor(FLOATS).to(half).float())


LABELS = {
    **{str(dtype): (CLASSES.astype(dtype), "classes") for dtype in (np.int8, np.uint8, np.int16, np.int32, np.int64)},
    "big-endian": (CLASSES.astype(">i4"), "classes"),
    "int32 tensor": (torch.from_numpy(CLASSES).int(), "classes"),
    "unknown": (CLASSES - 1, "classes"),
    "attributes": (np.eye(3, dtype=int)[CLASSES], "attributes"),
    "true and false": (np.eye(3, dtype=bool)[CLASSES], "attributes"),
    "unknown attributes": (torch.full((6, 3), -1), "attributes"),
}


@pytest.mark.parametrize(("labels", "kind"), LABELS.values(), ids=LABELS)
def test_labels_are_int64_whatever_whole_numbers_they_are_given_as(labels, kind):
    data = made(BYTES, labels)
    ((_, found),) = data.evaluation_batches("train", CPU)
    assert (found.dtype, data.label_kind, data.num_classes) == (torch.int64, kind, 3)
    np.testing.assert_array_equal(found.numpy(), np.asarray(labels).astype(int))


def with_value(value: float) -> np.ndarray:
    images = FLOATS.copy()
    images[3, 1, 2, 5] = value
    return images


WRONG_IMAGES = {
    "0 to 255": (BYTES.astype(np.float32), r"train images must lie in \[-1, 1\], got 0 to 255\. Scale .* 127\.5 - 1"),
    "normalised": (FLOATS * 2.2, r"train images must lie in \[-1, 1\], got -2\.2 to 2\.2\."),
    "a little beyond": (with_value(1.01), r"train images must lie in \[-1, 1\], got -1 to 1\.01\."),
    "NaN": (with_value(math.nan), r"train images must be finite, got NaN or infinity\. Look for"),
    "infinity": (with_value(math.inf), r"train images must be finite, got NaN or infinity\."),
    "int64": (BYTES.astype(np.int64), r"train images must be floating-point values .* or bytes .* got torch\.int64"),
    "int8": (BYTES.astype(np.int8), r"train images must be floating-point values .* got torch\.int8\. Convert them"),
    "true and false": (BYTES > 99, r"train images must be floating-point values .* got torch\.bool\."),
    "complex": (FLOATS + 0j, r"train images must be floating-point values .* got torch\.complex128\."),
    "words": (BYTES.astype(str), r"train images must be numbers that torch knows, got <U3\. Convert them"),
    "objects": (BYTES.astype(object), r"train images must be numbers that torch knows, got object\."),
    "no channels": (BYTES[:, 0], r"train images must be of the shape \(count, .*, size\), got \(6, 8, 8\)\."),
    "channels last": (BYTES.transpose(0, 2, 3, 1), r"of the shape \(count, channels, .*\), got \(6, 8, 8, 3\)\."),
    "flat": (BYTES.reshape(6, -1), r"of the shape \(count, channels, size, size\), got \(6, 192\)\."),
    "none": (BYTES[:0], r"of the shape \(count, channels, size, size\), got \(0, 3, 8, 8\)\."),
    "no rectangles": (BYTES[:, :, :5], r"of the shape \(count, channels, size, size\), got \(6, 3, 5, 8\)\."),
}  # fmt: skip


@pytest.mark.parametrize(("images", "message"), WRONG_IMAGES.values(), ids=WRONG_IMAGES)
def test_what_are_no_images_is_refused_when_the_data_set_is_made(images, message):
    with pytest.raises(SettingError, match=message):
        made(images)
    with pytest.raises(SettingError, match=message.replace("train", "test")):
        made(BYTES, test=(images, CLASSES))


WRONG_LABELS = {
    "too few": (
        CLASSES[:5],
        r"train labels must be one row for each of 6 images, .* got the shape \(5,\)\. Give as many",
    ),
    "too many": (np.arange(7) % 3, r"must be one row for each of 6 images, .* got the shape \(7,\)"),
    "three-dimensional": (np.zeros((6, 3, 1), int), r"must be one row for each of 6 images, .* \(6, 3, 1\)"),
    "one number": (np.array(1), r"must be one row for each of 6 images, .* got the shape \(\)"),
    "fractions": (
        CLASSES / 2,
        r"train labels must be whole numbers, got torch\.float64\. Convert them with labels\.long\(\)",
    ),
    "words": (np.array(list("abcabc")), r"train labels must be numbers that torch knows, got <U1"),
    "too high": (CLASSES + 1, r"train labels must be from 0 to 2, or -1 where not known, got 1 to 3\. Number the"),
    "too low": (CLASSES - 2, r"train labels must be from 0 to 2, or -1 where not known, got -2 to 0\."),
    "attributes of classes": (
        np.full((6, 3), 2),
        r"train labels must be from 0 to 1, or -1 where not known, got 2 to 2",
    ),
    "other attributes": (
        np.zeros((6, 4), int),
        r"train labels must have num_classes=3 attributes each, got 4\. Set num",
    ),
}


@pytest.mark.parametrize(("labels", "message"), WRONG_LABELS.values(), ids=WRONG_LABELS)
def test_what_are_no_labels_of_the_images_is_refused(labels, message):
    with pytest.raises(SettingError, match=message):
        made(BYTES, labels)


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (
            (BYTES[:, :1], CLASSES),
            r"^test images must have the channels and the size of the train images, \(3, 8, 8\), got",
        ),
        (
            (BYTES[:, :, :4, :4], CLASSES),
            r"^test images must have the channels .* got \(3, 4, 4\)\. Resize one of the two",
        ),
        (
            (BYTES, np.eye(3, dtype=int)[CLASSES]),
            r"^test labels must have the form .* a class each, got 3 attributes each",
        ),
    ],
)
def test_the_splits_must_be_of_one_kind(test, message):
    with pytest.raises(SettingError, match=message):
        made(BYTES, test=test)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (torch.zeros(2, 3), r"^test must be a pair of images and labels, got Tensor\. Give test=\(images, labels\)\."),
        ((BYTES,), r"^test must be a pair of images and labels, got tuple\."),
        ({"images": BYTES, "labels": CLASSES}, r"^test must be a pair of images and labels, got dict\."),
        (
            (BYTES.tolist(), CLASSES),
            r"^test images must be a tensor or a numpy array, got list\. Convert it with torch",
        ),
        ((None, CLASSES), r"^test images must be a tensor or a numpy array, got NoneType\."),
        ((BYTES, CLASSES.tolist()), r"^test labels must be a tensor or a numpy array, got list\."),
    ],
)
def test_what_is_no_pair_of_tensors_is_refused(pair, message):
    with pytest.raises(SettingError, match=message):
        checked("test", pair)


@settings(max_examples=30)
@given(count=st.integers(1, 30), batch_size=st.integers(1, 40))
def test_batches_are_the_images_in_their_order(count, batch_size):
    images = torch.arange(count).view(-1, 1, 1, 1) / count
    batches = made(images, torch.arange(count) % 3, batch_size=batch_size).evaluation_batches("train", CPU)
    assert len(batches) == len(list(batches)) == -(-count // batch_size)
    assert torch.equal(torch.cat([each for each, _ in batches]), images)
    assert torch.equal(torch.cat([labels for _, labels in batches]), torch.arange(count) % 3)


def test_the_given_arrays_stay_as_they_are():
    images, labels = BYTES.copy(), CLASSES.copy()
    ((found, known),) = made(images, labels).evaluation_batches("train", CPU)
    found.zero_()
    np.testing.assert_array_equal(images, BYTES)
    assert known.tolist() == labels.tolist()
