"""The two parts of features: the part that their own head sees, and the part that it does not see."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Int64
from rich.table import Table
from torch import Tensor, nn

from gan_lightning.errors import DataError, SettingError, at_least, refused, settings_of
from gan_lightning.evaluation.curves import picture_of
from gan_lightning.evaluation.features import check_extractor, extract_features
from gan_lightning.evaluation.probes import TUNED
from gan_lightning.evaluation.tensors import TensorBatches
from gan_lightning.figures import Best, Figure
from gan_lightning.interfaces import GeneratesImages, HasExtractors, HasHeads, LinearHead, Split
from gan_lightning.measurements.bench import BatchNorm, Bench
from gan_lightning.measurements.labels import SPLITS, check_labels
from gan_lightning.measurements.measurement import Measurement, Outcome
from gan_lightning.nets.resizing import resized
from gan_lightning.papers.mgan.anatomy_chart import anatomy_chart
from gan_lightning.papers.mgan.anatomy_record import AnatomyRecord, evaluate_anatomy
from gan_lightning.papers.mgan.null_space import SHARES, SplitFeatures, Weights, check_tolerance
from gan_lightning.papers.mgan.part_accuracies import ACCURACIES
from gan_lightning.papers.mgan.theorems import Prediction, predictions
from gan_lightning.system.processes import process_count, process_rank

logger = logging.getLogger(__name__)

GENERATED_AT_ONCE = 200
"""Images that the generators make in one pass."""


@dataclass(frozen=True)
class _AnatomySource:
    """The heads of one kind of weights, and the networks that give their features."""

    weights: Weights
    heads: Mapping[str, LinearHead]
    networks: Mapping[str, nn.Module]
    batch_norm: BatchNorm


@dataclass(frozen=True, kw_only=True)
class Anatomy(Measurement):
    """Splits features into the part that their own head sees and the part that it does not see, and measures both.

    Each extractor with a head is measured on real and on generated images. The figures are the row space's shares of
    all variance between images, of the variance within classes and of the variance between classes. `probes` adds the
    tuned linear probe's accuracies on f, f_row and f_null, and measures random weights, too. The class of a generated
    image is its generator. Random weights have the batch-norm statistics of the training images. With probes there is a
    third kind of images: as many real ones as generated ones, which are the two classes. The probes are also fitted to
    the part of f in random subspaces of the row space's dimension, and to f without that part.

    Figures: `anatomy/<extractor>/<images>/<metric>` and, of random weights,
    `anatomy/<extractor>/random_weights/<images>/<metric>`; the images are `real`, `generated` or `real_or_generated`.
    The metrics are row_share, row_share_within, row_share_between, between_share_of_row, between_share_of_null; with
    probes accuracy_whole, accuracy_row, accuracy_null, chance, and the means over random subspaces accuracy_random_row
    and accuracy_random_null. `anatomy/<extractor>/rank_share` is rank / features, the row_share of a random head of
    this rank.

    Models that declare no heads are passed over. If `extractors`, `probes` or `every_n_epochs` ask for their anatomy,
    they are refused.

    Args:
        enabled: Whether to measure at all.
        every_n_epochs: Epochs between two measurements of the trained extractors during the training. The picture shows
            them as curves. 0 measures after the training alone.
        extractors: Names of the extractors; by default all that have a head.
        probes: Whether to fit probes, and to measure random weights, too. They take all images of both splits.
        images: Without probes, the number of test images, drawn at random, and of generated ones.
        generated: With probes, the number of generated images, from all generators together; as many again to fit on.
        draws: With probes, the number of random subspaces of as many dimensions as the row space; 0 draws none.
        tolerance: A singular value of a head counts as zero up to this share of the largest; by default the head's
            larger side times float64's ε.
        batch_norm: Batch-norm statistics of the trained extractors: "running" were gathered in training, "real" are
            estimated on the training images.
        seed: Seed of the drawn images, of random weights and of the probes' held-out images; by default the run's.

    Source:
        Mao et al. 2022, sections 2 and 3.
    """

    name: ClassVar[str] = "anatomy"
    needs: ClassVar[tuple[type, ...]] = (HasExtractors, HasHeads)

    enabled: bool = True
    extractors: Sequence[str] | None = None
    probes: bool = False
    images: int = 500
    generated: int = 2000
    draws: int = 3
    tolerance: float | None = None
    batch_norm: BatchNorm = "running"
    seed: int | None = None

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            SettingError: One is out of range.
        """
        super().__post_init__()
        at_least(self, 2, images=self.images, generated=self.generated)
        at_least(self, 0, draws=self.draws)
        with settings_of(self):
            check_tolerance(self.tolerance)

    def passes_over(self, bench: Bench) -> str | None:
        """Return why there is nothing to measure: no heads or no images, and no setting asks for an anatomy."""
        if self._asked() is not None:
            return None
        return super().passes_over(bench) or bench.without_images()

    def check(self, bench: Bench) -> None:
        """Check that heads and labels are there, and that the heads take their extractors' features.

        Raises:
            DataError: There are no images, or no labels for the probes.
            SettingError: An extractor that is asked for has no head, a head does not fit its extractor's features, or
                there can be no random-weights control.
        """
        self._check_heads(bench)
        if bench.without_images():
            remedy = "Use one of gan_lightning.data, or set its `enabled` to false"
            raise DataError(
                f"anatomy needs a data module that declares its images, got {bench.described_data}. {remedy}."
            )
        if self.probes:
            check_labels(bench, self.name)
        data = bench.data
        for name, head in self._heads(bench.heads).items():
            width = check_extractor(name, bench.networks[name], data.channels, data.image_size, bench.device)
            if width != head.weight.shape[1]:
                raise SettingError(
                    f"The head of the extractor {name!r} must take its {width} features, got a weight of "
                    f"{tuple(head.weight.shape)}. Return from heads() the layer that the features go into, or leave it "
                    "out."
                )
        if self.probes and bench.controls:
            bench.control(self.seed)  # fails now if it would fail after the training

    def metrics(self, bench: Bench) -> Mapping[str, Best | None]:
        """Return the figures of the trained extractors; of accuracies the highest is best."""
        with bench.undisturbed():
            generators = len(bench.generate(1, self.seed)) if bench.has(GeneratesImages) else 0
        classes = bench.data.label_kind == "classes"
        probed = tuple(each for each in ACCURACIES if self.draws or "random" not in each) if self.probes else ()
        metrics = {"real": (*SHARES, *probed) if classes else (SHARES[0], *probed[:-1])}
        if generators:
            metrics["generated"] = (*SHARES, *probed) if generators > 1 else SHARES[:1]
        if generators and self.probes:
            metrics["real_or_generated"] = (*SHARES, *probed)
        found: dict[str, Best | None] = {}
        for subject in self._heads(bench.heads):
            found[self.figure("rank_share", 0.0, subject=subject).name] = None
            for kind, names in metrics.items():
                for metric in names:
                    best: Best | None = "max" if metric.startswith("accuracy") else None
                    found[self.figure(metric, 0.0, subject=subject, condition=kind).name] = best
        return found

    def run(self, bench: Bench) -> Outcome:
        """Return shares, accuracies, and the predictions of the paper's theorems."""
        generated, generators = self._generated(bench)
        records = [
            record
            for source in self._sources(bench)
            for record in evaluate_anatomy(
                source.heads,
                self._of_real(bench, source),
                self._of_generated(bench, source, generated),
                num_classes=bench.data.num_classes,
                generators=generators,
                probe=TUNED if self.probes else None,
                draws=self.draws,
                tolerance=self.tolerance,
                weights=source.weights,
                seed=bench.seed_for(self.seed),
                progress=bench.report,
            )
        ]
        figures = [figure for record in records for figure in self._figures(record)]
        found = predictions(records)
        details = {"extractors": list(map(_about, records)), "predictions": list(map(asdict, found))}
        if not bench.controls:
            return Outcome(figures, details)
        tables = [shares_table(figures, bench.data.name)]
        tables += [accuracies_table(figures, bench.data.name)] if self.probes else []
        tables += [random_table(figures, bench.data.name)] if self.probes and self.draws else []
        tables += [predictions_table(found)] if found else []
        picture = picture_of(anatomy_chart(figures, self._over_training(bench, figures)))
        return Outcome(figures, details, pictures={"": picture}, tables=tables)

    def _asked(self) -> str | None:
        """Return the setting that asks for an anatomy in so many words."""
        asked = {"extractors": self.extractors, "probes": self.probes, "every_n_epochs": self.every_n_epochs}
        return next((name for name, value in asked.items() if value), None)

    def _check_heads(self, bench: Bench) -> None:
        known = sorted(bench.heads)
        without = [name for name in self.extractors or () if name not in known]
        if not known:
            asked = self._asked()
            raise SettingError(
                f"{asked} asks for the anatomy of extractors, none of which has a head: declare the linear layers that "
                f"their features go into with heads(), or leave out {asked}.",
                self,
            )
        if without:
            condition = "name extractors that end right before a linear head"
            raise refused(self, "extractors", condition, without, f"Choose from {known}.")

    def _heads(self, heads: Mapping[str, LinearHead]) -> Mapping[str, LinearHead]:
        """Return the heads of the chosen extractors, as far as there are any."""
        return {name: heads[name] for name in self.extractors or heads if name in heads}

    def _sources(self, bench: Bench) -> list[_AnatomySource]:
        sources = [_AnatomySource("trained", self._heads(bench.heads), bench.networks, self.batch_norm)]
        if self.probes and bench.controls:
            control = bench.control(self.seed)
            heads = {name: head for name, head in self._heads(control.heads).items() if name in control.networks}
            sources += [_AnatomySource("random", heads, control.networks, "real")] if heads else []
        return sources

    def _of_real(self, bench: Bench, source: _AnatomySource) -> SplitFeatures:
        """Return the features of real images: some of the test split's, or all of both splits for probes."""
        found: dict[Split, tuple[Mapping[str, Tensor], Tensor]] = {}
        for split in self._splits:
            features = bench.features(
                split, list(source.heads), weights=source.weights, batch_norm=source.batch_norm, seed=self.seed
            )
            count = len(features.labels)
            rows = slice(None) if self.probes else chosen_rows(count, self.images, bench.seed_for(self.seed))
            found[split] = {name: matrix[rows] for name, matrix in features.matrices.items()}, features.labels[rows]
        return found

    def _generated(self, bench: Bench) -> tuple[dict[Split, TensorBatches], int]:
        """Return this process's share of generated images, labelled with their generators, and the number of these.

        Every process makes all of them, so that they depend on the seed alone.
        """
        if not bench.has(GeneratesImages):
            return {}, 0
        generators = len(bench.generate(1, self.seed))
        each = -(-(self.generated if self.probes else self.images) // generators)
        parts = torch.arange(each).split(max(1, GENERATED_AT_ONCE // generators))
        rng = torch.Generator().manual_seed(bench.seed_for(self.seed))
        found: dict[Split, TensorBatches] = {}
        for split in self._splits:
            images, made_by = [], []
            for done, part in enumerate(parts, start=1):
                made = bench.generate(len(part), int(torch.randint(2**62, (), generator=rng)))
                images.append(resized(made.flatten(0, 1), bench.data.image_size))
                made_by.append(torch.arange(generators, device=made.device).repeat_interleave(len(part)))
                bench.report(f"generated images in place of {split} images", done, len(parts))
            mine = [torch.cat(rows).tensor_split(process_count())[process_rank()] for rows in (images, made_by)]
            found[split] = TensorBatches(mine[0], mine[1], GENERATED_AT_ONCE)
        return found, generators

    def _of_generated(
        self, bench: Bench, source: _AnatomySource, generated: Mapping[Split, TensorBatches]
    ) -> SplitFeatures:
        """Return the features of generated images."""
        networks = {name: source.networks[name] for name in source.heads}
        said = f"features of generated images, {source.weights} weights"
        with bench.statistics(networks, source.weights, source.batch_norm, self.seed):
            return {split: extract_features(networks, bench.watched(own, said)) for split, own in generated.items()}

    @property
    def _splits(self) -> Sequence[Split]:
        """The splits that are looked at."""
        return SPLITS if self.probes else ("test",)

    def _figures(self, record: AnatomyRecord) -> list[Figure]:
        about = {"subject": record.extractor, "weights": record.weights}
        kinds = (
            ("real", record.real, "test"),
            ("generated", record.generated, ""),
            ("real_or_generated", record.real_or_generated, ""),
        )
        found = [
            self.figure(metric, value, condition=kind, split=split, images=of_kind.images, **about)
            for kind, of_kind, split in kinds
            if of_kind is not None
            for metric, value in of_kind.figures().items()
        ]
        if record.weights == "random":
            return found
        return [*found, self.figure("rank_share", record.rank / record.features, split="", **about)]

    def _over_training(self, bench: Bench, figures: Sequence[Figure]) -> list[Figure]:
        """Return the figures of all known epochs."""
        earlier = [each for each in bench.history if each.measurement == self.name and each.epoch != bench.epoch]
        return earlier + [replace(each, epoch=bench.epoch) for each in figures]


def chosen_rows(total: int, most: int, seed: int) -> Int64[Tensor, " rows"]:
    """Return at most `most` places of a split, chosen at random, in stored order; all if there are fewer."""
    return torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:most].sort().values


def _about(record: AnatomyRecord) -> dict[str, Any]:
    """Return the facts on an extractor's anatomy that are not figures."""
    kinds = {"real": record.real, "generated": record.generated, "real_or_generated": record.real_or_generated}
    of_head = {"task": record.task, "features": record.features, "outputs": record.outputs, "rank": record.rank}
    about = {"extractor": record.extractor, "weights": record.weights, **of_head, "seconds": record.seconds}
    shares = {kind: asdict(each.shares) for kind, each in kinds.items() if each is not None and each.shares is not None}
    accuracies = {kind: asdict(each.accuracy) for kind, each in kinds.items() if each is not None and each.accuracy}
    return about | shares | ({"accuracies": accuracies} if accuracies else {})


def shares_table(figures: Sequence[Figure], data: str) -> Table:
    """Return a table of the row space's share of all variance, of the variance within and between classes."""
    chances = {figure.subject: figure.value for figure in figures if figure.metric == "rank_share"}
    columns = {"All": "row_share", "Within": "row_share_within", "Between": "row_share_between"}
    table = _table(f"Feature anatomy on {data}: the row space's share of the variance", [*columns, "Rank / features"])
    for (extractor, *names), values in _rows(figures, SHARES).items():
        shares = (_number(values.get(metric)) for metric in columns.values())
        table.add_row(extractor, *names, *shares, _number(chances.get(extractor)))
    return table


def accuracies_table(figures: Sequence[Figure], data: str) -> Table:
    """Return a table of the probes' accuracies on each part."""
    columns = {"f": "accuracy_whole", "f_row": "accuracy_row", "f_null": "accuracy_null", "Chance": "chance"}
    return _accuracies(f"Feature anatomy on {data}: accuracies of linear probes", figures, columns)


def random_table(figures: Sequence[Figure], data: str) -> Table:
    """Return a table of the probes' accuracies on each part, beside the parts that random subspaces make."""
    columns = {
        **{"f_row": "accuracy_row", "Random part": "accuracy_random_row"},
        **{"f_null": "accuracy_null", "f less random": "accuracy_random_null"},
    }
    return _accuracies(f"Feature anatomy on {data}: the same beside random subspaces", figures, columns)


def _accuracies(title: str, figures: Sequence[Figure], columns: Mapping[str, str]) -> Table:
    table = _table(title, [*columns])
    for names, values in _rows(figures, ACCURACIES).items():
        table.add_row(*names, *(_number(values.get(metric)) for metric in columns.values()))
    return table


def _rows(figures: Sequence[Figure], metrics: Sequence[str]) -> dict[tuple[str, str, str], dict[str, float]]:
    """Return the values of some metrics for each extractor, kind of weights and kind of images that has a value."""
    rows: dict[tuple[str, str, str], dict[str, float]] = {}
    for figure in figures:
        if figure.metric in metrics:
            names = figure.subject, figure.weights, figure.condition.replace("_", " ")
            rows.setdefault(names, {})[figure.metric] = figure.value
    return rows


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title)
    for column in ("Extractor", "Weights"):
        table.add_column(column, no_wrap=True)
    table.add_column("Images")
    for column in columns:
        table.add_column(column, justify="right", min_width=6)
    return table


def predictions_table(found: Sequence[Prediction]) -> Table:
    """Return a table with a row per prediction of the paper: the prediction, and the measured figures."""
    table = Table(title="What Mao et al. 2022 predict, and what was measured")
    table.add_column("Theorem", no_wrap=True)
    table.add_column("Predicted")
    for column in ("Measured", "Random weights", "Held"):
        table.add_column(column, justify="right")
    for each in found:
        predicted = f"{each.extractor}: {each.figure} {each.predicted} {each.beside_is}, {_number(each.beside)}"
        held = "-" if each.held is None else "yes" if each.held else "no"
        table.add_row(each.theorem, predicted, _number(each.value), _number(each.random_weights), held)
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
