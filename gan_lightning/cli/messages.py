"""Errors for the terminal: one line with the remedy, also for errors that other packages have wrapped."""

import inspect
import re
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from gan_lightning.errors import SettingError, UserError, WriteError
from gan_lightning.runs.checkpoint_files import DISK_ERRORS, remedy
from gan_lightning.runs.loggers import OURS, RUN_FOLDER, run_logger
from gan_lightning.system.private_names import raised_by_compiling

LOGGERS = {"wandb": "WandbLogger", "mlflow": "MLFlowLogger", "comet_ml": "CometLogger", "neptune": "NeptuneLogger"}
"""Lightning's loggers that speak to a server, by the package that does it for them."""


EXTRAS = ("mlflow", "tensorboard")
"""The packages of loggers that an extra of the same name installs."""


def made(kind: type, *arguments: Any, **settings: Any) -> Any:
    """Return an object of a class that a configuration names.

    Raises:
        SettingError: One of ours, of torch's or of Lightning's cannot be made, with the settings that are not its
            defaults, and why.
        Exception: That of a user's own class, which may have to be mended.
    """
    try:
        if kind in OURS:
            return run_logger(kind, settings)
        if issubclass(kind, Logger) and settings.get("save_dir") == RUN_FOLDER:
            del settings["save_dir"]  # an earlier configuration has named another logger
        return kind(*arguments, **settings)
    except Exception as error:
        ours = kind.__module__.startswith(("gan_lightning.", "torch", "lightning."))
        if not ours or (user_error(error) is not None and not isinstance(error, MisconfigurationException)):
            raise
        raise (_of_logger if issubclass(kind, Logger) else cannot_be_made)(kind, settings, error) from error


def cannot_be_made(kind: type, settings: Mapping[str, Any], error: Exception) -> SettingError:
    """Return which class could not be made, with those of its settings that are plain values and not its defaults."""
    defaults = {name: each.default for name, each in inspect.signature(kind).parameters.items()}
    own = [f"{name}={v!r}" for name, v in settings.items() if _is_plain(v) and v != defaults.get(name)]
    why = str(error).splitlines()[0] if str(error) else type(error).__name__
    return SettingError(f"{kind.__name__}({', '.join(own)}) cannot be made: {why}. Correct its settings.")


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(each) for each in value)
    return value is None or isinstance(value, bool | int | float | str)


def user_error(exception: BaseException | None) -> UserError | None:
    """Return the error for the user, also from inside another one, such as jsonargparse's."""
    follows = True  # false after an error that had been handled before another one came
    while exception is not None and not isinstance(exception, UserError):
        if follows and (refused := _of_server(exception) or _of_compiling(exception) or _of_monitor(exception)):
            return refused
        if follows and isinstance(exception, OSError) and exception.errno in DISK_ERRORS:
            file = f"'{exception.filename}'" if exception.filename else "a file of the run"
            return WriteError(f"{file} could not be written or read: {exception.strerror}. {remedy(exception)}.")
        if follows and (isinstance(exception, MisconfigurationException) or _names_trainers_setting(exception)):
            return SettingError(f"trainer: {' '.join(str(exception).split())}")
        follows = follows and exception.__cause__ is not None
        exception = exception.__cause__ or exception.__context__
    return exception


def _names_trainers_setting(error: BaseException) -> bool:
    """Return whether an error is Lightning's of a setting of its trainer: it puts their names between backticks."""
    named = re.findall(r"`(\w+)[`=]", str(error)) if isinstance(error, ValueError) else []
    return not set(named).isdisjoint(inspect.signature(Trainer).parameters)


def _of_logger(kind: type, _: Mapping[str, Any], error: Exception) -> SettingError:
    """Return why one of Lightning's loggers cannot be made: its package is missing, or its settings are wrong."""
    why = str(error).strip() or type(error).__name__
    if isinstance(error, ImportError):
        known = re.findall(r"Requirement '([\w-]+)", why)  # the last of several is the best known
        package = known[-1] if known else str(error.name or "its package").partition(".")[0]
        to_install = f"'gan-lightning[{package}]'" if package in EXTRAS else package.replace("_", "-")
        return SettingError(
            f"trainer.logger must be one whose package is installed, got {kind.__name__}, which needs {package}. "
            f"Install it with: pip install {to_install}"
        )
    return SettingError(
        f"trainer.logger must be one that can be used, got {kind.__name__}: {why.rstrip('.')}. Correct its settings."
    )


def _of_server(error: BaseException) -> SettingError | None:
    """Return why a logger cannot be used that speaks to a server: the account, the settings or the server itself."""
    package = type(error).__module__.partition(".")[0]
    if package not in LOGGERS:
        return None
    name, why = LOGGERS[package], str(error).strip() or type(error).__name__
    remedy = "Correct its settings."
    if name == WandbLogger.__name__:
        remedy = "Log in with `wandb login`, or set the environment variable WANDB_MODE=offline."
    return SettingError(f"trainer.logger must be one that can be used, got {name}: {why.rstrip('.')}. {remedy}")


def _of_compiling(error: BaseException) -> SettingError | None:
    """Return the error of a network that torch.compile could not compile."""
    if not isinstance(error, RuntimeError) or not raised_by_compiling(error):
        return None
    why = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return SettingError(
        f"speed.compile must not be true where torch.compile fails, got {type(error).__name__}: {why.rstrip('.')}. "
        "Leave it out."
    )


def _of_monitor(error: BaseException) -> SettingError | None:
    """Return which metric Lightning's `EarlyStopping` waits for in vain; its message alone has both names."""
    said = re.match(r"Early stopping conditioned on metric `(.*?)` .* following: (.*)", str(error))
    if not isinstance(error, RuntimeError) or said is None:
        return None
    known = ", ".join(sorted(re.findall(r"`(.*?)`", said[2])))
    return SettingError(
        f"EarlyStopping.monitor must be one of {known or 'what the model logs, nothing'}, got '{said[1]}'. Figures of "
        "measurements have to be asked for while training, as with --transfer.every_n_epochs=1."
    )
