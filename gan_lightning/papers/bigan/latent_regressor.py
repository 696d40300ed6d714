"""Latent regressors: an encoder that learns to find the latents of generated images.

Source:
    Donahue et al. 2017, section 4.1, "Latent regressor": an encoder trained "by minimizing a reconstruction loss
    L(z, E(G(z))), after or jointly during a regular GAN training, called latent regressor or joint latent regressor
    respectively". The joint one's weight of 0.25 is from the authors' code. According to this code a weight of 1
    degenerates.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from gan_lightning import losses
from gan_lightning.errors import SettingError, at_least
from gan_lightning.interfaces import Batch, Images, Latents, LinearHead, PublishedFigure
from gan_lightning.nets.heads import linear_heads
from gan_lightning.nets.network_family import Networks, check_networks
from gan_lightning.nets.resizing import resized
from gan_lightning.papers.bigan.gan import check_generated_size
from gan_lightning.papers.bigan.table_1 import printed_in_table_1
from gan_lightning.papers.bigan.tables_2_and_3 import printed_in_table_3
from gan_lightning.training.adversarial import AdversarialModule, Loss, loss_values
from gan_lightning.training.generator_updates import Direct, GeneratorLoss, GeneratorUpdate
from gan_lightning.training.latents import UniformLatents, to_latents
from gan_lightning.training.precision import full_precision
from gan_lightning.training.simultaneous import DecayedAdam, Trained, check_training_ends, step_at_once


class LatentRegressor(UniformLatents, AdversarialModule):
    """A GAN, and an encoder of its generated images.

    Args:
        channels: Channels of the images; the data set tells.
        image_size: Height and width of the images, pixels; the data set tells. The generator makes images of this size.
        networks: The architecture: `PermutationInvariantNetworks`, `ImageNetworks`, or a class of your own.
        joint_weight: Weight of the latent loss in the generator's objective: 0 for LR, whose GAN knows nothing of the
            encoder, 0.25 for JLR.
        gan_checkpoint: Checkpoint of a finished `GAN`: its generator stays fixed, and the encoder alone is trained.
            Without it the GAN is trained at the same time.
        optimizer: Adam's settings, the same for all networks.
        generator_update: The way in which the generator's weights follow its loss, the joint one's latent loss
            included.

    Raises:
        SettingError: If a setting is out of range, or the images are not of the generator's size.
    """

    def __init__(
        self,
        channels: int,
        image_size: int,
        networks: Networks,
        joint_weight: float = 0.0,
        gan_checkpoint: str | None = None,
        optimizer: DecayedAdam = DecayedAdam(),  # noqa: B008 (frozen)
        generator_update: GeneratorUpdate = Direct(),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__()
        check_generated_size(self, networks, image_size)
        self.adam, self.image_size, self.latent_dim = optimizer, image_size, networks.latent_dim
        at_least(self, 0, "The joint one has 0.25.", joint_weight=joint_weight)
        if gan_checkpoint is not None and joint_weight > 0:
            raise SettingError(
                f"joint_weight must be 0 with a gan_checkpoint, got {joint_weight}: the generator of a finished GAN is "
                "not trained. Leave one of the two out.",
                self,
            )
        if gan_checkpoint is not None and generator_update != Direct():
            raise SettingError(
                f"generator_update must be Direct with a gan_checkpoint, got {type(generator_update).__name__}: the "
                "generator of a finished GAN is not trained. Leave one of the two out.",
                self,
            )
        self.update_generator_by(generator_update, channels, image_size)
        self.save_hyperparameters()
        self.joint_weight, self.gan_checkpoint = joint_weight, gan_checkpoint
        self.generator = networks.generator(channels, image_size)
        self.encoder = networks.encoder(channels, image_size)
        self.discriminator = None if gan_checkpoint else networks.discriminator(channels, image_size)
        check_networks(self, networks, channels, image_size, self.generator, self.encoder)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return Adam over the networks of each loss, and its schedule."""
        return self.adam.scheduled(self, self.trained())

    def trained(self) -> Trained:
        """Return E, and G and D unless they are finished."""
        if self.discriminator is None:
            return {"latent_loss": [self.encoder]}
        return {
            "latent_loss": [self.encoder],
            "generator_loss": [self.generator],
            "discriminator_loss": [self.discriminator],
        }

    def learn(self, batch: Batch) -> Mapping[str, Tensor]:
        """Step all networks at once."""
        real, _ = batch
        return step_at_once(self, real, self.losses(real), self.trained())

    def held_out_losses(self, real: Images, rng: torch.Generator) -> Mapping[str, Tensor]:
        """Return the losses."""
        return loss_values(self.losses(real, rng))

    def losses(self, real: Images, rng: torch.Generator | None = None) -> Mapping[str, Loss]:
        """Return E's loss, and G's and D's unless they are finished."""
        latents = self.sample_latents(len(real), rng)

        def latent_loss(images: Tensor) -> Tensor:
            return losses.latent_loss(full_precision(self.encoder(images)), latents)

        if self.discriminator is None:
            with torch.no_grad():
                fake = self.generator(latents)
            return {"latent_loss": latent_loss(fake)}

        def judge(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            fake_logits, latent = self.discriminate(images), latent_loss(images)
            return losses.generator_loss(fake_logits) + self.joint_weight * latent, fake_logits, latent

        fake = self.generator(latents)
        real_logits, generator_loss = self.discriminate(real), GeneratorLoss(fake, judge, [self.generator], real)
        return {
            "latent_loss": generator_loss.others[0],
            "generator_loss": generator_loss,
            "discriminator_loss": losses.discriminator_loss(real_logits, generator_loss.logits),
        }

    def setup(self, stage: str) -> None:
        """Load the finished GAN's generator; a checkpoint of this model's own, which has it too, is loaded later.

        Raises:
            SettingError: Training has no end, or the file does not hold such a generator.
        """
        super().setup(stage)
        check_training_ends(self.trainer, stage)
        if stage == "fit" and self.gan_checkpoint is not None:
            load_generator(self.generator, Path(self.gan_checkpoint), self)

    def on_train_start(self) -> None:
        """Keep a finished generator as evaluations see it, with its batch-norm statistics at rest."""
        super().on_train_start()
        if self.gan_checkpoint is not None:
            self.generator.eval()

    def discriminate(self, images: Images) -> Float[Tensor, " batch"]:
        """Return D's logits."""
        assert self.discriminator is not None
        return full_precision(self.discriminator(images).squeeze(1))

    def real_logits(self, images: Images) -> Float[Tensor, " batch"] | None:
        """Return D's logits, or None beside a finished generator, whose D is not there."""
        return None if self.discriminator is None else self.discriminate(images)

    def encode(self, images: Images) -> Latents:
        """Return E(x), in [-1, 1]."""
        return to_latents(self.encoder(resized(images, self.image_size)))

    def extractors(self) -> Mapping[str, nn.Module]:
        """Return E(x) before its sigmoid, and the layer before it."""
        return {"encoder": self.encoder, "encoder_hidden": self.encoder[:-1]}

    def published_figures(self, data: str) -> Mapping[str, PublishedFigure]:
        """Return Table 1's accuracy, or Table 3's figures."""
        row = {0.0: "LR", 0.25: "JLR"}.get(self.joint_weight)
        return {**printed_in_table_1(data, row, "encoder_hidden"), **printed_in_table_3(data, row, "encoder")}

    def heads(self) -> Mapping[str, LinearHead]:
        """Return E's last row, if it is linear. It decides how much of the layer before it the latents keep."""
        return linear_heads("encoding", encoder_hidden=self.encoder[-1])


def load_generator(generator: nn.Module, checkpoint: Path, owner: object = None) -> None:
    """Give a generator the weights of the one in a checkpoint.

    Args:
        generator: The network.
        checkpoint: The file.
        owner: What has the file as its setting `gan_checkpoint`.

    Raises:
        SettingError: If there is no such file, or it holds no generator of this shape and of uniform latents.
    """
    if not checkpoint.is_file():
        raise SettingError(
            f"gan_checkpoint must be a checkpoint file, got '{checkpoint}', which does not exist.", owner
        )
    try:
        content = torch.load(checkpoint, weights_only=True, map_location="cpu")
        saved = dict(content["state_dict"])
    except Exception as error:  # anything may stand in a user's file
        raise SettingError(
            f"gan_checkpoint must be a checkpoint of a GAN, got '{checkpoint}', which is not ({error}).", owner
        ) from error
    if (prior := content.get("hyper_parameters", {}).get("latent_prior", "uniform")) != "uniform":
        raise SettingError(
            f"gan_checkpoint must hold a generator of uniform latents, which the encoder learns to find, got "
            f"'{checkpoint}', whose latent_prior is '{prior}'. Train the GAN with uniform latents.",
            owner,
        )
    weights = {n.removeprefix("generator."): w for n, w in saved.items() if n.startswith("generator.")}
    own = generator.state_dict()
    differing = [
        f"{name} is {tuple(weights[name].shape) if name in weights else 'missing'} there and {tuple(w.shape)} here"
        for name, w in own.items()
        if name not in weights or weights[name].shape != w.shape
    ]
    if differing or weights.keys() - own.keys():
        reason = differing[0] if differing else f"{min(weights.keys() - own.keys())} is unknown here"
        raise SettingError(
            f"gan_checkpoint must hold a generator of the same networks, got '{checkpoint}': generator.{reason}. Give "
            "both models the same networks and latent_dim.",
            owner,
        )
    generator.load_state_dict(weights)
