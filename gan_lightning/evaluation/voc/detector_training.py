"""The training of a detector from a network's convolutions, with the settings of Fast R-CNN."""

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.ops import clip_boxes_to_image, remove_small_boxes

from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation.sgd import sgd
from gan_lightning.evaluation.voc.decoding import DecodedFiles
from gan_lightning.evaluation.voc.detection_protocol import DetectionProtocol
from gan_lightning.evaluation.voc.detector import FastRCNN, FrontAndRest, image_transform
from gan_lightning.evaluation.voc.devkit import CLASSES, BoxedImage, read_image
from gan_lightning.evaluation.voc.proposals import Boxes
from gan_lightning.nets.data_dependent import affine_layers, data_dependent_
from gan_lightning.nets.stages import check_maps, stride_of

INITIAL_IMAGES, INITIAL_REGIONS = 16, 16
"""Images by which new weights are scaled, and most regions of each."""


class ProposedImages(NamedTuple):
    """The images of a split and their proposals.

    Attributes:
        images: With their objects.
        proposals: Of each image, in its pixels.
    """

    images: Sequence[BoxedImage]
    proposals: Sequence[Boxes]

    def with_objects(self) -> "ProposedImages":
        """Return the images with objects that are not difficult, and these objects alone: what a detector learns."""
        pairs = [(image, boxes) for image, boxes in zip(*self, strict=True) if not image.difficult.all()]
        easy = [(image, ~image.difficult) for image, _ in pairs]
        kept = [BoxedImage(each.path, each.boxes[own], each.labels[own], each.difficult[own]) for each, own in easy]
        return ProposedImages(kept, [boxes for _, boxes in pairs])


