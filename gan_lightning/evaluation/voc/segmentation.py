"""VOC segmentation: which class each pixel is of, by FCN-32s on a network's convolutions.

Source:
    Donahue et al. 2017, section 4.3 and Table 3. The paper has no settings. Those here are of the reference
    implementation that it names: Long et al. 2015, `voc-fcn-alexnet`.

Deviation:
    - It trains on VOC's own masks alone. The reference implementation has more of them, of another data set (SBD).
"""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from gan_lightning.errors import DataError, above, at_least, below_one
from gan_lightning.evaluation.depth_protocol import FrozenWeights
from gan_lightning.evaluation.probes.probe import Progress
from gan_lightning.evaluation.sgd import sgd, train_alone
from gan_lightning.evaluation.tensors import from_bytes
from gan_lightning.evaluation.voc.classification import check_finite, initial_squares
from gan_lightning.evaluation.voc.confusion import confusion, intersection_over_union, pixel_accuracy
from gan_lightning.evaluation.voc.decoding import DecodedFiles
from gan_lightning.evaluation.voc.devkit import CLASSES, VOID, MaskedImage, image_size, read_mask
from gan_lightning.nets.data_dependent import data_dependent_
from gan_lightning.nets.fully_convolutional import FullyConvolutional
from gan_lightning.system.reading import shown

PIXEL_CLASSES = ("background", *CLASSES)
"""Names of the values of a mask."""

ITERATIONS = 100_000
"""Steps of the authors' schedule, all at the same learning rate."""

SQUARES = (0.5, 2.0)
"""Scales of the squares by which new weights are scaled, as in VOC classification."""


@dataclass(frozen=True)
class SegmentationProtocol:
    """Supervised training on VOC's masks, one whole image after the other. The defaults are the authors'.

    Attributes:
        schedule: Factor of the authors' schedule of 100,000 steps.
        width: Channels of fc6 and of fc7.
        dropout: Probability of leaving out a value of fc6 or fc7.
        learning_rate: Of each step. Biases learn at twice the rate.
        momentum: Share of the last step that is added to the next.
        weight_decay: Coupled ℓ2, on all weights but biases.
        batch_size: Images per step; the loss of each is a mean over its known pixels.
    """

    schedule: float = 1.0
    width: int = 4096
    dropout: float = 0.5
    learning_rate: float = 1e-4
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 20

    def __post_init__(self) -> None:
        """Refuse values that do not allow a training."""
        above(self, 0, "1 is the authors'.", schedule=self.schedule)
        at_least(self, 1, "4096 is AlexNet's.", width=self.width)
        below_one(self, "0.5 is AlexNet's.", dropout=self.dropout)
        above(self, 0, "0.0001 is the authors'.", learning_rate=self.learning_rate)
        below_one(self, "0.9 is the authors'.", momentum=self.momentum)
        at_least(self, 0, "0.0005 is the authors'.", weight_decay=self.weight_decay)
        at_least(self, 1, "20 is the authors'.", batch_size=self.batch_size)

    @property
    def iterations(self) -> int:
        """Number of steps."""
        return max(1, round(self.schedule * ITERATIONS))


VOC_SEGMENTATION = SegmentationProtocol()


@dataclass(frozen=True)
class SegmentationRecord:
    """A cell of Table 3.

    Attributes:
        weights: Of the convolutions at the start.
        overlaps: Intersection over union of each class, in [0, 1].
        pixel_accuracy: Share of the known pixels that are right.
        seconds: Wall time of the training and the test.
    """

    weights: FrozenWeights
    overlaps: Mapping[str, float]
    pixel_accuracy: float
    seconds: float

    @property
    def mean(self) -> float:
        """The mean intersection over union, in [0, 1]."""
        return sum(self.overlaps.values()) / len(self.overlaps)


def mask_values(images: Sequence[MaskedImage]) -> set[int]:
    """Return the values of all masks but void, after checking each mask.

    Raises:
        DataError: A mask is damaged, or has another size than its image; names it.
    """
    values: set[int] = set()
    for image in images:
        mask = read_mask(image.mask)
        width, height = image_size(image.path)
        if tuple(mask.shape) != (height, width):
            raise DataError(
                f"'{shown(image.mask)}' must have its image's size, {width}x{height} pixels, got "
                f"{mask.shape[1]}x{mask.shape[0]}. Unpack the data set again."
            )
        values |= set(mask.unique().tolist())
    return values - {VOID}


def measured_values(train: set[int], test: set[int]) -> tuple[list[int], dict[str, str]]:
    """Return the values that can be measured, and why the others cannot, by their classes' names.

    Args:
        train: Values of the training masks.
        test: Values of the test masks.

    Raises:
        DataError: No class can be measured.
    """
    left_out: dict[str, str] = {}
    for value, name in enumerate(PIXEL_CLASSES):
        for values, what in ((train, "no training mask"), (test, "no test mask")):
            if value not in values:
                left_out.setdefault(name, f"{what} has it")
    if len(left_out) == len(PIXEL_CLASSES):
        raise DataError("VOC's masks must share a class between training and test, got none. Raise the limit.")
    return [value for value, name in enumerate(PIXEL_CLASSES) if name not in left_out], left_out


