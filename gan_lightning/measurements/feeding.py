"""Iterative feeding: x <- G(E(x)), again and again."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from gan_lightning.errors import at_least
from gan_lightning.evaluation.pictures import rows_picture
from gan_lightning.figures import Best, Figure
from gan_lightning.interfaces import EncodesImages, Images, Split
from gan_lightning.measurements.bench import BatchNorm, Bench
from gan_lightning.measurements.codes import check_others, decoded, distances, encoded, others
from gan_lightning.measurements.measurement import Measurement, Outcome
from gan_lightning.nets.resizing import resized

ROUND = "round"
"""The curves' x axis."""


@dataclass(frozen=True, kw_only=True)
class IterativeFeeding(Measurement):
    """Feeds images through E and G, and their reconstructions again, round after round.

    Draws a strip per image. The figures are the distance that images move in each round (`feeding/moved`), their
    distance from the start (`feeding/from_start`), and, for comparison, the distance between an image and a random
    other one (`feeding/to_another_image`). Distances are ℓ2, of images in [-1, 1]. A figure without a round is of the
    last one.

    Args:
        enabled: Whether to measure at all.
        every_n_epochs: Epochs between two measurements while training; 0 measures after the training alone.
        rounds: Number of rounds.
        images: Number of drawn images, a strip each.
        measured: Number of images for the mean distances.
        split: Split of the images.
        batch_norm: Batch-norm statistics of E and G: "running" were gathered in training, "real" are estimated by
            computing G(E(x)) on the training images.
        seed: For the choice of the other image beside each one; by default the run's.

    Source:
        Liu 2018, section 4.1.3 and Fig. 4.8.
    """

    name: ClassVar[str] = "feeding"
    needs: ClassVar[tuple[type, ...]] = (EncodesImages,)

    enabled: bool = False
    rounds: int = 10
    images: int = 10
    measured: int = 500
    split: Split = "test"
    batch_norm: BatchNorm = "running"
    seed: int | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        at_least(self, 1, rounds=self.rounds, images=self.images)
        at_least(self, 2, measured=self.measured)

    def check(self, bench: Bench) -> None:
        """Check that there are two images."""
        check_others(bench, self.name, self.split)

    def metrics(self, bench: Bench) -> Mapping[str, Best | None]:
        """Return the names of the distances. None is best: images that stand still may be all the same."""
        return {"feeding/moved": None, "feeding/from_start": "min", "feeding/to_another_image": None}

    def run(self, bench: Bench) -> Outcome:
        """Return the distances and the strips."""
        images, _ = bench.images(self.split, max(self.measured, self.images))
        with bench.reconstructing(self.batch_norm):
            strips = fed(bench, images, self.rounds)
        steps = torch.stack([distances(before, after) for before, after in pairwise(strips)])
        away = torch.stack([distances(strips[0], after) for after in strips[1:]])
        other = distances(strips[0], strips[0][others(len(images), bench.seed_for(self.seed)).to(images.device)])
        measured = slice(0, self.measured)
        count = len(images[measured])

        def curve(metric: str, means: Tensor) -> list[Figure]:
            about = {"split": self.split, "images": count}
            points = [
                self.figure(metric, mean, axis=ROUND, at=float(at), **about)
                for at, mean in enumerate(means.tolist(), start=1)
            ]
            return [self.figure(metric, points[-1].value, **about), *points]

        return Outcome(
            [
                *curve("moved", steps[:, measured].mean(dim=1)),
                *curve("from_start", away[:, measured].mean(dim=1)),
                self.figure("to_another_image", other[measured].mean().item(), split=self.split, images=count),
            ],
            {"moved_of_each_drawn_image": steps[:, : self.images].T.tolist()},
            {"": rows_picture(torch.stack(strips, dim=1)[: self.images])} if bench.controls else {},
        )


def fed(
    bench: Bench, images: Images, rounds: int
) -> list[Float[Tensor, "images channels generated_height generated_width"]]:
    """Return x, G(E(x)), G(E(G(E(x)))) and so on, x at the generator's size."""
    strips: list[Tensor] = []
    for done in range(1, rounds + 1):
        strips.append(decoded(bench, encoded(bench, strips[-1] if strips else images)))
        bench.report("feeding", done, rounds)
    return [resized(images, strips[0].shape[-1]), *strips]
