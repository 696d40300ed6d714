"""The networks of BiGAN and its baselines: the multi-layer perceptrons for MNIST, and the convnets for images.

A model gets one of `PermutationInvariantNetworks` and `ImageNetworks`, or your own class with the same four methods;
`dcgan_networks` has another one.

Source:
    Donahue et al. 2017, *Adversarial Feature Learning*, section 4 and appendix C. "The authors' code" below is the
    release that goes with the paper.
"""

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial

from torch import nn

from gan_lightning.errors import at_least, multiple_of, refused
from gan_lightning.nets.blocks import conv, fully_connected, transposed_conv
from gan_lightning.nets.layers import Affine, JointDiscriminator, LatentsAgain
from gan_lightning.nets.network_family import DCGAN_SIZE, Networks

# Appendix C.1: "D, G, and E each consist of two hidden layers with 1024 units. The first hidden layer is followed by a
# non-linearity; the second is followed by (parameter-free) batch normalization and a non-linearity. [...] In D and E,
# a leaky ReLU non-linearity with a 'leak' of 0.2 is used; in G, a standard ReLU."


def mlp_generator(latent_dim: int, width: int, channels: int, size: int, first_norm: bool = False) -> nn.Sequential:
    """Return G of appendix C.1; the sigmoid's [0, 1] becomes [-1, 1] at the end.

    Args:
        latent_dim: Length of a latent.
        width: Units of a hidden layer.
        channels: Channels of the images.
        size: Height and width of the images, pixels.
        first_norm: Whether the first layer has batch norm, too.
    """
    relu, sigmoid, pixels = nn.ReLU(), nn.Sigmoid(), channels * size * size
    linear = partial(fully_connected, bias=False, learned_norm=False)
    return nn.Sequential(OrderedDict(
        hidden1=linear(latent_dim, width,  batch_norm=first_norm, nonlinearity=relu),
        hidden2=linear(width,      width,  batch_norm=True,  nonlinearity=relu),
        pixels=linear(width,       pixels, batch_norm=False, nonlinearity=sigmoid),
        unflatten=nn.Unflatten(1, (channels, size, size)),
        signed=Affine(2.0, -1.0),
    ))  # fmt: skip


def mlp_extractor(channels: int, size: int, width: int, outputs: int) -> nn.Sequential:
    """Return D or E of appendix C.1; images in [-1, 1] become [0, 1] at the start."""
    leaky, pixels = nn.LeakyReLU(0.2), channels * size * size
    linear = partial(fully_connected, bias=False, learned_norm=False)
    return nn.Sequential(OrderedDict(
        unsigned=Affine(0.5, 0.5),
        flatten=nn.Flatten(),
        hidden1=linear(pixels, width,   batch_norm=False, nonlinearity=leaky),
        hidden2=linear(width,  width,   batch_norm=True,  nonlinearity=leaky),
        output=linear(width,   outputs, batch_norm=False, nonlinearity=None),
    ))  # fmt: skip


@dataclass(frozen=True)
class PermutationInvariantNetworks(Networks):
    """D, G and E as multi-layer perceptrons, for which an image is a vector without order.

    Args:
        latent_dim: Length of a latent.
        width: Units of each of the two hidden layers.
        latents_enter: Rows of BiGAN's D that z enters, of `hidden1`, `hidden2` and `output`.
        latents_enter_generator: Rows of G that z enters again, of `hidden2` and `pixels`.
        first_norm: Whether G has batch norm after its first layer, too.
        zero_output: Whether D's output weights start at 0.

    Source:
        Donahue et al. 2017, section 4.2 and appendix C.1.

    Deviations, where the paper is silent, from the authors' code:
        - No biases, no gains.
        - D and E take pixels in [0, 1], and a sigmoid ends G. Data sets and everything else in this package have
          [-1, 1]: the networks convert on their way in and out.
        - z enters at every linear layer after the first, as section 4 says; the authors' code has it at the second
          only: `latents_enter=[hidden2]`. Three further settings are of that code, and off by default:
          `latents_enter_generator=[hidden2]`, `first_norm=true` and `zero_output=true`. All four are in
          `configs/bigan/authors_code.yaml`.
        - D sees real and generated images in passes of their own, as in that code.
    """

    latent_dim: int = 50
    width: int = 1024
    latents_enter: tuple[str, ...] = ("hidden2", "output")
    latents_enter_generator: tuple[str, ...] = ()
    first_norm: bool = False
    zero_output: bool = False

    def __post_init__(self) -> None:
        """Check the settings."""
        at_least(self, 1, latent_dim=self.latent_dim, width=self.width)
        _check_rows(self, "latents_enter", ("hidden1", "hidden2", "output"), least=1)
        _check_rows(self, "latents_enter_generator", ("hidden2", "pixels"))

    def generated_size(self, image_size: int) -> int:
        """Return the data's own size."""
        return image_size

    def generator(self, channels: int, size: int) -> nn.Module:
        """Return G."""
        rows = mlp_generator(self.latent_dim, self.width, channels, size, self.first_norm)
        if not self.latents_enter_generator:
            return rows
        return LatentsAgain(rows, self.latent_dim, self.latents_enter_generator)

    def encoder(self, channels: int, size: int) -> nn.Sequential:
        """Return E."""
        return mlp_extractor(channels, size, self.width, self.latent_dim)

    def discriminator(self, channels: int, size: int) -> nn.Sequential:
        """Return D(x)."""
        rows = mlp_extractor(channels, size, self.width, 1)
        if self.zero_output:
            nn.init.zeros_(rows.get_submodule("output.0").get_parameter("weight"))
        return rows

    def joint_discriminator(self, channels: int, size: int) -> nn.Module:
        """Return D(x, z)."""
        return JointDiscriminator(self.discriminator(channels, size), self.latent_dim, self.latents_enter)


