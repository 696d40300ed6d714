"""SelfExGAN: a generator fed by its own encoder, a discriminator of images and one of pairs of image and latent.

    x -> E -> z -> G -> x̂ -> E -> ẑ,     z_n -> G -> x_n,     z_n from the prior

Source:
    Liu 2018, *Generative Adversarial Network for Understanding Latent Space* (Master's thesis), section 3.3 (Fig. 3.9,
    eqs. 3.3 to 3.5), section 4.1.1 (eqs. 4.1 to 4.5), Tables 4.1 to 4.7.

Deviations, where the thesis is silent or its parts do not fit each other:
    - G and E do not minimise the minimax game's own value but D1's and D2's losses with the labels swapped, as
      BiGAN does. That moves E to make its real pairs look fake, too; `swap_real_pairs=false` leaves this term out.
    - Each discriminator has one kind of real inputs and two kinds of fakes. The two count half each, so that real and
      fake weigh alike, as in eqs. 3.4 and 3.5.
    - E ends in a sigmoid, so around the origin it could not have the moments of N(0, 1): the sphere's centre is 0.5 in
      each dimension, and its radius the square root of the latent's length, the length of a vector of N(0, I). z_n is
      projected to the same sphere.
    - The matching loss (eq. 4.5) is of E(x), with the moments of the whole batch, of all processes; its weight is 1. It
      is a mean over dimensions. `matching_reduction=sum` is the other reading, that of appendix A.
    - D1 and D2 step first, on the images and latents of G and E. Then G and E step on the same latents, against the
      moved D1 and D2: "alternating". Each kind of input is a forward pass of its own and has its own batch statistics.
    - Statistics of training therefore mix real and generated images in E's batch norm, and G(E(x)) with G(z_n) in G's.
      The configurations evaluate with statistics of real images and of G(E(x)): `batch_norm: real`.
    - A discriminator that ends in two outputs and a softmax gives the difference of the two as its logit; its sigmoid
      is the softmax's "real".
    - 64 images a batch; the thesis gives no number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite, sqrt
from typing import get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from gan_lightning import losses
from gan_lightning.errors import DataError, SettingError, above, at_least, one_of, refused
from gan_lightning.interfaces import Batch, Images, Latents, LinearHead
from gan_lightning.nets.heads import linear_heads
from gan_lightning.nets.layers import PairDiscriminator
from gan_lightning.nets.resizing import resized
from gan_lightning.nets.table_rows import UNIT, network
from gan_lightning.papers.selfexgan.selfexgan_tables import TABLES, TableName
from gan_lightning.system.processes import moments
from gan_lightning.training.adversarial import AdversarialModule, check_betas
from gan_lightning.training.generator_updates import Direct, GeneratorLoss, GeneratorUpdate
from gan_lightning.training.latents import UniformLatents
from gan_lightning.training.precision import full_precision, precise_sigmoid

SATURATED = 0.49
"""A sigmoid further than this from 0.5 is saturated: its slope is below 0.01, of at most 0.25."""

Generated = Float[Tensor, "fakes channels height width"]
"""Images of both kinds, x̂ and x_n."""


@dataclass(frozen=True)
class Inferred:
    """The outputs of E and G for a batch x.

    Attributes:
        outputs: E's last layer for x, a sigmoid, before the projection to the sphere that makes z of it.
        latents: z = E(x).
        images: x̂ = G(z), then x_n = G(z_n): all of G's images, one half each.
        encoded_again: ẑ = E(x̂).
    """

    outputs: Latents
    latents: Latents
    images: Generated
    encoded_again: Latents

    @property
    def reconstructed(self) -> Images:
        """x̂ = G(z)."""
        return self.images[: len(self.latents)]

    @property
    def sampled(self) -> Images:
        """x_n = G(z_n)."""
        return self.images[len(self.latents) :]

    def detach(self) -> "Inferred":
        """Return the same values without their gradients."""
        return Inferred(*(each.detach() for each in (self.outputs, self.latents, self.images, self.encoded_again)))


class SelfExGAN(UniformLatents, AdversarialModule):
    """A generator, an encoder, a discriminator D1 of images and a discriminator D2 of pairs of image and latent.

    Args:
        channels: Channels of the images; the data set tells.
        image_size: Height and width of the images, pixels; the data set tells. The tables are for images of this size.
        tables: Name of the layer tables, after their data set.
        base_width: Replaces 64 in the widths of all hidden layers.
        centre: Centre of the latents' sphere, in each dimension.
        radius: Radius of the latents' sphere; by default the square root of a latent's length.
        matching_weight: Weight of the matching loss in E's objective.
        matching_reduction: Whether the matching loss is a mean or a sum over the latent's dimensions.
        swap_real_pairs: Whether E also makes real pairs look fake to D2. Otherwise G and E only make fake pairs look
            real.
        learning_rate: Adam's, for all four networks.
        betas: Adam's β1 and β2, for all four networks.
        generator_update: The way in which G's weights follow their loss; E steps on the loss itself. A discrepancy on
            labels takes D1's labels of both kinds of images.

    Raises:
        SettingError: If the images have another size or other channels than the tables', or a setting is out of range.
    """

    def __init__(
        self,
        channels: int,
        image_size: int,
        tables: TableName,
        base_width: int = UNIT,
        centre: float = 0.5,
        radius: float | None = None,
        matching_weight: float = 1.0,
        matching_reduction: losses.Reduction = "mean",
        swap_real_pairs: bool = True,
        learning_rate: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.99),
        generator_update: GeneratorUpdate = Direct(),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__()
        rows = TABLES[tables]
        height, _, depth = rows.image
        if (image_size, channels) != (height, depth):
            fitting = [name for name, other in TABLES.items() if other.image == (image_size, image_size, channels)]
            remedy = f"Tables of such images: {', '.join(fitting)}." if fitting else f"Use images of {height} pixels."
            raise SettingError(
                f"image_size must be {height} and channels {depth} for tables={tables}, got {image_size} and "
                f"{channels}. {remedy}",
                self,
            )
        at_least(self, 1, "Leave it out for the thesis' own.", base_width=base_width)
        if radius is not None:
            above(self, 0, "Leave it out for the thesis' own.", radius=radius)
        at_least(self, 0, matching_weight=matching_weight, learning_rate=learning_rate)
        one_of(self, get_args(losses.Reduction), matching_reduction=matching_reduction)
        if not isfinite(centre):
            raise refused(self, "centre", "be a number", centre, "Leave it out for 0.5.")
        check_betas(self, betas, "0.9 and 0.99 are the default.")
        self.update_generator_by(generator_update, channels, image_size)
        self.save_hyperparameters()
        self.image_size, self.latent_dim = image_size, rows.latent_dim
        self.centre, self.radius = centre, sqrt(rows.latent_dim) if radius is None else radius
        self.matching_weight, self.matching_reduction = matching_weight, matching_reduction
        self.learning_rate, self.betas = learning_rate, betas
        self.swap_real_pairs = swap_real_pairs
        self.generator = network(rows.generator, rows.latent_dim, base_width)
        self.encoder = network(rows.encoder, rows.image, base_width)
        self.discriminator = network(rows.discriminator, rows.image, base_width)
        self.pair_discriminator = PairDiscriminator(
            network(rows.pair_images, rows.image, base_width), network(rows.pairs, rows.concat, base_width)
        )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return Adam for D1, D2, G and E."""
        networks = (self.discriminator, self.pair_discriminator, self.generator, self.encoder)
        return [torch.optim.Adam(one.parameters(), lr=self.learning_rate, betas=self.betas) for one in networks]

    def setup(self, stage: str) -> None:
        """Check that batches have a variance.

        Raises:
            SettingError: If there is one image in a batch.
        """
        super().setup(stage)
        data = getattr(self.trainer, "datamodule", None)
        if stage == "fit" and (batch_size := getattr(data, "batch_size", 2)) < 2:
            raise SettingError(
                f"batch_size must be at least 2 for SelfExGAN, got {batch_size}: the variance over a batch of one "
                "image is not defined. The thesis gives no size; 64 is usual.",
                data,
            )

    def learn(self, batch: Batch) -> Mapping[str, Tensor]:
        """Step D1 and D2 on E's and G's outputs for x, then G and E on the same outputs against the new D1 and D2.

        Raises:
            DataError: There is one image in the batch.
        """
        real, _ = batch
        if len(real) < 2:
            index = self.trainer.fit_loop.epoch_loop.batch_idx
            raise DataError(
                f"Every batch must hold at least 2 images for SelfExGAN, got {len(real)} in batch {index}: the "
                "variance over one image is not defined. Use drop_last=True in the data loader, or another batch size."
            )
        step_d1, step_d2, step_g, step_e = self.optimizer_list()
        made = self.infer(real)

        discriminator_losses = self.discriminator_losses(real, made.detach())
        self.check_finite({f"train/{name}": loss for name, loss in discriminator_losses.items()})
        self.step(dict(zip((step_d1, step_d2), discriminator_losses.values(), strict=True)))

        matching_loss = losses.matching_loss(*moments(full_precision(made.latents)), self.matching_reduction)
        generator_loss = self.generator_loss(real, made, matching_loss)
        generator_losses = {"generator_encoder_loss": generator_loss.others[0], "matching_loss": matching_loss}
        self.check_finite({f"train/{name}": loss for name, loss in generator_losses.items()})
        self.step({step_g: generator_loss, step_e: generator_loss.value}, last=True)

        self.count(real, d_steps=1, g_steps=1)
        return {**discriminator_losses, **generator_losses, "saturated": saturated_share(made.outputs)}

    def infer(self, real: Images, rng: torch.Generator | None = None) -> Inferred:
        """Return the outputs of E and G for x, and G's images of latents drawn with `rng`."""
        outputs = self.encoder_outputs(real)
        latents = self.project(outputs)
        images = torch.cat([self.generator(latents), self.generator(self.sample_latents(len(real), rng))])
        return Inferred(outputs, latents, images, self.encode(images[: len(latents)]))

    def generator_loss(self, real: Images, made: Inferred, matching_loss: Tensor) -> GeneratorLoss:
        """Return G's and E's loss; G does not act on z, so the matching loss moves E alone."""

        def judge(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            seen = made
            if images is not made.images:
                seen = replace(made, images=images, encoded_again=self.encode(images[: len(made.latents)]))
            fake_logits = self.discriminate(seen.reconstructed, seen.sampled)
            real_pairs, fake_pairs = self.discriminate_pairs(real, seen)
            adversarial_loss = losses.generator_loss(fake_logits) + (
                losses.inverse_objective_loss(real_pairs, fake_pairs)
                if self.swap_real_pairs
                else losses.generator_loss(fake_pairs)
            )
            return adversarial_loss + self.matching_weight * matching_loss, fake_logits, adversarial_loss

        return GeneratorLoss(made.images, judge, [self.generator], real)

    def discriminator_losses(self, real: Images, made: Inferred) -> Mapping[str, Tensor]:
        """Return the losses of D1 and of D2."""
        return {
            "discriminator_loss": losses.discriminator_loss(
                self.discriminate(real), self.discriminate(made.reconstructed, made.sampled)
            ),
            "pair_discriminator_loss": losses.discriminator_loss(*self.discriminate_pairs(real, made)),
        }

    def discriminate(self, *kinds: Images) -> Float[Tensor, " images"]:
        """Return D1's logits for images of each kind, one kind after the other."""
        return torch.cat([real_logits(self.discriminator(images)) for images in kinds])

    def real_logits(self, images: Images) -> Float[Tensor, " batch"]:
        """Return D1's logits."""
        return self.discriminate(images)

    def discriminate_pairs(
        self, real: Images, made: Inferred
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, " fakes"]]:
        """Return D2's logits for the real pairs (x, z), and for the fake pairs (x̂, z) and (x, ẑ)."""
        real_values = self.pair_discriminator.images(real)
        reconstructed_values = self.pair_discriminator.images(made.reconstructed)
        real_pairs = self.pair_discriminator(real_values, made.latents)
        fake_pairs = (
            self.pair_discriminator(reconstructed_values, made.latents),
            self.pair_discriminator(real_values, made.encoded_again),
        )
        return real_logits(real_pairs), torch.cat([real_logits(pairs) for pairs in fake_pairs])

    def held_out_losses(self, real: Images, rng: torch.Generator) -> Mapping[str, Tensor]:
        """Return the losses of D1 and D2, and the share of saturated outputs of E.

        The matching loss is one of training batches.
        """
        made = self.infer(real, rng)
        return {**self.discriminator_losses(real, made), "saturated": saturated_share(made.outputs)}

    def sample_latents(self, count: int, rng: torch.Generator | None = None) -> Latents:
        """Return `count` latents, normal ones projected to the sphere."""
        return self.project(torch.randn(count, self.latent_dim, device=self.device, generator=rng))

    def encode(self, images: Images) -> Latents:
        """Return E(x), on the sphere."""
        return self.project(self.encoder_outputs(images))

    def encoder_outputs(self, images: Images) -> Latents:
        """Return E's last layer, a sigmoid, before the projection to the sphere."""
        return precise_sigmoid(self.encoder(resized(images, self.image_size)))

    def project(self, latents: Latents) -> Latents:
        """Return the latents on this model's sphere."""
        return project_to_sphere(latents, self.centre, self.radius)

    def hot_parts(self) -> Sequence[str]:
        """Return the networks; D2's part that sees images is called on its own."""
        return "generator", "encoder", "discriminator", "pair_discriminator", "pair_discriminator.images"

    def extractors(self) -> Mapping[str, nn.Module]:
        """Return E(x) before its sigmoid, the layer before it, and D1 without its output layer."""
        return {
            "encoder": self.encoder,
            "encoder_hidden": self.encoder[:-1],
            "discriminator": self.discriminator[:-1],
        }

    def heads(self) -> Mapping[str, LinearHead]:
        """Return the output layers of E and of D1."""
        encoder = linear_heads("encoding", encoder_hidden=self.encoder[-1])
        return encoder | linear_heads("discrimination", discriminator=self.discriminator[-1])


def project_to_sphere(latents: Latents, centre: float, radius: float) -> Latents:
    """Return the point at which the ray from the centre through each latent meets the sphere. The centre itself stays.

    Args:
        latents: Points.
        centre: Of the sphere, the same in each dimension.
        radius: Of the sphere.

    Source:
        Liu 2018, eqs. 4.1 to 4.4.
    """
    return radius * F.normalize(latents - centre, dim=1) + centre


def saturated_share(outputs: Latents) -> Float[Tensor, ""]:
    """Return the share of a sigmoid's outputs that are within 0.01 of 0 or of 1, where it has hardly any gradient."""
    return ((outputs - 0.5).abs() > SATURATED).float().mean()


def real_logits(outputs: Float[Tensor, "batch outputs"]) -> Float[Tensor, " batch"]:
    """Return the logit of "real", of one output before a sigmoid or of two before a softmax (fake, real)."""
    outputs = full_precision(outputs)
    return outputs[:, 0] if outputs.shape[1] == 1 else outputs[:, 1] - outputs[:, 0]
