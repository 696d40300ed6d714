"""A table for the terminal, of any figures."""

from collections.abc import Sequence

from rich.table import Table

from gan_lightning.figures import Figure


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
