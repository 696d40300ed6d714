"""Reads run folders in any state: finished, failed, cut off in the middle, or of another version."""

import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import NoneType
from typing import Any

from gan_lightning.dashboard.run_files import logged_of
from gan_lightning.errors import DataError
from gan_lightning.figures import FILE, PLUMBING, Figure, RunFigures, final_figures, of_content, read_figures
from gan_lightning.system.files import SCHEMA_VERSION, read_json
from gan_lightning.system.trial_states import is_going_on, state_of

TRAINING_EPOCH = "training epoch"
"""The axis of a figure that was measured several times while training."""

SEED, SWEEP = "seed", "sweep"

_OTHER_NAMES = {"x", "variant", SEED, SWEEP, "run", "protocol", "method", "data", "epochs", "batches", "precision",
                "processes"}  # fmt: skip
"""Names with a meaning of their own on the page; a setting of the model's with such a name has `model.` before it."""

_WHEN = {"enabled", "every_n_epochs"}
"""Settings of a measurement that decide its time, without influence on its figures."""

_STATED = {"model", "data", "seed_everything", "run"}
"""First parts of a sweep's keys that `figures.json` states, beside the measurements' names, ..."""

_STATED_AS = {"trainer.max_epochs", "trainer.precision", "trainer.devices"}
"""... and the keys that have another name there."""

_ABOUT = {"command": list, "wandb": dict}
"""Types of further entries of `run.json`, which may be missing."""

_SHORT = {"trainer.max_epochs": "epochs", "trainer.precision": "precision", "trainer.devices": "processes",
          "seed_everything": SEED, "model": "method", "model.class_path": "method", "data": "data",
          "data.class_path": "data"}  # fmt: skip
"""Names on the page of some keys of the command line."""


@dataclass(frozen=True)
class Run:
    """A finished fit.

    Attributes:
        folder: The run folder.
        name: Its path below the read folder.
        model: Class name.
        data: Name of the data set.
        seed: Of weights and latents.
        settings: Further settings of the training, under short names; values are text or numbers.
        measuring: Settings of the measurements, as `<measurement>.<setting>`.
        measured: `figures.json`.
        published: The papers' figures for it, by our figures' names: `value` and `source`.
        about: `run.json`.
        sweep: Name of its sweep; empty without one.
    """

    folder: Path
    name: str
    model: str
    data: str
    seed: int | None
    settings: Mapping[str, Any]
    measuring: Mapping[str, Any]
    measured: RunFigures = field(repr=False)
    published: Mapping[str, Mapping[str, Any]] = field(repr=False)
    about: Mapping[str, Any] = field(repr=False)
    sweep: str = ""

    @cached_property
    def final(self) -> Sequence[Figure]:
        """The newest figure of each name, points of curves included."""
        return final_figures(self.measured.figures)

    @cached_property
    def over_training(self) -> Sequence[Figure]:
        """The figures measured after several epochs, as points of curves over the epochs."""
        known = [each for each in self.measured.figures if each.epoch is not None and not each.is_point]
        epochs: dict[str, set[int | None]] = {}
        for figure in known:
            epochs.setdefault(figure.name, set()).add(figure.epoch)
        several = [figure for figure in known if len(epochs[figure.name]) > 1]
        return [replace(each, axis=TRAINING_EPOCH, at=float(each.epoch or 0)) for each in several]

    @cached_property
    def logged(self) -> Mapping[str, Sequence[tuple[float, float]]]:
        """The values logged while training: (step, value) by name."""
        return logged_of(self.folder)


@dataclass(frozen=True)
class UnmeasuredRun:
    """A fit without figures: it runs, failed, was stopped early, or nothing was measured.

    Attributes:
        folder: The run folder.
        name: Its path below the read folder.
        status: Of its trial or of itself; `killed` if it never ended and no process holds its folder.
        reason: Why it has no figures.
        seed: Of weights and latents.
        settings: Its sweep's choices, under short names.
        sweep: Name of its sweep; empty without one.
        command: That it was started with.
    """

    folder: Path
    name: str
    status: str
    reason: str
    seed: int | None
    settings: Mapping[str, Any]
    sweep: str
    command: Sequence[Any]


@dataclass(frozen=True)
class LeftOut:
    """An entry below the folder that is not drawn, and the reason."""

    name: str
    reason: str


@dataclass(frozen=True)
class FoundRuns:
    """The runs and trials in a folder.

    Attributes:
        runs: Finished fits, by name.
        left_out: Other folders that looked like a run.
        trials: Records of sweeps' trials, with `sweep` for the folder's name and the present state as `status`.
        unmeasured: Fits without figures; these are among those left out.
        sweeps: Facts on the sweeps by their names: `total` and `metric`, each None if it is not known.
    """

    runs: Sequence[Run]
    left_out: Sequence[LeftOut]
    trials: Sequence[Mapping[str, Any]]
    unmeasured: Sequence[UnmeasuredRun] = ()
    sweeps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


class _UnusableError(Exception):
    """The reason why a run is left out."""


