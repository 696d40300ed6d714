"""The worth of a network's first N convolutions: they are frozen, and all that follows is trained anew with labels.

For N = 1 to K, a network takes conv1 to convN from an extractor and freezes them. The later convolutions are
initialised afresh, with new fully connected layers on top, and trained. If the accuracy falls as N grows, the frozen
deeper stages serve the labels less than newly trained ones. Other rows have random weights in the frozen stages, or
the means of clusters of patches. They show the accuracy that the training of the rest alone gives.
"""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gan_lightning.errors import DataError, SettingError, above, at_least, below_one, one_of, refused
from gan_lightning.evaluation.features import frozen
from gan_lightning.evaluation.probes.probe import Progress, accuracy, cross_entropy
from gan_lightning.evaluation.sgd import sgd, train_alone
from gan_lightning.interfaces import Images, Labels, Split
from gan_lightning.nets.cropping import centre_crop, flip_half, random_crop, ten_crops
from gan_lightning.nets.data_dependent import data_dependent_
from gan_lightning.nets.fully_connected_head import fully_connected_head

SplitImages = Mapping[Split, tuple[Tensor, Tensor]]
"""All images of both splits, in [-1, 1], and their labels."""

FrozenWeights = Literal["trained", "random", "kmeans", "scratch"]
"""Weights of the frozen stages: of the extractor, normal and scaled by data, of clusters; "scratch" freezes nothing."""

CACHE = 2**30
"""Most bytes of a frozen part's outputs to keep; larger outputs are computed in every epoch."""

INITIAL_IMAGES = 160
"""Images by which new weights are scaled: ten batches of 16, as in the code of Krähenbühl et al. 2016."""


@dataclass(frozen=True)
class DepthProtocol:
    """Supervised training of the layers that are not frozen, by SGD; its learning rate falls to 0 along a cosine.

    The paper is silent on it. These are Krizhevsky et al.'s settings for AlexNet, with two changes. The cosine replaces
    their three drops of the learning rate. The number of epochs is ours. New weights are scaled by data: without batch
    norm a network of another width would start at another scale.

    Attributes:
        head: Layers after the last convolution: "alexnet" has pool5, fc6, fc7 and fc8; "linear" has one linear layer.
        width: Units of fc6 and of fc7.
        dropout: Probability of leaving out a unit of fc6 or fc7.
        crop: Edge of the squares that are cut out of the images, as a share of the images' edge. In training they are
            at random places, in the test at the centre.
        flip: Whether half of the squares are mirrored in training.
        ten_crops: Whether the test averages the probabilities of the four corners and the centre, each also mirrored.
        learning_rate: At the start. Biases learn at twice the rate, as in the authors' code.
        momentum: Share of the last step that is added to the next.
        weight_decay: Coupled ℓ2, on all trained weights but biases.
        batch_size: Images per step; a last batch of a single image is left out, for batch norm's sake.
        epochs: Passes over the training split.
    """

    head: Literal["alexnet", "linear"] = "alexnet"
    width: int = 4096
    dropout: float = 0.5
    crop: float = 227 / 256
    flip: bool = True
    ten_crops: bool = False
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 128
    epochs: int = 20

    def __post_init__(self) -> None:
        """Refuse values that do not allow a training."""
        one_of(self, ("alexnet", "linear"), head=self.head)
        at_least(self, 1, "4096 is AlexNet's.", width=self.width)
        below_one(self, "0.5 is usual.", dropout=self.dropout)
        if not 0 < self.crop <= 1:
            raise refused(self, "crop", "be above 0 and at most 1", self.crop, "1 takes whole images.")
        above(self, 0, "0.01 is usual.", learning_rate=self.learning_rate)
        below_one(self, "0.9 is usual.", momentum=self.momentum)
        at_least(self, 0, "0.0005 is usual.", weight_decay=self.weight_decay)
        at_least(self, 2, "128 is usual.", batch_size=self.batch_size)
        at_least(self, 1, "20 is usual.", epochs=self.epochs)

    def cropped_size(self, size: int) -> int:
        """Return the edge of the squares that are cut out of images of an edge, pixels."""
        return max(1, round(self.crop * size))

    @property
    def augments(self) -> bool:
        """Whether an image looks different in each epoch."""
        return self.crop < 1 or self.flip


DEPTH = DepthProtocol()


@dataclass(frozen=True)
class DepthRecord:
    """One accuracy: a cell of the paper's Table 2.

    Attributes:
        weights: Of the frozen stages.
        frozen: N, the number of frozen stages.
        stage: Name of the last of them, the table's column; empty if none is frozen.
        accuracy: On the test split after the last epoch, in [0, 1].
        seconds: Wall time of the training and the test.
        cached: Whether the frozen stages' outputs were computed once rather than in every epoch.
    """

    weights: FrozenWeights
    frozen: int
    stage: str
    accuracy: float
    seconds: float
    cached: bool


