"""The standard GAN: as the baseline "D", whose discriminator is measured, and as DCGAN.

Source:
    Goodfellow et al. 2014; as a baseline, Donahue et al. 2017, section 4.1, "Discriminator", and appendices B and C; as
    DCGAN, Weber 2021, section 6, with the networks and settings of PyTorch's tutorial
    (`configs/subproblem/dcgan_celeba.yaml`).
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gan_lightning import losses
from gan_lightning.errors import one_of, refused
from gan_lightning.interfaces import Batch, Images, LinearHead, PublishedFigure
from gan_lightning.nets.heads import linear_heads
from gan_lightning.nets.network_family import Networks
from gan_lightning.papers.bigan.table_1 import printed_in_table_1
from gan_lightning.training.adversarial import Loss, full_precision
from gan_lightning.training.generator_updates import Direct, GeneratorLoss, GeneratorUpdate
from gan_lightning.training.latents import DecayedAdam, LatentModule


class GAN(LatentModule):
    """A generator and a discriminator of images.

    Args:
        channels: Channels of the images; the data set tells.
        image_size: Height and width of the images, pixels; the data set tells. What the generator makes.
        networks: The architecture: `PermutationInvariantNetworks`, `ImageNetworks`, `TutorialNetworks`, or a class of
            your own.
        optimizer: Adam's settings, the same for both networks.
        simultaneous: Whether both networks step at once, or D first and then G against the new D.
        latent_prior: Distribution of the latents' values: `uniform` in [-1, 1], or `normal` with variance 1.
        generator_update: How the generator's weights follow its loss.

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
        super().__init__(channels, image_size, networks, optimizer)
        check_generated_size(self)
        one_of(self, ("uniform", "normal"), latent_prior=latent_prior)
        self.update_generator_by(generator_update, channels, image_size)
        self.save_hyperparameters()
        self.simultaneous, self.normal_latents = simultaneous, latent_prior == "normal"
        self.generator = networks.generator(channels, image_size)
        self.discriminator = networks.discriminator(channels, image_size)
        self.check_networks()

    def trained(self) -> Mapping[str, Sequence[nn.Module]]:
        """Return G and D."""
        return {"generator_loss": [self.generator], "discriminator_loss": [self.discriminator]}

    def losses(self, real: Images, rng: torch.Generator | None = None) -> Mapping[str, Loss]:
        """Return G's and D's losses."""
        fake = self.generator(self.sample_latents(len(real), rng))
        real_logits, generator_loss = self.discriminate(real), self.generator_loss(fake)
        return {
            "generator_loss": generator_loss,
            "discriminator_loss": losses.discriminator_loss(real_logits, generator_loss.logits),
        }

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Step D and G at once on one forward pass, or in turn."""
        if self.simultaneous:
            super().training_step(batch, batch_idx)
            return
        real, _ = batch
        fake = self.generator(self.sample_latents(len(real)))
        self.alternate(
            real,
            lambda: losses.discriminator_loss(self.discriminate(real), self.discriminate(fake.detach())),
            lambda: self.generator_loss(fake),
        )

    def generator_loss(self, fake: Images) -> GeneratorLoss:
        """Return G's loss."""

        def judge(images: Tensor) -> tuple[Tensor, Tensor]:
            fake_logits = self.discriminate(images)
            return losses.generator_loss(fake_logits), fake_logits

        return GeneratorLoss(fake, judge, [self.generator])

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
        """Return Table 1's accuracy."""
        return printed_in_table_1(data, "D", "discriminator")

    def heads(self) -> Mapping[str, LinearHead]:
        """Return D's output layer, where it is linear."""
        return linear_heads("discrimination", discriminator=self.discriminator[-1])


def check_generated_size(model: LatentModule) -> None:
    """Check that images are of the generator's size, where a network sees both.

    Raises:
        SettingError: If they are larger.

    Source:
        Donahue et al. 2017, section 4.4: larger encoder inputs are "not possible under the LR and D baselines as each
        of those modules take generator outputs as their input".
    """
    if model.image_size != model.generated_size:
        condition = f"be {model.generated_size} for {type(model).__name__}, the size that its generator makes"
        raise refused(model, "image_size", condition, model.image_size, "Use images of that size.")
