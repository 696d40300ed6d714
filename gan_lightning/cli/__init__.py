"""The command line's `fit`, `validate`, `test`, `predict` and `measure`."""

from gan_lightning.cli.command import run
from gan_lightning.cli.messages import user_error
from gan_lightning.cli.parser import GanCLI

__all__ = ["GanCLI", "run", "user_error"]
