"""The command line's checks of a configuration before anything is made, and of a checkpoint before its use."""

import inspect
import math
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

from jsonargparse import Namespace
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from gan_lightning.errors import SettingError
from gan_lightning.runs.checkpoint_files import Checkpoint, read_checkpoint


def check_values(settings: Any, name: str = "", parameters: Mapping[str, inspect.Parameter] | None = None) -> None:
    """Check that numbers are finite, and that no setting is null that needs a value.

    Defaults of a class are not checked.

    Args:
        settings: A configuration, or a part of it.
        name: The part's name.
        parameters: Parameters of the part's class, if it is known.

    Raises:
        SettingError: Naming the first wrong setting, or a seed that is out of range.
    """
    if isinstance(settings, Namespace | dict):
        for key, value in vars(settings).items() if isinstance(settings, Namespace) else settings.items():
            if key == "init_args":
                check_values(value, name, parameters_of(settings.get("class_path")))
                continue
            parameter = (parameters or {}).get(key)
            if parameter is not None and repr(value) == repr(parameter.default):
                continue
            full_name = f"{name}.{key}" if name else str(key)
            if value is None and parameter is not None and not _takes_none(parameter):
                raise SettingError(f"{full_name} must have a value, got null. Leave it out.")
            check_values(value, full_name)
    elif isinstance(settings, list | tuple):
        for number, value in enumerate(settings):
            check_values(value, f"{name}[{number}]")
    elif isinstance(settings, float) and not math.isfinite(settings):
        raise SettingError(f"{name} must be a finite number, got {settings}.")
    elif name.endswith(".seed") and isinstance(settings, int) and not 0 <= settings < 2**32:
        raise SettingError(f"{name} must be at least 0 and below 2**32, got {settings}.")


def parameters_of(kind: Any) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a class, given by itself or by its import path; empty if it has no signature."""
    kind = kind if isinstance(kind, type) else class_at(kind)
    try:
        return {} if kind is None else inspect.signature(kind).parameters
    except (AttributeError, ValueError):
        return {}


def declared_by(class_path: Any) -> set[str]:
    """Return the attributes of a class by its import path; attributes that `__init__` sets are not among them."""
    kind = class_at(class_path)
    if kind is None:
        return set()
    annotated = {name for base in getattr(kind, "__mro__", ()) for name in vars(base).get("__annotations__", {})}
    return annotated | set(dir(kind))


def class_at(class_path: Any) -> Any:
    """Return the object of an import path; None if there is none."""
    if not isinstance(class_path, str):
        return None
    module, _, name = class_path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        return None


def _takes_none(parameter: inspect.Parameter) -> bool:
    """Return whether a parameter may be None: by its default or type, or because the data set gives its value."""
    if parameter.default in (None, inspect.Parameter.empty) or parameter.annotation is inspect.Parameter.empty:
        return True
    if isinstance(parameter.annotation, str):
        return "None" in parameter.annotation or "Optional" in parameter.annotation or "Any" in parameter.annotation
    return parameter.annotation is Any or type(None) in get_args(parameter.annotation)


def check_same_settings(model: LightningModule, checkpoint: Path, *, resumes: bool) -> Checkpoint:
    """Check that a checkpoint was written by a model with the same settings; return its content.

    Args:
        model: The model.
        checkpoint: The file.
        resumes: Whether a training goes on with it. This takes more than weights.

    Raises:
        SettingError: If there is no such file or it is no checkpoint, or if a setting differs; names it and both
            values.
    """
    content = read_checkpoint(checkpoint, "ckpt_path")
    lacking = [name for name in ("optimizer_states", "lr_schedulers", "loops") if name not in content]
    if resumes and lacking:
        raise SettingError(
            f"ckpt_path must be a whole checkpoint to go on with, got '{checkpoint}', which holds weights alone "
            f"(no {lacking[0]}). Pass one that was written without checkpoint.save_weights_only."
        )
    saved = content.get("hyper_parameters", {})
    differing = [
        f"model.{name} is {model.hparams[name]} here and {value} in the checkpoint"
        for name, value in saved.items()
        if name in model.hparams and model.hparams[name] != value
    ]
    if differing:
        raise SettingError(
            f"ckpt_path must have been written with the same model settings: {'; '.join(differing)}. "
            f"Pass the config.yaml of the run that wrote '{checkpoint}', or a checkpoint that fits."
        )
    return content


def expect_weights_of(model: LightningModule) -> None:
    """Let a model refuse the weights of another one, at the time when it is given a checkpoint's.

    Only then it has all its networks: a model may build some of them in `setup`.
    """
    model.register_load_state_dict_pre_hook(_check_weights)


def _check_weights(model: nn.Module, weights: Mapping[str, Any], prefix: str, *arguments: object) -> None:
    """Check that weights have the names and shapes of a model's own.

    Raises:
        SettingError: Naming the first that has not.
    """
    own = model.state_dict(prefix=prefix)
    if getattr(model, "strict_loading", True) and (differing := sorted(own.keys() ^ weights.keys())):
        name, where = differing[0], "here" if differing[0] in own else "there"
        wrong = f"{name} is {where} alone, as are {len(differing) - 1} more"
    else:
        shapes = [
            f"{name} has the shape {tuple(weights[name].shape)} there and {tuple(each.shape)} here"
            for name, each in own.items()
            if name in weights and isinstance(each, Tensor) and not is_lazy(each) and each.shape != weights[name].shape
        ]
        if not shapes:
            return
        wrong = shapes[0]
    raise SettingError(
        f"ckpt_path must be a checkpoint of this {type(model).__name__}, whose weights are others: {wrong}. Pass the "
        "model's own."
    )


def check_not_past_the_end(trainer: Trainer, checkpoint: Checkpoint) -> None:
    """Check that a checkpoint is not of a longer training than this one.

    Raises:
        SettingError: If it is.
    """
    epochs, least = trainer.max_epochs, checkpoint["epoch"] + (0 if _within_epoch(checkpoint) else 1)
    if epochs is not None and 0 <= epochs < least:
        raise SettingError(
            f"trainer.max_epochs must be at least {least}, the epochs that the checkpoint has had, got {epochs}."
        )


def _within_epoch(checkpoint: Checkpoint) -> bool:
    progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
    return bool(progress["processed"] == progress["completed"])


def check_manual_optimization(trainer: Trainer, model: LightningModule) -> None:
    """Check that no setting acts between Lightning's backward pass and its optimizer's step.

    Raises:
        SettingError: If one does, and the model steps its optimizers itself.
    """
    plain = {"gradient_clip_val": (None,), "gradient_clip_algorithm": (None,), "accumulate_grad_batches": (1,)}
    for name, values in plain.items():
        value = getattr(trainer, name)
        if not model.automatic_optimization and value not in values:
            raise SettingError(
                f"trainer.{name} must not be set with {type(model).__name__}, which steps its optimizers itself, got "
                f"{getattr(value, 'value', value)}. Leave it out."
            )
