"""Locks on files, which end with the process that holds them, however that ends."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def lock(path: Path, *, waits: bool = True) -> int | None:
    """Lock a file, which is made where there is none.

    Args:
        path: The file. Its folder has to be there.
        waits: Whether to wait for another process that holds it.

    Returns:
        A descriptor; the lock is held until it, and each copy of it in other processes, is closed. None where another
        process holds the lock, and this one does not wait.

    Raises:
        OSError: The file cannot be made, or this system or its file system has no locks.
    """
    try:
        import fcntl  # which not every system has
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
        os.close(descriptor)  # the one that held it has removed the file


def _is_there(path: Path, descriptor: int) -> bool:
    """Return whether a file is still the one that was opened."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:
        return False


def is_locked(path: Path) -> bool:
    """Return whether a process holds a file's lock; one that only looks does not hold it."""
    try:
        import fcntl

        descriptor = os.open(path, os.O_RDWR)
    except (ImportError, OSError):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: another process may be looking, too
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


@contextmanager
def locked(path: Path, *, waits: bool = True) -> Iterator[int | None]:
    """Hold a file's lock, as `lock` has it, while the block runs."""
    descriptor = lock(path, waits=waits)
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)
