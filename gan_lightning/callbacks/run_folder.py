"""One folder per run, with everything that is needed to understand it and to do it again."""

import os
import platform
import secrets
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from jaxtyping import Float
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from rich import get_console
from torch import Tensor

from gan_lightning.callbacks.wandb_run import describe_to_wandb
from gan_lightning.files import SCHEMA_VERSION, whole_file, write_json, write_text

_PACKAGES = ("gan-lightning", "torch", "lightning", "torchvision", "torchmetrics", "numpy", "scikit-learn", "wandb")


class RunFolder(Callback):
    """Gives each run a folder of its own: `<root>/<name>/<time>-<random>`.

    It holds `config.yaml` (resolved, when started from the command line), `run.json` (status, command, seed, versions,
    git commit, times), `metrics.csv` (one row per logged step), `checkpoints/`, and what other callbacks put there.
    Nothing is written before all settings and data have been checked, files appear whole or not at all, and no run
    writes into another's folder.

    Args:
        root: Folder of all runs.
        name: Folder below the root; where not given, the model's and the data set's names.
    """

    def __init__(self, root: str = "runs", name: str | None = None) -> None:
        self.root, self.name = root, name
        self.path: Path | None = None
        self.config: str | None = None
        """The resolved configuration as YAML; the command line sets it."""
        self._logger: CSVLogger | None = None
        self._record: dict[str, Any] = {}
        self._started = 0.0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Choose the folder, the same in all processes, and send checkpoints and metrics there."""
        if is_dry_run(trainer):
            for callback in trainer.checkpoint_callbacks:
                if isinstance(callback, ModelCheckpoint):
                    callback.save_last = None  # Lightning would save the last one even of a run that leaves nothing
            return
        earlier, self._record = self.path, {}
        data = getattr(trainer, "datamodule", None)
        parts = [type(pl_module).__name__, getattr(data, "name", None) or (type(data).__name__ if data else None)]
        name = self.name or "-".join(part.lower() for part in parts if part)
        unique = f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        path = trainer.strategy.broadcast(str(Path(self.root, name, unique)))
        self.path = Path(path)
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath in (None, _checkpoints(earlier)):
                callback.dirpath = _checkpoints(self.path)
        others = [logger for logger in trainer.loggers if logger is not self._logger]
        self._logger = CSVLogger(self.path, name="", version="")
        trainer.loggers = [*others, self._logger]
        if stage != "fit":  # a fit has checks of the model's still to come
            self._begin(trainer)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the folder, once everything has been checked."""
        self._begin(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Note that the run finished, and say where it is."""
        if not trainer.interrupted and self._end(trainer, "finished"):
            get_console().print(f"Run folder: {self.path}", soft_wrap=True)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Note why the run ended."""
        self._end(trainer, "failed", f"{type(exception).__name__}: {exception}")

    def _begin(self, trainer: Trainer) -> None:
        if self.path is None or not trainer.is_global_zero:
            return
        self.path.mkdir(parents=True)
        assert self._logger is not None
        _ = self._logger.experiment  # makes metrics.csv's writer while the folder is empty, as it wants it
        self._record = {
            "schema_version": SCHEMA_VERSION,
            "status": "running",
            "error": None,
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
            "stage": getattr(trainer, "task", trainer.state.fn),
            "seed": int(os.environ["PL_GLOBAL_SEED"]) if "PL_GLOBAL_SEED" in os.environ else None,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": None,
            "processes": trainer.world_size,
            "accelerator": type(trainer.accelerator).__name__,
            "precision": trainer.precision,
            "python": platform.python_version(),
            "versions": {name: metadata.version(name) for name in _PACKAGES},
            "git_commit": git_commit(),
            "wandb": None,
        }
        self._started = time.monotonic()
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                self._record["wandb"] = describe_to_wandb(logger, self.path, self.config)
        write_json(self.path / "run.json", self._record)
        if self.config is not None:
            write_text(self.path / "config.yaml", self.config)

    def _end(self, trainer: Trainer, status: str, error: str | None = None) -> bool:
        """Note how the run ended; return whether this process had one to note it of."""
        if self.path is None or self._record.get("status") != "running" or not trainer.is_global_zero:
            return False
        seconds = round(time.monotonic() - self._started, 1)
        self._record |= {"status": status, "error": error, "seconds": seconds}
        write_json(self.path / "run.json", self._record)
        return True


def _checkpoints(path: Path | None) -> str | None:
    return None if path is None else str(path / "checkpoints")


def run_folder(trainer: Trainer) -> Path | None:
    """Return the folder of the trainer's run, or None where the run keeps none."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return next((callback.path for callback in callbacks if isinstance(callback, RunFolder)), None)


def is_dry_run(trainer: Trainer) -> bool:
    """Return whether the trainer was asked to try a batch and to leave nothing behind (`fast_dev_run`)."""
    return bool(trainer.fast_dev_run)  # type: ignore[attr-defined]


def write_picture(trainer: Trainer, name: str, picture: Float[Tensor, "3 height width"], key: str) -> None:
    """Write a picture in [0, 1] as a PNG into the run's folder, and give it to the loggers that take pictures.

    Args:
        trainer: Of the run; only its first process writes.
        name: Path below the run's folder, without `.png`.
        picture: As `torchvision.utils.make_grid` returns it.
        key: Its name for loggers.
    """
    if not trainer.is_global_zero:
        return
    from torchvision.transforms.functional import to_pil_image

    image = to_pil_image(picture)
    if (folder := run_folder(trainer)) is not None:
        with whole_file(folder / f"{name}.png") as path:
            image.save(path)
    for logger in trainer.loggers:
        if hasattr(logger, "log_image"):
            logger.log_image(key, [image], step=trainer.global_step)


def git_commit() -> str | None:
    """Return the commit of the checkout in the working directory, with `-dirty` if it was changed; None outside one."""
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--match="]
    try:
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