# Appendix C.2: "both the discriminator D and generator G architecture are those used by Radford et al. (2016),
# consisting of a series of four 5x5 convolutions (or 'deconvolutions' [...] for the generator G) applied with 2 pixel
# stride, each followed by batch normalization and rectified non-linearity."


def dcgan_generator(latent_dim: int, width: int, channels: int) -> nn.Sequential:
    """Return G of Radford et al. 2016."""
    relu, tanh = nn.ReLU(), nn.Tanh()
    w1, w2, w4, w8 = width, 2 * width, 4 * width, 8 * width
    deconv = partial(transposed_conv, bias=False, output_padding=1)  # 5x5 with padding 2 then doubles the size
    return nn.Sequential(OrderedDict(
        projection=fully_connected(latent_dim, w8 * 4 * 4, bias=False, batch_norm=True, nonlinearity=relu),
        unflatten=nn.Unflatten(1, (w8, 4, 4)),                                   # 4x4
        deconv1=deconv(w8, w4,       5, 2, 2, batch_norm=True,  nonlinearity=relu),  # 8x8
        deconv2=deconv(w4, w2,       5, 2, 2, batch_norm=True,  nonlinearity=relu),  # 16x16
        deconv3=deconv(w2, w1,       5, 2, 2, batch_norm=True,  nonlinearity=relu),  # 32x32
        deconv4=deconv(w1, channels, 5, 2, 2, batch_norm=False, nonlinearity=tanh),  # 64x64
    ))  # fmt: skip


def dcgan_discriminator(channels: int, width: int) -> nn.Sequential:
    """Return D of Radford et al. 2016."""
    leaky = nn.LeakyReLU(0.2)
    w1, w2, w4, w8 = width, 2 * width, 4 * width, 8 * width
    return nn.Sequential(OrderedDict(
        conv1=conv(channels, w1, 5, 2, 2, bias=False, batch_norm=False, nonlinearity=leaky),  # 32x32
        conv2=conv(w1,       w2, 5, 2, 2, bias=False, batch_norm=True,  nonlinearity=leaky),  # 16x16
        conv3=conv(w2,       w4, 5, 2, 2, bias=False, batch_norm=True,  nonlinearity=leaky),  # 8x8
        conv4=conv(w4,       w8, 5, 2, 2, bias=False, batch_norm=True,  nonlinearity=leaky),  # 4x4
        flatten=nn.Flatten(),
        output=fully_connected(w8 * 4 * 4, 1, bias=False, batch_norm=False, nonlinearity=None),
    ))  # fmt: skip


# Appendix C.2: "the encoder E architecture follows AlexNet through the fifth and last convolution layer (conv5), with
# local response normalization (LRN) layers removed and batch normalization (including the learned scaling and bias)
# with leaky ReLU non-linearity applied to the output of each convolution".