def read_folder(root: Path) -> FoundRuns:
    """Read all runs and trials below a folder.

    The newest of several runs with the same settings and seed counts; a sweep's trial counts before a single run. A
    repetition is no further seed: it would make the interval too small. Earlier attempts of an ended trial are dropped.
    """
    left_out: list[LeftOut] = []
    unmeasured: list[UnmeasuredRun] = []
    run_folders, trial_folders = folders_of(root)
    trials = dict(_read_trials(root, trial_folders, left_out))
    kept: dict[tuple[Any, ...], list[Run]] = {}
    for folder in sorted(run_folders, key=lambda folder: (folder.parent in trials, folder.name)):
        name, trial = str(folder.relative_to(root)), trials.get(folder.parent, {})
        if trial.get("status") in ("finished", "stopped") and trial.get("run_folder") not in (None, folder.name):
            continue
        try:
            run = _read_run(folder, name, trial)
        except _UnusableError as reason:
            left_out.append(LeftOut(name, str(reason)))
            unmeasured += _unmeasured(folder, name, trial, str(reason))
            continue
        same = kept.setdefault((run.model, run.data, run.seed, tuple(sorted(run.settings.items()))), [])
        for earlier in [each for each in same if _are_measured_alike(each, run)]:
            which = "newer " if run.folder.name >= earlier.folder.name else "sweep's trial "
            left_out.append(LeftOut(earlier.name, f"the same settings and seed as the {which}{name}"))
            same.remove(earlier)
        same.append(run)
    runs = sorted((run for same in kept.values() for run in same), key=lambda run: run.name)
    records = list(trials.values())
    sweeps = {trial["sweep"]: _sweep_facts(folder.parent) for folder, trial in trials.items()}
    return FoundRuns(runs, sorted(left_out, key=lambda out: out.name), records, unmeasured, sweeps)


def _are_measured_alike(first: Run, second: Run) -> bool:
    """Return whether the common settings of two runs' measurements agree."""
    both = first.measuring.keys() & second.measuring.keys()
    return all(first.measuring[name] == second.measuring[name] for name in both)


def folders_of(root: Path) -> tuple[list[Path], list[Path]]:
    """Return the folders of runs and of trials, also behind links; folders of writing runs are passed over."""
    runs, trials = [], []
    seen: set[str] = set()
    for name, below, files in os.walk(root, followlinks=True):
        if (real := os.path.realpath(name)) in seen:
            below.clear()  # a link to what was read already
            continue
        seen.add(real)
        if "trial.json" in files:
            trials.append(Path(name))
        if "run.json" in files:
            runs.append(Path(name))
            below.clear()  # a run holds no runs
        below[:] = [folder for folder in below if not folder.startswith(".")]
    return runs, sorted(trials)


