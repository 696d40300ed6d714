"""Images from latents of a uniform prior."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gan_lightning.interfaces import Images, Latents
from gan_lightning.training.precision import precise_sigmoid


class UniformLatents:
    """The methods of a model with one generator and latents z ~ U(-1, 1)."""

    generator: nn.Module
    latent_dim: int
    device: torch.device

    def sample_latents(self, count: int, rng: torch.Generator | None = None) -> Latents:
        """Return `count` latents from their prior."""
        return 2 * torch.rand(count, self.latent_dim, device=self.device, generator=rng) - 1

    def decode(self, latents: Latents) -> Images:
        """Return G(z)."""
        return self.generator(latents)

    def generate_from(self, latents: Latents) -> Float[Tensor, "generators batch channels height width"]:
        """Return G(z), in [-1, 1], as the images of the one generator."""
        return self.decode(latents).unsqueeze(0)

    def generate(
        self, count: int, rng: torch.Generator | None = None
    ) -> Float[Tensor, "generators count channels height width"]:
        """Return `count` images in [-1, 1] from the one generator."""
        return self.generate_from(self.sample_latents(count, rng))


def to_latents(logits: Latents) -> Latents:
    """Return the sigmoid of E's output, scaled to the latents' range [-1, 1]."""
    return 2 * precise_sigmoid(logits) - 1
