"""BiGAN: a GAN with an encoder, whose discriminator tells pairs (x, E(x)) from pairs (G(z), z).

Source:
    Donahue et al. 2017, *Adversarial Feature Learning*, section 3 (eqs. 2 and 3), appendix B; section 3.5 for encoders
    that see larger images than the generator makes.

Deviations:
    - D's loss is the sum of its two terms, as in eq. 3; the authors' code halves it. Adam divides a constant factor
      out again, up to the weight decay's part.
    - Pairs (x, E(x)) and (G(z), z) are forward passes of their own through D, so each has its own batch statistics, as
      in the authors' code.
    - Alternating, both steps use the same images and latents; the paper draws them "independently for each update
      step".
    - G and E share a loss. Another `generator_update` than the direct one is G's alone: E, which makes no images,
      always steps on the loss.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from gan_lightning import losses
from gan_lightning.interfaces import Batch, Images, Latents, LinearHead, PublishedFigure
from gan_lightning.nets.heads import linear_heads
from gan_lightning.nets.network_family import Networks, check_networks, check_not_smaller
from gan_lightning.nets.resizing import resized
from gan_lightning.papers.bigan.table_1 import printed_in_table_1
from gan_lightning.papers.bigan.tables_2_and_3 import ROWS, printed_in_table_2, printed_in_table_3
from gan_lightning.training.adversarial import AdversarialModule, Loss, loss_values
from gan_lightning.training.generator_updates import Direct, GeneratorLoss, GeneratorUpdate, RealImages
from gan_lightning.training.latents import UniformLatents, to_latents
from gan_lightning.training.precision import full_precision
from gan_lightning.training.simultaneous import DecayedAdam, Trained, alternate, check_training_ends, step_at_once


class BiGAN(UniformLatents, AdversarialModule):
    """A generator, an encoder, and a discriminator of pairs of image and latent.

    Images larger than the generator's make it the generalised BiGAN of section 3.5: E sees them as they are, D resized.

    Args:
        channels: Channels of the images; the data set tells.
        image_size: Height and width of the images, pixels; the data set tells. The encoder sees images of this size.
        networks: The architecture: `PermutationInvariantNetworks`, `ImageNetworks`, or a class of your own.
        optimizer: Adam's settings, the same for all networks.
        simultaneous: Whether all networks step at once. Otherwise D steps first, then G and E against the new D.
        inverse_objective: Whether G and E minimise -Λ, D's loss with the labels swapped. Otherwise they minimise the
            minimax game's own V.
        generator_update: The way in which the generator's weights follow its loss.

    Raises:
        SettingError: If the images are smaller than the generator's, or the networks do not fit each other.
    """

    def __init__(
        self,
        channels: int,
        image_size: int,
        networks: Networks,
        optimizer: DecayedAdam = DecayedAdam(),  # noqa: B008 (frozen)
        simultaneous: bool = True,
        inverse_objective: bool = True,
        generator_update: GeneratorUpdate = Direct(),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__()
        check_not_smaller(self, networks, image_size)
        self.adam, self.image_size, self.latent_dim = optimizer, image_size, networks.latent_dim
        self.generated_size = networks.generated_size(image_size)
        self.update_generator_by(generator_update, channels, self.generated_size)
        self.save_hyperparameters()
        self.simultaneous = simultaneous
        self.objective = losses.inverse_objective_loss if inverse_objective else losses.original_objective_loss
        self.generator = networks.generator(channels, self.generated_size)
        self.encoder = networks.encoder(channels, image_size)
        self.discriminator = networks.joint_discriminator(channels, self.generated_size)
        check_networks(self, networks, channels, image_size, self.generator, self.encoder, self.discriminator)

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
        """Return G with E, and D."""
        return {
            "generator_encoder_loss": [self.generator, self.encoder],
            "discriminator_loss": [self.discriminator],
        }

    def losses(self, real: Images, rng: torch.Generator | None = None) -> Mapping[str, Loss]:
        """Return the loss of G and E, and D's."""
        latents = self.sample_latents(len(real), rng)
        fake, encoded = self.generator(latents), to_latents(self.encoder(real))
        real_logits = self.discriminate(real, encoded)
        objective = self.generator_encoder_loss(fake, latents, real, real_logits)
        return {
            "generator_encoder_loss": objective,
            "discriminator_loss": losses.discriminator_loss(real_logits, objective.logits),
        }

    def learn(self, batch: Batch) -> Mapping[str, Tensor]:
        """Step D, G and E at once on one forward pass, or in turn."""
        real, _ = batch
        if self.simultaneous:
            return step_at_once(self, real, self.losses(real), self.trained())
        latents = self.sample_latents(len(real))
        fake, encoded = self.generator(latents), to_latents(self.encoder(real))
        return alternate(
            self,
            real,
            lambda: losses.discriminator_loss(
                self.discriminate(real, encoded.detach()), self.discriminate(fake.detach(), latents)
            ),
            lambda: self.generator_encoder_loss(fake, latents, real, self.discriminate(real, encoded)),
            self.trained(),
        )

    def held_out_losses(self, real: Images, rng: torch.Generator) -> Mapping[str, Tensor]:
        """Return the losses."""
        return loss_values(self.losses(real, rng))

    def generator_encoder_loss(
        self, fake: Images, latents: Latents, real: RealImages, real_logits: Float[Tensor, " batch"]
    ) -> GeneratorLoss:
        """Return the loss of G and E."""

        def judge(images: Tensor) -> tuple[Tensor, Tensor]:
            fake_logits = self.discriminate(images, latents)
            return self.objective(real_logits, fake_logits), fake_logits

        return GeneratorLoss(fake, judge, [self.generator], real)

    def discriminate(self, images: Images, latents: Latents) -> Float[Tensor, " batch"]:
        """Return D's logits for pairs; images larger than the generator's are resized: D(g_X(x), z)."""
        return full_precision(self.discriminator(resized(images, self.generated_size), latents))

    def real_logits(self, images: Images) -> Float[Tensor, " batch"]:
        """Return D's logits for the pairs (x, E(x)). D learns to call these pairs real."""
        return self.discriminate(images, self.encode(images))

    def encode(self, images: Images) -> Latents:
        """Return E(x), in [-1, 1]."""
        return to_latents(self.encoder(resized(images, self.image_size)))

    def extractors(self) -> Mapping[str, nn.Module]:
        """Return E(x) before its sigmoid, and the layer before it."""
        return {"encoder": self.encoder, "encoder_hidden": self.encoder[:-1]}

    def published_figures(self, data: str) -> Mapping[str, PublishedFigure]:
        """Return Table 1's accuracy, or the figures of Tables 2 and 3."""
        return {
            **printed_in_table_1(data, "BiGAN", "encoder_hidden"),
            **printed_in_table_2(data, self.image_size),
            **printed_in_table_3(data, ROWS.get(self.image_size), "encoder"),
        }

    def heads(self) -> Mapping[str, LinearHead]:
        """Return E's last row, if it is linear. It decides how much of the layer before it the latents keep."""
        return linear_heads("encoding", encoder_hidden=self.encoder[-1])
