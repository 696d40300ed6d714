"""A small GAN whose step can be one graph on a GPU."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gan_lightning.losses import discriminator_loss, generator_loss
from gan_lightning.training.adversarial import AdversarialModule


class GraphGAN(AdversarialModule):
    """A generator and a discriminator of two layers each.

    Args:
        channels: Of the images; the data set gives it.
        image_size: Of the images; the data set gives it.
        width: Values after the first layer.
        latent_dim: Numbers in a latent.
    """

    def __init__(self, channels: int, image_size: int, width: int = 64, latent_dim: int = 16) -> None:
        super().__init__()
        self.save_hyperparameters()
        pixels = channels * image_size**2
        self.generator = nn.Sequential(
            nn.Linear(latent_dim, width),
            nn.ReLU(),
            nn.Linear(width, pixels),
            nn.Tanh(),
            nn.Unflatten(1, (channels, image_size, image_size)),
        )
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(pixels, width), nn.LeakyReLU(0.2))
        self.head = nn.Linear(width, 1)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return an optimizer for the discriminator and one for the generator."""
        discriminator = [*self.features.parameters(), *self.head.parameters()]
        return [torch.optim.Adam(weights, lr=1e-3) for weights in (discriminator, self.generator.parameters())]

    def learn(self, batch: tuple[Tensor, Tensor]) -> Mapping[str, Tensor]:
        """Step the discriminator, then the generator. Return the losses to log."""
        real, _ = batch
        step_d, step_g = self.optimizer_list()
        fake = self.generator(torch.randn(len(real), self.hparams.latent_dim, device=self.device))
        of_discriminator = discriminator_loss(self.real_logits(real), self.real_logits(fake.detach()))
        self.check_finite({"train/discriminator_loss": of_discriminator})
        self.step({step_d: of_discriminator})
        of_generator = generator_loss(self.real_logits(fake))
        self.check_finite({"train/generator_loss": of_generator})
        self.step({step_g: of_generator}, last=True)
        self.count(real, d_steps=1, g_steps=1)
        return {"discriminator_loss": of_discriminator, "generator_loss": of_generator}

    def held_out_losses(self, real: Tensor, rng: torch.Generator) -> Mapping[str, Tensor]:
        """Return the discriminator's loss on images that are not trained on."""
        fake = self.generator(torch.randn(len(real), self.hparams.latent_dim, device=self.device, generator=rng))
        return {"discriminator_loss": discriminator_loss(self.real_logits(real), self.real_logits(fake))}

    def extractors(self) -> Mapping[str, nn.Module]:
        """Return what is frozen and measured, under its name."""
        return {"discriminator": self.features}

    def real_logits(self, images: Tensor) -> Tensor:
        """Return the discriminator's output before the sigmoid, one per image."""
        return self.head(self.features(images)).squeeze(1)
