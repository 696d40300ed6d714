"""Fast R-CNN on the convolutions of any network, of torchvision's parts: proposals come from outside.

Source:
    Girshick 2015, *Fast R-CNN*, and its author's code with CaffeNet, which is AlexNet.

Deviations from that code:
    - fc6 and fc7 end in leaky ReLUs, as those of `nets.fully_connected_head` do.
    - An image has at most 100 detections of all classes together, above a least probability. The code has 100 of each
      class, and no least probability.

As in that code, a place of the maps is taken to lie at its number times the stride. Without padding it lies further
right and down, by the same few pixels for all boxes.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes
from torchvision.ops import RoIPool, box_iou

from gan_lightning.evaluation.voc.proposals import Boxes
from gan_lightning.nets.fully_connected_head import POOLED, hidden_layers

OBJECT, BACKGROUND = 0.5, 0.1
"""Least intersection over union of a training box with an object to be of its class, and to be background."""

CLASS_STD, BOX_STD = 0.01, 0.001
"""Standard deviations of the first weights of the layers that give classes and boxes."""

Losses = dict[str, Tensor]
Targets = list[dict[str, Tensor]]


class GivenProposals(nn.Module):
    """Proposals from outside, in the place of a network that proposes boxes.

    `boxes` are those of the images that come next, in pixels of the images as they are given. torchvision resizes
    images and the objects' boxes; here the proposals are resized alike.
    """

    def __init__(self) -> None:
        super().__init__()
        self.boxes: Sequence[Boxes] = ()
        self.sizes: Sequence[tuple[int, int]] = ()

    def of(self, boxes: Sequence[Boxes], images: Sequence[Tensor]) -> None:
        """Take the boxes of the next images, before these are resized."""
        self.boxes = boxes
        self.sizes = [(image.shape[-2], image.shape[-1]) for image in images]

    def forward(
        self, images: ImageList, features: dict[str, Tensor], targets: Targets | None = None
    ) -> tuple[list[Boxes], Losses]:
        """Return the proposals in pixels of the resized images, and no losses."""
        sizes = zip(self.boxes, self.sizes, images.image_sizes, strict=True)
        return [resize_boxes(boxes, list(given), list(resized)) for boxes, given, resized in sizes], {}


class RegionPool(nn.Module):
    """The maxima of 6x6 parts of a map, within each box.

    Args:
        stride: Pixels of the image between neighbouring places of the map.
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.pool = RoIPool(POOLED, 1 / stride)

    def forward(
        self, features: dict[str, Tensor], boxes: list[Boxes], sizes: Sequence[tuple[int, int]] = ()
    ) -> Float[Tensor, "boxes channels 6 6"]:
        """Return the boxes of all images, one after another."""
        return self.pool(features["0"], boxes)


