"""Means and intervals against scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gan_lightning.dashboard.statistics import (
    Estimate,
    best_of_paired,
    best_trial,
    detectable_effect,
    estimate,
    estimate_of,
    holm,
    paired_difference,
    paired_power,
    paired_slope,
    pooled_errors,
    share_error,
    share_interval,
    sign_test,
    simultaneous,
    verdict,
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


@given(st.lists(st.lists(accuracies, min_size=4, max_size=4), min_size=2, max_size=6))
def test_the_slope_is_the_mean_of_scipys_slopes_of_the_seeds(seeds):
    x = [0.0, 1.0, 2.0, 5.0]
    slopes = [stats.linregress(x, own).slope for own in seeds]
    found = paired_slope(x, seeds)
    assert found.mean == pytest.approx(np.mean(slopes), abs=1e-12)
    if np.ptp(slopes) > 1e-6:
        expected = stats.t.interval(0.95, len(slopes) - 1, np.mean(slopes), stats.sem(slopes))
        assert (found.low, found.high) == pytest.approx(expected)


def test_the_slopes_interval_holds_the_true_slope_in_95_of_100_sweeps_with_figures_in_common_within_a_seed():
    rng, x, sweeps = np.random.default_rng(0), np.arange(5.0), 1000
    common = rng.normal(0, 0.02, (sweeps, 4, 1)) + rng.normal(0, 0.003, (sweeps, 4, 1)) * x
    values = 0.9 + 0.006 * x + common + rng.normal(0, 0.004, (sweeps, 4, 5))
    found = [paired_slope(x.tolist(), own) for own in values.tolist()]
    share = np.mean([each.low <= 0.006 <= each.high for each in found])
    assert share == pytest.approx(0.95, abs=4 * np.sqrt(0.0475 / sweeps))


@pytest.mark.parametrize("common", [0.0, 0.9])
def test_simultaneous_intervals_hold_all_together_in_at_least_95_of_100_tables(common):
    rng, tables = np.random.default_rng(1), 1000
    noise = rng.normal(size=(tables, 6, 3)), rng.normal(size=(tables, 1, 3))
    values = np.sqrt(1 - common) * noise[0] + np.sqrt(common) * noise[1]
    alone = [[estimate(row) for row in table] for table in values.tolist()]

    def all_hold(table) -> bool:
        return all(row.low <= 0 <= row.high for row in table)

    together = np.mean([all_hold(simultaneous(table)) for table in alone])
    assert together >= 0.95 - 4 * np.sqrt(0.0475 / tables)
    assert np.mean([all_hold(table) for table in alone]) < 0.93, "intervals of single rows do not hold together"
    assert simultaneous([alone[0][0], estimate([0.5])]) == [alone[0][0], estimate([0.5])], "one interval stays"


ABOVE, CLEAR = Estimate(0.1, 0.05, 0.15, 3), Estimate(0.02, 0.01, 0.03, 3)


@pytest.mark.parametrize(
    ("difference", "controls", "sign", "reason"),
    [
        (CLEAR, {"D over chance": ABOVE}, 1, ""),
        (Estimate(-0.02, -0.03, -0.01, 3), {"D over chance": ABOVE}, -1, ""),
        (Estimate(0.02, -0.01, 0.05, 3), {"D over chance": ABOVE}, 0, "no difference shown"),
        (Estimate(0.02, None, None, 1), {}, 0, "one seed decides nothing"),
        (Estimate(0.02, None, None, 3), {}, 0, "the same in all of 3 seeds"),
        (CLEAR, {"D over chance": ABOVE, "D over pixels": Estimate(-0.4, None, None, 1)}, 0, "D over pixels is -0.4"),
        (CLEAR, {"D over pixels": Estimate(0.4, None, None, 3)}, 1, ""),
        (CLEAR, {"D over pixels": Estimate(0.4, None, None, 1)}, 0, "D over pixels is known for one of 3 seeds alone"),
        (CLEAR, {"D over pixels": None}, 0, "D over pixels is not known: the control was measured, but the figures"),
        (
            CLEAR,
            {"C over pixels": Estimate(0.1, -0.05, 0.25, 3)},
            0,
            "is +0.1000 [-0.0500, +0.2500], so these figures say nothing",
        ),
    ],
)
def test_a_verdict_needs_figures_above_their_controls_and_an_interval_without_zero(difference, controls, sign, reason):
    found = verdict(difference, controls)
    assert found.sign == sign
    assert reason in found.reason
    assert bool(found.reason) == (sign == 0)


@pytest.mark.parametrize("spread", [0.0, 0.01])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_best_of_a_search_is_covered_and_among_the_candidates_although_it_was_chosen(spread, sign):
    rng, searches, trials, error = np.random.default_rng(2), 150, 20, 0.01
    covered = naive = held = 0
    for _ in range(searches):
        truth = 0.8 + sign * rng.normal(0, spread, trials)
        seeds = truth[:, None] + rng.normal(0, error, (trials, 3))
        errors, freedom = pooled_errors(seeds.tolist())
        assert freedom == 2 * trials
        found = best_trial(seeds.mean(1).tolist(), sign > 0, errors, freedom)
        covered += found.estimate.low <= truth[found.index] <= found.estimate.high
        alone = estimate(seeds[found.index].tolist())
        naive += alone.low <= truth[found.index] <= alone.high
        held += np.argmax(sign * truth) in found.candidates
    assert covered / searches >= 0.95 - 4 * np.sqrt(0.0475 / searches)
    assert held / searches >= 0.95 - 4 * np.sqrt(0.0475 / searches)
    assert spread > 0 or naive / searches < 0.9, "the interval of the chosen trial alone does not hold"


def test_the_best_without_a_known_spread_has_no_interval():
    found = best_trial([0.5, 0.7, 0.6])
    assert (found.index, found.estimate, found.candidates) == (1, Estimate(0.7, None, None, 1), None)
    assert best_trial([0.5, 0.7, 0.6], largest=False).index == 0
    assert best_trial([0.5], errors=[0.1]).candidates == [0]
    assert pooled_errors([[0.5], [0.6]]) is None
    assert pooled_errors([[0.5, 0.5]]) is None


def test_the_error_of_a_share_is_that_of_drawn_test_images():
    drawn = np.random.default_rng(3).binomial(360, 0.9, 20_000) / 360
    assert share_error(0.9, 360) == pytest.approx(drawn.std(), rel=0.05)
    assert share_error(1.0, 360) > 0, "no error among 360 images is no certainty"


@pytest.mark.parametrize("sign", [1, -1])
def test_equal_methods_are_rarely_told_apart_although_the_best_is_chosen(sign):
    rng, tables = np.random.default_rng(4), 300
    drawn = 0.8 + rng.normal(0, 0.01, (tables, 4, 3)) + rng.normal(0, 0.02, (tables, 1, 3))
    found = [best_of_paired([dict(enumerate(own)) for own in table], sign > 0) for table in drawn.tolist()]
    assert np.mean([len(rivals) < 3 for _, rivals in found]) <= 0.05 + 4 * np.sqrt(0.0475 / tables)
    best, rivals = best_of_paired(
        [{0: 0.5, 1: 0.51}, {0: 0.5 + sign * 0.2, 1: 0.51 + sign * 0.2001}, {2: 0.1}], sign > 0
    )
    assert (best, rivals.get(0)) == ((1, None) if sign > 0 else (2, "no seed in common"))
