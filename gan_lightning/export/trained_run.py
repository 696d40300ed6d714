"""A trained run, loaded from its folder: the model, and the facts that other projects need."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import LightningModule

from gan_lightning import papers
from gan_lightning.cli.checks import class_at
from gan_lightning.errors import DataError, SettingError, UserError
from gan_lightning.figures import FILE, RunFigures, read_figures
from gan_lightning.runs.checkpoint_files import read_checkpoint
from gan_lightning.system.files import read_json


@dataclass(frozen=True)
class TrainedRun:
    """A run's folder.

    Attributes:
        folder: The folder.
        config: The content of `config.yaml`; empty for a run from Python.
        about: The content of `run.json`.
        measured: The figures; without any if nothing was measured.
    """

    folder: Path
    config: Mapping[str, Any]
    about: Mapping[str, Any]
    measured: RunFigures

    def class_path(self, part: str) -> str | None:
        """Return the import path of the model's or data set's class; None if the run does not say it."""
        named = self.config.get(part)
        path = named.get("class_path") if isinstance(named, Mapping) else named
        return path if isinstance(path, str) else None

    def model_class(self) -> type[LightningModule]:
        """Return the model's class.

        Raises:
            SettingError: It cannot be found.
        """
        path = self.class_path("model")
        name = path or str(self.measured.about.get("model"))
        kind = getattr(papers, name, None) if name in papers.__all__ else class_at(path)
        if not isinstance(kind, type) or not issubclass(kind, LightningModule):
            raise SettingError(
                f"folder must be of a run whose model can be imported, got '{self.folder}', whose model is {name!r}. "
                "Start where its module is found, or load it with its own load_from_checkpoint()."
            )
        return kind

    def checkpoint(self, named: Path | None = None) -> Path:
        """Return the named checkpoint, or else the last one.

        Raises:
            SettingError: None is named, and there is no last one.
        """
        path = named or self.folder / "checkpoints" / "last.ckpt"
        if named is None and not path.exists():
            raise SettingError(
                f"folder must be of a run with a checkpoint, got '{self.folder}', which has no checkpoints/last.ckpt. "
                "Name another checkpoint."
            )
        return path

    def model(self, checkpoint: Path | None = None) -> LightningModule:
        """Return the model with a checkpoint's weights, in eval mode on the CPU.

        Args:
            checkpoint: A checkpoint of the run; by default `checkpoints/last.ckpt`.

        Raises:
            SettingError: There is no such checkpoint, or it is another model's.
        """
        path = self.checkpoint(checkpoint)
        kind = self.model_class()  # first: its module says which objects a checkpoint may hold
        read_checkpoint(path, "checkpoint")
        try:
            return kind.load_from_checkpoint(path, map_location="cpu", weights_only=True).eval()
        except UserError:
            raise
        except Exception as error:  # anything may go wrong in a user's model
            raise SettingError(
                f"checkpoint must be one of a {kind.__name__} that can be built from its saved hyper-parameters, got "
                f"'{path}' ({type(error).__name__}: {' '.join(str(error).split())[:300]}). Call "
                "self.save_hyperparameters() in its __init__."
            ) from error


def read_trained_run(folder: str | Path) -> TrainedRun:
    """Return a run's folder as it is on disk.

    Raises:
        SettingError: There is no run in it.
        DataError: A file of it is damaged.
    """
    run = Path(folder)
    if not (run / "run.json").is_file():
        raise SettingError(f"folder must be a run's folder, got '{run}', which has no run.json.")
    about = read_json(run / "run.json")
    try:
        text = (run / "config.yaml").read_text(encoding="utf-8") if (run / "config.yaml").is_file() else "{}"
        config = yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"'{run / 'config.yaml'}' cannot be read: {error}.") from error
    measured = read_figures(run / FILE) if (run / FILE).is_file() else RunFigures({})
    return TrainedRun(run, config if isinstance(config, Mapping) else {}, about, measured)


def load_run(folder: str | Path, checkpoint: str | Path | None = None) -> LightningModule:
    """Return the trained model of a run, in eval mode on the CPU.

    Its class comes from the run's `config.yaml`, or for a run from Python from the names of `gan_lightning.papers`. No
    code that stands in the checkpoint is run.

    Args:
        folder: The run's folder.
        checkpoint: A checkpoint of the run; by default `checkpoints/last.ckpt`.

    Raises:
        SettingError: There is no such run or checkpoint, or the model cannot be built.
        DataError: A file of the run is damaged.
    """
    return read_trained_run(folder).model(None if checkpoint is None else Path(checkpoint))
