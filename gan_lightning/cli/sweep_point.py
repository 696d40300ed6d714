"""The parameters that a sweep has chosen for this process, and whether the process uses them.

Values can get lost between a sweep and a configuration without a word. A later argument sets the same key, the setting
is computed from another one, or null arrives as the word 'None'. Trials that should differ are then the same.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from gan_lightning.errors import SettingError
from gan_lightning.system.sweep_trial import SWEEP_POINT

WANDB_POINT = "WANDB_SWEEP_PARAM_PATH"
"""Environment variable in which W&B's agent names the file of a trial's parameters."""

_NOTHING = object()


def swept_parameters() -> Mapping[str, Any]:
    """Return the parameters that a sweep, ours or W&B's agent's, has set for this process; empty outside of one.

    Raises:
        SettingError: If it cannot be read.
    """
    name = next((name for name in (SWEEP_POINT, WANDB_POINT) if name in os.environ), None)
    if name is None:
        return {}
    try:
        if name == SWEEP_POINT:
            return dict(json.loads(os.environ[name]))
        content = yaml.safe_load(Path(os.environ[name]).read_text(encoding="utf-8")) or {}
        return {key: given["value"] for key, given in content.items() if isinstance(given, dict)}
    except Exception as error:  # anything may stand there
        raise SettingError(
            f"{name} must hold a sweep's parameters, got '{os.environ[name]}', which cannot be read as such ({error}). "
            "Unset that variable outside of a sweep."
        ) from error


def check_swept(point: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Check that a trial uses its sweep's values. Otherwise two trials could be the same without a word.

    Args:
        point: Value per dotted key.
        config: The resolved configuration.

    Raises:
        SettingError: Naming the key, the sweep's value and the value that would be used.
    """
    for name, value in point.items():
        path = name.split(".")
        used = _setting(config, path)
        if not _agrees(value, used, is_class=path[-1] == "class_path"):
            said = "has no such setting" if used is _NOTHING else f"would use {used!r}"
            hint = (
                "Hand parameters on with --config ${args_json_file}: ${args} makes the word 'None' of null."
                if value is None
                else "Let no later argument set it, and sweep over what the command line takes."
            )
            raise SettingError(f"{name} must be {value!r}, as the sweep chose, but the run {said}. {hint}")


def _setting(config: Any, path: list[str]) -> Any:
    """Return the value of a dotted key; `init_args` may be left out of it, as on the command line."""
    for i, part in enumerate(path):
        if not isinstance(config, Mapping):
            return _NOTHING
        if part not in config and "init_args" in config:
            return _setting(config["init_args"], path[i:])
        config = config.get(part, _NOTHING)
    return config


def _agrees(value: Any, used: Any, is_class: bool = False) -> bool:
    """Return whether a value is used. Classes may have short names, and defaults beside the given settings."""
    if isinstance(value, str) and isinstance(used, Mapping) and "class_path" in used:
        return _agrees(value, used["class_path"], is_class=True)
    if isinstance(value, Mapping):
        return all(_agrees(given, _setting(used, [name]), name == "class_path") for name, given in value.items())
    if isinstance(value, list) and isinstance(used, list):
        return len(value) == len(used) and all(map(_agrees, value, used))
    if isinstance(value, str) and isinstance(used, str):
        return used == value or (is_class and used.endswith(f".{value}"))
    if isinstance(value, str) and isinstance(used, float):
        return _is_number(value, used)  # 1e-5, without a point, is a text in YAML and a number on the command line
    return isinstance(value, bool) == isinstance(used, bool) and value == used


def _is_number(text: str, number: float) -> bool:
    try:
        return float(text) == number
    except ValueError:
        return False
