"""Tables of records, in Markdown, and their places in the pages.

A page holds `<!-- table: LAYOUT NAME -->`, then the table, then `<!-- end -->`. The name is that of a record, and the
layouts stand in `layouts.py`.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from benchmarks.results.records import MINUS, RESULTS, Measured, Record, Runs, difference
from gan_lightning.dashboard.statistics import holm, share_interval
from gan_lightning.errors import DataError
from gan_lightning.figures import Figure

PAGES = [RESULTS.parents[1] / "README.md", *sorted(RESULTS.glob("*.md"))]
BEGIN = re.compile(r"^<!-- table: .*-->$", re.MULTILINE)
MARKED = re.compile(r"(<!-- table: (\S+) (\S+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
NONE = "-"

Table = list[list[str]]
"""A row of headings, then the rows."""

Maker = Callable[[str], Table]
"""Makes the table of a name."""

WORDS = {
    "discriminator": "D",
    "classifier": "C",
    "encoder": "E(x)",
    "encoder_hidden": "E, hidden layer",
    "random": "random weights",
    "": "the run's own",
}
"""What stands in a table for a part of a figure."""


@dataclass(frozen=True)
class Layout:
    """What stands in the columns of a table.

    A cell is `[what: ]figure[@epoch][ .digits]`. Without `what` it is the figure with its 95% interval. `paper:` is
    the paper's figure, `n:` the number of seeds, `p:` Student's p corrected by Holm over the table, `count:` a
    count with the exact interval of its share, and `margin:` the figure less that of random weights. `less:` is the
    figure less that of the runs that the layout compares with, paired by seed, and `p_less:` its corrected p. `*`
    in a figure's name stands for any text, and `{part}` for the row's value of a part of figures; `{weights}` is
    empty, or `random_weights/`, and `{under}` is empty, or the row's condition with its slash.

    Attributes:
        columns: Cells by their headings.
        of: First part of the names of the figures that make rows.
        over: Parts of figures with a row for each of their values.
        headings: Of these parts.
        only: Their values that make rows, if not all do.
        than: Settings of the runs that `less:` and `p_less:` compare with.
        digits: After the point, where a cell names no number.
        turned: Whether rows and columns change places.
    """

    columns: Mapping[str, str]
    of: str = ""
    over: Sequence[str] = ()
    headings: Sequence[str] = ()
    only: Mapping[str, Sequence[str]] = field(default_factory=dict)
    than: Mapping[str, Any] = field(default_factory=dict)
    digits: int = 4
    turned: bool = False


@dataclass(frozen=True)
class _Tested:
    """A cell for a p value, which the other tests of the table decide on."""

    p: float | None


def markdown(table: Table) -> str:
    """Return a table in Markdown."""
    head, *rows = table
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def with_tables(text: str, makers: Mapping[str, Maker]) -> str:
    """Return a page with its tables made anew.

    Args:
        text: The page.
        makers: Of the tables of each layout.

    Raises:
        DataError: A table has no end, or a layout or a record that is not there.
    """
    if len(BEGIN.findall(text)) != len(MARKED.findall(text)):
        raise DataError("each <!-- table: LAYOUT NAME --> must have its own <!-- end -->, got one without.")

    def made(marked: re.Match[str]) -> str:
        begin, layout, name, _, end = marked.groups()
        if layout not in makers:
            raise DataError(f"a table's layout must be one of {', '.join(makers)}, got '{layout}'.")
        return f"{begin}{markdown(makers[layout](name))}{end}"

    return MARKED.sub(made, text)


def table_maker(layout: Layout, records: Mapping[str, Record]) -> Maker:
    """Return the maker of a layout's tables."""

    def made(name: str) -> Table:
        if name not in records:
            raise DataError(f"docs/results/records must have {name}.json, got no such record.")
        return table_of(records[name], layout)

    return made


def table_of(record: Record, layout: Layout) -> Table:
    """Return a record's table.

    Its first columns are the settings in which the record's runs differ. A layout with `over` has a row for each value
    of these parts of the figures. Columns without any figure are left out.
    """
    settings = list(dict.fromkeys(name for runs in record.runs for name in runs.settings))
    than = record.of(layout.than) if layout.than else None
    rows: list[list[str | _Tested]] = []
    for place, runs in sorted(_places(record, layout), key=lambda found: found[0].get("protocol", "")):
        words = {name: str(runs.settings.get(name, NONE)) for name in settings}
        parts = {**place, "weights": "random_weights/" if place.get("weights") == "random" else ""}
        parts["under"] = f"{condition}/" if (condition := place.get("condition")) else ""
        cells = [_cell(runs, cell.format(**parts), layout, than) for cell in layout.columns.values()]
        known = [cell for cell in cells if cell not in (NONE, _Tested(None))]
        if known:
            rows.append([*words.values(), *(WORDS.get(place[name], place[name]) for name in layout.over), *cells])
    headings = [*(name.replace("_", " ") for name in settings), *layout.headings, *layout.columns]
    table = [headings, *_with_tests(rows)]
    kept = [i for i in range(len(headings)) if any(row[i] != NONE for row in table[1:])]
    table = [[row[i] for i in kept] for row in table]
    return [list(column) for column in zip(*table, strict=True)] if layout.turned else table


