"""Checkpoint files: written whole or not at all, and read without running code from them."""

import errno
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile, ZipFile, is_zipfile

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from gan_lightning.errors import SettingError, WriteError
from gan_lightning.system.files import whole_file

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
DISK_ERRORS = NO_ROOM | {errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM}
"""Errors of the disk, which are no fault of the program: no room, no right to write, a broken disk."""

Checkpoint = dict[str, Any]
"""The content of a checkpoint, in Lightning's layout."""


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, and moves it there once all of it is on the disk.

    The earlier file stays if the process is killed or the disk is full meanwhile.
    """

    def __init__(self) -> None:
        super().__init__()
        self.written: Path | None = None
        """The last written file."""

    def save_checkpoint(self, checkpoint: Checkpoint, path: str | Path, storage_options: Any | None = None) -> None:
        """Write a checkpoint.

        Raises:
            WriteError: If it could not be written; names the last good checkpoint.
            SettingError: If the first checkpoint of this object holds values that could not be read again.
        """
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        try:
            with whole_file(Path(path), durable=True) as temporary:
                with temporary.open("wb") as file:
                    torch.save(checkpoint, file)
                if self.written is None:
                    _check_readable(temporary)
        except (OSError, RuntimeError) as error:
            # If a write fails, torch puts an error of its own in front of it.
            reason = error if isinstance(error, OSError) else error.__context__
            if not isinstance(reason, OSError):
                raise
            raise WriteError(
                f"the checkpoint '{path}' could not be written ({reason.strerror or reason}; {_room(Path(path))}). "
                f"Last good checkpoint: {self.written or 'none of this run'}. {remedy(reason)}, and start again with "
                "the same command and --ckpt_path=last."
            ) from error
        self.written = Path(path)

    def load_checkpoint(
        self, path: str | Path, map_location: Callable | None = None, weights_only: bool | None = None
    ) -> Checkpoint:
        """Read a checkpoint of tensors and plain values.

        Raises:
            SettingError: If it holds other values, or another way of reading is asked for.
        """
        if weights_only is False:
            raise SettingError(
                "weights_only must not be false, got false: a checkpoint could then run any code. Leave it out."
            )
        if "://" in str(path):
            return super().load_checkpoint(path, map_location, weights_only=True)
        return read_checkpoint(Path(path), "ckpt_path")


def _check_readable(path: Path) -> None:
    """Check that the file can be read without running code."""
    if unknown := torch.serialization.get_unsafe_globals_in_checkpoint(path):
        raise SettingError(
            f"checkpoints must hold tensors and plain values, got {', '.join(sorted(unknown)[:3])}: they could not be "
            "read again. Leave it out of save_hyperparameters and of states, or call "
            "torch.serialization.add_safe_globals with it where its module is imported."
        )


def remedy(error: OSError) -> str:
    """Return a remedy for a file that could not be written or read."""
    return "Make room" if error.errno in NO_ROOM else "See to its folder's rights and disk"


def _room(path: Path) -> str:
    try:
        return f"{shutil.disk_usage(path.parent).free / 1e6:.1f} MB are free without it"
    except OSError:
        return "its folder cannot be reached"


def read_checkpoint(path: Path, setting: str) -> Checkpoint:
    """Return the content of a checkpoint, on the CPU.

    Args:
        path: The file.
        setting: Name of its setting, for an error.

    Raises:
        SettingError: If there is no such file, or it is damaged or no checkpoint of Lightning's; says why.
    """
    try:
        if not path.exists():
            raise SettingError(f"{setting} must be a checkpoint file, got '{path}', which does not exist.")
        if path.is_dir():
            raise SettingError(
                f"{setting} must be a checkpoint file, got '{path}', which is a folder. Pass a file of its checkpoints."
            )
        if not path.is_file():  # reading it might never end
            raise SettingError(f"{setting} must be a checkpoint file, got '{path}', which is no ordinary file.")
        if is_zipfile(path):
            with ZipFile(path) as archive:
                if damaged := archive.testzip():  # torch itself does not look
                    raise BadZipFile(f"{damaged} is damaged")
        content = torch.load(path, weights_only=True, map_location="cpu")
    except SettingError:
        raise
    except PermissionError as error:
        raise SettingError(f"{setting} must be a checkpoint, got '{path}', which may not be read ({error}).") from error
    except Exception as error:  # foreign bytes may raise any error in torch's reader
        raise SettingError(
            f"{setting} must be a checkpoint, got '{path}', which cannot be read as one: {_damage(path, error)}."
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise SettingError(
            f"{setting} must be a checkpoint of this framework, got '{path}', which is another program's: it holds no "
            "state_dict."
        )
    if "pytorch-lightning_version" not in content:
        raise SettingError(
            f"{setting} must be a checkpoint of this framework, got '{path}', which is another program's: it was not "
            "written by Lightning."
        )
    return content


def _damage(path: Path, error: Exception) -> str:
    """Return the fault of a file that torch could not read."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(4)
    except (OSError, ValueError):
        return str(error) or type(error).__name__
    if not size:
        return "it is empty"
    if start[:2] == b"PK" and not isinstance(error, UnpicklingError):
        return f"it is damaged or was cut short ({size:,} bytes)"
    if isinstance(error, UnpicklingError) and (start[:2] == b"PK" or start[:1] == b"\x80"):
        held = re.search(r"GLOBAL (\S+)", str(error))
        return (
            f"it holds other objects than tensors and plain values{f', {held[1]}' if held else ''}, which could run "
            "code when they are loaded"
        )
    return "it is a file of another kind"
