"""Reads run folders as they are found: finished, failed, cut off in the middle, or of another version."""

import csv
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import NoneType
from typing import Any

from gan_lightning.files import SCHEMA_VERSION

_PLUMBING = {"root", "cache_dir", "download", "verify", "evaluation_batch_size"}
"""Settings of a data set that say where it comes from, not what it is."""

_STATED = {"model", "data", "transfer", "seed_everything", "run"}
"""What a sweep may have chosen and `results.json` states: the beginning of a key, ..."""

_STATED_AS = {"trainer.max_epochs", "trainer.precision", "trainer.devices"}
"""... and the keys that have another name there."""

_FIGURE = {"extractor": (str,), "weights": (str,), "protocol": (str,), "source": (str,), "epoch": (int, NoneType),
           "accuracy": (int, float)}  # fmt: skip
"""Types of what is read of an accuracy, ours or a paper's, ..."""

_ABOUT = {"command": list, "wandb": dict}
"""... and of what else must be as expected, or missing."""

_POINTS = 120
"""Points of a curve of a run; longer ones are drawn as means of as many stretches."""


@dataclass(frozen=True)
class Run:
    """A finished fit.

    Attributes:
        folder: The run folder.
        name: Its path below the folder that was read.
        model: Class name.
        data: Name of the data set.
        seed: Of weights and latents.
        settings: What else the run was told, under short names; values are text or numbers.
        records: The accuracies, as in `results.json`.
        published: The papers' figures for it, as in `results.json`.
        about: `run.json`.
    """

    folder: Path
    name: str
    model: str
    data: str
    seed: int | None
    settings: Mapping[str, Any]
    records: Sequence[Mapping[str, Any]]
    published: Sequence[Mapping[str, Any]]
    about: Mapping[str, Any] = field(repr=False)

    @cached_property
    def finals(self) -> Mapping[tuple[str, str, str], float]:
        """The last accuracy by extractor, weights and protocol."""
        ordered = sorted(self.records, key=lambda record: record["epoch"] or 0)
        return {(r["extractor"], r["weights"], r["protocol"]): r["accuracy"] for r in ordered}

    @cached_property
    def curves(self) -> Mapping[str, Sequence[tuple[float, float]]]:
        """What was logged while training: (step, value) by name."""
        path = self.folder / "metrics.csv"
        if not path.is_file():
            return {}
        curves: dict[str, list[tuple[float, float]]] = {}
        with path.open(newline="", encoding="utf-8", errors="replace") as file, suppress(csv.Error):
            for row in csv.DictReader(file):
                for name, text in row.items():
                    if name not in (None, "step", "epoch") and text:
                        try:
                            point = float(row["step"]), float(text)
                        except (TypeError, ValueError, KeyError):
                            continue  # a row that was cut off
                        if all(map(math.isfinite, point)):
                            curves.setdefault(name, []).append(point)
        return {name: _shortened(points) for name, points in curves.items()}

    @property
    def pictures(self) -> Sequence[Path]:
        """The newest sample grid, and other pictures that the run has left beside it."""
        samples = sorted((self.folder / "samples").glob("*.png"))[-1:]
        return [*samples, *sorted(p for p in self.folder.glob("*.png")), *sorted(self.folder.glob("pictures/*.png"))]


