"""W&B's sweep files: their allowed content, the points of a grid, and the command of a trial."""

import hashlib
import itertools
import json
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from gan_lightning.errors import SettingError
from gan_lightning.sweeps.distributions import PARAMETER_KEYS, Parameter, did_you_mean, parameter
from gan_lightning.sweeps.hyperband import Hyperband, hyperband
from gan_lightning.system.shipped import found_by_name, similar_names
from gan_lightning.system.yaml_files import check_repeated_keys

PROGRAM = "gan-lightning"
METHODS = ("grid", "random", "bayes")
KEYS = {
    "apiVersion", "kind", "program", "name", "description", "project", "entity", "method", "metric", "run_cap",
    "early_terminate", "parameters", "command", "scheduler",
}  # fmt: skip
SERVER_KEYS = {"controller", "metrics", "job", "image_uri"}
"""Keys of W&B's that have a meaning with its server only."""

_SCHEDULER_KEYS = ("engine", "source", "optimizer", "search_space")
_METRIC_KEYS = ("name", "goal", "target", "impute", "impute_while_running")
MACROS = ("${env}", "${program}", "${args}", "${args_json_file}")
_MACRO = re.compile(r"\$\{[^}]*\}")
_ENVIRONMENT = re.compile(r"\$\{envvar:([A-Za-z0-9_]*)\}")


@dataclass(frozen=True)
class Point:
    """One setting of all swept parameters.

    Attributes:
        index: Place in the sweep, from 0.
        parameters: Value per key of the command line.
    """

    index: int
    parameters: Mapping[str, Any]

    @property
    def id(self) -> str:
        """A hash of the parameters: the same in every sweep, on every machine, and in any order of the parameters."""
        return _digest(self.parameters)

    @property
    def label(self) -> str:
        """The parameters in short, for people."""
        return " ".join(f"{name.rpartition('.')[2]}={_short(value)}" for name, value in self.parameters.items())


@dataclass(frozen=True)
class Sweep:
    """A checked sweep file.

    Attributes:
        path: The file.
        name: The file's `name`, or else its stem.
        method: One of `METHODS`.
        parameters: W&B's description of each parameter, nested ones under dotted keys, in alphabetical order.
        command: The trial's command, macros included.
        run_cap: Most trials; None for a whole grid.
        metric: `name`, `goal` and `target` of the metric of Bayesian search and early stopping.
        early_terminate: W&B's settings of early stopping.
        project: The file's `project`, for W&B.
        entity: The file's `entity`, for W&B.
    """

    path: Path
    name: str
    method: str
    parameters: Mapping[str, Mapping[str, Any]]
    command: tuple[str, ...]
    run_cap: int | None
    metric: Mapping[str, Any] | None
    early_terminate: Mapping[str, Any] | None
    project: str | None = None
    entity: str | None = None

    @cached_property
    def space(self) -> tuple[Parameter, ...]:
        """The parameters with their distributions."""
        return tuple(parameter(name, spec) for name, spec in self.parameters.items())

    @cached_property
    def stopping(self) -> Hyperband | None:
        """The rule of early stopping."""
        return hyperband(self.early_terminate) if self.early_terminate else None

    @property
    def metric_name(self) -> str | None:
        """The name of the metric, if there is one."""
        return (self.metric or {}).get("name")

    @property
    def goal(self) -> str:
        """What to do with the metric: `minimize`, as W&B has it by default, or `maximize`."""
        return str((self.metric or {}).get("goal", "minimize"))

    @property
    def needs_metric(self) -> bool:
        """Whether the sweep looks at its metric, rather than shows it."""
        return self.method == "bayes" or bool(self.early_terminate) or "target" in (self.metric or {})

    def grid(self) -> list[Point]:
        """Return the points of a grid in W&B's order: names alphabetical, the last one changes fastest."""
        choices = [_grid_values(name, spec) for name, spec in self.parameters.items()]
        combinations = itertools.islice(itertools.product(*choices), self.run_cap)
        return [Point(i, dict(zip(self.parameters, values, strict=True))) for i, values in enumerate(combinations)]

    def trial_command(self, point: Point, point_file: Path, more: Sequence[str] = ()) -> list[str]:
        """Return the arguments of a trial's process.

        Args:
            point: Its parameters.
            point_file: File with the parameters as JSON, for `${args_json_file}`.
            more: Arguments to append to the file's.
        """
        macros = {
            "${env}": [],
            "${program}": [sys.executable, "-m", "gan_lightning"],
            # Each value is JSON, which the command line reads. W&B's own macro would turn null into the word None.
            "${args}": [f"--{name}={json.dumps(value)}" for name, value in point.parameters.items()],
            "${args_json_file}": [str(point_file)],
        }
        words = [macros.get(word, [with_environment(word)]) for word in self.command]
        return [*itertools.chain.from_iterable(words), *more]

    def fingerprint(self, more: Sequence[str] = ()) -> dict[str, Any]:
        """Return the facts that make trials with equal parameters equal: the command, and its configurations' content.

        The method, the metric and the space make two searches the same one.
        """
        words = [*map(with_environment, self.command), *more]
        configs = [word.partition("=")[2] for word in words if word.startswith(("--config=", "-c="))]
        configs += [after for word, after in itertools.pairwise(words) if word in ("--config", "-c")]
        files = {name: found_by_name(name, "configs") or Path(name) for name in configs if name not in MACROS}
        if missing := [name for name, path in files.items() if not path.is_file()]:
            raise SettingError(
                f"command must name configurations that exist, got '{missing[0]}' in {self.path}; paths are relative "
                f"to the folder in which the sweep is started. {similar_names(missing[0], 'configs')}"
            )
        contents = {name: _digest(path.read_text(encoding="utf-8")) for name, path in files.items()}
        metric = {**self.metric, "goal": self.goal} if self.metric else {}
        search = {"method": self.method, "metric": metric, "parameters": self.parameters}
        return {"command": words, "configs": contents, **search}


