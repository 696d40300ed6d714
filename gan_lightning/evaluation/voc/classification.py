"""VOC classification: which of the 20 classes are in an image, with more or less of the network trained.

Source:
    Donahue et al. 2017, section 4.3 and Table 3. The paper has no settings. Those here are of the code that the
    authors' `eval_model.sh` calls: philkr/voc-classification, of Krähenbühl et al. 2016.

Deviation:
    - fc6 and fc7 start with normal weights, as the paper has it. `eval_model.sh` starts them from clusters.
"""

import copy
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from gan_lightning.errors import DataError, above, at_least, below_one, refused
from gan_lightning.evaluation.depth_protocol import INITIAL_IMAGES, FrozenWeights
from gan_lightning.evaluation.features import frozen
from gan_lightning.evaluation.probes.probe import Progress
from gan_lightning.evaluation.sgd import sgd, train_alone
from gan_lightning.evaluation.tensors import from_bytes
from gan_lightning.evaluation.voc.average_precision import PrecisionRule, average_precision
from gan_lightning.evaluation.voc.decoding import DecodedFiles
from gan_lightning.evaluation.voc.devkit import CLASSES, LabelledList
from gan_lightning.nets.cropping import random_scaled_crop
from gan_lightning.nets.data_dependent import data_dependent_
from gan_lightning.nets.fully_connected_head import fully_connected_head

TrainedPart = Literal["fc8", "fc6-8", "all"]
"""The last layer, the three fully connected layers, or the convolutions as well: columns of Table 3."""

ITERATIONS, HALVED = 80_000, 10_000
"""Steps of the authors' schedule, and the steps between two halvings of its learning rate."""

FC8_STD, FC8_BIAS = 0.01, 0.1
"""Standard deviation of fc8's first weights, and its first biases."""


