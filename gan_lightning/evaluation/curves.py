"""Charts by matplotlib: curves over a time, and a table in shades.

matplotlib is loaded when a chart is drawn. A chart is an object of its own, without the global state of `pyplot`: it
opens no window, and nothing has to close it. `picture_of` makes a picture of it, `chart.savefig("chart.svg")` writes
vectors.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gan_lightning.errors import SettingError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Chart

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's colours. People with any kind of colour blindness can tell them apart."""

APART = 60
"""Most marked points of a curve; more would touch."""

CHARACTER, LINE = 9, 20
"""Width of a wide character and height of a line of text, pixels: hundredths of an inch."""

MOST = 2**16 - 1
"""Pixels of the widest picture that matplotlib can draw, as of a table with a thousand classes."""

INK, GRID = "#3c3c3c", "#e1e1e1"

Picture = Float[Tensor, "3 picture_height picture_width"]
Number = int | float
Curves = Mapping[str, Mapping[int, Number]]
"""Values by epoch, under each curve's name."""


def new_chart(width: Number, height: Number) -> "Chart":
    """Return an empty chart.

    Args:
        width: Of the picture, pixels; less if matplotlib can draw no such picture.
        height: Of the picture, pixels.
    """
    from matplotlib.figure import Figure

    resolution = min(100.0, 100 * MOST / max(width, height))
    return Figure(figsize=(width / 100, height / 100), dpi=resolution, layout="constrained")


def picture_of(chart: "Chart") -> Picture:
    """Return a chart's pixels in [0, 1]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(chart)
    canvas.draw()
    return torch.from_numpy(np.asarray(canvas.buffer_rgba())[..., :3].copy()).permute(2, 0, 1) / 255


def curves_chart(panels: Mapping[str, Curves], x_title: str = "epoch", *, logarithmic: bool = False) -> "Chart":
    """Return panels below each other, on one time axis; each has a scale of its own and its title above it.

    Args:
        panels: Curves under the title of their panel.
        x_title: Name of the time axis.
        logarithmic: Whether all axes are.

    Raises:
        SettingError: If no curve has a point.
    """
    if not any(curve for curves in panels.values() for curve in curves.values()):
        raise SettingError("panels must hold a curve with a point, got none; measure at an epoch or more.")
    heights = [max(240, 60 + LINE * len(curves)) for curves in panels.values()]
    names = max(len(name) for curves in panels.values() for name in curves)
    chart = new_chart(700 + CHARACTER * names, sum(heights) + 40)
    rows = chart.subplots(len(panels), sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (title, curves) in zip(rows, panels.items(), strict=True):
        draw_curves(axes, title, curves, logarithmic=logarithmic)
    rows[-1].set_xlabel(x_title)
    return chart


def draw_curves(
    axes: "Axes", title: str, curves: Curves, colours: Sequence[str] = COLOURS, *, logarithmic: bool = False
) -> None:
    """Draw curves into a panel, and their names with the last values beside it."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    if logarithmic:
        axes.set(xscale="log", yscale="log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter("")
    else:
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=(1, 2, 5, 10), min_n_ticks=1))
    for number, (name, curve) in enumerate(curves.items()):
        at = sorted(curve)
        colour, marker = colours[number % len(colours)], "o" if len(at) <= APART else ""
        axes.plot(at, [curve[x] for x in at], color=colour, marker=marker, markersize=4, label=name)
        last = f" {curve[at[-1]]:.4g}" if at else ""
        beside = 8, -0.72 * LINE * number  # points
        axes.annotate(
            name + last, (1, 1), beside, "axes fraction", "offset points", color=colour, va="top", parse_math=False
        )
    axes.set_title(title, loc="left", size="medium", parse_math=False)
    axes.grid(axis="y", color=GRID)
    axes.spines[["top", "right"]].set_visible(False)


def shares_chart(counts: Sequence[Sequence[int]], rows: Sequence[str], columns: Sequence[str], title: str) -> "Chart":
    """Return a table of counts, each cell as dark as its share of its row.

    Args:
        counts: A row of the table each.
        rows: Their names.
        columns: Names of the columns.
        title: Above the table.
    """
    from matplotlib.colors import LinearSegmentedColormap

    cell = max(46, 12 + CHARACTER * max(map(len, columns)))
    width = CHARACTER * max(map(len, rows)) + cell * len(columns)
    chart = new_chart(20 + max(width, CHARACTER * len(title)), 28 * len(rows) + 60)
    axes = chart.subplots()
    shares = np.asarray(counts) / np.maximum(np.sum(counts, axis=1, keepdims=True), 1)
    shades = LinearSegmentedColormap.from_list("shares", ["white", COLOURS[0]])
    axes.pcolormesh(shares, cmap=shades, vmin=0, vmax=1, edgecolor=GRID)
    for (row, column), share in np.ndenumerate(shares):
        ink = "white" if share > 0.55 else INK
        axes.text(column + 0.5, row + 0.5, f"{counts[row][column]}", color=ink, ha="center", va="center")
    axes.set_xticks(np.arange(len(columns)) + 0.5, columns, parse_math=False)
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows, parse_math=False)
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    axes.invert_yaxis()
    chart.suptitle(title, x=0.01, ha="left", size="medium", parse_math=False)
    return chart


def likeness_chart(matrix: Sequence[Sequence[Number]], names: Sequence[str], title: str) -> "Chart":
    """Return a square of shades from 0 to 1, one for each pair of things; NaN is left empty.

    Args:
        matrix: A row for each thing, in the order of the names. Values below 0 are as light as 0.
        names: Of the things.
        title: Above the square.
    """
    cell = 46
    beside = CHARACTER * max(map(len, names))
    chart = new_chart(max(beside + cell * len(names) + 90, CHARACTER * len(title)), beside + cell * len(names) + 60)
    axes = chart.subplots()
    values = np.ma.masked_invalid(np.asarray(matrix, dtype=float))
    shades = axes.pcolormesh(values, cmap="cividis", vmin=0, vmax=1, edgecolor=GRID)
    for (row, column), value in np.ndenumerate(values.filled(np.nan)):
        if np.isfinite(value):
            ink = "white" if value < 0.65 else INK
            axes.text(column + 0.5, row + 0.5, f"{value:.2f}", color=ink, ha="center", va="center", size="small")
    axes.set_xticks(np.arange(len(names)) + 0.5, names, rotation=90, parse_math=False)
    axes.set_yticks(np.arange(len(names)) + 0.5, names, parse_math=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_aspect("equal")
    chart.colorbar(shades, ax=axes, shrink=0.6)
    chart.suptitle(title, x=0.01, ha="left", size="medium", parse_math=False)
    return chart
