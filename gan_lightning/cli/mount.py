"""Where the classes stand whose settings the command line takes: `epochs` of a probe is `transfer.paper.epochs`.

A class names its settings as its signature does. The path to them is known here alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from jsonargparse import Namespace

from gan_lightning.cli.checks import class_at, declared_by, parameters_of
from gan_lightning.errors import SettingError

LINKED = ("channels", "image_size", "num_classes")
"""What the data set tells the model, where the model asks for it."""

Place = tuple[str, type, Mapping[str, Any]]
"""A path, the class that stands there, and the values of its settings."""


def at_its_path(error: SettingError, config: Any, groups: Mapping[str, type]) -> SettingError:
    """Return an error with the path of its setting.

    A class may stand in two places: then it is the one where the setting has the value that was refused.

    Args:
        error: As the class has it.
        config: The parsed configuration.
        groups: The classes of its groups of settings, by name, but for those that the configuration names itself.

    Returns:
        The error itself where it has no owner, or the owner no place: the defaults of a class have none.
    """
    found = [
        (path, settings)
        for name, part in _items(config)
        for path, kind, settings in _places(part, str(name), [groups[name]] if name in groups else [])
        if kind is error.owner
    ]
    if not found:
        return error
    equal = [path for path, settings in found if _same(settings.get(error.setting), error.value)]
    path = equal[0] if equal else found[0][0]
    if path == "model" and error.setting in LINKED:
        data = dict(_items(config)).get("data") or {}
        if error.setting in declared_by(data.get("class_path")):
            path = "data"
    return error.at(path)


def _places(part: Any, path: str, kinds: Sequence[type]) -> Iterator[Place]:
    """Yield the classes of a part of a configuration, the outer ones first.

    Args:
        part: A value.
        path: Its name.
        kinds: The classes that its annotation has; a value that names its class is of that one.
    """
    if isinstance(part, list | tuple):
        for number, each in enumerate(part):
            yield from _places(each, f"{path}[{number}]", kinds)
        return
    if not isinstance(part, Namespace | Mapping):
        return
    settings = dict(_items(part))
    if isinstance(named := class_at(settings.get("class_path")), type):
        kinds, settings = [named], dict(_items(settings.get("init_args")))
    for kind in kinds:
        yield path, kind, settings
    for name, value in settings.items():
        inner = [each for kind in kinds for each in _classes_of(kind, name)]
        yield from _places(value, f"{path}.{name}", inner)


def _classes_of(kind: type, setting: str) -> Iterator[type]:
    """Yield the classes that the annotation of a setting names."""
    parameter = parameters_of(kind).get(setting)
    to_look_at = [] if parameter is None else [parameter.annotation]
    while to_look_at:
        annotation = to_look_at.pop()
        if isinstance(annotation, type):
            yield annotation
        to_look_at += get_args(annotation)


def _items(part: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(part, Namespace):
        yield from vars(part).items()
    elif isinstance(part, Mapping):
        yield from part.items()


def _same(one: Any, other: Any) -> bool:
    """Return whether two values are equal; lists and tuples with the same values are."""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and bool(one == other)
