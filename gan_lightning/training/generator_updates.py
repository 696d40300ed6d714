"""The update of a generator: the objective that its weights descend on.

A model gives its generator's loss as a `GeneratorLoss`, which knows how the loss depends on the images. An update
chooses the objective of the generator's weights: this loss itself (`Direct`), or another objective.

Source:
    Weber 2021, *The Hidden Tasks of Generative Adversarial Networks*, section 3.1.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gan_lightning.interfaces import Images
from gan_lightning.losses import Logits, Scalar
from gan_lightning.system.private_names import BatchNorm

RealImages = Float[Tensor, "real_batch channels real_height real_width"]
"""Real images beside generated ones, in [-1, 1]; they may be more or fewer, and larger."""

Judge = Callable[[Tensor], tuple[Tensor, ...]]
"""From images to the generator's loss, D's logits, and more."""


class GeneratorLoss:
    """A generator's loss, and how it depends on the images.

    Args:
        images: The generator's images, with their graph. The loss may depend on the generator's weights through these
            alone.
        judge: Gives the loss of images, D's logits for them, and further values that the model computes on the way. All
            else (latents, real images, weights) is the same in each call. It is called on `images` once.
        networks: The generator. The optimizer may also hold other networks, such as an encoder: these step on `value`.
        real: The batch's real images, of the data's size; None if no update may see them.

    Attributes:
        value: The loss, with its graph.
        logits: D's logits for `images`, with their graph.
        others: Further values of `judge`.
    """

    value: Scalar
    logits: Logits

    def __init__(
        self, images: Images, judge: Judge, networks: Sequence[nn.Module], real: RealImages | None = None
    ) -> None:
        self.images, self.judge, self.networks, self.real = images, judge, networks, real
        self.value, self.logits, *self.others = judge(images)


class GeneratorUpdate(ABC):
    """The objective of a generator's weights. A subclass is a frozen dataclass, so that checkpoints may hold it."""

    def __init_subclass__(cls) -> None:
        """Let checkpoints hold the settings, although loading runs no code of theirs."""
        torch.serialization.add_safe_globals([cls])

    @property
    def plain_descent(self) -> bool:
        """Whether the weights move by the gradient itself instead of the model's optimizer."""
        return False

    @abstractmethod
    def objective(self, loss: GeneratorLoss, *, retain_graph: bool = False) -> Scalar:
        """Return the objective of the generator's weights, with its graph.

        Args:
            loss: The model's generator loss.
            retain_graph: Whether the graph of `loss.value` is still needed afterwards.
        """

    @abstractmethod
    def check(self, channels: int, image_size: int) -> None:
        """Check that the update can work on such images.

        Raises:
            SettingError: If it cannot.
        """


@runtime_checkable
class UpdatesGenerator(Protocol):
    """A model with a generator update and an observer of its generator's steps."""

    generator_update: GeneratorUpdate

    generator_observer: Callable[[GeneratorLoss], None] | None
    """Called with the loss before each step of the generator; it may compute gradients, but must keep the graph."""


@dataclass(frozen=True)
class Direct(GeneratorUpdate):
    """The generator descends on its loss, through the discriminator.

    Source:
        Weber 2021, eq. 8.
    """

    def objective(self, loss: GeneratorLoss, *, retain_graph: bool = False) -> Scalar:
        """Return the loss itself."""
        return loss.value

    def check(self, channels: int, image_size: int) -> None:
        """Accept all images."""


@contextmanager
def resting_statistics(network: nn.Module) -> Iterator[None]:
    """Keep batch norm's running statistics unchanged; layers take the batch's statistics, or their own in eval mode."""
    norms = [layer for layer in network.modules() if isinstance(layer, BatchNorm) and layer.track_running_stats]
    for layer in norms:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in norms:
            layer.track_running_stats = True