@dataclass(frozen=True)
class ClassificationProtocol:
    """Supervised training and test on VOC's labels. The defaults are the authors'.

    Attributes:
        schedule: Factor of the authors' schedule: 80,000 steps, after each 10,000 of which the learning rate is halved.
        size: Edge of the squares that are cut out of the images, pixels.
        smallest_scale: Pixels of the image that become one pixel of a square, beside each other; at least.
        largest_scale: The same at most. The squares lie inside their images.
        crops: Random squares of each test image, whose logits are added.
        width: Units of fc6 and of fc7.
        dropout: Probability of leaving out a unit of fc6 or fc7 in training, also where they are frozen.
        learning_rate: At the start. Biases learn at twice the rate.
        momentum: Share of the last step that is added to the next.
        weight_decay: Coupled ℓ2, also on biases.
        gradient_norm: Largest norm of the gradient of all that is trained; a larger one is scaled down.
        batch_size: Images per step.
    """

    schedule: float = 1.0
    size: int = 227
    smallest_scale: float = 0.5
    largest_scale: float = 2.0
    crops: int = 10
    width: int = 4096
    dropout: float = 0.5
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 1e-6
    gradient_norm: float = 10.0
    batch_size: int = 16

    def __post_init__(self) -> None:
        """Refuse values that do not allow a training."""
        above(self, 0, "1 is the authors'.", schedule=self.schedule)
        at_least(self, 1, "227 is the authors'.", size=self.size)
        above(self, 0, "0.5 is the authors'.", smallest_scale=self.smallest_scale)
        if not self.smallest_scale <= self.largest_scale:
            raise refused(self, "largest_scale", f"be at least {self.smallest_scale}", self.largest_scale)
        at_least(self, 1, "10 is the authors'.", crops=self.crops)
        at_least(self, 1, "4096 is AlexNet's.", width=self.width)
        below_one(self, "0.5 is AlexNet's.", dropout=self.dropout)
        above(self, 0, "0.001 is the authors'.", learning_rate=self.learning_rate)
        below_one(self, "0.9 is the authors'.", momentum=self.momentum)
        at_least(self, 0, "1e-6 is the authors'.", weight_decay=self.weight_decay)
        above(self, 0, "10 is the authors'.", gradient_norm=self.gradient_norm)
        at_least(self, 1, "16 is the authors'.", batch_size=self.batch_size)

    @property
    def iterations(self) -> int:
        """Number of steps."""
        return max(1, round(self.schedule * ITERATIONS))

    def rate(self, iteration: int) -> float:
        """Return the factor of the learning rate at a step, counted from 0."""
        return float(0.5 ** (iteration // max(1, round(self.schedule * HALVED))))


VOC_CLASSIFICATION = ClassificationProtocol()


@dataclass(frozen=True)
class ClassificationRecord:
    """One cell of Table 3.

    Attributes:
        weights: Of the convolutions, at the start if all is trained.
        trained: The trained part.
        precisions: Average precision of each class, by the rule: `precisions["area"]["cat"]`.
        seconds: Wall time of the training and the test.
    """

    weights: FrozenWeights
    trained: TrainedPart
    precisions: Mapping[PrecisionRule, Mapping[str, float]]
    seconds: float

    def mean(self, rule: PrecisionRule) -> float:
        """Return the mean average precision, in [0, 1]."""
        return sum(self.precisions[rule].values()) / len(self.precisions[rule])


def measured_classes(train: LabelledList, test: LabelledList) -> tuple[list[int], dict[str, str]]:
    """Return the labels of the classes that can be measured, and why the others cannot, by their names.

    Raises:
        DataError: No class can be measured.
    """
    left_out: dict[str, str] = {}
    for label, name in enumerate(CLASSES):
        for images, what in ((train, "no training image"), (test, "no test image")):
            if not (images.labels[:, label] == 1).any():
                left_out.setdefault(name, f"{what} has it")
    if len(left_out) == len(CLASSES):
        raise DataError("VOC's lists must share a class between training and test, got none. Raise the limit.")
    return [label for label, name in enumerate(CLASSES) if name not in left_out], left_out


def classify(
    rows: Mapping[FrozenWeights, nn.Sequential],
    train: LabelledList,
    test: LabelledList,
    *,
    channels: int,
    trained: Sequence[TrainedPart] = ("fc8", "fc6-8", "all"),
    protocol: ClassificationProtocol = VOC_CLASSIFICATION,
    seed: int = 0,
    name: str = "extractor",
    progress: Progress | None = None,
) -> list[ClassificationRecord]:
    """Train the layers after the convolutions, or all, on VOC's labels; return the average precisions of the test.

    fc6, fc7 and fc8 start with normal weights, scaled by training images (`nets.data_dependent`). Frozen convolutions
    keep their weights, and their maps are divided by their root mean square. If they are trained, too, all layers are
    rescaled, so that each learns at the same rate. fc8 then starts anew. A class that no training or test image has is
    left out. If several processes run, the first one trains.

    Args:
        rows: Convolutions under the names of their weights, from `nets.stages.stages_of`, images to maps; they stay
            unchanged. For the papers' protocol without batch norm (`nets.folding.fold_batch_norm`).
        train: Training images and labels.
        test: Test images and labels.
        channels: Of the images, 1 or 3.
        trained: The parts to train, one after the other.
        protocol: Settings of the training.
        seed: For new weights, the order of the images, squares and dropout.
        name: The extractor's, for the progress.
        progress: Called after each step and each tested image.

    Returns:
        Records of each row, for each trained part.

    Raises:
        DataError: An image is damaged, no class is measured, or the training diverged.
        RuntimeError: A frozen part changed.

    Source:
        Donahue et al. 2017, Table 3, the columns of classification.
    """
    classes, _ = measured_classes(train, test)
    report = progress or (lambda description, done, total: None)
    images = DecodedFiles(train.paths, channels)

    def train_all() -> list[ClassificationRecord]:
        records = []
        for weights, stages in rows.items():
            for part in trained:
                started = time.perf_counter()
                what = f"{name} VOC classification, {part}, {weights} weights"
                network = _LabelledNetwork(stages, part, images, protocol, seed)
                with frozen({f"frozen layers below {part}": network.front}):
                    network.fit(images, train.labels, protocol, seed, partial(report, f"{what}: steps"))
                    tested = DecodedFiles(test.paths, channels, keep=0)
                    logits = network.answers(tested, protocol, seed, partial(report, f"{what}: images tested"))
                precisions = class_precisions(logits, test.labels, classes)
                records.append(ClassificationRecord(weights, part, precisions, time.perf_counter() - started))
        return records

    return train_alone(next(iter(rows.values())), train_all)


def initial_squares(
    images: DecodedFiles, size: int, scales: tuple[float, float], seed: int
) -> Float[Tensor, "count channels {size} {size}"]:
    """Return random squares for the scales of new weights, of as many images as the authors' code takes."""
    rng = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(images), generator=rng)[:INITIAL_IMAGES].tolist()
    return from_bytes(torch.stack([random_scaled_crop(images[at], size, scales, rng) for at in chosen]))


def class_precisions(
    logits: Float[Tensor, "images 20"], labels: Int64[Tensor, "images 20"], classes: Sequence[int]
) -> dict[PrecisionRule, dict[str, float]]:
    """Return the average precision of each class by both rules, without the images in which it is difficult."""
    found: dict[PrecisionRule, dict[str, float]] = {"area": {}, "11_points": {}}
    for label in classes:
        known = labels[:, label] >= 0
        for rule, by_class in found.items():
            by_class[CLASSES[label]] = average_precision(logits[known, label], labels[known, label] == 1, rule)
    return found


def known_loss(logits: Float[Tensor, "images 20"], labels: Int64[Tensor, "images 20"]) -> Float[Tensor, ""]:
    """Return the sigmoid cross entropy in nats, a sum over the classes that are known and a mean over images."""
    known = (labels >= 0).to(logits.dtype)
    answers = labels.clamp(min=0).to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, answers, known, reduction="sum") / len(logits)


