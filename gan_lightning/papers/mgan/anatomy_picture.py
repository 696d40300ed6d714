"""The anatomy of features on one page: shares of the variance and accuracies of probes, and both over training."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gan_lightning.evaluation.panels import AXIS_COLOUR, SCALE, Colour, Panel
from gan_lightning.figures import Figure

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

Point = tuple[int | float, int | float]
"""Across and down, pixels of the finished page."""

Values = Mapping[str, float]
"""Values of figures under the names of their metrics."""

WIDTH, NAMES = 300, 200
"""Width of bars at 1 and of curves, and of the names beside the bars, pixels."""

CURVES, HEAD, LINE = 160, 44, 20
"""Height of curves, of a heading and of a bar, pixels."""

GAP, MARGIN, LEGEND_WIDTH = 64, 30, 760
"""Width between columns, around them and of the legend, pixels."""

VARIANCE_COLOURS = {
    "f_row, between classes": (20, 60, 140),
    "f_row, within": (130, 165, 220),
    "f_null, between classes": (200, 110, 10),
    "f_null, within": (250, 215, 165),
}
"""Colour of each piece of the variance; without classes all of it is within one."""

PART_COLOURS = {"whole": (110, 110, 110), "row": (20, 60, 140), "null": (230, 140, 20)}
PART_NAMES = {"whole": "f", "row": "f_row", "null": "f_null"}
TEXT_COLOUR: Colour = (0, 0, 0)


def anatomy_picture(figures: Sequence[Figure], history: Sequence[Figure] = ()) -> Float[Tensor, "3 height width"]:
    """Return a page with a row per extractor, in [0, 1].

    First comes a bar per kind of images and of weights. It shows the variance between images in pieces: in the row
    space, blue, and in the null space, orange. The dark pieces are the variance between classes beyond chance. A tick
    marks the end of the row space of a random head of this rank. Then come the accuracies of probes; a tick marks the
    share of the most frequent class. Last, if there are two or more epochs, come the row space's share and the
    accuracies over training.

    Args:
        figures: Of extractors, as `measurements.anatomy` names them.
        history: The same figures after epochs of training; figures of random weights are not drawn.
    """
    from PIL import Image, ImageDraw

    chances = {figure.subject: figure.value for figure in figures if figure.metric == "rank_share"}
    bars = {name: _bars(figure for figure in figures if figure.subject == name) for name in chances}
    curves = {name: _over_training(figure for figure in history if figure.subject == name) for name in chances}
    probed = any("accuracy_whole" in values for of_one in bars.values() for values in of_one.values())
    over_training = any(len(of_epochs) > 1 for of_epochs in curves.values())
    panels = 1 + max((len(_probed_kinds(of_epochs)) for of_epochs in curves.values()), default=0)
    columns = [(1 + probed) * (NAMES + WIDTH + GAP), over_training * panels * (WIDTH + GAP), LEGEND_WIDTH]
    width = MARGIN + max(columns)
    height = 3 * LINE + sum(HEAD + LINE * _lines(of_one) for of_one in bars.values())
    height += over_training * len(bars) * (2 * HEAD + CURVES)
    page = Image.new("RGB", (SCALE * width, SCALE * height), "white")
    draw = ImageDraw.Draw(page)
    top = 0
    for name, chance in chances.items():
        _variance_bars(draw, (MARGIN, top), name, bars[name], chance)
        if probed:
            _accuracy_bars(draw, (MARGIN + NAMES + WIDTH + GAP, top), name, bars[name])
        top += HEAD + LINE * _lines(bars[name])
        if len(curves[name]) > 1:
            _curves(draw, (2 * MARGIN, top), curves[name], chance)
        top += over_training * (2 * HEAD + CURVES)
    _legend(draw, (MARGIN, top + LINE), probed)
    resized = page.resize((width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(resized).copy()).permute(2, 0, 1) / 255


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


def _probed_kinds(curves: Mapping[int, Mapping[str, Values]]) -> list[str]:
    """Return the kinds of images that have accuracies at some epoch."""
    return list({kind: None for bars in curves.values() for kind, values in bars.items() if "accuracy_whole" in values})


def _lines(bars: Mapping[str, Values]) -> int:
    """Return the number of lines that an extractor's bars take."""
    return max(len(bars), 3 * sum("accuracy_whole" in values for values in bars.values()))


def _variance_bars(draw: "ImageDraw", corner: Point, extractor: str, bars: Mapping[str, Values], chance: float) -> None:
    left, top = corner
    heading = f"{extractor}: variance between images; rank / features = {chance:.3g}"
    _text(draw, (left, top + HEAD - 26), heading, size=13)
    left, top = left + NAMES, top + HEAD
    for name, values in bars.items():
        _text(draw, (left - 8, top + 3), name, anchor="ra")
        end = 0.0
        for piece, colour in zip(_pieces(values), VARIANCE_COLOURS.values(), strict=True):
            _box(draw, (left + WIDTH * end, top), (WIDTH * piece, LINE - 5), colour)
            end += piece
        _text(
            draw, (left + WIDTH + 6, top + 3), f"{values['row_share']:.3f}" if "row_share" in values else "no variance"
        )
        _box(draw, (left + WIDTH * chance - 0.5, top - 3), (1.5, LINE + 1), TEXT_COLOUR)
        top += LINE


