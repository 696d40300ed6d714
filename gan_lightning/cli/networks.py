"""`gan-lightning measure --network ...`: any networks under the measurements, without a run and without training.

gan-lightning measure --network torchvision.models.resnet18 --network.weights file.safetensors \
    --layers '[layer1,layer2]' --pool 2 --data Digits

`--network` may stand several times. Settings with `network.` are of the one before them: those of `NetworkSource`, and
all others are arguments of its maker. Settings without it are of all networks.
"""

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import yaml

from gan_lightning.cli.naming import GROUPS, OWN, named_measurements
from gan_lightning.errors import SettingError
from gan_lightning.nets.adapted_network import NetworkSource

OPTION = "--network"
OF_ALL = ("layers", "pool", "input_size", "mean", "std", "interpolation")
"""Settings that may be given once for all networks."""

_LISTS = ("layers", "mean", "std")


def names_networks(arguments: Sequence[str]) -> bool:
    """Return whether the arguments of `measure` name networks."""
    return any(word.partition("=")[0].partition(".")[0] == OPTION for word in arguments)


def network_arguments(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of `measure --network ...` as those of `measure` with a model that holds the networks.

    Without a named measurement `layers` is made if layers are named, else `transfer`.

    Args:
        arguments: `measure` and options.

    Raises:
        SettingError: A setting cannot be read, has no network, or contradicts another one.
    """
    of_all: dict[str, Any] = {}
    sources: list[dict[str, Any]] = []
    others: list[str] = []
    for name, words in _options(arguments[1:]):
        setting = name.removeprefix("--")
        if name == OPTION:
            sources.append({"network": _path(words)})
        elif name.startswith(f"{OPTION}."):
            if not sources:
                raise SettingError(f"{setting} must stand after the --network that it is of, got it before any.")
            sources[-1] |= {setting.removeprefix("network."): _value(setting, words)}
        elif setting in OF_ALL:
            of_all[setting] = _value(setting, words)
        elif name in ("--runs", "--ckpt_path", "--model"):
            raise SettingError(f"{setting} must not be given with --network, got {' '.join(words)!r}. Leave one out.")
        elif name:
            others += [f"{name}={words[0]}"] if len(words) == 1 else [name, *words]
        else:
            raise SettingError(f"measure must be given a run or --network, got both ({words[0]!r}). Leave one out.")
    if not any(option.partition("=")[0] in ("--data", "--config", "-c") for option in others):
        raise SettingError("data must be named with --network, got none: --data=CIFAR10, or a --config that names it.")
    networks = _named({**of_all, **source} for source in sources)
    layers = any(source.get("layers") for source in networks.values())
    named = named_measurements(others)
    chosen = named or ["layers" if layers else "transfer"]
    switches = [f"--{group}.enabled={str(group in chosen).lower()}" for group in GROUPS]
    own = [] if OWN in named else [f"--{OWN}=[]"]
    given = {option.partition("=")[0] for option in others}
    before = [switch for switch in switches if switch.partition("=")[0] not in given]
    model = [
        "--model=gan_lightning.training.frozen_networks.FrozenNetworks",
        f"--model.networks={json.dumps(networks)}",
    ]
    here = ["--trainer.logger=false", "--trainer.devices=1"]
    return ["measure", *model, *here, *own, *before, *others]


def _options(arguments: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Return each option's name and words; words before the first option have no name."""
    options: list[tuple[str, list[str]]] = []
    for word in arguments:
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            options.append((name, [value] if equals else []))
        elif options:
            options[-1][1].append(word)
        else:
            options.append(("", [word]))
    return options


def _path(words: Sequence[str]) -> str:
    if len(words) != 1:
        raise SettingError(
            f"network must be one import path or .pt2 file, got {' '.join(words)!r}. Give --network once for each."
        )
    return words[0]


def _value(setting: str, words: Sequence[str]) -> Any:
    """Return an option's value; several words are a list."""
    try:
        values = [yaml.safe_load(word) for word in words]
    except yaml.YAMLError as error:
        raise SettingError(f"{setting} must be a value of YAML, got {' '.join(words)!r} ({error}).") from error
    if not values:
        raise SettingError(f"{setting} must have a value, got none.")
    value = values[0] if len(values) == 1 else values
    is_list = setting.rpartition(".")[2] in _LISTS
    return [value] if is_list and not isinstance(value, list) else value


def _named(sources: Any) -> dict[str, dict[str, Any]]:
    """Return the settings of each `NetworkSource` under its network's name; what is no setting is an argument."""
    known = {each.name for each in fields(NetworkSource)}
    found: dict[str, dict[str, Any]] = {}
    for source in sources:
        name = source.pop("name", None)
        arguments = {key: value for key, value in source.items() if key not in known}
        settings = {key: value for key, value in source.items() if key in known}
        if arguments:
            settings["arguments"] = {**settings.get("arguments", {}), **arguments}
        for setting, value in settings.items():
            _check_type(setting, value)
        plain = NetworkSource(settings["network"], arguments=settings.get("arguments", {})).short_name
        name = name or (plain if plain not in found else f"{plain}-{len(found) + 1}")
        if not isinstance(name, str) or not name or "/" in name or name in found:
            raise SettingError(f"network.name must be a name of its own without a slash, got {name!r}. Choose another.")
        found[name] = settings
    return found


def _check_type(setting: str, value: Any) -> None:
    """Check that a setting of a network has the type that `NetworkSource` takes.

    Raises:
        SettingError: It has another one.
    """
    plain = [each for each in (value if isinstance(value, list) else [value]) if not isinstance(each, bool)]
    right = {
        "arguments": isinstance(value, dict),
        "layers": all(isinstance(each, str) for each in plain),
        **dict.fromkeys(("pool", "input_size"), value is None or isinstance(value, int)),
        **dict.fromkeys(("mean", "std"), len(plain) > 0 and all(isinstance(each, int | float) for each in plain)),
    }
    words = {"arguments": "a mapping", "layers": "a list of names", "mean": "numbers", "std": "numbers"}
    if not right.get(setting, value is None or isinstance(value, str)):
        kind = words.get(setting, "a whole number" if setting in right else "a text")
        raise SettingError(f"network.{setting} must be {kind}, got {value!r}.")


def run_options(arguments: Sequence[str]) -> list[str]:
    """Return the options of `measure RUN`, in which `--layers` stands for the measurement `layers`.

    `--layers='[conv1,conv2]'` names layers, `--layers=all` takes every stage; `--pool` is the measurement's.

    Raises:
        SettingError: A setting is of networks alone.
    """
    found: list[str] = []
    for name, words in _options(arguments):
        setting = name.removeprefix("--")
        if setting == "layers":
            value = _value(setting, words)
            found += ["--layers.enabled=true"] if value == ["all"] else [f"--layers.names={json.dumps(value)}"]
        elif setting == "pool":
            found.append(f"--layers.pool={json.dumps(_value(setting, words))}")
        elif setting in OF_ALL:
            raise SettingError(f"{setting} must be given with --network alone, got {' '.join(words)!r} with a run.")
        else:
            found += [f"{name}={words[0]}"] if name and len(words) == 1 else [*([name] if name else []), *words]
    return found
