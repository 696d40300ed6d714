"""The standard GAN: as the baseline "D", whose discriminator is measured, and as DCGAN.

Source:
    Goodfellow et al. 2014; as a baseline, Donahue et al. 2017, section 4.1, "Discriminator", and appendices B and C; as
    DCGAN, Weber 2021, section 6, with the networks and settings of PyTorch's tutorial
    (`configs/subproblem/dcgan_celeba.yaml`).
"""

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from gan_lightning import losses
from gan_lightning.errors import one_of, refused
from gan_lightning.interfaces import Batch, Images, Latents, LinearHead, PublishedFigure
from gan_lightning.nets.heads import linear_heads
from gan_lightning.nets.network_family import Networks, check_networks, check_not_smaller
from gan_lightning.papers.bigan.table_1 import printed_in_table_1
from gan_lightning.papers.bigan.tables_2_and_3 import printed_in_table_3
from gan_lightning.training.adversarial import AdversarialModule, Loss, loss_values
from gan_lightning.training.generator_updates import Direct, GeneratorLoss, GeneratorUpdate, RealImages
from gan_lightning.training.latents import UniformLatents
from gan_lightning.training.precision import full_precision
from gan_lightning.training.simultaneous import DecayedAdam, Trained, alternate, check_training_ends, step_at_once


class GAN(UniformLatents, AdversarialModule):
    """A generator and a discriminator of images.

    Args:
        channels: Channels of the images; the data set tells.
        image_size: Height and width of the images, pixels; the data set tells. The generator makes images of this size.
        networks: The architecture: `PermutationInvariantNetworks`, `ImageNetworks`, `TutorialNetworks`, or a class of
            your own.
        optimizer: Adam's settings, the same for both networks.
        simultaneous: Whether both networks step at once. Otherwise D steps first, then G against the new D.
        latent_prior: Distribution of the latents' values: `uniform` in [-1, 1], or `normal` with variance 1.
        generator_update: The way in which the generator's weights follow its loss.

    Raises:
        SettingError: If a setting is out of range, or the images are not of the generator's size.

    Deviations:
        The generator minimises -E log D(G(z)), the GAN's part of the inverse objective Λ; appendix B says so of BiGAN.
    """

    def __init__(
        self,
        channels: int,
        image_size: int,
        networks: Networks,
        optimizer: DecayedAdam = DecayedAdam(),  # noqa: B008 (frozen)
        simultaneous: bool = True,
        latent_prior: Literal["uniform", "normal"] = "uniform",
        generator_update: GeneratorUpdate = Direct(),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__()
        check_generated_size(self, networks, image_size)
        self.adam, self.image_size, self.latent_dim = optimizer, image_size, networks.latent_dim
        one_of(self, ("uniform", "normal"), latent_prior=latent_prior)
        self.update_generator_by(generator_update, channels, image_size)
        self.save_hyperparameters()
        self.simultaneous, self.normal_latents = simultaneous, latent_prior == "normal"
        self.generator = networks.generator(channels, image_size)
        self.discriminator = networks.discriminator(channels, image_size)
        check_networks(self, networks, channels, image_size, self.generator)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return Adam over the networks of each loss, and its schedule."""
        return self.adam.scheduled(self, self.trained())

    def setup(self, stage: str) -> None:
        """Check that the schedule has an end.

        Raises:
            SettingError: Training has none, or the trainer's precision scales losses.
        """
        super().setup(stage)
        check_training_ends(self.trainer, stage)

    def trained(self) -> Trained:
        """Return G and D."""
        return {"generator_loss": [self.generator], "discriminator_loss": [self.discriminator]}

    def losses(self, real: Images, rng: torch.Generator | None = None) -> Mapping[str, Loss]:
        """Return G's and D's losses."""
        fake = self.generator(self.sample_latents(len(real), rng))
        real_logits, generator_loss = self.discriminate(real), self.generator_loss(fake, real)
        return {
            "generator_loss": generator_loss,
            "discriminator_loss": losses.discriminator_loss(real_logits, generator_loss.logits),
        }

    def learn(self, batch: Batch) -> Mapping[str, Tensor]:
        """Step D and G at once on one forward pass, or in turn."""
        real, _ = batch
        if self.simultaneous:
            return step_at_once(self, real, self.losses(real), self.trained())
        fake = self.generator(self.sample_latents(len(real)))
        return alternate(
            self,
            real,
            lambda: losses.discriminator_loss(self.discriminate(real), self.discriminate(fake.detach())),
            lambda: self.generator_loss(fake, real),
            self.trained(),
        )

    def held_out_losses(self, real: Images, rng: torch.Generator) -> Mapping[str, Tensor]:
        """Return the losses."""
        return loss_values(self.losses(real, rng))

    def sample_latents(self, count: int, rng: torch.Generator | None = None) -> Latents:
        """Return `count` latents from their prior."""
        if self.normal_latents:
            return torch.randn(count, self.latent_dim, device=self.device, generator=rng)
        return super().sample_latents(count, rng)

    def generator_loss(self, fake: Images, real: RealImages) -> GeneratorLoss:
        """Return G's loss."""

        def judge(images: Tensor) -> tuple[Tensor, Tensor]:
            fake_logits = self.discriminate(images)
            return losses.generator_loss(fake_logits), fake_logits

        return GeneratorLoss(fake, judge, [self.generator], real)

    def discriminate(self, images: Images) -> Float[Tensor, " batch"]:
        """Return D's logits."""
        return full_precision(self.discriminator(images).squeeze(1))

    def real_logits(self, images: Images) -> Float[Tensor, " batch"]:
        """Return D's logits."""
        return self.discriminate(images)

    def extractors(self) -> Mapping[str, nn.Module]:
        """Return D without its output layer: images to features."""
        return {"discriminator": self.discriminator[:-1]}

    def published_figures(self, data: str) -> Mapping[str, PublishedFigure]:
        """Return Table 1's accuracy, or Table 3's figures."""
        return {**printed_in_table_1(data, "D", "discriminator"), **printed_in_table_3(data, "D", "discriminator")}

    def heads(self) -> Mapping[str, LinearHead]:
        """Return D's output layer, if it is linear."""
        return linear_heads("discrimination", discriminator=self.discriminator[-1])


def check_generated_size(owner: object, family: Networks, image_size: int) -> None:
    """Check that images have the generator's size, for a network that sees both.

    Args:
        owner: The model.
        family: It makes the generator.
        image_size: Height and width of the images, pixels.

    Raises:
        SettingError: If they are not.

    Source:
        Donahue et al. 2017, section 4.4: larger encoder inputs are "not possible under the LR and D baselines as each
        of those modules take generator outputs as their input".
    """
    check_not_smaller(owner, family, image_size)
    if image_size != (size := family.generated_size(image_size)):
        condition = f"be {size} for {type(owner).__name__}, the size that its generator makes"
        raise refused(owner, "image_size", condition, image_size, "Use images of that size.")
