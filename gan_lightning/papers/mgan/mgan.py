"""M-GAN: a mixture of generators, told apart by a classifier that may share layers with the discriminator.

Source:
    Mao et al. 2022, *Is Discriminator a Good Feature Extractor?*, section 4, eq. 16, Table 1. The model is the MGAN of
    Hoang et al. 2018.

Deviations, where the paper is silent:
    - The generators minimise the non-saturating loss.
    - C's own loss is the unweighted cross entropy on the generated images, as in Hoang et al.'s published code;
      β weights the term in the generators' loss only.
    - One batch of generated images serves D's, C's and the generators' steps. Each generator draws latents of its own;
      `shared_latents` gives all of them the same, as the published code does.
    - Layers that D and C share belong to both optimizers, each with its own Adam state. D steps first, but both
      gradients are taken at the weights before either step, from one forward pass: neither task sees a trunk that the
      other has just moved. A comparison of the two is therefore free of their order. A shared layer takes two steps a
      batch, and an unshared one takes one: `sweeps/mgan/trunk_rate_mnist.yaml` is the control for that.
    - Batch norm: gains start at 1; D sees real and generated images in forward passes of their own.
    - MNIST's 28x28 pixels are padded with black to 32x32. `--data.enlarge=resize` resizes them instead.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int64
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from gan_lightning import losses
from gan_lightning.errors import at_least, multiple_of, one_of, refused
from gan_lightning.interfaces import Batch, Images, Latents, LinearHead, PublishedFigure
from gan_lightning.nets.blocks import conv, linear, transposed_conv
from gan_lightning.nets.heads import linear_heads
from gan_lightning.nets.layers import ParallelProjection
from gan_lightning.papers.mgan.table_2 import printed_in_table_2
from gan_lightning.training.adversarial import AdversarialModule, check_betas
from gan_lightning.training.generator_updates import Direct, GeneratorLoss, GeneratorUpdate, RealImages
from gan_lightning.training.precision import full_precision

IMAGE_SIZE = 32
"""The one size that Table 1 takes: a 4x4 map doubled three times."""

CONV_LAYERS = 4
"""Convolutions of D and of C, the layers that the two may share."""


def generator_trunk(channels: int, width: int) -> nn.Sequential:
    """Return the rows of Table 1 that the generators share."""
    relu, tanh = nn.ReLU(), nn.Tanh()
    w1, w2, w4 = width, 2 * width, 4 * width
    return nn.Sequential(OrderedDict(
        deconv2=transposed_conv(w4, w2,       4, 2, 1, bias=False, batch_norm=True,  nonlinearity=relu),  # 8x8
        deconv3=transposed_conv(w2, w1,       4, 2, 1, bias=False, batch_norm=True,  nonlinearity=relu),  # 16x16
        deconv4=transposed_conv(w1, channels, 4, 2, 1, bias=False, batch_norm=False, nonlinearity=tanh),  # 32x32
    ))  # fmt: skip


def feature_extractor(channels: int, width: int, feature_dim: int) -> nn.Sequential:
    """Return the convolutions of Table 1 that D and C each have."""
    leaky = nn.LeakyReLU(0.2)
    w1, w2, w4 = width, 2 * width, 4 * width
    return nn.Sequential(OrderedDict(
        conv1=conv(channels, w1,          4, 2, 1, bias=False, batch_norm=False, nonlinearity=leaky),  # 16x16
        conv2=conv(w1,       w2,          4, 2, 1, bias=False, batch_norm=True,  nonlinearity=leaky),  # 8x8
        conv3=conv(w2,       w4,          4, 2, 1, bias=False, batch_norm=True,  nonlinearity=leaky),  # 4x4
        conv4=conv(w4,       feature_dim, 4, 1, 0, bias=False, batch_norm=False, nonlinearity=None),   # 1x1
        flatten=nn.Flatten(),
    ))  # fmt: skip


class MGAN(AdversarialModule):
    """K generators, a discriminator and a classifier that names the generator; D and C share 4 to 0 layers.

    Args:
        channels: Channels of the images; the data set tells.
        image_size: Height and width of the images, pixels; the data set tells. Table 1 takes 32.
        generators: K, the number of generators and of C's classes.
        shares_removed: Convolutions that D and C no longer share, counted from the last: 0 shares all four, 4 none.
        class_weight: β of eq. 16.
        base_width: Maps after the first convolution; Table 1's other widths are multiples of it.
        feature_dim: Length of D's and C's features, the 128 of Table 1's last convolution.
        latent_dim: Length of a latent.
        fake_batch_size: Generated images in a batch, of all generators together: Table 1's 12 from each of 10.
        shared_latents: Whether all generators get the same latents.
        generator_lr: Adam's learning rate for the generators.
        discriminator_lr: Adam's learning rate for D.
        classifier_lr: Adam's learning rate for C.
        betas: Adam's β1 and β2, for all three.
        generator_update: The way in which the generators' weights follow their loss.

    Raises:
        SettingError: If a setting does not fit Table 1's networks.
    """

    def __init__(
        self,
        channels: int,
        image_size: int,
        generators: int = 10,
        shares_removed: int = 0,
        class_weight: float = 0.02,
        base_width: int = 128,
        feature_dim: int = 128,
        latent_dim: int = 128,
        fake_batch_size: int = 120,
        shared_latents: bool = False,
        generator_lr: float = 2e-4,
        discriminator_lr: float = 2e-4,
        classifier_lr: float = 2e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        generator_update: GeneratorUpdate = Direct(),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__()
        if image_size != IMAGE_SIZE:
            condition = f"be {IMAGE_SIZE} for MGAN (Table 1 ends in 32x32 maps)"
            raise refused(self, "image_size", condition, image_size, "Use images of that size.")
        shares = "0 shares all four convolutions of D and C, 4 shares none."
        one_of(self, range(CONV_LAYERS + 1), shares, shares_removed=shares_removed)
        at_least(self, 1, generators=generators, base_width=base_width, feature_dim=feature_dim, latent_dim=latent_dim)
        at_least(self, 1, fake_batch_size=fake_batch_size)
        multiple_of(self, generators, f"generators ({generators})", fake_batch_size=fake_batch_size)
        at_least(self, 0, class_weight=class_weight, generator_lr=generator_lr)
        at_least(self, 0, discriminator_lr=discriminator_lr, classifier_lr=classifier_lr)
        check_betas(self, betas, "Table 1 has 0.5 and 0.999.")
        self.update_generator_by(generator_update, channels, image_size)
        self.save_hyperparameters()
        self.generators, self.latent_dim, self.shared_latents = generators, latent_dim, shared_latents
        self.images_per_generator = fake_batch_size // generators
        self.class_weight = class_weight
        self.shares_removed, self.shared_layers = shares_removed, CONV_LAYERS - shares_removed
        self.learning_rates, self.betas = (generator_lr, discriminator_lr, classifier_lr), betas

        self.generator_heads = ParallelProjection(generators, latent_dim, 4 * base_width, 4)  # 4x4, one per generator
        self.generator_trunk = generator_trunk(channels, base_width)
        self.discriminator = feature_extractor(channels, base_width, feature_dim)
        self.classifier = feature_extractor(channels, base_width, feature_dim)
        for layer in range(self.shared_layers):
            self.classifier[layer] = self.discriminator[layer]
        self.discriminator_head = linear(feature_dim, 1, bias=False)
        self.classifier_head = linear(feature_dim, generators, bias=False)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return Adam for the generators, for D and for C; shared layers stand in D's and in C's."""
        networks = (
            [self.generator_heads, self.generator_trunk],
            [self.discriminator, self.discriminator_head],
            [self.classifier, self.classifier_head],
        )
        return [
            torch.optim.Adam(nn.ModuleList(network).parameters(), lr=learning_rate, betas=self.betas)
            for network, learning_rate in zip(networks, self.learning_rates, strict=True)
        ]

    def learn(self, batch: Batch) -> Mapping[str, Tensor]:
        """Step D and C on real and generated images, then the generators on the same generated images."""
        real, _ = batch
        step_g, step_d, step_c = self.optimizer_list()
        fake, made_by = self.generate_batch(self.images_per_generator)

        fake_logits, class_logits = self.discriminate_and_classify(fake.detach())
        discriminator_loss = losses.discriminator_loss(self.discriminate(real), fake_logits)
        classifier_loss = losses.classification_loss(class_logits, made_by)
        self.check_finite({"train/discriminator_loss": discriminator_loss, "train/classifier_loss": classifier_loss})
        self.step({step_d: discriminator_loss, step_c: classifier_loss})

        with self.toggled_optimizer(step_g):
            generator_loss = self.generator_loss(fake, made_by, real)
            self.check_finite({"train/generator_loss": generator_loss.value})
            self.step({step_g: generator_loss}, last=True)

        self.count(real, d_steps=1, g_steps=1)
        return {
            "generator_loss": generator_loss.value,
            "discriminator_loss": discriminator_loss,
            "classifier_loss": classifier_loss,
        }

    def generator_loss(self, fake: Images, made_by: Int64[Tensor, " batch"], real: RealImages) -> GeneratorLoss:
        """Return the generators' loss."""

        def judge(images: Tensor) -> tuple[Tensor, Tensor]:
            fake_logits, class_logits = self.discriminate_and_classify(images)
            loss = losses.mixture_generator_loss(fake_logits, class_logits, made_by, self.class_weight)
            return loss, fake_logits

        return GeneratorLoss(fake, judge, [self.generator_heads, self.generator_trunk], real)

    def held_out_losses(self, real: Images, rng: torch.Generator) -> Mapping[str, Tensor]:
        """Return the losses of D and C."""
        fake, made_by = self.generate_batch(self.images_per_generator, rng)
        fake_logits, class_logits = self.discriminate_and_classify(fake)
        return {
            "discriminator_loss": losses.discriminator_loss(self.discriminate(real), fake_logits),
            "classifier_loss": losses.classification_loss(class_logits, made_by),
        }

    def discriminate(self, images: Images) -> Float[Tensor, " batch"]:
        """Return D's logits."""
        return full_precision(self.discriminator_head(self.discriminator(images)).squeeze(1))

    def real_logits(self, images: Images) -> Float[Tensor, " batch"]:
        """Return D's logits."""
        return self.discriminate(images)

    def discriminate_and_classify(
        self, images: Images
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch generators"]]:
        """Return D's and C's logits; the shared layers run once."""
        shared = self.discriminator[: self.shared_layers](images)
        real_logits = self.discriminator_head(self.discriminator[self.shared_layers :](shared)).squeeze(1)
        class_logits = self.classifier_head(self.classifier[self.shared_layers :](shared))
        return full_precision(real_logits), full_precision(class_logits)

    def generate_batch(
        self, per_generator: int, rng: torch.Generator | None = None
    ) -> tuple[Images, Int64[Tensor, " batch"]]:
        """Return images in [-1, 1], ordered by generator, and the index of each image's generator."""
        drawn = 1 if self.shared_latents else self.generators
        latents = torch.randn(drawn, per_generator, self.latent_dim, device=self.device, generator=rng)
        fake = self.generator_trunk(self.generator_heads(latents.expand(self.generators, -1, -1)))
        made_by = torch.arange(self.generators, device=self.device)[:, None].expand(-1, per_generator).flatten()
        return fake, made_by

    def sample_latents(self, count: int, rng: torch.Generator | None = None) -> Latents:
        """Return `count` latents z ~ N(0, I)."""
        return torch.randn(count, self.latent_dim, device=self.device, generator=rng)

    def generate_from(self, latents: Latents) -> Float[Tensor, "generators batch channels height width"]:
        """Return each generator's images in [-1, 1] of the same latents."""
        fake = self.generator_trunk(self.generator_heads(latents.expand(self.generators, -1, -1)))
        return fake.unflatten(0, (self.generators, len(latents)))

    def generate(
        self, count: int, rng: torch.Generator | None = None
    ) -> Float[Tensor, "generators count channels height width"]:
        """Return `count` images in [-1, 1] from each generator."""
        return self.generate_batch(count, rng)[0].unflatten(0, (self.generators, count))

    def hot_parts(self) -> Sequence[str]:
        """Return the generators' networks, and D and C as they are called."""
        return "generator_heads", "generator_trunk", "discriminate", "discriminate_and_classify"

    def extractors(self) -> Mapping[str, nn.Module]:
        """Return D and C without their heads: images to features (batch, feature_dim)."""
        return {"discriminator": self.discriminator, "classifier": self.classifier}

    def published_figures(self, data: str) -> Mapping[str, PublishedFigure]:
        """Return Table 2's accuracies for as many shares removed."""
        return printed_in_table_2(data, self.shares_removed)

    def heads(self) -> Mapping[str, LinearHead]:
        """Return the heads of D and of C."""
        discriminator = linear_heads("discrimination", discriminator=self.discriminator_head)
        return discriminator | linear_heads("classification", classifier=self.classifier_head)