def load_sweep(path: Path) -> Sweep:
    """Read a sweep file.

    Raises:
        SettingError: If there is none, or naming its part that is unknown, missing or cannot work.
    """

    def refuse(what: str) -> SettingError:
        return SettingError(f"{what} ({path})")

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        remedy = f" {similar_names(str(path), 'sweeps')}" if isinstance(error, FileNotFoundError) else ""
        raise SettingError(
            f"the sweep must be a file that can be read, got '{path}': {error.strerror}.{remedy}"
        ) from error
    except Exception as error:  # anything may stand in a user's file
        raise SettingError(f"the sweep must be a YAML file, and '{path}' is none: {error}") from error
    check_repeated_keys(path)
    if not isinstance(content, dict):
        raise refuse(f"a sweep must be a mapping with method, parameters and command, got {content!r}")
    for key in content:
        if key in SERVER_KEYS:
            raise refuse(f"'{key}' needs W&B's server: remove it, or start the sweep with `wandb sweep`")
        if key not in KEYS:
            raise refuse(
                f"unknown key '{key}' in the sweep; known are {', '.join(sorted(KEYS))}.{did_you_mean(key, KEYS)}"
            )
    if content.get("program") != PROGRAM:
        raise refuse(f"program must be '{PROGRAM}', got {content.get('program')!r}")
    cap, metric = content.get("run_cap"), content.get("metric")
    method = _method(content, refuse)
    if cap is not None and (not isinstance(cap, int) or isinstance(cap, bool) or cap < 1):
        raise refuse(f"run_cap must be at least 1, got {cap!r}")
    if cap is None and method != "grid":
        raise refuse(f"run_cap must say after how many trials a {method} search ends, got none")
    stopping = content.get("early_terminate")
    _check_metric(metric, bool(method == "bayes" or stopping), refuse)
    try:
        if stopping is not None:
            hyperband(stopping)
        parameters = dict(sorted(_flat(content.get("parameters"), refuse)))
        for name, spec in parameters.items():
            parameter(name, spec)
            if method == "grid":
                _check_differ(name, _grid_values(name, spec))
    except SettingError as error:
        raise error if str(path) in str(error) else refuse(str(error).removesuffix(".")) from error
    for key in ("name", "project", "entity"):
        if not isinstance(content.get(key), str | None):
            raise refuse(f"{key} must be a text, got {content[key]!r}")
    name = content.get("name") or path.stem
    if name != Path(name).name or name == "..":
        raise refuse(f"name must be one that a folder can have, got '{name}'")
    return Sweep(
        path=path,
        name=name,
        method=method,
        parameters=parameters,
        command=_command(content.get("command"), refuse),
        run_cap=cap,
        metric=metric,
        early_terminate=stopping,
        project=content.get("project"),
        entity=content.get("entity"),
    )