def _places(record: Record, layout: Layout) -> Iterator[tuple[dict[str, str], Runs]]:
    """Yield the rows: values of the parts in `over`, and the runs."""
    for runs in record.runs:
        figures = [each.figure for each in runs.measured if each.figure.name.startswith(layout.of)]
        for values in dict.fromkeys(tuple(_part(each, name) for name in layout.over) for each in figures):
            place = dict(zip(layout.over, values, strict=True))
            if not any(MINUS in value for value in values) and all(
                value in layout.only.get(name, [value]) for name, value in place.items()
            ):
                yield place, runs


def _part(figure: Figure, name: str) -> str:
    value = getattr(figure, name)
    return "" if value is None else str(value)


def _cell(runs: Runs, cell: str, layout: Layout, than: Runs | None) -> str | _Tested:
    """Return a cell of a layout: `[what: ]figure[@epoch][ .digits]`."""
    match = re.fullmatch(r"(?:(\w+): )?(.*?)(?:@(\d+))?(?: \.(\d))?", cell)
    assert match is not None
    what, name, at, digits = match[1], match[2], match[3], int(match[4] or layout.digits)
    if what == "paper":
        return _published(runs, name, digits)
    epoch = None if at is None else float(at)
    found = runs.find(name, epoch)
    less = what in ("less", "p_less")
    if less and than is not None:
        found = None if runs is than else difference(found, than.find(name, epoch))
    if found is None:
        return NONE
    if what == "n":
        return NONE if found.n is None else str(found.n)
    if what in ("p", "p_less"):
        return _Tested(found.estimate.p_value())
    if what == "count":
        return count_in_words(round(found.figure.value), found.n)
    if what == "margin":
        return _margin(found, runs.find(name.replace("/accuracy", "/random_weights/accuracy")), digits)
    return in_words(found, digits, signed=less or MINUS in name)


def in_words(measured: Measured, digits: int, signed: bool = False) -> str:
    """Return a figure as text: its mean, and half the length of its 95% interval.

    Of an interval that comes from a rounded deviation two digits are written: the others are not known. A range has the
    digits of its ends.
    """
    found, sign = measured.estimate, "+" if signed else ""
    if measured.until is not None:
        ends = measured.figure.value, measured.until
        known = max(0, *(-int(Decimal(repr(end)).normalize().as_tuple().exponent) for end in ends))
        return " to ".join(f"{end:{sign}.{known}f}" for end in ends)
    text = f"{found.mean:{sign}.{digits}f}"
    if found.half_width is None:
        return text
    known = digits if measured.deviation is None else min(digits, max(0, 1 - math.floor(math.log10(found.half_width))))
    return f"{text} ± {found.half_width:.{known}f}"


def count_in_words(count: int, n: int | None) -> str:
    """Return a count, and the exact 95% interval of its share."""
    if not n:
        return str(count)
    low, high = share_interval(count, n)
    return f"{count} of {n} ({low:.0%} to {high:.0%})"


def p_in_words(p: float | None) -> str:
    """Return a p value as text."""
    return NONE if p is None else "< .001" if p < 0.001 else f"{p:.3g}".lstrip("0")


def _published(runs: Runs, name: str, digits: int) -> str:
    """Return the paper's figure, or the difference of two."""
    for part in name.split("/"):
        if MINUS in part:
            names = [name.replace(part, each) for each in part.split(MINUS)]
            if not all(each in runs.published for each in names):
                return NONE
            first, second = (runs.published[each]["value"] for each in names)
            return f"{first - second:+.{digits}f}"
    return f"{runs.published[name]['value']:.{digits}f}" if name in runs.published else NONE


def _margin(trained: Measured, random: Measured | None, digits: int) -> str:
    """Return the mean less that of random weights, whose one measurement has no spread."""
    if random is None:
        return NONE
    return f"{trained.figure.value - random.figure.value:+.{digits}f}"


def _with_tests(rows: Sequence[Sequence[str | _Tested]]) -> Table:
    """Return rows with the p values of all tests of the table, corrected by Holm."""
    tested = [cell.p for row in rows for cell in row if isinstance(cell, _Tested) and cell.p is not None]
    adjusted = iter(holm(tested))

    def text(cell: str | _Tested) -> str:
        if isinstance(cell, str):
            return cell
        return p_in_words(None if cell.p is None else next(adjusted))

    return [[text(cell) for cell in row] for row in rows]
