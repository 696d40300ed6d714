"""How many directions the features use: RankMe and the decay of their spectrum, without labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from rich.table import Table

from gan_lightning.errors import at_least
from gan_lightning.evaluation.spectra import power_law_exponent, rank_me
from gan_lightning.figures import Best
from gan_lightning.interfaces import HasExtractors, Split
from gan_lightning.measurements.bench import BatchNorm, Bench
from gan_lightning.measurements.labels import check_images
from gan_lightning.measurements.measurement import Measurement, Outcome
from gan_lightning.measurements.transfer import FeatureKind, random_kinds


@dataclass(frozen=True, kw_only=True)
class FeatureSpectrum(Measurement):
    """Measures the spectrum of frozen features, without labels; off by default.

    Figures: `spectrum/<extractor>/effective_rank` (RankMe), from 1 for features on one line to the smaller of the
    numbers of features and images; and `spectrum/<extractor>/exponent` (α-ReQ), the α of eigenvalues that fall as
    rank^(-α): near 1 for features that are neither flat nor on a few directions. Beside them stand those of the pixels
    (`spectrum/pixels/...`) and of random weights (`.../random_weights/fresh_statistics/...`,
    `.../random_weights/estimated_statistics/...`). A higher rank or an α near 1 is no proof of better features: both
    were found to go along with accuracy among networks of self-supervised learning.

    Args:
        enabled: Whether to measure at all.
        every_n_epochs: Epochs between two measurements of the trained extractors while they train; 0 measures after the
            training alone.
        images: Most images, the first of the split. Ranks of different numbers of images cannot be compared.
        split: Split of the images.
        batch_norm: Batch-norm statistics of the trained extractors: "running" were gathered in training, "real" are
            estimated on the training images.
        pool: Edge to which maps are averaged before they become features; by default they are taken whole.
        seed: Of the random weights; by default the run's.

    Source:
        Garrido et al. 2023, equation (1); Agrawal et al. 2022, section 3.
    """

    name: ClassVar[str] = "spectrum"
    needs: ClassVar[tuple[type, ...]] = (HasExtractors,)

    enabled: bool = False
    images: int = 2000
    split: Split = "test"
    batch_norm: BatchNorm = "running"
    pool: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            SettingError: One is out of range.
        """
        super().__post_init__()
        at_least(self, 2, images=self.images)
        if self.pool is not None:
            at_least(self, 1, pool=self.pool)

    def passes_over(self, bench: Bench) -> str | None:
        """Return why there is nothing to measure: no extractors, or no images."""
        return super().passes_over(bench) or bench.without_images()

    def check(self, bench: Bench) -> None:
        """Check images, extractors and controls.

        Raises:
            DataError: There are fewer than two images.
            SettingError: An extractor cannot be used, or there can be no random-weights control.
        """
        check_images(bench, self.split, 2)
        check_images(bench, "train", 2)  # for the controls' batch norm
        bench.check_networks()
        if bench.controls:
            bench.control(self.seed)  # fails now if it would fail after the training

    def metrics(self, bench: Bench) -> Mapping[str, Best | None]:
        """Return the ranks of the trained extractors; no direction is the best."""
        metrics = ("effective_rank", "exponent")
        return {self.figure(metric, 0.0, subject=name).name: None for name in bench.networks for metric in metrics}

    def run(self, bench: Bench) -> Outcome:
        """Return the figures of extractors and controls."""
        kinds: list[FeatureKind] = [("trained", self.batch_norm, "")]
        if bench.controls:
            kinds += [*random_kinds(bench, self.seed), ("none", "running", "")]
        sources = []
        for weights, batch_norm, condition in kinds:
            found = bench.features(self.split, weights=weights, batch_norm=batch_norm, seed=self.seed, pool=self.pool)
            sources += [(name, weights, condition, each[: self.images]) for name, each in found.matrices.items()]
        figures, table = [], self._table(bench)
        for done, (name, weights, condition, matrix) in enumerate(sources, start=1):
            values = {"effective_rank": rank_me(matrix), "exponent": power_law_exponent(matrix)}
            about = {"subject": name, "weights": weights, "condition": condition, "split": self.split}
            figures += [self.figure(metric, each, images=len(matrix), **about) for metric, each in values.items()]
            words = " ".join(filter(None, (weights, condition.replace("_", " "))))
            table.add_row(name, words, f"{values['effective_rank']:.1f}", f"{values['exponent']:.2f}")
            bench.report("spectra", done, len(sources))
        return Outcome(figures, tables=[table])

    def _table(self, bench: Bench) -> Table:
        table = Table(title=f"Spectrum of the features on {bench.data.name}, {self.split} images")
        for column in ("Features", "Weights"):
            table.add_column(column, no_wrap=True)
        for column in ("Effective rank", "Exponent"):
            table.add_column(column, justify="right")
        return table