def segment(
    rows: Mapping[FrozenWeights, nn.Sequential],
    train: Sequence[MaskedImage],
    test: Sequence[MaskedImage],
    *,
    channels: int,
    measured: Sequence[int],
    protocol: SegmentationProtocol = VOC_SEGMENTATION,
    seed: int = 0,
    name: str = "extractor",
    progress: Progress | None = None,
) -> list[SegmentationRecord]:
    """Train FCN-32s from each row's convolutions on VOC's masks; return how well it finds the test's.

    All layers are trained. fc6 and fc7 start with normal weights, scaled by training images (`nets.data_dependent`);
    then all layers are rescaled, so that each learns at the same rate. If several processes run, the first one trains.

    Args:
        rows: Convolutions under the names of their weights, from `nets.stages.stages_of`, images to maps; they stay
            unchanged. For the papers' protocol without batch norm (`nets.folding.fold_batch_norm`).
        train: Training images and masks.
        test: Test images and masks.
        channels: Of the images, 1 or 3.
        measured: Values of the masks that count in the mean, from `measured_values`.
        protocol: Settings of the training.
        seed: For new weights, the order of the images and dropout.
        name: The extractor's, for the progress.
        progress: Called after each step and each tested image.

    Raises:
        SettingError: The convolutions take no images of other sizes.
        DataError: A file is damaged, or the training diverged.

    Source:
        Donahue et al. 2017, Table 3, the column FCN.
    """
    report = progress or (lambda description, done, total: None)
    images = DecodedFiles([each.path for each in train], channels)

    def train_all() -> list[SegmentationRecord]:
        records = []
        for weights, stages in rows.items():
            started = time.perf_counter()
            what = f"{name} VOC segmentation, {weights} weights"
            torch.manual_seed(seed)
            network = fcn(stages, images, channels, protocol, seed)
            _fit(network, images, train, protocol, seed, partial(report, f"{what}: steps"))
            counts = _tested(network, test, channels, protocol, partial(report, f"{what}: images tested"))
            overlaps = intersection_over_union(counts)
            named = {PIXEL_CLASSES[value]: overlaps[value].item() for value in measured}
            records.append(SegmentationRecord(weights, named, pixel_accuracy(counts), time.perf_counter() - started))
        return records

    return train_alone(next(iter(rows.values())), train_all)


def fcn(
    stages: nn.Sequential, images: DecodedFiles, channels: int, protocol: SegmentationProtocol, seed: int
) -> FullyConvolutional:
    """Return FCN-32s on a copy of convolutions, its other weights scaled by images."""
    device = next(stages.parameters()).device
    network = FullyConvolutional(
        copy.deepcopy(stages).float(), channels, len(PIXEL_CLASSES), width=protocol.width, dropout=protocol.dropout
    ).to(device)
    whole = nn.Sequential(network.stages, network.head)
    squares = initial_squares(images, network.smallest, SQUARES, seed).to(device)
    new = [name for name, layer in whole.named_modules() if name.startswith("1.") and isinstance(layer, nn.Conv2d)]
    data_dependent_(whole, squares, layers=new, seed=seed)
    network.forget_scores()
    return network


def pixel_loss(
    scores: Float[Tensor, "1 classes height width"], mask: Int64[Tensor, "height width"]
) -> Float[Tensor, ""]:
    """Return the cross entropy in nats, a mean over the pixels that are not void; 0 if all are."""
    known = (mask != VOID).sum().clamp(min=1)
    return F.cross_entropy(scores, mask[None], ignore_index=VOID, reduction="sum") / known


@torch.enable_grad()
def _fit(
    network: FullyConvolutional,
    images: DecodedFiles,
    train: Sequence[MaskedImage],
    protocol: SegmentationProtocol,
    seed: int,
    told: Callable[[int, int], None],
) -> None:
    rng = torch.Generator().manual_seed(seed)
    network.requires_grad_(True).train()
    rates = {"learning_rate": protocol.learning_rate, "weight_decay": protocol.weight_decay}
    optimizer = sgd(network, momentum=protocol.momentum, **rates)
    device = network.kernel.device
    order: list[int] = []
    for iteration in range(protocol.iterations):
        optimizer.zero_grad()
        for _ in range(protocol.batch_size):
            order = order or torch.randperm(len(train), generator=rng).tolist()
            at = order.pop()
            mask = read_mask(train[at].mask).long().to(device)
            (pixel_loss(network(from_bytes(images[at].to(device))[None]), mask) / protocol.batch_size).backward()
        optimizer.step()
        told(iteration + 1, protocol.iterations)


@torch.no_grad()
def _tested(
    network: FullyConvolutional,
    test: Sequence[MaskedImage],
    channels: int,
    protocol: SegmentationProtocol,
    told: Callable[[int, int], None],
) -> Int64[Tensor, "classes classes"]:
    """Return the counts of all test pixels, on the CPU.

    Raises:
        DataError: A score is not finite.
    """
    network.eval()
    device = network.kernel.device
    total = torch.zeros(len(PIXEL_CLASSES), len(PIXEL_CLASSES), dtype=torch.int64)
    images = DecodedFiles([each.path for each in test], channels, keep=0)
    for done, (image, each) in enumerate(zip(images, test, strict=True), start=1):
        scores = network(from_bytes(image.to(device))[None])[0]
        check_finite(scores, protocol.learning_rate)
        truth = read_mask(each.mask).long().to(device)
        total += confusion(scores.argmax(dim=0), truth, len(PIXEL_CLASSES)).cpu()
        told(done, len(test))
    return total
