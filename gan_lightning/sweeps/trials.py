"""The folders of a sweep's trials, each with the trial's parameters, record, output and runs.

<sweep's folder>/sweep.json           the command that all trials share
<sweep's folder>/<trial's id>/        trial.json, point.json, output.log, and a run folder for each attempt
"""

import csv
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal

from gan_lightning.errors import SettingError
from gan_lightning.sweeps.spec import Point, Sweep, with_environment
from gan_lightning.system.files import SCHEMA_VERSION, write_json
from gan_lightning.system.locks import lock
from gan_lightning.system.trial_states import TRIAL_LOCK, state_of

Status = Literal["running", "finished", "stopped", "failed", "killed"]
RECORD, SWEEP_RECORD = "trial.json", "sweep.json"
_LOOKS, _LOOK_SECONDS = 2, 0.02
"""Tries to lock a trial again: somebody who asks whether it is locked holds its lock for a moment."""

_SHARED_RECORD = "a sweep's record", "Remove it if the trials beside it are those of this sweep."
"""What `sweep.json` is, and the remedy if it is none."""


@dataclass
class Trial:
    """A trial's record.

    Attributes:
        id: Hash of the parameters.
        index: Place in the sweep, from 0.
        parameters: Value per key of the command line.
        status: Its state; a trial with a killed process may still be "running".
        error: The reason of its failure.
        attempts: Number of its starts.
        started: Time of the last start, ISO 8601.
        seconds: Wall time of the last attempt.
        run_folder: The last attempt's, relative to the trial's folder.
        earlier_runs: Run folders from before the last attempt.
        abandoned_runs: Run folders from before the last attempt that began anew; none of them is gone on with.
        folder: Folder of the record; not part of it.
    """

    id: str
    index: int
    parameters: Mapping[str, Any]
    status: Status
    folder: Path
    error: str | None = None
    attempts: int = 0
    started: str | None = None
    seconds: float | None = None
    run_folder: str | None = None
    earlier_runs: list[str] = field(default_factory=list)
    abandoned_runs: list[str] = field(default_factory=list)

    @property
    def state(self) -> str:
        """Its state: the status, or `killed` or `chosen` if that is "running" and no process holds the trial."""
        return state_of(self.status, self.attempts, self.folder)

    def write(self) -> None:
        """Write the record, whole or not at all."""
        content = {name: value for name, value in asdict(self).items() if name != "folder"}
        write_json(self.folder / RECORD, {"schema_version": SCHEMA_VERSION} | content)

    def run_folders(self) -> list[str]:
        """Return the names of all attempts' run folders, in order of time."""
        return sorted(path.parent.name for path in self.folder.glob("*/run.json"))

    def newest_run(self) -> Path | None:
        """Return the run folder of the last attempt, if it has made one."""
        runs = [name for name in self.run_folders() if name not in self.earlier_runs]
        return self.folder / runs[-1] if runs else None

    def runs_to_go_on(self) -> list[str]:
        """Return the names of the run folders of attempts since it last began anew, if the last one was killed."""
        if self.status not in ("running", "killed"):
            return []
        return [name for name in self.configured_runs() if name not in self.abandoned_runs]

    def configured_runs(self) -> list[str]:
        """Return the names of all run folders with a configuration, in order of time."""
        return sorted(path.parent.name for path in self.folder.glob("*/config.yaml"))

    def finished_run(self) -> Mapping[str, Any] | None:
        """Return the last attempt's `run.json`, if the run came to its end."""
        run = self.newest_run()
        try:
            about = json.loads((run / "run.json").read_text(encoding="utf-8")) if run else None
        except (OSError, ValueError):
            return None
        return about if isinstance(about, dict) and about.get("status") == "finished" else None

    def metric_history(self, name: str) -> list[float]:
        """Return all values of a metric that the last attempt has logged, in order."""
        run = self.folder / self.run_folder if self.run_folder else self.newest_run()
        path = run / "metrics.csv" if run else None
        if path is None or not path.is_file():
            return []
        return list(_column(path, path.stat().st_mtime_ns, name))

    def metric_names(self) -> list[str]:
        """Return the names of the last attempt's logged metrics."""
        run = self.folder / self.run_folder if self.run_folder else self.newest_run()
        path = run / "metrics.csv" if run else None
        if path is None or not path.is_file():
            return []
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            return next(csv.reader(file), [])


