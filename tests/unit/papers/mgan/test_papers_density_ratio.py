"""The density ratio against closed forms, its statistics on made-up logits, the alarm on made-up series."""

import math

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.distributions import Normal
from torch.testing import assert_close

from gan_lightning import losses
from gan_lightning.errors import NonFiniteError, SettingError
from gan_lightning.papers.mgan.density_ratio import (
    Alarm,
    AlarmRule,
    correlation,
    density_ratio,
    judging,
    log_density_ratio,
    ratio_statistics,
)


def test_the_ratio_of_an_optimal_discriminator_is_that_of_the_densities():
    real, generated = Normal(0.0, 1.0), Normal(0.7, 1.5)
    points = torch.linspace(-3, 3, 50, dtype=torch.float64)
    p_r, p_g = real.log_prob(points).exp(), generated.log_prob(points).exp()
    optimal = p_r / (p_r + p_g)  # Goodfellow et al. 2014, proposition 1
    assert_close(density_ratio(torch.logit(optimal)), p_g / p_r)
    assert_close(log_density_ratio(torch.logit(optimal)), generated.log_prob(points) - real.log_prob(points))


def test_a_discriminator_trained_on_two_gaussians_gives_their_ratio():
    rng = torch.Generator().manual_seed(0)
    shift = 0.8
    real, fake = (torch.randn(200_000, dtype=torch.float64, generator=rng) for _ in range(2))
    fake = fake + shift
    weight, bias = (torch.zeros((), dtype=torch.float64, requires_grad=True) for _ in range(2))
    newton = torch.optim.LBFGS([weight, bias], line_search_fn="strong_wolfe")

    def loss():
        newton.zero_grad()
        value = losses.discriminator_loss(weight * real + bias, weight * fake + bias)
        value.backward()
        return value

    newton.step(loss)
    found = ratio_statistics(log_density_ratio((weight * real + bias).detach()))
    # log α = μx - μ²/2: over x ~ N(0, 1) of mean -μ²/2 and standard deviation μ
    assert found.mean == pytest.approx(-(shift**2) / 2, abs=0.02)
    assert found.spread == pytest.approx(shift, abs=0.02)
    assert found.robust_spread == pytest.approx(shift, abs=0.02)
    assert found.distance == pytest.approx(math.hypot(shift, shift**2 / 2), abs=0.02)
    assert found.q05 == pytest.approx(-(shift**2) / 2 - 1.645 * shift, abs=0.05)


def test_where_the_generator_makes_too_few_the_log_ratio_is_negative():
    assert log_density_ratio(torch.tensor([3.0, 0.0, -3.0])).tolist() == [-3.0, 0.0, 3.0]
    assert log_density_ratio(torch.tensor([-200.0])).item() == 200.0  # where exp overflows in float32


def test_statistics_are_numpys():
    values = np.random.default_rng(0).normal(size=101) ** 3
    found = ratio_statistics(torch.tensor(values))
    assert found.mean == pytest.approx(values.mean())
    assert found.spread == pytest.approx(values.std(ddof=1))
    assert found.distance == pytest.approx(np.sqrt((values**2).mean()))
    assert [found.q05, found.q25, found.q50, found.q75, found.q95] == pytest.approx(
        np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95]).tolist()
    )
    assert found.robust_spread == pytest.approx((found.q75 - found.q25) / 1.34898, rel=1e-5)
    assert found.correlation is None
    assert "correlation" not in found.metrics()


def test_a_few_images_move_the_spread_but_not_the_robust_one():
    values = torch.randn(200, generator=torch.Generator().manual_seed(0))
    spoiled = values.clone()
    spoiled[:5] = 100.0
    clean, dirty = ratio_statistics(values), ratio_statistics(spoiled)
    assert dirty.spread > 10 * clean.spread
    assert dirty.robust_spread < 1.2 * clean.robust_spread


def test_the_correlation_tells_an_unchanged_order_from_a_jump():
    values = torch.tensor([1.0, 2.0, 4.0, 8.0])
    assert correlation(3 * values - 7, values) == pytest.approx(1.0)
    assert correlation(-values, values) == pytest.approx(-1.0)
    other = torch.tensor([5.0, -1.0, 0.0, 2.0])
    assert correlation(other, values) == pytest.approx(np.corrcoef(other, values)[0, 1])
    assert ratio_statistics(other, values).metrics()["correlation"] == correlation(other, values)
    assert correlation(torch.ones(4), values) is None


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_logits_that_are_not_finite_are_refused_in_one_line(bad):
    with pytest.raises(NonFiniteError, match=r"got 2 of 5 that are not\. Look for NaN in the images and in the disc"):
        log_density_ratio(torch.tensor([0.0, bad, 1.0, bad, 2.0]))


