"""The autoencoder baselines: G(E(x)) close to x.

Source:
    Donahue et al. 2017, section 4.2 and Table 1: "autoencoders (Hinton & Salakhutdinov, 2006) trained directly to
    minimize either ℓ2 or ℓ1 reconstruction error. The same architecture and optimization algorithm is used".

Deviations, where the paper is silent:
    - The error is the sum over an image's values in [-1, 1]; squared, for ℓ2.
    - E ends in the sigmoid scaled to [-1, 1] that it has in BiGAN.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from gan_lightning import losses
from gan_lightning.errors import one_of
from gan_lightning.interfaces import Batch, Images, Latents, LinearHead, PublishedFigure
from gan_lightning.nets.heads import linear_heads
from gan_lightning.nets.network_family import Networks, check_networks, check_not_smaller
from gan_lightning.nets.resizing import resized
from gan_lightning.papers.bigan.table_1 import printed_in_table_1
from gan_lightning.papers.bigan.tables_2_and_3 import printed_in_table_3
from gan_lightning.training.adversarial import AdversarialModule
from gan_lightning.training.latents import UniformLatents, to_latents
from gan_lightning.training.simultaneous import DecayedAdam, Trained, check_training_ends, step_at_once


class Autoencoder(UniformLatents, AdversarialModule):
    """BiGAN's generator and encoder, trained to reconstruct images.

    Images larger than the generator's are resized before they are compared with its own.

    Args:
        channels: Channels of the images; the data set tells.
        image_size: Height and width of the images, pixels; the data set tells. The encoder sees images of this size.
        networks: The architecture: `PermutationInvariantNetworks`, `ImageNetworks`, or a class of your own.
        norm: 2 for squared differences, 1 for absolute ones.
        optimizer: Adam's settings, the same for both networks.

    Raises:
        SettingError: If the norm is another one, or the images are smaller than the generator's.
    """

    def __init__(
        self,
        channels: int,
        image_size: int,
        networks: Networks,
        norm: Literal[1, 2] = 2,
        optimizer: DecayedAdam = DecayedAdam(),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__()
        check_not_smaller(self, networks, image_size)
        self.adam, self.image_size, self.latent_dim = optimizer, image_size, networks.latent_dim
        self.generated_size = networks.generated_size(image_size)
        one_of(self, (1, 2), norm=norm)
        self.save_hyperparameters()
        self.norm: Literal[1, 2] = norm
        self.generator = networks.generator(channels, self.generated_size)
        self.encoder = networks.encoder(channels, image_size)
        check_networks(self, networks, channels, image_size, self.generator, self.encoder)

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
        """Return G with E."""
        return {"reconstruction_loss": [self.generator, self.encoder]}

    def learn(self, batch: Batch) -> Mapping[str, Tensor]:
        """Step all networks at once."""
        real, _ = batch
        return step_at_once(self, real, self.losses(real), self.trained())

    def held_out_losses(self, real: Images, rng: torch.Generator) -> Mapping[str, Tensor]:
        """Return the losses."""
        return self.losses(real, rng)

    def losses(self, real: Images, rng: torch.Generator | None = None) -> Mapping[str, Tensor]:
        """Return the reconstruction error."""
        reconstructed = self.generator(to_latents(self.encoder(real)))
        real = resized(real, self.generated_size)
        return {"reconstruction_loss": losses.reconstruction_loss(real, reconstructed, self.norm)}

    def encode(self, images: Images) -> Latents:
        """Return E(x), in [-1, 1]."""
        return to_latents(self.encoder(resized(images, self.image_size)))

    def extractors(self) -> Mapping[str, nn.Module]:
        """Return E(x) before its sigmoid, and the layer before it."""
        return {"encoder": self.encoder, "encoder_hidden": self.encoder[:-1]}

    def published_figures(self, data: str) -> Mapping[str, PublishedFigure]:
        """Return Table 1's accuracy, or Table 3's figures."""
        return {
            **printed_in_table_1(data, f"AE l{self.norm}", "encoder_hidden"),
            **printed_in_table_3(data, "AE l2" if self.norm == 2 else None, "encoder"),
        }

    def heads(self) -> Mapping[str, LinearHead]:
        """Return E's last row, if it is linear. It decides how much of the layer before it the latents keep."""
        return linear_heads("encoding", encoder_hidden=self.encoder[-1])
