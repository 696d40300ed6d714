"""`gan-lightning configs`: the configurations and sweeps that come with the package."""

import argparse
from collections.abc import Sequence

from gan_lightning.system.shipped import Kind, description, shipped_files, shipped_folder

_USES: dict[Kind, tuple[str, str]] = {
    "configs": ("Configurations", "gan-lightning fit --config NAME"),
    "sweeps": ("Sweeps", "gan-lightning sweep NAME"),
}


def parser() -> argparse.ArgumentParser:
    """Return the parser of `gan-lightning configs`."""
    return argparse.ArgumentParser(
        prog="gan-lightning configs",
        description="List the configurations and sweeps that come with the package, by the names that --config and "
        "`gan-lightning sweep` take. A file of that name in the working folder comes before them.",
    )


def main(arguments: Sequence[str]) -> int:
    """Run `gan-lightning configs`.

    Returns:
        The exit status.
    """
    parser().parse_args(arguments)
    listed = {kind: shipped_files(kind) for kind in _USES}
    width = max((len(name) for files in listed.values() for name in files), default=0)
    for kind, files in listed.items():
        title, use = _USES[kind]
        print(f"{title} in {shipped_folder(kind)}, for {use}:")
        for name, path in files.items():
            print(f"  {name:{width}}  {description(path)}".rstrip())
    return 0