@cache
def _column(path: Path, changed: int, name: str) -> tuple[float, ...]:
    """Return a column of a CSV file that may still grow. `changed` is its time, for the cache."""
    text = path.read_text(encoding="utf-8", errors="replace")
    whole = text[: text.rfind("\n") + 1]
    return tuple(number for row in csv.DictReader(whole.splitlines()) if (number := _number(row.get(name))) is not None)


def _number(text: str | None) -> float | None:
    """Return the finite number in a cell, if there is one."""
    try:
        number = float(text or "nan")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def read_trial(path: Path) -> Trial:
    """Read a record.

    Raises:
        SettingError: If it is damaged or of another version.
    """
    content = _read_record(path, "a trial's record", "Remove its folder.")
    known = {f.name for f in fields(Trial)}
    try:
        return Trial(folder=path.parent, **{name: value for name, value in content.items() if name in known})
    except TypeError as error:
        raise _damaged(path, "a trial's record", error, "Remove its folder.") from error


def _read_record(path: Path, what: str, remedy: str) -> dict[str, Any]:
    """Return the content of a record without its version."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content.pop("schema_version")
    except Exception as error:  # anything may stand in the file
        raise _damaged(path, what, error, remedy) from error
    if version != SCHEMA_VERSION:
        raise SettingError(
            f"'{path}' has schema version {version}, and this version of the package reads {SCHEMA_VERSION}."
        )
    return content


def _damaged(path: Path, what: str, error: Exception, remedy: str) -> SettingError:
    return SettingError(f"'{path}' must be {what}, and is damaged: {error}. {remedy}")


def read_trials(folder: Path) -> list[Trial]:
    """Return all trials of a sweep's folder, in the sweep's order."""
    return sorted((read_trial(path) for path in folder.glob(f"*/{RECORD}")), key=lambda trial: (trial.index, trial.id))


def read_sweep_record(folder: Path) -> dict[str, Any]:
    """Return what all trials in a sweep's folder share: its name, command, method, metric and parameters.

    Raises:
        SettingError: There is no such record, or it is damaged or of another version.
    """
    if not (folder / SWEEP_RECORD).is_file():
        raise SettingError(
            f"the folder must be a sweep's, got '{folder}', which has no {SWEEP_RECORD}. Give the folder that "
            "`gan-lightning sweep` names at its end."
        )
    content = _read_record(folder / SWEEP_RECORD, *_SHARED_RECORD)
    if lacking := sorted({"name", "method", "parameters"} - content.keys()):
        raise _damaged(folder / SWEEP_RECORD, _SHARED_RECORD[0], KeyError(lacking[0]), _SHARED_RECORD[1])
    return content


def claim_folder(folder: Path, name: str, fingerprint: Mapping[str, Any], total: int | None = None) -> None:
    """Note the trials' common facts in a sweep's folder; refuse a folder of trials with other facts.

    Args:
        folder: The sweep's folder.
        name: The sweep's name.
        fingerprint: The command, the configurations' content, the method, metric and space, and the engine.
        total: Number of the sweep's trials.

    Raises:
        SettingError: The command, a configuration, a search's space or its engine has changed since.
    """
    path = folder / SWEEP_RECORD
    record = {"schema_version": SCHEMA_VERSION, "name": name, **fingerprint, "total": total}
    if path.is_file() and any(folder.glob(f"*/{RECORD}")):
        earlier = _read_record(path, *_SHARED_RECORD)
        try:
            changed = _changes(earlier, record)
        except (KeyError, TypeError, AttributeError) as error:
            raise _damaged(path, _SHARED_RECORD[0], error, _SHARED_RECORD[1]) from error
        if changed:
            raise SettingError(
                f"the trials in '{folder}' must be trials of the same sweep, but {changed[0]}. "
                "Choose another folder with --dir, or remove this one."
            )
        if earlier == {key: value for key, value in record.items() if key != "schema_version"}:
            return
    write_json(path, record)


def check_trials(sweep: Sweep, folder: Path) -> None:
    """Check that the trials in a sweep's folder are the sweep's, such as before a search learns from them.

    Raises:
        SettingError: A trial has other parameters, a value that the search cannot choose, or was changed by hand.
    """
    for trial in read_trials(folder):
        own, theirs = set(sweep.parameters), set(trial.parameters)
        wrong = None
        if own != theirs:
            name = min(own ^ theirs)
            wrong = f"has {'no ' if name in own else ''}{name}"
        elif Point(trial.index, trial.parameters).id != trial.id or trial.folder.name != trial.id:
            wrong = f"is not called {Point(trial.index, trial.parameters).id}, as its parameters are"
        elif sweep.method != "grid":
            strange = [each.name for each in sweep.space if not each.contains(trial.parameters[each.name])]
            wrong = f"has {strange[0]} = {trial.parameters[strange[0]]!r}, out of its range" if strange else None
        if wrong:
            raise SettingError(
                f"the trials in '{folder}' must be trials of {sweep.path}, but '{trial.folder.name}' {wrong}. "
                "Move it out of the folder, or choose another folder with --dir."
            )


def _changes(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the changes of a sweep's record. A grid may get other values, and a search another target."""
    # Old records have names of variables. Their former values are unknown, so the present ones are taken.
    command = [with_environment(word) for word in earlier["command"]]
    changed = [] if command == now["command"] else [f"the command was '{' '.join(command)}'"]
    configs = earlier["configs"]
    changed += [f"{name} has changed" for name, own in now["configs"].items() if configs.get(name, own) != own]
    if now.get("method", "grid") == "grid":
        return changed
    if earlier.get("method", now["method"]) != now["method"]:
        changed.append(f"the method was {earlier['method']}")
    if earlier.get("parameters", now["parameters"]) != now["parameters"]:
        changed.append(f"the space that was searched was {earlier['parameters']}")
    metric, was = (
        (each.get("name"), each.get("goal", "minimize")) for each in (now["metric"], earlier.get("metric", {}))
    )
    if was != metric:
        changed.append(f"the metric was {was[0]} ({was[1]})")
    if earlier.get("engine") != now.get("engine"):
        chosen_by = earlier.get("engine", "an engine without a name")
        changed.append(f"its points were chosen by {chosen_by}, and this is {now['engine']}")
    return changed


@contextmanager
def trial_lock(folder: Path) -> Iterator[int | None]:
    """Hold a trial; yield a descriptor to pass on to its process, or None if another process holds the trial.

    The system releases the lock when the last process with the descriptor ends, in any way. A trial is therefore free
    exactly when neither its runner nor its own process lives.
    """
    with _locked(folder, waits=False) as descriptor:
        yield descriptor


@contextmanager
def sweep_lock(folder: Path) -> Iterator[None]:
    """Hold a sweep's folder while a trial is chosen and written down; wait while another process holds it."""
    with _locked(folder, waits=True):
        yield


@contextmanager
def _locked(folder: Path, *, waits: bool) -> Iterator[int | None]:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = lock(folder / TRIAL_LOCK, waits=waits)
        for _ in range(_LOOKS):
            if descriptor is None:
                time.sleep(_LOOK_SECONDS)
                descriptor = lock(folder / TRIAL_LOCK, waits=waits)
    except OSError as error:
        raise SettingError(
            f"trials must be on a file system with locks, got '{folder}': {error.strerror or error}. Choose another "
            "with --dir."
        ) from error
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)