def _pieces(values: Values) -> list[float]:
    """Return the shares of a bar's pieces, in the order of their colours; 0 without variance."""
    if "row_share" not in values:
        return [0.0] * len(VARIANCE_COLOURS)
    pieces = []
    for part, share in (("row", values["row_share"]), ("null", 1 - values["row_share"])):
        between = share * max(values.get(f"between_share_of_{part}", 0.0), 0.0)
        pieces += [between, share - between]
    return pieces


def _accuracy_bars(draw: "ImageDraw", corner: Point, extractor: str, bars: Mapping[str, Values]) -> None:
    left, top = corner
    _text(draw, (left, top + HEAD - 26), f"{extractor}: accuracy of a linear probe", size=13)
    left, top = left + NAMES, top + HEAD
    for name, values in bars.items():
        for part, colour in PART_COLOURS.items():
            if (value := values.get(f"accuracy_{part}")) is None:
                continue
            _text(draw, (left - 8, top + 3), f"{name}, {PART_NAMES[part]}", anchor="ra")
            _box(draw, (left, top), (WIDTH * value, LINE - 5), colour)
            _text(draw, (left + WIDTH + 6, top + 3), f"{value:.3f}")
            if (chance := values.get("chance")) is not None:
                _box(draw, (left + WIDTH * chance - 0.5, top - 3), (1.5, LINE + 1), TEXT_COLOUR)
            top += LINE


def _curves(draw: "ImageDraw", corner: Point, curves: Mapping[int, Mapping[str, Values]], chance: float) -> None:
    """Draw the row space's share over epochs, and beside it the accuracies, if any were measured."""
    left, top = corner
    epochs = list(curves)

    def panel(title: str, highest: float) -> Panel:
        ends = [epochs[0], 0.0], [epochs[-1], highest]
        made = Panel(
            draw, (left, top + HEAD), (WIDTH, CURVES), *(torch.tensor(end, dtype=torch.float64) for end in ends)
        )
        made.title(title)
        return made

    def points(kind: str, metric: str) -> dict[int, float]:
        return {epoch: bars[kind][metric] for epoch, bars in curves.items() if metric in bars.get(kind, {})}

    def line(on: Panel, values: Mapping[int, float], colour: Colour) -> None:
        if len(values) > 1:
            on.line(torch.tensor(list(values.items()), dtype=torch.float64), colour)

    shares = {kind: points(kind, "row_share") for kind in ("real", "generated")}
    highest = max([chance, *(value for of_kind in shares.values() for value in of_kind.values())])
    of_shares = panel("row space's share, real dark, by epoch", 1.1 * highest or 1.0)
    line(of_shares, dict.fromkeys(epochs, chance), AXIS_COLOUR)
    line(of_shares, shares["generated"], VARIANCE_COLOURS["f_row, within"])
    line(of_shares, shares["real"], VARIANCE_COLOURS["f_row, between classes"])
    for kind in _probed_kinds(curves):
        left += WIDTH + GAP
        of_accuracies = panel(f"accuracy, {kind} images, by epoch", 1.0)
        for part, colour in PART_COLOURS.items():
            line(of_accuracies, points(kind, f"accuracy_{part}"), colour)


def _legend(draw: "ImageDraw", corner: Point, probed: bool) -> None:
    left, top = corner
    entries = [*VARIANCE_COLOURS.items()]
    entries += [(PART_NAMES[part], colour) for part, colour in PART_COLOURS.items()] if probed else []
    for name, colour in entries:
        _box(draw, (left, top), (12, 12), colour)
        left += 18 + _text(draw, (left + 18, top), name) + 16
    note = (
        "Numbers beside the bars: the row space's share. Ticks, and grey lines: rank / features, what a random head's "
    )
    _text(
        draw, (corner[0], top + LINE), f"{note}would be{'; of accuracies, the most frequent class' if probed else ''}."
    )


def _box(draw: "ImageDraw", corner: Point, size: Point, colour: Colour) -> None:
    left, top = corner
    if size[0] > 0:
        draw.rectangle([SCALE * left, SCALE * top, SCALE * (left + size[0]), SCALE * (top + size[1])], fill=colour)


def _text(draw: "ImageDraw", corner: Point, text: str, *, size: int = 11, anchor: str = "la") -> int:
    """Write, and return the width, pixels."""
    from PIL import ImageFont

    font = ImageFont.load_default(size=size * SCALE)
    draw.text((SCALE * corner[0], SCALE * corner[1]), text, TEXT_COLOUR, font, anchor=anchor)
    return round(font.getlength(text) / SCALE)
