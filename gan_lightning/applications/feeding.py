"""Iterative feeding: x <- G(E(x)), again and again."""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

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
from gan_lightning.interfaces import EncodesImages, Images, LabelledImages, Split
from gan_lightning.resizing import resized


@dataclass(frozen=True)
class IterativeFeeding(Application):
    """Feeds images through E and G, and their reconstructions again, round after round.

    Draws a strip per image, and measures how far the images move in each round and how far they are from where they
    started, beside the distance between an image and a random other one.

    Args:
        rounds: How often images are fed.
        images: Images that are drawn, a strip each.
        measured: Images that distances are averaged over.
        split: Where the images are from.
        seed: For which other image each one is compared with.

    Source:
        Liu 2018, section 4.1.3 and Fig. 4.8.
    """

    rounds: int = 10
    images: int = 10
    measured: int = 500
    split: Split = "test"
    seed: int = 0

    name: ClassVar[str] = "iterative_feeding"

    def __post_init__(self) -> None:
        """Check the settings."""
        at_least(1, rounds=self.rounds, images=self.images)
        at_least(2, measured=self.measured)

    def check(self, data: LabelledImages) -> None:
        """Check that there are two images."""
        check_others(data, self.split)

    def run(self, model: EncodesImages, data: LabelledImages, device: torch.device) -> Outcome:
        """Return the strips and the distances, in the units of images in [-1, 1]."""
        images, _ = read_images(data, self.split, max(self.measured, self.images), device)
        strips = fed(model, images, self.rounds)
        steps = torch.stack([distances(before, after) for before, after in pairwise(strips)])
        away = torch.stack([distances(strips[0], after) for after in strips[1:]])
        other = distances(strips[0], strips[0][others(len(images), self.seed).to(device)])
        measured = slice(0, self.measured)
        figures = {
            "images": len(images[measured]),
            "moved": steps[:, measured].mean(dim=1).tolist(),
            "from_start": away[:, measured].mean(dim=1).tolist(),
            "to_another_image": other[measured].mean().item(),
            "moved_of_each_drawn_image": steps[:, : self.images].T.tolist(),
        }
        rows = torch.stack(strips, dim=1)[: self.images]
        return Outcome(figures, {"strips": rows_picture(rows)})


def fed(
    model: EncodesImages, images: Images, rounds: int
) -> list[Float[Tensor, "images channels generated_height generated_width"]]:
    """Return x, G(E(x)), G(E(G(E(x)))) and so on, x at the generator's size."""
    strips = [decoded(model, encoded(model, images))]
    strips.insert(0, resized(images, strips[0].shape[-1]))
    while len(strips) <= rounds:
        strips.append(decoded(model, encoded(model, strips[-1])))
    return strips
