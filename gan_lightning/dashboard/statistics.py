"""All statistics of the dashboard and of the pages of results: means over seeds, slopes, and the best of a search.

Their intervals, those that hold together, their tests, the power of these tests, and the rule for a verdict.
"""

import itertools
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
        from scipy.special import stdtr

        if self.half_width is None:
            return None
        error = self.half_width / _quantile(self.n - 1)
        return float(2 * stdtr(self.n - 1, -abs(self.mean - null) / error))


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
def _quantile(freedom: float | int, tests: float | int = 1) -> float:
    """Return half the length of Student's interval, in standard errors.

    Args:
        freedom: Degrees of freedom; infinite for a known standard deviation.
        tests: Number of intervals that hold together (Bonferroni).
    """
    from scipy.special import ndtri, stdtrit

    outside = (1 - CONFIDENCE) / 2 / tests
    return -float(ndtri(outside) if math.isinf(freedom) else stdtrit(freedom, outside))


def paired_difference(first: Mapping[int | None, float], second: Mapping[int | None, float]) -> Estimate | None:
    """Return the estimate of first - second over the common seeds; None without a common seed."""
    seeds = [seed for seed in first if seed in second]
    return estimate([first[seed] - second[seed] for seed in seeds]) if seeds else None


def simultaneous(found: Sequence[Estimate]) -> list[Estimate]:
    """Return estimates with longer intervals, which hold all together in 95% of cases.

    Each interval misses its mean in a k-th of 5%, k being the number of intervals. So at most 5% of tables have an
    interval that misses, whatever the rows have in common.

    Source:
        Bonferroni's inequality, as in Dunn 1961, *Multiple comparisons among means*.
    """
    rows = sum(each.low is not None for each in found)
    return [each if each.half_width is None or rows == 1 else _longer(each, rows) for each in found]


def _longer(found: Estimate, rows: int) -> Estimate:
    assert found.half_width is not None
    half = found.half_width * _quantile(found.n - 1, rows) / _quantile(found.n - 1)
    return Estimate(found.mean, found.mean - half, found.mean + half, found.n)


def paired_slope(x: Sequence[float | int], seeds: Sequence[Sequence[float]]) -> Estimate:
    """Return the slope of a figure over an ordered setting: the mean over seeds of each seed's least-squares slope.

    Runs of one seed have weights and images in common, and so have their figures. Student's interval is over the
    seeds' slopes, so that it needs no independence within a seed.

    Args:
        x: Values of the setting, at least two different ones.
        seeds: For each seed its figures, one for each value of the setting.
    """
    centre = math.fsum(x) / len(x)
    away = [each - centre for each in x]
    square = math.fsum(each * each for each in away)
    return estimate([math.fsum(a * y for a, y in zip(away, own, strict=True)) / square for own in seeds])


@dataclass(frozen=True)
class Verdict:
    """The direction of a difference, or the reason why none is given.

    Attributes:
        sign: 1 or -1; 0 if no verdict is given.
        reason: Of a withheld verdict; empty with a verdict.
    """

    sign: int
    reason: str = ""


def verdict(difference: Estimate, over_controls: Mapping[str, Estimate | None]) -> Verdict:
    """Return whether a difference or a slope has a direction.

    A verdict needs figures that say something: each must be above each of its controls, by a 95% interval without 0, or
    by more than nothing in every seed if all seeds agree. Then the difference's own interval must be without 0.

    Args:
        difference: With an interval that holds together with those of the other rows.
        over_controls: As in `not_above`.
    """
    if reason := not_above(over_controls, difference.n):
        return Verdict(0, reason)
    if difference.n == 1:
        return Verdict(0, "one seed decides nothing")
    if difference.low is None or difference.high is None:
        return Verdict(0, f"the same in all of {difference.n} seeds, so that there is no spread to judge by")
    if difference.low <= 0 <= difference.high:
        return Verdict(0, "no difference shown")
    return Verdict(1 if difference.mean > 0 else -1)


def not_above(over_controls: Mapping[str, Estimate | None], seeds: int) -> str:
    """Return the first figure that is not shown to be above its control, in words; empty if all are.

    Args:
        over_controls: Figure minus control, under names for people: `discriminator over random weights`. None if the
            control was measured for other seeds alone.
        seeds: Number of the figure's seeds. For one of several, a control shows nothing.
    """
    for name, above in over_controls.items():
        if above is None:
            return f"{name} is not known: the control was measured, but the figures have no seed in common with it"
        if above.mean <= 0 or (above.low is not None and above.low <= 0):
            return f"{name} is {above.mean:+.4f}{_ends(above)}, so these figures say nothing"
        if above.n == 1 < seeds:
            return f"{name} is known for one of {seeds} seeds alone, which shows nothing"
    return ""


