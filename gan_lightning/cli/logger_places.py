"""Loggers named on the command line without a place for their files: these lie in the run's folder.

Lightning's TensorBoardLogger and CSVLogger want a `save_dir`; without one the parser would refuse them.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from gan_lightning.cli.naming import content_of, name_and_value, options_of
from gan_lightning.runs.loggers import RUN_FOLDER
from gan_lightning.system.yaml_files import CONFIG_OPTIONS

OPTION = "--trainer.logger"

WITHOUT_PLACE = ("TensorBoardLogger", "CSVLogger")
"""Lightning's loggers that have no default for their place."""


def with_places(arguments: Sequence[str]) -> list[str]:
    """Return arguments in which loggers that name no place have the run's folder.

    A configuration file stays as it is: behind it the loggers that it names are given again, with their place.
    """
    words: list[str] = []
    for option in options_of(arguments):
        name, value = name_and_value(option)
        if name in (OPTION, f"{OPTION}+"):
            given = _loaded(value)
            option = option if (placed := _placed(given)) == given else [f"{name}={json.dumps(placed)}"]
        words += option
        if name in CONFIG_OPTIONS:
            trainer = content_of(Path(value)).get("trainer")
            given = trainer.get("logger") if isinstance(trainer, dict) else None
            if (placed := _placed(given)) != given:
                words.append(f"{OPTION}={json.dumps(placed)}")
    return words


def _loaded(value: str) -> Any:
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        return value  # the parser reports it


def _placed(given: Any) -> Any:
    """Return what a configuration says of loggers, with places for those that have none."""
    if isinstance(given, list):
        return [_placed(each) for each in given]
    if isinstance(given, str):
        placed = _placed({"class_path": given})
        return placed if "init_args" in placed else given
    if isinstance(given, dict) and str(given.get("class_path")).rpartition(".")[2] in WITHOUT_PLACE:
        settings = given.get("init_args") or {}
        if isinstance(settings, dict) and settings.get("save_dir") is None:
            return {**given, "init_args": {**settings, "save_dir": RUN_FOLDER}}
    return given
