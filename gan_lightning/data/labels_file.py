"""Labels of images from a list: a text file of columns, whose first line names the columns, or a Parquet file."""

import csv
import os
import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from gan_lightning.data.listing import FoundImage, Identity, identity_of
from gan_lightning.errors import DataError, SettingError
from gan_lightning.system.reading import NAMED, named, reading, shown

DELIMITERS = ",;\t"
REMEDY = "Correct the list."


@dataclass(frozen=True)
class Row:
    """One row of a list.

    Attributes:
        line: Number of its last line in the file, counted from 1.
        name: Of the image.
        label: Its class; empty if it is unknown.
    """

    line: int
    name: str
    label: str

    def __str__(self) -> str:
        return f"'{shown(self.name)}' (line {self.line})"


def read_rows(file: Path, file_column: str, label_column: str) -> list[Row]:
    """Return the rows of a list: text separated by commas, semicolons or tabs, or Parquet. Empty lines are skipped.

    Raises:
        DataError: The list cannot be read, lacks a column, or a row has too many or too few values or no name.
        SettingError: It is a Parquet file, and the package for it is missing.
    """
    if file.suffix.lower() == ".parquet":
        return rows_of_parquet(file, file_column, label_column)
    with reading(file, REMEDY), file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        lines = list(stream)
        start = next((number for number, line in enumerate(lines) if line.strip()), len(lines))
        header, delimiter = header_of("".join(lines[start : start + 1]), file, file_column, label_column)
        file_at, label_at = header.index(file_column), header.index(label_column)
        rows = []
        reader = csv.reader(lines[start + 1 :], delimiter=delimiter, strict=True)
        for cells in reader:
            values = [cell.strip() for cell in cells]
            if not any(values):
                continue
            line = start + 1 + reader.line_num
            if len(values) < len(header) or any(values[len(header) :]) or not values[file_at]:
                raise DataError(
                    f"Line {line} of '{shown(file)}' must have a name and {len(header)} values, as its header has, "
                    f"got {len(values)}: {shown(','.join(values))}. {REMEDY}"
                )
            rows.append(Row(line, values[file_at], values[label_at]))
    if not rows:
        raise DataError(f"'{shown(file)}' must have a row for each image below its header, got none. {REMEDY}")
    return rows


def rows_of_parquet(file: Path, file_column: str, label_column: str) -> list[Row]:
    """Return the rows of a Parquet file; a row's line is its number.

    Raises:
        DataError: The file cannot be read, lacks a column, or a row has no name.
        SettingError: The package is missing.
    """
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        remedy = "Install it: pip install 'gan-lightning[parquet]'"
        raise SettingError(f"labels_file must be text without the package pyarrow, got '{file}'. {remedy}") from error
    with reading(file, REMEDY):
        columns = pq.read_schema(file).names
        for setting, column in (("file_column", file_column), ("label_column", label_column)):
            if column not in columns:
                known = named(columns, 20)
                raise DataError(
                    f"'{shown(file)}' has no column '{column}', and its columns are {known}. Set {setting}."
                )
        content = pq.read_table(file, columns=[file_column, label_column]).to_pydict()
    values = zip(content[file_column], content[label_column], strict=True)
    rows = [
        Row(number, *("" if each is None else str(each).strip() for each in pair))
        for number, pair in enumerate(values, start=1)
    ]
    if nameless := [row.line for row in rows if not row.name]:
        raise DataError(f"Row {nameless[0]} of '{shown(file)}' must have the name of a file, got none. {REMEDY}")
    if not rows:
        raise DataError(f"'{shown(file)}' must have a row for each image, got none. {REMEDY}")
    return rows


def header_of(line: str, file: Path, file_column: str, label_column: str) -> tuple[list[str], str]:
    """Return the names of the columns, and their separator.

    Raises:
        DataError: A column is missing, or is there twice.
    """
    headers = [
        ([cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])], delimiter)
        for delimiter in DELIMITERS
    ]
    header, delimiter = max(headers, key=lambda found: sum(name in found[0] for name in (file_column, label_column)))
    for setting, column in (("file_column", file_column), ("label_column", label_column)):
        if header.count(column) != 1:
            raise DataError(
                f"{setting} must be one of the columns that the first line of '{shown(file)}' names, got '{column}', "
                f"and they are {named(header, 20)}. Set {setting}, or give the list a header."
            )
    return header, delimiter


def labels_of(images: list[FoundImage], rows: list[Row], file: Path, root: Path) -> dict[Identity, str]:
    """Return the label of each image with a row in a list.

    A row names its image by a path from `root` or from the list's own folder. The end of a path is enough if one image
    alone has it.

    Raises:
        DataError: A row names no image or several, or an image is listed twice.
    """
    known = {found.identity for found in images}
    by_name: dict[str, list[FoundImage]] = defaultdict(list)
    for found in images:
        by_name[plain(found.name)].append(found)
    rows_of: dict[Identity, Row] = {}
    missing: list[Row] = []
    ambiguous: list[Row] = []
    twice: list[str] = []
    contradicting: list[str] = []
    for row in rows:
        identities = identities_of(row.name, (root, file.parent), known, by_name)
        if len(identities) != 1:
            (ambiguous if identities else missing).append(row)
            continue
        first = rows_of.setdefault(identities.pop(), row)
        if first is not row and os.path.normpath(first.name) == os.path.normpath(row.name):
            twice.append(f"{first} and {row}")
        elif first.label != row.label:
            contradicting.append(f"{first} and {row}")
    for found_rows, problem in (
        (missing, f"each name an image below '{shown(root)}'; no such image is there for"),
        (ambiguous, "each name one image; give more of the path for"),
        (twice, "each name another image; the same one is in"),
        (contradicting, "give each file one label; two labels for the same file have"),
    ):
        if found_rows:
            first_ones = ", ".join(str(row) for row in found_rows[:NAMED])
            more = f" and {len(found_rows) - NAMED:,} more" if len(found_rows) > NAMED else ""
            raise DataError(f"The {len(rows):,} rows of '{shown(file)}' must {problem} {first_ones}{more}. {REMEDY}")
    return {identity: row.label for identity, row in rows_of.items()}


def identities_of(
    name: str, folders: tuple[Path, ...], known: set[Identity], by_name: dict[str, list[FoundImage]]
) -> set[Identity]:
    """Return the images that a name of a list may stand for."""
    for spelling in dict.fromkeys((name, name.replace("\\", "/"))):
        for folder in folders:
            path = folder / spelling
            try:
                identity = identity_of(str(path), path.stat())
            except (OSError, ValueError):
                continue
            if identity in known:
                return {identity}
        end = plain("/" + os.path.normpath(spelling).lstrip("/"))
        matching = {
            found.identity for found in by_name.get(end.rpartition("/")[2], []) if plain(found.path).endswith(end)
        }
        if matching:
            return matching
    return set()


def plain(name: str) -> str:
    """Return a name with composed letters: some systems write ä as a and two dots, with the same look."""
    return unicodedata.normalize("NFC", name)
