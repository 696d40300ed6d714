"""The errors that are for people: one line that names the setting, its value, what is allowed and what to do.

The command line prints such an error as that one line and exits with a status other than 0. From Python they are
ordinary exceptions.
"""


class UserError(Exception):
    """Something the user can put right; the message is one line and says how."""


class SettingError(UserError, ValueError):
    """A setting cannot be used: found in a constructor or in `setup`, before training starts."""


class DataError(UserError):
    """Data are missing, damaged or without what was asked of them; the message names the file or folder."""


class NonFiniteError(UserError):
    """A loss or a weight became NaN or infinite; the message names it, the step and the last good checkpoint."""
