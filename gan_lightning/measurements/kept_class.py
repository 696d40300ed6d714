"""The class of a reconstruction: is G(E(x)) still an image of x's class?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Int64
from torch import Tensor

from gan_lightning.errors import DataError, at_least
from gan_lightning.evaluation import nearest_neighbours
from gan_lightning.figures import PIXELS, Best, Figure, Weights
from gan_lightning.interfaces import EncodesImages, Images, Split
from gan_lightning.measurements.bench import BatchNorm, Bench
from gan_lightning.measurements.codes import check_classes, decoded, encoded
from gan_lightning.measurements.measurement import Measurement, Outcome
from gan_lightning.nets.resizing import resized
from gan_lightning.system.processes import on_first_process

RECONSTRUCTIONS = "reconstructions"
"""Subject of the figures of G(E(x))."""


@dataclass(frozen=True, kw_only=True)
class KeptClass(Measurement):
    """Looks at the class of the training image nearest to G(E(x)), by pixels.

    `kept_class/reconstructions/share` is the share of test images x whose class it is. Two controls stand beside it:
    `kept_class/reconstructions/another_image/share`, the share for a random other test image in x's place, which is
    chance, and `kept_class/pixels/share`, the share for x itself in G(E(x))'s place.

    Args:
        enabled: Whether to measure at all.
        every_n_epochs: Epochs between two measurements while training; 0 measures after the training alone.
        images: Number of test images.
        batch_norm: Batch-norm statistics of E and G: "running" were gathered in training, "real" are estimated by
            computing G(E(x)) on the training images.
    """

    name: ClassVar[str] = "kept_class"
    needs: ClassVar[tuple[type, ...]] = (EncodesImages,)

    enabled: bool = False
    images: int = 1000
    batch_norm: BatchNorm = "running"

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        at_least(self, 2, images=self.images)

    def check(self, bench: Bench) -> None:
        """Check that training images have a class each, and two test images.

        Raises:
            DataError: There are none.
        """
        check_classes(bench, self.name)
        needed: Mapping[Split, int] = {"train": 1, "test": 2}
        for split, least in needed.items():
            _, labels = bench.images(split, least, labelled=True)
            if len(labels) < least:
                raise DataError(
                    f"{self.name} needs at least {least} {split} images of {bench.data.name} with a class, got "
                    f"{len(labels)}. Use more images."
                )

    def metrics(self, bench: Bench) -> Mapping[str, Best | None]:
        """Return the names of the shares of reconstructions."""
        return {
            f"{self.name}/{RECONSTRUCTIONS}/share": "max",
            f"{self.name}/{RECONSTRUCTIONS}/another_image/share": None,
        }

    def run(self, bench: Bench) -> Outcome:
        """Return the shares."""
        images, labels = bench.images("test", self.images, labelled=True)
        train_images, train_labels = bench.images("train", labelled=True)
        with bench.reconstructing(self.batch_norm):
            reconstructed = decoded(bench, encoded(bench, images))
        size = reconstructed.shape[-1]
        train_images = resized(train_images, size)

        def classes(of: Images) -> Int64[Tensor, " images"]:
            """Return the class of the nearest training image."""
            found = on_first_process(lambda: nearest_neighbours(of.flatten(1), train_images.flatten(1))[:, 0].cpu())
            return train_labels.cpu()[found]

        labels, found = labels.cpu(), classes(reconstructed)
        figures = [
            self._share(kept_share(found, labels), RECONSTRUCTIONS, len(labels)),
            self._share(others_share(found, labels), RECONSTRUCTIONS, len(labels), "another_image"),
        ]
        if bench.controls:
            of_pixels = classes(resized(images, size))
            figures.append(self._share(kept_share(of_pixels, labels), PIXELS, len(labels)))
        return Outcome(figures)

    def _share(self, value: float, subject: str, images: int, condition: str = "") -> Figure:
        weights: Weights = "none" if subject == PIXELS else "trained"
        return self.figure("share", value, subject=subject, condition=condition, weights=weights, images=images)


def kept_share(found: Int64[Tensor, " images"], labels: Int64[Tensor, " images"]) -> float:
    """Return the share of images whose class was found."""
    return (found == labels).double().mean().item()


def others_share(found: Int64[Tensor, " images"], labels: Int64[Tensor, " images"]) -> float:
    """Return the probability that a class found for one image is the class of a random other image."""
    matches = (found[:, None] == labels[None]).double()
    others = ~torch.eye(len(labels), dtype=torch.bool)
    return matches[others].mean().item()