def test_statistics_need_two_images_and_the_same_ones():
    with pytest.raises(SettingError, match="log_ratio must be of at least 2 images, got 1"):
        ratio_statistics(torch.zeros(1))
    with pytest.raises(SettingError, match="must be of the same images as the earlier one, got 3 and 4 values"):
        ratio_statistics(torch.zeros(3), torch.zeros(4))


def alarms(figures, **rule):
    alarm = Alarm(AlarmRule(**{"factor": 3.0, "patience": 1, "warm_up": 2} | rule))
    return [i for i, figure in enumerate(figures) if alarm.check(figure)]


def test_an_alarm_is_a_figure_several_times_the_usual_one():
    assert alarms([1.0, 1.0, 1.0, 1.0, 2.9, 3.1, 1.0, 9.0]) == [5, 7]
    assert alarms([1.0, 1.0, 1.0, 1.0, 3.1], factor=3.2) == []


def test_the_first_checks_neither_alarm_nor_count():
    assert alarms([0.01, 0.01, 1.0, 1.2, 1.1]) == []  # an untrained D's 0.01 is not what is usual
    assert alarms([0.01, 0.01, 1.0, 1.2, 1.1], warm_up=0) == [2, 3, 4]
    assert alarms([1.0, 50.0, 1.0]) == []


def test_what_is_usual_is_a_median_without_the_alarms_themselves():
    assert alarms([0.0, 0.0, 1.0, 2.0, 1.5, *[9.0] * 20]) == list(range(5, 25))
    alarm = Alarm(AlarmRule(warm_up=0, factor=2.0))
    assert alarm.limit is None
    limits = []
    for figure in (1.0, 2.0, 1.5, 1.0):
        alarm.check(figure)
        limits.append(alarm.limit)
    assert limits == [2.0, 3.0, 3.0, 2.5]  # twice the medians 1, 1.5, 1.5 and 1.25


def test_patience_waits_for_checks_in_a_row():
    series = [1.0, 1.0, 1.0, 1.0, 5.0, 1.0, 5.0, 5.0, 5.0, 1.0]
    assert alarms(series) == [4, 6, 7, 8]
    assert alarms(series, patience=2) == [7, 8]
    assert alarms(series, patience=3) == [8]


def test_what_has_always_been_0_makes_no_alarm():
    assert alarms([0.0, 0.0, 0.0, 0.0, 1.0, 2.0]) == []  # a dead D's figures: no multiple of 0 is more than usual


@given(st.lists(st.floats(0.1, 10), min_size=3, max_size=30), st.floats(0.01, 100))
def test_the_scale_of_the_figures_does_not_matter(figures, scale):
    limits = []
    for series in (figures, [scale * figure for figure in figures]):
        alarm = Alarm(AlarmRule(warm_up=1))
        limits.append([(alarm.check(figure), alarm.limit)[1] for figure in series])
    assert [limit is None for limit in limits[0]] == [limit is None for limit in limits[1]]
    if all(abs(f / (limit or f) - 1) > 1e-6 for f, limit in zip(figures[1:], limits[0], strict=False)):
        for one, other in zip(*limits, strict=True):
            assert one is None or other == pytest.approx(scale * one)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"watch": "mean"}, "watch must be one of distance, spread, got 'mean'"),
        ({"factor": 1.0}, "factor must be above 1, got 1.0"),
        ({"factor": float("nan")}, "factor must be above 1, got nan"),
        ({"patience": 0}, "patience must be at least 1, got 0"),
        ({"warm_up": -1}, "warm_up must be at least 0, got -1"),
    ],
)
def test_a_rules_settings_out_of_range_are_refused(monkeypatch, settings, message):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # which would refuse some by their type
    with pytest.raises(SettingError, match=message):
        AlarmRule(**settings)


def judge() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))


def test_a_model_judges_with_the_statistics_that_are_asked_for_and_without_dropout():
    model, images = judge(), 2 + torch.randn(20, 3)
    expected = {}
    for name, training in (("batch", True), ("running", False)):
        alone = judge()
        alone.eval()
        alone[1].train(training)
        expected[name] = alone(images).detach()
        with judging(model, name):
            found = model(images)
        assert_close(found, expected[name])
        assert not found.requires_grad
    assert not torch.allclose(expected["batch"], expected["running"])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("batch_norm", ["batch", "running"])
def test_judging_leaves_no_trace(training, batch_norm):
    model = judge().train(training)
    model[0].train(not training)
    state, random = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    with pytest.raises(RuntimeError), judging(model, batch_norm):
        model(torch.randn(20, 3)) @ torch.zeros(5)  # draws, judges, and fails
    assert torch.equal(torch.get_rng_state(), random)
    assert [layer.training for layer in model] == [not training, training, training, training]
    assert model[1].track_running_stats
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name])
