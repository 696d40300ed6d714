"""Maps of a frozen layer -> classes: a head that learns where to look, beside one that looks everywhere alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gan_lightning.errors import above, at_least, between_zero_and_one, refused
from gan_lightning.evaluation.probes.probe import ImageLabels, accuracy, cross_entropy, held_out_places

Pooling = Literal["attention", "mean"]

Maps = Float[Tensor, "images map_channels map_height map_width"]


@dataclass(frozen=True)
class AttentiveProtocol:
    """Training of a pooling head by AdamW; its learning rate falls to 0 along a cosine.

    The rate is chosen on held-out training images; a head with it is then trained on all training images.

    Attributes:
        heads: Attention heads; each has a part of the channels. Fewer are used if they do not divide the channels.
        learning_rates: Candidates.
        weight_decay: Decoupled ℓ2, on all weights but biases and the query.
        batch_size: Images per step; the last of an epoch may be smaller.
        epochs: Passes over the training images.
        held_out: Share of the training images on which the rates are compared.

    Source:
        Bardes et al. 2024, *Revisiting feature prediction for learning visual representations from video*, section 4.1:
        one learned query, cross-attention, then a linear classifier. The settings of the training are ours.
    """

    heads: int = 4
    learning_rates: Sequence[float] = (3e-4, 1e-3, 3e-3)
    weight_decay: float = 0.01
    batch_size: int = 128
    epochs: int = 20
    held_out: float = 0.1

    def __post_init__(self) -> None:
        """Refuse values that do not allow a training or a choice."""
        at_least(self, 1, heads=self.heads, batch_size=self.batch_size, epochs=self.epochs)
        at_least(self, 0, weight_decay=self.weight_decay)
        if not self.learning_rates:
            raise refused(self, "learning_rates", "hold at least one value", self.learning_rates, "Try [0.001].")
        for rate in self.learning_rates:
            above(self, 0, learning_rates=rate)
        between_zero_and_one(self, "0.1 is usual.", held_out=self.held_out)


ATTENTIVE = AttentiveProtocol()


class PooledHead(nn.Module):
    """A linear classifier on pooled maps (batch, channels, height, width); returns logits (batch, classes).

    With attention, a learned query weighs the places, for each head anew, and a linear map of the values follows. With
    the mean, every place has the same weight, and there is no map before the classifier.

    Args:
        channels: Of the maps.
        classes: Number of classes, or of attributes.
        pooling: Kind of pooling.
        heads: Attention heads; they divide the channels.
    """

    def __init__(self, channels: int, classes: int, pooling: Pooling, heads: int) -> None:
        super().__init__()
        self.heads = heads
        if pooling == "attention":
            self.query = nn.Parameter(torch.randn(heads, 1, channels // heads) * 0.02)
            self.key, self.value = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.pooling = pooling
        self.classify = nn.Linear(channels, classes)

    def forward(self, maps: Maps) -> Float[Tensor, "images classes"]:
        """Return the logits."""
        tokens = maps.flatten(2).mT
        return self.classify(tokens.mean(dim=1) if self.pooling == "mean" else self._attended(tokens))

    def _attended(self, tokens: Float[Tensor, "images places channels"]) -> Float[Tensor, "images channels"]:
        keys, values = (
            layer(tokens).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in (self.key, self.value)
        )
        query = self.query.expand(len(tokens), -1, -1, -1)
        return F.scaled_dot_product_attention(query, keys, values).flatten(1)


def pooled_accuracy(
    train: Maps,
    train_labels: ImageLabels,
    test: Float[Tensor, "_images map_channels map_height map_width"],
    test_labels: Tensor,
    *,
    num_classes: int,
    pooling: Pooling,
    protocol: AttentiveProtocol = ATTENTIVE,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the test accuracy of a head on maps, and its learning rate, which was chosen on training images.

    Each channel is scaled to mean 0 and deviation 1 over the training images and their places.

    Args:
        train: Maps of training images.
        train_labels: A class per image; or 0/1 per attribute, with -1 for an unknown one.
        test: Maps of test images.
        test_labels: As `train_labels`.
        num_classes: Number of classes, or of attributes.
        pooling: Kind of pooling.
        protocol: Settings of the training.
        seed: Of the weights, of the order of the images and of the held-out ones.
    """
    mean = train.mean(dim=(0, 2, 3), keepdim=True)
    deviation = train.std(dim=(0, 2, 3), correction=0, keepdim=True)
    deviation.masked_fill_(deviation == 0, 1.0)
    train, test = (train - mean) / deviation, (test - mean) / deviation
    rates = list(protocol.learning_rates)
    best = rates[0]
    if len(rates) > 1:
        fitting, validation = held_out_places(len(train), protocol.held_out, seed, train.device)
        found = {}
        for rate in rates:
            head = _trained(train[fitting], train_labels[fitting], num_classes, pooling, rate, protocol, seed)
            found[rate] = accuracy(_logits(head, train[validation], protocol), train_labels[validation])
        best = max(rates, key=lambda rate: found[rate])
    head = _trained(train, train_labels, num_classes, pooling, best, protocol, seed)
    return accuracy(_logits(head, test, protocol), test_labels), best


def _trained(
    maps: Maps,
    labels: ImageLabels,
    num_classes: int,
    pooling: Pooling,
    rate: float,
    protocol: AttentiveProtocol,
    seed: int,
) -> PooledHead:
    channels = maps.shape[1]
    heads = next(heads for heads in range(min(protocol.heads, channels), 0, -1) if channels % heads == 0)
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(seed)
        head = PooledHead(channels, num_classes, pooling, heads).to(maps)
    decayed = [weight for name, weight in head.named_parameters() if name.endswith("weight")]
    free = [weight for name, weight in head.named_parameters() if not name.endswith("weight")]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": protocol.weight_decay}, {"params": free, "weight_decay": 0.0}], lr=rate
    )
    rng, batches = torch.Generator().manual_seed(seed), -(-len(maps) // protocol.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: (1 + cos(pi * step / (batches * protocol.epochs))) / 2
    )
    with torch.enable_grad():
        for _ in range(protocol.epochs):
            for rows in torch.randperm(len(maps), generator=rng).to(maps.device).split(protocol.batch_size):
                optimizer.zero_grad()
                cross_entropy(head(maps[rows]), labels[rows]).backward()
                optimizer.step()
                schedule.step()
    return head.eval().requires_grad_(False)


def _logits(head: PooledHead, maps: Tensor, protocol: AttentiveProtocol) -> Float[Tensor, "images classes"]:
    return torch.cat([head(part) for part in maps.split(max(protocol.batch_size, 500))])
