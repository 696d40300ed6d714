"""A family of networks: one architecture for the models that take any."""

from abc import ABC, abstractmethod

import torch
from torch import nn

from gan_lightning.errors import SettingError

DCGAN_SIZE = 64
"""The one size of these tables: a 4x4 map doubled four times."""


class Networks(ABC):
    """Builds the networks of one architecture; its settings are part of the model's.

    The latents of all four networks have the length `latent_dim`. A subclass is a frozen dataclass, so that equal
    settings compare as equal; checkpoints may hold it.
    """

    latent_dim: int

    def __init_subclass__(cls) -> None:
        """Let checkpoints hold the settings, although loading runs no code of theirs."""
        torch.serialization.add_safe_globals([cls])

    @abstractmethod
    def generated_size(self, image_size: int) -> int:
        """Return height and width of G's images for data of `image_size`, pixels."""

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


def check_positive(**settings: int) -> None:
    """Check settings of networks.

    Raises:
        SettingError: If one is below 1.
    """
    for name, value in settings.items():
        if value < 1:
            raise SettingError(f"model.networks.{name} must be at least 1, got {value}.")
