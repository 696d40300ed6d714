"""Errors for the terminal: one line with the remedy, also for errors that other packages have wrapped."""

import inspect
import re
from traceback import walk_tb
from typing import Any

from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from gan_lightning.errors import SettingError, UserError, WriteError
from gan_lightning.runs.checkpoint_files import DISK_ERRORS, remedy
from gan_lightning.system.private_names import raised_by_compiling

MOST_OF_A_LINE = 300
"""Most characters of torch's message on weights that do not fit."""


def refused_settings(error: BaseException) -> str | None:
    """Return a sentence with the class that could not be made, its settings that are not defaults, and the reason.

    None if the error came from elsewhere.

    Raises:
        Exception: The error itself, if it comes from a user's own class: this class may be wrong.
    """
    errors = [error]
    while (before := errors[-1].__cause__ or errors[-1].__context__) is not None:
        errors.append(before)
    for cause, frame in ((each, frame) for each in reversed(errors) for frame, _ in walk_tb(each.__traceback__)):
        made = frame.f_locals.get("self")
        theirs = type(made).__module__.startswith("jsonargparse") or isinstance(made, LightningCLI)
        if frame.f_code.co_name not in ("__init__", "__post_init__") or made is None or theirs:
            continue
        if not type(made).__module__.startswith(("gan_lightning.", "torch", "lightning.")):
            raise error
        given = {
            name: frame.f_locals.get(name, getattr(made, name, each.default))
            for name, each in inspect.signature(type(made)).parameters.items()
            if name not in ("logger", "callbacks")
        }
        defaults = {name: each.default for name, each in inspect.signature(type(made)).parameters.items()}
        own = [f"{name}={value!r}" for name, value in given.items() if _is_plain(value) and value != defaults[name]]
        why = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
        return f"{type(made).__name__}({', '.join(own)}) cannot be made: {why}. Correct its settings."
    return None


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(each) for each in value)
    return value is None or isinstance(value, bool | int | float | str)


def user_error(exception: BaseException | None) -> UserError | None:
    """Return the error for the user, also from inside another one, such as jsonargparse's."""
    follows = True  # false after an error that had been handled before another one came
    while exception is not None and not isinstance(exception, UserError):
        if follows and (refused := _of_logger(exception) or _of_compiling(exception) or _of_monitor(exception)):
            return refused
        if follows and isinstance(exception, OSError) and exception.errno in DISK_ERRORS:
            file = f"'{exception.filename}'" if exception.filename else "a file of the run"
            return WriteError(f"{file} could not be written or read: {exception.strerror}. {remedy(exception)}.")
        if follows and isinstance(exception, MisconfigurationException):  # Lightning's own: names its arguments
            return SettingError(f"trainer: {exception}")
        if follows and isinstance(exception, ValueError) and _of_lightning(exception):
            return SettingError(f"trainer: {' '.join(str(exception).split())}")
        if follows and isinstance(exception, RuntimeError) and (wrong := _other_weights(exception)):
            return wrong
        follows = follows and exception.__cause__ is not None
        exception = exception.__cause__ or exception.__context__
    return exception


def _of_lightning(error: BaseException) -> bool:
    """Return whether Lightning itself has raised an error, on one of its own arguments."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    return bool(frames) and str(frames[-1].f_globals.get("__name__", "")).startswith("lightning.")


def _of_logger(error: BaseException) -> SettingError | None:
    """Return the reason why a logger of Lightning's cannot be used: a missing package, account or server."""
    for frame, _ in walk_tb(error.__traceback__):
        made = frame.f_locals.get("self")
        starts = frame.f_code.co_name in ("__init__", "experiment", "get_experiment")
        if starts and isinstance(made, Logger) and type(made).__module__.startswith("lightning."):
            name, why = type(made).__name__, str(error).strip() or type(error).__name__
            if isinstance(error, ImportError):
                known = re.findall(r"Requirement '([\w-]+)", why)  # the last of several is the best known
                package = known[-1] if known else str(error.name or "its package").partition(".")[0]
                return SettingError(
                    f"trainer.logger must be one whose package is installed, got {name}, which needs {package}. "
                    f"Install it with: pip install {package.replace('_', '-')}"
                )
            remedy = "Correct its settings."
            if isinstance(made, WandbLogger) and type(error).__module__.startswith("wandb."):
                remedy = "Log in with `wandb login`, or set the environment variable WANDB_MODE=offline."
            return SettingError(f"trainer.logger must be one that can be used, got {name}: {why.rstrip('.')}. {remedy}")
    return None


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
    """Return the error of a Lightning callback that waits for a metric in vain."""
    if not isinstance(error, RuntimeError | MisconfigurationException):
        return None
    for frame, _ in walk_tb(error.__traceback__):
        made = frame.f_locals.get("self")
        logged = getattr(frame.f_locals.get("trainer"), "callback_metrics", None)
        if isinstance(made, EarlyStopping) and logged is not None and made.monitor not in logged:
            known = sorted(logged)
            return SettingError(
                f"{type(made).__name__}.monitor must be one of {', '.join(known) or 'what the model logs, nothing'}, "
                f"got '{made.monitor}'. Figures of measurements have to be asked for while training, as with "
                "--transfer.every_n_epochs=1."
            )
    return None


def _other_weights(error: RuntimeError) -> SettingError | None:
    """Return the error of weights that Lightning could not load from a checkpoint."""
    loads = any(frame.f_code.co_name == "load_model_state_dict" for frame, _ in walk_tb(error.__traceback__))
    said = re.match(r"Error\(s\) in loading state_dict for (\w+):\s*(.*\S)", str(error))
    if not loads or said is None:
        return None
    model, wrong = said.groups()
    shown = wrong if len(wrong) <= MOST_OF_A_LINE else f"{wrong[:MOST_OF_A_LINE]}..."
    return SettingError(
        f"ckpt_path must be a checkpoint of this {model}, whose weights are others: {shown} Pass the model's own."
    )
