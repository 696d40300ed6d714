"""What a run tells Weights & Biases beside its metrics, under names that stay the same.

Only the first process may call these: the others have no W&B run.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.loggers import Logger, WandbLogger

from gan_lightning.figures import Figure
from gan_lightning.runs.checkpoint_files import Checkpoint
from gan_lightning.system.private_names import set_wandb_run

RUN = "run"
"""Where a checkpoint says which run wrote it: its folder, its W&B run, and how far its metrics had come."""

CONFIG_KEY = "cli"
"""Where the whole resolved configuration stands in W&B's: Lightning itself sends the model's and the data's only."""

CURVE = "curve"
"""The group of curves, such as those of a probe over its own epochs."""


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
    names = ("id", "project", "entity", "sweep_id", "url")
    return {name: getattr(run, name, None) or None for name in names} | {"offline": bool(run.offline)}


def go_on_in_wandb(loggers: Sequence[Logger], checkpoint: Checkpoint) -> None:
    """Have W&B's logger go on in the run that wrote a checkpoint, unless it was given a run of its own.

    To be called before anything asks the logger for its run. Offline, the records of both parts bear the same id, and
    `wandb sync` puts them together.
    """
    about = checkpoint.get(RUN) or {}
    for logger in loggers:
        if isinstance(logger, WandbLogger) and about.get("wandb"):
            given = logger.version or os.environ.get("WANDB_RUN_ID")
            if given is None:
                set_wandb_run(logger, about["wandb"])


def log_curves(logger: WandbLogger, figures: Sequence[Figure]) -> None:
    """Send the points of curves: `curve/<figure>` over `curve/<axis>`, which is neither the step nor the epoch."""
    rows: dict[tuple[str, float], dict[str, float]] = {}
    for figure in figures:
        if figure.at is not None:
            axis = f"{CURVE}/{figure.axis.replace(' ', '_')}"
            logger.experiment.define_metric(axis, hidden=True)
            logger.experiment.define_metric(f"{CURVE}/{figure.name}", step_metric=axis)
            rows.setdefault((axis, figure.at), {axis: figure.at})[f"{CURVE}/{figure.name}"] = figure.value
    for _, row in sorted(rows.items()):
        logger.experiment.log(row)
