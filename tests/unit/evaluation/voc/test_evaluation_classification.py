"""VOC classification: the class is found, what is frozen stays, and the loss and the schedule are the source's."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from voc_tree import DISC, RECTANGLE, drawn_voc

from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation.voc import classification
from gan_lightning.evaluation.voc.classification import (
    ClassificationProtocol,
    ClassificationRecord,
    class_precisions,
    classify,
    known_loss,
    measured_classes,
)
from gan_lightning.evaluation.voc.decoding import DecodedFiles
from gan_lightning.evaluation.voc.devkit import LabelledList, labelled_images

QUICK = ClassificationProtocol(
    schedule=40 / 80_000,
    size=24,
    smallest_scale=1.5,
    crops=3,
    width=16,
    dropout=0.0,
    learning_rate=0.05,
    batch_size=8,
)


def stages(*filters: list[float]) -> nn.Sequential:
    """Return 1x1 filters of colours, averaged over 4x4 pixels."""
    conv = nn.Conv2d(3, len(filters), 1)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor(filters)[..., None, None])
        conv.bias.fill_(-0.3)
    return nn.Sequential(nn.Sequential(conv, nn.LeakyReLU(0.2), nn.AvgPool2d(4)))


REDNESS_AND_GREENNESS = stages([1.0, -1.0, 0.0], [-1.0, 1.0, 0.0])
BRIGHTNESS = stages([0.3, 0.3, 0.3], [-0.3, -0.3, -0.3])


@pytest.fixture(scope="module")
def lists(tmp_path_factory) -> tuple[LabelledList, LabelledList]:
    voc = drawn_voc(tmp_path_factory.mktemp("voc"), images=16)
    return labelled_images(voc, 2007, "trainval"), labelled_images(voc, 2007, "test")


@pytest.fixture(scope="module")
def records(lists) -> list[ClassificationRecord]:
    rows = {"trained": REDNESS_AND_GREENNESS, "random": BRIGHTNESS}
    return classify(rows, *lists, channels=3, trained=["fc8", "fc6-8"], protocol=QUICK)


def test_a_classifier_on_filters_of_colours_finds_the_class_that_one_on_brightness_does_not(records):
    found = {(record.weights, record.trained): record for record in records}
    assert list(found) == [(weights, part) for weights in ("trained", "random") for part in ("fc8", "fc6-8")]
    for part in ("fc8", "fc6-8"):
        assert found["trained", part].mean("area") > 0.95
        assert found["trained", part].mean("area") > found["random", part].mean("area") + 0.05
    for record in records:
        for rule, by_class in record.precisions.items():
            assert list(by_class) == [RECTANGLE, DISC]
            assert record.mean(rule) == pytest.approx(sum(by_class.values()) / 2)
        assert record.seconds > 0


def test_what_is_not_trained_stays_bit_for_bit(lists, monkeypatch):
    made = []

    class Kept(classification._LabelledNetwork):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append((self, copy.deepcopy((self.stages, self.head))))

    monkeypatch.setattr(classification, "_LabelledNetwork", Kept)
    network = stages([1.0, -1.0, 0.0])
    short = ClassificationProtocol(schedule=2 / 80_000, size=24, crops=1, width=4, batch_size=4)
    classify({"trained": network}, *lists, channels=3, protocol=short)
    moved = [
        [
            any(not torch.equal(one, other) for one, other in zip(now.parameters(), then.parameters(), strict=True))
            for now, then in [(each.stages, before[0]), *((each.head[i], before[1][i]) for i in (2, 3, 4))]
        ]
        for each, before in made
    ]
    assert moved == [[False, False, False, True], [False, True, True, True], [True, True, True, True]]
    for each, _ in made[:2]:
        assert torch.equal(each.stages[0][0].weight, network[0][0].weight)


def test_units_of_frozen_layers_drop_out_in_training_alone(lists):
    images = DecodedFiles(lists[0].paths, 3)
    protocol = ClassificationProtocol(schedule=1e-9, size=24, crops=2, width=6, batch_size=4)
    network = classification._LabelledNetwork(REDNESS_AND_GREENNESS, "fc8", images, protocol, 0)
    dropouts = [layer for layer in network.head.modules() if isinstance(layer, nn.Dropout)]
    seen = []
    for layer in dropouts:
        layer.register_forward_hook(lambda layer, *_: seen.append(layer.training))
    told = []
    network.fit(images, lists[0].labels, protocol, 0, lambda *counts: told.append(counts))
    assert seen == [True, True]
    first, second = (network.answers(images, protocol, 0, lambda *counts: told.append(counts)) for _ in range(2))
    assert told == [(1, 1), *[(done, 16) for done in range(1, 17)] * 2]
    assert not any(seen[2:])
    assert torch.equal(first, second)
    assert not torch.equal(first, network.answers(images, protocol, 1, lambda *counts: None))  # other squares


def test_fc8_starts_anew_and_the_layers_before_it_are_scaled_by_images(lists):
    images = DecodedFiles(lists[0].paths, 3)
    protocol = ClassificationProtocol(size=24, width=400)
    network = classification._LabelledNetwork(REDNESS_AND_GREENNESS, "fc6-8", images, protocol, 0)
    fc8 = network.head.fc8
    assert fc8.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert torch.equal(fc8.bias, torch.full((20,), 0.1))
    whole = classification._LabelledNetwork(REDNESS_AND_GREENNESS, "all", images, protocol, 0)
    assert not torch.equal(whole.stages[0][0].weight, REDNESS_AND_GREENNESS[0][0].weight)
    ratio = whole.stages[0][0].weight / REDNESS_AND_GREENNESS[0][0].weight
    assert ratio[~ratio.isnan()].std() < 1e-6  # rescaled as a whole


def test_the_loss_is_a_sum_over_known_classes_and_a_mean_over_images():
    logits, labels = torch.zeros(2, 20), torch.zeros(2, 20, dtype=torch.int64)
    labels[0, 0], labels[1, 5] = 1, -1
    assert known_loss(logits, labels).item() == pytest.approx(39 * math.log(2) / 2)
    logits[0, 0], logits[1, 5] = 3.0, 100.0
    expected = (38 * math.log(2) + F.softplus(torch.tensor(-3.0))) / 2
    assert known_loss(logits, labels).item() == pytest.approx(float(expected))


def test_a_difficult_image_does_not_count():
    logits, labels = torch.zeros(4, 20), torch.zeros(4, 20, dtype=torch.int64)
    logits[:, 0], labels[:, 0] = torch.tensor([4.0, 3.0, 2.0, 1.0]), torch.tensor([-1, 1, 0, 1])
    found = class_precisions(logits, labels, [0])
    assert found["area"][RECTANGLE] == pytest.approx((1 + 2 / 3) / 2)
    assert found["11_points"][RECTANGLE] == pytest.approx((6 + 5 * 2 / 3) / 11)


def test_classes_without_images_are_left_out_by_name(lists):
    classes, left_out = measured_classes(*lists)
    assert classes == [0, 1]
    assert left_out["bird"] == "no training image has it"
    no_disc = LabelledList(lists[1].paths[:1], lists[1].labels[:1])
    assert measured_classes(lists[0], no_disc)[1][DISC] == "no test image has it"
    with pytest.raises(DataError, match=r"must share a class between training and test, got none\. Raise the limit"):
        measured_classes(lists[0], LabelledList(lists[1].paths[-1:], lists[1].labels[-1:]))


def test_one_factor_scales_the_schedule():
    paper = ClassificationProtocol()
    assert (paper.iterations, paper.rate(9_999), paper.rate(10_000), paper.rate(79_999)) == (80_000, 1, 0.5, 0.5**7)
    tenth = ClassificationProtocol(schedule=0.1)
    assert (tenth.iterations, tenth.rate(999), tenth.rate(1_000)) == (8_000, 1, 0.5)
    assert ClassificationProtocol(schedule=1e-9).iterations == 1


def test_a_diverged_training_is_named(lists):
    protocol = ClassificationProtocol(schedule=9 / 80_000, size=24, crops=1, width=4, batch_size=4, learning_rate=1e30)
    with pytest.raises(DataError, match=r"must stay finite, got NaN or infinity at learning_rate=1e\+30; use a lower"):
        classify({"trained": BRIGHTNESS}, *lists, channels=3, trained=["all"], protocol=protocol)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("schedule", 0.0, "schedule must be above 0, got 0.0. 1 is the authors'"),
        ("size", 0, "size must be at least 1"),
        ("smallest_scale", 0.0, "smallest_scale must be above 0"),
        ("largest_scale", 0.4, "largest_scale must be at least 0.5, got 0.4"),
        ("crops", 0, "crops must be at least 1"),
        ("width", 0, "width must be at least 1"),
        ("dropout", 1.0, "dropout must be in"),
        ("learning_rate", 0.0, "learning_rate must be above 0"),
        ("momentum", 1.0, "momentum must be in"),
        ("weight_decay", -1.0, "weight_decay must be at least 0"),
        ("gradient_norm", 0.0, "gradient_norm must be above 0"),
        ("batch_size", 0, "batch_size must be at least 1"),
    ],
)
def test_values_that_allow_no_training_are_refused(setting, value, message):
    with pytest.raises(SettingError, match=message):
        ClassificationProtocol(**{setting: value})


def test_decoded_images_are_kept_up_to_a_number_of_bytes(lists):
    paths = lists[0].paths[:2]
    images = DecodedFiles(paths, 3, keep=3 * 36 * 48)
    first = images[0]
    assert images[0] is first
    assert images[1] is not images[1]
    assert torch.equal(images[1], DecodedFiles(paths, 3)[1])
    assert len(list(images)) == len(images) == 2
