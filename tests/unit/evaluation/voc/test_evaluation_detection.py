"""Detection on a small VOC: what is learnt, what stays as it is, and that no answer leaks into the test."""

import copy
from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
from torch import nn
from voc_tree import drawn_voc

from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation.voc.detection import DetectionRecord, detection, detections_of
from gan_lightning.evaluation.voc.detection_protocol import DetectionProtocol
from gan_lightning.evaluation.voc.detector_training import (
    ProposedImages,
    check_images,
    initial_squares,
    mirrored,
    new_detector,
    trained_detector,
)
from gan_lightning.evaluation.voc.devkit import BoxedImage, boxed_images
from gan_lightning.evaluation.voc.proposals import DenseWindows

QUICK = DetectionProtocol(
    short_side=36, long_side=48, width=24, dropout=0.0, regions=64, learning_rate=0.02, schedule=2 / 40_000
)
WINDOWS = DenseWindows(scales=(0.25, 0.35, 0.5))
CPU = torch.device("cpu")


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(OrderedDict(
            conv1=nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU()),
            conv2=nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU()),
        )).eval()  # fmt: skip


@pytest.fixture(scope="module")
def splits(tmp_path_factory) -> dict[str, ProposedImages]:
    voc = drawn_voc(tmp_path_factory.mktemp("voc"))
    lists = {split: boxed_images(voc, 2007, split) for split in ("trainval", "test")}
    return {
        split: ProposedImages(images, WINDOWS.find([image.path for image in images])) for split, images in lists.items()
    }


def without_objects(proposed: ProposedImages) -> ProposedImages:
    nothing = torch.empty(0, 4), torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.bool)
    return ProposedImages([BoxedImage(image.path, *nothing) for image in proposed.images], proposed.proposals)


def trained(train: ProposedImages, stages: nn.Sequential, depth: int, protocol: DetectionProtocol = QUICK):
    return trained_detector(stages, depth, train.with_objects(), protocol, 0, lambda done, total: None)


def measured(splits: dict[str, ProposedImages], **settings: object) -> list[DetectionRecord]:
    return detection({"trained": network()}, splits["trainval"], splits["test"], **{"protocol": QUICK, **settings})


def test_the_detector_finds_the_rectangle_and_an_untrained_one_does_not(splits):
    (record,) = measured(splits, protocol=replace(QUICK, schedule=60 / 40_000, width=32))
    (untrained,) = measured(splits, protocol=replace(QUICK, learning_rate=1e-12))
    for rule in ("area", "11_points"):
        assert list(record.precisions[rule]) == ["aeroplane", "bicycle"]
        assert record.precisions[rule]["aeroplane"] > 0.4
        assert record.mean(rule) > 0.6
        assert untrained.mean(rule) < 0.3
        assert record.mean(rule) == pytest.approx(sum(record.precisions[rule].values()) / 2)
    assert record.loss < untrained.loss


def test_frozen_convolutions_stay_bit_for_bit_and_the_others_are_trained(splits):
    stages = network()
    before = copy.deepcopy(stages.state_dict())
    stages[:1].requires_grad_(False)
    detector, _ = trained(splits["trainval"], stages, 1)
    for name, value in stages.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith("conv1."), name
    assert detector.backbone.front[0] is stages[0]


