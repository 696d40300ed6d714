"""The checkpoint of `--ckpt_path=last`: the newest good one of the runs with the same settings."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from gan_lightning.errors import SettingError
from gan_lightning.runs.checkpoint_files import Checkpoint, read_checkpoint
from gan_lightning.runs.wandb_run import RUN
from gan_lightning.system.sweep_trial import runs_to_go_on
from gan_lightning.system.trial_states import is_going_on

logger = logging.getLogger(__name__)

NO_SETTINGS = ("ckpt_path", "weights_only")
"""Settings of a command that concern a checkpoint instead of the run."""

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The faster loader, if it is installed; both read the same."""


def last_checkpoint(runs: Path, config: str, checkpoints: Path | None = None) -> Path | None:
    """Return the newest checkpoint to go on with, of the runs in a folder with these settings.

    Weights alone are passed over, and so are checkpoints that runs with other settings wrote into the same folder. A
    killed trial of a sweep goes on with its own runs since it last began anew, and begins anew instead of an error.

    Args:
        runs: Folder of the runs' folders.
        config: The resolved configuration, as YAML.
        checkpoints: Folder of the checkpoints by the settings; by default each run's own.

    Returns:
        The file. None if there is nothing to go on with: the runs were killed before the first checkpoint, or SLURM
        started the job again before there was a run.

    Raises:
        SettingError: If no run had these settings, one of them is still going on, or none of the checkpoints can be
            read.
    """
    wanted, of_the_trial = _settings(config), runs_to_go_on()
    known = _settings_of_runs(runs)
    if of_the_trial is not None:
        known = {run: settings for run, settings in known.items() if run.name in of_the_trial}
    same = [run for run, settings in known.items() if settings == wanted]
    if not known and "SLURM_RESTART_COUNT" in os.environ:
        logger.warning("There is no run in '%s', though SLURM starts this job again: it begins anew.", runs)
        return None
    if not same:
        _refuse(f"ckpt_path must not be last, since {_why_none(runs, known, wanted)}")
        return None
    if busy := [run for run in same if is_going_on(run)]:
        raise SettingError(
            f"ckpt_path must not be last while a run with the same settings is still going on: '{busy[0]}'. Wait for "
            "its end, or end it."
        )
    folders = [checkpoints] if checkpoints is not None else [run / "checkpoints" for run in same]
    files = [file for folder in folders for file in folder.glob("*.ckpt") if not file.is_symlink()]
    newest_first = sorted((file for file in files if file.is_file()), key=lambda file: file.stat().st_mtime_ns)[::-1]
    for file in newest_first:
        try:
            content = read_checkpoint(file, "ckpt_path")
        except SettingError as error:
            logger.warning("Passed over: %s", error)
            continue
        if "optimizer_states" not in content:
            logger.warning("Passed over: '%s' holds weights alone.", file)
        elif file.parent.parent not in same and _name_of_run(content) not in {run.name for run in same}:
            logger.warning("Passed over: '%s' was written by a run with other settings.", file)
        else:
            return file
    if newest_first:
        _refuse(
            f"ckpt_path must not be last, since none of the {len(newest_first)} checkpoints can be gone on with; "
            f"the newest is '{newest_first[0]}'. Leave out --ckpt_path to begin anew."
        )
        return None
    logger.warning("'%s' and all runs with its settings ended before the first checkpoint: it begins anew.", same[0])
    return None


def _refuse(message: str) -> None:
    """Raise an error; of a trial that a sweep lets go on, say instead that it begins anew."""
    if runs_to_go_on() is None:
        raise SettingError(message)
    logger.warning("The trial begins anew: %s", message)


def _settings(config: str) -> Mapping[str, Any]:
    content = yaml.load(config, LOADER)
    settings = content if isinstance(content, dict) else {}
    return {name: value for name, value in settings.items() if name not in NO_SETTINGS}


def _settings_of_runs(runs: Path) -> dict[Path, Mapping[str, Any]]:
    """Return the readable settings of all runs in a folder, the newest first."""
    found = {}
    for file in sorted(runs.glob("*/config.yaml"), reverse=True):
        with suppress(Exception):  # such as half a file of a killed run
            found[file.parent] = _settings(file.read_text(encoding="utf-8"))
    return found


def _name_of_run(checkpoint: Checkpoint) -> str | None:
    """Return the name of the run's folder. A moved folder keeps its name."""
    about = checkpoint.get(RUN)
    return Path(str(about["folder"])).name if isinstance(about, dict) and "folder" in about else None


def _why_none(runs: Path, known: Mapping[Path, Mapping[str, Any]], wanted: Mapping[str, Any]) -> str:
    if not known:
        return f"there is no run in '{runs}'. Leave it out to begin anew."
    newest, other = next(iter(known.items()))
    differing = sorted({name for name, _ in set(_leaves(wanted)) ^ set(_leaves(other))})
    shown = ", ".join(differing[:5]) + (", ..." if len(differing) > 5 else "")
    return (
        f"none of the {len(known)} runs in '{runs}' was started with the same settings; the newest, '{newest.name}', "
        f"differs in {shown}. Start it with the same command, pass a checkpoint file, or leave it out to begin anew."
    )


def _leaves(settings: object, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield the settings at all depths, by their dotted names, each with its value as a text."""
    if isinstance(settings, dict) and settings:
        for key, value in settings.items():
            yield from _leaves(value, f"{name}.{key}" if name else str(key))
    else:
        yield name, repr(settings)
