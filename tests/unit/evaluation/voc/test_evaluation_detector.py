"""The detector: the rules of Fast R-CNN that torchvision lacks, and boxes in pixels of the right image."""

import math
from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import RoIPool, box_iou

from gan_lightning.evaluation.voc.detector import (
    FastRCNN,
    FrontAndRest,
    GivenProposals,
    RegionPool,
    fast_rcnn_loss,
    image_transform,
)

IMAGE = torch.rand(3, 20, 40, generator=torch.Generator().manual_seed(0))
OBJECT = torch.tensor([[4.0, 4.0, 14.0, 14.0]])
BOXES = torch.tensor([[4.0, 4, 14, 14], [5, 5, 14, 14], [4, 4, 14, 8], [4, 4, 14, 4.5], [20, 0, 40, 20]])
"""Of intersections over union with OBJECT of 1, 0.81, 0.4, 0.05 and 0."""


def detector(short_side: int = 20, **settings: object) -> FastRCNN:
    torch.manual_seed(0)
    stages = nn.Sequential(OrderedDict(conv1=nn.Conv2d(3, 4, 2, 2), conv2=nn.Conv2d(4, 5, 2, 2)))
    usual = {"regions": 8, "objects": 0.25, "least_score": 0.0, "overlap": 0.3, "most": 100}
    return FastRCNN(
        FrontAndRest(stages[:1], stages[1:]),
        image_transform(3, short_side, 4 * short_side),
        maps=5,
        stride=4,
        classes=2,
        width=6,
        dropout=0.0,
        **{**usual, **settings},
    )


def labels_of(boxes: torch.Tensor, objects: torch.Tensor) -> list[int]:
    heads = detector().detector.roi_heads
    return heads.assign_targets_to_proposals([boxes], [objects], [torch.full((len(objects),), 2)])[1][0].tolist()


def test_background_overlaps_its_nearest_object_by_a_tenth_to_a_half():
    assert labels_of(BOXES, OBJECT) == [2, 2, 0, -1, -1]
    also = torch.cat([OBJECT, torch.tensor([[20.0, 0, 40, 10]])])
    assert labels_of(BOXES, also) == [2, 2, 0, -1, 2]


def test_the_loss_is_equations_1_to_3():
    rng = torch.Generator().manual_seed(1)
    logits, offsets = torch.randn(4, 3, generator=rng), 2 * torch.randn(4, 12, generator=rng)
    labels, wanted = torch.tensor([0, 2, 1, 0]), torch.randn(4, 4, generator=rng)
    losses = fast_rcnn_loss(logits, offsets, labels, wanted)
    classes = -sum(math.log(logits[row].softmax(0)[label]) for row, label in enumerate(labels.tolist())) / 4
    assert losses["classes"].item() == pytest.approx(classes, rel=1e-5)
    distance = 0.0
    for row in (1, 2):
        start = 4 * int(labels[row])
        for own, other in zip(offsets[row, start : start + 4].tolist(), wanted[row].tolist(), strict=True):
            away = abs(own - other)
            distance += away**2 / 2 if away < 1 else away - 0.5
    assert losses["boxes"].item() == pytest.approx(distance / 4, rel=1e-5)
    assert any(away > 1 for away in (offsets[1, 8:12] - wanted[1]).abs().tolist())


def test_proposals_are_resized_as_images_are():
    given, image = GivenProposals(), torch.rand(3, 20, 40)
    given.of([BOXES], [image])
    seen, targets = image_transform(3, 50, 1000)([image], [{"boxes": BOXES}])
    (resized,), losses = given(seen, {})
    assert torch.equal(resized, targets[0]["boxes"])
    assert torch.allclose(resized, 2.5 * BOXES)
    assert losses == {}


@pytest.mark.parametrize("short_side", [10, 20, 37])
def test_without_offsets_the_detections_are_the_proposals_in_pixels_of_the_given_image(short_side):
    network = detector(short_side, overlap=0.999).eval()
    nn.init.zeros_(network.detector.roi_heads.box_predictor.bbox_pred.weight)
    found = network.detect(IMAGE, BOXES)
    assert box_iou(found["boxes"], BOXES).amax(dim=1).min() > 0.99
    assert len(found["boxes"]) == 2 * len(BOXES)


def test_regions_are_pooled_at_the_true_stride():
    maps = torch.rand(2, 3, 5, 10)
    boxes = [BOXES, BOXES[:2]]
    assert torch.equal(RegionPool(4)({"0": maps}, boxes), RoIPool((6, 6), 0.25)(maps, boxes))
    inside = RegionPool(4)({"0": maps}, [torch.tensor([[0.0, 0.0, 39.0, 19.0]]), BOXES[:1]])[0]
    assert torch.equal(inside.amax(dim=(1, 2)), maps[0].amax(dim=(1, 2)))


def test_images_in_0_to_1_are_seen_in_minus_1_to_1():
    seen, _ = image_transform(1, 20, 40)([torch.tensor([[[0.0, 0.25, 1.0]]]).repeat(1, 3, 1)])
    assert (seen.tensors.min(), seen.tensors.max()) == (-1, 1)


def test_the_first_weights_have_their_deviations_and_the_objects_own_boxes_are_learnt_from():
    network = detector()
    predictor = network.detector.roi_heads.box_predictor
    assert predictor.cls_score.weight.std().item() == pytest.approx(0.01, rel=0.4)
    assert predictor.bbox_pred.weight.std().item() == pytest.approx(0.001, rel=0.4)
    assert not predictor.cls_score.bias.any()
    target = {"boxes": OBJECT, "labels": torch.tensor([1])}
    far = torch.tensor([[20.0, 0, 40, 20]])  # no object and no background: the object's own box is all there is
    losses = network.losses([IMAGE], [far], [target])
    boxes = network.detector.roi_heads.select_training_samples([far], [target])
    assert torch.equal(boxes[0][0], OBJECT)
    assert all(loss.isfinite() for loss in losses.values())


def test_a_step_moves_all_but_the_frozen_convolutions():
    network = detector()
    network.backbone.front.requires_grad_(False)
    network.train()
    losses = network.losses([IMAGE], [BOXES], [{"boxes": OBJECT, "labels": torch.tensor([1])}])
    sum(losses.values()).backward()
    without = {name for name, weight in network.named_parameters() if weight.grad is None}
    assert without == {"detector.backbone.front.conv1.weight", "detector.backbone.front.conv1.bias"}
    assert not network.backbone.training
    assert network.detector.roi_heads.box_head.training


def test_the_trained_part_gives_what_fc7_gives():
    network = detector().eval()
    maps = network.backbone.front(IMAGE[None]) / network.backbone.scale
    found = network.trained_part([BOXES])(maps)
    pooled = RegionPool(4)(network.backbone(IMAGE[None]), [BOXES])
    hidden = pooled.flatten(1)
    for name in ("fc6", "fc7"):
        layer = network.detector.roi_heads.box_head.get_submodule(name)[0]
        hidden = F.leaky_relu(hidden @ layer.weight.T + layer.bias, 0.2)
    assert torch.allclose(found, hidden, atol=1e-6)
