"""How the framework writes files that others may read at any moment: whole or not at all."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 1
"""Version of the layout of `run.json`, `results.json` and sweep records; raised when a reader would have to change."""


def user_cache() -> Path:
    """Return the user's cache folder.

    Source:
        XDG Base Directory Specification, `$XDG_CACHE_HOME`.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "gan_lightning")


@contextmanager
def whole_file(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a path to write to; the file takes its place under `path` when the block ends without an error.

    Args:
        path: Where the file is to be. A process that is killed meanwhile leaves a folder `.writing-...` beside it.
        durable: Whether the file has to be on the disk, for the case of a power cut, before it takes its place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as folder:
        temporary = Path(folder, path.name)
        yield temporary
        if durable:
            flush(temporary)
        temporary.replace(path)
        if durable:
            with suppress(OSError):  # not every system does that with a folder
                flush(path.parent)


def flush(path: Path) -> None:
    """Wait until what was written to a file, or the names in a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, default=_plain) + "\n")


def _plain(value: object) -> object:
    """Return what JSON can hold: the settings of a dataclass and its class, or else a text."""
    if is_dataclass(value) and not isinstance(value, type):
        return {"class": type(value).__name__} | asdict(value)
    return str(value)
