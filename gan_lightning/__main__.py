"""Entry point of `gan-lightning` and of `python -m gan_lightning`."""

import sys
from collections.abc import Callable

from gan_lightning import __version__
from gan_lightning.errors import UserError, exit_with
from gan_lightning.system.terminal import forgiving_output


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; subcommands without training answer without loading the framework."""
    arguments = sys.argv[1:] if arguments is None else arguments
    with forgiving_output():
        _main(arguments)


def _main(arguments: list[str]) -> None:
    if arguments == ["--version"]:
        print(f"gan-lightning {__version__}")
    elif arguments[:1] in (["sweep"], ["dashboard"], ["configs"]):
        try:
            raise SystemExit(_light_command(arguments[0])(arguments[1:]))
        except UserError as error:
            exit_with(error)
    else:
        from gan_lightning.system.lean_imports import without_unused_metrics

        without_unused_metrics()
        from gan_lightning.cli.command import run

        run(arguments)


def _light_command(name: str) -> Callable[[list[str]], int]:
    if name == "sweep":
        from gan_lightning.sweeps.sweep_command import main
    elif name == "configs":
        from gan_lightning.cli.configs_command import main
    else:
        from gan_lightning.dashboard.dashboard_command import main
    return main


if __name__ == "__main__":
    main()
