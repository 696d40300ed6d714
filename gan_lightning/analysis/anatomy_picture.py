"""The anatomy of features on one page: shares of the variance and accuracies of probes, and both over training."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gan_lightning.analysis.anatomy import AnatomyRecord, ImagesAnatomy
from gan_lightning.analysis.panels import AXIS_COLOUR, SCALE, Colour, Panel

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

Point = tuple[float | int, float | int]
"""Across and down, pixels of the finished page."""

WIDTH, NAMES = 300, 150
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


def anatomy_picture(
    records: Sequence[AnatomyRecord], history: Sequence[AnatomyRecord] = ()
) -> Float[Tensor, "3 height width"]:
    """Return a page with a row per extractor, in [0, 1].

    First a bar per kind of images and of weights, the variance between images in pieces: in the row space, blue, and in
    the null space, orange; the dark parts lie between classes. A tick stands where the row space of a random head of
    this rank would end. Then the accuracies of probes, with a tick at that of the most frequent class. Then, of two or
    more epochs, the row space's share and the accuracies over training.

    Args:
        records: Of each extractor with trained weights, and, if they were measured, with random ones.
        history: Of the trained extractors after epochs.
    """
    from PIL import Image, ImageDraw

    names = list(dict.fromkeys(record.extractor for record in records))
    own = {name: [record for record in records if record.extractor == name] for name in names}
    curves = {name: [record for record in history if record.extractor == name] for name in names}
    probed = any(found.accuracy for record in records for _, found in _bars(record))
    over_training = any(len(of_epochs) > 1 for of_epochs in curves.values())
    panels = 1 + len({name for record in history for name, found in _bars(record) if found.accuracy})
    columns = [(1 + probed) * (NAMES + WIDTH + GAP), over_training * panels * (WIDTH + GAP), LEGEND_WIDTH]
    width = MARGIN + max(columns)
    height = 3 * LINE + sum(HEAD + LINE * _lines(own[name]) for name in names)
    height += over_training * len(names) * (2 * HEAD + CURVES)
    page = Image.new("RGB", (SCALE * width, SCALE * height), "white")
    draw = ImageDraw.Draw(page)
    top = 0
    for name in names:
        _variance_bars(draw, (MARGIN, top), own[name])
        if probed:
            _accuracy_bars(draw, (MARGIN + NAMES + WIDTH + GAP, top), own[name])
        top += HEAD + LINE * _lines(own[name])
        if len(curves[name]) > 1:
            _curves(draw, (2 * MARGIN, top), curves[name])
        top += over_training * (2 * HEAD + CURVES)
    _legend(draw, (MARGIN, top + LINE), probed)
    resized = page.resize((width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(resized).copy()).permute(2, 0, 1) / 255


def _bars(record: AnatomyRecord) -> list[tuple[str, ImagesAnatomy]]:
    """Return what a record has a bar for, and its name."""
    weights = "" if record.weights == "trained" else ", random"
    kinds = ("real", record.real), ("generated", record.generated)
    return [(kind + weights, found) for kind, found in kinds if found is not None]


def _lines(records: Sequence[AnatomyRecord]) -> int:
    """Return the number of lines that an extractor's bars take."""
    bars = [found for record in records for _, found in _bars(record)]
    return max(len(bars), 3 * sum(found.accuracy is not None for found in bars))


def _variance_bars(draw: "ImageDraw", corner: Point, records: Sequence[AnatomyRecord]) -> None:
    left, top = corner
    first = records[0]
    chance = first.rank / first.features
    _text(draw, (left, top + HEAD - 26), f"{first.extractor}: variance between images; a head of rank {first.rank} for "
          f"{first.features} features", size=13)  # fmt: skip
    left, top = left + NAMES, top + HEAD
    for record in records:
        for name, found in _bars(record):
            _text(draw, (left - 8, top + 3), name, anchor="ra")
            if (shares := found.shares) is None:
                _text(draw, (left, top + 3), "no variance")
            else:
                row, null = shares.row, shares.null
                within = [part.total if part.within is None else part.within for part in (row, null)]
                pieces = row.between or 0.0, within[0], null.between or 0.0, within[1]
                end = 0.0
                for piece, colour in zip(pieces, VARIANCE_COLOURS.values(), strict=True):
                    _box(draw, (left + WIDTH * end, top), (WIDTH * piece, LINE - 5), colour)
                    end += piece
                _text(draw, (left + WIDTH + 6, top + 3), f"{row.total:.3f}")
            _box(draw, (left + WIDTH * chance - 0.5, top - 3), (1.5, LINE + 1), TEXT_COLOUR)
            top += LINE


def _accuracy_bars(draw: "ImageDraw", corner: Point, records: Sequence[AnatomyRecord]) -> None:
    left, top = corner
    _text(draw, (left, top + HEAD - 26), f"{records[0].extractor}: accuracy of a linear probe", size=13)
    left, top = left + NAMES, top + HEAD
    for record in records:
        for name, found in _bars(record):
            if (accuracy := found.accuracy) is None:
                continue
            for part, colour in PART_COLOURS.items():
                value = getattr(accuracy, part)
                _text(draw, (left - 8, top + 3), f"{name}, {PART_NAMES[part]}", anchor="ra")
                _box(draw, (left, top), (WIDTH * value, LINE - 5), colour)
                _text(draw, (left + WIDTH + 6, top + 3), f"{value:.3f}")
                if accuracy.chance is not None:
                    _box(draw, (left + WIDTH * accuracy.chance - 0.5, top - 3), (1.5, LINE + 1), TEXT_COLOUR)
                top += LINE


def _curves(draw: "ImageDraw", corner: Point, records: Sequence[AnatomyRecord]) -> None:
    """Draw the row space's share over epochs, and beside it the accuracies, where any were measured."""
    left, top = corner
    epochs = [record.epoch or 0 for record in records]

    def panel(title: str, highest: float) -> Panel:
        ends = [epochs[0], 0.0], [epochs[-1], highest]
        made = Panel(
            draw, (left, top + HEAD), (WIDTH, CURVES), *(torch.tensor(end, dtype=torch.float64) for end in ends)
        )
        made.title(title)
        return made

    def line(on: Panel, values: Sequence[float | None], colour: Colour) -> None:
        points = [(epoch, value) for epoch, value in zip(epochs, values, strict=True) if value is not None]
        if len(points) > 1:
            on.line(torch.tensor(points, dtype=torch.float64), colour)

    chance = records[0].rank / records[0].features
    kinds: dict[str, list[ImagesAnatomy | None]] = {
        "real": [record.real for record in records],
        "generated": [record.generated for record in records],
    }
    shares = {
        kind: [None if each is None or each.shares is None else each.shares.row.total for each in of_kind]
        for kind, of_kind in kinds.items()
    }
    highest = max([chance, *(value for values in shares.values() for value in values if value is not None)])
    of_shares = panel("row space's share, real dark, by epoch", 1.1 * highest or 1.0)
    line(of_shares, [chance] * len(epochs), AXIS_COLOUR)
    line(of_shares, shares["generated"], VARIANCE_COLOURS["f_row, within"])
    line(of_shares, shares["real"], VARIANCE_COLOURS["f_row, between classes"])
    for kind, of_kind in kinds.items():
        accuracies = [None if each is None else each.accuracy for each in of_kind]
        if not any(accuracies):
            continue
        left += WIDTH + GAP
        of_accuracies = panel(f"accuracy, {kind} images, by epoch", 1.0)
        for part, colour in PART_COLOURS.items():
            line(of_accuracies, [None if each is None else getattr(each, part) for each in accuracies], colour)


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
