"""Checks points of a sweep against the real command line, in a process of its own, because it loads the framework.

Model, data and measurements of each point are made once. Reads `{"commands": [[...], ...], "points": [{...}, ...]}`
from standard input, and writes a list with the error of each command, or null, to standard output.
"""

import contextlib
import io
import json
import os
import re
import sys
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule

from gan_lightning import data, papers
from gan_lightning.cli.checks import parameters_of
from gan_lightning.cli.naming import GROUPS, classes_first, with_files
from gan_lightning.cli.parser import CALLBACKS, GanCLI
from gan_lightning.errors import UserError
from gan_lightning.runs.trainer import Trainer
from gan_lightning.sweeps.distributions import did_you_mean
from gan_lightning.system.sweep_trial import SWEEP_POINT


class _MadeError(Exception):
    """Ends a command line whose objects have all been made; no error of the user's."""


class _NothingTrained(GanCLI):
    """The command line up to the training; it makes no trainer, and therefore no logger and no folder."""

    def instantiate_classes(self) -> None:
        """Make model, data, measurements and callbacks, as a trial would.

        Raises:
            _MadeError: Always: a trial with these settings can begin.
            SettingError: A class refuses its settings.
        """
        trainer = self._chosen().trainer
        trainer.logger, trainer.callbacks = False, None
        super().instantiate_classes()
        raise _MadeError

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Make none."""


def error_of(arguments: list[str], point: dict[str, Any]) -> str | None:
    """Return the reason for which a trial with these arguments could not begin; None if it can.

    Args:
        arguments: The command line's.
        point: The sweep's parameters, which have to be used as they are.
    """
    os.environ[SWEEP_POINT] = json.dumps(point)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            _NothingTrained([*arguments[:1], *classes_first(with_files(arguments[1:]))])
    except _MadeError:
        return None
    except UserError as error:
        return str(error)
    except SystemExit:
        # jsonargparse prints the program's usage, then `error: ...`; the error may take several lines.
        usage = re.split(r"^(?:\S+ )*error: ", said.getvalue(), maxsplit=1, flags=re.MULTILINE)
        why = " ".join(usage[-1].split())
        return why + _similar(why, point)
    except Exception as error:  # of a class of the user's own, as a trial would end with it
        return f"{type(error).__name__}: {error}"
    return None


def _similar(error: str, point: Mapping[str, Any]) -> str:
    """Return a question after the key that is most like one of which an error says that it is not accepted."""
    for name in point if "accept" in error else ():
        *path, last = name.split(".")
        groups = {"model", "data", "trainer", "seed_everything", *GROUPS, *CALLBACKS}
        settings = _settings_of(path[0]) if path else set()
        if not path or path[0] not in groups:
            asked = did_you_mean(path[0] if path else name, groups)
        elif last in error and last not in settings:
            asked = did_you_mean(name, {".".join([*path, setting]) for setting in settings})
        else:
            continue
        if asked:
            return asked
    return ""


def _settings_of(group: str) -> set[str]:
    """Return the settings of a group; of model and data, those of all classes that come with the package."""
    shipped = [getattr(package, name) for package in (data, papers) for name in package.__all__]
    known = {
        "model": [kind for kind in shipped if issubclass(kind, LightningModule)],
        "data": [kind for kind in shipped if issubclass(kind, LightningDataModule)],
        "trainer": [Trainer],
    }
    kinds = {**{name: [kind] for name, kind in {**GROUPS, **CALLBACKS}.items()}, **known}
    return {setting for kind in kinds.get(group, []) for setting in parameters_of(kind)}


def main() -> None:
    """Check the points from standard input."""
    asked = json.load(sys.stdin)
    sys.argv = ["gan-lightning"]
    errors = [error_of(*pair) for pair in zip(asked["commands"], asked["points"], strict=True)]
    json.dump(errors, sys.stdout)


if __name__ == "__main__":
    main()
