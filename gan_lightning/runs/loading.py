"""A finished run's model, ready to be used."""

from importlib import import_module
from pathlib import Path

import torch
import yaml
from lightning.pytorch import LightningModule

from gan_lightning.errors import SettingError
from gan_lightning.runs.checkpoint_files import read_checkpoint
from gan_lightning.runs.contract import complete


def load_run(folder: str | Path, checkpoint: str | Path | None = None, device: str = "auto") -> LightningModule:
    """Return the model of a run in eval mode, with the weights of a checkpoint.

    Args:
        folder: The run's folder.
        checkpoint: One of the run's; by default `checkpoints/last.ckpt`.
        device: "auto" for a CUDA card if there is one, or a device by torch's name.

    Raises:
        SettingError: There is no such run, its class cannot be imported, or the checkpoint cannot be read.
    """
    folder = Path(folder)
    config = folder / "config.yaml"
    if not config.is_file():
        raise SettingError(
            f"run must be the folder of a run from the command line, got '{folder}', without config.yaml."
        )
    path = Path(checkpoint) if checkpoint is not None else folder / "checkpoints" / "last.ckpt"
    if not path.exists():
        raise SettingError(f"checkpoint must be a file of the run, got '{path}', which is not there.")
    name = yaml.safe_load(config.read_text(encoding="utf-8"))["model"]["class_path"]
    module, _, kind = name.rpartition(".")
    try:
        found = getattr(import_module(module), kind)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingError(f"the run's model {name!r} cannot be imported ({error}). Start where it can be.") from error
    read_checkpoint(path, "checkpoint")
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    try:
        model = found.load_from_checkpoint(path, map_location=chosen)
    except RuntimeError as error:
        raise SettingError(f"the run cannot be loaded on device {chosen!r} ({str(error).splitlines()[0]}).") from error
    assert isinstance(model, LightningModule)
    complete(model)
    return model.eval()
