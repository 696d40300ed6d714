"""The accuracy from frozen features on a labelled data set, beside its controls."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from rich.table import Table
from torch import Tensor

from gan_lightning.errors import DataError, SettingError, at_least
from gan_lightning.evaluation.features import has_statistics
from gan_lightning.evaluation.probes import (
    PAPER,
    TUNED,
    FewShotProbe,
    Judgement,
    ManyRatesProbe,
    NearestProbe,
    PaperProbe,
    Probe,
    TunedProbe,
    WeightedNeighboursProbe,
)
from gan_lightning.evaluation.probes.probe import majority_accuracy
from gan_lightning.figures import CHANCE, PIXELS, Best, Figure, Weights, constructor_arguments
from gan_lightning.interfaces import HasExtractors, Split
from gan_lightning.measurements.bench import BatchNorm, Bench
from gan_lightning.measurements.further_data import bench_of, check_names, check_target
from gan_lightning.measurements.labels import SPLITS, check_labels, class_names, classes_in_one_split
from gan_lightning.measurements.measurement import Measurement, Outcome
from gan_lightning.system.processes import on_first_process

logger = logging.getLogger(__name__)

FRESH, ESTIMATED = "fresh_statistics", "estimated_statistics"
"""Conditions of a random-weights control: batch-norm statistics of a new layer, and of the training images."""


FeatureKind = tuple[Weights, BatchNorm, str]
"""A kind of features: the networks' weights, their batch-norm statistics, and the condition of their figures."""


@dataclass(frozen=True)
class _FeatureSource:
    """A set of features, with the names of its figures."""

    subject: str
    weights: Weights
    condition: str
    train: Tensor
    test: Tensor