class RegionHeads(RoIHeads):
    """torchvision's heads with the two rules of Fast R-CNN that it lacks: which boxes are background, and the loss."""

    def assign_targets_to_proposals(
        self, proposals: list[Boxes], gt_boxes: list[Boxes], gt_labels: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return the object and the label of each proposal; -1 for one that is neither object nor background.

        Source:
            Girshick 2015, section 2.3, mini-batch sampling: background has a largest overlap in [0.1, 0.5).
        """
        matched, labels = super().assign_targets_to_proposals(proposals, gt_boxes, gt_labels)
        for boxes, objects, own in zip(proposals, gt_boxes, labels, strict=True):
            if len(objects):
                own[box_iou(objects, boxes).amax(dim=0) < BACKGROUND] = -1
        return matched, labels

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Boxes],
        image_shapes: list[tuple[int, int]],
        targets: Targets | None = None,
    ) -> tuple[list[dict[str, Tensor]], Losses]:
        """Return detections, or losses in training.

        Source:
            Girshick 2015, eq. 1 to 3. torchvision's loss of boxes turns linear at 1/9 instead of 1.
        """
        if not self.training:
            found: tuple[list[dict[str, Tensor]], Losses] = super().forward(features, proposals, image_shapes)
            return found
        boxes, _, labels, wanted = self.select_training_samples(proposals, targets)
        logits, offsets = self.box_predictor(self.box_head(self.box_roi_pool(features, boxes, image_shapes)))
        return [], fast_rcnn_loss(logits, offsets, torch.cat(labels), torch.cat(wanted))


def fast_rcnn_loss(
    logits: Float[Tensor, "boxes classes"],
    offsets: Float[Tensor, "boxes values"],
    labels: Tensor,
    wanted: Float[Tensor, "boxes 4"],
) -> Losses:
    """Return the mean cross-entropy over boxes, and the smooth ℓ1 distance of objects' offsets over all boxes.

    Args:
        logits: Of background and of each class.
        offsets: Four for background, then four for each class.
        labels: 0 for background, a class from 1.
        wanted: The offsets of each box to its object, normalised.

    Source:
        Girshick 2015, eq. 1 to 3 with λ = 1.
    """
    objects = (labels > 0).nonzero()[:, 0]
    own = offsets.unflatten(1, (-1, 4))[objects, labels[objects]]
    distance = F.smooth_l1_loss(own, wanted[objects], reduction="sum") / max(1, len(labels))
    return {"classes": F.cross_entropy(logits, labels), "boxes": distance}


class FrontAndRest(nn.Module):
    """The convolutions: the first ones frozen, their outputs divided by a number, then the trained ones.

    All stay in eval mode: batch norm uses the statistics that it came with, for a step sees two images.
    """

    scale: Tensor

    def __init__(self, front: nn.Sequential, rest: nn.Sequential) -> None:
        super().__init__()
        self.front, self.rest = front, rest
        self.register_buffer("scale", torch.ones(()))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the maps."""
        with torch.no_grad():
            maps = self.front(images) / self.scale
        return OrderedDict([("0", self.rest(maps))])

    def train(self, mode: bool = True) -> "FrontAndRest":
        """Stay in eval mode."""
        return super().train(False)


class FastRCNN(nn.Module):
    """A detector of boxes and classes.

    Args:
        backbone: The convolutions.
        transform: Resizes images, and makes values in [0, 1] those that the convolutions see.
        maps: Channels of the convolutions' maps.
        stride: Of the convolutions, pixels.
        classes: Number of classes.
        width: Units of fc6 and of fc7.
        dropout: Probability of leaving out a unit of fc6 or fc7.
        regions: Boxes of an image that a step learns from.
        objects: Largest share of objects among them.
        least_score: Least probability of a detection.
        overlap: Largest intersection over union of two detections of a class in one image.
        most: Most detections in an image.
    """

    def __init__(
        self,
        backbone: FrontAndRest,
        transform: GeneralizedRCNNTransform,
        *,
        maps: int,
        stride: int,
        classes: int,
        width: int,
        dropout: float,
        regions: int,
        objects: float,
        least_score: float,
        overlap: float,
        most: int,
    ) -> None:
        super().__init__()
        head = nn.Sequential(OrderedDict(flatten=nn.Flatten(), **hidden_layers(maps * POOLED**2, width, dropout)))
        predictor = FastRCNNPredictor(width, classes + 1)
        for layer, std in ((predictor.cls_score, CLASS_STD), (predictor.bbox_pred, BOX_STD)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)
        pool = RegionPool(stride)
        heads = RegionHeads(
            *(pool, head, predictor, OBJECT, OBJECT, regions, objects, None, least_score, overlap, most)
        )
        self.proposals = GivenProposals()
        self.detector = GeneralizedRCNN(backbone, self.proposals, heads, transform)

    @property
    def channels(self) -> int:
        """Channels of the images."""
        return len(self.detector.transform.image_mean)

    @property
    def backbone(self) -> FrontAndRest:
        """The convolutions."""
        found: FrontAndRest = self.detector.backbone
        return found

    def trained_part(self, boxes: Sequence[Boxes]) -> "TrainedPart":
        """Return all but the frozen convolutions and the last layers, for boxes of resized images."""
        heads = self.detector.roi_heads
        return TrainedPart(self.backbone.rest, heads.box_roi_pool, heads.box_head, boxes)

    def losses(self, images: Sequence[Tensor], proposals: Sequence[Boxes], targets: Targets) -> Losses:
        """Return the losses of a step; the objects' own boxes are proposals, too.

        Args:
            images: In [0, 1], (channels, height, width) each.
            proposals: Of each image, in its pixels.
            targets: `boxes`, and `labels` from 1, of each image.
        """
        self.proposals.of(proposals, images)
        found: Losses = self.detector(list(images), targets)
        return found

    def detect(self, image: Tensor, proposals: Boxes) -> dict[str, Tensor]:
        """Return `boxes`, `labels` from 1 and `scores`, the surest first; from the proposals alone.

        Args:
            image: In [0, 1], (channels, height, width).
            proposals: In its pixels.
        """
        self.proposals.of([proposals], [image])
        found: dict[str, Tensor] = self.detector([image])[0]
        return found


class TrainedPart(nn.Module):
    """The trained convolutions, the pooling of some boxes, fc6 and fc7; its inputs are outputs of the frozen ones."""

    def __init__(self, rest: nn.Sequential, pool: RegionPool, head: nn.Sequential, boxes: Sequence[Boxes]) -> None:
        super().__init__()
        self.rest, self.pool, self.head, self.boxes = rest, pool, head, list(boxes)

    def forward(self, maps: Tensor) -> Float[Tensor, "boxes width"]:
        """Return the values of all boxes of these images."""
        found: Tensor = self.head(self.pool({"0": self.rest(maps)}, self.boxes))
        return found


def image_transform(channels: int, short_side: int, long_side: int) -> GeneralizedRCNNTransform:
    """Return what resizes images, and makes values in [0, 1] values in [-1, 1], as the extractors have seen them.

    Args:
        channels: Of the images.
        short_side: Edge to which an image's shorter side is resized, pixels.
        long_side: Most pixels of its longer side; a longer image is resized to it.
    """
    grey = [0.5] * channels
    return GeneralizedRCNNTransform(short_side, long_side, grey, grey)