def check_finite(outputs: Tensor, learning_rate: float) -> None:
    """Check that a trained network's outputs are finite.

    Raises:
        DataError: One is not.
    """
    if not outputs.isfinite().all():
        raise DataError(
            f"The training on VOC must stay finite, got NaN or infinity at learning_rate={learning_rate}; use a lower "
            "one."
        )


class _LabelledNetwork:
    """A network for VOC's labels: a frozen front and a trained rest."""

    def __init__(
        self,
        stages: nn.Sequential,
        part: TrainedPart,
        images: DecodedFiles,
        protocol: ClassificationProtocol,
        seed: int,
    ) -> None:
        stages = copy.deepcopy(stages).float()
        self.device = next(stages.parameters()).device
        self.scales = (protocol.smallest_scale, protocol.largest_scale)
        torch.manual_seed(seed)
        squares = initial_squares(images, protocol.size, self.scales, seed).to(self.device)
        with torch.no_grad():
            maps = stages.eval()(squares)
            _, channels, edge, _ = maps.shape
            head = fully_connected_head(channels, edge, len(CLASSES), width=protocol.width, dropout=protocol.dropout)
            head = head.to(self.device)
            self.scale = maps.square().mean().sqrt().clamp(min=torch.finfo(maps.dtype).tiny)
            if part == "all":
                whole = nn.Sequential(stages, head)
                named = [name for name, layer in whole.named_modules() if name.startswith("1.") and _affine(layer)]
                data_dependent_(whole, squares, layers=named, seed=seed)
                self.scale = torch.ones_like(self.scale)
            else:
                data_dependent_(head, maps / self.scale, seed=seed)
            fc8 = head[-1]
            assert isinstance(fc8, nn.Linear)
            nn.init.normal_(fc8.weight, std=FC8_STD)
            nn.init.constant_(fc8.bias, FC8_BIAS)
        self.stages, self.head = stages, head
        fixed = {"fc8": [stages, head[:-1]], "fc6-8": [stages], "all": []}[part]
        self.front = nn.ModuleList(fixed)
        self.rest = nn.ModuleList([] if fixed else [stages])
        self.rest.extend([head[-1]] if part == "fc8" else [head])

    def __call__(self, squares: Tensor) -> Tensor:
        return self.head(self.stages(squares) / self.scale)

    def _squares(self, images: Iterable[Tensor], size: int, rng: torch.Generator) -> Tensor:
        return from_bytes(
            torch.stack([random_scaled_crop(each, size, self.scales, rng, self.device) for each in images])
        )

    @torch.enable_grad()
    def fit(
        self,
        images: DecodedFiles,
        labels: Int64[Tensor, "images 20"],
        protocol: ClassificationProtocol,
        seed: int,
        told: Callable[[int, int], None],
    ) -> None:
        """Train the rest by SGD."""
        rng = torch.Generator().manual_seed(seed)
        self.rest.requires_grad_(True).train()
        for layer in self.head.modules():
            if isinstance(layer, nn.Dropout):
                layer.train()
        decays = {"weight_decay": protocol.weight_decay, "bias_decay": protocol.weight_decay}
        optimizer = sgd(self.rest, learning_rate=protocol.learning_rate, momentum=protocol.momentum, **decays)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, protocol.rate)
        order: list[int] = []
        for iteration in range(protocol.iterations):
            while len(order) < protocol.batch_size:
                order += torch.randperm(len(images), generator=rng).tolist()
            batch, order = order[: protocol.batch_size], order[protocol.batch_size :]
            squares = self._squares((images[at] for at in batch), protocol.size, rng)
            loss = known_loss(self(squares), labels[batch].to(self.device))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.rest.parameters(), protocol.gradient_norm)
            optimizer.step()
            schedule.step()
            told(iteration + 1, protocol.iterations)

    @torch.no_grad()
    def answers(
        self, images: DecodedFiles, protocol: ClassificationProtocol, seed: int, told: Callable[[int, int], None]
    ) -> Float[Tensor, "images 20"]:
        """Return the sums of the logits over random squares, on the CPU.

        Raises:
            DataError: A logit is not finite.
        """
        rng = torch.Generator().manual_seed(seed)
        self.stages.eval(), self.head.eval()
        found = []
        for done, image in enumerate(images, start=1):
            found.append(self(self._squares([image] * protocol.crops, protocol.size, rng)).sum(dim=0))
            told(done, len(images))
        logits = torch.stack(found).cpu()
        check_finite(logits, protocol.learning_rate)
        return logits


def _affine(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d | nn.Linear)
