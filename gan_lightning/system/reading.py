"""Errors of a user's files, each in one line that names the file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gan_lightning.errors import DataError, SettingError, UserError

NAMED = 3
"""Most names in a message; it counts the rest."""


@contextmanager
def reading(path: str | Path, remedy: str, what: str = "read") -> Iterator[None]:
    """Turn any error of the block into one that names a file or folder of the user's.

    Libraries fail on damaged files in more ways than they document, so no list of exceptions would be whole.

    Args:
        path: The file or folder that the block works with.
        remedy: A sentence with the remedy.
        what: The block's work on it, after "cannot be".

    Raises:
        DataError: The block failed.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise failure(path, error, remedy, what) from error


def failure(path: str | Path, error: Exception, remedy: str, what: str) -> DataError:
    """Return the error that replaces any error from a user's file or folder."""
    return DataError(f"'{shown(path)}' cannot be {what} ({reason(error)}). {remedy}")


def shown(path: str | Path) -> str:
    r"""Return a name that is printable everywhere; bytes outside of text and control characters become `\u...`."""
    text = str(path)
    return (
        text
        if text.isprintable()
        else "".join(
            letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
        )
    )


def named(names: list[str], limit: int = NAMED) -> str:
    """Return the first few names in quotes, and the number of the rest."""
    first = ", ".join(f"'{shown(name)}'" for name in names[:limit])
    return first if len(names) <= limit else f"{first} and {len(names) - limit:,} more"


def counted(count: int, noun: str) -> str:
    """Return a number of things, as `1 image` or `2,000 images`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def reason(error: Exception) -> str:
    """Return an exception's message in one line, or its class if there is none."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return shown(" ".join(text.split())) or type(error).__name__


def expanded(path: str | Path, setting: str) -> Path:
    """Return a path with a leading `~` replaced by the home folder.

    Raises:
        SettingError: It begins with `~`, and there is no such home folder.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise SettingError(
            f"{setting} must not begin with ~ where there is no home folder, got '{shown(path)}'. Set it to the whole "
            "path."
        ) from error
