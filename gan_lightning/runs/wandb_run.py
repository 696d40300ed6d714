"""The facts beside its metrics that a run sends to Weights & Biases, under fixed names.

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
"""Key in a checkpoint for the run that wrote it: its folder, its W&B run, and the state of its metrics."""

CONFIG_KEY = "cli"
"""Key of the whole resolved configuration in W&B's; Lightning itself sends the model's and the data's only."""

CURVE = "curve"
"""The group of curves, such as a probe's accuracies over its own epochs."""


def describe_to_wandb(logger: WandbLogger, folder: Path, config: str | None) -> Mapping[str, Any]:
    """Send the resolved configuration and the run's folder; return the address of the W&B run.

    Args:
        logger: Of the first process.
        folder: The run folder.
        config: As YAML, if the run was started from the command line.
    """
    run = logger.experiment
    about = {"run_folder": str(folder)} | ({CONFIG_KEY: yaml.safe_load(config)} if config else {})
    run.config.update(about, allow_val_change=True)
    names = ("id", "project", "entity", "sweep_id", "url")
    return {name: getattr(run, name, None) or None for name in names} | {"offline": bool(run.offline)}


def go_on_in_wandb(loggers: Sequence[Logger], checkpoint: Checkpoint) -> None:
    """Let W&B's logger go on in the run that wrote a checkpoint, unless it was given a run of its own.

    To be called before the logger makes its run. Offline, the records of both parts bear the same id, and `wandb sync`
    joins them.
    """
    about = checkpoint.get(RUN) or {}
    for logger in loggers:
        if isinstance(logger, WandbLogger) and about.get("wandb"):
            given = logger.version or os.environ.get("WANDB_RUN_ID")
            if given is None:
                set_wandb_run(logger, about["wandb"])


def log_wandb_curves(logger: WandbLogger, figures: Sequence[Figure]) -> None:
    """Send the points of curves: `curve/<figure>` over `curve/<axis>`, an x axis other than step and epoch."""
    rows: dict[tuple[str, float], dict[str, float]] = {}
    for figure in figures:
        if figure.at is not None:
            axis = f"{CURVE}/{figure.axis.replace(' ', '_')}"
            logger.experiment.define_metric(axis, hidden=True)
            logger.experiment.define_metric(f"{CURVE}/{figure.name}", step_metric=axis)
            rows.setdefault((axis, figure.at), {axis: figure.at})[f"{CURVE}/{figure.name}"] = figure.value
    for _, row in sorted(rows.items()):
        logger.experiment.log(row)
