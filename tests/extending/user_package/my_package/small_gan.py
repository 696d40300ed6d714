"""A small GAN, as a plain LightningModule."""

from collections.abc import Mapping

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from gan_lightning.interfaces import LinearHead
from gan_lightning.losses import discriminator_loss, generator_loss


class SmallGAN(LightningModule):
    """A generator and a discriminator of two layers each.

    Args:
        channels: Of the images; the data set gives it.
        image_size: Of the images; the data set gives it.
        width: Maps of the first layer.
        latent_dim: Numbers in a latent.
        learning_rate: Of both optimizers.
    """

    def __init__(
        self, channels: int, image_size: int, width: int = 16, latent_dim: int = 16, learning_rate: float = 1e-3
    ) -> None:
        super().__init__()
        self.save_hyperparameters()  # all of them: the random-weights control is built from these
        self.automatic_optimization = False
        pixels, features = channels * image_size**2, 2 * width * (image_size // 4) ** 2
        self.generator = nn.Sequential(
            nn.Linear(latent_dim, 8 * width),
            nn.ReLU(),
            nn.Linear(8 * width, pixels),
            nn.Tanh(),
            nn.Unflatten(1, (channels, image_size, image_size)),
        )
        self.features = nn.Sequential(
            nn.Conv2d(channels, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
        )
        self.head = nn.Linear(features, 1)

    # Training, as Lightning has it

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return an optimizer for the discriminator and one for the generator."""
        discriminator = [*self.features.parameters(), *self.head.parameters()]
        rate = self.hparams.learning_rate
        return [torch.optim.Adam(weights, lr=rate) for weights in (discriminator, self.generator.parameters())]

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Step the discriminator, then the generator."""
        real, _ = batch
        step_d, step_g = self.optimizers()
        fake = self.generator(torch.randn(len(real), self.hparams.latent_dim, device=self.device))
        of_discriminator = discriminator_loss(self.real_logits(real), self.real_logits(fake.detach()))
        self.step(step_d, of_discriminator)
        of_generator = generator_loss(self.real_logits(fake))
        self.step(step_g, of_generator)
        self.log_dict({"train/discriminator_loss": of_discriminator, "train/generator_loss": of_generator})

    def step(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        """Step on a loss."""
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()

    # What others may do with it: each of these methods may be left out

    def extractors(self) -> Mapping[str, nn.Module]:
        """Return what is frozen and measured, under its name."""
        return {"discriminator": self.features}

    def heads(self) -> Mapping[str, LinearHead]:
        """Return the linear layers that the extractors' features go into."""
        return {"discriminator": LinearHead(self.head.weight, task="discrimination")}

    def generate(self, count: int, rng: torch.Generator | None = None) -> Tensor:
        """Return images (generators, count, channels, height, width) in [-1, 1]."""
        latents = torch.randn(count, self.hparams.latent_dim, generator=rng, device=self.device)
        return self.generator(latents).unsqueeze(0)

    def real_logits(self, images: Tensor) -> Tensor:
        """Return the discriminator's output before the sigmoid, one per image."""
        return self.head(self.features(images)).squeeze(1)
