"""VOC segmentation: the disc is found, and masks without a class or of another size are named."""

import math

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from voc_tree import DISC, RECTANGLE, drawn_voc

from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation.voc.decoding import DecodedFiles
from gan_lightning.evaluation.voc.devkit import MaskedImage, masked_images
from gan_lightning.evaluation.voc.segmentation import (
    SegmentationProtocol,
    SegmentationRecord,
    fcn,
    mask_values,
    measured_values,
    pixel_loss,
    segment,
)

QUICK = SegmentationProtocol(schedule=30 / 100_000, width=16, dropout=0.0, learning_rate=0.1, batch_size=4)


def stages(*filters: list[float]) -> nn.Sequential:
    """Return 1x1 filters of colours, averaged over 2x2 pixels."""
    conv = nn.Conv2d(3, len(filters), 1)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor(filters)[..., None, None])
        conv.bias.fill_(-0.3)
    return nn.Sequential(nn.Sequential(conv, nn.LeakyReLU(0.2), nn.AvgPool2d(2)))


@pytest.fixture(scope="module")
def lists(tmp_path_factory) -> tuple[list[MaskedImage], list[MaskedImage]]:
    voc = drawn_voc(tmp_path_factory.mktemp("voc"), images=9)
    return masked_images(voc, 2012, "train"), masked_images(voc, 2012, "val")


@pytest.fixture(scope="module")
def records(lists) -> list[SegmentationRecord]:
    rows = {
        "trained": stages([1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]),
        "random": stages([0.3, 0.3, 0.3], [-0.3, -0.3, -0.3]),
    }
    return segment(rows, *lists, channels=3, measured=[0, 1, 2], protocol=QUICK)


def test_the_disc_is_found_by_filters_of_colours_better_than_by_brightness(records):
    trained, random = records
    assert (trained.weights, random.weights) == ("trained", "random")
    assert list(trained.overlaps) == ["background", RECTANGLE, DISC]
    assert trained.overlaps[DISC] > 0.6
    assert trained.overlaps[DISC] > random.overlaps[DISC] + 0.2
    assert trained.mean > random.mean + 0.2
    assert trained.mean == pytest.approx(sum(trained.overlaps.values()) / 3)
    assert trained.pixel_accuracy > random.pixel_accuracy


def test_the_loss_is_a_mean_over_known_pixels():
    scores = torch.zeros(1, 3, 1, 4)
    mask = torch.tensor([[0, 1, 255, 255]])
    assert pixel_loss(scores, mask).item() == pytest.approx(math.log(3))
    scores[0, 1, 0, 1], scores[0, 2, 0, 2] = 2.0, 50.0
    expected = (math.log(3) - F.log_softmax(torch.tensor([0.0, 2.0, 0.0]), 0)[1]) / 2
    assert pixel_loss(scores, mask).item() == pytest.approx(float(expected))
    assert pixel_loss(scores, torch.full((1, 4), 255)).item() == 0


def test_scores_start_from_0_and_fc6_gives_its_channels_one_scale(lists):
    images = DecodedFiles([each.path for each in lists[0]], 3)
    start = stages([1.0, -1.0, 0.0], [-1.0, 1.0, 0.0])
    network = fcn(start, images, 3, SegmentationProtocol(width=6), 0)
    assert not any(weight.any() for weight in network.head.score.parameters())
    assert network.head.fc6[0].weight.std() > 0
    ratio = (network.stages[0][0].weight / start[0][0].weight)[~start[0][0].weight.eq(0)]
    assert ratio.std() < 1e-5  # rescaled as a whole
    assert start[0][0].weight[0, 0].item() == 1


def test_classes_without_masks_are_left_out_by_name(lists):
    values = mask_values(lists[0])
    assert values == {0, 1, 2}
    measured, left_out = measured_values(values, {0, 1, 7})
    assert measured == [0, 1]
    assert (left_out[DISC], left_out["car"]) == ("no test mask has it", "no training mask has it")
    with pytest.raises(DataError, match=r"masks must share a class between training and test, got none\. Raise"):
        measured_values({0}, {1})


def test_a_mask_of_another_size_is_named(tmp_path):
    voc = drawn_voc(tmp_path, images=4)
    image = masked_images(voc, 2012, "train")[1]
    Image.new("L", (48, 35)).save(image.mask)
    with pytest.raises(DataError, match=rf"{image.mask.name}' must have its image's size, 48x36 pixels, got 48x35"):
        mask_values([image])


def test_a_diverged_training_is_named(lists):
    protocol = SegmentationProtocol(schedule=9e-5, width=4, batch_size=2, learning_rate=1e30)
    with pytest.raises(DataError, match=r"must stay finite, got NaN or infinity at learning_rate=1e\+30"):
        segment({"trained": stages([1.0, 0.0, 0.0])}, *lists, channels=3, measured=[0], protocol=protocol)


def test_one_factor_scales_the_schedule():
    assert SegmentationProtocol().iterations == 100_000
    assert SegmentationProtocol(schedule=0.02).iterations == 2_000


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("schedule", 0.0, "schedule must be above 0, got 0.0. 1 is the authors'"),
        ("width", 0, "width must be at least 1"),
        ("dropout", 1.0, "dropout must be in"),
        ("learning_rate", 0.0, "learning_rate must be above 0"),
        ("momentum", 1.0, "momentum must be in"),
        ("weight_decay", -1.0, "weight_decay must be at least 0"),
        ("batch_size", 0, "batch_size must be at least 1"),
    ],
)
def test_values_that_allow_no_training_are_refused(setting, value, message):
    with pytest.raises(SettingError, match=message):
        SegmentationProtocol(**{setting: value})
