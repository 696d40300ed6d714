"""How the framework writes files that others may read at any moment: whole or not at all."""

import json
import os
import platform
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from gan_lightning.errors import DataError, SettingError
from gan_lightning.system.locks import lock, locked

SCHEMA_VERSION = 2
"""Version of the layout of `run.json`, `figures.json` and sweep records; raised when a reader would have to change."""


def user_cache() -> Path:
    """Return the user's cache folder.

    Raises:
        SettingError: There is no home folder to have one in, as for a user that a container was given by number.

    Source:
        XDG Base Directory Specification, `$XDG_CACHE_HOME`.
    """
    if folder := os.environ.get("XDG_CACHE_HOME"):
        return Path(folder, "gan_lightning")
    try:
        return Path.home() / ".cache" / "gan_lightning"
    except RuntimeError as error:
        raise SettingError(
            "cache_dir must be set where the user has no home folder, got none. Set it to a folder to write to, or the "
            "environment variable XDG_CACHE_HOME for all that is kept."
        ) from error


WRITING = ".writing-"
"""Begins the names of folders for what is being written, beside the place that it is to take."""

LONG_AGO = 24 * 3600.0
"""Seconds without a change after which nobody writes any more, where locks cannot say."""

_LOCK = ".lock"
"""The file in such a folder that whoever writes holds locked."""


@contextmanager
def whole_file(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a path to write to; the file takes its place under `path` when the block ends without an error.

    Args:
        path: Where the file is to be. A process that is killed meanwhile leaves a folder `.writing-...` beside it,
            which a later one removes (`remove_abandoned`).
        durable: Whether the file has to be on the disk, for the case of a power cut, before it takes its place.
    """
    with writing_folder(path.parent) as folder:
        temporary = Path(folder, path.name)
        yield temporary
        if durable:
            flush(temporary)
        temporary.replace(path)
        if durable:
            with suppress(OSError):  # not every system does that with a folder
                flush(path.parent)


@contextmanager
def writing_folder(beside: Path) -> Iterator[Path]:
    """Yield a folder to write in, in the one that the result is moved to; it is gone when the block ends.

    Before the first one in a folder, those of processes that were killed are removed there.
    """
    beside.mkdir(parents=True, exist_ok=True)
    _remove_abandoned_once(beside.absolute())
    while True:
        with tempfile.TemporaryDirectory(dir=beside, prefix=_ours(), ignore_cleanup_errors=True) as name:
            folder = Path(name)
            try:
                held = lock(folder / _LOCK, waits=False)
            except OSError:
                held = None
                if folder.is_dir():  # there are no locks here
                    yield folder
                    return
            if held is None:
                continue  # another process has removed it: before it is locked it looks abandoned
            try:
                yield folder
            finally:
                os.close(held)
            return


def remove_abandoned(beside: Path) -> None:
    """Remove what killed processes were writing into a folder, where it is certain that nobody writes there any more.

    That is so where a folder of the running system, as its name says, can be locked: a process that was killed before
    it locked it, or while it removed it, counts, too. Elsewhere it is so when nothing has changed for a day.
    """
    for folder in beside.glob(f"{WRITING}*"):
        with suppress(OSError):
            _remove_if_abandoned(folder)


def _remove_if_abandoned(folder: Path) -> None:
    old = _unchanged_for(folder) > LONG_AGO
    if folder.is_symlink() or not (old or folder.name.startswith(_ours())):
        return
    try:
        with locked(folder / _LOCK, waits=False) as held:
            if held is not None:
                shutil.rmtree(folder, ignore_errors=True)
    except OSError:  # there are no locks here
        if old:
            shutil.rmtree(folder, ignore_errors=True)


def _ours() -> str:
    """Return how the names of these folders begin on the running system, whose locks its processes see."""
    return f"{WRITING}{_system()}-"


def _unchanged_for(folder: Path) -> float:
    """Return the seconds since anything in a folder has changed."""
    return time.time() - max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))


@cache
def _system() -> str:
    """Return a short name of the running system since it was started."""
    try:
        name = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        name = platform.node()
    return f"{zlib.crc32(name.encode()):08x}"


@cache
def _remove_abandoned_once(beside: Path) -> None:
    remove_abandoned(beside)


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
    write_text(path, json.dumps(value, indent=2, default=plain) + "\n")


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        DataError: The file is missing, cut off, or no JSON; says which.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"'{path}' is cut off or damaged: {error}.") from error


def plain(value: object) -> object:
    """Return what JSON can hold: the settings of a dataclass and its class, or else a text."""
    if is_dataclass(value) and not isinstance(value, type):
        return {"class": type(value).__name__} | {each.name: getattr(value, each.name) for each in fields(value)}
    return str(value)
