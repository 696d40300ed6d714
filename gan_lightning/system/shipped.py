"""The configurations and sweeps that come with the package, and how they are found by their names.

A wheel has them in `gan_lightning/shipped`. In a checkout they stand beside the package, and so in an editable install.
"""

import difflib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

Kind = Literal["configs", "sweeps"]
"""What is shipped, by the folder that it is in."""

SUFFIX = ".yaml"
MOST_SIMILAR = 3
"""Names that are shown instead of one that means nothing."""

_PACKAGE = Path(__file__).resolve().parents[1]
_SENTENCE_END = re.compile(r"\.(?:\s+(?=[A-Z])|\s*$)")


def shipped_folder(kind: Kind) -> Path:
    """Return the folder in which the shipped files of a kind stand."""
    in_wheel = _PACKAGE / "shipped" / kind
    return in_wheel if in_wheel.is_dir() else _PACKAGE.parent / kind


def shipped_files(kind: Kind) -> dict[str, Path]:
    """Return the shipped files by their names: `mgan/base` is that of `configs/mgan/base.yaml`."""
    folder = shipped_folder(kind)
    files = sorted(folder.rglob(f"*{SUFFIX}"))
    return {path.relative_to(folder).as_posix().removesuffix(SUFFIX): path for path in files}


def found_by_name(name: str, kind: Kind) -> Path | None:
    """Return the file that a name means where it is not itself a path to what is there.

    The working folder comes first. A shipped file is found by its name, as `mgan/base`, and by its path in a checkout,
    as `configs/mgan/base.yaml`. The suffix may be left out.

    Args:
        name: What the user wrote.
        kind: What is looked for.

    Returns:
        The file; None where the name is that of something in the working folder, or means nothing.
    """
    if not name or os.path.lexists(name):
        return None
    if os.path.lexists(name + SUFFIX):
        return Path(name + SUFFIX)
    return shipped_files(kind).get(name.removeprefix(f"{kind}/").removesuffix(SUFFIX))


def similar_names(name: str, kind: Kind) -> str:
    """Return a sentence with the shipped names that are most like one that means nothing, and how to list them all."""
    names = list(shipped_files(kind))
    wanted = name.removeprefix(f"{kind}/").removesuffix(SUFFIX)
    same_file = [each for each in names if Path(each).name == Path(wanted).name]
    similar = difflib.get_close_matches(wanted, names, n=MOST_SIMILAR)
    shown = list(dict.fromkeys([*same_file, *similar]))[:MOST_SIMILAR]
    if not shown:
        return "`gan-lightning configs` lists those that are shipped."
    return f"Shipped with similar names: {', '.join(shown)}. `gan-lightning configs` lists all."


def description(path: Path) -> str:
    """Return the first sentence of the comment that a shipped file begins with; nothing where it begins otherwise."""
    return _SENTENCE_END.split(" ".join(_first_comment(path)), maxsplit=1)[0]


def _first_comment(path: Path) -> Iterator[str]:
    """Yield the lines of the paragraph at a file's beginning; lines that are set in hold commands."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("# ") or line.startswith("#  "):
            return
        yield line.removeprefix("# ")
