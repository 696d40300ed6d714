"""Measurements named on the command line: to set one of its settings is to ask for a measurement.

gan-lightning fit ... --feeding.rounds=20        the fit measures `feeding`, too
gan-lightning measure RUN --feeding.rounds=20    `feeding` alone is measured, of a finished run
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import yaml

from gan_lightning.errors import SettingError
from gan_lightning.evaluation.voc.devkit import VocData
from gan_lightning.measurements import MEASUREMENTS
from gan_lightning.measurements.measurement import Measurement, default_of
from gan_lightning.papers import Anatomy, Verdicts
from gan_lightning.system.shipped import found_by_name
from gan_lightning.system.yaml_files import CONFIG_OPTIONS, SUFFIXES

KINDS: tuple[type[Measurement], ...] = (*MEASUREMENTS, Anatomy, Verdicts)

GROUPS = {kind.name: kind for kind in KINDS}
"""The measurements with groups of settings of their own, by these groups."""

SHARED: dict[str, type] = {"voc": VocData}
"""Groups of settings that several measurements share. Each of these has a setting of this name in Python."""

TARGETS = "targets"
"""The setting that lists further data sets. Measurements that take them have a setting of this name in Python."""

TAKERS = [name for name, kind in GROUPS.items() if TARGETS in {each.name for each in fields(kind)}]
"""The measurements that take further data sets."""

OWN = "measurements"
"""The setting that lists measurements of the user's own."""


def shared_by(kind: type[Measurement]) -> set[str]:
    """Return the shared groups, and the shared list of data sets, that a measurement has among its settings."""
    return {*SHARED, TARGETS} & {each.name for each in fields(kind)}


def with_shared(measurement: Measurement, shared: Mapping[str, Any]) -> Measurement:
    """Return a measurement with the shared settings that it has, of these."""
    return replace(measurement, **{name: shared[name] for name in shared_by(type(measurement))})


def with_files(arguments: Sequence[str]) -> list[str]:
    """Return arguments in which each configuration that is given by its name is given by its path."""
    words: list[str] = []
    for before, word in zip(["", *arguments], arguments, strict=False):
        option, equals, value = word.partition("=")
        if before in CONFIG_OPTIONS:
            words.append(str(found_by_name(word, "configs") or word))
        elif equals and option in CONFIG_OPTIONS:
            words.append(f"{option}={found_by_name(value, 'configs') or value}")
        else:
            words.append(word)
    return words


def check_added(arguments: Sequence[str]) -> None:
    """Check that no class stands where a list of classes is expected.

    Raises:
        SettingError: One does; says how to add it.
    """
    for name, value in map(name_and_value, options_of(arguments)):
        if name in (f"--{TARGETS}", f"--{OWN}") and _is_class(name, value):
            raise SettingError(f"{name[2:]} must be a list, got {value}. Add to it with {name}+={value}.")


def with_named(arguments: Sequence[str]) -> list[str]:
    """Return arguments with every named measurement switched on, if it is off by default.

    If the arguments set its `enabled`, too, that stays unchanged.
    """
    if not arguments:
        return []
    groups = [name for name in named_measurements(arguments[1:]) if name in GROUPS]
    named = [name for name in groups if not default_of(GROUPS[name], "enabled")]
    return [arguments[0], *_switches(named, arguments[1:], on=True), *arguments[1:]]


def classes_first(arguments: Sequence[str]) -> list[str]:
    """Return arguments with each class, such as `--data=Digits`, before its settings, such as `--data.limit=80`.

    A setting after a class or a configuration keeps its place; so do configurations. Later settings thus still override
    earlier ones.
    """
    options = _with_classes_of_configurations(options_of(arguments))
    for place in range(len(options)):
        name, value = name_and_value(options[place])
        earlier = [name_and_value(option)[0] for option in options[:place]]
        if not _is_class(name, value) or name in earlier:
            continue
        first = next((i for i, other in enumerate(earlier) if other.startswith(f"{name}.")), place)
        if not set(CONFIG_OPTIONS) & set(earlier[first:]):
            options.insert(first, options.pop(place))
        elif not set(CONFIG_OPTIONS) & set(earlier[:first]):
            options.insert(first, options[place])  # and again after the configuration: it may name another class
    return [word for option in options for word in option]


def _with_classes_of_configurations(options: list[list[str]]) -> list[list[str]]:
    """Return options with the classes of model and data before their settings, if only a later file names them."""
    for group in ("model", "data"):
        names = [name_and_value(option)[0] for option in options]
        first = next((i for i, name in enumerate(names) if name.startswith(f"--{group}.")), None)
        if first is None or f"--{group}" in names or set(CONFIG_OPTIONS) & set(names[:first]):
            continue
        files = [file for name, file in map(name_and_value, options[first:]) if name in CONFIG_OPTIONS]
        for file in files:
            named = content_of(Path(file)).get(group)
            named = named.get("class_path") if isinstance(named, dict) else named
            if isinstance(named, str):
                options = [*options[:first], [f"--{group}={named}"], *options[first:]]
                break
    return options


