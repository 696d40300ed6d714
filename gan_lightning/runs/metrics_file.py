"""`metrics.csv`: whole at every moment; a run that goes on begins with the earlier run's rows."""

import csv
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.loggers.logger import rank_zero_experiment

from gan_lightning.system.files import flush, whole_file
from gan_lightning.system.private_names import logger_connector

Row = dict[str, Any]
"""Metrics by their names; `step` is among them."""


class MetricsFile(CSVLogger):
    """Lightning's `CSVLogger`, with a given folder for `metrics.csv` and a number of rows."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, name="", version="")
        self._writer: _Writer | None = None

    @property
    @rank_zero_experiment
    def experiment(self) -> "_Writer":
        """The file's writer, made at the first use."""
        if self._writer is None:
            Path(self.root_dir).mkdir(parents=True, exist_ok=True)
            self._writer = _Writer(self.log_dir)
        return self._writer

    def log_hyperparams(self, *args: Any, **settings: Any) -> None:
        """Write none: `figures.json` has them, and a safe reader of YAML would refuse some `hparams.yaml`."""

    def save(self) -> None:
        """Write the logged rows; without rows no folder is made."""
        if self._writer is not None:
            super().save()

    def finalize(self, status: str) -> None:
        """Write what was logged."""
        self.save()

    def written_rows(self) -> int:
        """Return the number of rows, all of them on the disk."""
        self.save()
        if self.experiment.rows:
            flush(Path(self.experiment.metrics_file_path))
        return self.experiment.rows

    def begin_with(self, rows: list[dict[str, str]]) -> None:
        """Write the first rows of another file; to be called before anything is logged."""
        self.experiment.begin_with(rows)


class _Writer(ExperimentWriter):
    """Appends rows. For a new column, a new file with this column replaces the old one."""

    def __init__(self, log_dir: str) -> None:
        super().__init__(log_dir)
        self.rows = 0
        self._path = Path(self.metrics_file_path)

    def save(self) -> None:
        """Append the rows logged since the last time."""
        if not self.metrics:
            return
        self.rows += len(self.metrics)
        is_there = self._path.is_file()
        if added := {name for row in self.metrics for name in row}.difference(self.metrics_keys):
            self.metrics_keys = sorted({*self.metrics_keys, *added})
            if is_there:
                with self._path.open(newline="") as file:
                    rows = list(csv.DictReader(file))
                self._write_all(rows)
        with self._path.open("a", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=self.metrics_keys)
            if not is_there:
                writer.writeheader()
            writer.writerows(self.metrics)
        self.metrics = []

    def begin_with(self, rows: list[dict[str, str]]) -> None:
        self.rows = len(rows)
        self.metrics_keys = sorted({name for row in rows for name, value in row.items() if value})
        if rows:
            self._write_all(rows)

    def _write_all(self, rows: list[dict[str, str]]) -> None:
        with whole_file(self._path) as path, path.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=self.metrics_keys, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)


def first_rows(metrics: Path, count: int) -> list[dict[str, str]]:
    """Return the first rows of a `metrics.csv`, at most `count`. A killed run's last line may be incomplete."""
    found: list[dict[str, str]] = []
    with suppress(OSError, ValueError, csv.Error), metrics.open(newline="") as file:  # as far as it can be read
        for row in csv.DictReader(file):
            if len(found) == count:
                break
            found.append({name: value or "" for name, value in row.items() if name is not None})
    return found


class _Recorder(Logger):
    """Keeps the logged rows."""

    name, version = "recorder", ""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Row] = []

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.rows.append({**metrics, "step": step})

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Keep nothing of these."""


def pending_rows(trainer: Trainer) -> list[Row]:
    """Return the row that Lightning will log after the present hook; a resumed run would not log it again.

    A checkpoint is written at the end of a batch or of an epoch before its metrics reach the loggers. To be called on
    every process, since metrics may be gathered for it.
    """
    connector, loop = logger_connector(trainer), trainer.fit_loop.epoch_loop
    of_batch, of_epoch = (
        progress.current.processed > progress.current.completed  # type: ignore[attr-defined]
        for progress in (loop.batch_progress, trainer.fit_loop.epoch_progress)
    )
    if not of_epoch and not (of_batch and connector.should_update_logs):
        return []
    recorder, loggers, metrics = _Recorder(), trainer.loggers, connector.metrics["log"]
    trainer.loggers = [recorder]
    try:
        connector.log_metrics(metrics)
    finally:
        trainer.loggers = loggers
    # An epoch's metrics stand at its last step, which Lightning counts as done by now.
    return [row | {"step": row["step"] - (of_epoch and "step" not in metrics)} for row in recorder.rows]
