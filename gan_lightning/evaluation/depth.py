"""How much of a network is worth keeping: its first N stages frozen, the rest trained anew with labels.

For N = 1 to K, a network takes conv1 to convN from an extractor and freezes them; what follows is initialised afresh
and trained with a linear classifier on top. Where the accuracy falls as N grows, the deeper stages hold less of what
the labels need than training them would give. The row with random weights in place of the trained says how much of an
accuracy is the training of the rest.
"""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation.features import RawPixels, estimate_batch_norm_statistics, extract_features, frozen
from gan_lightning.evaluation.linear import accuracy, cross_entropy
from gan_lightning.evaluation.transfer import Progress, random_copy
from gan_lightning.interfaces import LabelledImages, Split
from gan_lightning.processes import batch_norm_alone, on_first_process

CACHE = 2**30
"""Bytes of a frozen part's outputs that are kept; where there would be more, they are computed in every epoch."""


@dataclass(frozen=True)
class DepthProtocol:
    """Supervised training of what is not frozen, by SGD whose learning rate falls to 0 along a cosine.

    The paper is silent on it. These are Krizhevsky et al.'s settings for AlexNet; the cosine replaces their three drops
    of the learning rate, and the batch size and the number of epochs are ours.

    Attributes:
        learning_rate: At the start.
        momentum: Share of the last step that is taken again.
        weight_decay: Coupled ℓ2, on all weights that are trained.
        batch_size: Images per step; a last batch of a single image is left out, for batch norm's sake.
        epochs: Passes over the training split.
    """

    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 128
    epochs: int = 20

    def __post_init__(self) -> None:
        """Refuse values that cannot be trained with."""
        if self.learning_rate <= 0:
            raise SettingError(f"learning_rate must be above 0, got {self.learning_rate}; 0.01 is usual.")
        if not 0 <= self.momentum < 1:
            raise SettingError(f"momentum must be in [0, 1), got {self.momentum}; 0.9 is usual.")
        if self.weight_decay < 0:
            raise SettingError(f"weight_decay must be at least 0, got {self.weight_decay}; 0.0005 is usual.")
        if self.batch_size < 2:
            raise SettingError(f"batch_size must be at least 2, got {self.batch_size}; 128 is usual.")
        if self.epochs < 1:
            raise SettingError(f"epochs must be at least 1, got {self.epochs}; 20 is usual.")


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
    data: LabelledImages,
    *,
    stages: Sequence[str] | None = None,
    fresh: nn.Sequential | None = None,
    random_weights: bool = True,
    protocol: DepthProtocol = DEPTH,
    device: torch.device | None = None,
    seed: int = 0,
    cache: int = CACHE,
    progress: Progress | None = None,
) -> list[DepthRecord]:
    """Freeze the first N stages and train the rest with labels, for each N; the extractor is left as it is.

    The frozen stages are in eval mode: their batch norm uses running statistics. To evaluate without batch norm, as
    the paper does, give `nets.fold.fold_batch_norm(extractor)`. What is reinitialised starts from the same weights in
    the rows of trained and of random stages. Where several processes run, the first one trains.

    Args:
        extractor: Named stages in order, images to features.
        data: A data set with labels; its training images are held in memory.
        stages: Names of the children to freeze up to, in order; by default all that have parameters. What has none
            belongs to the stage before it.
        fresh: The same network with the initial weights for what is not frozen; by default a copy whose layers
            have reset themselves.
        random_weights: Whether the row with random stages frozen is there, its batch norm estimated on the training
            images. Its stages are those of `fresh`.
        protocol: How to train.
        device: Where to train; by default where the extractor is.
        seed: For new weights and the order of the images.
        cache: Most bytes of a frozen part's outputs to keep, both splits together.
        progress: Called after each training.

    Returns:
        Records of the trained stages for N = 1 to K, then those of the random ones.

    Raises:
        SettingError: A stage is not a child, `fresh` is another network, or the data set has no labels.
        DataError: Fewer than two training images have a label, or the training diverged.
        RuntimeError: A frozen stage changed.

    Source:
        Donahue et al. 2017, section 4.3 and Table 2, after Noroozi and Favaro 2016.
    """
    ends = _ends(extractor, stages)
    new = random_copy(extractor, seed) if fresh is None else copy.deepcopy(fresh)
    assert isinstance(new, nn.Sequential)
    if [name for name, _ in new.named_children()] != [name for name, _ in extractor.named_children()]:
        raise SettingError("fresh must have the stages of extractor; build the same network with new weights.")
    if data.label_kind == "none":
        raise SettingError(f"data must have labels to train with, got {data.name!r} without; choose a labelled one.")
    device = device or next((weight.device for weight in extractor.parameters()), torch.device("cpu"))
    report = progress or (lambda description, done, total: None)
    with torch.inference_mode(False), torch.random.fork_rng([device] if device.type == "cuda" else []):
        sources: dict[Literal["trained", "random"], nn.Sequential] = {"trained": copy.deepcopy(extractor).to(device)}
        if random_weights:
            sources["random"] = copy.deepcopy(new).to(device)
            estimate_batch_norm_statistics(sources["random"], data.evaluation_batches("train", device))
        splits = _splits(data, device)

        def train_all() -> list[DepthRecord]:
            records = []
            for weights, source in sources.items():
                for depth, (stage, end) in enumerate(ends.items(), start=1):
                    started = time.perf_counter()
                    front, rest = source[:end].requires_grad_(False).eval(), copy.deepcopy(new[end:]).to(device)
                    with frozen({f"frozen stages up to {stage}": front}):
                        score, cached = _train(front, rest, splits, data.num_classes, protocol, seed, cache)
                    seconds = time.perf_counter() - started
                    records.append(DepthRecord(weights, depth, stage, score, seconds, cached))
                    report(f"frozen depth, {weights} weights", depth, len(ends))
            return records

        with batch_norm_alone(new):
            return on_first_process(train_all)


