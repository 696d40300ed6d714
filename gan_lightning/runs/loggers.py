"""Lightning's loggers that write files, in the run's folder: TensorBoard, CSV and MLflow.

`--trainer.logger=TensorBoardLogger` alone says no place. The run's folder is known once the run begins, so a stand-in
takes the logger's place until then.
"""

import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from PIL.Image import Image

from gan_lightning.figures import Figure, finite
from gan_lightning.runs.wandb_run import CURVE, log_wandb_curves
from gan_lightning.system.locks import locked
from gan_lightning.system.sweep_metric import sweep_metric
from gan_lightning.system.sweep_trial import is_a_trial

RUN_FOLDER = "RUN_FOLDER"
"""The `save_dir` of a logger whose files lie in the run's folder."""

HP_METRIC = "hp_metric"
"""The name under which TensorBoard compares runs by one metric; Lightning's, too."""

STORE = "mlruns"
"""MLflow's store of a folder of runs. MLflow compares the runs of one store."""

_NAME = "lightning_logs"  # Lightning's default for the names of folders and experiments
_OWN_PLACES = (None, RUN_FOLDER, "./mlruns")  # the last is Lightning's default


class _PlainSettings:
    """Gives a logger hyper-parameters that any reader of YAML takes: no tuples, no objects."""

    def log_hyperparams(self, params: Any, *arguments: Any, **settings: Any) -> None:
        """Log the hyper-parameters as `figures.json` has them."""
        given = params if isinstance(params, Mapping) else vars(params)
        super().log_hyperparams(finite(dict(given)), *arguments, **settings)  # type: ignore[misc]


class RunTensorBoard(_PlainSettings, TensorBoardLogger):
    """Lightning's `TensorBoardLogger` with plain hyper-parameters."""


class RunCSV(_PlainSettings, CSVLogger):  # type: ignore[misc]
    """Lightning's `CSVLogger` with plain hyper-parameters."""


class RunMLFlow(_PlainSettings, MLFlowLogger):
    """Lightning's `MLFlowLogger` with plain hyper-parameters."""


OURS: Mapping[type[Logger], type[Logger]] = {
    TensorBoardLogger: RunTensorBoard,
    CSVLogger: RunCSV,
    MLFlowLogger: RunMLFlow,
}
"""The classes that the command line makes for Lightning's."""

PACKAGES = {TensorBoardLogger: ("tensorboard", "tensorboardX"), MLFlowLogger: ("mlflow",)}
"""The packages that Lightning's loggers need, of which one is enough."""


