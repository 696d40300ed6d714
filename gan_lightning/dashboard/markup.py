"""Pieces of the page as HTML: every text from a run is escaped here."""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Any

from gan_lightning.dashboard.charts import Chart
from gan_lightning.dashboard.comparison import Comparison, Row, text_of
from gan_lightning.dashboard.rows import ALL_SEEDS
from gan_lightning.dashboard.run_folders import COLUMNS

NOTHING = "-"
_TEXTS = {"x", "variant", "figure", "extractor", "probe", "weights", "axis", "what"}
"""Columns of words, which begin on the left."""

_FILTERS = {"probe", "seed"}
"""Columns that are filters, too, beside the columns of the settings."""


def section(title: str, *parts: str) -> str:
    """Return a part of the page; parts without HTML are remarks."""
    return f"<section><h2>{escape(title)}</h2>{''.join(map(_part, parts))}</section>"


def _part(part: str) -> str:
    return part if part.startswith("<") or not part else f'<p class="soft">{escape(part)}</p>'


def details(summary: str, content: str, attributes: str = "") -> str:
    """Return a part of the page that is closed at first."""
    return f"<details{attributes}><summary>{escape(summary)}</summary>{content}</details>"


def boxes(charts: Iterable[Chart], kind: str = "") -> str:
    """Return a box for each chart; the page's script draws the chart in it."""
    made = (
        f"<div>{f'<h3>{escape(chart.title)}</h3>' if chart.title else ''}"
        f'<div class="chart{" late" if chart.late else ""}" id="{chart.id}"></div></div>'
        for chart in charts
    )
    return f'<div class="charts {kind}">{"".join(made)}</div>'


def csv_button(name: str) -> str:
    """Return a button for a file that the page's script writes from a table."""
    shown = escape(name)
    return f'<p class="script"><button type="button" data-csv="{shown}">Download {shown}</button></p>'


def file_name(name: str, taken: Collection[str]) -> str:
    """Return a unique name for a CSV file from any text."""
    plain = re.sub(r"[^\w.-]", "_", name)[:80].strip(".") or "figures"
    return next(file for i in range(len(taken) + 1) if (file := f"{plain}{f'-{i}' if i else ''}.csv") not in taken)


def setting_columns(comparison: Comparison) -> dict[str, str]:
    """Return the columns that identify the runs of a row."""
    return {"x": comparison.x} | ({"variant": "Other settings"} if comparison.others else {})


def table(columns: Mapping[str, str], rows: Iterable[Row], of_seeds: bool = True) -> str:
    """Return a table.

    Args:
        columns: Titles by the rows' columns; `interval`, `signed` and the like are computed from other columns.
        rows: Lines; lines of single seeds are hidden.
        of_seeds: Whether a filter for the seed chooses among the lines.
    """
    kinds = {column: ' class="text"' if column in _TEXTS else "" for column in columns}
    head = "".join(f"<th{kinds[column]}>{escape(title)}</th>" for column, title in columns.items())
    bodies = []
    for attributes, group in groupby(rows, lambda row: _row_marks(row, of_seeds)):  # once for lines filtered alike
        cells = ("".join(f"<td{kinds[c]}>{escape(_cell(row, c))}</td>" for c in columns) for row in group)
        bodies.append(f"<tbody {attributes}>" + "".join(f"<tr>{line}</tr>" for line in cells) + "</tbody>")
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead>{"".join(bodies)}</table></div>'


def _row_marks(row: Row, of_seeds: bool) -> str:
    """Return the attributes by which filters find a line; single seeds are shown by filters alone."""
    hidden = " hidden" if of_seeds and row.get("seed", ALL_SEEDS) != ALL_SEEDS else ""
    return f'data-row="{marks(row, without=() if of_seeds else ("seed", "probe"))}"{hidden}'


def marks(row: Row, without: Sequence[str] = ()) -> str:
    """Return the facts on a line or a part of the page for the filters, as the value of an attribute."""
    names = [name for name in row if (name not in COLUMNS or name in _FILTERS) and name not in without]
    return escape(json.dumps({name: row[name] for name in names if isinstance(row[name], str)}))


def _cell(row: Row, column: str) -> str:
    if column in ("interval", "signed_interval"):
        write = signed if column == "signed_interval" else number
        return NOTHING if row["low"] is None else f"[{write(row['low'])}, {write(row['high'])}]"
    if column in ("signed", "signed_paper"):
        value = row["mean" if column == "signed" else "paper"]
        return NOTHING if value is None else signed(value)
    value = row.get(column)
    if column in ("x", "variant", "at") and value is not None:
        return text_of(value)
    if value in (None, ""):
        return NOTHING
    return number(value) if isinstance(value, float) else str(value)


def number(value: float) -> str:
    """Return a figure with four decimals, or with five digits if four decimals say too little."""
    return f"{value:.4f}" if value == 0 or 0.001 <= abs(value) < 10 else f"{value:.5g}"


def signed(value: float) -> str:
    """Return a difference of accuracies."""
    return f"{value:+.4f}"


def facts(title: str, facts: Mapping[str, Any]) -> str:
    """Return a table of names and their values."""
    lines = "".join(
        f'<tr><th class="text">{escape(name)}</th><td class="wide">{escape(text)}</td></tr>'
        for name, text in ((name, f"{v:.6g}" if isinstance(v, float) else str(v)) for name, v in facts.items())
    )
    heading = f"<h3>{escape(title)}</h3>" if title else ""
    return f'{heading}<div class="scroll"><table>{lines}</table></div>'
