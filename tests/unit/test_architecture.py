"""What holds for the package as a whole: names that stand once, short files, flat classes."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "gan_lightning"
LONGEST = 400
LONGER = {"selfexgan_tables.py"}  # the thesis' seven tables, as they are printed


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def classes(sources: dict[str, str]) -> Iterator[tuple[str, ast.ClassDef]]:
    for name, source in sources.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ClassDef):
                yield name, node


def in_several_places(places: list[tuple[str, str]]) -> dict[str, list[str]]:
    found = defaultdict(list)
    for name, place in places:
        found[name].append(place)
    return {name: where for name, where in found.items() if len(where) > 1}


def levels(bases: dict[str, list[str]], name: str) -> list[str]:
    """Return a class and what it descends from among the known ones, by the longest way."""
    above = [
        levels(bases, base) for base in bases.get(name, ()) if base in bases and base != name
    ]  # Trainer(lightning.Trainer)
    return [name, *max(above, key=len, default=[])]


def too_deep(sources: dict[str, str]) -> list[list[str]]:
    bases = {
        node.name: [ast.unparse(base).split("[")[0].split(".")[-1] for base in node.bases]
        for _, node in classes(sources)
    }
    return [found for name in bases if len(found := levels(bases, name)) > 2]


def test_no_two_files_have_one_name():
    named = [(file.name, str(file.relative_to(PACKAGE))) for file in files() if not file.name.startswith("__")]
    assert in_several_places(named) == {}


def test_no_two_classes_have_one_name():
    sources = {str(file.relative_to(PACKAGE)): file.read_text(encoding="utf-8") for file in files()}
    assert in_several_places([(node.name, file) for file, node in classes(sources)]) == {}


def test_files_are_short():
    lengths = {file.name: len(file.read_text(encoding="utf-8").splitlines()) for file in files()}
    assert {name for name, length in lengths.items() if length > LONGEST} == LONGER


def test_classes_have_two_levels_at_most():
    assert too_deep({str(file): file.read_text(encoding="utf-8") for file in files()}) == []


def test_a_third_level_and_a_second_place_are_found():
    assert too_deep({"a.py": "class A: ...\nclass B(A): ...", "b.py": "class C(x.B[int]): ..."}) == [["C", "B", "A"]]
    assert in_several_places([("A", "a.py"), ("B", "b.py"), ("A", "b.py")]) == {"A": ["a.py", "b.py"]}
