"""A command line from its arguments to its exit status."""

import logging
import signal
import sys
import time
import warnings
from collections.abc import Sequence

from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from gan_lightning.cli.measuring import measure
from gan_lightning.cli.messages import user_error
from gan_lightning.cli.naming import check_added, classes_first, with_files, with_named
from gan_lightning.cli.parser import GanCLI
from gan_lightning.errors import exit_with
from gan_lightning.runs.interruption import Interrupted, ends_when_told
from gan_lightning.runs.process_watch import (
    FIRST_HAS_ENDED,
    GRACE,
    another_was_killed,
    end_at_once,
    first_has_ended,
    started_by_first,
)
from gan_lightning.system.signals import BY_SIGNAL
from gan_lightning.system.users_modules import find_users_modules
from gan_lightning.system.yaml_files import check_arguments


def run(arguments: list[str]) -> None:
    """Run a command line. An error that the user can correct ends it with one line and status 2.

    SIGTERM ends it with status 143, and Ctrl-C with 130, as in a shell.
    """
    sys.argv = [sys.argv[0], *arguments]
    # Lightning's own warnings: deprecations inside it, a remark on a new folder for each run, an advertisement.
    for message in (
        ".*LeafSpec",
        ".*instantiate_classes",
        ".*JsonargparseDeprecationWarning",
        "The dirpath has changed",
        "LightningCLI's args parameter",
    ):
        warnings.filterwarnings("ignore", message=rf"\s*{message}")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(lambda r: "litlogger" not in r.getMessage())
    find_users_modules()
    try:
        with ends_when_told():
            _run(arguments)
    except (Interrupted, SIGTERMException) as exception:
        # Lightning's own status would be 0, as for a finished run. The other processes of torchrun and SLURM keep it:
        # for another status these would end the first process, which may still have something to write. Ours waits
        # (`ProcessWatch`).
        status = BY_SIGNAL + getattr(exception, "signum", signal.SIGTERM)
        first = not getattr(rank_zero_only, "rank", 0)
        raise SystemExit(status if first or started_by_first() else 0) from exception
    except Exception as exception:
        if (error := user_error(exception)) is not None:
            exit_with(error)
        if first_has_ended():  # the error comes from waiting for it
            end_at_once(FIRST_HAS_ENDED)
        if another_was_killed():  # the thread that ends this process says why
            time.sleep(GRACE)
        raise


def _run(arguments: Sequence[str]) -> None:
    arguments = with_files(arguments)
    check_arguments(arguments)
    check_added(arguments)
    asks_for_help = not arguments or {"-h", "--help"} & set(arguments)
    if arguments[:1] == ["measure"] and not asks_for_help:
        measure(arguments)
    else:
        GanCLI([*arguments[:1], *classes_first(with_named(arguments)[1:])] or None)
