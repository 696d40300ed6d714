"""How many stages of an extractor are worth freezing."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from lightning.pytorch import LightningModule, Trainer
from rich import get_console
from rich.table import Table
from torch import nn

from gan_lightning.callbacks.after_training import AfterTraining, check_labelled, provenance
from gan_lightning.callbacks.progress import progress_bars
from gan_lightning.callbacks.run_folder import is_dry_run, run_folder
from gan_lightning.callbacks.transfer import untrained_extractors
from gan_lightning.errors import SettingError
from gan_lightning.evaluation import (
    DEPTH,
    BatchNorm,
    DepthProtocol,
    DepthRecord,
    estimate_batch_norm_statistics,
    frozen_depth,
)
from gan_lightning.files import write_json
from gan_lightning.interfaces import HasExtractors, LabelledImages
from gan_lightning.nets.fold import fold_batch_norm


class FrozenDepth(AfterTraining):
    """Freezes the first N stages of an extractor and trains the rest with labels, for each N.

    After a fit and under `test`, beside the same with random weights frozen. Prints a table per extractor, logs
    `depth/<extractor>/<stage>/accuracy` and writes `depth.json`. It trains as many networks as there are stages, twice:
    it runs only for the extractors that are named.

    Args:
        extractors: Names of the extractors; none by default.
        protocol: How the rest is trained.
        batch_norm: As in the transfer evaluation: statistics of training, or of the training images ("real").
        fold_batch_norm: Whether batch norm is merged into the layer before it, so that the supervised training has
            none. What is reinitialised then starts with its random weights scaled by the statistics of the training
            images.
        seed: Of new weights, and of the order of the images.

    Source:
        Donahue et al. 2017, section 4.3, Table 2 and appendix C.2.
    """

    def __init__(
        self,
        extractors: Sequence[str] = (),
        protocol: DepthProtocol = DEPTH,
        batch_norm: BatchNorm = "running",
        fold_batch_norm: bool = False,
        seed: int = 0,
    ) -> None:
        self.extractors, self.protocol, self.seed = list(extractors), protocol, seed
        self.batch_norm: BatchNorm = batch_norm
        self.fold_batch_norm = fold_batch_norm
        self.records: dict[str, list[DepthRecord]] = {}
        """What was measured last, by extractor."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check what was asked for, before any training.

        Raises:
            DataError: If the data set has no labels or is not one that can be evaluated on.
            SettingError: If an extractor is unknown, has no named stages, or cannot be initialised anew.
        """
        if is_dry_run(trainer) or not self.applies(trainer, pl_module) or stage not in ("fit", "test"):
            return
        check_labelled(trainer, "the frozen-depth evaluation", "leave out depth.extractors")
        self.chosen(pl_module)
        untrained_extractors(pl_module, self.seed)

    def applies(self, trainer: Trainer, pl_module: LightningModule) -> bool:
        """Return whether an extractor is named."""
        return bool(self.extractors)

    def chosen(self, pl_module: LightningModule) -> Mapping[str, nn.Sequential]:
        """Return the extractors that are named.

        Raises:
            SettingError: If one is unknown or has no named stages.
        """
        known = pl_module.extractors() if isinstance(pl_module, HasExtractors) else {}
        staged = {name: network for name, network in known.items() if isinstance(network, nn.Sequential)}
        if unknown := [name for name in self.extractors if name not in staged]:
            raise SettingError(
                f"depth.extractors must name extractors of {type(pl_module).__name__} that are made of stages, got "
                f"{unknown}. Choose from {sorted(staged)}."
            )
        return {name: staged[name] for name in self.extractors}

    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Train the rest for each depth, then print, log and write what came out."""
        data: LabelledImages = trainer.datamodule  # type: ignore[attr-defined]
        untrained = untrained_extractors(pl_module, self.seed)
        self.records = {}
        for name, extractor in self.chosen(pl_module).items():
            fresh = untrained[name]
            assert isinstance(fresh, nn.Sequential)
            with progress_bars(trainer) as progress:
                self.records[name] = frozen_depth(
                    self._prepared(extractor, data, pl_module, real=self.batch_norm == "real"),
                    data,
                    fresh=self._prepared(fresh, data, pl_module, real=self.fold_batch_norm),
                    protocol=self.protocol,
                    device=pl_module.device,
                    seed=self.seed,
                    progress=progress,
                )
        if not trainer.is_global_zero:
            return
        metrics = {
            f"depth/{name}/{record.stage}/accuracy": record.accuracy
            for name, records in self.records.items()
            for record in records
            if record.weights == "trained"
        }
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=trainer.global_step)
        for name, records in self.records.items():
            get_console().print(depth_table(records, name, data.name))
        if (folder := run_folder(trainer)) is not None:
            settings = {"seed": self.seed, "batch_norm": self.batch_norm, "fold_batch_norm": self.fold_batch_norm}
            found = {name: [asdict(record) for record in records] for name, records in self.records.items()}
            about = {**provenance(trainer, pl_module), **settings, "protocol": asdict(self.protocol), "records": found}
            write_json(folder / "depth.json", about)

    def _prepared(
        self, network: nn.Sequential, data: LabelledImages, model: LightningModule, *, real: bool
    ) -> nn.Sequential:
        """Return a copy with the batch-norm statistics asked for, folded if that is asked for."""
        prepared = copy.deepcopy(network)
        if real:
            estimate_batch_norm_statistics(prepared, data.evaluation_batches("train", model.device))
        folded = fold_batch_norm(prepared) if self.fold_batch_norm else prepared
        assert isinstance(folded, nn.Sequential)
        return folded


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
