"""Pictures of figures, as tensors (3, height, width) in [0, 1], by Pillow: curves over epochs, and a table in shades.

They need nothing beside the base installation; the dashboard's charts are for comparing many runs.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gan_lightning.errors import SettingError

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

COLOURS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233))
"""Okabe and Ito's colours. People with any kind of colour blindness can tell them apart."""

SCALE = 2
"""Pictures are drawn larger by this factor and then reduced, for smooth edges."""

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 560, 200, 70, 240, 28, 40
"""Of a panel and of the space around it, pixels; the names of the curves stand on its right."""

APART = 60
"""Most marked points of a curve; more would touch."""

INK, GRID = (60, 60, 60), (225, 225, 225)

Picture = Float[Tensor, "3 picture_height picture_width"]
Number = int | float
Curves = Mapping[str, Mapping[int, Number]]
"""Values by epoch, under each curve's name."""


def curves_picture(panels: Mapping[str, Curves], x_title: str = "epoch") -> Picture:
    """Return panels below each other, on one time axis; each has a scale of its own and its title above it.

    Args:
        panels: Curves under the title of their panel.
        x_title: Name of the time axis.

    Raises:
        SettingError: If no curve has a point.
    """
    from PIL import Image, ImageDraw

    epochs = [epoch for curves in panels.values() for curve in curves.values() for epoch in curve]
    if not epochs:
        raise SettingError("panels must hold a curve with a point, got none; measure at an epoch or more.")
    size = LEFT + WIDTH + RIGHT, len(panels) * (TOP + HEIGHT) + (len(panels) - 1) * 10 + BOTTOM
    image = Image.new("RGB", (SCALE * size[0], SCALE * size[1]), "white")
    draw = _Pen(ImageDraw.Draw(image))
    first, last = min(epochs), max(epochs)
    for number, (title, curves) in enumerate(panels.items()):
        top = number * (TOP + HEIGHT + 10) + TOP
        _panel(draw, top, title, curves, (first, last))
    bottom = size[1] - BOTTOM
    for tick in _ticks(first, last, whole=True):
        draw.text(_x(tick, first, last), bottom + 5, f"{tick:g}", anchor="mt")
    draw.text(LEFT + WIDTH / 2, bottom + 21, x_title, anchor="mt")
    return _reduced(image, size)


def shares_picture(counts: Sequence[Sequence[int]], rows: Sequence[str], columns: Sequence[str], title: str) -> Picture:
    """Return a table of counts, each cell as dark as its share of its row.

    Args:
        counts: A row of the table each.
        rows: Their names.
        columns: Names of the columns.
        title: Above the table.
    """
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(13)
    left = 16 + round(max(font.getlength(name) for name in rows))
    width = max(46, 12 + round(max(font.getlength(name) for name in columns)))
    top, height = 54, 28
    edge = left + width * len(columns) + 12
    size = max(edge, round(font.getlength(title)) + 20), top + height * len(rows) + 12
    image = Image.new("RGB", (SCALE * size[0], SCALE * size[1]), "white")
    draw = _Pen(ImageDraw.Draw(image))
    draw.text(10, 8, title, anchor="lt")
    for column, name in enumerate(columns):
        draw.text(left + width * (column + 0.5), top - 6, name, anchor="mb")
    for row, (name, values) in enumerate(zip(rows, counts, strict=True)):
        y = top + height * row
        draw.text(left - 8, y + height / 2, name, anchor="rm")
        for column, value in enumerate(values):
            share = value / max(sum(values), 1)
            fill = tuple(round(255 + share * (end - 255)) for end in COLOURS[0])
            draw.box(left + width * column, y, width, height, fill)
            ink = (255, 255, 255) if share > 0.55 else INK if value else GRID
            draw.text(left + width * (column + 0.5), y + height / 2, str(value), ink, anchor="mm")
    return _reduced(image, size)


def _panel(draw: "_Pen", top: int, title: str, curves: Curves, epochs: tuple[int, int]) -> None:
    """Draw a panel's axes, curves and the curves' names with their last values."""
    values = [value for curve in curves.values() for value in curve.values()] or [0.0]
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or max(abs(high), 1.0) * 0.06
    low, high = low - margin, high + margin

    def place(epoch: int, value: Number) -> tuple[Number, Number]:
        return _x(epoch, *epochs), top + HEIGHT * (high - value) / (high - low)

    for tick in _ticks(low, high):
        y = place(epochs[0], tick)[1]
        draw.line([(LEFT, y), (LEFT + WIDTH, y)], GRID, 1)
        draw.text(LEFT - 6, y, f"{tick:g}", anchor="rm")
    draw.line([(LEFT, top), (LEFT, top + HEIGHT), (LEFT + WIDTH, top + HEIGHT)], INK, 1)
    draw.text(LEFT, top - 6, title, anchor="lb")
    for number, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = [place(epoch, curve[epoch]) for epoch in sorted(curve)]
        draw.line(points, colour, 2)
        for x, y in points if len(points) <= APART else ():
            draw.dot(x, y, colour)
        last = f" {curve[max(curve)]:.4g}" if curve else ""
        draw.text(LEFT + WIDTH + 12, top + 8 + 18 * number, name + last, colour, anchor="lm")


class _Pen:
    """Draws at pixels of the reduced picture."""

    def __init__(self, draw: "ImageDraw") -> None:
        from PIL import ImageFont

        self.draw, self.font = draw, ImageFont.load_default(13 * SCALE)

    def line(self, points: Sequence[tuple[Number, Number]], colour: tuple[int, ...], width: int) -> None:
        """Draw a line through points."""
        self.draw.line([(SCALE * x, SCALE * y) for x, y in points], colour, width * SCALE, joint="curve")

    def dot(self, x: Number, y: Number, colour: tuple[int, ...]) -> None:
        """Draw a point."""
        self.draw.ellipse([SCALE * (x - 3), SCALE * (y - 3), SCALE * (x + 3), SCALE * (y + 3)], colour)

    def box(self, x: Number, y: Number, width: Number, height: Number, colour: tuple[int, ...]) -> None:
        """Draw a filled rectangle with a frame."""
        self.draw.rectangle([SCALE * x, SCALE * y, SCALE * (x + width), SCALE * (y + height)], colour, GRID, SCALE)

    def text(self, x: Number, y: Number, text: str, colour: tuple[int, ...] = INK, anchor: str = "lt") -> None:
        """Write."""
        self.draw.text((SCALE * x, SCALE * y), text, colour, self.font, anchor=anchor)


def _x(epoch: Number, first: int, last: int) -> Number:
    """Return an epoch's place, pixels from the left; a single epoch is in the middle."""
    return LEFT + WIDTH * (0.02 + 0.96 * ((epoch - first) / (last - first) if last > first else 0.5))


def _ticks(low: Number, high: Number, *, whole: bool = False) -> list[Number]:
    """Return round numbers between two others, about five."""
    step = 10.0 ** math.floor(math.log10(max(high - low, 1e-12) / 5))
    step *= min((factor for factor in (1, 2, 5, 10) if (high - low) / (factor * step) <= 6), default=10)
    step = max(1.0, step) if whole else step
    start = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(start, math.floor(high / step + 1e-9) + 1)]


def _reduced(image: "Image", size: tuple[int, int]) -> Picture:
    from PIL import Image

    pixels = np.asarray(image.resize(size, Image.Resampling.LANCZOS))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255
