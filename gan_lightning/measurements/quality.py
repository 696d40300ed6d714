"""The quality of generated images, by the features of a network, beside as many real ones."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from rich.table import Table

from gan_lightning.errors import DataError, at_least, settings_of
from gan_lightning.evaluation.curves import curves_chart, picture_of, shares_chart
from gan_lightning.evaluation.distribution_distances import DISTANCES, MANIFOLD, rank_correlation
from gan_lightning.evaluation.generation import Measured, QualityReference, figure_names
from gan_lightning.evaluation.judges import FeatureNetwork, Judge, SmallClassifier
from gan_lightning.figures import Best, Figure
from gan_lightning.interfaces import GeneratesImages, Split
from gan_lightning.measurements.bench import Bench
from gan_lightning.measurements.codes import class_names
from gan_lightning.measurements.measurement import Measurement, Outcome, Picture

BEST: Mapping[str, Best] = {**dict.fromkeys(DISTANCES, "min"), **dict.fromkeys(MANIFOLD, "max")}
"""Best direction of each figure; the classes' entropies have none."""

REAL, JUDGE = "other_real_images", "judge"
"""Subjects of figures that are not of generated images."""

FEATURES = "transfer"
"""The measurement whose accuracies are drawn beside the quality."""

Curve = dict[int, float]
"""A figure's values by epoch."""


@dataclass(frozen=True, kw_only=True)
class Quality(Measurement):
    """Judges generated images beside as many real ones, by the features of a network; off by default.

    Figures: `quality/<network>/fid`, `kid`, `precision`, `recall`, `density` and `coverage`. A classifier adds two:
    `class_entropy`, the entropy of the classes that it finds in the images, and `image_entropy`, the mean entropy of
    its answers. For comparison, `quality/other_real_images/<network>/...` are the same figures of other real images,
    and `quality/judge/<network>/accuracy` is a classifier's own accuracy. A picture shows each generator's classes. If
    the features' accuracy is measured while training, another one shows quality and accuracy over the epochs.

    Batch norm uses the statistics of training.

    Args:
        enabled: Whether to judge at all.
        every_n_epochs: Epochs between two measurements of the generated images while training; 0 measures after the
            training alone.
        network: The network that gives the features: `SmallClassifier`, trained on the data once and kept, `Inception`,
            whose weights must be on disk, or an `ImportedNetwork` of your own.
        images: Most real images, chosen at random, and generated ones.
        split: Split of the real images. A `SmallClassifier` was trained on the images of `train`.
        neighbours: k of precision, recall, density and coverage; 0 leaves them out.
        seed: Of the choice of the images, of the latents and of KID's subsets; by default the run's.

    Source:
        Heusel et al. 2017 (FID); Bińkowski et al. 2018 (KID); Kynkäänniemi et al. 2019 (precision, recall); Naeem et
        al. 2020 (density, coverage).
    """

    name: ClassVar[str] = "quality"
    needs: ClassVar[tuple[type, ...]] = (GeneratesImages,)
    follows: ClassVar[tuple[str, ...]] = (FEATURES,)

    enabled: bool = False
    network: FeatureNetwork = SmallClassifier()  # noqa: RUF009 (frozen)
    images: int = 10_000
    split: Split = "test"
    neighbours: int = 5
    seed: int | None = None

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            SettingError: One is out of range.
        """
        super().__post_init__()
        at_least(self, 2, images=self.images)
        at_least(self, 0, neighbours=self.neighbours)

    def check(self, bench: Bench) -> None:
        """Get the network and show it the real images.

        Raises:
            DataError: The data declare no images.
            SettingError: The network cannot be had, or there are too few images.
        """
        if bench.without_images():
            raise DataError(
                f"{self.name} needs a data module that declares images, got {bench.described_data}. Use one of "
                "gan_lightning.data, or set its `enabled` to false."
            )
        self._reference(bench)

    def metrics(self, bench: Bench) -> Mapping[str, Best | None]:
        """Return the figures of the generated images."""
        judge = self._judge(bench)
        names = figure_names(judge, self.neighbours)
        return {self.figure(name, 0.0, protocol=_protocol(judge)).name: BEST.get(name) for name in names}

    def run(self, bench: Bench) -> Outcome:
        """Return the figures; with the controls, also the pictures and the correlations with features' accuracies."""
        reference = self._reference(bench)
        measured = reference.measure(bench.generate, bench.report)
        figures = self._figures(reference.judge, measured)
        if not bench.controls:
            return Outcome(figures)
        pictures: dict[str, Picture] = {}
        if measured.classes is not None:
            counts = measured.classes.counts
            columns = class_names(bench.data)
            if len(columns) != len(counts[0]):  # a judge of the user's own may know other classes
                columns = [str(number) for number in range(len(counts[0]))]
            rows = [f"generator {number}" for number in range(len(counts))]
            title = f"Classes of generated images, by {reference.judge.name}"
            pictures["classes"] = picture_of(shares_chart(counts, rows, columns, title))
        together, picture = self._against_features(bench, reference.judge, figures)
        if picture is not None:
            pictures["and-features"] = picture
        details = {
            "judge": {"name": reference.judge.name, **reference.judge.about},
            "generators": reference.generators,
            "generated": _details(measured),
            "other_real_images": None if reference.others is None else _details(reference.others),
            "against_features": together,
        }
        table = quality_table(measured, reference)
        if reference.others is not None:
            figures = [*figures, *self._figures(reference.judge, reference.others, subject=REAL, weights="none")]
        return Outcome([*figures, *self._accuracy(reference.judge)], details, pictures, tables=[table])

    def _judge(self, bench: Bench) -> Judge:
        """Return the network; had once for a training."""
        key = "judge", repr(self.network), str(bench.device)
        return bench.keep(key, lambda: self.network.judge(bench.data, bench.device, bench.report))

    def _reference(self, bench: Bench) -> QualityReference:
        """Return the real images as the network sees them; seen once for a training."""
        judge, generators = self._judge(bench), len(bench.generate(1, self.seed))
        settings = self.images, self.split, self.neighbours, bench.seed_for(self.seed)
        key = "quality", repr(self.network), str(bench.device), generators, *settings

        def make() -> QualityReference:
            with settings_of(self):
                return QualityReference.of(
                    judge,
                    bench.data,
                    split=self.split,
                    images=self.images,
                    generators=generators,
                    neighbours=self.neighbours,
                    seed=bench.seed_for(self.seed),
                    device=bench.device,
                )

        return bench.keep(key, make)

    def _figures(self, judge: Judge, measured: Measured, **more: Any) -> list[Figure]:
        about = {"protocol": _protocol(judge), "split": self.split, "images": measured.quality.images, **more}
        return [self.figure(name, value, **about) for name, value in measured.figures().items()]

    def _accuracy(self, judge: Judge) -> list[Figure]:
        accuracy = judge.about.get("test_accuracy")
        if accuracy is None:
            return []
        about = {"subject": JUDGE, "protocol": _protocol(judge), "weights": "none"}
        return [self.figure("accuracy", accuracy, images=judge.about.get("test_images"), **about)]

    def _against_features(
        self, bench: Bench, judge: Judge, figures: Sequence[Figure]
    ) -> tuple[list[dict[str, Any]], Picture | None]:
        """Return the correlations of FID with the features' accuracies over the epochs, and a picture of both.

        Both are empty if one of them was measured at fewer than two epochs.
        """
        fid = self.figure("fid", 0.0, protocol=_protocol(judge)).name
        fids = _curves(bench, self.name, figures).get(fid, {})
        transfer = bench.outcomes[FEATURES].figures if FEATURES in bench.outcomes else ()
        found = _curves(bench, FEATURES, [figure for figure in transfer if figure.metric == "accuracy"])
        accuracies = {name: curve for name, curve in found.items() if len(curve) > 1 and name.endswith("/accuracy")}
        if len(fids) < 2 or not accuracies:
            return [], None
        panels = {
            f"FID by {judge.name} (lower is better)": {"FID": fids},
            "accuracy on frozen features (higher is better)": {
                " ".join(name.split("/")[1:-1]): curve for name, curve in accuracies.items()
            },
        }
        together = [
            {"quality": fid, "features": name, **asdict(rank_correlation(fids, curve))}
            for name, curve in accuracies.items()
        ]
        return together, picture_of(curves_chart(panels))