def frozen_depth(
    rows: Mapping[FrozenWeights, nn.Sequential],
    images: SplitImages,
    *,
    num_classes: int,
    fresh: nn.Sequential,
    depths: Sequence[int] = (),
    scratch: bool = False,
    protocol: DepthProtocol = DEPTH,
    seed: int = 0,
    name: str = "extractor",
    cache: int = CACHE,
    progress: Progress | None = None,
) -> list[DepthRecord]:
    """Freeze the first N stages and train the rest with labels, for each N; all given networks stay unchanged.

    All is computed in float32. The frozen stages are in eval mode: their batch norm uses running statistics. To
    evaluate without batch norm, as the paper does, give networks from `nets.folding.fold_batch_norm`. Convolutions and
    fully connected layers of the rest start with normal weights, scaled by training images (`nets.data_dependent`); the
    outputs of the frozen stages are divided by their root mean square before. If several processes run, the first one
    trains.

    Args:
        rows: The stages with the weights to freeze, from `nets.stages.stages_of`: images to maps.
        images: On the stages' device; each image has a known label.
        num_classes: Number of classes, or of attributes.
        fresh: The same stages, for the rest; its layers of other kinds keep their weights.
        depths: The N; by default 1 to K.
        scratch: Whether to train all stages as well, with nothing frozen.
        protocol: Settings of the training.
        seed: For new weights, the order of the images, crops and dropout.
        name: The extractor's, for the progress.
        cache: Most bytes of a frozen part's outputs to keep, both splits together. They can be kept only if the
            protocol does not change the images from epoch to epoch.
        progress: Called after each batch.

    Returns:
        Records of each row for all N, then the one from scratch.

    Raises:
        SettingError: A depth is not of 1 to K, or two networks have other stages.
        DataError: There are fewer than two training images, or the training diverged.
        RuntimeError: A frozen stage changed.

    Source:
        Donahue et al. 2017, section 4.3 and Table 2, after Noroozi and Favaro 2016.
    """
    names = [stage for stage, _ in fresh.named_children()]
    for network in rows.values():
        check_same_stages(network, fresh)
    chosen = check_depths(depths, len(names))
    needed: dict[Split, int] = {"train": 2, "test": 1}
    for split, least in needed.items():
        if (count := len(images[split][1])) < least:
            raise DataError(f"Frozen depth needs at least {least} labelled {split} images, got {count}; add images.")
    report = progress or (lambda description, done, total: None)

    def train_all() -> list[DepthRecord]:
        cells: list[tuple[FrozenWeights, nn.Sequential, int]] = [
            (weights, copy.deepcopy(network).float(), depth) for weights, network in rows.items() for depth in chosen
        ]
        if scratch:
            cells.append(("scratch", copy.deepcopy(fresh).float(), 0))
        records = []
        for weights, stages, depth in cells:
            started = time.perf_counter()
            stage = names[depth - 1] if depth else ""
            what = f"frozen up to {stage}, {weights} weights" if depth else "from scratch"
            front, rest = stages[:depth], copy.deepcopy(fresh[depth:]).float().requires_grad_(True)
            with frozen({f"frozen stages up to {stage}": front}):
                score, cached = _train(
                    front, rest, images, num_classes, protocol, seed, cache, partial(report, f"{name} {what}")
                )
            records.append(DepthRecord(weights, depth, stage, score, time.perf_counter() - started, cached))
        return records

    return train_alone(fresh, train_all)


def check_same_stages(stages: nn.Sequential, other: nn.Sequential) -> None:
    """Check that two networks have stages of the same names.

    Raises:
        SettingError: They have not.
    """
    one, two = ([name for name, _ in network.named_children()] for network in (stages, other))
    if one != two:
        raise SettingError(
            f"the network with random weights must have the stages of the extractor, {one}, got {two}; build the same "
            "network with new weights."
        )


def check_depths(depths: Sequence[int], stages: int, owner: object = None) -> list[int]:
    """Return the numbers of stages to freeze, all of them by default.

    Args:
        depths: The numbers.
        stages: K, how many there are.
        owner: The object whose setting `depths` is.

    Raises:
        SettingError: A number is below 1, above K, or stands twice.
    """
    chosen = list(depths) or list(range(1, stages + 1))
    if len(set(chosen)) < len(chosen) or not all(1 <= depth <= stages for depth in chosen):
        raise refused(owner, "depths", f"be numbers from 1 to {stages}, the stages of the network", chosen)
    return chosen


