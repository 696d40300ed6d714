"""Variations of an image: G(E(x) + noise), at several amounts of noise."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from gan_lightning.errors import at_least
from gan_lightning.evaluation import nearest_neighbours
from gan_lightning.evaluation.pictures import rows_picture
from gan_lightning.figures import Best, Figure
from gan_lightning.interfaces import EncodesImages, Images, Split
from gan_lightning.measurements.bench import BatchNorm, Bench
from gan_lightning.measurements.codes import (
    check_noise,
    check_others,
    decoded,
    distances,
    encoded,
    neighbourhoods,
    others,
    spread,
)
from gan_lightning.measurements.measurement import Measurement, Outcome, Picture
from gan_lightning.nets.resizing import resized

BEST: Mapping[str, Best | None] = {
    "diversity": None,
    "distance": "min",
    "distance_to_another_image": None,
    "fidelity": "max",
}
"""Best direction of each figure, if it has one."""


@dataclass(frozen=True, kw_only=True)
class Variations(Measurement):
    """Draws variations of images, and measures their distances from each other and from their image.

    Each amount of noise has figures, such as `variations/noise-0.3/diversity`. `diversity` is the mean ℓ2 distance
    between two variations of one image, `distance` between a variation and its image, and `distance_to_another_image`
    between a variation and a random other image. `fidelity` is the share of variations nearer to their image than to
    any other. Distances are of images in [-1, 1].

    Args:
        enabled: Whether to measure at all.
        every_n_epochs: Epochs between two measurements while training; 0 measures after the training alone.
        noise: Standard deviations of the noise on E(x), in units of the codes' own: a picture each.
        copies: Variations of each image.
        images: Number of drawn images, a row each: the image, G(E(x)), then variations.
        measured: Number of images for the figures' means.
        split: Split of the images.
        batch_norm: Batch-norm statistics of E and G: "running" were gathered in training, "real" are estimated by
            computing G(E(x)) on the training images.
        seed: For the noise; by default the run's.

    Source:
        Liu 2018, section 4.2.3 and Fig. 4.12.
    """

    name: ClassVar[str] = "variations"
    needs: ClassVar[tuple[type, ...]] = (EncodesImages,)

    enabled: bool = False
    noise: tuple[float, ...] = (0.1, 0.3, 1.0)
    copies: int = 8
    images: int = 8
    measured: int = 200
    split: Split = "test"
    batch_norm: BatchNorm = "running"
    seed: int | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        at_least(self, 1, images=self.images)
        at_least(self, 2, copies=self.copies, measured=self.measured)
        check_noise(self, *self.noise)

    def check(self, bench: Bench) -> None:
        """Check that there are two images."""
        check_others(bench, self.name, self.split)

    def metrics(self, bench: Bench) -> Mapping[str, Best | None]:
        """Return the names of the figures of each amount of noise."""
        return {
            f"{self.name}/{condition(noise)}/{metric}": best for noise in self.noise for metric, best in BEST.items()
        }

    def run(self, bench: Bench) -> Outcome:
        """Return the figures and a picture for each amount of noise."""
        images, _ = bench.images(self.split, max(self.measured, self.images))
        with bench.reconstructing(self.batch_norm):
            codes = encoded(bench, images)
            unit, reconstructed = spread(codes), decoded(bench, codes)
            images = resized(images, reconstructed.shape[-1])
            rng = torch.Generator().manual_seed(bench.seed_for(self.seed))
            figures: list[Figure] = []
            pictures: dict[str, Picture] = {}
            measured = slice(0, self.measured)
            about = {"split": self.split, "images": len(images[measured])}
            for done, noise in enumerate(self.noise, start=1):
                varied = neighbourhoods(bench, codes, self.copies, noise * unit, rng)
                found = quality(varied[measured], images[measured], bench.seed_for(self.seed))
                figures += [
                    self.figure(name, value, condition=condition(noise), **about) for name, value in found.items()
                ]
                if bench.controls:
                    columns = (images[:, None], reconstructed[:, None], varied)
                    rows = torch.cat([column[: self.images] for column in columns], dim=1)
                    pictures[condition(noise)] = rows_picture(rows)
                bench.report("variations", done, len(self.noise))
        return Outcome(figures, {"spread_of_codes": unit}, pictures)


def condition(noise: float) -> str:
    """Return the name of an amount of noise."""
    return f"noise-{noise:g}"


def quality(
    varied: Float[Tensor, "images copies channels height width"], images: Images, seed: int
) -> dict[str, float]:
    """Return the figures of variations: their distances from each other, and their fidelity to their images.

    Returns:
        `diversity`: mean ℓ2 distance between two variations of one image. `distance`: between a variation and its
        image. `distance_to_another_image`: the same with a random other image, for comparison. `fidelity`: share of
        variations nearer to their image than to any other of the images.
    """
    copies = varied.shape[1]
    pairs = torch.stack([torch.nn.functional.pdist(one) for one in varied.flatten(2)])
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