def alexnet(channels: int, size: int, width: int, outputs: int) -> nn.Sequential:
    """Return E, or the D of the discriminator baseline; `width` is AlexNet's 96. Sizes for 64 and 112 pixels."""
    row = partial(conv, bias=False, batch_norm=True, nonlinearity=nn.LeakyReLU(0.2))
    w96, w256, w384 = width, width * 8 // 3, width * 4
    edge = (size - 1) // 4 + 1  # after conv1
    edge = (edge - 1) // 2 + 1  # after pool1
    edge = (edge - 1) // 2 + 1  # after pool2
    return nn.Sequential(OrderedDict(
        conv1=row(channels, w96,  11, 4, 5),            # 16x16, 28x28
        pool1=nn.MaxPool2d(3, 2, 1),                    # 8x8,   14x14
        conv2=row(w96,      w256,  5, 1, 2, groups=2),
        pool2=nn.MaxPool2d(3, 2, 1),                    # 4x4,   7x7
        conv3=row(w256,     w384,  3, 1, 1),
        conv4=row(w384,     w384,  3, 1, 1, groups=2),
        conv5=row(w384,     w256,  3, 1, 1, groups=2),
        flatten=nn.Flatten(),
        output=fully_connected(w256 * edge * edge, outputs, bias=False, batch_norm=False, nonlinearity=None),
    ))  # fmt: skip


@dataclass(frozen=True)
class ImageNetworks(Networks):
    """G and D of DCGAN at 64x64; E is AlexNet up to conv5, at 64x64 or larger.

    Args:
        latent_dim: Length of a latent.
        base_width: Maps of D's first and of G's last but one row; the other widths are multiples of it.
        encoder_width: Maps of AlexNet's conv1, a multiple of 6; its other widths are in AlexNet's proportion to it.
        latents_enter: Rows of BiGAN's D that z enters, of `conv1` to `conv4` and `output`.
        alexnet_discriminator: Whether the standard GAN's D is the encoder's AlexNet. The paper's discriminator baseline
            has it for a fair comparison.

    Source:
        Donahue et al. 2017, sections 3.5 and 4.3 and appendix C.2.

    Deviations, where the paper is silent:
        - As in Radford et al. 2016, D's first convolution has no batch norm, and G ends in tanh without one.
        - Base width 64, as in the authors' code; Radford et al. have 128.
        - AlexNet's two groups in conv2, conv4 and conv5, and, as in the authors' code, padding of conv1 and of both
          pools: without it conv3 to conv5 would see 2x2 maps of a 64x64 image.
        - No biases but batch norm's.
        - z enters D at every row after the first, as section 4 says; the authors' code leaves out `output`.
    """

    latent_dim: int = 200
    base_width: int = 64
    encoder_width: int = 96
    latents_enter: tuple[str, ...] = ("conv2", "conv3", "conv4", "output")
    alexnet_discriminator: bool = False

    def __post_init__(self) -> None:
        """Check the settings."""
        at_least(self, 1, latent_dim=self.latent_dim, base_width=self.base_width, encoder_width=self.encoder_width)
        _check_rows(self, "latents_enter", ("conv1", "conv2", "conv3", "conv4", "output"), least=1)
        multiple_of(
            self, 6, "6 (AlexNet has 96 maps in two groups, then 8/3 as many)", encoder_width=self.encoder_width
        )

    def generated_size(self, image_size: int) -> int:
        """Return 64."""
        return DCGAN_SIZE

    def generator(self, channels: int, size: int) -> nn.Sequential:
        """Return G."""
        return dcgan_generator(self.latent_dim, self.base_width, channels)

    def encoder(self, channels: int, size: int) -> nn.Sequential:
        """Return E."""
        return alexnet(channels, size, self.encoder_width, self.latent_dim)

    def discriminator(self, channels: int, size: int) -> nn.Sequential:
        """Return D(x)."""
        if self.alexnet_discriminator:
            return alexnet(channels, size, self.encoder_width, 1)
        return dcgan_discriminator(channels, self.base_width)

    def joint_discriminator(self, channels: int, size: int) -> nn.Module:
        """Return D(x, z)."""
        return JointDiscriminator(dcgan_discriminator(channels, self.base_width), self.latent_dim, self.latents_enter)


def _check_rows(owner: Networks, field: str, rows: tuple[str, ...], least: int = 0) -> None:
    chosen = getattr(owner, field)
    if len(chosen) < least or set(chosen) - set(rows):
        remedy = "Name at least one: a D that never sees z is no joint discriminator." if least else "Or name none."
        raise refused(owner, field, f"name rows of {', '.join(rows)}", list(chosen), remedy)