def _curves(bench: Bench, measurement: str, figures: Iterable[Figure]) -> dict[str, Curve]:
    """Return the values by epoch of a measurement's figures of trained networks, the present ones included."""
    found: dict[str, Curve] = {}
    earlier = [figure for figure in bench.history if figure.measurement == measurement]
    for figure, epoch in [*((each, each.epoch) for each in earlier), *((each, bench.epoch) for each in figures)]:
        if figure.weights == "trained" and not figure.is_point and epoch is not None:
            found.setdefault(figure.name, {})[epoch] = figure.value
    return found


def _protocol(judge: Judge) -> str:
    """Return a network's name as a part of a figure's name."""
    return "_".join(judge.name.replace("/", " ").split())


def _details(measured: Measured) -> dict[str, Any]:
    """Return the facts that are not figures."""
    counts = None if measured.classes is None else measured.classes.counts
    quality = measured.quality
    return {"features": quality.features, "kid_deviation": quality.kid_deviation, "class_counts": counts}


def quality_table(measured: Measured, reference: QualityReference) -> Table:
    """Return a table with a row per figure, and beside it the same figure of other real images."""
    judge = reference.judge
    accuracy = judge.about.get("test_accuracy")
    about = judge.name if accuracy is None else f"{judge.name} (test accuracy {accuracy:.4f})"
    count = measured.quality.images
    table = Table(
        title=f"Quality of {count:,} generated images beside as many of the {reference.split} split, by {about}"
    )
    table.add_column("Figure", no_wrap=True)
    for column in ("Generated", "Other real images"):
        table.add_column(column, justify="right")
    real = {} if reference.others is None else reference.others.figures()
    for name, value in measured.figures().items():
        table.add_row(name.replace("_", " "), f"{value:.4f}", f"{real[name]:.4f}" if name in real else "-")
    return table