def options_of(arguments: Sequence[str]) -> list[list[str]]:
    """Return arguments, each option together with its following value."""
    options: list[list[str]] = []
    for word in arguments:
        takes = bool(options) and options[-1][0].startswith("-") and "=" not in options[-1][0] and len(options[-1]) == 1
        if takes and not word.startswith("--"):
            options[-1].append(word)
        else:
            options.append([word])
    return options


def name_and_value(option: Sequence[str]) -> tuple[str, str]:
    """Return an option's name, such as `--data`, and its value."""
    name, _, value = option[0].partition("=")
    return name, option[1] if len(option) > 1 else value


def _is_class(name: str, value: str) -> bool:
    """Return whether an option names a class, rather than a value of YAML or a file."""
    word = re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", value)
    plain = value.lower() in ("null", "none", "true", "false", "yes", "no", "on", "off") or value.endswith(SUFFIXES)
    return name.startswith("--") and name not in CONFIG_OPTIONS and word is not None and not plain


def measure_arguments(arguments: Sequence[str]) -> tuple[list[str], Path]:
    """Return the arguments of `measure RUN ...` with the run's configuration and checkpoint.

    It is measured on one device of this machine, even if the run was trained on several, and no logger is told.

    Args:
        arguments: `measure`, the run's folder, and options.

    Returns:
        The arguments, and the run's folder.

    Raises:
        SettingError: There is no folder, or no run that can be measured in it.
    """
    if len(arguments) < 2 or arguments[1].startswith("-"):
        raise SettingError(
            "measure must be given a run's folder: gan-lightning measure RUN [--transfer.seed=1 ...], or all runs of a "
            "folder by --runs, or networks by --network."
        )
    run, options = Path(arguments[1]), list(arguments[2:])
    if not run.is_dir():
        raise SettingError(f"measure must be given a run's folder, got '{run}', which is none.")
    config, checkpoint = run / "config.yaml", run / "checkpoints" / "last.ckpt"
    if not config.is_file():
        raise SettingError(
            f"measure must be given the folder of a run that was started from the command line, got '{run}', which has "
            "no config.yaml. From Python, use gan_lightning.measurements.Bench."
        )
    if not any(option.startswith("--ckpt_path") for option in options):
        if not checkpoint.exists():
            raise SettingError(
                f"measure must find the run's checkpoints/last.ckpt, and there is none in '{run}'. Give another "
                "checkpoint of the run's with --ckpt_path."
            )
        options += [f"--ckpt_path={checkpoint}"]
    here = ["logger=false", "devices=1", "num_nodes=1", "strategy=auto", "accelerator=auto", "callbacks=null"]
    before = ["--config", str(config), *(f"--trainer.{setting}" for setting in here)]
    if named := named_measurements(options):
        others = [name for name in GROUPS if name not in named]
        before += [*_switches(named, options, on=True), *(f"--{name}.enabled=false" for name in others)]
        before += [] if set(TAKERS) & set(named) else [f"--{TARGETS}=[]"]
        own = [option for option in options if option.startswith(f"--{OWN}")]
        # Added measurements are made alone. Settings are of the run's own measurements.
        before += [] if own and own[0].startswith(f"--{OWN}.") else [f"--{OWN}=[]"]
    return ["measure", *before, *options], run


def named_measurements(options: Sequence[str]) -> list[str]:
    """Return the groups of measurements with settings in the options, or in configurations among them.

    To name further data sets is to name the measurements that take them.
    """
    found: dict[str, None] = {}
    for option, following in zip(options, [*options[1:], ""], strict=True):
        name, _, value = option.partition("=")
        if name in CONFIG_OPTIONS:
            found |= dict.fromkeys(_in_file(Path(value or following)))
        elif option.startswith("--"):
            found[name[2:].partition(".")[0].rstrip("+")] = None
    if TARGETS in found:
        found |= dict.fromkeys(TAKERS)
    return [name for name in found if name in GROUPS or name == OWN]


def check_taken(targets: Sequence[object], measurements: Sequence[Measurement]) -> None:
    """Check that further data sets are measured on, if there are any.

    Raises:
        SettingError: The measurements that take them are switched off.
    """
    takers = [each.name for each in measurements if each.name in TAKERS]
    if targets and not any(each.enabled for each in measurements if each.name in TAKERS):
        raise SettingError(
            f"targets must be empty where {' and '.join(takers)} is switched off, got {len(targets)}. Leave them out, "
            f"or set {takers[0]}.enabled to true."
        )


def _in_file(config: Path) -> Iterator[str]:
    yield from map(str, content_of(config))


def content_of(config: Path) -> dict[Any, Any]:
    """Return the content of a configuration; nothing if it cannot be read."""
    try:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
    except Exception:
        return {}  # the parser reports its fault
    return content if isinstance(content, dict) else {}


def _switches(named: Sequence[str], options: Sequence[str], *, on: bool) -> list[str]:
    """Return options that switch groups on or off, unless the options already do."""
    said = {option.partition("=")[0] for option in options}
    return [
        f"--{name}.enabled={str(on).lower()}" for name in named if name in GROUPS and f"--{name}.enabled" not in said
    ]
