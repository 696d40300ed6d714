"""Each paper's README agrees with the code: what a row names is there, and what a `Source:` block names has a row."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path

import pytest
from pages import headings

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "gan_lightning"
RESULTS = ROOT / "docs/results"
PAPERS = {
    "mgan": "Mao et al. 2022",
    "bigan": "Donahue et al. 2017",
    "subproblem": "Weber 2021",
    "selfexgan": "Liu 2018",
}
"""The folder of each paper, and how docstrings cite it."""

HEADER = ["in the paper", "what it is", "code", "test", "measured"]

Item = tuple[str, str]
"""What is numbered in a paper: its kind and its number."""

WORDS = {
    "equation": r"[Ee]qs?\.",
    "table": "Tables?",
    "figure": r"Fig(?:s?\.|ures?)",
    "theorem": "Theorems?",
    "corollary": "Corollar(?:y|ies)",
    "proposition": "Propositions?",
    "section": "[Ss]ections?",
    "appendix": "[Aa]ppendi(?:x|ces)",
}
NUMBER = r"(?:\d+(?:\.\d+)*|[A-C](?:\.\d+)*(?![\w(]))"
JOINED = r"(?:, and|,| and| to)"
MENTION = re.compile(rf"\b({'|'.join(WORDS.values())}) ({NUMBER}(?:{JOINED} {NUMBER})*)")
CITATION = re.compile(r"([A-Z]\w+(?: et al\.| (?:&|and) [A-Z]\w+)? \d{4})")
LINK = re.compile(r"\[([^\]]*)\]\(([^)#]*)(?:#([^)]*))?\)")
NOT_HERE, NOT_MEASURED = re.compile("not here: .{15}"), re.compile("not measured: .{10}")


def items(text: str) -> set[Item]:
    """Return what a text names: `eqs. 3, 4 and 11`, `Tables 4.1 to 4.7`, `Corollary 1`, `appendix C.2`."""
    found = set()
    for word, numbers in MENTION.findall(" ".join(text.split())):
        (kind,) = (kind for kind, pattern in WORDS.items() if re.fullmatch(pattern, word))
        first, *rest = re.split(rf"({JOINED}) ", numbers)
        found.add((kind, first.strip()))
        last = first.strip()
        for how, number in zip(rest[::2], rest[1::2], strict=True):
            if how == " to":
                stem, _, end = number.rpartition(".")
                between = range(int(last.rpartition(".")[2]) + 1, int(end))
                found |= {(kind, f"{stem}.{i}" if stem else str(i)) for i in between}
            found.add((kind, last := number.strip()))
    return found


def inside(item: Item, of: Item) -> bool:
    """Return whether an item is another one, or lies in it: section 4.1 in section 4, appendix A.3 in appendix A."""
    kind, number = item
    return item == of or (kind == of[0] and kind in ("section", "appendix") and number.startswith(of[1] + "."))


def source_block(docstring: str) -> str:
    """Return what stands under `Source:`."""
    found = re.search(r"^Source:\n((?:(?: .*)?\n?)*?)(?=^\S|\Z)", docstring, flags=re.MULTILINE)
    return found[1] if found else ""


def cited(source: str, home: str | None) -> dict[str, set[Item]]:
    """Return what a `Source:` block names of each paper.

    Args:
        source: The block.
        home: The paper of a file's own folder, which a block need not name; None where a file has none.
    """
    before, *rest = CITATION.split(" ".join(source.split()))
    found: dict[str, set[Item]] = {home: items(before)} if home else {}
    for citation, text in zip(rest[::2], rest[1::2], strict=True):
        for paper, name in PAPERS.items():
            if citation == name:
                found[paper] = found.get(paper, set()) | items(text)
    return {paper: named for paper, named in found.items() if named}


@cache
def definitions(file: Path) -> dict[str, str]:
    """Return what a file of Python defines, methods and constants included, and the docstring of each."""

    def of(node: ast.Module | ast.ClassDef, within: str) -> Iterator[tuple[str, str]]:
        for child in node.body:
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield within + child.name, ast.get_docstring(child) or ""
            if isinstance(child, ast.ClassDef):
                yield from of(child, f"{within}{child.name}.")
            if isinstance(child, ast.Assign | ast.AnnAssign):
                targets = child.targets if isinstance(child, ast.Assign) else [child.target]
                yield from ((within + target.id, "") for target in targets if isinstance(target, ast.Name))

    module = ast.parse(file.read_text())
    return {"": ast.get_docstring(module) or "", **dict(of(module, ""))}


def home(file: Path) -> str | None:
    """Return the paper whose folder a file lies in."""
    return next((paper for paper in PAPERS if file.parent == PACKAGE / "papers" / paper), None)


@cache
def sources() -> list[tuple[Path, str, dict[str, set[Item]]]]:
    """Return each `Source:` block of the package: its file, whose docstring has it, and what it names."""
    return [
        (file, name, named)
        for file in sorted(PACKAGE.rglob("*.py"))
        for name, docstring in definitions(file).items()
        if (named := cited(source_block(docstring), home(file)))
    ]


@dataclass(frozen=True)
class Row:
    """A row of a README's table; its cells as they stand."""

    paper: str
    about: str
    code: str
    test: str
    measured: str

    @property
    def absent(self) -> bool:
        """Whether the row says that there is no such code, and why."""
        return bool(NOT_HERE.match(self.code))

    def objects(self, folder: Path) -> list[tuple[Path, str]]:
        """Return what the row names of files of Python: the file and the name in it."""
        links = [(folder / target, name) for name, target, _ in named_in(self.code) if target.endswith(".py")]
        return [(file.resolve(), name.partition(".")[2]) for file, name in links]


