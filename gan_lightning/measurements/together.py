"""The accuracy from the features of two extractors at once: does one have what the other lacks?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar

import torch
from rich.table import Table
from torch import Tensor

from gan_lightning.errors import at_least, refused
from gan_lightning.evaluation.probes import TUNED, TunedProbe
from gan_lightning.figures import Best, Figure, Weights
from gan_lightning.interfaces import HasExtractors
from gan_lightning.measurements.bench import BatchNorm, Bench
from gan_lightning.measurements.labels import SPLITS, check_labels
from gan_lightning.measurements.measurement import Measurement, Outcome
from gan_lightning.measurements.transfer import random_kinds
from gan_lightning.system.processes import on_first_process

Pair = tuple[str, str]
"""Names of two extractors."""


@dataclass(frozen=True)
class _Joined:
    """Features that a probe is fitted to: one extractor's, or two extractors' side by side.

    Attributes:
        subject: The trained extractors, joined by a plus.
        random: The extractor that has random weights instead; empty if none has.
        parts: Features of the training split and of the test split, of each extractor.
    """

    subject: str
    random: str
    parts: Sequence[tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Together(Measurement):
    """Fits a probe to the features of two extractors side by side, beside each alone; off by default.

    Does D know anything that C does not know? A probe on more features is often better, whatever the features are. The
    features of both are therefore compared with C's beside those of a D with random weights: as many, but untrained.

    Figures of D and C, for example: `together/discriminator+classifier/tuned/accuracy` of both,
    `together/classifier/tuned/accuracy` of one alone,
    `together/discriminator+classifier/tuned/random_weights/discriminator/accuracy` of C's and a random D's features,
    and `together/discriminator+classifier/tuned/random_weights/discriminator/gain`, the accuracy of both minus the last
    one: what D adds to C, beyond the number of its features. Of random weights with the batch-norm statistics of a new
    layer and with those of the training images, the better ones count.

    Args:
        enabled: Whether to measure at all.
        every_n_epochs: Epochs between two measurements of the trained extractors while they train; 0 measures after the
            training alone.
        extractors: Names of the extractors, each pair of which is measured; by default all.
        tuned: The probe. It standardises the features, so the scales of the two do not matter.
        batch_norm: Batch-norm statistics of the trained extractors: "running" were gathered in training, "real" are
            estimated on the training images.
        pool: Edge to which maps are averaged before they become features; by default they are taken whole.
        seed: Of the held-out images and of the random weights; by default the run's.

    Source:
        Mao et al. 2022, section 4: the useful information of the discriminator is contained in the classifier's.
    """

    name: ClassVar[str] = "together"
    needs: ClassVar[tuple[type, ...]] = (HasExtractors,)

    enabled: bool = False
    extractors: Sequence[str] = ()
    tuned: TunedProbe = TUNED
    batch_norm: BatchNorm = "running"
    pool: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            SettingError: `pool` or `every_n_epochs` is out of range, or a single extractor is named.
        """
        super().__post_init__()
        if self.pool is not None:
            at_least(self, 1, pool=self.pool)
        if len(self.extractors) == 1 or len(set(self.extractors)) < len(self.extractors):
            raise refused(self, "extractors", "name two extractors or more, each once", list(self.extractors))

    def passes_over(self, bench: Bench) -> str | None:
        """Return why there is nothing to measure: there are not two extractors."""
        reason = super().passes_over(bench)
        if reason is None and len(bench.networks) < 2:
            return f"{bench.subject} has one extractor, and it takes two"
        return reason

    def check(self, bench: Bench) -> None:
        """Check labels, extractors and controls.

        Raises:
            DataError: A split has no labels, or there are fewer than two classes.
            SettingError: An extractor is unknown or cannot be used, or there can be no random-weights control.
        """
        check_labels(bench, self.name)
        if unknown := sorted(set(self.extractors) - bench.networks.keys()):
            raise refused(self, "extractors", "name extractors", unknown, f"Choose from {sorted(bench.networks)}.")
        bench.check_networks()
        if bench.controls:
            bench.control(self.seed)  # fails now if it would fail after the training

    def metrics(self, bench: Bench) -> Mapping[str, Best | None]:
        """Return the accuracies of the trained extractors, alone and in pairs."""
        subjects = [*self._names(bench), *map("+".join, self._pairs(bench))]
        return {self._figure(subject, 0.0).name: "max" for subject in subjects}

    def run(self, bench: Bench) -> Outcome:
        """Return the accuracies of each extractor, of each pair, and of each pair's controls."""
        names, pairs = self._names(bench), self._pairs(bench)
        trained, labels = self._features(bench, names, "trained", self.batch_norm)
        sets = [_Joined(name, "", [trained[name]]) for name in names]
        sets += [_Joined("+".join(pair), "", [trained[name] for name in pair]) for pair in pairs]
        if bench.controls:
            of_control = [name for name in names if name in bench.control(self.seed).networks]
            for weights, batch_norm, _ in random_kinds(bench, self.seed):
                random, _ = self._features(bench, of_control, weights, batch_norm)
                sets += [
                    _Joined("+".join(pair), changed, [(random if name == changed else trained)[name] for name in pair])
                    for pair in pairs
                    for changed in pair
                    if changed in random
                ]
        accuracies = on_first_process(lambda: self._accuracies(bench, sets, *labels))
        found: dict[tuple[str, str], float] = {}
        for each, accuracy in zip(sets, accuracies, strict=True):
            key = each.subject, each.random
            found[key] = max(found.get(key, 0.0), accuracy)
        images = len(labels[1])
        figures = []
        for (subject, random_one), accuracy in found.items():
            if not random_one:
                figures.append(self._figure(subject, accuracy, images=images))
                continue
            about: dict[str, Any] = {"images": images, "weights": "random", "condition": random_one}
            gain = found[subject, ""] - accuracy
            figures += [self._figure(subject, accuracy, **about), self._figure(subject, gain, "gain", **about)]
        tables = [self._table(bench, pairs, found)] if bench.controls else []
        return Outcome(figures, {"features": {name: trained[name][0].shape[1] for name in names}}, tables=tables)

    def _names(self, bench: Bench) -> list[str]:
        return list(self.extractors or bench.networks)

    def _pairs(self, bench: Bench) -> list[Pair]:
        return list(combinations(self._names(bench), 2))

    def _features(
        self, bench: Bench, names: Sequence[str], weights: Weights, batch_norm: BatchNorm
    ) -> tuple[dict[str, tuple[Tensor, Tensor]], tuple[Tensor, Tensor]]:
        """Return the features of training and test images under the extractors' names, and the images' labels."""
        train, test = (
            bench.features(split, names, weights=weights, batch_norm=batch_norm, seed=self.seed, pool=self.pool).known()
            for split in SPLITS
        )
        return {name: (train.matrices[name], test.matrices[name]) for name in names}, (train.labels, test.labels)

    def _accuracies(self, bench: Bench, sets: Sequence[_Joined], train: Tensor, test: Tensor) -> list[float]:
        """Return the probe's accuracy on each set of features. Only one set is joined at a time."""
        found = []
        for done, each in enumerate(sets, start=1):
            of_train, of_test = (torch.cat(parts, dim=1) for parts in zip(*each.parts, strict=True))
            name = f"{each.subject}, {each.random} with random weights" if each.random else each.subject
            found.append(
                self.tuned.accuracy(
                    of_train,
                    train,
                    of_test,
                    test,
                    num_classes=bench.data.num_classes,
                    seed=bench.seed_for(self.seed),
                    name=name,
                )
            )
            bench.report("probes on two extractors together", done, len(sets))
        return found

    def _figure(self, subject: str, value: float, metric: str = "accuracy", **more: Any) -> Figure:
        return self.figure(metric, value, subject=subject, protocol=self.tuned.name, **more)

    def _table(self, bench: Bench, pairs: Sequence[Pair], found: Mapping[tuple[str, str], float]) -> Table:
        table = Table(title=f"Together on {bench.data.name}: accuracy on the features of two extractors")
        for column in ("Extractor", "and"):
            table.add_column(column, no_wrap=True)
        for column in ("First alone", "Second alone", "Both", "First random", "Second random"):
            table.add_column(column, justify="right")
        for first, second in pairs:
            both = f"{first}+{second}"
            values = [found.get(key) for key in ((first, ""), (second, ""), (both, ""), (both, first), (both, second))]
            table.add_row(first, second, *("-" if value is None else f"{value:.4f}" for value in values))
        return table
