"""The pages of docs/extending show the files of the package that the tests run, to the letter."""

import re
import sys
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs/extending").glob("*.md"))
PACKAGE = ROOT / "tests/extending/user_package/my_package"
FILES = sorted(path for path in PACKAGE.iterdir() if path.is_file())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_file_stands_whole_on_a_page(file):
    language = {".py": "python", ".yaml": "yaml"}[file.suffix]
    blocks = [
        block for page in PAGES for block in re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.M | re.S)
    ]
    assert file.read_text() in blocks


def test_the_list_of_files_is_the_package():
    listed = re.findall(r"^  (\w+\.\w+)  ", (ROOT / "docs/extending/README.md").read_text(), re.M)
    assert sorted(listed) == [file.name for file in FILES]


def test_the_package_is_found_only_where_its_folder_is_named(monkeypatch):
    assert not PACKAGE.is_relative_to(ROOT / "gan_lightning")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if Path(path) != PACKAGE.parent])
    assert PathFinder.find_spec("my_package") is None
    monkeypatch.syspath_prepend(str(PACKAGE.parent))
    assert PathFinder.find_spec("my_package") is not None
