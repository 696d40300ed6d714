"""Variations of an image: G(E(x) + noise), at several amounts of noise."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from gan_lightning.applications.base import (
    Application,
    Outcome,
    at_least,
    check_noise,
    check_others,
    decoded,
    distances,
    encoded,
    neighbourhoods,
    others,
    read_images,
    rows_picture,
    spread,
)
from gan_lightning.evaluation import nearest_neighbours
from gan_lightning.interfaces import EncodesImages, Images, LabelledImages, Split
from gan_lightning.resizing import resized


@dataclass(frozen=True)
class Variations(Application):
    """Draws variations of images, and measures how much they differ from each other and from their image.

    Args:
        noise: Standard deviations of what is added to E(x), in units of the codes' own: a picture each.
        copies: Variations of each image.
        images: Images that are drawn, a row each: the image, G(E(x)), then variations.
        measured: Images that figures are averaged over.
        split: Where the images are from.
        seed: For the noise.

    Source:
        Liu 2018, section 4.2.3 and Fig. 4.12.
    """

    noise: tuple[float, ...] = (0.1, 0.3, 1.0)
    copies: int = 8
    images: int = 8
    measured: int = 200
    split: Split = "test"
    seed: int = 0

    name: ClassVar[str] = "variations"

    def __post_init__(self) -> None:
        """Check the settings."""
        at_least(1, images=self.images)
        at_least(2, copies=self.copies, measured=self.measured)
        check_noise(*self.noise)

    def check(self, data: LabelledImages) -> None:
        """Check that there are two images."""
        check_others(data, self.split)

    def run(self, model: EncodesImages, data: LabelledImages, device: torch.device) -> Outcome:
        """Return a picture and figures for each amount of noise; distances in the units of images in [-1, 1]."""
        images, _ = read_images(data, self.split, max(self.measured, self.images), device)
        codes = encoded(model, images)
        unit, reconstructed = spread(codes), decoded(model, codes)
        images = resized(images, reconstructed.shape[-1])
        rng = torch.Generator().manual_seed(self.seed)
        records, pictures = [], {}
        for noise in self.noise:
            varied = neighbourhoods(model, codes, self.copies, noise * unit, rng)
            measured = slice(0, self.measured)
            records.append({"noise": noise, **quality(varied[measured], images[measured], self.seed)})
            columns = (images[:, None], reconstructed[:, None], varied)
            rows = torch.cat([column[: self.images] for column in columns], dim=1)
            pictures[f"noise-{noise:g}"] = rows_picture(rows)
        return Outcome({"images": len(images[: self.measured]), "spread": unit, "records": records}, pictures)


def quality(varied: Float[Tensor, "images copies channels height width"], images: Images, seed: int) -> dict[str, Any]:
    """Return how much variations differ from each other, and how faithful they are to their images.

    Returns:
        `diversity`: mean ℓ2 distance between two variations of one image. `distance`: between a variation and its
        image. `distance_to_another_image`: the same with a random other image, to hold it against. `fidelity`: share of
        variations that are nearer to their image than to any other of the images.
    """
    copies = varied.shape[1]
    flat = varied.flatten(2)
    pairs = torch.stack([torch.nn.functional.pdist(one) for one in flat])
    sources = images.repeat_interleave(copies, dim=0)
    other = images[others(len(images), seed).to(images.device)].repeat_interleave(copies, dim=0)
    everything = varied.flatten(0, 1)
    nearest = nearest_neighbours(everything.flatten(1), images.flatten(1))[:, 0]
    own = torch.arange(len(images), device=images.device).repeat_interleave(copies)
    return {
        "diversity": pairs.mean().item(),
        "distance": distances(everything, sources).mean().item(),
        "distance_to_another_image": distances(everything, other).mean().item(),
        "fidelity": (nearest == own).double().mean().item(),
    }
