"""The page's section of all other figures: charts of each metric, its curves, tables and CSV files."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from gan_lightning.dashboard.charts import COLOURS, Chart, against_x, colours_of, curve_chart
from gan_lightning.dashboard.comparison import Comparison, Row
from gan_lightning.dashboard.markup import boxes, csv_button, details, file_name, section, setting_columns, table
from gan_lightning.dashboard.rows import ALL_SEEDS, TRANSFER, Tables

_PARTS = ("condition", "protocol", "subject")
"""If a metric has too many figures for one chart, these parts may spread them over several."""

_REMARK = (
    "All else that was measured, under the names that figures.json, the loggers and a sweep's metric know it by. "
    "Charts are drawn when they come into sight. Tables are over all seeds; the files have each seed, too."
)


@dataclass(frozen=True)
class FigurePanel:
    """Figures that share a chart.

    Attributes:
        title: Their common part.
        where: The same, by the columns of their rows.
        rows: Of all seeds together and of each.
    """

    title: str
    where: Mapping[str, Any]
    rows: Sequence[Row]


def every_figure(comparison: Comparison, tables: Tables, charts: list[Chart], files: dict[str, Sequence[Row]]) -> str:
    """Return the section, and add its charts and their tables.

    Args:
        comparison: The compared runs.
        tables: Its figures.
        charts: Of the page.
        files: Tables of the page, by their files' names.
    """
    ids = (f"figure-{i}" for i in count())
    parts = []
    for measurement, rows in sorted(tables.others.items(), key=lambda item: item[0] == TRANSFER):
        file = file_name(measurement, files)
        files[file] = rows
        alone = [row for row in rows if not row["axis"]]
        own = [chart for panel in panels(alone) for chart in _against_x(comparison, panel, file, ids)]
        curves = [chart for panel in panels(rows) for chart in _curves(comparison, panel, file, ids)]
        charts += own + curves
        content = boxes(own, "small") if own else ""
        content += f"<h3>Curves</h3>{boxes(curves, 'small')}" if curves else ""
        content += details("As a table", _table(comparison, rows)) + csv_button(file)
        parts.append(details(_summary(comparison, measurement, rows), content, ' class="measurement"'))
    return section("Every figure", _REMARK, *parts) if parts else ""


def _summary(comparison: Comparison, measurement: str, rows: Sequence[Row]) -> str:
    names = {row["figure"] for row in rows}
    having = [run for run in comparison.runs if any(each.measurement == measurement for each in run.final)]
    all_runs = _counted(len(comparison.runs), "run")
    of_runs = all_runs if len(having) == len(comparison.runs) else f"{len(having)} of {all_runs}"
    what = measurement if measurement != TRANSFER else f"{TRANSFER}, further figures"
    return f"{what}: {_counted(len(names), 'figure')} of {of_runs}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def panels(rows: Sequence[Row]) -> Iterator[FigurePanel]:
    """Yield a panel for each metric and axis, or several if one would have more figures than colours."""
    for metric, axis in dict.fromkeys((row["metric"], row["axis"]) for row in rows):
        own = [row for row in rows if (row["metric"], row["axis"]) == (metric, axis)]
        where = {"metric": metric, "axis": axis}
        series = _series(own)
        if len(series) <= len(COLOURS):
            yield FigurePanel(metric, where, own)
            continue
        for part in _PARTS:
            groups = _groups(own, part)
            if all(1 < len(_series(group)) <= len(COLOURS) for group in groups.values()):
                for value, group in groups.items():
                    yield FigurePanel(": ".join(filter(None, [metric, value])), {**where, part: value}, group)
                break
        else:
            parts = -(-len(series) // len(COLOURS))
            size = -(-len(series) // parts)
            for i in range(parts):
                chosen = series[i * size : (i + 1) * size]
                group = [row for row in own if row["series"] in chosen]
                yield FigurePanel(f"{metric} ({i + 1} of {parts})", {**where, "series": chosen}, group)


def _series(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(row["series"] for row in rows))


def _groups(rows: Iterable[Row], part: str) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[part], []).append(row)
    return groups


def _against_x(comparison: Comparison, panel: FigurePanel, file: str, ids: Iterator[str]) -> Iterable[Chart]:
    variants: Sequence[str | None] = [None] if comparison.scattered else comparison.variants
    colours = colours_of("series", _series(panel.rows))
    for variant in variants:
        if rows := [row for row in panel.rows if variant in (None, row["variant"])]:
            where = panel.where if variant is None else {**panel.where, "variant": variant}
            yield against_x(
                comparison, rows, colours, panel.where["metric"],
                id=next(ids), title=", ".join(filter(None, [panel.title, variant])), table=file, where=where, late=True,
            )  # fmt: skip


def _curves(comparison: Comparison, panel: FigurePanel, file: str, ids: Iterator[str]) -> Iterable[Chart]:
    """Yield a chart per setting, all on one scale."""
    if not (axis := panel.where["axis"]):
        return
    colours = colours_of("series", _series(panel.rows))
    for x, variant in dict.fromkeys((row["x"], row["variant"]) for row in panel.rows):
        rows = [row for row in panel.rows if (row["x"], row["variant"]) == (x, variant)]
        yield curve_chart(
            rows, panel.rows, colours, panel.where["metric"], ("at", axis),
            id=next(ids), title=", ".join(filter(None, [panel.title, f"{comparison.x} = {x}", variant])),
            table=file, where={**panel.where, "x": x, "variant": variant}, late=True,
        )  # fmt: skip


def _table(comparison: Comparison, rows: Sequence[Row]) -> str:
    """Return a table of all figures over all seeds; the rows of single seeds are in the CSV file."""
    columns = {**setting_columns(comparison), "figure": "Figure"}
    columns |= {"axis": "Axis", "at": "At"} if any(row["axis"] for row in rows) else {}
    columns |= {"mean": "Mean", "interval": "95% interval", "n": "n"}
    columns |= {"paper": "Paper"} if any(row["paper"] is not None for row in rows) else {}
    return table(columns, [row for row in rows if row["seed"] == ALL_SEEDS], of_seeds=False)
