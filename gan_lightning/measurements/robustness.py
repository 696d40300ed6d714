"""The accuracy from frozen features of disturbed images: with noise, blurred, covered, or spoiled in other ways."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from rich.table import Table
from torch import Tensor

from gan_lightning.errors import at_least, refused
from gan_lightning.evaluation.disturbances import DISTURBANCES, MOST
from gan_lightning.evaluation.features import extract_features
from gan_lightning.evaluation.pictures import rows_picture
from gan_lightning.evaluation.probes import TUNED, LogisticProbe, TunedProbe, logistic_probe
from gan_lightning.evaluation.probes.probe import accuracy
from gan_lightning.evaluation.tensors import TensorBatches
from gan_lightning.figures import Best, Figure, Weights
from gan_lightning.interfaces import HasExtractors, Images, Labels
from gan_lightning.measurements.bench import BatchNorm, Bench
from gan_lightning.measurements.labels import check_labels
from gan_lightning.measurements.measurement import Measurement, Outcome
from gan_lightning.measurements.transfer import FeatureKind, random_kinds
from gan_lightning.system.processes import on_first_process, process_count, process_rank

AT_ONCE = 500
"""Images that extractors see at a time."""

CLEAN = "clean"
"""Condition of the figures of images as they are."""

DRAWN = 6
"""Images in the picture."""


@dataclass(frozen=True)
class _Judged:
    """The accuracies of one extractor with one kind of weights.

    Attributes:
        clean: On images as they are.
        disturbed: At each strength of each kind of disturbance.
    """

    subject: str
    weights: Weights
    condition: str
    clean: float
    disturbed: Mapping[str, Mapping[float, float]]


@dataclass(frozen=True, kw_only=True)
class Robustness(Measurement):
    """Fits a probe to the features of clean images, and names disturbed test images with it; off by default.

    Figures: `robustness/<extractor>/tuned/clean/accuracy`, and for each kind of disturbance
    `robustness/<extractor>/tuned/noise/accuracy`, a curve over the strengths; its single value is the mean over the
    strengths. `.../noise/drop` is the clean accuracy minus this mean. The same disturbed images are named by the raw
    pixels and by the same extractors with random weights. Of random weights with the batch-norm statistics of a new
    layer and with those of the training images, the ones with the higher clean accuracy count.

    Args:
        enabled: Whether to measure at all.
        every_n_epochs: Epochs between two measurements of the trained extractors while they train; 0 measures after the
            training alone.
        noise: Standard deviations of normal noise in each pixel; black and white are 2 apart. Null leaves noise out.
        blur: Standard deviations of a Gaussian blur, pixels. Null leaves blur out.
        occlusion: Edges of a grey square at a random place, as shares of the image's edge. Null leaves it out.
        speckles: Shares of values made black or white. CIFAR-10-C has 0.01, 0.02, 0.03, 0.05, 0.07.
        contrast: Losses of contrast, shares. CIFAR-10-C has 0.25, 0.5, 0.6, 0.7, 0.85.
        brightness: Added to each pixel's value, in [0, 1]. CIFAR-10-C has 0.05, 0.1, 0.15, 0.2, 0.3.
        pixels: Losses of resolution, shares of the edge. CIFAR-10-C has 0.05, 0.1, 0.15, 0.25, 0.35.
        jpeg: 100 minus JPEG's quality. CIFAR-10-C has 20, 35, 42, 50, 60.
        tuned: The probe.
        images: Most test images.
        batch_norm: Batch-norm statistics of the trained extractors: "running" were gathered in training, "real" are
            estimated on the training images.
        pool: Edge to which maps are averaged before they become features; by default they are taken whole.
        seed: Of the disturbances, of the held-out images and of the random weights; by default the run's.

    Source:
        Mao et al. 2022, Theorem 1: features that "get rid of the influence of noise and be more robust"; Hendrycks and
        Dietterich 2019 for the last five kinds.
    """

    name: ClassVar[str] = "robustness"
    needs: ClassVar[tuple[type, ...]] = (HasExtractors,)

    enabled: bool = False
    noise: tuple[float, ...] | None = (0.2, 0.4, 0.8)
    blur: tuple[float, ...] | None = (0.5, 1.0, 2.0)
    occlusion: tuple[float, ...] | None = (0.25, 0.375, 0.5)
    speckles: tuple[float, ...] | None = None
    contrast: tuple[float, ...] | None = None
    brightness: tuple[float, ...] | None = None
    pixels: tuple[float, ...] | None = None
    jpeg: tuple[float, ...] | None = None
    tuned: TunedProbe = TUNED
    images: int = 10_000
    batch_norm: BatchNorm = "running"
    pool: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            SettingError: One is out of range, or every kind of disturbance is left out.
        """
        super().__post_init__()
        at_least(self, 1, images=self.images)
        if self.pool is not None:
            at_least(self, 1, pool=self.pool)
        for kind in DISTURBANCES:
            strengths = getattr(self, kind)
            if strengths is None:
                continue
            if not strengths or len(set(strengths)) < len(strengths):
                raise refused(self, kind, "hold at least one number, each once", strengths, "Null leaves it out.")
            for strength in strengths:
                at_least(self, 0, **{kind: strength})
                if strength > MOST.get(kind, strength):
                    raise refused(self, kind, f"be at most {MOST[kind]}", strength)
        if not self._strengths:
            raise refused(self, "noise", "hold a number where all other kinds are left out", None, "0.2 is usual.")

    @property
    def _strengths(self) -> dict[str, tuple[float, ...]]:
        """The strengths of each kind of disturbance that is not left out."""
        strengths = {kind: getattr(self, kind) for kind in DISTURBANCES}
        return {kind: each for kind, each in strengths.items() if each is not None}

    def check(self, bench: Bench) -> None:
        """Check labels, extractors and controls.

        Raises:
            DataError: A split has no labels, or there are fewer than two classes.
            SettingError: An extractor cannot be used, or there can be no random-weights control.
        """
        check_labels(bench, self.name)
        bench.check_networks()
        if bench.controls:
            bench.control(self.seed)  # fails now if it would fail after the training

    def metrics(self, bench: Bench) -> Mapping[str, Best | None]:
        """Return the figures of the trained extractors."""
        names: dict[str, Best | None] = {}
        for subject in bench.networks:
            about = {"subject": subject, "protocol": self.tuned.name}
            names[self.figure("accuracy", 0.0, condition=CLEAN, **about).name] = "max"
            for kind in self._strengths:
                names[self.figure("accuracy", 0.0, condition=kind, **about).name] = "max"
                names[self.figure("drop", 0.0, condition=kind, **about).name] = "min"
        return names

    def run(self, bench: Bench) -> Outcome:
        """Return the accuracies of extractors and controls, and a picture of disturbed images."""
        images, labels = bench.images("test", self.images, labelled=True)
        kinds: list[FeatureKind] = [("trained", self.batch_norm, "")]
        if bench.controls:
            kinds += [*random_kinds(bench, self.seed), ("none", "running", "")]
        judged = [each for kind in kinds for each in self._judged(bench, kind, images, labels)]
        random = [each for each in judged if each.weights == "random"]
        found = [each for each in judged if each.weights != "random"] + _stronger(random)
        figures = [figure for each in found for figure in self._figures(each, len(labels))]
        if not bench.controls:
            return Outcome(figures)
        controls = [{"extractor": each.subject, "condition": each.condition, "clean": each.clean} for each in random]
        columns = [images[:DRAWN], *(disturbed for *_, disturbed in self._disturbed(bench, images[:DRAWN]))]
        picture = rows_picture(torch.stack(columns, dim=1))
        return Outcome(figures, {"random_weights": controls}, {"": picture}, tables=[self._table(bench, found)])

    def _disturbed(self, bench: Bench, images: Images) -> Iterator[tuple[str, float, Images]]:
        """Yield the images at each strength of each kind of disturbance."""
        for kind, strengths in self._strengths.items():
            for strength in strengths:
                yield kind, strength, DISTURBANCES[kind](images, strength, bench.seed_for(self.seed))

    def _judged(self, bench: Bench, kind: FeatureKind, images: Images, labels: Labels) -> list[_Judged]:
        """Return the accuracies of all extractors with one kind of weights."""
        weights, batch_norm, condition = kind
        train = bench.features("train", weights=weights, batch_norm=batch_norm, seed=self.seed, pool=self.pool).known()
        networks = bench.sources(weights, self.seed)
        probes: dict[str, LogisticProbe] = {}  # on the first process alone

        def extracted(shown: Images, said: str) -> Mapping[str, Tensor]:
            mine = [each.tensor_split(process_count())[process_rank()] for each in (shown, labels)]
            batches = bench.watched(TensorBatches(mine[0], mine[1], AT_ONCE), f"{said} images, {weights} weights")
            return extract_features(networks, batches, pool=self.pool)[0]

        def fit(clean: Mapping[str, Tensor]) -> dict[str, float]:
            for done, (name, features) in enumerate(clean.items(), start=1):
                probes[name] = logistic_probe(
                    train.matrices[name],
                    train.labels,
                    features,
                    labels,
                    num_classes=bench.data.num_classes,
                    protocol=self.tuned,
                    seed=bench.seed_for(self.seed),
                    name=name,
                )
                bench.report(f"probes: {self.tuned.name}", done, len(clean))
            return {name: probe.accuracy for name, probe in probes.items()}

        def named(features: Mapping[str, Tensor]) -> dict[str, float]:
            return {name: accuracy(probe.classify(features[name]), labels) for name, probe in probes.items()}

        with bench.statistics(networks, weights, batch_norm, self.seed):
            clean = on_first_process(partial(fit, extracted(images, CLEAN)))
            found: dict[str, dict[str, dict[float, float]]] = {name: {} for name in networks}
            for disturbance, strength, shown in self._disturbed(bench, images):
                features = extracted(shown, f"{disturbance} {strength:g}")
                for name, value in on_first_process(partial(named, features)).items():
                    found[name].setdefault(disturbance, {})[strength] = value
        return [_Judged(name, weights, condition, clean[name], found[name]) for name in networks]

    def _figures(self, judged: _Judged, images: int) -> list[Figure]:
        about = {"subject": judged.subject, "protocol": self.tuned.name, "weights": judged.weights, "images": images}
        found = [self.figure("accuracy", judged.clean, condition=CLEAN, **about)]
        for kind, accuracies in judged.disturbed.items():
            mean = _mean(accuracies)
            found += [
                self.figure("accuracy", mean, condition=kind, **about),
                self.figure("drop", judged.clean - mean, condition=kind, **about),
                *(
                    self.figure("accuracy", value, condition=kind, axis="strength", at=strength, **about)
                    for strength, value in accuracies.items()
                ),
            ]
        return found

    def _table(self, bench: Bench, judged: Sequence[_Judged]) -> Table:
        table = Table(title=f"Robustness on {bench.data.name}: accuracy on disturbed images, mean over the strengths")
        for column in ("Extractor", "Weights"):
            table.add_column(column, no_wrap=True)
        for column in (CLEAN, *self._strengths):
            table.add_column(column.capitalize(), justify="right")
        for each in judged:
            accuracies = [each.clean, *map(_mean, each.disturbed.values())]
            table.add_row(each.subject, each.weights, *(f"{value:.4f}" for value in accuracies))
        return table


def _mean(accuracies: Mapping[float, float]) -> float:
    return sum(accuracies.values()) / len(accuracies)


def _stronger(random: Sequence[_Judged]) -> list[_Judged]:
    """Return of each extractor's controls the one with the higher clean accuracy."""
    best: dict[str, _Judged] = {}
    for each in random:
        if each.subject not in best or each.clean > best[each.subject].clean:
            best[each.subject] = each
    return list(best.values())
