"""A family of networks: what builds the networks of one architecture for the models that take any."""

from abc import ABC, abstractmethod

import torch
from torch import nn

DCGAN_SIZE = 64
"""The one size that these tables take: a 4x4 map doubled four times."""


class Networks(ABC):
    """What builds the networks of one architecture; its settings are part of the model's.

    The latents of all four networks have the length `latent_dim`. A subclass is a frozen dataclass, so that two models
    with the same settings are the same; checkpoints may hold it.
    """

    latent_dim: int

    def __init_subclass__(cls) -> None:
        """Let checkpoints, which are loaded without running any code of theirs, hold the settings."""
        torch.serialization.add_safe_globals([cls])

    @abstractmethod
    def generated_size(self, image_size: int) -> int:
        """Return height and width of G's images where the data's are `image_size`, pixels."""

    @abstractmethod
    def generator(self, channels: int, size: int) -> nn.Sequential:
        """Return G: latents to images in [-1, 1]."""

    @abstractmethod
    def encoder(self, channels: int, size: int) -> nn.Sequential:
        """Return E: images to latents, before the sigmoid that brings them to [-1, 1]. The last row is E's output."""

    @abstractmethod
    def discriminator(self, channels: int, size: int) -> nn.Sequential:
        """Return the standard GAN's D: images to a logit (batch, 1). The last row is D's output."""

    @abstractmethod
    def joint_discriminator(self, channels: int, size: int) -> nn.Module:
        """Return BiGAN's D: images and latents to logits (batch,)."""
