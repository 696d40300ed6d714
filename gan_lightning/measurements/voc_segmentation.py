"""The worth of an extractor's convolutions for VOC's masks: the last column of the paper's Table 3."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, get_args

from torch import Tensor, nn

from gan_lightning.errors import SettingError, at_least, refused
from gan_lightning.evaluation.voc.classification import initial_squares
from gan_lightning.evaluation.voc.decoding import DecodedFiles
from gan_lightning.evaluation.voc.devkit import FIRST_YEAR, VOC, MaskedImage, VocData, masked_images
from gan_lightning.evaluation.voc.segmentation import (
    PIXEL_CLASSES,
    SQUARES,
    VOC_SEGMENTATION,
    SegmentationProtocol,
    SegmentationRecord,
    mask_values,
    measured_values,
    segment,
)
from gan_lightning.figures import Best, Figure
from gan_lightning.interfaces import HasExtractors
from gan_lightning.measurements.bench import BatchNorm, Bench
from gan_lightning.measurements.measurement import Measurement, Outcome
from gan_lightning.measurements.staged import check_initialised_anew, chosen_stages, folded_rows, plain_stages
from gan_lightning.measurements.voc_table import VocControl, say_left_out, voc_channels, voc_tables
from gan_lightning.nets.fully_convolutional import FullyConvolutional

Masked = tuple[list[MaskedImage], list[MaskedImage], list[int], Mapping[str, str]]
"""Training and test images, the values of masks that are measured, and why the others are not, by name."""


@dataclass(frozen=True, kw_only=True)
class VocSegmentation(Measurement):
    """Trains FCN-32s from an extractor's convolutions for VOC 2012's masks.

    The measured data are VOC's own, not the run's. Batch norm is folded before. All layers are trained, for 100,000
    steps of 20 images by default: it is off by default.

    Figures: `voc_segmentation/<extractor>/mean_iou`, the mean intersection over union of 21 classes from one confusion
    matrix, and `.../pixel_accuracy`. Controls are the same below `voc_segmentation/<extractor>/random_weights/`: from
    random weights, scaled by training images, and in `.../kmeans/` from the means of clusters of patches.

    Args:
        enabled: Whether to measure at all.
        every_n_epochs: Epochs between two measurements of the trained extractors while they train; 0 measures after the
            training alone.
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
        seed: Of new weights, of the order of the images and of dropout; by default the run's.

    Source:
        Donahue et al. 2017, section 4.3 and Table 3.
    """

    name: ClassVar[str] = "voc_segmentation"
    needs: ClassVar[tuple[type, ...]] = (HasExtractors,)
    follows: ClassVar[tuple[str, ...]] = ("voc_classification", "voc_detection")

    enabled: bool = False
    extractors: Sequence[str] = ()
    protocol: SegmentationProtocol = VOC_SEGMENTATION
    controls: Sequence[VocControl] = get_args(VocControl)
    batch_norm: BatchNorm = "running"
    voc: VocData = VOC
    year: int = 2012
    train: str = "train"
    test: str = "val"
    seed: int | None = None

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            SettingError: A control is unknown, or a number is out of range.
        """
        super().__post_init__()
        at_least(self, FIRST_YEAR, year=self.year)

    def check(self, bench: Bench) -> None:
        """Check the data, the extractors, and that each can be initialised anew.

        Raises:
            DataError: VOC lacks a list, an image or a mask, a mask is damaged, or no class is in both lists.
            SettingError: There is no VOC, or an extractor is unknown, has no convolutions, cannot be initialised anew
                or folded, or takes no images of other sizes.
        """
        chosen = chosen_stages(bench, self.extractors, self)
        check_initialised_anew(bench, chosen, self, self.seed, fold=True)
        for name, stages in chosen.items():
            self._smallest(name, stages)
        *_, left_out = self._lists(bench)
        say_left_out(self.name, left_out)

    def metrics(self, bench: Bench) -> Mapping[str, Best | None]:
        """Return the figures of the trained extractors."""
        return {
            self.figure(metric, 0.0, subject=name).name: "max"
            for name in chosen_stages(bench, self.extractors, self)
            for metric in ("mean_iou", "pixel_accuracy")
        }

    def run(self, bench: Bench) -> Outcome:
        """Train, and return the mean intersections over unions."""
        train, test, measured, left_out = self._lists(bench)
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
                initial=partial(self._squares, train, channels, self._smallest(name, stages), seed),
            )
            records = segment(
                rows,
                train,
                test,
                channels=channels,
                measured=measured,
                protocol=self.protocol,
                seed=seed,
                name=name,
                progress=bench.report,
            )
            figures += [each for record in records for each in self._figures(record, name, len(test))]
            details[name] = [{"weights": each.weights, "overlaps": each.overlaps} for each in records]
        tables = voc_tables(bench, figures, list(details))
        return Outcome(figures, {"extractors": details, "left_out": left_out}, tables=tables)

    def _smallest(self, name: str, stages: nn.Sequential) -> int:
        """Return the edge of the squares for the scales of new weights, pixels.

        Raises:
            SettingError: The network takes no images of other sizes, or of other channels than VOC's.
        """
        channels = voc_channels(name, stages)
        try:
            # A narrow one tells as much.
            return FullyConvolutional(plain_stages(stages), channels, len(PIXEL_CLASSES), width=1).smallest
        except SettingError as error:
            remedy = "Leave it out, or use a network of convolutions and pooling alone."
            raise refused(self, "extractors", "name networks that take images of any size", name, remedy) from error

    def _lists(self, bench: Bench) -> Masked:
        def read() -> Masked:
            train, test = (masked_images(self.voc, self.year, split) for split in (self.train, self.test))
            return train, test, *measured_values(mask_values(train), mask_values(test))

        return bench.keep((self.name, self.voc, self.year, self.train, self.test), read)

    def _squares(self, train: Sequence[MaskedImage], channels: int, size: int, seed: int) -> Tensor:
        images = DecodedFiles([each.path for each in train], channels, keep=0)
        return initial_squares(images, size, SQUARES, seed)

    def _figures(self, record: SegmentationRecord, extractor: str, images: int) -> list[Figure]:
        return [
            self.figure(
                metric,
                value,
                subject=extractor,
                weights="trained" if record.weights == "trained" else "random",
                condition="kmeans" if record.weights == "kmeans" else "",
                images=images,
                seconds=record.seconds,
            )
            for metric, value in (("mean_iou", record.mean), ("pixel_accuracy", record.pixel_accuracy))
        ]
