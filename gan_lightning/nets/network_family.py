"""A family of networks: one architecture for the models that take any."""

import copy
from abc import ABC, abstractmethod

import torch
from torch import nn

from gan_lightning.errors import SettingError, refused

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
    def generator(self, channels: int, size: int) -> nn.Module:
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


def check_networks(
    owner: object,
    family: Networks,
    channels: int,
    image_size: int,
    generator: nn.Module,
    encoder: nn.Module | None = None,
    joint_discriminator: nn.Module | None = None,
) -> None:
    """Check that the networks agree on the length of a latent and on the images' size, without computing anything.

    Args:
        owner: The model whose setting the family is.
        family: It made the networks.
        channels: Channels of the images.
        image_size: Height and width of the images that the encoder sees, pixels.
        generator: G.
        encoder: E, if there is one.
        joint_discriminator: D of pairs of image and latent, if there is one.

    Raises:
        SettingError: Naming a network that does not fit.
    """
    latent_dim, size = family.latent_dim, family.generated_size(image_size)
    remedy = f"All must have latents of length latent_dim, {latent_dim}."

    def shape(name: str, network: nn.Module, *inputs: tuple[int, ...]) -> tuple[int, ...]:
        tensors = [torch.empty(2, *each, device="meta") for each in inputs]
        try:
            return tuple(copy.deepcopy(network).to("meta").eval()(*tensors).shape[1:])
        except RuntimeError as error:
            reason = f"the {name} cannot take {' and '.join(map(str, inputs))} ({error})"
            raise SettingError(f"networks must fit each other, but {reason}. {remedy}", owner) from error

    def expect(name: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
        if found != wanted:
            raise SettingError(
                f"networks must fit each other, but the {name} gives {found}, not {wanted}. {remedy}", owner
            )

    latents, images, generated = (latent_dim,), (channels, image_size, image_size), (channels, size, size)
    expect("generator", shape("generator", generator, latents), generated)
    if encoder is not None:
        expect("encoder", shape("encoder", encoder, images), latents)
    if joint_discriminator is not None:
        expect("discriminator", shape("discriminator", joint_discriminator, generated, latents), ())


def check_not_smaller(owner: object, family: Networks, image_size: int) -> None:
    """Check that images are not smaller than the images of a family's generator.

    Raises:
        SettingError: They are smaller.
    """
    if image_size < (size := family.generated_size(image_size)):
        condition = f"be at least {size}, the size that {type(family).__name__} generate"
        raise refused(owner, "image_size", condition, image_size, f"Use images of {size} pixels or more.")