def initial_images(
    images: Images, protocol: DepthProtocol, seed: int
) -> Float[Tensor, "count channels cropped cropped"]:
    """Return images for the scales of new weights: centres of training images, at random from all of them."""
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:INITIAL_IMAGES]
    return centre_crop(images[chosen.to(images.device)], protocol.cropped_size(images.shape[-1]))


@torch.enable_grad()
def _train(
    front: nn.Sequential,
    rest: nn.Sequential,
    splits: SplitImages,
    num_classes: int,
    protocol: DepthProtocol,
    seed: int,
    cache: int,
    told: Callable[[int, int], None],
) -> tuple[float, bool]:
    """Train `rest` and a head on the outputs of `front`; return the test accuracy, and whether outputs were kept."""
    (images, labels), (test_images, test_labels) = splits["train"], splits["test"]
    labels, test_labels = labels.long(), test_labels.long()
    size = protocol.cropped_size(images.shape[-1])
    torch.manual_seed(seed)
    with torch.no_grad():
        initial = front(initial_images(images, protocol, seed))
        scale = initial.square().mean().sqrt().clamp(min=torch.finfo(initial.dtype).tiny)

    def look(inputs: Tensor) -> Tensor:
        return front(inputs) / scale

    initial = initial / scale
    network = _with_head(rest, initial, num_classes, protocol)
    data_dependent_(network, initial, seed=seed)
    kept = (len(images) + len(test_images)) * initial[0].numel() * initial.element_size() <= cache
    cached = kept and not (protocol.augments or protocol.ten_crops)
    if cached:
        images, test_images = (_in_batches(look, each, protocol.batch_size) for each in (images, test_images))
    rates = {"learning_rate": protocol.learning_rate, "weight_decay": protocol.weight_decay}
    optimizer = sgd(network, momentum=protocol.momentum, **rates)
    batches = len(labels) // protocol.batch_size + (len(labels) % protocol.batch_size > 1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, batches * protocol.epochs)
    shuffle = torch.Generator().manual_seed(seed)
    network.train()
    for epoch in range(protocol.epochs):
        order = torch.randperm(len(labels), generator=shuffle).to(labels.device)
        for done, batch in enumerate(order.split(protocol.batch_size)[:batches], start=1):
            with torch.no_grad():
                inputs = images[batch]
                if not cached:
                    inputs = random_crop(inputs, size)
                    inputs = look(flip_half(inputs) if protocol.flip else inputs)
            loss = cross_entropy(network(inputs), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            told(epoch * batches + done, protocol.epochs * batches)
    network.eval()

    def answer(inputs: Tensor) -> Tensor:
        if protocol.ten_crops:
            logits = torch.stack([network(look(crop)) for crop in ten_crops(inputs, size)])
            return averaged(logits, test_labels)
        return network(inputs if cached else look(centre_crop(inputs, size)))

    logits = _in_batches(answer, test_images, protocol.batch_size)
    if not logits.isfinite().all():
        raise DataError(
            f"The supervised training must stay finite, got NaN or infinity at learning_rate={protocol.learning_rate}; "
            "use a lower one."
        )
    return accuracy(logits, test_labels), cached


def averaged(logits: Float[Tensor, "crops images classes"], labels: Labels) -> Float[Tensor, "images classes"]:
    """Return the mean probabilities of several crops: the softmax's for classes, the sigmoid's less ½ for attributes.

    Args:
        logits: Of each crop.
        labels: The images' own, of either kind.

    Source:
        Krizhevsky et al. 2012, section 4.1: "averaging the predictions made by the network's softmax layer on the ten
        patches".
    """
    if labels.ndim == 1:
        return logits.softmax(dim=2).mean(dim=0)
    return logits.sigmoid().mean(dim=0) - 0.5


def _with_head(rest: nn.Sequential, inputs: Tensor, num_classes: int, protocol: DepthProtocol) -> nn.Sequential:
    """Return the rest of the stages, then the head for their maps."""
    with torch.no_grad():
        _, channels, edge, _ = copy.deepcopy(rest).eval()(inputs[:2].clone()).shape
    if protocol.head == "alexnet":
        head = fully_connected_head(channels, edge, num_classes, width=protocol.width, dropout=protocol.dropout)
    else:
        head = nn.Sequential(nn.Flatten(), nn.Linear(channels * edge * edge, num_classes))
    return nn.Sequential(rest, head.to(inputs.device))


@torch.no_grad()
def _in_batches(compute: Callable[[Tensor], Tensor], inputs: Tensor, batch_size: int) -> Tensor:
    return torch.cat([compute(batch) for batch in inputs.split(batch_size)])
