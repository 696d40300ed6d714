"""The worth of a network's first N stages: they are frozen, and the rest is trained anew with labels.

For N = 1 to K, a network takes conv1 to convN from an extractor and freezes them. The later layers are initialised
afresh and trained with a linear classifier on top. If the accuracy falls as N grows, the frozen deeper stages serve the
labels less than newly trained ones. Another row has random weights in the frozen stages. It shows the accuracy that the
training of the rest alone gives.
"""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from gan_lightning.errors import DataError, SettingError, above, at_least, below_one
from gan_lightning.evaluation.features import frozen
from gan_lightning.evaluation.probes.probe import Progress, accuracy, cross_entropy
from gan_lightning.interfaces import Split
from gan_lightning.system.processes import batch_norm_alone, on_first_process

SplitImages = Mapping[Split, tuple[Tensor, Tensor]]
"""All images of both splits, in [-1, 1], and their labels."""

CACHE = 2**30
"""Most bytes of a frozen part's outputs to keep; larger outputs are computed in every epoch."""


@dataclass(frozen=True)
class DepthProtocol:
    """Supervised training of the layers that are not frozen, by SGD; its learning rate falls to 0 along a cosine.

    The paper is silent on it. These are Krizhevsky et al.'s settings for AlexNet, with two changes. The cosine replaces
    their three drops of the learning rate. The batch size and the number of epochs are ours.

    Attributes:
        learning_rate: At the start.
        momentum: Share of the last step that is added to the next.
        weight_decay: Coupled ℓ2, on all trained weights.
        batch_size: Images per step; a last batch of a single image is left out, for batch norm's sake.
        epochs: Passes over the training split.
    """

    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 128
    epochs: int = 20

    def __post_init__(self) -> None:
        """Refuse values that do not allow a training."""
        above(self, 0, "0.01 is usual.", learning_rate=self.learning_rate)
        below_one(self, "0.9 is usual.", momentum=self.momentum)
        at_least(self, 0, "0.0005 is usual.", weight_decay=self.weight_decay)
        at_least(self, 2, "128 is usual.", batch_size=self.batch_size)
        at_least(self, 1, "20 is usual.", epochs=self.epochs)


DEPTH = DepthProtocol()


@dataclass(frozen=True)
class DepthRecord:
    """One accuracy: a cell of the paper's Table 2.

    Attributes:
        weights: Of the frozen stages.
        frozen: N, the number of frozen stages.
        stage: Name of the last of them, the table's column.
        accuracy: On the test split after the last epoch, in [0, 1].
        seconds: Wall time of the training and the test.
        cached: Whether the frozen stages' outputs were computed once rather than in every epoch.
    """

    weights: Literal["trained", "random"]
    frozen: int
    stage: str
    accuracy: float
    seconds: float
    cached: bool


def frozen_depth(
    extractor: nn.Sequential,
    images: SplitImages,
    *,
    num_classes: int,
    fresh: nn.Sequential,
    random: nn.Sequential | None = None,
    stages: Sequence[str] | None = None,
    protocol: DepthProtocol = DEPTH,
    seed: int = 0,
    name: str = "extractor",
    cache: int = CACHE,
    progress: Progress | None = None,
) -> list[DepthRecord]:
    """Freeze the first N stages and train the rest with labels, for each N; all given networks stay unchanged.

    All is computed in float32. The frozen stages are in eval mode: their batch norm uses running statistics. To
    evaluate without batch norm, as the paper does, give networks from `nets.folding.fold_batch_norm`. Reinitialised
    layers start from the same weights in the rows of trained and of random stages. If several processes run, the first
    one trains.

    Args:
        extractor: Named stages in order, images to features.
        images: On the extractor's device; each image has a known label.
        num_classes: Number of classes, or of attributes.
        fresh: The same network with the initial weights of the layers that are not frozen.
        random: The same network with random weights, to be frozen in place of the trained ones; None leaves out this
            row.
        stages: Names of the children to freeze up to, in order; by default all that have parameters. A child without
            parameters belongs to the stage before it.
        protocol: Settings of the training.
        seed: For the classifier's weights and the order of the images.
        name: The extractor's, for the progress.
        cache: Most bytes of a frozen part's outputs to keep, both splits together.
        progress: Called after each batch.

    Returns:
        Records of the trained stages for N = 1 to K, then records of the random ones.

    Raises:
        SettingError: A stage is not a child, or `fresh` or `random` is another network.
        DataError: There are fewer than two training images, or the training diverged.
        RuntimeError: A frozen stage changed.

    Source:
        Donahue et al. 2017, section 4.3 and Table 2, after Noroozi and Favaro 2016.
    """
    ends = _ends(extractor, stages)
    sources: dict[Literal["trained", "random"], nn.Sequential] = {"trained": extractor}
    if random is not None:
        sources["random"] = random
    for other in (fresh, *sources.values()):
        check_same_stages(extractor, other)
    needed: dict[Split, int] = {"train": 2, "test": 1}
    for split, least in needed.items():
        if (count := len(images[split][1])) < least:
            raise DataError(f"Frozen depth needs at least {least} labelled {split} images, got {count}; add images.")
    device = images["train"][0].device
    report = progress or (lambda description, done, total: None)

    def train_all() -> list[DepthRecord]:
        records = []
        for weights, source in sources.items():
            frozen_stages = copy.deepcopy(source).float()
            for depth, (stage, end) in enumerate(ends.items(), start=1):
                started = time.perf_counter()
                front, rest = frozen_stages[:end], copy.deepcopy(fresh[end:]).float().requires_grad_(True)
                told = partial(report, f"{name} frozen up to {stage}, {weights} weights")
                with frozen({f"frozen stages up to {stage}": front}):
                    score, cached = _train(front, rest, images, num_classes, protocol, seed, cache, told)
                records.append(DepthRecord(weights, depth, stage, score, time.perf_counter() - started, cached))
        return records

    with torch.random.fork_rng([device] if device.type == "cuda" else []), batch_norm_alone(fresh):
        return on_first_process(train_all)