def _method(content: Mapping[str, Any], refuse: Any) -> str:
    """Return the method: the file's, or the one that W&B's scheduler would use."""
    method, scheduler = content.get("method"), content.get("scheduler")
    if scheduler is None:
        if method not in METHODS:
            raise refuse(f"method must be one of {', '.join(METHODS)}, got {method!r}.{did_you_mean(method, METHODS)}")
        return str(method)
    if not isinstance(scheduler, dict) or scheduler.get("engine") not in ("wandb", "optuna"):
        engine = scheduler.get("engine") if isinstance(scheduler, dict) else scheduler
        raise refuse(f"scheduler.engine must be optuna or wandb, got {engine!r}: there is no other engine here")
    for key in scheduler:
        if key != "engine":
            known = "needs W&B's scheduler: leave it out" if key in _SCHEDULER_KEYS else "is unknown"
            raise refuse(f"scheduler.{key} {known}, or start the sweep with `wandb sweep`")
    allowed = METHODS if scheduler["engine"] == "wandb" else ("custom",)
    if method not in allowed:
        raise refuse(f"method must be one of {', '.join(allowed)} with the scheduler's engine, got {method!r}")
    if content.get("early_terminate") is not None:
        raise refuse("early_terminate must not stand beside a scheduler, as in W&B: leave one of them out")
    return "bayes" if method == "custom" else str(method)


def _check_metric(metric: object, needed: bool, refuse: Any) -> None:
    if metric is None and not needed:
        return
    if not isinstance(metric, dict) or not isinstance(metric.get("name"), str):
        raise refuse(f"metric must have the name of what to look at, got {metric!r}")
    for key in metric:
        if key not in _METRIC_KEYS:
            raise refuse(
                f"the metric must have name, goal and target alone, got '{key}'.{did_you_mean(key, _METRIC_KEYS)}"
            )
        if key.startswith("impute"):
            raise refuse(f"metric.{key} has no counterpart here: leave it out. A failed trial counts as none")
    if metric.get("goal", "minimize") not in ("minimize", "maximize"):
        raise refuse(f"the metric's goal must be minimize or maximize, got {metric['goal']!r}")
    target = metric.get("target", 0)
    if isinstance(target, bool) or not isinstance(target, int | float) or not math.isfinite(target):
        raise refuse(f"the metric's target must be a finite number, got {target!r}")


def _check_differ(name: str, values: Sequence[Any]) -> None:
    texts = [json.dumps(_meant(value), sort_keys=True) for value in values]
    if twice := [value for i, value in enumerate(values) if texts[i] in texts[:i]]:
        first = values[texts.index(json.dumps(_meant(twice[0]), sort_keys=True))]
        raise SettingError(
            f"the values of {name} must differ, got {first!r} and {twice[0]!r}: equal trials are one trial"
        )


