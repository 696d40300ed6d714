"""When the frozen extractors are evaluated: after every fit, and under `test`."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from rich import get_console
from rich.table import Table
from torch import nn

from gan_lightning.callbacks.after_training import AfterTraining, check_labelled, provenance
from gan_lightning.callbacks.monitoring import (
    Best,
    Curve,
    check_monitors,
    checkpoints_by,
    log_figures,
    show_to_monitors,
)
from gan_lightning.callbacks.progress import progress_bars
from gan_lightning.callbacks.run_folder import is_dry_run, run_folder
from gan_lightning.callbacks.wandb_run import log_probe_curves
from gan_lightning.errors import SettingError
from gan_lightning.evaluation import (
    PAPER,
    TUNED,
    BatchNorm,
    NearestProtocol,
    PaperProtocol,
    TransferRecord,
    TunedProtocol,
    evaluate_transfer,
    random_copy,
    summary,
)
from gan_lightning.files import write_json
from gan_lightning.interfaces import HasExtractors, LabelledImages
from gan_lightning.published import Published, published_for


class TransferEvaluation(AfterTraining):
    """Freezes the model's extractors after a fit, or under `test`, and measures what their features are worth.

    Prints one table, logs `transfer/<extractor>/<protocol>/accuracy` and writes `results.json` to the run's folder.
    Raw pixels and the same extractors with random weights are always measured beside them. Models that declare no
    extractors are passed over.

    Args:
        enabled: Whether to evaluate at all.
        paper: Settings of the papers' protocol; null leaves it out.
        tuned: Settings of the tuned linear probe; null leaves it out.
        nearest: Settings of the 1-nearest-neighbour accuracy; null leaves it out.
        batch_norm: Batch-norm statistics that the trained extractors are evaluated with: "running" are those of
            training, "real" are estimated on the training images, on copies.
        seed: Seed of the heads, of their batches, of the held-out images and of the random-weights control.
        every_n_epochs: Epochs between two evaluations of the trained extractors while they train, which log the same
            metrics, for early stopping, for curves, and for what chooses checkpoints by them; 0 evaluates after the
            training alone.
    """

    def __init__(
        self,
        enabled: bool = True,
        paper: PaperProtocol | None = PAPER,
        tuned: TunedProtocol | None = TUNED,
        nearest: NearestProtocol | None = None,
        batch_norm: BatchNorm = "running",
        seed: int = 0,
        every_n_epochs: int = 0,
    ) -> None:
        if every_n_epochs < 0:
            raise SettingError(f"transfer.every_n_epochs must be at least 0, got {every_n_epochs}.")
        self.every_n_epochs = every_n_epochs
        protocols = ("paper", paper), ("tuned", tuned), ("nearest", nearest)
        self.protocols = {name: protocol for name, protocol in protocols if protocol is not None}
        self.enabled, self.seed = enabled and bool(self.protocols), seed
        self.batch_norm = batch_norm
        self.records: list[TransferRecord] = []
        """What was measured last."""
        self.curve: Curve = {}
        """The accuracies that were measured while training."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that there are labels to evaluate with, before any training.

        Raises:
            DataError: If the data set has no labels or is not one that can be evaluated on.
            SettingError: If the weights are not float32, or there can be no random-weights control.
        """
        if is_dry_run(trainer) or stage not in ("fit", "test"):
            return
        self.curve = {}
        applies = self.applies(trainer, pl_module)
        if stage == "fit":
            known: dict[str, Best | None] = dict.fromkeys(self._curves(pl_module), "max") if applies else {}
            check_monitors(trainer, "transfer", known, self.every_n_epochs)
        if not applies:
            return
        check_labelled(trainer, "the transfer evaluation", "switch it off with --transfer.enabled=false")
        untrained_extractors(pl_module, self.seed)  # fails now if it would fail after the training

    def applies(self, trainer: Trainer, pl_module: LightningModule) -> bool:
        """Return whether the model has extractors."""
        return self.enabled and isinstance(pl_module, HasExtractors)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate what has been trained so far, if this is one of the epochs for it.

        The last one is evaluated after it, with the controls, unless checkpoints are chosen by what comes out.
        """
        epochs = trainer.current_epoch + 1
        if not self.every_n_epochs or epochs % self.every_n_epochs:
            return
        if epochs == trainer.max_epochs and not checkpoints_by(trainer, "transfer"):
            return
        if is_dry_run(trainer) or not self.applies(trainer, pl_module):
            return
        assert isinstance(pl_module, HasExtractors)
        records = evaluate_transfer(
            pl_module.extractors(),
            trainer.datamodule,  # type: ignore[attr-defined]
            raw_pixels=False,
            protocols=list(self.protocols.values()),
            batch_norm=self.batch_norm,
            device=pl_module.device,
            seed=self.seed,
        )
        self.curve[epochs] = _metrics(records)
        log_figures(trainer, self.curve[epochs])
        show_to_monitors(pl_module, self.curve[epochs])

    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the extractors, then print, log and write what came out."""
        assert isinstance(pl_module, HasExtractors)
        data: LabelledImages = trainer.datamodule  # type: ignore[attr-defined]
        with progress_bars(trainer) as progress:
            self.records = evaluate_transfer(
                pl_module.extractors(),
                data,
                random_extractors=untrained_extractors(pl_module, self.seed),
                protocols=list(self.protocols.values()),
                batch_norm=self.batch_norm,
                device=pl_module.device,
                seed=self.seed,
                progress=progress,
            )
        if self.every_n_epochs and trainer.state.fn == "fit":
            accuracies = _metrics(self.records)
            self.curve[trainer.current_epoch] = {name: accuracies[name] for name in self._curves(pl_module)}
        if not trainer.is_global_zero:
            return
        published = published_for(type(pl_module).__name__, data.name, pl_module.hparams)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                log_probe_curves(logger, self.records)
            logger.log_metrics(_metrics(self.records), step=trainer.global_step)
        console = get_console()
        console.print(transfer_table(self.records, published, data.name))
        if (folder := run_folder(trainer)) is not None:
            write_json(folder / "results.json", self._results(trainer, pl_module, published))

    def state_dict(self) -> dict[str, Any]:
        """Return the curve, so that a run that is resumed has it whole."""
        return {"curve": self.curve} if self.curve else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the curve."""
        self.curve = state_dict["curve"]

    def _curves(self, pl_module: LightningModule) -> list[str]:
        """Return the names of the accuracies that are measured while training."""
        assert isinstance(pl_module, HasExtractors)
        names = pl_module.extractors()
        return [f"transfer/{name}/{protocol}/accuracy" for protocol in self.protocols for name in names]

    def _results(
        self, trainer: Trainer, pl_module: LightningModule, published: Sequence[Published]
    ) -> Mapping[str, Any]:
        return {
            **provenance(trainer, pl_module),
            "transfer_seed": self.seed,
            "batch_norm": self.batch_norm,
            "protocols": {name: asdict(protocol) for name, protocol in self.protocols.items()},
            "records": [asdict(record) for record in self.records],
            "published": [asdict(figure) for figure in published],
        }


