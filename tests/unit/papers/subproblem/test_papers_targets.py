"""Targets that no discriminator has made: which image belongs to which, by hand, and the generator's step on them."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from gan_lightning.errors import SettingError
from gan_lightning.papers.subproblem.gradient_agreement import measured_agreement
from gan_lightning.papers.subproblem.targets import (
    ImplicitMaximumLikelihood,
    NearestRealImages,
    TargetRegression,
    nearest,
)
from gan_lightning.training.generator_updates import GeneratorLoss


def images(*pixels: tuple[float, float]) -> torch.Tensor:
    """Return images of 2x2 pixels, the lower two of which are 0."""
    upper = torch.tensor(pixels).reshape(-1, 1, 1, 2)
    return torch.cat([upper, torch.zeros_like(upper)], dim=2)


GENERATED = images((0.0, 0.0), (0.8, 0.0), (0.0, 0.8))
REAL = images((0.1, 0.0), (0.7, 0.1), (0.1, 0.2), (0.6, 0.0))
"""The nearest generated ones are the numbers 0, 1, 0, 1; the nearest real ones of the generated are 0, 1, 2."""


def loss_of(generated: torch.Tensor, real: torch.Tensor | None) -> GeneratorLoss:
    def judge(seen):
        logits = seen.flatten(1).sum(1)
        return -logits.mean(), logits

    return GeneratorLoss(generated, judge, [], real)


def image_gradient(update: TargetRegression, generated=GENERATED, real=REAL) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the objective, and its gradient with respect to the images."""
    generated = generated.clone().requires_grad_()
    objective = update.objective(loss_of(generated, real))
    return objective.detach(), torch.autograd.grad(objective, generated)[0]


def test_each_real_image_is_the_target_of_the_generated_one_nearest_to_it():
    found = ImplicitMaximumLikelihood().find(loss_of(GENERATED, REAL))
    assert found.chosen.tolist() == [0, 1, 0, 1]
    assert_close(found.start, GENERATED[[0, 1, 0, 1]])
    assert_close(found.targets, REAL)


def test_each_generated_image_has_the_nearest_real_one_as_its_target():
    found = NearestRealImages().find(loss_of(GENERATED, REAL))
    assert found.chosen is None
    assert_close(found.start, GENERATED)
    assert_close(found.targets, REAL[[0, 1, 2]])


def test_of_implicit_maximum_likelihood_only_chosen_images_are_regressed_on_all_that_chose_them():
    objective, gradient = image_gradient(TargetRegression(ImplicitMaximumLikelihood()))
    assert_close(objective, torch.tensor(0.5 * (0.1**2 + (0.1**2 + 0.1**2) + (0.1**2 + 0.2**2) + 0.2**2)))
    assert_close(gradient, images((-0.1 - 0.1, -0.2), (0.1 + 0.2, -0.1), (0.0, 0.0)))


def test_of_nearest_real_images_every_generated_one_is_regressed():
    objective, gradient = image_gradient(TargetRegression(NearestRealImages()))
    assert_close(objective, torch.tensor(0.5 * (0.1**2 + (0.1**2 + 0.1**2) + (0.1**2 + 0.6**2))))
    assert_close(gradient, images((-0.1, 0.0), (0.1, -0.1), (-0.1, 0.6)))


def test_other_distances_are_of_the_same_pairs():
    _, gradient = image_gradient(TargetRegression(ImplicitMaximumLikelihood(), "l1", regression_rate=1.0))
    assert_close(gradient, images((-2.0, -1.0), (2.0, -1.0), (0.0, 0.0)))
    objective, _ = image_gradient(TargetRegression(ImplicitMaximumLikelihood(), "mean", regression_rate=1.0))
    assert_close(objective, torch.tensor((0.01 + 0.02 + 0.05 + 0.04) / 16))


