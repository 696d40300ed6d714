"""The worth of an extractor's convolutions for VOC's classes: the first columns of the paper's Table 3."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, get_args

from torch import Tensor

from gan_lightning.errors import SettingError, at_least, refused
from gan_lightning.evaluation.voc.average_precision import PrecisionRule
from gan_lightning.evaluation.voc.classification import (
    VOC_CLASSIFICATION,
    ClassificationProtocol,
    ClassificationRecord,
    TrainedPart,
    classify,
    initial_squares,
    measured_classes,
)
from gan_lightning.evaluation.voc.decoding import DecodedFiles
from gan_lightning.evaluation.voc.devkit import FIRST_YEAR, VOC, LabelledList, VocData, labelled_images
from gan_lightning.figures import Best, Figure
from gan_lightning.interfaces import HasExtractors
from gan_lightning.measurements.bench import BatchNorm, Bench
from gan_lightning.measurements.measurement import Measurement, Outcome
from gan_lightning.measurements.staged import check_initialised_anew, chosen_stages, folded_rows
from gan_lightning.measurements.voc_table import VocControl, say_left_out, voc_channels, voc_tables
from gan_lightning.nets.stages import check_maps

METRICS: Mapping[PrecisionRule, str] = {
    "area": "mean_average_precision",
    "11_points": "mean_average_precision_11_points",
}
"""Names of the figures, by the rules of average precision."""


@dataclass(frozen=True, kw_only=True)
class VocClassification(Measurement):
    """Trains fully connected layers on an extractor's convolutions, or all layers, for VOC 2007's classes.

    The measured data are VOC's own, not the run's. Batch norm is folded before. It trains a network for each part and
    each kind of weights, 80,000 steps by default: it is off by default.

    Figures: `voc_classification/<extractor>/<part>/mean_average_precision`, by the area below precision over recall,
    and `.../mean_average_precision_11_points`. Controls are the same below
    `voc_classification/<extractor>/<part>/random_weights/`: random weights of the convolutions, scaled by training
    images, and in `.../kmeans/` the means of clusters of patches. With the part `all` they are trained from scratch.

    Args:
        enabled: Whether to measure at all.
        every_n_epochs: Epochs between two measurements of the trained extractors while they train; 0 measures after the
            training alone.
        trained: The trained parts: "fc8" is the last layer, "fc6-8" the three fully connected ones, "all" the
            convolutions as well.
        extractors: Names of the extractors; by default all with convolutions. One with the convolutions of an earlier
            one is left out.
        protocol: Settings of the supervised training.
        controls: Kinds of controls.
        batch_norm: Batch-norm statistics of the trained extractors: "running" were gathered in training, "real" are
            estimated on the run's training images.
        voc: The place of the data.
        year: Year of the data.
        train: Name of the list of training images.
        test: Name of the list of test images.
        seed: Of new weights, of the order of the images, of squares and of dropout; by default the run's.

    Source:
        Donahue et al. 2017, section 4.3 and Table 3.
    """

    name: ClassVar[str] = "voc_classification"
    needs: ClassVar[tuple[type, ...]] = (HasExtractors,)

    enabled: bool = False
    trained: Sequence[TrainedPart] = get_args(TrainedPart)
    extractors: Sequence[str] = ()
    protocol: ClassificationProtocol = VOC_CLASSIFICATION
    controls: Sequence[VocControl] = get_args(VocControl)
    batch_norm: BatchNorm = "running"
    voc: VocData = VOC
    year: int = 2007
    train: str = "trainval"
    test: str = "test"
    seed: int | None = None

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            SettingError: A part or a control is unknown, no part is trained, or a number is out of range.
        """
        super().__post_init__()
        at_least(self, FIRST_YEAR, year=self.year)
        if not self.trained or len(set(self.trained)) < len(self.trained):
            raise refused(self, "trained", "name one part or more, each once", list(self.trained))

    def check(self, bench: Bench) -> None:
        """Check the data, the extractors, and that each can be initialised anew.

        Raises:
            DataError: VOC lacks a list, labels or an image, or no class is in both lists.
            SettingError: There is no VOC, or an extractor is unknown, has no convolutions, cannot be initialised anew
                or folded, or cannot take squares of this size.
        """
        chosen = chosen_stages(bench, self.extractors, self)
        check_initialised_anew(bench, chosen, self, self.seed, fold=True)
        for name, stages in chosen.items():
            try:
                size = self.protocol.size
                check_maps(name, copy.deepcopy(stages).float(), voc_channels(name, stages), size, bench.device)
            except SettingError as error:
                raise SettingError(
                    f"extractors must name networks that take VOC's squares, but {error}", self
                ) from error
        _, left_out = measured_classes(*self._lists(bench))
        say_left_out(self.name, left_out)

    def metrics(self, bench: Bench) -> Mapping[str, Best | None]:
        """Return the mean average precisions of the trained extractors."""
        return {
            self.figure(metric, 0.0, subject=name, protocol=part).name: "max"
            for name in chosen_stages(bench, self.extractors, self)
            for part in self.trained
            for metric in METRICS.values()
        }

    def run(self, bench: Bench) -> Outcome:
        """Train for each part, and return the mean average precisions."""
        train, test = self._lists(bench)
        _, left_out = measured_classes(train, test)
        seed = bench.seed_for(self.seed)
        figures: list[Figure] = []
        details = {}
        for name, stages in chosen_stages(bench, self.extractors, self).items():
            channels = voc_channels(name, stages)
            rows = folded_rows(
                bench,
                name,
                controls=self.controls,
                batch_norm=self.batch_norm,
                seed=self.seed,
                initial=partial(self._squares, train, channels, seed),
            )
            records = classify(
                rows,
                train,
                test,
                channels=channels,
                trained=self.trained,
                protocol=self.protocol,
                seed=seed,
                name=name,
                progress=bench.report,
            )
            figures += [each for record in records for each in self._figures(record, name, len(test.paths))]
            details[name] = [
                {"weights": each.weights, "trained": each.trained, "precisions": each.precisions} for each in records
            ]
        tables = voc_tables(bench, figures, list(details))
        return Outcome(figures, {"extractors": details, "left_out": left_out}, tables=tables)

    def _lists(self, bench: Bench) -> tuple[LabelledList, LabelledList]:
        def read() -> tuple[LabelledList, LabelledList]:
            train, test = (labelled_images(self.voc, self.year, split) for split in (self.train, self.test))
            return train, test

        return bench.keep((self.name, self.voc, self.year, self.train, self.test), read)

    def _squares(self, train: LabelledList, channels: int, seed: int) -> Tensor:
        scales = (self.protocol.smallest_scale, self.protocol.largest_scale)
        return initial_squares(DecodedFiles(train.paths, channels, keep=0), self.protocol.size, scales, seed)

    def _figures(self, record: ClassificationRecord, extractor: str, images: int) -> list[Figure]:
        return [
            self.figure(
                metric,
                record.mean(rule),
                subject=extractor,
                protocol=record.trained,
                weights="trained" if record.weights == "trained" else "random",
                condition="kmeans" if record.weights == "kmeans" else "",
                images=images,
                seconds=record.seconds,
            )
            for rule, metric in METRICS.items()
        ]