def _flat(parameters: object, refuse: Any, prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each parameter's dotted name and description."""
    if not isinstance(parameters, dict) or not parameters:
        raise refuse(f"{prefix or 'parameters'} must name at least one parameter, got {parameters!r}")
    for name, spec in parameters.items():
        full = f"{prefix}.{name}" if prefix else str(name)
        if not isinstance(spec, dict):
            raise refuse(f"{full} must have a value, values or a distribution, got {spec!r}")
        if set(spec) == {"parameters"}:
            yield from _flat(spec["parameters"], refuse, full)
            continue
        if unknown := set(spec) - PARAMETER_KEYS:
            raise refuse(
                f"unknown key '{min(unknown)}' of {full}; known are {', '.join(sorted(PARAMETER_KEYS))}."
                f"{did_you_mean(min(unknown), PARAMETER_KEYS)}"
            )
        if "values" in spec and (not isinstance(spec["values"], list) or not spec["values"]):
            raise refuse(f"the values of {full} must be a list of at least one, got {spec['values']!r}")
        try:
            _digest(spec)
        except TypeError as error:
            # Such as a date: YAML makes one of 2024-01-01.
            raise refuse(f"{full} must have values that JSON has, got {spec}: {error}. Put texts in quotes") from error
        yield full, spec


def _grid_values(name: str, spec: Mapping[str, Any]) -> list[Any]:
    keys = set(spec) - {"distribution"}
    if keys == {"values"}:
        return list(spec["values"])
    if keys == {"value"}:
        return [spec["value"]]
    whole = keys == {"min", "max"} and all(isinstance(spec[key], int) for key in keys)
    if whole and spec["min"] <= spec["max"] and spec.get("distribution", "int_uniform") == "int_uniform":
        return list(range(spec["min"], spec["max"] + 1))
    raise SettingError(
        f"{name} must have a value, values, or whole numbers as min and max in a grid, got {dict(spec)}. "
        "Use method: random for distributions."
    )


def _command(command: object, refuse: Any) -> tuple[str, ...]:
    """Check a command. W&B's agent accepts commands that lose the parameters or change them without a word."""
    if not isinstance(command, list) or not command:
        # W&B's default is `python gan-lightning`, but there is no such file.
        raise refuse(f"command must be a list such as [${{env}}, ${{program}}, fit, ...], got {command!r}")
    words = tuple(str(word) for word in command)
    for word in words:
        rest = _ENVIRONMENT.sub("", word)
        if (macro := _MACRO.search(rest)) and (word not in MACROS):
            alone = f"; a macro must be an item of its own, not part of '{word}'" if macro.group() in MACROS else ""
            raise refuse(f"the command may hold {', '.join(MACROS)} and ${{envvar:NAME}}, got {macro.group()}{alone}")
    if words[:2] not in ((MACROS[0], MACROS[1]), (MACROS[1], "fit")) or "fit" not in words[1:3]:
        raise refuse(f"command must start with ${{env}}, ${{program}} and fit, got {' '.join(words[:3])}")
    handing = [word for word in words if word in MACROS[2:]]
    if len(handing) != 1:
        raise refuse(
            "command must hand the parameters on, once: end it with --config and ${args_json_file}, "
            f"got {' '.join(handing) or 'neither, so that all trials would be the same'}"
        )
    if "${args_json_file}" in words and words[words.index("${args_json_file}") - 1] not in ("--config", "-c"):
        raise refuse("${args_json_file} must stand after --config")
    return words


def with_environment(word: str) -> str:
    """Return a word of a command with its variables replaced by their values."""
    return _ENVIRONMENT.sub(_environment, word)


def _environment(match: re.Match[str]) -> str:
    name = match.group(1)
    if name not in os.environ:
        # The agent would insert the variable's name.
        raise SettingError(f"the environment variable {name}, which the sweep's command uses, must be set, and is not.")
    return os.environ[name]


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _meant(value: object) -> object:
    """Return a value in a run's form: 1.0 and 1 are one number, and so are 1e-4, a text in YAML, and 0.0001."""
    if isinstance(value, dict):
        return {str(name): _meant(own) for name, own in value.items()}
    if isinstance(value, list):
        return [_meant(own) for own in value]
    try:
        return value if isinstance(value, bool) or value is None else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return value


def _short(value: object) -> str:
    if isinstance(value, dict) and "class_path" in value:
        settings = [f"{name}={_short(given)}" for name, given in value.get("init_args", {}).items()]
        return "/".join([str(value["class_path"]).rpartition(".")[2], *settings])
    return f"{value:.4g}" if isinstance(value, float) else str(value)
