"""Means over seeds and how sure they are."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

CONFIDENCE = 0.95
_EQUAL = 1e-12
"""Values that are closer than this, as a share of the largest one, differ by rounding alone."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        mean: Of the values, in their unit.
        low: Lower end of the 95% interval; None where there is one value, or all are equal, which says nothing about
            the spread.
        high: Its upper end.
        n: Number of values.
    """

    mean: float
    low: float | None
    high: float | None
    n: int

    @property
    def half_width(self) -> float | None:
        """How far the interval reaches to either side."""
        return None if self.high is None else self.high - self.mean


def estimate(values: Sequence[float]) -> Estimate:
    """Return the mean and Student's t interval: mean ± t(n-1) · s / √n."""
    n = len(values)
    mean = math.fsum(value / n for value in values)
    if n < 2 or max(values) - min(values) <= _EQUAL * max(map(abs, values)):
        return Estimate(mean, None, None, n)
    deviation = math.hypot(*(value - mean for value in values)) / math.sqrt(n - 1)
    half = _quantile(n - 1) * deviation / math.sqrt(n)
    if not math.isfinite(mean + half) or not math.isfinite(mean - half):
        return Estimate(mean, None, None, n)  # beyond the largest number
    return Estimate(mean, mean - half, mean + half, n)


@cache
def _quantile(freedom: int) -> float:
    """Return how many standard errors Student's interval reaches to either side."""
    from scipy.stats import t

    return float(t.ppf((1 + CONFIDENCE) / 2, freedom))


def paired_difference(first: Mapping[int | None, float], second: Mapping[int | None, float]) -> Estimate | None:
    """Return the estimate of first - second over the seeds that both have; None where they share no seed."""
    seeds = [seed for seed in first if seed in second]
    return estimate([first[seed] - second[seed] for seed in seeds]) if seeds else None
