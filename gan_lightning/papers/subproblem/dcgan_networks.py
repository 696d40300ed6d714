"""DCGAN as PyTorch's tutorial has it, for the model `GAN`.

Source:
    Weber 2021, *The Hidden Tasks of Generative Adversarial Networks*, section 6: "the official DCGAN implementation
    provided by PyTorch with all of its default parameters", https://pytorch.org/tutorials/beginner/dcgan_faces_tutorial.html.
    Its optimizer, latents and updates are in `configs/subproblem/dcgan_celeba.yaml`.
"""

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial

from torch import nn

from gan_lightning.errors import SettingError, at_least
from gan_lightning.nets.blocks import conv, fully_connected, transposed_conv
from gan_lightning.nets.initialisation import init_gains_
from gan_lightning.nets.network_family import DCGAN_SIZE, Networks


def tutorial_generator(latent_dim: int, width: int, channels: int) -> nn.Sequential:
    """Return the tutorial's G."""
    relu, tanh = nn.ReLU(), nn.Tanh()
    w1, w2, w4, w8 = width, 2 * width, 4 * width, 8 * width
    deconv = partial(transposed_conv, bias=False)
    return nn.Sequential(OrderedDict(
        unflatten=nn.Unflatten(1, (latent_dim, 1, 1)),                                 # 1x1
        deconv1=deconv(latent_dim, w8, 4, 1, 0, batch_norm=True,  nonlinearity=relu),  # 4x4
        deconv2=deconv(w8,         w4, 4, 2, 1, batch_norm=True,  nonlinearity=relu),  # 8x8
        deconv3=deconv(w4,         w2, 4, 2, 1, batch_norm=True,  nonlinearity=relu),  # 16x16
        deconv4=deconv(w2,         w1, 4, 2, 1, batch_norm=True,  nonlinearity=relu),  # 32x32
        deconv5=deconv(w1,   channels, 4, 2, 1, batch_norm=False, nonlinearity=tanh),  # 64x64
    ))  # fmt: skip


def tutorial_discriminator(channels: int, width: int) -> nn.Sequential:
    """Return the tutorial's D, before its sigmoid."""
    leaky = nn.LeakyReLU(0.2)
    w1, w2, w4, w8 = width, 2 * width, 4 * width, 8 * width
    return nn.Sequential(OrderedDict(
        conv1=conv(channels, w1, 4, 2, 1, bias=False, batch_norm=False, nonlinearity=leaky),  # 32x32
        conv2=conv(w1,       w2, 4, 2, 1, bias=False, batch_norm=True,  nonlinearity=leaky),  # 16x16
        conv3=conv(w2,       w4, 4, 2, 1, bias=False, batch_norm=True,  nonlinearity=leaky),  # 8x8
        conv4=conv(w4,       w8, 4, 2, 1, bias=False, batch_norm=True,  nonlinearity=leaky),  # 4x4
        flatten=nn.Flatten(),
        output=fully_connected(w8 * 4 * 4, 1, bias=False, batch_norm=False, nonlinearity=None),
    ))  # fmt: skip


@dataclass(frozen=True)
class TutorialNetworks(Networks):
    """G and D of PyTorch's DCGAN tutorial, at 64x64. There is no encoder.

    Args:
        latent_dim: Length of a latent, the tutorial's nz.
        base_width: Maps of D's first and of G's last but one row, the tutorial's ndf and ngf; the other widths are
            multiples of it.

    Deviations:
        - D's last convolution, 4x4 on a 4x4 map, is written as the equivalent fully connected layer. D without it gives
          features (batch, feature).
        - Losses take logits, so D ends without the sigmoid.
    """

    latent_dim: int = 100
    base_width: int = 64

    def __post_init__(self) -> None:
        """Check the settings."""
        at_least(self, 1, latent_dim=self.latent_dim, base_width=self.base_width)

    def generated_size(self, image_size: int) -> int:
        """Return 64."""
        return DCGAN_SIZE

    def generator(self, channels: int, size: int) -> nn.Sequential:
        """Return G."""
        return init_gains_(tutorial_generator(self.latent_dim, self.base_width, channels))

    def discriminator(self, channels: int, size: int) -> nn.Sequential:
        """Return D(x)."""
        return init_gains_(tutorial_discriminator(channels, self.base_width))

    def encoder(self, channels: int, size: int) -> nn.Sequential:
        """Refuse.

        Raises:
            SettingError: Always.
        """
        raise self._no_encoder()

    def joint_discriminator(self, channels: int, size: int) -> nn.Module:
        """Refuse.

        Raises:
            SettingError: Always.
        """
        raise self._no_encoder()

    def _no_encoder(self) -> SettingError:
        return SettingError(
            "networks must have an encoder for this model, got TutorialNetworks: DCGAN has none. Use ImageNetworks, or "
            "the model GAN."
        )
