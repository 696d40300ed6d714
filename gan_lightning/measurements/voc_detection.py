"""Detection of objects by a detector on an extractor's convolutions: the paper's Table 3, on PASCAL VOC 2007."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, get_args

import torch
from torch import nn

from gan_lightning.errors import SettingError, refused
from gan_lightning.evaluation.depth_protocol import FrozenWeights
from gan_lightning.evaluation.voc.average_precision import PrecisionRule
from gan_lightning.evaluation.voc.detection_protocol import DETECTION, DetectionProtocol
from gan_lightning.evaluation.voc.devkit import VOC, BoxedImage, VocData, boxed_images
from gan_lightning.evaluation.voc.proposals import DenseWindows, ProposalSource
from gan_lightning.figures import Best, Figure
from gan_lightning.interfaces import HasExtractors
from gan_lightning.measurements.bench import BatchNorm, Bench
from gan_lightning.measurements.depth import DepthControl
from gan_lightning.measurements.measurement import Measurement, Outcome
from gan_lightning.measurements.staged import check_initialised_anew, chosen_stages, control_stages, plain_stages
from gan_lightning.measurements.voc_table import say_left_out, voc_channels, voc_tables
from gan_lightning.nets.stages import stages_of

if TYPE_CHECKING:
    from gan_lightning.evaluation.voc.detection import DetectionRecord
    from gan_lightning.evaluation.voc.detector_training import ProposedImages

YEAR, TRAIN, TEST = 2007, "trainval", "test"
"""The year and the lists of the paper's Table 3."""

METRICS: Mapping[PrecisionRule, str] = {
    "11_points": "mean_average_precision",
    "area": "mean_average_precision_area",
}
"""Names of the figures; VOC 2007's own rule has eleven points."""


def _left_out(classes: Mapping[str, str]) -> dict[str, str]:
    return {name: why for name, why in classes.items() if why}


