"""The errors that are for people: one line that names the setting, its value, what is allowed and what to do.

The command line prints such an error as that one line and exits with a status other than 0. From Python they are
ordinary exceptions.
"""

import sys
from typing import NoReturn

USAGE_ERROR = 2
"""Exit status of an error that the user can put right."""


class UserError(Exception):
    """Something the user can put right; the message is one line and says how."""


class SettingError(UserError, ValueError):
    """A setting cannot be used: found in a constructor or in `setup`, before training starts."""


class DataError(UserError):
    """Data are missing, damaged or without what was asked of them; the message names the file or folder."""


class WriteError(UserError):
    """A file could not be written, as on a full disk; the message names it, the reason and what is left."""


class MeasurementError(UserError):
    """A measurement of a finished model failed; all others are written, and the message names it and why."""


class NonFiniteError(UserError):
    """A loss or a weight became NaN or infinite; the message names it, the step and the last good checkpoint."""


def exit_with(error: UserError) -> NoReturn:
    """End the command line with the error's one line."""
    print(f"gan-lightning: error: {' '.join(str(error).split())}", file=sys.stderr)
    raise SystemExit(USAGE_ERROR) from error