def _metrics(records: Sequence[TransferRecord]) -> dict[str, float]:
    """Return the final accuracies and their controls under the names that loggers know them by."""
    metrics: dict[str, float] = {}
    for row in summary(records):
        name = f"transfer/{row.extractor}/{row.protocol}"
        figures = {"accuracy": row.accuracy, "random_weights": row.random_weights, "raw_pixels": row.raw_pixels}
        metrics |= {f"{name}/{figure}": value for figure, value in figures.items() if value is not None}
    return metrics


def untrained_extractors(model: LightningModule, seed: int) -> Mapping[str, nn.Module]:
    """Return the model's extractors as they are before any training, with weights drawn from `seed`.

    Those of `untrained_model`; where there is none, the extractors are copied and their layers reset to torch's.

    Raises:
        SettingError: If a layer of such a copy cannot reset itself.
    """
    assert isinstance(model, HasExtractors)
    fresh = untrained_model(model, seed)
    if isinstance(fresh, HasExtractors):
        return fresh.extractors()
    return {name: random_copy(extractor, seed) for name, extractor in model.extractors().items()}


def untrained_model(model: LightningModule, seed: int) -> LightningModule | None:
    """Return the model built anew, so that weights drawn from `seed` have its own initial distribution.

    None of a model that has not saved all its hyper-parameters.
    """
    try:
        arguments = inspect.signature(type(model)).bind(**model.hparams)
    except TypeError:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed the GPUs' generators for good
        return type(model)(*arguments.args, **arguments.kwargs).to(model.device)


def transfer_table(records: Sequence[TransferRecord], published: Sequence[Published], data: str) -> Table:
    """Return a table with a row per extractor and protocol, the controls and the printed figures beside it."""
    table = Table(title=f"Transfer evaluation on {data}: accuracy on frozen features")
    for column in ("Extractor", "Protocol"):
        table.add_column(column, no_wrap=True)
    for column in ("Accuracy", "Random weights", "Raw pixels", "Paper", "Seconds"):
        table.add_column(column, justify="right")
    for row in summary(records):
        figure = next(
            (f.accuracy for f in published if (f.extractor, f.protocol) == (row.extractor, row.protocol)), None
        )
        accuracies = (row.accuracy, row.random_weights, row.raw_pixels, figure)
        table.add_row(
            row.extractor,
            row.protocol,
            *("-" if accuracy is None else f"{accuracy:.4f}" for accuracy in accuracies),
            f"{row.seconds:.1f}",
        )
    return table
