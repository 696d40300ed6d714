"""Checks points of a sweep against the real command line, in a process of its own, because it loads the framework.

Reads `{"commands": [[...], ...], "points": [{...}, ...]}` from standard input, and writes a list with the error of each
command, or null, to standard output.
"""

import contextlib
import io
import json
import os
import sys
from typing import Any

from gan_lightning.cli.naming import classes_first, with_files
from gan_lightning.cli.parser import GanCLI
from gan_lightning.cli.sweep_point import SWEEP_POINT
from gan_lightning.errors import UserError


class _ParsedError(Exception):
    """Ends a command line where it would begin to build; no error of the user's."""


class _ParsingOnly(GanCLI):
    """The command line without the loading of data and the building of networks."""

    def instantiate_classes(self) -> None:
        """Build nothing, and run nothing.

        Raises:
            _ParsedError: Always: the command line takes the arguments.
        """
        raise _ParsedError


def error_of(arguments: list[str], point: dict[str, Any]) -> str | None:
    """Return the command line's reason to refuse these arguments, or None if it takes them."""
    os.environ[SWEEP_POINT] = json.dumps(point)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            _ParsingOnly([*arguments[:1], *classes_first(with_files(arguments[1:]))])
    except _ParsedError:
        return None
    except UserError as error:
        return str(error)
    except SystemExit:
        # jsonargparse prints the program's usage, then `error: ...`; the error may take several lines.
        return " ".join(said.getvalue().rpartition("error: ")[2].split())
    return None


def main() -> None:
    """Check the points from standard input."""
    asked = json.load(sys.stdin)
    sys.argv = ["gan-lightning"]
    errors = [error_of(*pair) for pair in zip(asked["commands"], asked["points"], strict=True)]
    json.dump(errors, sys.stdout)


if __name__ == "__main__":
    main()
