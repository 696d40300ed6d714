"""The errors for users: one line with the setting, its value, the allowed values and the remedy.

The command line prints such an error as one line and exits with a status other than 0. From Python they are ordinary
exceptions.

A class checks its own settings and names them as its signature does: `epochs must be at least 1, got 0.` The error's
`owner` says whose setting that is. The command line gives classes their places in a configuration, and puts the path
before the name: `transfer.paper.epochs must be at least 1, got 0.`
"""

import math
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

USAGE_ERROR = 2
"""Exit status of an error that the user can correct."""


class UserError(Exception):
    """An error that the user can correct; the message is one line with the remedy."""


class SettingError(UserError, ValueError):
    """A setting cannot be used: found in a constructor or in `setup`, before training starts.

    Args:
        message: The line. Where there is an owner it begins with the setting's name.
        owner: The object whose setting it is, or its class.
        value: What was refused; it tells two owners of one class apart.
    """

    def __init__(self, message: str, owner: object = None, value: Any = None) -> None:
        super().__init__(message)
        self.owner: type | None = owner if owner is None or isinstance(owner, type) else type(owner)
        self.value = value

    @property
    def setting(self) -> str:
        """The name that the message begins with."""
        found = re.match(r"\w*", str(self))
        return found[0] if found else ""

    def at(self, path: str) -> "SettingError":
        """Return the error as one of what has this path in a configuration."""
        return SettingError(f"{path}.{self}")


class DataError(UserError):
    """Data are missing, damaged or incomplete; the message names the file or folder."""


class WriteError(UserError):
    """A file could not be written, such as on a full disk; the message names it, the reason and the remedy."""


class MeasurementError(UserError):
    """A measurement of a finished model failed; all others are written, and the message names it and the reason."""


class NonFiniteError(UserError):
    """A loss or a weight became NaN or infinite; the message names it, the step and the last good checkpoint."""


def exit_with(error: UserError) -> NoReturn:
    """End the command line with the error's one line."""
    print(f"gan-lightning: error: {' '.join(str(error).split())}", file=sys.stderr)
    raise SystemExit(USAGE_ERROR) from error


@contextmanager
def settings_of(owner: object) -> Iterator[None]:
    """Say of the arguments of functions that are called here that they are settings of an object, by the same names.

    Raises:
        SettingError: As the function had it, with the owner.
    """
    try:
        yield
    except SettingError as error:
        if error.owner is None and hasattr(owner, error.setting):
            raise SettingError(str(error), owner, getattr(owner, error.setting)) from error
        raise


def refused(owner: object, setting: str, condition: str, value: Any, remedy: str = "") -> SettingError:
    """Return the error of a setting: `<setting> must <condition>, got <value>.` and the remedy.

    Args:
        owner: The object whose setting it is; None of a function's argument.
        setting: Its name, as a Python user types it.
        condition: What would be taken.
        value: What was given.
        remedy: What to do, whole sentences.
    """
    shown = repr(value) if isinstance(value, str) else value
    return SettingError(f"{setting} must {condition}, got {shown}.{remedy and ' '}{remedy}", owner, value)


def at_least(owner: object, least: int | float, /, remedy: str = "", **settings: int | float) -> None:
    """Check that numbers are finite and not below the least.

    Raises:
        SettingError: Naming the first that is.
    """
    for setting, value in settings.items():
        if not least <= value < math.inf:
            raise refused(owner, setting, f"be at least {least}", value, remedy)


def above(owner: object, bound: int | float, /, remedy: str = "", **settings: int | float) -> None:
    """Check that numbers are finite and above a bound.

    Raises:
        SettingError: Naming the first that is not.
    """
    for setting, value in settings.items():
        if not bound < value < math.inf:
            raise refused(owner, setting, f"be above {bound}", value, remedy)


def below_one(owner: object, /, remedy: str = "", **settings: int | float) -> None:
    """Check that numbers are in [0, 1), as Adam's β and a momentum are.

    Raises:
        SettingError: Naming the first that is not.
    """
    for setting, value in settings.items():
        if not 0 <= value < 1:
            raise refused(owner, setting, "be in [0, 1)", value, remedy)


def between_zero_and_one(owner: object, /, remedy: str = "", **settings: int | float) -> None:
    """Check that numbers are above 0 and below 1, as the share of what is held out is.

    Raises:
        SettingError: Naming the first that is not.
    """
    for setting, value in settings.items():
        if not 0 < value < 1:
            raise refused(owner, setting, "be between 0 and 1", value, remedy)


def one_of(owner: object, allowed: Iterable[Any], /, remedy: str = "", **settings: Any) -> None:
    """Check that settings have one of a few values.

    Raises:
        SettingError: Naming the first that has not, and the values.
    """
    known = tuple(allowed)
    for setting, value in settings.items():
        if value not in known:
            raise refused(owner, setting, f"be one of {', '.join(map(str, known))}", value, remedy)


def multiple_of(owner: object, factor: int, /, said: str = "", **settings: int) -> None:
    """Check that numbers are multiples of a number.

    Args:
        owner: The object whose settings they are.
        factor: The number.
        said: How the message puts it, where the number alone would not say what it is.
        settings: The numbers, by name.

    Raises:
        SettingError: Naming the first that is not, and the nearest that are.
    """
    for setting, value in settings.items():
        if value % factor:
            below = value - value % factor
            nearest = f"Use {f'{below} or ' if below > 0 else ''}{below + factor}."
            raise refused(owner, setting, f"be a multiple of {said or factor}", value, nearest)
