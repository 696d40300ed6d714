"""What BiGAN and its baselines share: latents, the optimizer with its schedule, and the simultaneous update.

Source:
    Donahue et al. 2017, *Adversarial Feature Learning*, section 4.2: "The same architecture and optimization algorithm
    is used across all methods."
"""

import copy
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from gan_lightning.errors import SettingError, above, at_least, refused
from gan_lightning.interfaces import Batch, Images, Latents
from gan_lightning.nets.network_family import Networks
from gan_lightning.training.adversarial import AdversarialModule, Loss, check_betas, loss_values, precise_sigmoid
from gan_lightning.training.generator_updates import GeneratorLoss


@dataclass(frozen=True)
class DecayedAdam:
    """Adam, its learning rate constant in the first half of training and then decaying exponentially.

    Args:
        learning_rate: At the start.
        betas: β1 and β2.
        weight_decay: Factor of the ℓ2 penalty's gradient, which is added to the loss's (not AdamW's decay); on weights
            that multiply, not on biases or batch norm's gains.
        final_share: Share of the learning rate that is left at the end.
        epsilon: ε, added to the denominator of Adam's step; below it gradients no longer cancel out of the step.

    Source:
        Donahue et al. 2017, appendix C, "Optimization": from 2e-4 to 2e-6, "starting halfway through training".
    """

    learning_rate: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    weight_decay: float = 2.5e-5
    final_share: float = 0.01
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        """Check the settings."""
        at_least(self, 0, learning_rate=self.learning_rate, weight_decay=self.weight_decay)
        check_betas(self, self.betas, "Appendix C has 0.5 and 0.999.")
        if not 0 < self.final_share <= 1:
            remedy = "1 keeps the learning rate as it is."
            raise refused(self, "final_share", "be above 0 and at most 1", self.final_share, remedy)
        above(self, 0, "Adam's usual one is 1e-8.", epsilon=self.epsilon)

    def over(self, networks: Sequence[nn.Module]) -> torch.optim.Adam:
        """Return Adam over the networks' parameters, those with weight decay first."""
        parameters = list(nn.ModuleList(networks).parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        # Fused, one pass over the weights: the MLPs have 6 million, and the plain loop takes as long as the networks.
        return torch.optim.Adam(groups, lr=self.learning_rate, betas=self.betas, eps=self.epsilon, fused=True)

    def share(self, progress: float) -> float:
        """Return the learning rate's share of its start after this part of training, in [0, 1]."""
        return self.final_share ** max(0.0, 2 * progress - 1)


torch.serialization.add_safe_globals([DecayedAdam])  # checkpoints hold a model's settings


class LatentModule(AdversarialModule):
    """A model with a generator of images from latents, whose networks all step at once unless it says otherwise.

    One forward pass gives all losses, and every optimizer steps on the gradient of its own, taken at the weights before
    any step. Latents are z ~ U(-1, 1), or z ~ N(0, 1) where `normal_latents` is set.

    Args:
        channels: Channels of the images; the data set tells.
        image_size: Height and width of the images, pixels; the data set tells.
        networks: The architecture.
        optimizer: Adam's settings, the same for every network.

    Raises:
        SettingError: If the images are smaller than the generator's, or the networks do not fit each other.

    Source:
        Donahue et al. 2017, appendix B: "all parameters θD, θG, θE were updated simultaneously at each iteration rather
        than alternating [...] our standard GAN experiments also follow this protocol".
    """

    generator: nn.Sequential
    normal_latents: bool = False

    def __init__(self, channels: int, image_size: int, networks: Networks, optimizer: DecayedAdam) -> None:
        super().__init__()
        self.generated_size = networks.generated_size(image_size)
        if image_size < self.generated_size:
            size, family = self.generated_size, type(networks).__name__
            condition = f"be at least {size}, the size that {family} generate"
            raise refused(self, "image_size", condition, image_size, f"Use images of {size} pixels or more.")
        self.channels, self.image_size, self.latent_dim = channels, image_size, networks.latent_dim
        self.adam = optimizer
        self.horizon = math.inf
        """Batches of the whole training; known when it starts."""

    @abstractmethod
    def trained(self) -> Mapping[str, Sequence[nn.Module]]:
        """Return the networks that each loss trains, under the loss's name: one optimizer each."""

    @abstractmethod
    def losses(self, real: Images, rng: torch.Generator | None = None) -> Mapping[str, Loss]:
        """Return the losses, under the names of `trained`, from one forward pass of each network on each input."""

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return Adam over the networks of each loss, and its schedule, stepped after every batch."""
        optimizers = [self.adam.over(networks) for networks in self.trained().values()]
        # Before training LambdaLR asks for 0 batches, when the horizon is not known yet: 0 of any number is none.
        schedules = [LambdaLR(one, lambda batches: self.adam.share(batches / self.horizon)) for one in optimizers]
        return optimizers, schedules

    def setup(self, stage: str) -> None:
        """Check that training has an end, which the schedule needs.

        Raises:
            SettingError: If it has none, or the trainer's precision scales losses.
        """
        super().setup(stage)
        if stage == "fit" and self.trainer.max_epochs == -1 and self.trainer.max_steps == -1:
            raise SettingError(
                "max_epochs must be a number of epochs, got -1: the learning rate decays in the second half of "
                "training. Set it, or max_steps.",
                self.trainer,
            )

    def on_train_start(self) -> None:
        """Note how many batches training has in all."""
        super().on_train_start()
        epochs = self.trainer.max_epochs
        by_epochs = math.inf if epochs is None or epochs < 0 else epochs * self.trainer.num_training_batches
        self.horizon = min(by_epochs, math.inf if self.trainer.max_steps < 0 else self.trainer.max_steps)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Step all networks at once."""
        real, _ = batch
        losses = self.losses(real)
        values = loss_values(losses)
        self.check_finite({f"train/{name}": value for name, value in values.items()})
        self.step(dict(zip(self.optimizer_list(), losses.values(), strict=True)), counts=True)
        self.finish_batch(real, values)

    def alternate(
        self, real: Images, discriminator_loss: Callable[[], Tensor], generator_loss: Callable[[], GeneratorLoss]
    ) -> None:
        """Step D, then the generator's side against the D that has moved.

        Args:
            real: The batch.
            discriminator_loss: Gives D's loss, on images that the generator's side gets no gradients from.
            generator_loss: Gives the generator's loss, once D has moved.
        """
        generator_name, discriminator_name = self.trained()
        step_g, step_d = self.optimizer_list()
        discriminator = discriminator_loss()
        self.check_finite({f"train/{discriminator_name}": discriminator})
        self.step({step_d: discriminator})
        generator = generator_loss()
        self.check_finite({f"train/{generator_name}": generator.value})
        self.step({step_g: generator}, counts=True)
        self.finish_batch(real, {generator_name: generator.value, discriminator_name: discriminator})

    def finish_batch(self, real: Images, losses: Mapping[str, Tensor]) -> None:
        """Step the schedules, count and log."""
        schedules = self.lr_schedulers()
        for schedule in schedules if isinstance(schedules, list) else [schedules]:
            assert isinstance(schedule, LambdaLR)
            schedule.step()
        trained = self.trained()
        g_steps = any(network is self.generator for networks in trained.values() for network in networks)
        self.count(real, d_steps=int("discriminator_loss" in trained), g_steps=int(g_steps))
        self.log_dict({f"train/{name}": loss for name, loss in losses.items()}, prog_bar=True)

    def held_out_losses(self, real: Images, rng: torch.Generator) -> Mapping[str, Tensor]:
        """Return the losses."""
        return loss_values(self.losses(real, rng))

    def sample_latents(self, count: int, rng: torch.Generator | None = None) -> Latents:
        """Return `count` latents from their prior."""
        if self.normal_latents:
            return torch.randn(count, self.latent_dim, device=self.device, generator=rng)
        return 2 * torch.rand(count, self.latent_dim, device=self.device, generator=rng) - 1

    def decode(self, latents: Latents) -> Images:
        """Return G(z)."""
        return self.generator(latents)

    def generate(
        self, count: int, rng: torch.Generator | None = None
    ) -> Float[Tensor, "generators count channels height width"]:
        """Return `count` images in [-1, 1] from the one generator."""
        return self.decode(self.sample_latents(count, rng)).unsqueeze(0)

    def check_networks(self, encoder: nn.Module | None = None, joint_discriminator: nn.Module | None = None) -> None:
        """Check that the networks agree on the length of a latent and on the images' size, without computing anything.

        Raises:
            SettingError: Naming the network that does not.
        """

        def shape(name: str, network: nn.Module, *inputs: tuple[int, ...]) -> tuple[int, ...]:
            tensors = [torch.empty(2, *each, device="meta") for each in inputs]
            try:
                return tuple(copy.deepcopy(network).to("meta").eval()(*tensors).shape[1:])
            except RuntimeError as error:
                reason = f"the {name} cannot take {' and '.join(map(str, inputs))} ({error})"
                raise SettingError(f"networks must fit each other, but {reason}. {remedy}", self) from error

        def expect(name: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
            if found != wanted:
                raise SettingError(
                    f"networks must fit each other, but the {name} gives {found}, not {wanted}. {remedy}", self
                )

        remedy = f"All must have latents of length latent_dim, {self.latent_dim}."
        latents, images = (self.latent_dim,), (self.channels, self.image_size, self.image_size)
        generated = (self.channels, self.generated_size, self.generated_size)
        expect("generator", shape("generator", self.generator, latents), generated)
        if encoder is not None:
            expect("encoder", shape("encoder", encoder, images), latents)
        if joint_discriminator is not None:
            expect("discriminator", shape("discriminator", joint_discriminator, generated, latents), ())


def to_latents(logits: Latents) -> Latents:
    """Return the sigmoid of E's output, scaled to [-1, 1], where the latents are."""
    return 2 * precise_sigmoid(logits) - 1
