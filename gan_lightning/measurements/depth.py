"""The number of stages of an extractor that are worth freezing."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.table import Table
from torch import nn

from gan_lightning.errors import SettingError, refused
from gan_lightning.evaluation.depth_protocol import (
    DEPTH,
    DepthProtocol,
    DepthRecord,
    SplitImages,
    check_same_stages,
    frozen_depth,
    stages_of,
)
from gan_lightning.figures import Best, Figure, Weights
from gan_lightning.interfaces import HasExtractors
from gan_lightning.measurements.bench import BatchNorm, Bench
from gan_lightning.measurements.measurement import Measurement, Outcome
from gan_lightning.measurements.transfer import SPLITS, check_labels
from gan_lightning.nets.folding import fold_batch_norm


@dataclass(frozen=True, kw_only=True)
class FrozenDepth(Measurement):
    """Freezes the first N stages of an extractor and trains the rest with labels, for each N.

    Beside it stands the same with random weights frozen, their batch norm estimated on the training images. It trains
    as many networks as there are stages, twice: it is off by default.

    Figures: `depth/<extractor>/<stage>/accuracy` and `depth/<extractor>/random_weights/<stage>/accuracy`; the stage is
    the last frozen one.

    Args:
        enabled: Whether to measure at all.
        every_n_epochs: Epochs between two measurements of the trained extractors while they train; 0 measures after the
            training alone.
        extractors: Names of the extractors; by default all that consist of stages.
        protocol: Settings of the rest's training.
        batch_norm: Batch-norm statistics of the trained extractors: "running" were gathered in training, "real" are
            estimated on the training images.
        fold_batch_norm: Whether batch norm is merged into the layer before it, so that the supervised training has
            none. Reinitialised layers then start with random weights scaled by the statistics of the training images.
        seed: Of new weights, and of the order of the images; by default the run's.

    Source:
        Donahue et al. 2017, section 4.3, Table 2 and appendix C.2.
    """

    name: ClassVar[str] = "depth"
    needs: ClassVar[tuple[type, ...]] = (HasExtractors,)

    enabled: bool = False
    extractors: Sequence[str] = ()
    protocol: DepthProtocol = DEPTH
    batch_norm: BatchNorm = "running"
    fold_batch_norm: bool = False
    seed: int | None = None

    def passes_over(self, bench: Bench) -> str | None:
        """Return why there is nothing to measure: no extractor consists of stages, and none is named."""
        reason = super().passes_over(bench)
        if reason is None and not self.extractors and not _staged(bench):
            return "no extractor is a sequence of stages with weights"
        return reason

    def check(self, bench: Bench) -> None:
        """Check labels, extractors, and that each can be initialised anew.

        Raises:
            DataError: The data have no labels.
            SettingError: An extractor is unknown, has no stages, or cannot be initialised anew or folded.
        """
        check_labels(bench, self.name)
        chosen = self._chosen(bench)
        bench.check_networks(chosen)
        fresh = bench.control(self.seed).networks
        for name, extractor in chosen.items():
            if name not in fresh:
                raise SettingError(
                    f"extractors must name extractors that can be initialised anew, got {name!r}, of which there is no "
                    "network with random weights. Leave it out, or give random_networks to the Bench.",
                    self,
                )
            check_same_stages(extractor, fresh[name])
            if self.fold_batch_norm:
                fold_batch_norm(extractor)

    def metrics(self, bench: Bench) -> Mapping[str, Best | None]:
        """Return the accuracies of the trained extractors."""
        return {
            self.figure("accuracy", 0.0, subject=name, condition=stage).name: "max"
            for name, extractor in self._chosen(bench).items()
            for stage in stages_of(extractor)
        }

    def run(self, bench: Bench) -> Outcome:
        """Train the rest for each depth, and return the accuracies."""
        images: SplitImages = {split: bench.images(split, labelled=True) for split in SPLITS}
        figures: list[Figure] = []
        details, tables = {}, []
        for name, extractor in self._chosen(bench).items():
            fresh = bench.control(self.seed).networks[name]
            assert isinstance(fresh, nn.Sequential)  # checked
            records = frozen_depth(
                self._prepared(bench, name, extractor, "trained", self.batch_norm),
                images,
                num_classes=bench.data.num_classes,
                fresh=self._prepared(bench, name, fresh, "random", "real" if self.fold_batch_norm else "running"),
                random=self._prepared(bench, name, fresh, "random", "real") if bench.controls else None,
                protocol=self.protocol,
                seed=bench.seed_for(self.seed),
                name=name,
                progress=bench.report,
            )
            figures += [
                self.figure(
                    "accuracy",
                    record.accuracy,
                    subject=name,
                    weights=record.weights,
                    condition=record.stage,
                    images=len(images["test"][1]),
                    seconds=record.seconds,
                )
                for record in records
            ]
            details[name] = [
                {"stage": r.stage, "frozen": r.frozen, "weights": r.weights, "cached": r.cached} for r in records
            ]
            tables.append(depth_table(records, name, bench.data.name))
        return Outcome(figures, details, tables=tables)

    def _chosen(self, bench: Bench) -> Mapping[str, nn.Sequential]:
        """Return the named extractors, or all that consist of stages.

        Raises:
            SettingError: A named one is unknown or has no stages.
        """
        staged = _staged(bench)
        if unknown := [name for name in self.extractors if name not in staged]:
            remedy = f"Choose from {sorted(staged)}."
            raise refused(self, "extractors", "name extractors that are made of stages", unknown, remedy)
        return {name: staged[name] for name in self.extractors or staged}

    def _prepared(
        self, bench: Bench, name: str, network: nn.Sequential, weights: Weights, batch_norm: BatchNorm
    ) -> nn.Sequential:
        """Return a copy with the batch-norm statistics asked for, folded if `fold_batch_norm` says so."""
        with bench.statistics({name: network}, weights, batch_norm, self.seed):
            prepared = fold_batch_norm(network) if self.fold_batch_norm else copy.deepcopy(network)
        assert isinstance(prepared, nn.Sequential)
        return prepared


def _staged(bench: Bench) -> dict[str, nn.Sequential]:
    """Return the extractors that consist of stages with weights."""
    return {
        name: network
        for name, network in bench.networks.items()
        if isinstance(network, nn.Sequential) and stages_of(network)
    }


def depth_table(records: Sequence[DepthRecord], extractor: str, data: str) -> Table:
    """Return a table with a column per stage and a row per kind of weights, as the paper's Table 2."""
    stages = list(dict.fromkeys(record.stage for record in records))
    table = Table(title=f"Frozen up to: {extractor} on {data}")
    table.add_column("Frozen weights", no_wrap=True)
    for stage in stages:
        table.add_column(stage, justify="right")
    for weights in dict.fromkeys(record.weights for record in records):
        found = {record.stage: record.accuracy for record in records if record.weights == weights}
        table.add_row(weights, *(f"{found[stage]:.4f}" for stage in stages))
    return table
