"""The number of convolutions of an extractor that are worth freezing: the paper's Table 2, on any labelled images."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from rich.table import Table
from torch import nn

from gan_lightning.errors import SettingError
from gan_lightning.evaluation.depth_protocol import (
    DEPTH,
    DepthProtocol,
    DepthRecord,
    FrozenWeights,
    SplitImages,
    check_depths,
    frozen_depth,
    initial_images,
)
from gan_lightning.figures import Best, Figure
from gan_lightning.interfaces import HasExtractors, PublishedFigure
from gan_lightning.measurements.bench import BatchNorm, Bench
from gan_lightning.measurements.figure_tables import weights_table
from gan_lightning.measurements.labels import SPLITS, check_labels
from gan_lightning.measurements.measurement import Measurement, Outcome
from gan_lightning.measurements.staged import check_initialised_anew, chosen_stages, control_stages, plain_stages
from gan_lightning.nets.stages import check_maps, stages_of

DepthControl = Literal["random", "kmeans", "scratch"]


@dataclass(frozen=True, kw_only=True)
class FrozenDepth(Measurement):
    """Freezes the first N convolutions of an extractor and trains all that follows with labels, for each N.

    It has the name of the paper's task, and takes any labelled images that fit in memory. An extractor names its
    convolutions by a method `stages()`, or is an `nn.Sequential` of them. Its fully connected layers are left out: new
    ones follow the last convolution. It trains a network for each N and each kind of weights: it is off by default.

    Figures: `imagenet_frozen/<extractor>/<stage>/accuracy`; the stage is the last frozen one. Controls are
    `imagenet_frozen/<extractor>/random_weights/<stage>/accuracy`, with random weights frozen,
    `.../random_weights/kmeans/<stage>/accuracy`, with the means of clusters of patches frozen, and
    `.../random_weights/scratch/accuracy`, with nothing frozen. New weights are scaled by training images.

    Args:
        enabled: Whether to measure at all.
        every_n_epochs: Epochs between two measurements of the trained extractors while they train; 0 measures after the
            training alone.
        depths: The N; by default 1 to the number of convolutions.
        extractors: Names of the extractors; by default all with convolutions. One with the convolutions of an earlier
            one is left out.
        protocol: Settings of the supervised training, and of the layers after the convolutions.
        controls: Kinds of controls.
        batch_norm: Batch-norm statistics of the trained extractors: "running" were gathered in training, "real" are
            estimated on the training images.
        fold_batch_norm: Whether batch norm is merged into the layer before it, so that the supervised training has
            none.
        seed: Of new weights, of the order of the images, of crops and of dropout; by default the run's.

    Source:
        Donahue et al. 2017, section 4.3, Table 2 and appendix C.2.
    """

    name: ClassVar[str] = "imagenet_frozen"
    needs: ClassVar[tuple[type, ...]] = (HasExtractors,)

    enabled: bool = False
    depths: Sequence[int] = ()
    extractors: Sequence[str] = ()
    protocol: DepthProtocol = DEPTH
    controls: Sequence[DepthControl] = get_args(DepthControl)
    batch_norm: BatchNorm = "running"
    fold_batch_norm: bool = True
    seed: int | None = None

    def check(self, bench: Bench) -> None:
        """Check labels, extractors, and that each can be initialised anew.

        Raises:
            DataError: The data have no labels.
            SettingError: An extractor is unknown, has no convolutions or fewer than a depth, cannot be initialised anew
                or folded, or cannot take images of this size.
        """
        check_labels(bench, self.name)
        chosen = chosen_stages(bench, self.extractors, self)
        bench.check_networks({name: bench.networks[name] for name in chosen})
        check_initialised_anew(bench, chosen, self, self.seed, fold=self.fold_batch_norm)
        size = self.protocol.cropped_size(bench.data.image_size)
        for name, stages in chosen.items():
            check_depths(self.depths, len(stages), self)
            try:
                check_maps(name, copy.deepcopy(stages).float(), bench.data.channels, size, bench.device)
            except SettingError as error:
                whole = " Or take whole images with protocol.crop=1." if size < bench.data.image_size else ""
                raise SettingError(
                    f"extractors must name networks that take the images, but {error}{whole}", self
                ) from error

    def metrics(self, bench: Bench) -> Mapping[str, Best | None]:
        """Return the accuracies of the trained extractors."""
        return {
            self.figure("accuracy", 0.0, subject=name, condition=names[depth - 1]).name: "max"
            for name, stages in chosen_stages(bench, self.extractors, self).items()
            for names in [list(dict(stages.named_children()))]
            for depth in check_depths(self.depths, len(names), self)
        }

    def run(self, bench: Bench) -> Outcome:
        """Train the rest for each depth, and return the accuracies."""
        images: SplitImages = {split: bench.images(split, labelled=True) for split in SPLITS}
        controls = self.controls if bench.controls else ()
        seed = bench.seed_for(self.seed)
        initial = initial_images(images["train"][0], self.protocol, seed)
        figures: list[Figure] = []
        details, tables = {}, []
        for name, stages in chosen_stages(bench, self.extractors, self).items():
            fresh = plain_stages(stages_of(bench.control(self.seed).networks[name]), fold=self.fold_batch_norm)
            with bench.statistics({name: bench.networks[name]}, "trained", self.batch_norm):
                rows: dict[FrozenWeights, nn.Sequential] = {"trained": plain_stages(stages, fold=self.fold_batch_norm)}
            for control in controls:
                if control != "scratch":
                    statistics = bench.batches("train", f"batch-norm statistics, {control} weights")
                    rows[control] = control_stages(fresh, initial, control, statistics, seed=seed)
            records = frozen_depth(
                rows,
                images,
                num_classes=bench.data.num_classes,
                fresh=fresh,
                depths=self.depths,
                scratch="scratch" in controls,
                protocol=self.protocol,
                seed=seed,
                name=name,
                progress=bench.report,
            )
            found = {record: self._figure(record, name, len(images["test"][1])) for record in records}
            figures += found.values()
            details[name] = [
                {"stage": r.stage, "frozen": r.frozen, "weights": r.weights, "cached": r.cached} for r in records
            ]
            tables.append(depth_table(found, name, bench.data.name, bench.published))
        return Outcome(figures, details, tables=tables)

    def _figure(self, record: DepthRecord, extractor: str, images: int) -> Figure:
        conditions = {"kmeans": f"kmeans/{record.stage}", "scratch": "scratch"}
        return self.figure(
            "accuracy",
            record.accuracy,
            subject=extractor,
            weights="trained" if record.weights == "trained" else "random",
            condition=conditions.get(record.weights, record.stage),
            images=images,
            seconds=record.seconds,
        )


NOTHING = "nothing"
"""Heading of the column in which no stage is frozen."""


def depth_table(
    found: Mapping[DepthRecord, Figure], extractor: str, data: str, published: Mapping[str, PublishedFigure]
) -> Table:
    """Return a table with a column per stage and a row per kind of weights, as the paper's Table 2.

    Args:
        found: Each cell and its figure.
        extractor: Its name.
        data: The data set's name.
        published: Printed figures, by the names of ours; they have rows of their own.
    """
    cells = ((record.weights, record.stage or NOTHING, figure) for record, figure in found.items())
    return weights_table(f"Frozen up to: {extractor} on {data}", cells, published)