@dataclass(frozen=True, kw_only=True)
class VocDetection(Measurement):
    """Trains a Fast R-CNN from the convolutions of an extractor on PASCAL VOC 2007, and measures what it finds.

    The first convolution stays frozen, and the others are trained. Batch norm is merged into the layer before it.
    An extractor names its convolutions by a method `stages()`, or is an `nn.Sequential` of them. It trains a detector
    for each kind of weights: it is off by default.

    Figures: `voc_detection/<extractor>/mean_average_precision`, by VOC 2007's eleven points, and
    `.../mean_average_precision_area`, both at an intersection over union of 0.5. Controls start from random weights
    (`.../random_weights/...`) or the means of clusters of patches (`.../random_weights/kmeans/...`), or train all
    convolutions from random weights (`.../random_weights/scratch/...`). New weights are scaled by training images.

    Args:
        enabled: Whether to measure at all.
        every_n_epochs: Epochs between two measurements of the trained extractors while they train; 0 measures after the
            training alone.
        voc: The place of PASCAL VOC.
        extractors: Names of the extractors; by default all with convolutions. One with the convolutions of an earlier
            one is left out.
        proposals: Boxes that the detector classifies: `DenseWindows`, `ProposalFiles`, or `SelectiveSearch`
            (`pip install 'gan-lightning[proposals]'`).
        protocol: Settings of the detector's training and test.
        controls: Kinds of controls.
        batch_norm: Batch-norm statistics of the trained extractors: "running" were gathered in training, "real" are
            estimated on the training images of the run.
        seed: Of new weights, of the order of the images, of regions, flips and dropout; by default the run's.

    Source:
        Donahue et al. 2017, section 4.3 and Table 3; Girshick 2015.
    """

    name: ClassVar[str] = "voc_detection"
    needs: ClassVar[tuple[type, ...]] = (HasExtractors,)

    enabled: bool = False
    voc: VocData = VOC
    extractors: Sequence[str] = ()
    proposals: ProposalSource = DenseWindows()  # noqa: RUF009 (frozen)
    protocol: DetectionProtocol = DETECTION
    controls: Sequence[DepthControl] = get_args(DepthControl)
    batch_norm: BatchNorm = "running"
    seed: int | None = None

    def check(self, bench: Bench) -> None:
        """Check VOC's files, the proposals and the extractors; name the classes that are left out.

        Raises:
            DataError: A list, an image, its boxes or its proposals are missing or damaged, or no class can be measured.
            SettingError: There is no VOC 2007, the proposals' source cannot be used, or an extractor is unknown, has no
                convolutions or fewer than are frozen, cannot be initialised anew or folded, or cannot take the images.
        """
        from gan_lightning.evaluation.voc.detection import measured_classes
        from gan_lightning.evaluation.voc.detector_training import check_images

        train, test = self._images(bench, TRAIN), self._images(bench, TEST)
        left_out = _left_out(measured_classes(train, test))
        for images in (train, test):
            self.proposals.check([image.path for image in images])
        chosen = chosen_stages(bench, self.extractors, self)
        check_initialised_anew(bench, chosen, self, self.seed, fold=True)
        for name, stages in chosen.items():
            if (most := len(stages)) < self.protocol.frozen_stages:
                condition = f"be at most {most}, the convolutions of {name!r}"
                raise refused(self.protocol, "frozen_stages", condition, self.protocol.frozen_stages)
            try:
                check_images(name, plain_stages(stages).to(bench.device), self.protocol)
            except SettingError as error:
                raise SettingError(
                    f"extractors must name networks that take VOC's images, but {error}", self, self.extractors
                ) from error
        say_left_out(self.name, left_out)

    def metrics(self, bench: Bench) -> Mapping[str, Best | None]:
        """Return the mean average precisions of the trained extractors."""
        return {
            self.figure(metric, 0.0, subject=name).name: "max"
            for name in chosen_stages(bench, self.extractors, self)
            for metric in METRICS.values()
        }

    def run(self, bench: Bench) -> Outcome:
        """Train a detector for each kind of weights, and return the mean average precisions."""
        from gan_lightning.evaluation.voc.detection import detection, measured_classes

        train, test = self._proposed(bench, TRAIN), self._proposed(bench, TEST)
        without = len(train.images) - len(train.with_objects().images)
        figures: list[Figure] = []
        details = {}
        for name, stages in chosen_stages(bench, self.extractors, self).items():
            with bench.statistics({name: bench.networks[name]}, "trained", self.batch_norm):
                rows: dict[FrozenWeights, nn.Sequential] = {"trained": plain_stages(stages)}
            rows |= self._controls(bench, name, train)
            seed = bench.seed_for(self.seed)
            records = detection(
                rows,
                train,
                test,
                protocol=self.protocol,
                seed=seed,
                name=name,
                device=bench.device,
                progress=bench.report,
            )
            figures += [figure for record in records for figure in self._figures(record, name, len(test.images))]
            details[name] = [
                {"weights": record.weights, "loss": record.loss, "average_precisions": record.precisions}
                for record in records
            ]
        about = {
            "left_out": _left_out(measured_classes(train.images, test.images)),
            "training_images_without_objects": without,
            "steps": self.protocol.steps,
        }
        tables = voc_tables(bench, figures, list(details))
        return Outcome(figures, {"extractors": details, **about}, tables=tables)

    def _images(self, bench: Bench, split: str) -> list[BoxedImage]:
        return bench.keep(("voc boxes", self.voc, YEAR, split), lambda: boxed_images(self.voc, YEAR, split))

    def _proposed(self, bench: Bench, split: str) -> "ProposedImages":
        from gan_lightning.evaluation.voc.detector_training import ProposedImages

        images = self._images(bench, split)
        return ProposedImages(images, self.proposals.find([image.path for image in images], bench.report))

    def _controls(self, bench: Bench, name: str, train: "ProposedImages") -> dict[FrozenWeights, nn.Sequential]:
        """Return the convolutions of the controls; "scratch" starts as "random" does, and has no frozen ones."""
        from gan_lightning.evaluation.voc.detector_training import initial_squares

        if not (chosen := self.controls if bench.controls else ()):
            return {}
        fresh, seed = plain_stages(stages_of(bench.control(self.seed).networks[name])), bench.seed_for(self.seed)
        images, _ = initial_squares(train.with_objects(), self.protocol, voc_channels(name, fresh), bench.device, seed)
        batches = [(images, torch.zeros(len(images), dtype=torch.long))]
        return {
            control: control_stages(fresh, images, "kmeans" if control == "kmeans" else "random", batches, seed=seed)
            for control in chosen
        }

    def _figures(self, record: "DetectionRecord", extractor: str, images: int) -> list[Figure]:
        condition = record.weights if record.weights in ("kmeans", "scratch") else ""
        return [
            self.figure(
                metric,
                record.mean(rule),
                subject=extractor,
                weights="trained" if record.weights == "trained" else "random",
                condition=condition,
                images=images,
                seconds=record.seconds,
            )
            for rule, metric in METRICS.items()
        ]
