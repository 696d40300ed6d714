"""A step length along a direction that satisfies the strong Wolfe conditions.

The search asks for values instead of computing them. Searches of several problems can so be answered together.
"""

from collections.abc import Generator
from math import isfinite, sqrt
from typing import NamedTuple

DECREASE = 1e-4
"""c₁: least decrease, as a share of what the slope at the start promises."""
FLATNESS = 0.9
"""c₂: largest slope at the end, as a share of the slope at the start."""
MOST_TRIES = 25
NARROWEST = 1e-9
"""Movement of the variable that moves most below which a bracket is not divided any more."""


class Place(NamedTuple):
    """A place on the line.

    Attributes:
        step: Distance from the start, in lengths of the direction.
        value: Of the objective.
        slope: Of the objective along the direction.
    """

    step: float
    value: float
    slope: float

    def too_high_after(self, start: "Place") -> bool:
        """Return whether the value is too little below the one at the start."""
        return self.value > start.value + DECREASE * self.step * start.slope

    def is_flat_after(self, start: "Place") -> bool:
        """Return whether little is left of the slope at the start."""
        return abs(self.slope) <= -FLATNESS * start.slope


Search = Generator[float, tuple[float, float], None]
"""Yields steps to try, and is sent the value and the slope there. The last step is the one to take."""


def strong_wolfe(start: Place, step: float, reach: float) -> Search:
    """Search for a step that decreases the value enough and leaves little slope.

    Args:
        start: Of the line, with its negative slope.
        step: To try first.
        reach: Largest entry of the direction, in magnitude.

    Source:
        Nocedal and Wright 2006, *Numerical Optimization*, Algorithms 3.5 and 3.6, with cubic interpolation; it tries
        the steps that `torch.optim.LBFGS` tries.
    """
    last, place = start, Place(step, *(yield step))
    tries = 0
    while not (place.too_high_after(start) or (tries > 1 and place.value >= last.value)):
        if place.is_flat_after(start):
            return
        if place.slope >= 0:
            break
        if tries == MOST_TRIES:
            last = start
            break
        step = _lowest(last, place, place.step + 0.01 * (place.step - last.step), 10 * place.step)
        last, place = place, Place(step, *(yield step))
        tries += 1
    yield from _zoom(start, [last, place], tries, reach)


def _zoom(start: Place, bracket: list[Place], tries: int, reach: float) -> Search:
    """Search between two places; the second one was tried last."""
    low = 0 if bracket[0].value <= bracket[1].value else 1
    tried, stalled = bracket[1].step, False
    while tries < MOST_TRIES and abs(bracket[1].step - bracket[0].step) * reach >= NARROWEST:
        left, right = sorted(place.step for place in bracket)
        tried, margin = _lowest(bracket[0], bracket[1], left, right), 0.1 * (right - left)
        at_edge = min(right - tried, tried - left) < margin
        if at_edge and (stalled or not left < tried < right):
            tried = right - margin if right - tried < tried - left else left + margin
            at_edge = False
        stalled = at_edge
        place = Place(tried, *(yield tried))
        tries += 1
        if place.too_high_after(start) or place.value >= bracket[low].value:
            bracket[1 - low] = place
            low = 0 if bracket[0].value <= bracket[1].value else 1
            continue
        if place.is_flat_after(start):
            return
        if place.slope * (bracket[1 - low].step - bracket[low].step) >= 0:
            bracket[1 - low] = bracket[low]
        bracket[low] = place
    if bracket[low].step != tried:
        yield bracket[low].step


def _lowest(one: Place, other: Place, least: float, most: float) -> float:
    """Return the step from `least` to `most` where the cubic through two places is lowest, or the middle."""
    if one.step > other.step:
        one, other = other, one
    width = other.step - one.step
    mean = one.slope + other.slope - 3 * (other.value - one.value) / width
    square = mean * mean - one.slope * other.slope
    if square >= 0 and (divisor := other.slope - one.slope + 2 * sqrt(square)) != 0:
        step = other.step - width * (other.slope + sqrt(square) - mean) / divisor
        if isfinite(step):
            return min(max(step, least), most)
    return (least + most) / 2
