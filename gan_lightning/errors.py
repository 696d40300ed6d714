"""The errors for users: one line with the setting, its value, the allowed values and the remedy.

The command line prints such an error as one line and exits with a status other than 0. From Python they are ordinary
exceptions.
"""

import sys
from typing import NoReturn

USAGE_ERROR = 2
"""Exit status of an error that the user can correct."""


class UserError(Exception):
    """An error that the user can correct; the message is one line with the remedy."""


class SettingError(UserError, ValueError):
    """A setting cannot be used: found in a constructor or in `setup`, before training starts."""


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
