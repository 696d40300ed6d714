"""The anatomy of features on one page: shares of the variance and accuracies of probes, and both over training."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from gan_lightning.evaluation.curves import INK, LINE, draw_curves, new_chart
from gan_lightning.figures import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Chart

Values = Mapping[str, float]
"""Values of figures under the names of their metrics."""

VARIANCE_COLOURS = {
    "f_row, between classes": "#143c8c",
    "f_row, within": "#82a5dc",
    "f_null, between classes": "#c86e0a",
    "f_null, within": "#fad7a5",
}
"""Colour of each piece of the variance; without classes all of it is within one."""

PARTS = {"whole": ("f", "#6e6e6e"), "row": ("f_row", "#143c8c"), "null": ("f_null", "#e68c14")}
"""Name and colour of the features, and of their two parts."""

RANDOM_HEAD, FREQUENT = "rank / features, as of a random head", "most frequent class"
"""What the lines across bars and curves are."""

NARROWEST, COLUMN, CURVES = 840, 600, 240
"""Width of the narrowest page, and of a panel with its names; height of curves; pixels."""


def anatomy_chart(figures: Sequence[Figure], history: Sequence[Figure] = ()) -> "Chart":
    """Return a chart with two rows of panels per extractor, the second if there are two or more epochs.

    First comes a bar per kind of images and of weights. It shows the variance between images in pieces: in the row
    space, blue, and in the null space, orange. The dark pieces are the variance between classes beyond chance. The
    number is the row space's share. A line marks rank / features, the share of a random head of this rank. Then come
    the accuracies of probes; a dotted line marks the share of the most frequent class. The second row has the row
    space's share and the accuracies over training.

    Args:
        figures: Of extractors, as `measurements.anatomy` names them.
        history: The same figures after epochs of training; figures of random weights are not drawn.
    """
    chances = {figure.subject: figure.value for figure in figures if figure.metric == "rank_share"}
    bars = {name: _bars(figure for figure in figures if figure.subject == name) for name in chances}
    curves = {name: _over_training(figure for figure in history if figure.subject == name) for name in chances}
    curves = {name: of_epochs for name, of_epochs in curves.items() if len(of_epochs) > 1}
    probed = any(_probed_kinds([of_one]) for of_one in bars.values())
    columns = max([1 + probed, *(1 + len(_probed_kinds(of_epochs.values())) for of_epochs in curves.values())])
    heights = []
    for name, of_one in bars.items():
        heights += [50 + LINE * max(len(of_one), 3 * len(_probed_kinds([of_one])))] + [CURVES] * (name in curves)
    chart = new_chart(max(COLUMN * columns, NARROWEST), sum(heights) + 3 * LINE)
    grid = chart.add_gridspec(len(heights), columns, height_ratios=heights)
    row = 0
    for name, chance in chances.items():
        _variance_bars(chart.add_subplot(grid[row, 0]), name, bars[name], chance)
        if _probed_kinds([bars[name]]):
            _accuracy_bars(chart.add_subplot(grid[row, 1]), name, bars[name])
        row += 1
        if name in curves:
            _share_curves(chart.add_subplot(grid[row, 0]), curves[name], chance)
            for column, kind in enumerate(_probed_kinds(curves[name].values()), start=1):
                _accuracy_curves(chart.add_subplot(grid[row, column]), kind, curves[name])
            row += 1
    legends = [axes.get_legend_handles_labels() for axes in chart.axes]
    drawn = {label: handle for handles, labels in legends for handle, label in zip(handles, labels, strict=True)}
    shown = [label for label in (*VARIANCE_COLOURS, RANDOM_HEAD, FREQUENT) if label in drawn]
    chart.legend([drawn[label] for label in shown], shown, loc="outside lower left", ncols=3, frameon=False)
    return chart


def _bars(figures: Iterable[Figure]) -> dict[str, dict[str, float]]:
    """Return the values for each kind of images and of weights, under the name of its bar."""
    bars: dict[str, dict[str, float]] = {}
    for figure in figures:
        if figure.condition:
            name = figure.condition.replace("_", " ") + (", random" if figure.weights == "random" else "")
            bars.setdefault(name, {})[figure.metric] = figure.value
    return bars


def _over_training(figures: Iterable[Figure]) -> dict[int, dict[str, dict[str, float]]]:
    """Return the bars of each epoch, in order."""
    by_epoch: dict[int, list[Figure]] = {}
    for figure in figures:
        if figure.epoch is not None and figure.weights == "trained":
            by_epoch.setdefault(figure.epoch, []).append(figure)
    return {epoch: _bars(by_epoch[epoch]) for epoch in sorted(by_epoch)}


def _probed_kinds(bars: Iterable[Mapping[str, Values]]) -> list[str]:
    """Return the kinds of images that have accuracies at some epoch."""
    return list({kind: None for of_one in bars for kind, values in of_one.items() if "accuracy_whole" in values})


def _variance_bars(axes: "Axes", extractor: str, bars: Mapping[str, Values], chance: float) -> None:
    ends = np.zeros(len(bars))
    pieces = np.array([_pieces(values) for values in bars.values()]).reshape(-1, len(VARIANCE_COLOURS))
    for widths, (piece, colour) in zip(pieces.T, VARIANCE_COLOURS.items(), strict=True):
        axes.barh(list(bars), widths, left=ends, color=colour, label=piece)
        ends += widths
    shares = [f"{values['row_share']:.3f}" if "row_share" in values else "no variance" for values in bars.values()]
    _finish_bars(axes, f"{extractor}: variance between images; rank / features = {chance:.3g}", shares)
    axes.axvline(chance, color=INK, label=RANDOM_HEAD)


def _pieces(values: Values) -> list[float]:
    """Return the shares of a bar's pieces, in the order of their colours; 0 without variance."""
    if "row_share" not in values:
        return [0.0] * len(VARIANCE_COLOURS)
    pieces = []
    for part, share in (("row", values["row_share"]), ("null", 1 - values["row_share"])):
        between = share * max(values.get(f"between_share_of_{part}", 0.0), 0.0)
        pieces += [between, share - between]
    return pieces


