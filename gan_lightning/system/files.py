"""Files that others may read at any moment: they are written whole or not at all."""

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
"""Version of the layout of `run.json`, `figures.json` and sweep records; raised if a reader has to change."""


def user_cache() -> Path:
    """Return the user's cache folder.

    Raises:
        SettingError: There is no home folder for it, such as for a container's user that is only a number.

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
"""First part of the names of folders for files that are being written, beside the files' final places."""

LONG_AGO = 24 * 3600.0
"""Seconds without a change after which nobody writes any more, on systems without locks."""

_LOCK = ".lock"
"""Name of the file in such a folder that the writing process holds locked."""


@contextmanager
def whole_file(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a path to write to; the file takes its place under `path` when the block ends without an error.

    Args:
        path: Final place of the file. A process that is killed meanwhile leaves a folder `.writing-...` beside it. A
            later process removes this folder (`remove_abandoned`).
        durable: Whether the file has to be on the disk before it takes its place, in case of a power cut.
    """
    with writing_folder(path.parent) as folder:
        temporary = Path(folder, path.name)
        yield temporary
        if durable:
            flush(temporary)
        temporary.replace(path)
        if durable:
            with suppress(OSError):  # not every system flushes a folder
                flush(path.parent)


@contextmanager
def writing_folder(beside: Path) -> Iterator[Path]:
    """Yield a folder to write in, inside the result's folder; it is removed when the block ends.

    The first call for a folder also removes there what killed processes have left.
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
                continue  # another process has removed it: an unlocked folder looks abandoned
            try:
                yield folder
            finally:
                os.close(held)
            return


def remove_abandoned(beside: Path) -> None:
    """Remove half-written files of killed processes from a folder, if certainly nobody writes them any more.

    It is certain for a `.writing-...` folder that names the running system and can be locked. The process may have been
    killed before it locked the folder, or while it removed it. For other folders it is certain if nothing has changed
    for a day.
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
    """Return the first part of these folders' names on the running system; its processes see each other's locks."""
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
    """Wait until a file's content, or a folder's names, are on the disk."""
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
    """Return the content of a JSON file.

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
    """Return a value that JSON can hold: the settings of a dataclass and its class, or else a text."""
    if is_dataclass(value) and not isinstance(value, type):
        return {"class": type(value).__name__} | {each.name: getattr(value, each.name) for each in fields(value)}
    return str(value)
