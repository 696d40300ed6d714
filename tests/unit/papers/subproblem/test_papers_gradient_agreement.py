"""The measures of how the sub-problems agree with the generator's step, and their picture."""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from gan_lightning.errors import SettingError
from gan_lightning.papers.subproblem.gradient_agreement import (
    gradient_agreement,
    inverse_examples_picture,
    measured_agreement,
)
from gan_lightning.papers.subproblem.inverse_examples import InverseExamples
from gan_lightning.papers.subproblem.regressions import InverseExample
from gan_lightning.training.generator_updates import GeneratorLoss


def test_ratio_and_angle_are_those_of_the_gradients_of_all_weights_together():
    regression = [torch.tensor([3.0]), torch.tensor([[4.0, 0.0]])]
    found = gradient_agreement(regression, [torch.tensor([0.0]), torch.tensor([[0.0, 2.0]])], 0.5)
    assert_close((found.ratio, found.angle), (5.0, 90.0))
    same = gradient_agreement([torch.tensor([0.2, 0.4])], [torch.tensor([1.0, 2.0])], 0.2)
    assert_close(same.ratio, 1.0)
    opposite = gradient_agreement([torch.tensor([-1.0])], [torch.tensor([1.0])], 1.0)
    assert_close(opposite.angle, 180.0)


@pytest.mark.parametrize("angle", [1e-3, 1e-7, 1e-12])
def test_small_angles_are_not_lost_in_the_cosines_rounding(angle):
    turned = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
    found = gradient_agreement([turned], [torch.tensor([1.0, 0.0], dtype=torch.float64)], 1.0)
    assert_close(found.angle, math.degrees(angle), rtol=1e-3, atol=0)


def test_without_a_gradient_there_is_no_angle():
    zero, one = [torch.zeros(2)], [torch.ones(2)]
    none = gradient_agreement(zero, one, 1.0)
    assert (none.ratio, math.isnan(none.angle)) == (0.0, True)
    assert math.isnan(gradient_agreement(one, zero, 1.0).ratio)


def generator_loss() -> tuple[GeneratorLoss, nn.Module]:
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(3, 16), nn.BatchNorm1d(16), nn.Unflatten(1, (1, 4, 4)), nn.Tanh()).double()
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 1)).double()

    def judge(images):
        logits = discriminator(images).squeeze(1)
        return nn.functional.softplus(-logits).mean(), logits

    return GeneratorLoss(generator(torch.randn(6, 3, dtype=torch.float64)), judge, [generator]), generator


def test_a_models_regression_is_measured_with_both_graphs_left_in_place():
    loss, generator = generator_loss()
    for regression in ("sum", "half_sum", "mean"):
        for rate in (0.5, 1.0, 2500.0):
            found = measured_agreement(loss, InverseExamples(regression=regression, regression_rate=rate))
            assert_close((found.ratio, found.angle), (1.0, 0.0), rtol=1e-10, atol=1e-10)
    other, doubled = (measured_agreement(loss, InverseExamples(regression="l1", regression_rate=r)) for r in (1.0, 2.0))
    assert other.angle > 5
    assert_close(doubled.ratio, 2 * other.ratio)
    loss.value.backward()
    assert all(weight.grad is not None for weight in generator.parameters())


def test_the_picture_has_a_row_each_for_x_x_prime_their_difference_and_the_same_amplified():
    start = torch.full((4, 1, 16, 16), -0.5)
    moved = torch.zeros_like(start)
    moved[:, :, :8], moved[0, 0, 15, 15] = 0.02, -0.04
    picture, factor = inverse_examples_picture(InverseExample(start, moved), columns=3)
    assert picture.shape == (3, 4 * 18 + 2, 3 * 18 + 2)
    assert_close(factor, 25.0)
    rows = [picture[:, 2 + 18 * row : 18 + 18 * row, 2:18] for row in range(4)]
    assert_close(torch.stack([row[0, 0, 0] for row in rows]), torch.tensor([0.25, 0.26, 0.51, 0.75]))
    assert_close(torch.stack([row[0, 15, 15] for row in rows]), torch.tensor([0.25, 0.23, 0.48, 0.0]))
    assert_close(rows[3][0, 10, 10], torch.tensor(0.5))


def test_a_picture_of_no_difference_is_not_amplified():
    start = torch.zeros(2, 3, 8, 8)
    picture, factor = inverse_examples_picture(InverseExample(start, start))
    assert factor == 1.0
    assert bool(torch.isfinite(picture).all())


def test_a_picture_without_columns_is_refused():
    start = torch.zeros(2, 3, 8, 8)
    with pytest.raises(SettingError, match=r"columns must be at least 1, got 0"):
        inverse_examples_picture(InverseExample(start, start), columns=0)