def stages_of(extractor: nn.Sequential) -> list[str]:
    """Return the names of the children that have parameters."""
    return [name for name, child in extractor.named_children() if any(True for _ in child.parameters())]


def check_same_stages(extractor: nn.Module, other: nn.Module) -> None:
    """Check that another network has the stages of an extractor.

    Raises:
        SettingError: It has not.
    """
    one, two = ([name for name, _ in network.named_children()] for network in (extractor, other))
    if not isinstance(other, nn.Sequential) or one != two:
        raise SettingError(
            f"the network with random weights must have the stages of the extractor, {one}, got {two}; build the same "
            "network with new weights."
        )


def _ends(extractor: nn.Sequential, stages: Sequence[str] | None) -> dict[str, int]:
    """Return for each stage the number of children up to it, with the children without parameters that follow it."""
    weighted = stages_of(extractor)
    names = weighted if stages is None else list(stages)
    order = [name for name, _ in extractor.named_children()]
    if not names or any(name not in weighted for name in names) or sorted(names, key=order.index) != names:
        raise SettingError(
            f"stages must be children of extractor that have parameters, in its order, got {names}; "
            f"choose from {weighted}."
        )
    ends = {}
    for name in names:
        end = order.index(name) + 1
        while end < len(order) and order[end] not in weighted:
            end += 1
        ends[name] = end
    return ends


@torch.enable_grad()
def _train(
    front: nn.Module,
    rest: nn.Sequential,
    splits: SplitImages,
    num_classes: int,
    protocol: DepthProtocol,
    seed: int,
    cache: int,
    told: Callable[[int, int], None],
) -> tuple[float, bool]:
    """Train `rest` and a linear classifier on the outputs of `front`; return test accuracy, and whether it cached."""
    (images, labels), (test_images, test_labels) = splits["train"], splits["test"]
    labels, test_labels = labels.long(), test_labels.long()
    torch.manual_seed(seed)
    with torch.no_grad():
        sample = front(images[:2])
        features = copy.deepcopy(rest).eval()(sample).flatten(1).shape[1]
    network = nn.Sequential(rest, nn.Flatten(), nn.Linear(features, num_classes).to(images.device))
    cached = (len(images) + len(test_images)) * sample[0].numel() * sample.element_size() <= cache
    look: Callable[[Tensor], Tensor] = front
    if cached:
        images, test_images = (_in_batches(front, inputs, protocol.batch_size) for inputs in (images, test_images))
        look = nn.Identity()
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=protocol.learning_rate,
        momentum=protocol.momentum,
        weight_decay=protocol.weight_decay,
    )
    batches = len(labels) // protocol.batch_size + (len(labels) % protocol.batch_size > 1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, batches * protocol.epochs)
    shuffle = torch.Generator().manual_seed(seed)
    network.train()
    for epoch in range(protocol.epochs):
        order = torch.randperm(len(labels), generator=shuffle).to(labels.device)
        for done, batch in enumerate(order.split(protocol.batch_size)[:batches], start=1):
            with torch.no_grad():
                inputs = look(images[batch])
            loss = cross_entropy(network(inputs), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            told(epoch * batches + done, protocol.epochs * batches)
    network.eval()
    logits = _in_batches(lambda inputs: network(look(inputs)), test_images, protocol.batch_size)
    if not logits.isfinite().all():
        raise DataError(
            f"The supervised training must stay finite, got NaN or infinity at learning_rate={protocol.learning_rate}; "
            "use a lower one."
        )
    return accuracy(logits, test_labels), cached


@torch.no_grad()
def _in_batches(compute: Callable[[Tensor], Tensor], inputs: Tensor, batch_size: int) -> Tensor:
    return torch.cat([compute(batch) for batch in inputs.split(batch_size)])
