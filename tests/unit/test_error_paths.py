"""No class names its settings by the path that the command line gives them: that is known to the command line alone."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import gan_lightning
from gan_lightning.cli.naming import GROUPS, SHARED
from gan_lightning.cli.parser import CALLBACKS

PACKAGE = Path(gan_lightning.__file__).parent
BELOW = ("papers", "training", "nets", "evaluation", "measurements", "data", "runs", "system")
ROOTS = ("model", "data", "trainer", *GROUPS, *SHARED, *CALLBACKS)
PATH = re.compile(rf"^({'|'.join(ROOTS)})\.[a-z_{{]|--[a-z_{{]\S*\.\S")
MAKES_ERRORS = re.compile(r"\w+Error|refused|settings_of|above|at_least|below_one|one_of|multiple_of")


def texts(source: str) -> Iterator[str]:
    """Yield the texts of which source code makes errors, with {} for what is filled in."""
    for node in ast.walk(ast.parse(source)):
        called = node.exc if isinstance(node, ast.Raise) else node
        name = called.func if isinstance(called, ast.Call) else None
        if not isinstance(name, ast.Name) or not MAKES_ERRORS.fullmatch(name.id):
            continue
        for inner in ast.walk(called):
            if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                yield inner.value
            elif isinstance(inner, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in inner.values)


@pytest.mark.parametrize("file", sorted(file for name in BELOW for file in (PACKAGE / name).rglob("*.py")), ids=str)
def test_no_error_names_a_path_of_the_command_line(file):
    assert [text for text in texts(file.read_text(encoding="utf-8")) if PATH.search(text)] == []


@pytest.mark.parametrize(
    "error",
    [
        "raise SettingError(f'model.width must be at least 1, got {width}.')",
        "raise SettingError(f'model.{name} must be at least 1, got {width}.')",
        "raise DataError('No folder. ' f'Set --data.root to {it}.')",
        "raise SettingError(f'No images. Set --{self.name}.enabled=false.') from error",
        "error = refused(self, 'transfer.epochs', 'be odd', 2)",
    ],
)
def test_a_path_in_an_error_is_found(error):
    assert [text for text in texts(error) if PATH.search(text)]