@dataclass(frozen=True, kw_only=True)
class Transfer(Measurement):
    """Freezes the extractors and classifies by their features, beside raw pixels, random weights and chance.

    Figures: `transfer/<extractor>/<probe>/accuracy`; of the controls `transfer/<extractor>/<probe>/random_weights/...`,
    `transfer/pixels/<probe>/accuracy` and `transfer/chance/accuracy`. Random weights are judged twice: with the
    batch-norm statistics of a new layer, and with statistics of the training images. The stronger of both is the
    control. Chance is the accuracy of always answering with the most frequent class. Images without a label are left
    out.

    The same is measured on each further data set of `targets`, with its name as the condition:
    `transfer/<extractor>/<probe>/mnist/accuracy`. Probes, controls and estimated batch-norm statistics are then of its
    own training images. A data set without labels is passed over if there are targets.

    Args:
        enabled: Whether to measure at all.
        every_n_epochs: Epochs between two measurements of the trained extractors while they train; 0 measures after the
            training alone.
        paper: The papers' probe; null leaves it out.
        tuned: The tuned linear probe; null leaves it out.
        nearest: The 1-nearest-neighbour accuracy; null leaves it out.
        weighted_neighbours: The weighted vote of nearest neighbours; null leaves it out.
        few_shot: Logistic regression on a few images of each class; null leaves it out.
        many_rates: Linear heads by SGD with many learning rates; null leaves them out.
        probes: Further probes, such as your own.
        random_weights: Whether the same extractors with random weights stand beside them.
        raw_pixels: Whether the images themselves stand beside them.
        batch_norm: Batch-norm statistics of the trained extractors: "running" were gathered in training, "real" are
            estimated on the training images.
        pool: Edge to which maps are averaged before they become features; by default they are taken whole.
        targets: Further labelled data sets, with images of the same size and channels, that the features are judged on.
        seed: Of the heads, of their batches, of the held-out images and of the random weights; by default the run's.

    Source:
        Mao et al. 2022, section 4, steps 4 and 5, and section 3, end (targets far from the source); Donahue et al.
        2017, section 4.2.
    """

    name: ClassVar[str] = "transfer"
    needs: ClassVar[tuple[type, ...]] = (HasExtractors,)
    of_features_alone: ClassVar[bool] = True

    enabled: bool = True
    paper: PaperProbe | None = PAPER
    tuned: TunedProbe | None = TUNED
    nearest: NearestProbe | None = None
    weighted_neighbours: WeightedNeighboursProbe | None = None
    few_shot: FewShotProbe | None = None
    many_rates: ManyRatesProbe | None = None
    probes: Sequence[Probe] = ()
    random_weights: bool = True
    raw_pixels: bool = True
    batch_norm: BatchNorm = "running"
    pool: int | None = None
    targets: Sequence[Any] = ()
    seed: int | None = None

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            SettingError: `pool` or `every_n_epochs` is out of range, two probes or two targets have one name, or a
                target does not declare labelled images.
        """
        super().__post_init__()
        if self.pool is not None:
            at_least(self, 1, pool=self.pool)
        for probe in self.all_probes:
            if not isinstance(getattr(probe, "name", None), str):
                raise SettingError(
                    f"probes must have names, which their figures are called by, got {type(probe).__name__} without "
                    "one. Give the class an attribute `name`.",
                    self,
                )
        names = [probe.name for probe in self.all_probes]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise SettingError(f"probes must have names of their own, got {twice[0]!r} twice.", self)
        check_names(self.targets, reserved=(FRESH, ESTIMATED))

    @property
    def all_probes(self) -> list[Probe]:
        """The probes, in the order of their figures."""
        own: list[Probe | None] = [self.paper, self.tuned, self.nearest]
        own += [self.weighted_neighbours, self.few_shot, self.many_rates]
        return [probe for probe in (*own, *self.probes) if probe is not None]

    def passes_over(self, bench: Bench) -> str | None:
        """Return why there is nothing to measure: no probe, or no extractors."""
        return super().passes_over(bench) or ("all its probes are left out" if not self.all_probes else None)

    def check(self, bench: Bench) -> None:
        """Check labels, probes, extractors and controls.

        Raises:
            DataError: A split has no labels, there are fewer than two classes, or a target cannot be read.
            SettingError: A probe cannot be fitted to the labels, an extractor cannot be used, a target has images of
                another size, or there can be no random-weights control.
        """
        if self.random_weights and bench.controls and bench.networks:
            bench.control(self.seed)  # fails now if it would fail after the training
        for target in self.targets:
            check_target(bench, target)
        for _, each in self._benches(bench):
            check_labels(each, self.name)
            for probe in self.all_probes:
                if isinstance(probe, Probe) and type(probe).check is not Probe.check:
                    probe.check(each.labels("train"), class_names(each.data))
            each.check_networks()

    def stated_settings(self) -> dict[str, Any]:
        """Return the settings; of each target those that it was made with, by its name."""
        targets = {each.name: {"class": type(each).__name__} | constructor_arguments(each) for each in self.targets}
        return super().stated_settings() | {"targets": targets}

    def _judges_own_data(self, bench: Bench) -> bool:
        """Return whether the run's own data set is measured on: without labels it is left to the targets."""
        return not self.targets or bool(bench.without_images()) or bench.data.label_kind != "none"

    def _benches(self, bench: Bench) -> Iterator[tuple[str, Bench]]:
        """Yield the bench of each data set after the condition of its figures: none for the run's own."""
        if self._judges_own_data(bench):
            yield "", bench
        for each in self.targets:
            yield each.name, bench_of(bench, each, self.seed, self.random_weights)

    def metrics(self, bench: Bench) -> Mapping[str, Best | None]:
        """Return the accuracies of the trained extractors."""
        conditions = [*([""] if self._judges_own_data(bench) else []), *(each.name for each in self.targets)]
        names = [
            self.figure("accuracy", 0.0, subject=each, protocol=probe.name, condition=condition).name
            for condition in conditions
            for probe in self.all_probes
            for each in bench.networks
        ]
        return dict.fromkeys(names, "max")

    def run(self, bench: Bench) -> Outcome:
        """Return the accuracies of extractors and controls, on each data set."""
        alone = replace(self, targets=())
        found = {name: each.run(alone) if name else self._outcome(each) for name, each in self._benches(bench)}
        figures = [
            replace(figure, condition="/".join(filter(None, (condition, figure.condition))))
            for condition, outcome in found.items()
            for figure in outcome.figures
        ]
        details = dict(found[""].details) if "" in found else {}
        if self.targets:
            details["targets"] = {name: outcome.details for name, outcome in found.items() if name}
        return Outcome(figures, details, tables=[table for outcome in found.values() for table in outcome.tables])

    def _outcome(self, bench: Bench) -> Outcome:
        """Return the accuracies on the data set of a bench."""
        sources, labels = self._sources(bench)
        named = {f"{each.subject} ({each.weights}{each.condition and ', '}{each.condition})": each for each in sources}

        def judge() -> list[tuple[str, dict[str, Judgement]]]:
            return [
                (
                    probe.name,
                    probe.judge(
                        {name: source.train for name, source in named.items()},
                        labels["train"],
                        {name: source.test for name, source in named.items()},
                        labels["test"],
                        num_classes=bench.data.num_classes,
                        seed=bench.seed_for(self.seed),
                        report=bench.report,
                    ),
                )
                for probe in self.all_probes
            ]

        judged = on_first_process(judge)
        images = len(labels["test"])
        figures = [
            figure
            for probe, judgements in judged
            for name, judgement in judgements.items()
            for figure in self._figures(named[name], probe, judgement, images)
        ]
        if bench.controls:
            figures = [*stronger_controls(figures), self._chance(labels, images)]
        details = {
            "features": {source.subject: source.train.shape[1] for source in sources},
            "found": {
                probe: {name: each.details for name, each in found.items() if each.details} for probe, found in judged
            },
            "classes_in_one_split_only": classes_in_one_split(bench, labels["train"], labels["test"]),
        }
        return Outcome(figures, details, tables=[self._table(bench, figures)])

    def _sources(self, bench: Bench) -> tuple[list[_FeatureSource], dict[Split, Tensor]]:
        """Return all sets of features in the order of their figures, and the labels."""
        kinds: list[FeatureKind] = [("trained", self.batch_norm, "")]
        if bench.controls and self.random_weights:
            kinds += random_kinds(bench, self.seed)
        if bench.controls and self.raw_pixels:
            kinds += [("none", "running", "")]
        sources: list[_FeatureSource] = []
        labels: dict[Split, Tensor] = {}
        for weights, batch_norm, condition in kinds:
            found = {
                split: bench.features(
                    split, weights=weights, batch_norm=batch_norm, seed=self.seed, pool=self.pool
                ).known()
                for split in SPLITS
            }
            labels = {split: each.labels for split, each in found.items()}
            sources += [
                _FeatureSource(name, weights, condition, train, found["test"].matrices[name])
                for name, train in found["train"].matrices.items()
            ]
        for split, known in labels.items():
            if not len(known):
                raise DataError(f"{bench.data.name}: at least one {split} image must have a label, got none.")
        return sources, labels

    def _figures(self, source: _FeatureSource, probe: str, judgement: Judgement, images: int) -> list[Figure]:
        about = {"subject": source.subject, "protocol": probe, "weights": source.weights, "images": images}
        about |= {"condition": source.condition}
        return [
            self.figure("accuracy", judgement.accuracy, seconds=judgement.seconds, **about),
            *(
                self.figure("accuracy", accuracy, axis=judgement.axis, at=float(at), **about)
                for at, accuracy in judgement.curve.items()
            ),
        ]

    def _chance(self, labels: Mapping[Split, Tensor], images: int) -> Figure:
        accuracy = majority_accuracy(labels["train"], labels["test"])
        return self.figure("accuracy", accuracy, subject=CHANCE, weights="none", images=images)

    def _table(self, bench: Bench, figures: Sequence[Figure]) -> Table:
        """Return a table with a row per extractor and probe, the controls and the printed figures beside it."""
        values = {figure.name: figure.value for figure in figures if not figure.is_point}
        printed = {name: figure.value for name, figure in bench.published.items() if name in values}
        table = Table(title=f"Transfer on {bench.data.name}: accuracy on frozen features")
        for column in ("Extractor", "Probe"):
            table.add_column(column, no_wrap=True)
        controls = ("Random weights", "Raw pixels", "Chance") if bench.controls else ()
        for column in ("Accuracy", *controls, *(("Paper",) if printed else ()), "Seconds"):
            table.add_column(column, justify="right")
        for figure in figures:
            if figure.weights != "trained" or figure.is_point:
                continue
            names = [figure.name]
            if controls:
                pixels = replace(figure, subject=PIXELS, weights="none")
                chance = replace(pixels, subject=CHANCE, protocol="")
                names += [each.name for each in (replace(figure, weights="random"), pixels, chance)]
            beside = [values.get(name) for name in names] + ([printed.get(figure.name)] if printed else [])
            cells = ("-" if value is None else f"{value:.4f}" for value in beside)
            table.add_row(figure.subject, figure.protocol, *cells, f"{figure.seconds or 0:.1f}")
        return table


