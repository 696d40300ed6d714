"""Means and intervals against scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gan_lightning.dashboard.statistics import (
    detectable_effect,
    estimate,
    estimate_of,
    holm,
    paired_difference,
    paired_power,
    share_interval,
    sign_test,
)

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


@given(st.lists(accuracies, min_size=2, max_size=9), st.floats(-1, 1))
def test_the_p_value_is_scipys_and_the_deviation_is_numpys(values, null):
    if np.ptp(values) < 1e-3:
        return
    found = estimate(values)
    assert found.p_value(null) == pytest.approx(stats.ttest_1samp(values, null).pvalue, rel=1e-6)
    assert found.deviation == pytest.approx(np.std(values, ddof=1))
    known = estimate_of(found.mean, found.deviation, found.n)
    assert (known.low, known.high) == pytest.approx((found.low, found.high))


def test_one_value_or_no_spread_has_no_p_value():
    assert estimate([0.5]).p_value() is None
    assert estimate_of(0.5, 0.1, 1).p_value() is None
    assert estimate_of(0.5, 0.0, 3).deviation is None


def test_holms_p_values_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(("effect", "n"), [(0.0147, 3), (0.0147, 5), (-0.0218, 3), (0.0147, 8), (0.002, 2)])
def test_the_power_is_the_share_of_drawn_samples_in_which_scipys_test_finds_the_effect(effect, n):
    rng = np.random.default_rng(0)
    drawn = rng.normal(effect, 0.0096, (20_000, n))
    found = np.mean(stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05)
    assert paired_power(effect, 0.0096, n) == pytest.approx(found, abs=4 * np.sqrt(0.25 / 20_000))


def test_without_an_effect_the_power_is_the_level_and_one_pair_has_none():
    assert paired_power(0.0, 1.0, 4) == pytest.approx(0.05)
    assert paired_power(1.0, 1.0, 1) == 0
    assert paired_power(1e3, 1.0, 10) == pytest.approx(1)


@pytest.mark.parametrize("n", [2, 3, 10, 40])
def test_the_detectable_effect_has_the_wanted_power(n):
    assert paired_power(detectable_effect(0.3, n), 0.3, n) == pytest.approx(0.8)


def test_the_interval_of_a_share_holds_what_could_have_been_seen():
    low, high = share_interval(3, 7)
    assert stats.binom.sf(2, 7, low) == pytest.approx(0.025)
    assert stats.binom.cdf(3, 7, high) == pytest.approx(0.025)
    assert share_interval(0, 20) == pytest.approx((0, 1 - 0.025 ** (1 / 20)))


def test_the_sign_tests_p_by_hand():
    assert sign_test(9, 9) == pytest.approx(2 * 0.5**9)
    assert sign_test(1, 2) == 1