@pytest.mark.parametrize("targets", [ImplicitMaximumLikelihood(), NearestRealImages()])
def test_images_in_bfloat16_are_compared_and_regressed_in_float32(targets):
    _, gradient = image_gradient(TargetRegression(targets), GENERATED.bfloat16())
    wanted = image_gradient(TargetRegression(targets))[1]
    assert gradient.dtype == torch.bfloat16
    assert_close(gradient.float(), wanted, rtol=2**-7, atol=2**-7)
    assert targets.find(loss_of(GENERATED.bfloat16(), REAL)).displacement.dtype == torch.float32


def test_images_that_are_nearly_the_same_are_told_apart():
    far = torch.full((40, 1, 8, 8), 0.9)
    near = far + 1e-5 * torch.arange(40.0)[:, None, None, None]
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    assert torch.equal(nearest(near[order] + 1e-6, near), order)


@pytest.mark.parametrize("targets", [ImplicitMaximumLikelihood(), NearestRealImages()])
def test_larger_real_images_are_resized_to_the_generators(targets):
    larger = REAL.repeat_interleave(4, 2).repeat_interleave(4, 3)
    small = F.interpolate(larger, (2, 2), mode="bilinear", antialias=True)
    found, expected = (targets.find(loss_of(GENERATED, real)).targets for real in (larger, small))
    assert_close(found, expected)
    assert (small - REAL).abs().max() < 0.2


@pytest.mark.parametrize("targets", [ImplicitMaximumLikelihood(), NearestRealImages()])
def test_the_step_does_not_lead_to_the_discriminator_and_leaves_its_graph(targets):
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(2, 4), nn.Unflatten(1, (1, 2, 2)))
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(4, 1))

    def judge(seen):
        logits = discriminator(seen).squeeze(1)
        return nn.functional.softplus(-logits).mean(), logits

    loss = GeneratorLoss(generator(torch.randn(5, 2)), judge, [generator], REAL)
    weights, theirs = list(generator.parameters()), list(discriminator.parameters())
    objective = TargetRegression(targets).objective(loss)
    found = torch.autograd.grad(objective, [*weights, *theirs], allow_unused=True, retain_graph=True)
    assert [gradient is None for gradient in found] == [False] * len(weights) + [True] * len(theirs)
    of_loss = torch.autograd.grad(loss.value, weights, retain_graph=True)
    agreement = measured_agreement(loss, TargetRegression(targets))
    lengths = [torch.cat([g.flatten() for g in gradients]).norm() for gradients in (found[: len(weights)], of_loss)]
    assert_close(agreement.ratio, (lengths[0] / lengths[1]).item(), rtol=1e-5, atol=0)
    assert 1 < agreement.angle < 179


def test_a_model_that_gives_no_real_images_is_told_so():
    for targets in (ImplicitMaximumLikelihood(), NearestRealImages()):
        with pytest.raises(SettingError, match=r"real must be given for targets that are real images, got None"):
            targets.find(loss_of(GENERATED, None))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"regression_rate": 0.0}, r"regression_rate must be above 0, got 0\.0"),
        ({"regression": "perceptual"}, r"perceptual must be given with regression 'perceptual'"),
    ],
)
def test_settings_out_of_range_are_refused_as_the_updates_own(settings, message):
    with pytest.raises(SettingError, match=message) as refusal:
        TargetRegression(NearestRealImages(), **settings)
    assert refusal.value.owner is TargetRegression


def test_images_too_small_for_ssim_are_refused():
    with pytest.raises(SettingError, match=r"must not be 'ssim' for images below 11 pixels.* got images of 8"):
        TargetRegression(NearestRealImages(), "ssim").check(1, 8)


def test_a_step_of_plain_descent_is_an_option():
    assert TargetRegression(NearestRealImages(), regression_optimizer="sgd").plain_descent
    assert not TargetRegression(NearestRealImages()).plain_descent


def test_checkpoints_may_hold_targets(tmp_path):
    for targets in (ImplicitMaximumLikelihood(), NearestRealImages()):
        update = TargetRegression(targets)
        torch.save(update, tmp_path / "update.pt")
        assert torch.load(tmp_path / "update.pt", weights_only=True) == update
