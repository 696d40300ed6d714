"""The detections that are right by VOC's rule."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor
from torchvision.ops import box_iou

from gan_lightning.evaluation.voc.devkit import BoxedImage

RIGHT = 0.5
"""Least intersection over union of a right detection with its object."""


@dataclass(frozen=True)
class Detections:
    """The detections in an image.

    Attributes:
        boxes: Left, top, right and bottom edges, in pixels of the image.
        labels: Places in `CLASSES`.
        scores: Larger is surer.
    """

    boxes: Float[Tensor, "detections 4"]
    labels: Integer[Tensor, " detections"]
    scores: Float[Tensor, " detections"]


@dataclass(frozen=True)
class JudgedDetections:
    """The detections of one class in all images, the surest first, without those that do not count.

    Attributes:
        scores: Of each.
        right: Whether it is right.
        objects: Number of objects to find.
    """

    scores: Float[Tensor, " counted"]
    right: Bool[Tensor, " counted"]
    objects: int


def judged(
    images: Sequence[BoxedImage], detections: Sequence[Detections], label: int, *, overlap: float = RIGHT
) -> JudgedDetections:
    """Judge all detections of a class, the surest first.

    A detection belongs to the object of its class in its image with the largest intersection over union. It is right
    if this is `overlap` or more, and if no surer one belongs to the object: a second one of an object is wrong. A
    difficult object need not be found, and a detection that belongs to one does not count.

    Args:
        images: With their objects.
        detections: In each image.
        label: The class.
        overlap: Least intersection over union of a right detection.

    Source:
        Everingham et al. 2010, section 4.2, and VOCevaldet.m of the development kit.
    """
    objects = [(image.boxes[image.labels == label], image.difficult[image.labels == label]) for image in images]
    taken = [torch.zeros(len(difficult), dtype=torch.bool) for _, difficult in objects]
    rows: list[tuple[float, int, int]] = []
    best: dict[tuple[int, int], tuple[float, int]] = {}
    for at, found in enumerate(detections):
        own = (found.labels == label).nonzero()[:, 0].cpu()
        rows += [(-score, at, place) for place, score in enumerate(found.scores.cpu()[own].tolist())]
        if len(objects[at][0]) and len(own):
            overlaps, belongs = box_iou(found.boxes.cpu()[own], objects[at][0]).max(dim=1)
            pairs = zip(overlaps.tolist(), belongs.tolist(), strict=True)
            best |= {(at, place): pair for place, pair in enumerate(pairs)}
    scores, right = [], []
    for score, at, place in sorted(rows):
        most, belongs_to = best.get((at, place), (0.0, 0))
        near = most >= overlap
        if near and objects[at][1][belongs_to]:
            continue
        right.append(bool(near and not taken[at][belongs_to]))
        scores.append(-score)
        if near:
            taken[at][belongs_to] = True
    to_find = sum(int((~difficult).sum()) for _, difficult in objects)
    return JudgedDetections(torch.tensor(scores), torch.tensor(right, dtype=torch.bool), to_find)
