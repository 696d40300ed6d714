"""Entry point of `gan-lightning` and of `python -m gan_lightning`."""

import sys

from gan_lightning import __version__


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; `--version` answers without loading the framework."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments == ["--version"]:
        print(f"gan-lightning {__version__}")
        return
    from gan_lightning.cli import run

    run(arguments)


if __name__ == "__main__":
    main()
