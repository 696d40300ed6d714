"""Tables for the terminal, of any figures."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from rich.table import Table

from gan_lightning.figures import CHANCE, PIXELS, Figure
from gan_lightning.interfaces import PublishedFigure


def figures_table(title: str, figures: Sequence[Figure]) -> Table:
    """Return a table with a column per metric, and a row per subject, protocol, kind of weights and condition.

    The points of curves are left out.

    Args:
        title: Heading.
        figures: Of one measurement.
    """
    alone = [figure for figure in figures if not figure.is_point]
    columns = list(dict.fromkeys(figure.metric for figure in alone))
    keys = ("subject", "protocol", "weights", "condition")
    shown = [key for key in keys if len({getattr(figure, key) for figure in alone}) > 1]
    table = Table(title=title.replace("_", " "))
    for key in shown:
        table.add_column(key.capitalize(), no_wrap=True)
    for column in columns:
        table.add_column(column.replace("_", " "), justify="right")
    rows: dict[tuple[str, ...], dict[str, float]] = {}
    for figure in alone:
        rows.setdefault(tuple(getattr(figure, key) for key in keys), {})[figure.metric] = figure.value
    for row, values in rows.items():
        cells = [cell or "-" for key, cell in zip(keys, row, strict=True) if key in shown]
        table.add_row(*cells, *(f"{values[column]:.4g}" if column in values else "-" for column in columns))
    return table


def runs_table(title: str, runs: Mapping[str, Sequence[Figure]]) -> Table:
    """Return a table with a row per run and figure of its trained networks; their controls stand beside them.

    The points of curves are left out.

    Args:
        title: Heading.
        runs: The newest figures of each run, under the run's name.
    """
    table = Table(title=title)
    for column in ("Run", "Figure"):
        table.add_column(column, overflow="fold")
    for column in ("Value", "Random", "Pixels", "Chance"):
        table.add_column(column, justify="right")
    for run, figures in runs.items():
        values = {each.name: each.value for each in figures if not each.is_point}
        own = [each for each in figures if each.weights == "trained" and not each.is_point]
        for number, each in enumerate(own):
            pixels = replace(each, subject=PIXELS, weights="none")
            alone = replace(pixels, condition="")
            chance = replace(alone, subject=CHANCE, protocol="")
            beside = [[replace(each, weights="random")], [pixels, alone], [chance]] if each.subject else [[], [], []]
            found = [next((values[one.name] for one in kind if one.name in values), None) for kind in beside]
            table.add_row(
                "" if number else run,
                each.name,
                f"{each.value:.4g}",
                *("-" if v is None else f"{v:.4g}" for v in found),
            )
    return table


def weights_table(
    title: str, cells: Iterable[tuple[str, str, Figure]], published: Mapping[str, PublishedFigure]
) -> Table:
    """Return a table with a row per kind of weights, as the papers' tables of what is trained on frozen layers.

    Args:
        title: Heading.
        cells: Row, column and figure of each cell.
        published: Printed figures, by the names of ours; they have rows of their own.
    """
    rows: dict[str, dict[str, str]] = {}
    columns: dict[str, None] = {}
    for row, column, figure in cells:
        columns[column] = None
        rows.setdefault(row, {})[column] = f"{figure.value:.4f}"
        if figure.name in published:
            rows.setdefault(f"{row}, paper", {})[column] = f"{published[figure.name].value:.4f}"
    table = Table(title=title)
    table.add_column("Weights", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    for row, values in rows.items():
        table.add_row(row, *(values.get(column, "-") for column in columns))
    return table
