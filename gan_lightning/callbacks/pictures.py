"""Pictures of what the networks have learned to see."""

import torch
from lightning.pytorch import LightningModule, Trainer

from gan_lightning.callbacks.after_training import AfterTraining, evaluation_batches
from gan_lightning.callbacks.run_folder import is_dry_run, write_picture
from gan_lightning.errors import SettingError
from gan_lightning.evaluation import filters_picture, first_images, neighbours_picture
from gan_lightning.evaluation.nearest import Metric
from gan_lightning.interfaces import HasExtractors, LabelledImages
from gan_lightning.processes import gather_objects

MOST_FILTERS = 96
"""Filters that are drawn of a network: all of AlexNet's."""


class FeaturePictures(AfterTraining):
    """Draws first-layer filters and nearest neighbours, after a fit and under `test`.

    Writes `pictures/filters-<network>.png`, at most 96 filters, for each of the model's networks whose first or last
    layer touches images, and `pictures/neighbours-<extractor>.png`: a row per query, the first images of the test
    split, with the nearest training images in that extractor's feature space. Data modules that declare no images are
    passed over.

    Args:
        filters: Whether to draw filters.
        neighbours: Neighbours of each query; 0 draws none.
        queries: Query images.
        metric: Distance between features.

    Source:
        Donahue et al. 2017, Figures 3 and 5.
    """

    def __init__(self, filters: bool = True, neighbours: int = 0, queries: int = 6, metric: Metric = "cosine") -> None:
        for name, value, least in (("neighbours", neighbours, 0), ("queries", queries, 1)):
            if value < least:
                raise SettingError(f"pictures.{name} must be at least {least}, got {value}.")
        self.filters, self.neighbours, self.queries = filters, neighbours, queries
        self.metric: Metric = metric

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that there are as many training images as neighbours, before any training.

        Raises:
            SettingError: If there are fewer.
        """
        drawn = self.neighbours and stage in ("fit", "test") and not is_dry_run(trainer)
        if not drawn or not self.applies(trainer, pl_module):
            return
        count = 0
        for images, _ in evaluation_batches(trainer, "train", torch.device("cpu")):
            count += len(images)
            if count >= self.neighbours:
                break
        count = sum(gather_objects(count))
        if count < self.neighbours:
            raise SettingError(
                f"pictures.neighbours must be at most {count}, the number of training images, got {self.neighbours}. "
                "Ask for fewer or use more images."
            )

    def applies(self, trainer: Trainer, pl_module: LightningModule) -> bool:
        """Return whether there is something to draw."""
        return isinstance(getattr(trainer, "datamodule", None), LabelledImages)

    @torch.no_grad()
    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw."""
        data: LabelledImages = trainer.datamodule  # type: ignore[attr-defined]
        shape = (data.channels, data.image_size, data.image_size)
        for name, network in pl_module.named_children() if self.filters else ():
            try:
                picture = filters_picture(network, image_shape=shape, most=MOST_FILTERS)
            except SettingError:
                continue  # nothing in it touches an image
            write_picture(trainer, f"pictures/filters-{name}", picture, f"filters/{name}")
        if not self.neighbours or not isinstance(pl_module, HasExtractors):
            return
        queries = first_images(evaluation_batches(trainer, "test", pl_module.device), self.queries)
        for name, extractor in pl_module.extractors().items():
            train = evaluation_batches(trainer, "train", pl_module.device)
            picture = neighbours_picture(
                extractor, queries, train, count=self.neighbours, metric=self.metric, name=name
            )
            write_picture(trainer, f"pictures/neighbours-{name}", picture, f"neighbours/{name}")