@dataclass(frozen=True)
class LeftOut:
    """Something below the folder that was not drawn, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Found:
    """What a folder holds.

    Attributes:
        runs: Finished fits, by name.
        left_out: What else looked like a run.
        trials: Records of sweeps' trials, with `sweep` for the folder's name.
    """

    runs: Sequence[Run]
    left_out: Sequence[LeftOut]
    trials: Sequence[Mapping[str, Any]]


class _UnusableError(Exception):
    """Why a run is left out."""


def read_folder(root: Path) -> Found:
    """Read all runs and trials below a folder.

    Of several runs with the same settings and seed the newest counts: as one more seed a repetition would make the
    interval smaller than it is.
    """
    left_out: list[LeftOut] = []
    run_folders, trial_folders = folders_of(root)
    trials = dict(_read_trials(root, trial_folders, left_out))
    newest: dict[tuple[Any, ...], Run] = {}
    for folder in sorted(run_folders, key=lambda folder: folder.name):
        name = str(folder.relative_to(root))
        try:
            run = _read_run(folder, name, trials.get(folder.parent, {}).get("parameters", {}))
        except _UnusableError as reason:
            left_out.append(LeftOut(name, str(reason)))
            continue
        key = (run.model, run.data, run.seed, tuple(sorted(run.settings.items())))
        if key in newest:
            left_out.append(LeftOut(newest[key].name, f"the same settings and seed as the newer {name}"))
        newest[key] = run
    runs = sorted(newest.values(), key=lambda run: run.name)
    return Found(runs, sorted(left_out, key=lambda out: out.name), list(trials.values()))


def folders_of(root: Path) -> tuple[list[Path], list[Path]]:
    """Return the folders of runs and those of trials; what comes and goes while runs write is passed over."""
    runs, trials = [], []
    for name, below, files in os.walk(root):
        if "trial.json" in files:
            trials.append(Path(name))
        if "run.json" in files:
            runs.append(Path(name))
            below.clear()  # a run holds no runs
        below[:] = [folder for folder in below if not folder.startswith(".")]
    return runs, sorted(trials)


def _read_run(folder: Path, name: str, parameters: Mapping[str, Any]) -> Run:
    about = _read_json(folder / "run.json")
    _check_version(about, "run.json")
    status = about.get("status")
    if status == "failed":
        raise _UnusableError(f"it failed: {about.get('error')}")
    if about.get("stage", "fit") != "fit":
        raise _UnusableError(f"it is no training but a run of `{about['stage']}`")
    if not (folder / "results.json").is_file():
        running = "it is still running, or was killed" if status == "running" else "it was not evaluated"
        raise _UnusableError(f"there is no results.json: {running}")
    results = _read_json(folder / "results.json")
    _check_version(results, "results.json")
    if not results.get("records"):
        raise _UnusableError("results.json has no accuracies")
    try:
        return Run(
            folder=folder,
            name=name,
            model=str(results["model"]),
            data=str(results["data"]),
            seed=_typed(about, "seed", int, NoneType),
            settings=dict(_settings(results, about)) | dict(_swept(parameters)),
            records=[_figure(record, "weights", "epoch") for record in _typed(results, "records", list)],
            published=[_figure(figure, "source") for figure in _typed({"published": [], **results}, "published", list)],
            about={**about, **{name: _typed(about, name, kind, NoneType) for name, kind in _ABOUT.items()}},
        )
    except KeyError as error:
        raise _UnusableError(f"results.json lacks {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise _UnusableError(f"results.json is garbled: {error}") from error


def _figure(record: Mapping[str, Any], *more: str) -> Mapping[str, Any]:
    """Return an accuracy and what it is one of."""
    return {name: _typed(record, name, *_FIGURE[name]) for name in ("extractor", "protocol", *more, "accuracy")}


def _typed(content: Mapping[str, Any], name: str, *types: type) -> Any:
    """Return a value that is of one of these types, and a number only if it is finite."""
    value = content.get(name) if NoneType in types else content[name]
    is_one = isinstance(value, types) and not isinstance(value, bool)
    if not is_one or (isinstance(value, float) and not math.isfinite(value)):
        raise _UnusableError(f"it has {value!r} for {name}")
    return value


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _UnusableError(f"{path.name} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise _UnusableError(f"{path.name} is cut off or damaged: {error}") from error
    if not isinstance(content, dict):
        raise _UnusableError(f"{path.name} holds no mapping")
    return content


def _check_version(content: Mapping[str, Any], name: str) -> None:
    version = content.get("schema_version")
    if version != SCHEMA_VERSION:
        raise _UnusableError(
            f"{name} has schema version {version}, and this version of the package reads {SCHEMA_VERSION}"
        )


def _settings(results: Mapping[str, Any], about: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what makes a run the run it is, but for its seed."""
    for name, value in _flat(results.get("model_settings", {})):
        # A width by one name, whether the model or its networks have it.
        yield "base_width" if name == "networks.base_width" else name, value
    data = {name: value for name, value in results.get("data_settings", {}).items() if name not in _PLUMBING}
    yield from _flat(data, "data.")
    yield from _flat(results.get("protocols", {}), "transfer.")
    more = {
        "epochs": results.get("epochs"), "batches": results.get("batches"),
        "transfer.seed": results.get("transfer_seed"), "transfer.batch_norm": results.get("batch_norm"),
        "precision": about.get("precision"), "processes": about.get("processes"),
    }  # fmt: skip
    yield from _flat(more)


def _swept(parameters: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what a sweep has chosen and no other file of the run states."""
    for name, value in parameters.items():
        if name.partition(".")[0] not in _STATED and name not in _STATED_AS:
            yield from _flat({name: value})


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value if isinstance(value, str | int | float) or value is None else json.dumps(value)


def _shortened(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Return a curve of at most `_POINTS` points, each the mean of a stretch."""
    size = -(-len(points) // _POINTS)
    stretches = [points[i : i + size] for i in range(0, len(points), size)]
    return [(stretch[-1][0], sum(value for _, value in stretch) / len(stretch)) for stretch in stretches]


def _read_trials(
    root: Path, folders: Sequence[Path], left_out: list[LeftOut]
) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield the record of each trial by its folder."""
    for folder in folders:
        try:
            trial = _read_json(folder / "trial.json")
            _check_version(trial, "trial.json")
            kinds = {"id": str, "index": int, "parameters": dict, "status": str}
            known = {name: _typed(trial, name, kind) for name, kind in kinds.items()}
            sweep = Path(os.path.abspath(folder)).parent.name  # noqa: PTH100 (the name as the user knows it, link or not)
            yield folder, {"sweep": sweep, **known, "error": trial["error"], "seconds": trial["seconds"]}
        except (_UnusableError, KeyError) as error:
            left_out.append(LeftOut(str(folder.relative_to(root)), f"its trial's record is of no use: {error}"))
