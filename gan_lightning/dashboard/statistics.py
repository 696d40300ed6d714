"""Means over seeds: their confidence intervals, their tests, and the power of these tests."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

CONFIDENCE = 0.95
POWER = 0.8
"""Power of a test that counts as enough: the usual convention."""

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

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation of the values; None without an interval."""
        return None if self.half_width is None else self.half_width * math.sqrt(self.n) / _quantile(self.n - 1)

    def p_value(self, null: float = 0.0) -> float | None:
        """Return the two-sided p of Student's t test that the mean is `null`; None without an interval."""
        from scipy.stats import t

        if self.half_width is None:
            return None
        error = self.half_width / _quantile(self.n - 1)
        return float(2 * t.sf(abs(self.mean - null) / error, self.n - 1))


def estimate(values: Sequence[float]) -> Estimate:
    """Return the mean and Student's t interval: mean ± t(n-1) · s / √n."""
    n = len(values)
    mean = math.fsum(value / n for value in values)
    if n < 2 or max(values) - min(values) <= _EQUAL * max(map(abs, values)):
        return Estimate(mean, None, None, n)
    return estimate_of(mean, math.hypot(*(value - mean for value in values)) / math.sqrt(n - 1), n)


def estimate_of(mean: float, deviation: float | None, n: int) -> Estimate:
    """Return the same of values that are known by their mean and their sample standard deviation alone.

    Args:
        mean: Of the values.
        deviation: Their sample standard deviation. Without one there is no interval, nor with 0: they tell no spread.
        n: Number of values.
    """
    if n < 2 or not deviation:
        return Estimate(mean, None, None, n)
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


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p values of several tests: below 0.05, a test stands among all of them.

    Source:
        Holm 1979, *A simple sequentially rejective multiple test procedure*.
    """
    found, least = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[i]))
        found[i] = least
    return found


def paired_power(effect: float, deviation: float, n: int) -> float:
    """Return the power of a two-sided paired t test at 5%.

    Args:
        effect: True mean of the differences.
        deviation: Standard deviation of the differences, in the same unit.
        n: Number of pairs.

    Returns:
        Probability that the test finds the effect: |t| beyond its limit under the noncentral t distribution with n - 1
        degrees of freedom and noncentrality √n · effect / deviation. 0 for one pair, which has no test.

    Source:
        Cohen 1988, *Statistical Power Analysis for the Behavioral Sciences*, chapter 2.
    """
    from scipy.stats import nct

    if n < 2:
        return 0.0
    limit, shift = _quantile(n - 1), math.sqrt(n) * abs(effect) / deviation
    # The lower tail is below the normal distribution's P(Z < -shift), 3e-7 from here on, where scipy's may be NaN.
    lower = float(nct.cdf(-limit, n - 1, shift)) if shift < 5 else 0.0
    return float(nct.sf(limit, n - 1, shift)) + lower


def detectable_effect(deviation: float, n: int, power: float = POWER) -> float:
    """Return the least effect that a two-sided paired t test at 5% finds with this power.

    Args:
        deviation: Standard deviation of the differences.
        n: Number of pairs, at least 2.
        power: Wanted probability to find the effect.
    """
    from scipy.optimize import brentq

    most = 1.0
    while paired_power(most, 1.0, n) < power:
        most *= 2
    return deviation * float(brentq(lambda effect: paired_power(effect, 1.0, n) - power, 0.0, most))


def share_interval(count: int, n: int) -> tuple[float, float]:
    """Return the exact 95% interval of a share of which `count` in `n` were seen.

    Source:
        Clopper and Pearson 1934, *The use of confidence or fiducial limits illustrated in the case of the binomial*.
    """
    from scipy.stats import binomtest

    found = binomtest(count, n).proportion_ci(CONFIDENCE, method="exact")
    return float(found.low), float(found.high)


def sign_test(count: int, n: int) -> float:
    """Return the two-sided p of `count` in `n` comparisons to one side, if both sides are equally likely."""
    from scipy.stats import binomtest

    return float(binomtest(count, n).pvalue)
