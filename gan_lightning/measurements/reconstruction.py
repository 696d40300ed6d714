"""The mutual inversion of encoder and generator, as distances and as a picture."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from gan_lightning.errors import SettingError, at_least
from gan_lightning.evaluation.pictures import reconstructions_picture
from gan_lightning.evaluation.reconstruction_errors import (
    ReconstructionDistance,
    generated_reconstruction,
    image_reconstruction,
    latent_reconstruction,
)
from gan_lightning.figures import Best, Figure
from gan_lightning.interfaces import EncodesImages, Latents
from gan_lightning.measurements.bench import BatchNorm, Bench
from gan_lightning.measurements.measurement import Measurement, Outcome
from gan_lightning.nets.resizing import resized
from gan_lightning.system.processes import gather_objects, process_count, process_rank

AT_ONCE = 500
"""Latents decoded at a time."""


@dataclass(frozen=True, kw_only=True)
class Reconstruction(Measurement):
    """Measures how well E and G invert each other on images, latents and generated images, and draws images.

    Figures, mean ℓ2 norms in the units of images in [-1, 1] and of latents: `reconstruction/image/distance` is of
    x - G(E(x)) on the test images, `reconstruction/image/distance_to_another` has a random other image in each one's
    place, and `reconstruction/image/share` is their quotient. `latent` has the same of z - E(G(z)), and `generated` of
    G(z) - G(E(G(z))), on as many latents. The picture has rows of the first test images, each above the row of their
    reconstructions.

    Args:
        enabled: Whether to measure at all.
        every_n_epochs: Epochs between two measurements while training, without the picture; 0 measures after the
            training alone.
        batch_norm: Batch-norm statistics of E and G: "running" were gathered in training, "real" are estimated by
            computing G(E(x)) on the training images.
        images: Images in the picture.
        seed: Of the latents, and of the choice of the other sample beside each one; by default the run's.

    Source:
        Donahue et al. 2017, Theorem 2 and Figures 2 and 4.
    """

    name: ClassVar[str] = "reconstruction"
    needs: ClassVar[tuple[type, ...]] = (EncodesImages,)

    enabled: bool = True
    batch_norm: BatchNorm = "running"
    images: int = 20
    seed: int | None = None

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            SettingError: One is out of range.
        """
        super().__post_init__()
        at_least(self, 1, images=self.images)

    def passes_over(self, bench: Bench) -> str | None:
        """Return why there is nothing to measure: no encoder and generator, or no images."""
        return super().passes_over(bench) or bench.without_images()

    def check(self, bench: Bench) -> None:
        """Check that test images have others to be compared with.

        Raises:
            SettingError: They come one by one.
        """
        first = next(iter(bench.data.evaluation_batches("test", torch.device("cpu"))), None)
        largest = max(gather_objects(0 if first is None else len(first[0])))
        if largest < 2:
            raise SettingError(
                f"{self.name} must have test images in batches of at least 2, to compare reconstructions with those of "
                f"other images, got batches of {largest}. Raise evaluation_batch_size of the data and use two images "
                "or more, or set its `enabled` to false."
            )

    def metrics(self, bench: Bench) -> Mapping[str, Best | None]:
        """Return the names of the figures."""
        best: dict[str, Best | None] = {"distance": "min", "distance_to_another": None, "share": "min"}
        return {
            self.figure(metric, 0.0, condition=of).name: which
            for of in ("image", "latent", "generated")
            for metric, which in best.items()
        }

    def run(self, bench: Bench) -> Outcome:
        """Return the distances, and the picture."""
        with bench.reconstructing(self.batch_norm):
            batches = bench.batches("test", "reconstructions of test images")
            image = image_reconstruction(batches, bench.encode, bench.decode, seed=bench.seed_for(self.seed))
            figures = self._figures("image", "test", image)
            for of, reconstruct in (("latent", latent_reconstruction), ("generated", generated_reconstruction)):
                latents = self._latents(bench, image.samples)
                found = reconstruct(latents, bench.encode, bench.decode, seed=bench.seed_for(self.seed))
                figures += self._figures(of, "", found)
            if not bench.controls:
                return Outcome(figures)
            shown, _ = bench.images("test", self.images)
            reconstructed = bench.decode(bench.encode(shown))
        picture = reconstructions_picture(resized(shown.float(), reconstructed.shape[-1]), reconstructed)
        return Outcome(figures, pictures={"": picture})

    def _latents(self, bench: Bench, count: int) -> Iterator[Latents]:
        """Yield this process's share of `count` latents. All latents are the same for any number of processes."""
        mine = bench.sample_latents(count, self.seed).tensor_split(process_count())[process_rank()]
        parts = mine.split(AT_ONCE)
        for done, part in enumerate(parts, start=1):
            yield part
            bench.report("reconstructions of latents", done, len(parts))

    def _figures(self, of: str, split: str, found: ReconstructionDistance) -> list[Figure]:
        values = {"distance": found.distance, "distance_to_another": found.other_distance, "share": found.share}
        return [
            self.figure(metric, value, condition=of, split=split, images=found.samples)
            for metric, value in values.items()
            if value is not None
        ]