def _read_run(folder: Path, name: str, trial: Mapping[str, Any]) -> Run:
    about = _read_json(folder / "run.json")
    _check_version(about, "run.json")
    if about.get("stage", "fit") not in ("fit", "measure"):  # measured networks have folders, too
        raise _UnusableError(f"it is no training but a run of `{about['stage']}`")
    if trial.get("status") == "stopped":
        raise _UnusableError("its sweep stopped it early")
    if (status := about.get("status")) != "finished":
        now = "it is still running" if is_going_on(folder) else "it was killed"
        reasons = {"running": now, "failed": f"it failed: {about.get('error')}"}
        raise _UnusableError(reasons.get(str(status), f"it did not finish: {status}, {about.get('error')}"))
    if not (folder / FILE).is_file():
        raise _UnusableError(f"there is no {FILE}: nothing was measured")
    try:
        measured = read_figures(folder / FILE)
    except DataError as error:
        raise _UnusableError(str(error).replace(f"'{folder / FILE}'", FILE)) from error
    if not measured.figures:
        raise _UnusableError(f"{FILE} has no figures")
    try:
        return Run(
            folder=folder,
            name=name,
            model=_typed(measured.about, "model", str),
            data=_typed(measured.about, "data", str),
            seed=_typed(measured.about, "seed", int, NoneType),
            settings=dict(_settings(measured.about, about)) | dict(_swept(trial.get("parameters", {}), measured)),
            measuring=dict(_measuring(measured)),
            measured=measured,
            published={
                figure: {"value": _typed(printed, "value", int, float), "source": _typed(printed, "source", str)}
                for figure, printed in measured.published.items()
            },
            about={**about, **{name: _typed(about, name, kind, NoneType) for name, kind in _ABOUT.items()}},
            sweep=trial.get("sweep", ""),
        )
    except KeyError as error:
        raise _UnusableError(f"{FILE} lacks {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise _UnusableError(f"{FILE} is garbled: {error}") from error


def _unmeasured(folder: Path, name: str, trial: Mapping[str, Any], reason: str) -> Iterator[UnmeasuredRun]:
    """Yield a fit without figures, if it is one that the page can show."""
    try:
        about = _read_json(folder / "run.json")
    except _UnusableError:
        return
    if about.get("stage", "fit") != "fit" or about.get("schema_version") != SCHEMA_VERSION:
        return
    settings = {short_name(key): value for key, value in _flat(trial.get("parameters", {}))}
    seed = about.get("seed")
    status = "stopped" if trial.get("status") == "stopped" else str(about.get("status"))
    status = "killed" if status == "running" and not is_going_on(folder) else status
    command = about.get("command")
    yield UnmeasuredRun(
        folder, name, status, reason, seed if isinstance(seed, int) else None,
        {own: value for own, value in settings.items() if own != SEED}, trial.get("sweep", ""),
        command if isinstance(command, list) else [],
    )  # fmt: skip


def _sweep_facts(folder: Path) -> Mapping[str, Any]:
    """Return the number of a sweep's trials and its metric, each None if `sweep.json` does not tell."""
    try:
        record = _read_json(folder / "sweep.json")
    except _UnusableError:
        record = {}
    total, metric = record.get("total"), record.get("metric")
    return {
        "total": total if isinstance(total, int) else None,
        "metric": metric if isinstance(metric, dict) and isinstance(metric.get("name"), str) else None,
    }


def short_name(key: str) -> str:
    """Return the name on the page of a setting from its key on the command line."""
    if key in _SHORT:
        return _SHORT[key]
    plain = key.replace(".init_args.", ".").replace(".class_path", ".class")
    own = plain.removeprefix("model.")
    return plain if own in _OTHER_NAMES else own


def _typed(content: Mapping[str, Any], name: str, *types: type) -> Any:
    """Return a value of one of these types; a number must be finite."""
    value = content.get(name) if NoneType in types else content[name]
    is_one = isinstance(value, types) and not isinstance(value, bool)
    if not is_one or (isinstance(value, float) and not math.isfinite(value)):
        raise _UnusableError(f"it has {value!r} for {name}")
    return value


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        content = read_json(path)
    except DataError as error:
        raise _UnusableError(str(error).replace(f"'{path}'", path.name).removesuffix(".")) from error
    if not isinstance(content, dict):
        raise _UnusableError(f"{path.name} holds no mapping")
    return content


def _check_version(content: Mapping[str, Any], name: str) -> None:
    version = content.get("schema_version")
    if version != SCHEMA_VERSION:
        raise _UnusableError(
            f"{name} has schema version {version}, and this version of the package reads {SCHEMA_VERSION}"
        )


def _settings(measured: Mapping[str, Any], about: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the settings that identify a run, without its seed and its measurements."""
    for name, value in _flat(measured.get("model_settings", {})):
        # A width has one name, for a model's and for its networks'.
        own = "base_width" if name == "networks.base_width" else name
        yield f"model.{own}" if own in _OTHER_NAMES else own, value
    yield from _flat(of_content(measured.get("data_settings", {})), "data.")
    of_run = {"precision": about.get("precision"), "processes": about.get("processes")}
    yield from _flat({"epochs": measured.get("epochs"), "batches": measured.get("batches"), **of_run})


def _measuring(measured: RunFigures) -> Iterator[tuple[str, Any]]:
    """Yield the settings of the measurements, without the source and place of data that they have of their own."""
    for name, section in measured.sections.items():
        stated = {own: value for own, value in section.settings.items() if own not in _WHEN}
        for setting, value in _flat(stated, f"{name}."):
            if setting.rpartition(".")[2] not in PLUMBING:
                yield setting, value


def _swept(parameters: Mapping[str, Any], measured: RunFigures) -> Iterator[tuple[str, Any]]:
    """Yield a sweep's choices that no other file of the run states."""
    stated = {*_STATED, *measured.sections, *measured.passed_over}
    for name, value in parameters.items():
        if name.partition(".")[0] not in stated and name not in _STATED_AS:
            yield from _flat({name: value})


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
            # Entries with settings of their own, such as probes, are named by their classes.
            yield from _flat({str(each.get("class", i)): each for i, each in enumerate(value)}, f"{prefix}{name}.")
        else:
            yield prefix + name, value if isinstance(value, str | int | float) or value is None else json.dumps(value)


def _read_trials(
    root: Path, folders: Sequence[Path], left_out: list[LeftOut]
) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield the record of each trial by its folder. Sweeps of one name are told apart by their paths."""
    sweeps = {folder: Path(os.path.abspath(folder)).parent for folder in folders}  # noqa: PTH100 (a link or not)
    names = Counter(sweep.name for sweep in set(sweeps.values()))
    for folder in folders:
        try:
            trial = _read_json(folder / "trial.json")
            _check_version(trial, "trial.json")
            kinds = {"id": str, "index": int, "parameters": dict, "status": str}
            known = {name: _typed(trial, name, kind) for name, kind in kinds.items()}
            known["status"] = state_of(known["status"], trial.get("attempts", 0), folder)
            alone = names[sweeps[folder].name] == 1
            sweep = sweeps[folder].name if alone else folder.relative_to(root).parent.as_posix()
            yield folder, {"sweep": sweep, **known, "error": trial["error"], "seconds": trial["seconds"],
                           "run_folder": trial.get("run_folder")}  # fmt: skip
        except (_UnusableError, KeyError) as error:
            left_out.append(LeftOut(str(folder.relative_to(root)), f"its trial's record is of no use: {error}"))
