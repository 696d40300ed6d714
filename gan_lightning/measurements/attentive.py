"""The accuracy from the maps of the last convolution, by a head that learns where to look."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, get_args

from rich.table import Table
from torch import Tensor, nn

from gan_lightning.errors import at_least
from gan_lightning.evaluation.attentive_pooling import ATTENTIVE, AttentiveProtocol, Maps, Pooling, pooled_accuracy
from gan_lightning.figures import Best, Weights
from gan_lightning.interfaces import HasExtractors, Images, Split
from gan_lightning.measurements.bench import BatchNorm, Bench
from gan_lightning.measurements.extraction import in_parts
from gan_lightning.measurements.labels import SPLITS, check_labels
from gan_lightning.measurements.measurement import Measurement, Outcome
from gan_lightning.measurements.transfer import kinds_with_one_control
from gan_lightning.nets.stages import check_maps, stages_of
from gan_lightning.system.processes import on_first_process


@dataclass(frozen=True, kw_only=True)
class Attentive(Measurement):
    """Trains a head with one learned query on the maps of an extractor's last convolution; off by default.

    The query weighs the places of the maps (attentive pooling). A head on their mean stands beside it, and both on the
    maps of random weights, whose batch norm has statistics of the training images. The maps have more numbers than the
    extractor's features if those are pooled or projected, so these accuracies do not replace those of `transfer`.

    Figures: `attentive/<extractor>/attention/accuracy`, `attentive/<extractor>/mean/accuracy`, and the same with
    `random_weights` before `accuracy`. An extractor without convolutions (`stages()`) has none.

    Args:
        enabled: Whether to measure at all.
        every_n_epochs: Epochs between two measurements of the trained extractors while they train; 0 measures after the
            training alone.
        images: Most training images, the first of the split.
        protocol: Settings of the heads and of their training.
        batch_norm: Batch-norm statistics of the trained extractors: "running" were gathered in training, "real" are
            estimated on the training images.
        seed: Of the heads, of their batches, of the held-out images and of the random weights; by default the run's.

    Source:
        Bardes et al. 2024, section 4.1.
    """

    name: ClassVar[str] = "attentive"
    needs: ClassVar[tuple[type, ...]] = (HasExtractors,)

    enabled: bool = False
    images: int = 10_000
    protocol: AttentiveProtocol = ATTENTIVE
    batch_norm: BatchNorm = "running"
    seed: int | None = None

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            SettingError: One is out of range.
        """
        super().__post_init__()
        at_least(self, 2, images=self.images)

    def passes_over(self, bench: Bench) -> str | None:
        """Return why there is nothing to measure: no extractors, or none with convolutions."""
        reason = super().passes_over(bench)
        if reason is None and not staged(bench.networks):
            return f"{bench.subject} has no extractor with convolutions (`stages()`)"
        return reason

    def check(self, bench: Bench) -> None:
        """Check labels, extractors and controls.

        Raises:
            DataError: A split has no labels, or there are fewer than two classes.
            SettingError: An extractor cannot be used, or there can be no random-weights control.
        """
        check_labels(bench, self.name)
        bench.check_networks()
        for name, stages in staged(bench.networks).items():
            check_maps(name, copy.deepcopy(stages).float(), bench.data.channels, bench.data.image_size, bench.device)
        if bench.controls:
            bench.control(self.seed)  # fails now if it would fail after the training

    def metrics(self, bench: Bench) -> Mapping[str, Best | None]:
        """Return the accuracies of the trained extractors."""
        return {
            self.figure("accuracy", 0.0, subject=name, protocol=pooling).name: "max"
            for name in staged(bench.networks)
            for pooling in get_args(Pooling)
        }

    def run(self, bench: Bench) -> Outcome:
        """Return the accuracies of extractors and controls."""
        splits = {
            split: bench.images(split, self.images if split == "train" else None, labelled=True) for split in SPLITS
        }
        kinds = kinds_with_one_control(bench, self.batch_norm, self.seed)
        found: dict[tuple[str, Pooling, Weights], float] = {}
        rates: dict[str, float] = {}
        wanted = [(name, *kind) for kind in kinds for name in staged(bench.sources(kind[0], self.seed))]
        for done, (name, weights, batch_norm) in enumerate(wanted):
            networks = {name: bench.sources(weights, self.seed)[name]}
            with bench.statistics(networks, weights, batch_norm, self.seed):
                stages = stages_of(networks[name])
                maps: dict[Split, Maps] = {split: in_parts(stages, splits[split][0]).float() for split in SPLITS}
            for place, pooling in enumerate(get_args(Pooling)):
                value, rate = on_first_process(partial(self._judged, bench, maps, splits, pooling))
                found[name, pooling, weights] = value
                rates[f"{name}, {pooling}, {weights}"] = rate
                bench.report("attentive probes", len(get_args(Pooling)) * done + place + 1,
                             len(get_args(Pooling)) * len(wanted))  # fmt: skip
        images = len(splits["test"][1])
        figures = [
            self.figure("accuracy", value, subject=name, protocol=pooling, weights=weights, images=images)
            for (name, pooling, weights), value in found.items()
        ]
        return Outcome(figures, {"learning_rates": rates}, tables=[self._table(bench, found)])

    def _judged(
        self,
        bench: Bench,
        maps: Mapping[Split, Maps],
        splits: Mapping[Split, tuple[Images, Tensor]],
        pooling: Pooling,
    ) -> tuple[float, float]:
        return pooled_accuracy(
            maps["train"],
            splits["train"][1],
            maps["test"],
            splits["test"][1],
            num_classes=bench.data.num_classes,
            pooling=pooling,
            protocol=self.protocol,
            seed=bench.seed_for(self.seed),
        )

    def _table(self, bench: Bench, found: Mapping[tuple[str, Pooling, Weights], float]) -> Table:
        table = Table(title=f"Attentive pooling on {bench.data.name}: accuracy on the last convolution's maps")
        table.add_column("Extractor", no_wrap=True)
        for column in ("Attention", "Mean", "Attention, random weights", "Mean, random weights"):
            table.add_column(column, justify="right")
        columns: list[tuple[Pooling, Weights]] = [("attention", "trained"), ("mean", "trained")]
        columns += [("attention", "random"), ("mean", "random")]
        for name in dict.fromkeys(name for name, *_ in found):
            values = (found.get((name, *column)) for column in columns)
            table.add_row(name, *("-" if value is None else f"{value:.4f}" for value in values))
        return table


def staged(networks: Mapping[str, nn.Module]) -> dict[str, nn.Sequential]:
    """Return the stages of the networks that have convolutions, under the networks' names."""
    found = {name: stages_of(network) for name, network in networks.items()}
    return {name: stages for name, stages in found.items() if len(stages)}
