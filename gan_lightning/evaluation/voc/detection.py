"""The worth of a network's convolutions for detection: Fast R-CNN on PASCAL VOC, trained from them.

The first stages stay frozen. The later ones are trained from the extractor's weights, with new fully connected layers
on regions of their maps. Other rows start from random weights, or from the means of clusters of patches.
"""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

import torch
from torch import nn

from gan_lightning.errors import DataError
from gan_lightning.evaluation.depth_protocol import FrozenWeights
from gan_lightning.evaluation.features import frozen
from gan_lightning.evaluation.probes.probe import Progress
from gan_lightning.evaluation.voc.average_precision import PrecisionRule, average_precision
from gan_lightning.evaluation.voc.detection_protocol import DETECTION, DetectionProtocol
from gan_lightning.evaluation.voc.detector import FastRCNN
from gan_lightning.evaluation.voc.detector_training import ProposedImages, trained_detector
from gan_lightning.evaluation.voc.devkit import CLASSES, BoxedImage, read_image
from gan_lightning.evaluation.voc.found_boxes import Detections, judged
from gan_lightning.evaluation.voc.proposals import Boxes
from gan_lightning.system.processes import on_first_process


@dataclass(frozen=True)
class DetectionRecord:
    """What a detector found.

    Attributes:
        weights: Of the convolutions at the start.
        precisions: Average precision of each class, in [0, 1], by the rule.
        loss: Mean training loss of the last tenth of the steps, nats and squared offsets.
        seconds: Wall time of the training and the test.
    """

    weights: FrozenWeights
    precisions: Mapping[PrecisionRule, Mapping[str, float]]
    loss: float
    seconds: float

    def mean(self, rule: PrecisionRule) -> float:
        """Return the mean average precision over the classes."""
        return sum(self.precisions[rule].values()) / len(self.precisions[rule])


def measured_classes(train: Sequence[BoxedImage], test: Sequence[BoxedImage]) -> dict[str, str]:
    """Return all classes, each with the reason why it is left out, "" for one that is measured.

    Raises:
        DataError: None is measured.
    """
    seen, sought = (
        {int(label) for image in images for label in image.labels[~image.difficult]} for images in (train, test)
    )
    reasons = {
        kind: "no training image has it" if at not in seen else "no test image has it" if at not in sought else ""
        for at, kind in enumerate(CLASSES)
    }
    if all(reasons.values()):
        raise DataError("Detection needs a class with objects to train on and to find, got none. Use more images.")
    return reasons


def detection(
    rows: Mapping[FrozenWeights, nn.Sequential],
    train: ProposedImages,
    test: ProposedImages,
    *,
    protocol: DetectionProtocol = DETECTION,
    seed: int = 0,
    name: str = "extractor",
    device: torch.device | None = None,
    progress: Progress | None = None,
) -> list[DetectionRecord]:
    """Train a detector from each network's convolutions, and measure what it finds; the networks stay unchanged.

    All is computed in float32. The row "scratch" has no frozen convolution. fc6 and fc7 are drawn anew, and scaled with
    the trained convolutions by regions of training images (`nets.data_dependent`). The outputs of the frozen
    convolutions are divided by their root mean square before. Training images without an object that is not difficult
    are left out. A test image's own boxes are used by the judgement alone. If several processes run, the first one
    trains.

    Args:
        rows: The stages with the weights to start from, from `nets.stages.stages_of`: images in [-1, 1] to maps.
        train: Images to learn from.
        test: Images to find objects in.
        protocol: Settings of the training and the test.
        seed: For new weights, the order of the images, their regions, flips and dropout.
        name: The extractor's, for the progress.
        device: Device of the networks.
        progress: Called after each step.

    Returns:
        A record of each row.

    Raises:
        SettingError: The stages cannot take the images.
        DataError: No class is measured, an image cannot be read, or the training diverged.
        RuntimeError: A frozen stage changed.

    Source:
        Donahue et al. 2017, Table 3, detection; Girshick 2015.
    """
    device = device or torch.device("cpu")
    report = progress or (lambda description, done, total: None)
    labels = {CLASSES.index(kind): kind for kind, why in measured_classes(train.images, test.images).items() if not why}

    def train_all() -> list[DetectionRecord]:
        records = []
        for weights, stages in rows.items():
            started = time.perf_counter()
            own = copy.deepcopy(stages).float().to(device)
            depth = 0 if weights == "scratch" else protocol.frozen_stages
            with frozen({"frozen stages": own[:depth]}):
                told = partial(report, f"{name} detection, {weights} weights")
                detector, loss = trained_detector(own, depth, train.with_objects(), protocol, seed, told)
                told = partial(report, f"{name} detections, {weights} weights")
                found = detections_of(detector, [image.path for image in test.images], test.proposals, told)
            precisions = {rule: precisions_of(test.images, found, labels, rule) for rule in get_args(PrecisionRule)}
            records.append(DetectionRecord(weights, precisions, loss, time.perf_counter() - started))
        return records

    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        return on_first_process(train_all)


def precisions_of(
    images: Sequence[BoxedImage], found: Sequence[Detections], labels: Mapping[int, str], rule: PrecisionRule
) -> dict[str, float]:
    """Return the average precision of each class, by its name.

    Args:
        images: With their objects.
        found: The detections in each image.
        labels: Names of the classes, by their places in `CLASSES`.
        rule: Way to sum up precision and recall.
    """
    each = {kind: judged(images, found, label) for label, kind in labels.items()}
    return {kind: average_precision(own.scores, own.right, rule, positives=own.objects) for kind, own in each.items()}


def detections_of(
    detector: FastRCNN, paths: Sequence[Path], proposals: Sequence[Boxes], told: Callable[[int, int], None]
) -> list[Detections]:
    """Return what a detector finds in each image, from its pixels and proposals alone.

    Args:
        detector: In eval mode.
        paths: The image files.
        proposals: Of each image, in its pixels.
        told: Called after each image with the number of done ones and of all.
    """
    device, found = detector.backbone.scale.device, []
    for done, (path, boxes) in enumerate(zip(paths, proposals, strict=True), start=1):
        pixels = read_image(path, detector.channels).to(device).float() / 255
        with torch.no_grad():
            own = detector.detect(pixels, boxes.to(device))
        found.append(Detections(own["boxes"].cpu(), own["labels"].cpu() - 1, own["scores"].cpu()))
        told(done, len(paths))
    return found
