"""Locks on files; every end of the holding process ends its locks."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def lock(path: Path, *, waits: bool = True) -> int | None:
    """Lock a file; it is made if there is none.

    Args:
        path: The file. Its folder has to be there.
        waits: Whether to wait for another process that holds the lock.

    Returns:
        A descriptor. The lock is held until this descriptor is closed, and all its copies in other processes. None if
        another process holds the lock, and this one does not wait.

    Raises:
        OSError: The file cannot be made, or this system or its file system has no locks.
    """
    try:
        import fcntl  # not every system has it
    except ImportError as error:
        raise OSError("this system has no locks") from error
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        if _is_there(path, descriptor):
            return descriptor
        os.close(descriptor)  # the process that held the lock has removed the file


def _is_there(path: Path, descriptor: int) -> bool:
    """Return whether a path still leads to the opened file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:
        return False


def is_locked(path: Path) -> bool:
    """Return whether a process holds a file's lock; a process in this function does not."""
    try:
        import fcntl

        descriptor = os.open(path, os.O_RDWR)
    except (ImportError, OSError):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: another process may be in this function, too
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


@contextmanager
def locked(path: Path, *, waits: bool = True) -> Iterator[int | None]:
    """Hold a file's lock while the block runs; arguments as in `lock`."""
    descriptor = lock(path, waits=waits)
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)
