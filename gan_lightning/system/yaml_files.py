"""YAML files written by people: a key that stands twice is a mistake."""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import yaml

from gan_lightning.errors import SettingError
from gan_lightning.system.shipped import similar_names

SUFFIXES = (".yaml", ".yml", ".json")
"""Suffixes of files that are read as YAML; JSON is YAML, too."""

CONFIG_OPTIONS = ("--config", "-c")
"""The options that read a file of any name."""


def repeated_keys(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield each key that stands twice in one mapping, at any depth: its dotted name, and both lines from 1 on.

    Merge keys (`<<`) may stand any number of times. Text that is no YAML yields nothing: its reader reports the fault.
    """
    try:
        documents = list(yaml.compose_all(text, yaml.SafeLoader))
    except (yaml.YAMLError, RecursionError, ValueError):
        return
    for document in documents:
        if document is not None:
            yield from _repeated(document, (), set())


def _repeated(node: yaml.Node, path: Sequence[str], seen: set[int]) -> Iterator[tuple[str, int, int]]:
    if id(node) in seen:  # an alias
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for number, each in enumerate(node.value):
            yield from _repeated(each, (*path, str(number)), seen)
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[tuple[str, str], int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        name = key.value if isinstance(key, yaml.ScalarNode) else str(key.value)
        if key.tag != "tag:yaml.org,2002:merge":
            known = (key.tag, name)
            if known in lines:
                yield ".".join([*path, name]), lines[known], line
            lines[known] = line
        yield from _repeated(value, (*path, name), seen)


def check_repeated_keys(path: Path) -> None:
    """Check that no key stands twice in a file. Otherwise the first of two blocks would be dropped without a word.

    Files that it names as values are checked, too.

    Raises:
        SettingError: Naming the file, the key and both lines.
    """
    _check_file(path, set())


def _check_file(path: Path, seen: set[Path]) -> None:
    try:
        if path in seen or not path.is_file():
            return
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return  # its reader reports the fault
    seen.add(path)
    _check_text(text, f"'{path}'")
    for name in _named_files(text):
        for folder in (path.parent, Path()):
            _check_file(folder / name, seen)


def _check_text(text: str, where: str) -> None:
    for name, first, second in repeated_keys(text):
        lines = f"in line {first} and again in line {second}" if "\n" in text else "twice"
        raise SettingError(f"{where} must have each key once, got {name} {lines}. Put both together, or leave one out.")


def _named_files(text: str) -> Iterator[str]:
    """Yield the texts in a YAML file that name YAML files."""
    with suppress(yaml.YAMLError, RecursionError, ValueError):
        for token in yaml.scan(text, yaml.SafeLoader):
            if isinstance(token, yaml.ScalarToken) and _is_named_as_one(token.value):
                yield token.value


def _is_named_as_one(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and "\n" not in name


def check_configuration(path: Path) -> None:
    """Check that a file is YAML with settings.

    Raises:
        SettingError: Naming the file and the fault.
    """
    remedy = ""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
        json.dumps(content, default=str)  # refuses a value that contains itself
    except RecursionError:
        why = "it is nested too deep"
    except Exception as error:  # anything may stand in a user's file
        if isinstance(error, FileNotFoundError):
            remedy = f" {similar_names(str(path), 'configs')}"
        why = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
    else:
        if isinstance(content, dict):
            return
        why = "it is empty" if content is None else f"it holds no settings, but {str(content)[:40]!r}"
    raise SettingError(f"--config must be a YAML file with settings, got '{path}', which is none: {why}.{remedy}")


def check_arguments(arguments: Sequence[str]) -> None:
    """Check every YAML file named on a command line, and YAML text in its arguments.

    Raises:
        SettingError: As `check_repeated_keys`.
    """
    before = ""
    for argument in arguments:
        name, equals, value = argument.partition("=") if argument.startswith("-") else (before, "=", argument)
        before = "" if equals else argument
        if not equals:
            continue  # its value follows
        if value.lstrip()[:1] in ("{", "["):
            _check_text(value, name or "the command line")
        elif name in CONFIG_OPTIONS and ("\n" in value or ": " in value):  # the content instead of a file
            _check_text(value, name)
        elif name in CONFIG_OPTIONS or _is_named_as_one(value):
            if name in CONFIG_OPTIONS:
                check_configuration(Path(value))
            check_repeated_keys(Path(value))
