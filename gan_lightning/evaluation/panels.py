"""Panels with axes of their own, the parts of pictures of results."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

Colour = tuple[int, ...]

SCALE = 3
"""Pictures are drawn larger by this factor, for smooth edges."""

AXIS_COLOUR = (150, 150, 150)


class Panel:
    """A framed part of a picture with axes of its own; lengths are in pixels of the finished picture.

    Args:
        draw: Of the picture, enlarged by `SCALE`.
        corner: Left and upper edge, pixels.
        size: Width and height, pixels.
        low: Lowest values of the axes.
        high: Highest values of the axes.
    """

    def __init__(
        self,
        draw: "ImageDraw",
        corner: tuple[int | float, int | float],
        size: tuple[int | float, int | float],
        low: Tensor,
        high: Tensor,
    ) -> None:
        from PIL import ImageFont

        self.draw, self.font, self.low, self.high = draw, ImageFont.load_default(size=13 * SCALE), low, high
        self.small = ImageFont.load_default(size=11 * SCALE)
        (left, top), (width, height) = corner, size
        self.origin = torch.tensor([left, top + height], dtype=torch.float64)
        self.size, self.top = torch.tensor([width, -height], dtype=torch.float64), top
        frame = [left, top, left + width, top + height]
        draw.rectangle([SCALE * edge for edge in frame], outline=AXIS_COLOUR, width=SCALE)
        for end, x, y, at_right in ((low, left, top + height, False), (high, left + width, top, True)):
            draw.text((SCALE * x, SCALE * (top + height + 4)), f"{end[0]:.4g}", AXIS_COLOUR, self.small,
                      anchor="ra" if at_right else "la")  # fmt: skip
            draw.text((SCALE * (left - 4), SCALE * y), f"{end[1]:.3g}", AXIS_COLOUR, self.small,
                      anchor="rt" if at_right else "rb")  # fmt: skip

    def line(self, points: Tensor, colour: Colour) -> None:
        """Draw a line through points in the panel's coordinates."""
        self.draw.line([tuple(p) for p in self._pixels(points).tolist()], fill=colour, width=2 * SCALE, joint="curve")

    def text(self, point: Tensor, text: str, colour: Colour) -> None:
        """Write above a point."""
        x, y = self._pixels(point[None])[0].tolist()
        self.draw.text((x, y - 4 * SCALE), text, colour, self.font, anchor="mb")

    def title(self, text: str) -> None:
        """Write above the panel."""
        at = (SCALE * self.origin[0].item(), SCALE * (self.top - 8))
        self.draw.text(at, text, (0, 0, 0), self.font, anchor="lb")

    def _pixels(self, points: Tensor) -> Tensor:
        share = (points - self.low) / (self.high - self.low)
        return SCALE * (self.origin + self.size * share)
