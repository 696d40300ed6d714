"""How alike the layers of the extractors are: linear centred kernel alignment, layer by layer."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import torch
from jaxtyping import Float64
from rich.table import Table
from torch import Tensor, nn

from gan_lightning.errors import at_least
from gan_lightning.evaluation.curves import likeness_chart, picture_of
from gan_lightning.evaluation.kernel_alignment import LEAST, debiased_cka, linear_cka, products
from gan_lightning.figures import Best, Figure, Weights
from gan_lightning.interfaces import HasExtractors, Images, Split
from gan_lightning.measurements.bench import BatchNorm, Bench
from gan_lightning.measurements.extraction import in_parts
from gan_lightning.measurements.labels import check_images
from gan_lightning.measurements.measurement import Measurement, Outcome
from gan_lightning.measurements.transfer import kinds_with_one_control
from gan_lightning.nets.stages import stages_of

FEATURES = "features"
"""Name of an extractor's last layer: its features."""

Layer = tuple[str, str]
"""An extractor and one of its layers."""

Products = Float64[Tensor, "images images"]
"""Inner products of a layer's centred features."""


@dataclass(frozen=True, kw_only=True)
class LayerLikeness(Measurement):
    """Compares the layers of the extractors by linear centred kernel alignment (CKA), without labels; off by default.

    Layers are the convolutions of an extractor (`stages()`) with all that follows each, and its features. Two layers
    are alike if the same images are near each other in both. Rotations and a common scale do not count.

    Figures of D and C, for example: `cka/discriminator+classifier/conv1/debiased` and `.../linear` for each layer name
    that both have; `.../random_weights/conv1/...` of both with random weights, whose batch norm has statistics of the
    training images. `linear` is the definition, and near 1 for any two layers with more features than there are images;
    `debiased` is 0 in the mean for layers that have nothing in common. A layer with equal features for all images has
    no figure. The picture and the array `cka` have all pairs of layers, also those within an extractor.

    Args:
        enabled: Whether to measure at all.
        every_n_epochs: Epochs between two measurements of the trained extractors while they train; 0 measures after the
            training alone.
        images: Most images, the first of the split.
        split: Split of the images.
        batch_norm: Batch-norm statistics of the trained extractors: "running" were gathered in training, "real" are
            estimated on the training images.
        seed: Of the random weights; by default the run's.

    Source:
        Kornblith et al. 2019, section 3, for `linear`; Nguyen et al. 2021, section 2, for `debiased`.
    """

    name: ClassVar[str] = "cka"
    needs: ClassVar[tuple[type, ...]] = (HasExtractors,)

    enabled: bool = False
    images: int = 1000
    split: Split = "test"
    batch_norm: BatchNorm = "running"
    seed: int | None = None

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            SettingError: One is out of range.
        """
        super().__post_init__()
        at_least(self, LEAST, images=self.images)

    def passes_over(self, bench: Bench) -> str | None:
        """Return why there is nothing to measure: no images, or a single layer."""
        if reason := super().passes_over(bench) or bench.without_images():
            return reason
        layers = sum(len(layer_names(network)) for network in bench.networks.values())
        return None if layers > 1 else f"{bench.subject} has one layer, and it takes two"

    def check(self, bench: Bench) -> None:
        """Check images, extractors and controls.

        Raises:
            DataError: There are too few images.
            SettingError: An extractor cannot be used, or there can be no random-weights control.
        """
        check_images(bench, self.split, LEAST)
        check_images(bench, "train", 2)  # for the controls' batch norm
        bench.check_networks()
        if bench.controls:
            bench.control(self.seed)  # fails now if it would fail after the training

    def metrics(self, bench: Bench) -> Mapping[str, Best | None]:
        """Return the likenesses of the trained extractors' layers; no direction is the best."""
        return {
            self.figure(metric, 0.0, subject=f"{first}+{second}", condition=layer).name: None
            for first, second, layer in _pairs({name: layer_names(each) for name, each in bench.networks.items()})
            for metric in ("linear", "debiased")
        }

    def run(self, bench: Bench) -> Outcome:
        """Return the likenesses, and a picture of all pairs of layers."""
        images, _ = bench.images(self.split, self.images)
        figures, arrays, pictures, tables = [], {}, {}, []
        for weights, batch_norm in kinds_with_one_control(bench, self.batch_norm, self.seed):
            networks = bench.sources(weights, self.seed)
            with bench.statistics(networks, weights, batch_norm, self.seed):
                layers = self._layers(bench, networks, images)
            found = self._figures(layers, weights, len(images))
            figures += found
            if not bench.controls:  # while it trains, the figures are enough
                continue
            name = "cka" if weights == "trained" else "cka-random-weights"
            matrix = _matrix(layers)
            arrays[name] = torch.tensor(matrix, dtype=torch.float64)
            title = f"Debiased CKA of layers on {bench.data.name}, {weights} weights"
            pictures["" if weights == "trained" else "random-weights"] = picture_of(
                likeness_chart(matrix, list(map(" ".join, layers)), title)
            )
            if weights == "trained" and found:
                tables.append(self._table(bench, found))
        details = {"layers": [list(layer) for layer in layers]}
        return Outcome(figures, details, pictures=pictures, arrays=arrays, tables=tables)

    def _layers(self, bench: Bench, networks: Mapping[str, nn.Module], images: Images) -> dict[Layer, Products]:
        """Return the products of each layer, in the order of the networks and of their layers."""
        total, found = sum(len(layer_names(network)) for network in networks.values()), {}
        for name, network in networks.items():
            for layer, values in _outputs(network, images):
                found[name, layer] = products(values.flatten(1).float())
                bench.report("layers", len(found), total)
        return found

    def _figures(self, layers: Mapping[Layer, Products], weights: Weights, images: int) -> list[Figure]:
        names: dict[str, list[str]] = {}
        for network, layer in layers:
            names.setdefault(network, []).append(layer)
        found = []
        for first, second, layer in _pairs(names):
            pair = layers[first, layer], layers[second, layer]
            about = {"subject": f"{first}+{second}", "weights": weights, "condition": layer, "split": self.split}
            for metric, value in (("linear", linear_cka(*pair)), ("debiased", debiased_cka(*pair))):
                if value is not None:
                    found.append(self.figure(metric, value, images=images, **about))
        return found

    def _table(self, bench: Bench, figures: Sequence[Figure]) -> Table:
        table = Table(title=f"Likeness of layers on {bench.data.name}: centred kernel alignment")
        for column in ("Extractors", "Layer"):
            table.add_column(column, no_wrap=True)
        for column in ("Linear", "Debiased"):
            table.add_column(column, justify="right")
        rows: dict[Layer, dict[str, float]] = {}
        for each in figures:
            rows.setdefault((each.subject, each.condition), {})[each.metric] = each.value
        for (subject, layer), values in rows.items():
            table.add_row(subject, layer, *(f"{values[m]:.4f}" if m in values else "-" for m in ("linear", "debiased")))
        return table