def test_the_given_network_and_the_random_state_stay_as_they_are(splits):
    given = network()
    before, state = copy.deepcopy(given.state_dict()), torch.get_rng_state()
    detection({"trained": given, "scratch": given}, splits["trainval"], splits["test"], protocol=QUICK)
    assert all(torch.equal(value, before[name]) for name, value in given.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_the_objects_of_the_test_images_do_not_reach_the_detector(splits, monkeypatch):
    """The same detections where the test images' boxes are gone, and boxes come from the proposals alone."""
    detector, _ = trained(splits["trainval"], network(), 1)
    calls = []
    for proposed in (splits["test"], without_objects(splits["test"])):
        paths = [image.path for image in proposed.images]
        calls.append(detections_of(detector, paths, proposed.proposals, lambda done, total: None))
    for one, other in zip(*calls, strict=True):
        assert all(torch.equal(getattr(one, part), getattr(other, part)) for part in ("boxes", "labels", "scores"))

    def refuse(*anything: object) -> None:
        raise AssertionError("the objects' own boxes are proposals")

    monkeypatch.setattr(type(detector.detector.roi_heads), "add_gt_proposals", refuse)
    detections_of(detector, paths, splits["test"].proposals, lambda done, total: None)
    with pytest.raises(AssertionError, match="own boxes"):
        trained(splits["trainval"], network(), 1)


def test_the_same_seed_gives_the_same_detector_and_another_one_another(splits):
    records = [measured(splits, seed=seed)[0] for seed in (0, 0, 1)]
    assert records[0].loss == records[1].loss != records[2].loss
    assert records[0].precisions == records[1].precisions


def test_training_images_without_an_object_and_difficult_objects_are_not_learnt(splits):
    learnt = splits["trainval"].with_objects()
    assert len(splits["trainval"].images) == 8
    assert [len(image.boxes) for image in learnt.images] == [1, 1, 2, 1, 1, 1, 2]
    assert not any(image.difficult.any() for image in learnt.images)
    assert len(learnt.proposals) == 7


def test_new_layers_are_scaled_by_regions_of_the_training_images(splits):
    train = splits["trainval"].with_objects()
    detector = new_detector(network(), 1, train, QUICK, 0)
    squares, boxes = initial_squares(train, QUICK, 3, CPU, 0)
    assert squares.shape == (7, 3, 36, 36)
    assert all(1 <= len(each) <= 16 and each.max() <= 36 and each.min() >= 0 for each in boxes)
    maps = detector.backbone.front(squares) / detector.backbone.scale
    assert maps.square().mean().sqrt().item() == pytest.approx(1, rel=1e-4)
    outputs = detector.trained_part(boxes).eval()(maps)
    assert outputs.std(dim=0).mean().item() == pytest.approx(1, abs=0.35)


def test_mirrored_boxes_are_those_of_the_mirrored_image():
    pixels = torch.zeros(1, 10, 20)
    pixels[:, 2:5, 3:9] = 1
    left, top, right, bottom = mirrored(torch.tensor([[3.0, 2, 9, 5]]), 20)[0].int().tolist()
    flipped = pixels.flip(-1)
    assert flipped[:, top:bottom, left:right].sum() == flipped.sum() == 18


def test_the_learning_rate_falls_after_three_quarters_and_biases_have_twice_the_rate(splits, monkeypatch):
    rates = []
    step = torch.optim.SGD.step

    def noted(self: torch.optim.SGD, *anything: object) -> object:
        rates.append([group["lr"] for group in self.param_groups])
        return step(self, *anything)

    monkeypatch.setattr(torch.optim.SGD, "step", noted)
    trained(splits["trainval"], network(), 1, replace(QUICK, schedule=4 / 40_000))
    assert rates == [pytest.approx(each) for each in [[0.02, 0.04]] * 3 + [[0.002, 0.004]]]


def test_networks_that_cannot_take_the_images_are_refused():
    with pytest.raises(SettingError, match=r"'it' must see images of 1 or 3 channels, got 2"):
        check_images("it", nn.Sequential(OrderedDict(conv1=nn.Conv2d(2, 3, 3))), QUICK)
    coarse = nn.Sequential(OrderedDict(conv1=nn.Conv2d(3, 2, 64, 64, 32)))
    with pytest.raises(SettingError, match=r"'it' must see images of at least 64 pixels, the stride.* got 36"):
        check_images("it", coarse, QUICK)
    fixed = nn.Sequential(OrderedDict(conv1=nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(4))))
    with pytest.raises(SettingError, match=r"'it' must have maps that grow with the image, got maps of one size"):
        check_images("it", fixed, QUICK)
    assert check_images("it", network(), QUICK) == (16, 4)


def test_a_training_that_diverges_says_so(splits):
    with pytest.raises(DataError, match=r"detector must stay finite, got NaN or infinity at learning_rate=1e\+30"):
        measured(splits, protocol=replace(QUICK, learning_rate=1e30, schedule=4 / 40_000))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("frozen_stages", -1), ("short_side", 0), ("long_side", 10), ("width", 0), ("dropout", 1.0), ("batch_size", 0),
        ("regions", 1), ("object_share", 0.0), ("schedule", 0.0), ("learning_rate", 0.0), ("momentum", 1.0),
        ("weight_decay", -1.0), ("overlap", 1.0), ("least_score", 1.0), ("detections", 0),
    ],
)  # fmt: skip
def test_settings_that_allow_no_training_are_refused(setting, value):
    with pytest.raises(SettingError, match=rf"^{setting} must be .*got {value}"):
        DetectionProtocol(**{setting: value})
