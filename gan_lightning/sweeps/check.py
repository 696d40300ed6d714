"""Checks points of a sweep against the real command line; a process of its own, since this loads the framework.

Reads `{"commands": [[...], ...], "points": [{...}, ...]}` from standard input, and writes a list with the error of each
command, or null, to standard output.
"""

import contextlib
import io
import json
import os
import sys
from typing import Any

from gan_lightning.cli.naming import classes_first
from gan_lightning.cli.parser import GanCLI
from gan_lightning.cli.sweep_point import SWEEP_POINT
from gan_lightning.errors import UserError


class _ParsedError(Exception):
    """Ends a command line where it would begin to build; no error of the user's."""


class _ParsingOnly(GanCLI):
    """The command line up to where it would load data and build networks."""

    def instantiate_classes(self) -> None:
        """Build nothing, and run nothing.

        Raises:
            _ParsedError: Always: the command line takes the arguments.
        """
        raise _ParsedError


def error_of(arguments: list[str], point: dict[str, Any]) -> str | None:
    """Return why the command line refuses these arguments, or None where it takes them."""
    os.environ[SWEEP_POINT] = json.dumps(point)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            _ParsingOnly([*arguments[:1], *classes_first(arguments[1:])])
    except _ParsedError:
        return None
    except UserError as error:
        return str(error)
    except SystemExit:
        # jsonargparse prints how the program is used, then `error: ...`, which may go on over several lines.
        return " ".join(said.getvalue().rpartition("error: ")[2].split())
    return None


def main() -> None:
    """Check what stands on standard input."""
    asked = json.load(sys.stdin)
    sys.argv = ["gan-lightning"]
    errors = [error_of(*pair) for pair in zip(asked["commands"], asked["points"], strict=True)]
    json.dump(errors, sys.stdout)


if __name__ == "__main__":
    main()