@torch.enable_grad()
def trained_detector(
    stages: nn.Sequential,
    depth: int,
    train: ProposedImages,
    protocol: DetectionProtocol,
    seed: int,
    told: Callable[[int, int], None],
) -> tuple[FastRCNN, float]:
    """Return a detector that was trained from stages, and its loss at the end.

    Args:
        stages: The convolutions; those after the first `depth` are trained in place.
        depth: Number of frozen ones.
        train: Images, each with an object.
        protocol: Settings.
        seed: For all that is drawn.
        told: Called after each step with the number of done ones and of all.

    Raises:
        SettingError: The stages cannot take the images.
        DataError: The training diverged.
    """
    torch.manual_seed(seed)
    detector = new_detector(stages, depth, train, protocol, seed)
    decay = {"weight_decay": protocol.weight_decay, "bias_decay": protocol.weight_decay}
    optimizer = sgd(detector, learning_rate=protocol.learning_rate, momentum=protocol.momentum, **decay)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, max(1, round(0.75 * protocol.steps)), gamma=0.1)
    losses: list[Tensor] = []
    detector.train()
    decoded = DecodedFiles([image.path for image in train.images], detector.channels)
    batches = _batches(len(train.images), protocol.batch_size, seed)
    for done, chosen in enumerate(itertools.islice(batches, protocol.steps), start=1):
        prepared = [_prepared(train, decoded, at, detector, protocol.flip) for at in chosen]
        images, proposals, targets = (list(part) for part in zip(*prepared, strict=True))
        loss = torch.stack(list(detector.losses(images, proposals, targets).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.detach())
        told(done, protocol.steps)
    last = torch.stack(losses[-max(1, protocol.steps // 10) :]).mean().item()
    if not all(weight.isfinite().all() for weight in detector.parameters()):
        raise DataError(
            f"The training of the detector must stay finite, got NaN or infinity at learning_rate="
            f"{protocol.learning_rate}; use a lower one."
        )
    return detector.eval(), last


def new_detector(
    stages: nn.Sequential, depth: int, train: ProposedImages, protocol: DetectionProtocol, seed: int
) -> FastRCNN:
    """Return a detector with new fully connected layers, scaled by regions of training images."""
    channels, device = channels_of(stages), next(stages.parameters()).device
    maps, stride = check_images("stages", stages, protocol)
    front, rest = stages[:depth], stages[depth:].requires_grad_(True)
    detector = FastRCNN(
        FrontAndRest(front, rest),
        image_transform(channels, protocol.short_side, protocol.long_side),
        maps=maps,
        stride=stride,
        classes=len(CLASSES),
        width=protocol.width,
        dropout=protocol.dropout,
        regions=protocol.regions // protocol.batch_size,
        objects=protocol.object_share,
        least_score=protocol.least_score,
        overlap=protocol.overlap,
        most=protocol.detections,
    ).to(device)
    squares, boxes = initial_squares(train, protocol, channels, device, seed)
    with torch.no_grad():
        seen = front(squares)
        detector.backbone.scale.copy_(seen.square().mean().sqrt().clamp(min=torch.finfo(seen.dtype).tiny))
    trained = detector.trained_part(boxes)
    new = [layer for layer in affine_layers(trained) if layer.startswith("head.")]
    data_dependent_(trained, seen / detector.backbone.scale, layers=new, seed=seed)
    return detector


def channels_of(stages: nn.Sequential) -> int:
    """Return the channels of the images that stages see: those of their first convolution."""
    return next(layer.in_channels for layer in stages.modules() if isinstance(layer, nn.Conv2d))


def check_images(name: str, stages: nn.Sequential, protocol: DetectionProtocol) -> tuple[int, int]:
    """Check that stages can take VOC's images; return the channels of their maps and their stride in pixels.

    Args:
        name: The network's, in an error.
        stages: In eval mode.
        protocol: Settings of the training.

    Raises:
        SettingError: They see other images than grey or coloured ones, a stage cannot take images of this size, or the
            maps do not tell their stride.
    """
    channels, device = channels_of(stages), next(stages.parameters()).device
    if channels not in (1, 3):
        raise SettingError(f"{name!r} must see images of 1 or 3 channels, got {channels}. Leave it out.")
    maps, _ = check_maps(name, copy.deepcopy(stages).float(), channels, protocol.short_side, device)
    stride = stride_of(stages, channels)
    if stride is None:
        raise SettingError(
            f"{name!r} must have maps that grow with the image, got maps of one size. End its stages before a pooling "
            "to a fixed size."
        )
    return maps, stride


def initial_squares(
    train: ProposedImages, protocol: DetectionProtocol, channels: int, device: torch.device, seed: int
) -> tuple[Float[Tensor, "images channels edge edge"], list[Boxes]]:
    """Return corners of training images for the scales of new weights, as the stages see them, and regions in them.

    Args:
        train: The images and their proposals.
        protocol: Settings of the training.
        channels: Of the images.
        device: Device of the stages.
        seed: For the choice of images and regions.
    """
    rng = torch.Generator().manual_seed(seed)
    resize = image_transform(channels, protocol.short_side, protocol.long_side).eval()
    squares, regions = [], []
    for at in torch.randperm(len(train.images), generator=rng)[:INITIAL_IMAGES].tolist():
        image = read_image(train.images[at].path, channels).to(device).float() / 255
        seen, targets = resize([image], [{"boxes": train.proposals[at].to(device)}])
        height, width = seen.image_sizes[0]
        squares.append(seen.tensors[0, :, :height, :width])
        order = torch.randperm(len(train.proposals[at]), generator=rng)
        regions.append(targets[0]["boxes"][order.to(device)])
    edge = min(min(each.shape[1:]) for each in squares)
    whole = torch.tensor([[0.0, 0.0, edge, edge]], device=device)
    boxes = []
    for each in regions:
        inside = clip_boxes_to_image(each, (edge, edge))
        inside = inside[remove_small_boxes(inside, 1)][:INITIAL_REGIONS]
        boxes.append(inside if len(inside) else whole)
    return torch.stack([each[:, :edge, :edge] for each in squares]), boxes


def _prepared(
    train: ProposedImages, decoded: DecodedFiles, at: int, detector: FastRCNN, flip: bool
) -> tuple[Tensor, Boxes, dict[str, Tensor]]:
    """Return an image in [0, 1], its proposals and its objects, mirrored half of the time if `flip`."""
    device, image = detector.backbone.scale.device, train.images[at]
    pixels = decoded[at].to(device).float() / 255
    proposals, boxes = train.proposals[at].to(device), image.boxes.to(device)
    if flip and torch.rand(()) < 0.5:
        pixels = pixels.flip(-1)
        proposals, boxes = (mirrored(each, pixels.shape[-1]) for each in (proposals, boxes))
    return pixels, proposals, {"boxes": boxes, "labels": image.labels.to(device) + 1}


def mirrored(boxes: Boxes, width: int) -> Boxes:
    """Return the boxes in the image mirrored left to right; its width is in pixels."""
    left, top, right, bottom = boxes.unbind(1)
    return torch.stack([width - right, top, width - left, bottom], dim=1)


def _batches(images: int, batch_size: int, seed: int) -> Iterator[list[int]]:
    """Yield the places of the images of each step; each image comes once before one comes again."""
    rng = torch.Generator().manual_seed(seed)
    places = itertools.chain.from_iterable(iter(lambda: torch.randperm(images, generator=rng).tolist(), None))
    while True:
        yield list(itertools.islice(places, batch_size))