def _ends(extractor: nn.Sequential, stages: Sequence[str] | None) -> dict[str, int]:
    """Return, for each stage, the number of children up to and with it and those without parameters after it."""
    children = list(extractor.named_children())
    weighted = [name for name, child in children if any(True for _ in child.parameters())]
    names = weighted if stages is None else list(stages)
    order = [name for name, _ in children]
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


def _splits(data: LabelledImages, device: torch.device) -> dict[Split, tuple[Tensor, Tensor]]:
    """Return the images that have labels, and these, of both splits."""
    splits: dict[Split, tuple[Tensor, Tensor]] = {}
    names: tuple[Split, ...] = ("train", "test")
    for split in names:
        shape = next(iter(data.evaluation_batches(split, device)))[0].shape[1:]
        features, labels = extract_features({"": RawPixels()}, data.evaluation_batches(split, device))
        known = labels >= 0 if labels.ndim == 1 else (labels >= 0).any(dim=1)
        needed = 2 if split == "train" else 1
        if known.sum() < needed:
            raise DataError(
                f"{data.name}: at least {needed} {split} images must have a label, got {int(known.sum())} of "
                f"{len(labels)}; choose a labelled data set."
            )
        splits[split] = features[""][known].unflatten(1, shape), labels[known].long()
    return splits


@torch.enable_grad()
def _train(
    front: nn.Module,
    rest: nn.Sequential,
    splits: dict[Split, tuple[Tensor, Tensor]],
    num_classes: int,
    protocol: DepthProtocol,
    seed: int,
    cache: int,
) -> tuple[float, bool]:
    """Train `rest` and a linear classifier on the outputs of `front`; return the test accuracy, and if it cached."""
    (images, labels), (test_images, test_labels) = splits["train"], splits["test"]
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
    for _ in range(protocol.epochs):
        order = torch.randperm(len(labels), generator=shuffle).to(labels.device)
        for batch in order.split(protocol.batch_size)[:batches]:
            with torch.no_grad():
                inputs = look(images[batch])
            loss = cross_entropy(network(inputs), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
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
