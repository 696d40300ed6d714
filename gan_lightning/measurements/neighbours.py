"""The training images that an extractor finds most similar to test images."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from gan_lightning.errors import at_least, refused
from gan_lightning.evaluation.chosen import images_at
from gan_lightning.evaluation.neighbour_search import Metric, nearest_neighbours
from gan_lightning.evaluation.pictures import neighbours_picture
from gan_lightning.figures import Best
from gan_lightning.interfaces import HasExtractors
from gan_lightning.measurements.bench import BatchNorm, Bench
from gan_lightning.measurements.measurement import Measurement, Outcome
from gan_lightning.system.processes import gather_objects, on_first_process


@dataclass(frozen=True, kw_only=True)
class Neighbours(Measurement):
    """Finds the training images nearest to each test image in an extractor's feature space; off by default.

    If images have a class each, there is a figure `neighbours/<extractor>/same_class`: the share of the neighbours that
    have the test image's class, over all test images. The pictures have a row for each of the first test images: the
    query, then its neighbours, the nearest first.

    Args:
        enabled: Whether to look for them at all.
        every_n_epochs: Epochs between two measurements of the shares while training, without pictures; 0 measures after
            the training alone.
        count: Neighbours of each test image.
        queries: Test images in the picture.
        metric: Distance between features.
        batch_norm: Batch-norm statistics of the extractors: "running" were gathered in training, "real" are estimated
            on the training images.

    Source:
        Donahue et al. 2017, Figure 5.
    """

    name: ClassVar[str] = "neighbours"
    needs: ClassVar[tuple[type, ...]] = (HasExtractors,)

    enabled: bool = False
    count: int = 4
    queries: int = 6
    metric: Metric = "cosine"
    batch_norm: BatchNorm = "running"

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            SettingError: One is out of range.
        """
        super().__post_init__()
        at_least(self, 1, count=self.count, queries=self.queries)

    def passes_over(self, bench: Bench) -> str | None:
        """Return why there is nothing to measure: no extractors, or no images."""
        return super().passes_over(bench) or bench.without_images()

    def check(self, bench: Bench) -> None:
        """Check that there are enough training images for the neighbours, and that the extractors can be used.

        Raises:
            SettingError: There are fewer, or an extractor cannot.
        """
        there = 0
        for images, _ in bench.data.evaluation_batches("train", torch.device("cpu")):
            there += len(images)
            if there >= self.count:
                break
        if (there := sum(gather_objects(there))) < self.count:
            condition = f"be at most {there}, the number of training images"
            raise refused(self, "count", condition, self.count, "Ask for fewer or use more images.")
        bench.check_networks()

    def metrics(self, bench: Bench) -> Mapping[str, Best | None]:
        """Return the names of the shares."""
        if bench.data.label_kind != "classes":
            return {}
        return {self.figure("same_class", 0.0, subject=name).name: "max" for name in bench.networks}

    def run(self, bench: Bench) -> Outcome:
        """Return the shares, and the pictures."""
        train, test = (bench.features(split, batch_norm=self.batch_norm) for split in ("train", "test"))
        classes = bench.data.label_kind == "classes"
        # The share takes all test images: the picture's images are too few.
        searched = len(test.labels) if classes else min(self.queries, len(test.labels))
        queries, _ = bench.images("test", self.queries) if bench.controls else (None, None)
        figures, pictures = [], {}
        for done, (name, features) in enumerate(test.matrices.items(), start=1):
            nearest = self._nearest(name, features[:searched], train.matrices[name])
            if classes and len(shares := same_class(test.labels.cpu(), train.labels.cpu()[nearest])):
                figures.append(self.figure("same_class", shares.mean().item(), subject=name, images=len(shares)))
            if queries is not None:
                places = nearest[: len(queries)]
                found = images_at(bench.batches("train", f"neighbours by {name}"), places.flatten())
                pictures[name] = neighbours_picture(queries, found.unflatten(0, places.shape))
            bench.report("nearest neighbours", done, len(test.matrices))
        return Outcome(figures, pictures=pictures)

    def _nearest(self, name: str, queries: Tensor, references: Tensor) -> Int64[Tensor, "queries count"]:
        """Return the places of the nearest training images, on the CPU of every process."""
        names = f"features of test images by {name!r}", f"features of training images by {name!r}"
        return on_first_process(
            lambda: nearest_neighbours(queries, references, self.count, self.metric, names=names).cpu()
        )


def same_class(
    labels: Int64[Tensor, " queries"], of_neighbours: Int64[Tensor, "queries count"]
) -> Float64[Tensor, " known"]:
    """Return the share of each query's neighbours that have its class; unknown classes are left out.

    Args:
        labels: Of the queries; -1 for an unknown one.
        of_neighbours: Of each query's neighbours.
    """
    known = (of_neighbours >= 0) & (labels >= 0)[:, None]
    same = (of_neighbours == labels[:, None]) & known
    some = known.any(dim=1)
    return same[some].sum(dim=1).double() / known[some].sum(dim=1)
