"""The user's own classes, which lie in the folder where a command is given."""

import sys
from pathlib import Path


def find_users_modules() -> None:
    """Let modules of the working folder be imported. "" would mean the folder of a configuration while it is read."""
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
