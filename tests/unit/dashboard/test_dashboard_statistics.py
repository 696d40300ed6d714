"""Means and intervals against scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gan_lightning.dashboard.statistics import estimate, paired_difference

accuracies = st.floats(0, 1, allow_nan=False, width=32)


@given(st.lists(accuracies, min_size=2, max_size=12))
def test_the_interval_is_scipys(values):
    found = estimate(values)
    assert found.n == len(values)
    assert found.mean == pytest.approx(np.mean(values))
    if np.ptp(values) > 1e-6:
        expected = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        assert (found.low, found.high) == pytest.approx(expected)


def test_two_values_by_hand():
    found = estimate([0.0, 2.0])
    assert found.mean == 1
    assert found.half_width == pytest.approx(12.7062047 * np.sqrt(2) / np.sqrt(2))


def test_one_value_has_no_interval():
    found = estimate([0.5])
    assert (found.mean, found.low, found.high, found.half_width, found.n) == (0.5, None, None, None, 1)


@given(st.lists(st.tuples(accuracies, accuracies), min_size=3, max_size=8))
def test_the_paired_difference_is_scipys_and_takes_the_seeds_that_both_have(pairs):
    first = {seed: pair[0] for seed, pair in enumerate(pairs)} | {99: 0.1}
    second = {seed: pair[1] for seed, pair in enumerate(pairs)} | {77: 0.9}
    found = paired_difference(first, second)
    differences = [a - b for a, b in pairs]
    assert found.n == len(pairs)
    assert found.mean == pytest.approx(np.mean(differences))
    if np.ptp(differences) > 1e-3:
        interval = stats.ttest_rel(*zip(*pairs, strict=True)).confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-5)


def test_without_a_common_seed_there_is_no_difference():
    assert paired_difference({0: 0.5}, {1: 0.5}) is None


@pytest.mark.parametrize("count", [2, 3, 30])
def test_equal_values_have_no_interval_even_where_rounding_makes_them_differ(count):
    differences = [0.92 - 0.90, 0.94 - 0.92] * count
    assert len(set(differences)) == 2
    found = estimate(differences[:count])
    assert (found.low, found.high, found.n) == (None, None, count)