def random_kinds(bench: Bench, seed: int | None) -> list[FeatureKind]:
    """Return the kinds of features of networks with random weights: a kind for each batch-norm statistics."""
    if not any(has_statistics(network) for network in bench.control(seed).networks.values()):
        return [("random", "running", "")]
    return [("random", "running", FRESH), ("random", "real", ESTIMATED)]


def kinds_with_one_control(bench: Bench, batch_norm: BatchNorm, seed: int | None) -> list[tuple[Weights, BatchNorm]]:
    """Return the trained networks' kind and, with the bench's controls, that of random weights.

    Batch norm of the control has statistics of the training images.

    Args:
        bench: With the networks.
        batch_norm: Statistics of the trained ones.
        seed: Of the random weights; by default the run's.
    """
    kinds: list[tuple[Weights, BatchNorm]] = [("trained", batch_norm)]
    if bench.controls and (random := bench.control(seed).networks):
        kinds.append(("random", "real" if any(map(has_statistics, random.values())) else "running"))
    return kinds


def stronger_controls(figures: Sequence[Figure]) -> list[Figure]:
    """Return the figures, and for each pair of random-weights controls the stronger one without a condition."""
    found: list[Figure] = []
    for figure in figures:
        found.append(figure)
        if figure.condition != ESTIMATED or figure.is_point:
            continue
        pair = [
            each
            for each in figures
            if (each.subject, each.protocol) == (figure.subject, figure.protocol) and each.weights == "random"
        ]
        alone = max((each for each in pair if not each.is_point), key=lambda each: each.value)
        found += [replace(each, condition="") for each in pair if each.condition == alone.condition]
    return found
