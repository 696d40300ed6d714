"""What a run tells Weights & Biases beside its metrics, under names that stay the same.

Only the first process may call these: the others have no W&B run.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.loggers import WandbLogger

from gan_lightning.evaluation import TransferRecord

CONFIG_KEY = "cli"
"""Where the whole resolved configuration stands in W&B's: Lightning itself sends the model's and the data's only."""

PROBE_EPOCH = "probe/epoch"
"""The x axis of the probe's curves, which is neither the model's step nor its epoch."""


def describe_to_wandb(logger: WandbLogger, folder: Path, config: str | None) -> Mapping[str, Any]:
    """Send the resolved configuration and the run's folder; return where the W&B run is found.

    Args:
        logger: Of the first process.
        folder: The run folder.
        config: As YAML, where the run was started from the command line.
    """
    run = logger.experiment
    about = {"run_folder": str(folder)} | ({CONFIG_KEY: yaml.safe_load(config)} if config else {})
    run.config.update(about, allow_val_change=True)
    run.define_metric(PROBE_EPOCH, hidden=True)
    run.define_metric("probe/*", step_metric=PROBE_EPOCH)
    names = ("id", "project", "entity", "sweep_id", "url")
    return {name: getattr(run, name, None) or None for name in names} | {"offline": bool(run.offline)}


def log_probe_curves(logger: WandbLogger, records: Sequence[TransferRecord]) -> None:
    """Send the accuracy after each epoch of the paper's probe, as `probe/<extractor>/<weights>/accuracy`."""
    rows: dict[int, dict[str, float]] = {}
    for record in records:
        if record.epoch is not None:
            name = f"probe/{record.extractor}/{record.weights}/accuracy"
            rows.setdefault(record.epoch, {PROBE_EPOCH: record.epoch})[name] = record.accuracy
    for _, row in sorted(rows.items()):
        logger.experiment.log(row)