def layer_names(network: nn.Module) -> list[str]:
    """Return the names of an extractor's layers: its convolutions, and its features."""
    return [*dict(stages_of(network).named_children()), FEATURES]


def _outputs(network: nn.Module, images: Images) -> Iterator[tuple[str, Tensor]]:
    """Yield each layer's name and output. Only one layer's output is held at a time."""
    values = images
    for name, stage in stages_of(network).named_children():
        values = in_parts(stage, values)
        yield name, values
    yield FEATURES, in_parts(network, images)


def _pairs(layers: Mapping[str, Sequence[str]]) -> list[tuple[str, str, str]]:
    """Return each pair of extractors with each name of a layer that both have."""
    return [
        (first, second, layer)
        for first, second in combinations(layers, 2)
        for layer in layers[first]
        if layer in layers[second]
    ]


def _matrix(layers: Mapping[Layer, Products]) -> list[list[float]]:
    """Return the debiased likeness of each pair of layers; NaN where a layer has none."""
    found = [[float("nan")] * len(layers) for _ in layers]
    for (i, one), (j, other) in combinations(enumerate(layers.values()), 2):
        value = debiased_cka(one, other)
        found[i][j] = found[j][i] = float("nan") if value is None else value
    for i, one in enumerate(layers.values()):
        found[i][i] = float("nan") if debiased_cka(one, one) is None else 1.0
    return found
