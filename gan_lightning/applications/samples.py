"""What a trained encoder and generator make: samples, and reconstructions beside their images."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from gan_lightning.applications.base import (
    Application,
    Outcome,
    at_least,
    check_others,
    decoded,
    distances,
    encoded,
    others,
    read_images,
    rows_picture,
)
from gan_lightning.interfaces import EncodesImages, LabelledImages, Split
from gan_lightning.resizing import resized


@dataclass(frozen=True)
class Samples(Application):
    """Draws real images, their reconstructions G(E(x)), and images of latents from the prior: a picture each.

    Measures how far reconstructions are from their image, and from a random other one.

    Args:
        columns: Images in a row of a picture.
        rows: Rows of a picture.
        measured: Images that distances are averaged over.
        split: Where the images are from.
        seed: For the latents, and for which other image each one is compared with.

    Source:
        Liu 2018, Fig. 4.1.
    """

    columns: int = 10
    rows: int = 4
    measured: int = 1000
    split: Split = "test"
    seed: int = 0

    name: ClassVar[str] = "samples"

    def __post_init__(self) -> None:
        """Check the settings."""
        at_least(1, columns=self.columns, rows=self.rows)
        at_least(2, measured=self.measured)

    def check(self, data: LabelledImages) -> None:
        """Check that there are two images."""
        check_others(data, self.split)

    def run(self, model: EncodesImages, data: LabelledImages, device: torch.device) -> Outcome:
        """Return the pictures and the distances, in the units of images in [-1, 1]."""
        drawn = self.columns * self.rows
        images, _ = read_images(data, self.split, max(self.measured, drawn), device)
        reconstructed = decoded(model, encoded(model, images))
        images = resized(images, reconstructed.shape[-1])
        sampled = decoded(model, model.sample_latents(drawn, torch.Generator(device).manual_seed(self.seed)))
        other = images[others(len(images), self.seed).to(device)]
        measured = slice(0, self.measured)
        figures = {
            "images": len(images[measured]),
            "distance": distances(images, reconstructed)[measured].mean().item(),
            "distance_to_another_image": distances(other, reconstructed)[measured].mean().item(),
        }
        columns = min(self.columns, len(images))
        whole = min(drawn, len(images)) // columns * columns
        pictures = {"real": images, "reconstructed": reconstructed, "sampled": sampled}
        return Outcome(
            figures, {name: rows_picture(shown[:whole].unflatten(0, (-1, columns))) for name, shown in pictures.items()}
        )