def named_in(cell: str) -> list[tuple[str, str, str]]:
    """Return the links of a cell: what they name, where they lead, and the heading there."""
    return [(name.strip("`"), target, heading) for name, target, heading in LINK.findall(cell)]


def rows_of(readme: str) -> list[Row]:
    """Return the rows of the one table whose header is ours."""
    lines = [line.strip().strip("|").split(" | ") for line in readme.splitlines() if line.startswith("| ")]
    tables = [[cell.strip() for cell in line] for line in lines]
    if HEADER not in tables:
        return []
    below = tables[tables.index(HEADER) + 2 :]
    return [Row(*cells) for cells in below if len(cells) == len(HEADER)]


def complaints(paper: str, readme: str) -> list[str]:
    """Return what is wrong with a paper's README."""
    folder = PACKAGE / "papers" / paper
    rows = rows_of(readme)
    lines = [line for line in readme.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    if len(lines) != len(rows) + 1:
        return [f"the table must have the columns {HEADER} in every row"]
    found = list(of_links(readme, folder))
    for row in rows:
        said_of = chain(of_code(row, folder, paper), of_test(row, folder), of_measured(row, folder))
        found += [f"{row.paper}: {said}" for said in said_of]
    named = set().union(*(items(row.paper) for row in rows))
    told = {each for row in rows for each in row.objects(folder)}
    for file, name, of in sources():
        for item in sorted(of.get(paper, ())):
            if not any(inside(each, item) for each in named):
                where = f"{file.name} {name}".strip()
                found.append(f"{' '.join(item)} has no row, and {where} has it as its source")
        if name and paper in of and home(file) == paper and (file, name) not in told:
            found.append(f"{file.name} {name} has a source, and no row names it")
    return found


def of_links(readme: str, folder: Path) -> Iterator[str]:
    """Yield the links that lead nowhere."""
    for _, target, heading in named_in(readme):
        page = folder / target
        if not page.exists():
            yield f"{target} is not there"
        elif heading and heading not in headings(page.read_text()):
            yield f"{target} has no section {heading}"


def of_code(row: Row, folder: Path, paper: str) -> Iterator[str]:
    """Yield what is wrong with the names of functions, classes and configurations."""
    if row.absent:
        return
    if not (links := named_in(row.code)):
        yield f"names no code and gives no reason, got '{row.code}'"
    for name, target, _ in links:
        file = (folder / target).resolve()
        if file.suffix != ".py":
            if not name or (ROOT / name).resolve() != file:
                yield f"{name} is not the file {target}"
            continue
        module, _, within = name.partition(".")
        if module != file.stem or not file.exists() or not within or within not in definitions(file):
            yield f"{name} is not in {target}"
            continue
        of = cited(source_block(definitions(file)[within]), home(file)).get(paper, set())
        in_row = items(row.paper)
        if of and not any(inside(one, other) or inside(other, one) for one in in_row for other in of):
            yield f"{name} has another source, {sorted(of)}"


def of_test(row: Row, folder: Path) -> Iterator[str]:
    """Yield what is wrong with the names of tests."""
    links = named_in(row.test)
    if bool(links) == row.absent:
        yield "must name a test where there is code, and none where there is not"
    for name, target, _ in links:
        file = (folder / target).resolve()
        if not name.startswith("test_") or not file.exists() or name not in definitions(file):
            yield f"{name} is not in {target}"


def of_measured(row: Row, folder: Path) -> Iterator[str]:
    """Yield what is wrong with the sections of results, whose headings `of_links` looks for."""
    if row.absent or NOT_MEASURED.match(row.measured):
        return
    sections = [
        heading for _, target, heading in named_in(row.measured) if (folder / target).resolve().parent == RESULTS
    ]
    if not sections or not all(sections):
        yield f"must link sections of docs/results, or say 'not measured: ...', got '{row.measured}'"


def read(paper: str) -> str:
    return (PACKAGE / "papers" / paper / "README.md").read_text()


@pytest.mark.parametrize("paper", PAPERS)
def test_a_papers_readme_agrees_with_the_code_its_sources_the_tests_and_the_results(paper):
    assert len(rows_of(read(paper))) > 15
    assert complaints(paper, read(paper)) == []


@pytest.mark.parametrize("paper", PAPERS)
def test_every_file_of_a_papers_folder_is_in_its_reading_order(paper):
    _, _, order = read(paper).partition("## Reading order")
    files = {file.name for file in (PACKAGE / "papers" / paper).glob("*.py")} - {"__init__.py"}
    assert {target for _, target, _ in named_in(order)} >= files


MIXTURE_TEST = "test_the_mixture_loss_adds_the_class_term_with_its_weight"
ALPHA_SOURCE = "density_ratio.py log_density_ratio has a source, and no row names it"
BROKEN = {
    "a function is gone": ("`null_space.head_matrix`", "`null_space.rows`", "null_space.rows is not in null_space.py"),
    "a method is gone": ("RowSpace.split`", "RowSpace.parts`", "null_space.RowSpace.parts is not in null_space.py"),
    "a module is another one": ("`table_2.TABLE_2`", "`table_3.TABLE_2`", "table_3.TABLE_2 is not in table_2.py"),
    "a file is gone": ("(null_space.py)", "(row_space.py)", "row_space.py is not there"),
    "a configuration is gone": ("`configs/mgan/base.yaml`", "`configs/mgan.yaml`", "configs/mgan.yaml is not the file"),
    "a test is gone": (MIXTURE_TEST, "test_mixtures", "test_mixtures is not in ../../../tests/unit/test_losses.py"),
    "what is no test stands for one": (MIXTURE_TEST, "double", "double is not in ../../../tests/unit/test_losses.py"),
    "no reason is given for what is not here": ("not here: the", "the", "names no code and gives no reason"),
    "a section is gone": ("#what-m-gans-features-are-made-of", "#parts", "docs/results/mgan.md has no section parts"),
    "a section is not named": ("#what-m-gans-features-are-made-of", "", "must link sections of docs/results"),
    "a reason is missing": ("not measured: it says how", "no", "must link sections of docs/results"),
    "a number is another one": ("| eq. 16 (", "| eq. 15 (", "losses.mixture_generator_loss has another source"),
    "a row is gone": ("| Table 2 |", "| Table 3 |", "table 2 has no row, and table_2.py has it as its source"),
    "a cell is missing": ("| Table 2 |", "|", "the table must have the columns"),
    "a function with a source has no row": ("density_ratio.log_density_ratio", "density_ratio.Alarm", ALPHA_SOURCE),
    "there is no table": ("| in the paper |", "| the paper |", "the table must have the columns"),
}


@pytest.mark.parametrize(("right", "wrong", "said"), BROKEN.values(), ids=BROKEN)
def test_a_readme_that_does_not_agree_is_found_out(right, wrong, said):
    readme = read("mgan")
    assert right in readme
    found = complaints("mgan", readme.replace(right, wrong))
    assert any(said in complaint for complaint in found), found


def test_code_without_a_test_is_found_out():
    (row,) = (line for line in read("mgan").splitlines() if line.startswith("| Fig. 2 "))
    cells = row.split(" | ")
    without = read("mgan").replace(row, " | ".join([*cells[:3], "-", cells[4]]))
    assert complaints("mgan", without) == ["Fig. 2: must name a test where there is code, and none where there is not"]


def test_sources_are_read_as_they_are_written():
    assert items("eqs. 3, 4, 11 and 13, and section 6. Tables 4.1 to 4.3, Figure 1(a), eq. 11's") == {
        *(("equation", number) for number in ("3", "4", "11", "13")), ("section", "6"),
        *(("table", number) for number in ("4.1", "4.2", "4.3")), ("figure", "1"),
    }  # fmt: skip
    assert items("appendices B and C, Proposition 2, C(E, G), section 2 (Corollary 4, Theorem\n    1)") == {
        ("appendix", "B"), ("appendix", "C"), ("proposition", "2"), ("section", "2"), ("corollary", "4"),
        ("theorem", "1"),
    }  # fmt: skip
    source = "Goodfellow et al. 2014, eq. 1; Mao et al. 2022, eqs. 1 and 16; Donahue et al. 2017, eq. 3."
    assert cited(source, None) == {"mgan": {("equation", "1"), ("equation", "16")}, "bigan": {("equation", "3")}}
    assert cited("Theorem 3.", "bigan") == {"bigan": {("theorem", "3")}}
    docstring = "Return x.\n\nSource:\n    Weber 2021, eq. 8.\n\n    More.\n\nDeviations:\n    - eq. 9."
    assert source_block(docstring).split() == ["Weber", "2021,", "eq.", "8.", "More."]
    assert inside(("section", "4.1"), ("section", "4"))
    assert not inside(("section", "41"), ("section", "4"))
    assert not inside(("equation", "3.3"), ("equation", "3"))
