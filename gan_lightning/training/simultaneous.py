"""Networks that all step at once, or the discriminator first, by Adam with a schedule.

Source:
    Donahue et al. 2017, *Adversarial Feature Learning*, section 4.2: "The same architecture and optimization algorithm
    is used across all methods."; appendix B: "all parameters θD, θG, θE were updated simultaneously at each iteration
    rather than alternating [...] our standard GAN experiments also follow this protocol".
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from gan_lightning.errors import SettingError, above, at_least, refused
from gan_lightning.interfaces import Images
from gan_lightning.training.adversarial import AdversarialModule, Loss, check_betas, loss_values
from gan_lightning.training.generator_updates import GeneratorLoss

Trained = Mapping[str, Sequence[nn.Module]]
"""The networks that each loss trains, under the loss's name: one optimizer each."""


@dataclass(frozen=True)
class DecayedAdam:
    """Adam, its learning rate constant in the first half of training and then decaying exponentially.

    Args:
        learning_rate: At the start.
        betas: β1 and β2.
        weight_decay: Factor of the ℓ2 penalty's gradient. It is added to the loss's gradient (AdamW's decay is another
            one). It acts on weights that multiply; biases and batch norm's gains have none.
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
        """Return Adam over the networks' parameters; parameters with weight decay come first."""
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

    def scheduled(self, model: AdversarialModule, trained: Trained) -> OptimizerLRScheduler:
        """Return Adam over the networks of each loss, and its schedule, which steps after every batch.

        Args:
            model: Its trainer says how long the training is, once it has begun.
            trained: As the model has them.
        """
        optimizers = [self.over(networks) for networks in trained.values()]
        # LambdaLR asks for 0 batches before the training, when its length is not known.
        schedules = [
            LambdaLR(one, lambda batches: self.share(batches / training_batches(model.trainer)) if batches else 1.0)
            for one in optimizers
        ]
        return optimizers, schedules


torch.serialization.add_safe_globals([DecayedAdam])  # checkpoints hold a model's settings


def training_batches(trainer: Trainer) -> float:
    """Return how many batches a training has in all, by its epochs or by its steps."""
    epochs = trainer.max_epochs
    by_epochs = math.inf if epochs is None or epochs < 0 else epochs * trainer.num_training_batches
    return float(min(by_epochs, math.inf if trainer.max_steps < 0 else trainer.max_steps))


def check_training_ends(trainer: Trainer, stage: str) -> None:
    """Check that training has an end; the schedule needs one.

    Raises:
        SettingError: It has none.
    """
    if stage == "fit" and trainer.max_epochs == -1 and trainer.max_steps == -1:
        raise SettingError(
            "max_epochs must be a number of epochs, got -1: the learning rate decays in the second half of training. "
            "Set it, or max_steps.",
            trainer,
        )


def step_at_once(
    model: AdversarialModule, real: Images, losses: Mapping[str, Loss], trained: Trained
) -> Mapping[str, Tensor]:
    """Step every optimizer on the gradient of its own loss, taken at the weights before any step, and count.

    Args:
        model: Its optimizers are those of `trained`, in this order.
        real: The batch.
        losses: The losses under the names of `trained`, from one forward pass of each network on each input.
        trained: As the model has them.

    Returns:
        The losses' values.

    Raises:
        NonFiniteError: A loss is NaN or infinite.
    """
    values = loss_values(losses)
    model.check_finite({f"train/{name}": value for name, value in values.items()})
    model.step(dict(zip(model.optimizer_list(), losses.values(), strict=True)), last=True)
    _count(model, real, trained)
    return values


def alternate(
    model: AdversarialModule,
    real: Images,
    discriminator_loss: Callable[[], Tensor],
    generator_loss: Callable[[], GeneratorLoss],
    trained: Trained,
) -> Mapping[str, Tensor]:
    """Step D, then the generator's side against the D that has moved, and count.

    Args:
        model: Its optimizers are those of `trained`: the generator's side, then D.
        real: The batch.
        discriminator_loss: Gives D's loss, on images that the generator's side gets no gradients from.
        generator_loss: Gives the generator's loss, once D has moved.
        trained: As the model has them.

    Returns:
        The losses' values, under the names of `trained`.

    Raises:
        NonFiniteError: A loss is NaN or infinite.
    """
    generator_name, discriminator_name = trained
    step_g, step_d = model.optimizer_list()
    discriminator = discriminator_loss()
    model.check_finite({f"train/{discriminator_name}": discriminator})
    model.step({step_d: discriminator})
    generator = generator_loss()
    model.check_finite({f"train/{generator_name}": generator.value})
    model.step({step_g: generator}, last=True)
    _count(model, real, trained)
    return {generator_name: generator.value, discriminator_name: discriminator}


def _count(model: AdversarialModule, real: Images, trained: Trained) -> None:
    generator = model.generator
    g_steps = any(network is generator for networks in trained.values() for network in networks)
    model.count(real, d_steps=int("discriminator_loss" in trained), g_steps=int(g_steps))
