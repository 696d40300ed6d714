"""Means over seeds, and their confidence intervals."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

CONFIDENCE = 0.95
_EQUAL = 1e-12
"""Values closer than this, as a share of the largest one, differ by rounding alone."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        mean: Of the values, in their unit.
        low: Lower end of the 95% interval. None if there is one value, or if all are equal: they tell no spread.
        high: Its upper end.
        n: Number of values.
    """

    mean: float
    low: float | None
    high: float | None
    n: int

    @property
    def half_width(self) -> float | None:
        """Half the length of the interval."""
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
    """Return half the length of Student's interval, in standard errors."""
    from scipy.stats import t

    return float(t.ppf((1 + CONFIDENCE) / 2, freedom))


def paired_difference(first: Mapping[int | None, float], second: Mapping[int | None, float]) -> Estimate | None:
    """Return the estimate of first - second over the common seeds; None without a common seed."""
    seeds = [seed for seed in first if seed in second]
    return estimate([first[seed] - second[seed] for seed in seeds]) if seeds else None
