"""The sizes of the timed models, which are those of the shipped configurations, and their images."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from lightning.pytorch import seed_everything
from torch import Tensor

from gan_lightning.nets.table_rows import UNIT
from gan_lightning.papers import GAN, MGAN, BiGAN, PermutationInvariantNetworks, SelfExGAN, TutorialNetworks
from gan_lightning.training.simultaneous import DecayedAdam

BATCHES = 4
"""Batches of real images in memory, which a program goes through again and again."""


class Repeated:
    """A few batches of random images on the device, again and again.

    Args:
        batch_size: Images.
        channels: Of the images.
        image_size: Height and width, pixels.
        device: Where they are.
        length: Batches of an epoch.
    """

    def __init__(
        self, batch_size: int, channels: int, image_size: int, device: torch.device, length: int = 10**9
    ) -> None:
        rng = torch.Generator().manual_seed(0)
        shape = batch_size, channels, image_size, image_size
        self.images = [(torch.rand(shape, generator=rng) * 2 - 1).to(device) for _ in range(BATCHES)]
        self.labels = torch.zeros(batch_size, dtype=torch.int64, device=device)
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for number in range(self.length):
            yield self.images[number % BATCHES], self.labels


@dataclass(frozen=True)
class MGANSize:
    """Table 1's sizes of M-GAN.

    Attributes:
        other: What a step is compared with.
        channels: Of the images.
        base_width: Maps after D's first convolution.
        generators: K.
        batch_size: Real images.
        per_generator: Generated images of each generator.
        feature_dim: Of D and C.
        latent_dim: Of the generators.
    """

    other: ClassVar[str] = "plain"

    channels: int = 3
    base_width: int = 128
    generators: int = 10
    batch_size: int = 120
    per_generator: int = 12
    feature_dim: int = 128
    latent_dim: int = 128

    def model(self) -> MGAN:
        """Return the model, with the same weights each time."""
        seed_everything(0, verbose=False)
        return MGAN(
            self.channels,
            32,
            generators=self.generators,
            base_width=self.base_width,
            feature_dim=self.feature_dim,
            latent_dim=self.latent_dim,
            fake_batch_size=self.generators * self.per_generator,
        )

    def loader(self, device: torch.device) -> Repeated:
        """Return real images."""
        return Repeated(self.batch_size, self.channels, 32, device)


@dataclass(frozen=True)
class DCGANSize:
    """The sizes of `configs/subproblem/dcgan_celeba.yaml`.

    Attributes:
        other: What a step is compared with.
        base_width: Maps after D's first convolution.
        batch_size: Images.
    """

    other: ClassVar[str] = "plain"

    base_width: int = 64
    batch_size: int = 128

    def model(self) -> GAN:
        """Return the model, with the same weights each time."""
        seed_everything(0, verbose=False)
        return GAN(
            3,
            64,
            TutorialNetworks(base_width=self.base_width),
            DecayedAdam(weight_decay=0.0, final_share=1.0),
            simultaneous=False,
            latent_prior="normal",
        )

    def loader(self, device: torch.device) -> Repeated:
        """Return real images."""
        return Repeated(self.batch_size, 3, 64, device)


@dataclass(frozen=True)
class BiGANSize:
    """The sizes of `configs/bigan/permutation_invariant_mnist.yaml`.

    Attributes:
        other: What a step is compared with.
        width: Units of a hidden layer.
        batch_size: Images.
        latent_dim: Length of a latent.
    """

    other: ClassVar[str] = "plain"

    width: int = 1024
    batch_size: int = 128
    latent_dim: int = 50

    def model(self) -> BiGAN:
        """Return the model, with the same weights each time."""
        seed_everything(0, verbose=False)
        return BiGAN(1, 28, PermutationInvariantNetworks(self.latent_dim, self.width))

    def loader(self, device: torch.device) -> Repeated:
        """Return real images."""
        return Repeated(self.batch_size, 1, 28, device)


@dataclass(frozen=True)
class SelfExGANSize:
    """The sizes of `configs/selfexgan/mnist.yaml`.

    Attributes:
        other: What a step is compared with.
        base_width: Unit of the table's widths.
        batch_size: Images.
    """

    other: ClassVar[str] = "bare loop"

    base_width: int = UNIT
    batch_size: int = 64

    def model(self) -> SelfExGAN:
        """Return the model, with the same weights each time."""
        seed_everything(0, verbose=False)
        return SelfExGAN(1, 32, "mnist", base_width=self.base_width)

    def loader(self, device: torch.device) -> Repeated:
        """Return real images."""
        return Repeated(self.batch_size, 1, 32, device)


Size = MGANSize | DCGANSize | BiGANSize | SelfExGANSize