def _accuracy_bars(axes: "Axes", extractor: str, bars: Mapping[str, Values]) -> None:
    found = [
        (f"{kind}, {name}", values[f"accuracy_{part}"], colour)
        for kind, values in bars.items()
        for part, (name, colour) in PARTS.items()
        if f"accuracy_{part}" in values
    ]
    names, accuracies, colours = zip(*found, strict=True)
    axes.barh(names, accuracies, color=colours)
    _finish_bars(axes, f"{extractor}: accuracy of a linear probe", [f"{accuracy:.3f}" for accuracy in accuracies])
    for chance in {values["chance"] for values in bars.values() if "chance" in values}:
        axes.axvline(chance, color=INK, linestyle=":", label=FREQUENT)


def _finish_bars(axes: "Axes", title: str, numbers: Sequence[str]) -> None:
    for line, number in enumerate(numbers):
        axes.text(1.02, line, number, va="center")
    axes.set_title(title, loc="left", size="medium", parse_math=False)
    axes.set(xlim=(0, 1), xticks=[])
    axes.tick_params(length=0)
    axes.invert_yaxis()
    axes.spines[:].set_visible(False)


def _share_curves(axes: "Axes", curves: Mapping[int, Mapping[str, Values]], chance: float) -> None:
    shares = {kind: _points(curves, kind, "row_share") for kind in ("real", "generated")}
    known = {kind: points for kind, points in shares.items() if points}
    draw_curves(axes, "row space's share of the variance", known, list(VARIANCE_COLOURS.values()))
    axes.axhline(chance, color=INK)
    axes.set(xlabel="epoch", ylim=(0, None))


def _accuracy_curves(axes: "Axes", kind: str, curves: Mapping[int, Mapping[str, Values]]) -> None:
    accuracies = {name: _points(curves, kind, f"accuracy_{part}") for part, (name, _) in PARTS.items()}
    draw_curves(axes, f"accuracy, {kind} images", accuracies, [colour for _, colour in PARTS.values()])
    axes.set(xlabel="epoch", ylim=(0, 1))


def _points(curves: Mapping[int, Mapping[str, Values]], kind: str, metric: str) -> dict[int, float]:
    return {epoch: bars[kind][metric] for epoch, bars in curves.items() if metric in bars.get(kind, {})}