class AwaitsRunFolder(Logger):
    """Stands for a logger until the run's folder is known; it logs nothing.

    Args:
        kind: Lightning's class.
        settings: The logger's.
    """

    name, version = "awaits the run's folder", ""

    def __init__(self, kind: type[Logger], settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.kind, self.settings = kind, dict(settings)

    def log_metrics(self, *arguments: Any, **settings: Any) -> None:
        """Log nothing."""

    def log_hyperparams(self, *arguments: Any, **settings: Any) -> None:
        """Log nothing."""

    def placed(self, folder: Path, root: Path) -> Logger:
        """Return the logger with its place.

        Args:
            folder: The run's.
            root: The folder of all runs.
        """
        settings = self.settings
        if self.kind is MLFlowLogger:
            # MLflow wants to be told that its files are meant, and no database.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
            experiment = settings.get("experiment_name", _NAME)
            runs, run = folder.parent.name, folder.name
            if is_a_trial():  # it has a folder of runs of its own, and is to be compared with the other trials
                runs, run = root.absolute().name, f"{runs}/{run}"
            settings = settings | {
                "experiment_name": runs if experiment == _NAME else experiment,
                "run_name": settings.get("run_name") or run,
                "tags": {"run_folder": str(folder)} | (settings.get("tags") or {}),
                "save_dir": str((root / STORE).absolute()),
                "tracking_uri": None,
            }
        else:
            name = "tensorboard" if self.kind is TensorBoardLogger else "csv"
            given, version = settings.get("name", _NAME), settings.get("version")
            settings = settings | {
                "save_dir": str(folder),
                "name": name if given == _NAME else given,
                "version": "" if version is None else version,
            }
        return OURS[self.kind](**settings)


def run_logger(kind: type[Logger], settings: Mapping[str, Any]) -> Logger:
    """Return one of Lightning's loggers, or what stands for it until the run's folder is known.

    Args:
        kind: Lightning's class, one of `OURS`.
        settings: The logger's. `save_dir` may be `RUN_FOLDER`.

    Raises:
        ModuleNotFoundError: Its package is not installed.
    """
    packages = PACKAGES.get(kind, ())
    if packages and not any(map(_is_installed, packages)):
        raise ModuleNotFoundError(f"{packages[0]} is not installed", name=packages[0])
    place = settings.get("save_dir")
    waits = place in _OWN_PLACES and not settings.get("tracking_uri") if kind is MLFlowLogger else place == RUN_FOLDER
    return AwaitsRunFolder(kind, settings) if waits else OURS[kind](**settings)


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # somebody has put something else into its place
        return False


def placed(loggers: Sequence[Logger], folder: Path, root: Path) -> list[Logger]:
    """Return loggers with those in place that have waited for the run's folder; arguments as in `AwaitsRunFolder`."""
    return [each.placed(folder, root) if isinstance(each, AwaitsRunFolder) else each for each in loggers]


def begin(loggers: Sequence[Logger]) -> None:
    """Make the runs of MLflow's loggers; two runs that make one experiment at once would fail."""
    for logger in loggers:
        if isinstance(logger, RunMLFlow) and logger.save_dir is not None:
            store = Path(logger.save_dir)
            store.parent.mkdir(parents=True, exist_ok=True)
            try:
                with locked(store.parent / f".{store.name}.lock"):
                    _ = logger.run_id
            except OSError:  # a file system without locks
                _ = logger.run_id


def log_earlier_rows(loggers: Sequence[Logger], rows: Sequence[Mapping[str, str]]) -> None:
    """Give a resumed run's loggers the earlier run's metrics; W&B goes on in the earlier run itself.

    Args:
        loggers: Of the run.
        rows: Rows of `metrics.csv`.
    """
    own = [logger for logger in loggers if type(logger) in OURS.values()]
    for row in rows if own else []:
        metrics = {name: float(value) for name, value in row.items() if value and name != "step"}
        for logger in own:
            logger.log_metrics(metrics, step=int(float(row["step"])))


def log_picture(logger: Logger, key: str, picture: Image, step: int) -> None:
    """Give a picture to a logger, if it takes pictures.

    Args:
        logger: Of the first process.
        key: The picture's name.
        picture: In RGB.
        step: Training steps so far.
    """
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(key, np.asarray(picture), step, dataformats="HWC")
    elif isinstance(logger, MLFlowLogger):
        logger.experiment.log_image(logger.run_id, picture, artifact_file=f"{key}/step-{step:08d}.png")
    elif hasattr(logger, "log_image"):
        logger.log_image(key, [picture], step=step)


def log_curves(logger: Logger, figures: Sequence[Figure]) -> None:
    """Give the points of curves to a logger: `curve/<figure>` over the curve's own axis.

    The axes of TensorBoard and MLflow are whole numbers. On these, the points of a curve with fractions are numbered.
    """
    if isinstance(logger, WandbLogger):
        log_wandb_curves(logger, figures)
    elif isinstance(logger, TensorBoardLogger | MLFlowLogger):
        curves: dict[str, list[tuple[float, float]]] = {}
        for figure in figures:
            if figure.at is not None:
                curves.setdefault(f"{CURVE}/{figure.name}", []).append((figure.at, figure.value))
        for name, points in curves.items():
            whole = all(at == int(at) for at, _ in points)
            for number, (at, value) in enumerate(sorted(points)):
                logger.log_metrics({name: value}, step=int(at) if whole else number)


def log_hp_metric(loggers: Sequence[Logger], rows: Sequence[Mapping[str, str]]) -> None:
    """Give a trial's loggers the last value of its sweep's metric as `hp_metric`; W&B knows the metric by its name.

    Args:
        loggers: Of the run.
        rows: The rows of `metrics.csv`.
    """
    name = sweep_metric()
    logged = [(row["step"], row[name]) for row in rows if name is not None and row.get(name)]
    for logger in loggers if logged else []:
        if isinstance(logger, TensorBoardLogger | MLFlowLogger) or type(logger) is RunCSV:
            logger.log_metrics({HP_METRIC: float(logged[-1][1])}, step=int(float(logged[-1][0])))
