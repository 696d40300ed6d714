"""How much generated images differ from each other, beside real ones."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from gan_lightning.errors import at_least, refused
from gan_lightning.evaluation.pictures import rows_picture
from gan_lightning.figures import Best
from gan_lightning.interfaces import GeneratesImages, Images
from gan_lightning.measurements import Bench, Measurement, Outcome
from gan_lightning.nets.resizing import resized


@dataclass(frozen=True, kw_only=True)
class Diversity(Measurement):
    """Measures the mean distance between two generated images, beside that between two real ones.

    Args:
        images: Images of each kind.
        seed: Of the latents; by default the run's.
    """

    name = "diversity"  # of its settings, its figures and its pictures
    needs = (GeneratesImages,)  # a model without generate() is passed over

    images: int = 100
    seed: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 2, images=self.images)

    def passes_over(self, bench: Bench) -> str | None:
        """Return why there is nothing to measure; None where there is something."""
        return super().passes_over(bench) or bench.without_images()

    def check(self, bench: Bench) -> None:
        """Refuse, before the training, what cannot be measured after it."""
        found, _ = bench.images("test", self.images)
        if len(found) < self.images:
            raise refused(self, "images", f"be at most {len(found)}, the number of test images", self.images)

    def metrics(self, bench: Bench) -> Mapping[str, Best | None]:
        """Return the figures that a checkpoint may be chosen by, and which value is best."""
        return {"diversity/generated/distance": "max"}

    def run(self, bench: Bench) -> Outcome:
        """Measure: the networks are frozen, and nothing that is drawn here changes the training."""
        each = -(-self.images // len(bench.generate(1, self.seed)))  # of each generator
        generated = bench.generate(each, self.seed).flatten(0, 1)[: self.images]
        kinds, pictures = {"generated": generated}, {}
        if bench.controls:  # after the training; while it trains, the figure alone is enough
            real, _ = bench.images("test", self.images)
            kinds["real"] = resized(real, generated.shape[-1])
            pictures["most-alike"] = rows_picture(torch.stack([most_alike(images) for images in kinds.values()]))
        figures = [
            self.figure(
                "distance",
                torch.pdist(images.flatten(1)).mean().item(),
                subject=kind,
                weights="trained" if kind == "generated" else "none",
                images=len(images),
            )
            for kind, images in kinds.items()
        ]
        return Outcome(figures, pictures=pictures)


def most_alike(images: Images) -> Images:
    """Return the two images that are nearest to each other."""
    distances = torch.cdist(images.flatten(1), images.flatten(1)).fill_diagonal_(torch.inf)
    place = int(distances.argmin())
    return images[[place // len(images), place % len(images)]]