def _ends(found: Estimate) -> str:
    return "" if found.low is None else f" [{found.low:+.4f}, {found.high:+.4f}]"


@dataclass(frozen=True)
class BestTrial:
    """The best trial of a search, with the doubt that comes from choosing it.

    Attributes:
        index: Its place.
        estimate: Its figure; the interval holds for every trial together, so also for the chosen one.
        candidates: Trials among which the truly best one is with 95% certainty; None if no spread is known.
    """

    index: int
    estimate: Estimate
    candidates: Sequence[int] | None


def best_trial(
    means: Sequence[float], largest: bool = True, errors: Sequence[float] | None = None, freedom: float | int = math.inf
) -> BestTrial:
    """Return the best trial of a search.

    The largest of many noisy figures is too large on average. An interval that holds for all trials together holds for
    the chosen one, too. A trial is a candidate if no other is above it by more than chance explains.

    Args:
        means: A figure for each trial.
        largest: Whether the largest is the best.
        errors: Their standard errors; None if nothing is known of them.
        freedom: Degrees of freedom of the errors.

    Source:
        Gupta 1965, *On some multiple decision (selection and ranking) rules*, with Bonferroni's inequality.
    """
    sign = 1 if largest else -1
    index = max(range(len(means)), key=lambda i: sign * means[i])
    if errors is None:
        return BestTrial(index, Estimate(means[index], None, None, 1), None)
    trials = len(means)
    half = _quantile(freedom, trials) * errors[index]
    one_sided = _quantile(freedom, (trials - 1) / 2) if trials > 1 else 0.0
    candidates = [
        i
        for i in range(trials)
        if all(sign * (means[j] - means[i]) <= one_sided * math.hypot(errors[i], errors[j]) for j in range(trials))
    ]
    found = Estimate(means[index], means[index] - half, means[index] + half, trials)
    return BestTrial(index, found, candidates)


def best_of_paired(entries: Sequence[Mapping[int | None, float]], largest: bool = True) -> tuple[int, dict[int, str]]:
    """Return the entry with the best mean, and the entries that it is not told apart from, each with the reason.

    Differences are paired over seeds. The intervals of all pairs of entries hold together, so also those of the entry
    that was chosen for its mean.

    Args:
        entries: Figures by seed.
        largest: Whether the largest is the best.
    """
    sign = 1 if largest else -1
    best = max(range(len(entries)), key=lambda i: sign * math.fsum(entries[i].values()) / len(entries[i]))
    pairs: dict[tuple[int, int], Estimate] = {}
    for i, j in itertools.combinations(range(len(entries)), 2):
        if (difference := paired_difference(entries[i], entries[j])) is not None:
            pairs[i, j] = difference
    widened = dict(zip(pairs, simultaneous(list(pairs.values())), strict=True))
    rivals = {}
    for j in range(len(entries)):
        pair = min(best, j), max(best, j)
        if j != best and pair not in widened:
            rivals[j] = "no seed in common"
        elif j != best and (decided := verdict(widened[pair], {})).sign != (sign if best < j else -sign):
            rivals[j] = decided.reason
    return best, rivals


def pooled_errors(trials: Sequence[Sequence[float]]) -> tuple[list[float], int] | None:
    """Return the standard error of each trial's mean, and the degrees of freedom; all trials share one deviation.

    Args:
        trials: The figures of each trial's seeds.

    Returns:
        None if no trial has two seeds, or if all seeds agree.
    """
    freedom = sum(len(own) - 1 for own in trials)
    means = [math.fsum(own) / len(own) for own in trials]
    square = math.fsum((value - mean) ** 2 for own, mean in zip(trials, means, strict=True) for value in own)
    if freedom < 1 or square == 0:
        return None
    return [math.sqrt(square / freedom / len(own)) for own in trials], freedom


def share_error(share: float, images: int) -> float:
    """Return the standard error of a share that comes from the choice of its test images alone.

    Source:
        Agresti and Coull 1998, *Approximate is better than "exact"*: two more successes and two more failures.
    """
    smoothed = (share * images + 2) / (images + 4)
    return math.sqrt(smoothed * (1 - smoothed) / (images + 4))


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
