"""One folder per run, with everything needed to understand it, to repeat it and to go on with it."""

import contextlib
import json
import logging
import os
import platform
import secrets
import shutil
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from jaxtyping import Float
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from gan_lightning.errors import MeasurementError, SettingError
from gan_lightning.runs.checkpoints import link, saved_files
from gan_lightning.runs.interruption import Interrupted
from gan_lightning.runs.loggers import begin, log_earlier_rows, log_hp_metric, log_picture, placed
from gan_lightning.runs.metrics_file import MetricsFile, first_rows, pending_rows
from gan_lightning.runs.wandb_run import RUN, describe_to_wandb
from gan_lightning.system.files import SCHEMA_VERSION, remove_abandoned, whole_file, write_json, write_text
from gan_lightning.system.locks import lock
from gan_lightning.system.seeds import run_seed
from gan_lightning.system.terminal import show
from gan_lightning.system.trial_states import RUN_LOCK, is_going_on

logger = logging.getLogger(__name__)

_PACKAGES = ("gan-lightning", "torch", "lightning", "torchvision", "torchmetrics", "numpy", "scikit-learn", "wandb")

_ending = threading.RLock()  # a lock of the object could not be copied with it


class RunFolder(Callback):
    """Gives each run a folder of its own: `<root>/<name>/<time>-<random>`.

    It holds `config.yaml` (resolved, when started from the command line), `run.json` (status, command, seed, versions,
    git commit, times), `metrics.csv` (one row per logged step), `checkpoints/`, and the files of other callbacks.
    Nothing is written before all settings and data have been checked. Files appear whole or not at all. No run writes
    into another's folder.

    A run that goes on from a checkpoint has a folder of its own, too. The folder begins with the earlier run's files at
    the time of the checkpoint: the rows of `metrics.csv`, the kept checkpoints, pictures of earlier epochs.
    `resumed_from` in `run.json` names the checkpoint.

    Args:
        root: Folder of all runs.
        name: Folder below the root; by default the model's and the data set's names.
    """

    def __init__(self, root: str = "runs", name: str | None = None) -> None:
        self.root, self.name = root, name
        self.path: Path | None = None
        self.config: str | None = None
        """The resolved configuration as YAML; the command line sets it."""
        self._logger: MetricsFile | None = None
        self._record: dict[str, Any] = {}
        self._started = 0.0
        self._earlier: dict[str, Any] | None = None
        self._lock: int | None = None
        self._pending: list[dict[str, Any]] = []
        self.finished: Path | None = None
        """The folder of a finished run to measure; the command line sets it."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Choose the folder, the same in all processes, and send checkpoints and metrics there."""
        if is_dry_run(trainer):
            for callback in trainer.checkpoint_callbacks:
                if isinstance(callback, ModelCheckpoint):
                    callback.save_last = None  # Lightning would save a last one even in a run without a folder
            return
        if self.finished is not None:
            self.path = self.finished
            self._begin_to_measure()
            return
        earlier, self._record, self._earlier, self._pending = self.path, {}, None, []
        unique = f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        folder = self.folder_of_runs(pl_module, getattr(trainer, "datamodule", None))
        path = trainer.strategy.broadcast(str(folder / unique))
        self.path = Path(path)
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath in (None, _checkpoints(earlier)):
                callback.dirpath = _checkpoints(self.path)
        others = [logger for logger in trainer.loggers if logger is not self._logger]
        self._logger = MetricsFile(self.path)
        trainer.loggers = [*placed(others, self.path, Path(self.root)), self._logger]

    def folder_of_runs(self, pl_module: LightningModule, data: object) -> Path:
        """Return the folder that holds the folders of this model's and data set's runs."""
        parts = [subject_of(pl_module), getattr(data, "name", None) or (type(data).__name__ if data else None)]
        return Path(self.root, self.name or "-".join(part.lower() for part in parts if part))

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the folder, once everything has been checked."""
        self._begin(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the metrics that the earlier run was about to log, unless an interrupted measurement comes first."""
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        if all(getattr(callback, "due", None) is None for callback in callbacks):
            self.log_pending(trainer)

    def log_pending(self, trainer: Trainer) -> None:
        """Log the metrics that the earlier run was about to log when its checkpoint was written."""
        pending, self._pending = self._pending, []
        for row in pending:
            metrics = {name: value for name, value in row.items() if name != "step"}
            for log in trainer.loggers:
                log.log_metrics(metrics, step=row["step"])

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the folder of a run that validates alone."""
        if trainer.state.fn == "validate":
            self._begin(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the folder, once everything has been checked."""
        self._begin(trainer)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the folder, once everything has been checked."""
        self._begin(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note the run's folder, and the metrics that are logged or about to be."""
        pending = pending_rows(trainer)
        if self.path is None or self._logger is None or not trainer.is_global_zero:
            return
        wandb = self._record.get("wandb") or {}
        checkpoint[RUN] = {
            "folder": str(self.path.absolute()),
            "rows": self._logger.written_rows(),
            "pending": pending,
            "wandb": wandb.get("id"),
        }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take over the checkpoint's facts on the earlier run."""
        if trainer.state.fn == "fit":
            earlier = checkpoint.get(RUN)
            known = isinstance(earlier, dict) and {"folder", "rows", "pending"} <= earlier.keys()
            self._earlier = earlier if known else None

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Note that the run finished, and name its folder."""
        if not trainer.interrupted and self.end(trainer, "finished"):
            log_hp_metric(trainer.loggers, self._rows())
            show(f"Run folder: {self.path}", soft_wrap=True)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Note why the run ended."""
        told = isinstance(exception, KeyboardInterrupt | Interrupted | SIGTERMException)
        with contextlib.suppress(OSError):  # on a full disk the run's own error must be seen
            trained = isinstance(exception, MeasurementError)
            status = "finished" if trained else "interrupted" if told else "failed"
            self.end(trainer, status, f"{type(exception).__name__}: {exception}")
            if self._logger is not None:
                self._logger.finalize("failed")
        # Lightning would let the logger make its folder before another run has been checked.
        trainer.loggers = [log for log in trainer.loggers if log is not self._logger]

    def _begin_to_measure(self) -> None:
        """Lock the folder of a finished run while figures are added to it, and note that they were.

        Raises:
            SettingError: The run is still going on, or is being measured.
        """
        assert self.path is not None
        if is_going_on(self.path):
            raise SettingError(
                f"the run must have ended, or its measuring, got '{self.path}', which has not. Wait for it."
            )
        self._lock = _locked(self.path)
        try:
            self._record = json.loads((self.path / "run.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self._record = {}
        measured = {"command": _command(), "time": _now(), "git_commit": git_commit(), "status": "running"}
        self._record.setdefault("measured", []).append(measured)

    def _begin(self, trainer: Trainer) -> None:
        if self.path is None or not trainer.is_global_zero or self.finished is not None:
            return
        self.path.mkdir(parents=True)
        with contextlib.suppress(OSError):  # the folders may belong to another user
            tidy_up_after_killed_runs(self.path.parent)
        assert self._logger is not None
        _ = self._logger.experiment  # makes metrics.csv's writer now: it wants an empty folder
        self._lock = _locked(self.path)
        self._record = {
            "schema_version": SCHEMA_VERSION,
            "status": "running",
            "error": None,
            "command": _command(),
            "stage": getattr(trainer, "task", trainer.state.fn),
            "seed": run_seed(),
            "started": _now(),
            "seconds": None,
            "processes": trainer.world_size,
            "accelerator": type(trainer.accelerator).__name__,
            "precision": trainer.precision,
            "python": platform.python_version(),
            "versions": {name: _version(name) for name in _PACKAGES},
            "git_commit": git_commit(),
            "resumed_from": str(trainer.ckpt_path) if trainer.state.fn == "fit" and trainer.ckpt_path else None,
            "data": getattr(getattr(trainer, "datamodule", None), "about", None),
            "wandb": None,
        }
        self._started = time.monotonic()
        begin(trainer.loggers)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                self._record["wandb"] = describe_to_wandb(logger, self.path, self.config)
        write_json(self.path / "run.json", self._record)
        if self.config is not None:
            write_text(self.path / "config.yaml", self.config)
        if self._record["resumed_from"] is not None and self._earlier is not None:
            self._go_on(trainer, self._earlier)

    def _go_on(self, trainer: Trainer, earlier: dict[str, Any]) -> None:
        """Bring in the earlier run's files at the time of the checkpoint."""
        assert self.path is not None
        assert self._logger is not None
        checkpoint = Path(str(trainer.ckpt_path)).absolute()
        beside = checkpoint.parent.parent  # the place of a moved run
        folder = beside if (beside / "run.json").is_file() else Path(earlier["folder"])
        rows = first_rows(folder / "metrics.csv", earlier["rows"])
        if len(rows) < earlier["rows"]:
            logger.warning(
                "The checkpoint was written after %d rows of metrics, and '%s' has %d: metrics.csv begins with those.",
                earlier["rows"],
                folder / "metrics.csv",
                len(rows),
            )
        self._logger.begin_with(rows)
        log_earlier_rows(trainer.loggers, rows)
        self._pending = list(earlier["pending"])
        written = checkpoint.stat().st_mtime_ns if checkpoint.exists() else None
        for picture in folder.glob("[!.]*/*.png"):  # without half-written pictures of a killed run, and later ones
            if written is None or picture.stat().st_mtime_ns <= written:
                _bring(picture, self.path / picture.relative_to(folder))
        checkpoints = Path(_checkpoints(self.path) or "")
        kept = [file for file in saved_files(trainer) if file.parent == checkpoints and not file.exists()]
        brought = [file for file in kept if (folder / "checkpoints" / file.name).is_file()]
        for file in brought:
            _bring(folder / "checkpoints" / file.name, file)
        if brought and any(getattr(callback, "save_last", None) for callback in trainer.checkpoint_callbacks):
            resumed = checkpoints / checkpoint.resolve().name
            link(resumed if resumed in brought else brought[-1], checkpoints / "last.ckpt")

    def end(self, trainer: Trainer, status: str, error: str | None = None, *, anew: bool = False) -> bool:
        """Note how the run ended; return whether this process had a run to note.

        Args:
            trainer: Of the run.
            status: The status for `run.json`.
            error: The reason.
            anew: Whether this explains another error that has been noted.
        """
        if self.path is None or not trainer.is_global_zero:
            return False
        with _ending:  # the thread that watches other processes may note an error at the same moment
            ended: dict[str, Any] = {"status": status, "error": error}
            if self.finished is None:
                about, ended["seconds"] = self._record, round(time.monotonic() - self._started, 1)
            else:  # a finished run that is measured again keeps its own end
                about = self._record.get("measured", [{}])[-1]
            if about.get("status") not in ("running", *(["failed"] if anew else [])):
                return False
            about |= ended
            write_json(self.path / "run.json", self._record)
            self._unlock()
            return True

    def _rows(self) -> list[dict[str, str]]:
        """Return the rows of `metrics.csv`."""
        if self._logger is None or self.path is None or self.finished is not None:
            return []
        return first_rows(self.path / "metrics.csv", self._logger.written_rows())

    def _unlock(self) -> None:
        if self._lock is not None and self.path is not None:
            os.close(self._lock)
            (self.path / RUN_LOCK).unlink(missing_ok=True)
            self._lock = None


def _command() -> list[str]:
    return [Path(sys.argv[0]).name, *sys.argv[1:]]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # such as a source tree that is not installed
        return "not installed"


def _locked(folder: Path) -> int | None:
    """Lock a run's folder; return the lock, or None if the file system knows no locks."""
    try:
        return lock(folder / RUN_LOCK)  # waits for a process that tests the lock
    except OSError as error:
        logger.warning("'%s' cannot be locked (%s): --ckpt_path=last will not see that it goes on.", folder, error)
        return None


def tidy_up_after_killed_runs(folder: Path) -> None:
    """Remove the half-written files of killed runs below a folder."""
    for killed in (mark.parent for mark in folder.glob(f"*/{RUN_LOCK}")):  # a run that ends by itself removes this file
        if not is_going_on(killed):
            for written in (killed, *(each for each in killed.iterdir() if each.is_dir())):
                remove_abandoned(written)


def _bring(source: Path, target: Path) -> None:
    """Put a file into a second folder, too, as a link if the file system can, else as a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        with whole_file(target) as path:
            shutil.copy2(source, path)  # with its time: the newest file is found by it


def _checkpoints(path: Path | None) -> str | None:
    return None if path is None else str(path / "checkpoints")


def subject_of(pl_module: LightningModule) -> str:
    """Return the name of what a run trains or measures: the model's class, or the names that the model gives itself."""
    return str(getattr(pl_module, "run_name", type(pl_module).__name__))


def run_folder(trainer: Trainer) -> Path | None:
    """Return the folder of the trainer's run, or None if the run keeps none."""
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
        log_picture(logger, key, image, trainer.global_step)


def git_commit() -> str | None:
    """Return the working directory's git commit, with `-dirty` if files were changed; None outside a checkout."""
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--match="]
    try:
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
