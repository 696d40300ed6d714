"""The toy of Weber 2021, section 5: its gradients, its closed form, and what it can and cannot learn."""

import pytest
import torch
from torch.testing import assert_close

from gan_lightning.errors import SettingError
from gan_lightning.evaluation import picture_of
from gan_lightning.papers.subproblem.toy import (
    ToyGAN,
    augmented,
    closed_form,
    discriminator_gradient,
    features,
    inverse_points,
    logit_slopes,
    regression_gradient,
    toy_chart,
    train_toy,
)


def points(count: int = 7, dimensions: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, dimensions, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def bce(logits: torch.Tensor, label: float) -> torch.Tensor:
    y = torch.sigmoid(logits)
    return -label * y.log() - (1 - label) * (1 - y).log()


KINDS = pytest.mark.parametrize("kind", ["linear", "quadratic"])


def weights(kind: str) -> torch.Tensor:
    return points(1, {"linear": 3, "quadratic": 9}[kind])[0]


def written_out(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Return the logit of each point, as a sum over the weights in their order."""
    products = [x[:, i] * x[:, j] for i in range(3) for j in range(i, 3)]
    return sum(weight * value for weight, value in zip(w, [*x.T, *products], strict=False))


@KINDS
def test_the_discriminators_gradient_is_that_of_eq_17(kind):
    w, real, generated = weights(kind).requires_grad_(), points(seed=1), points(seed=2)
    loss = bce(written_out(real, w), 1.0).mean() + bce(written_out(generated, w), 0.0).mean()
    found = discriminator_gradient(w.detach(), features(real, kind), features(generated, kind))
    assert_close(found, torch.autograd.grad(loss, w)[0])


@KINDS
def test_the_logits_slope_is_its_gradient_at_each_point(kind):
    w, x = weights(kind), points(seed=2).requires_grad_()
    assert_close(logit_slopes(w, x.detach(), kind), torch.autograd.grad(written_out(x, w).sum(), x)[0])


def test_the_first_step_of_the_discriminator_is_along_the_difference_of_the_means():
    real, generated = points(seed=1) + 2, points(seed=2)
    gradient = discriminator_gradient(torch.zeros(3, dtype=torch.float64), real, generated)
    assert_close(-gradient, (real.mean(0) - generated.mean(0)) / 2)  # eq. 19 with α = β


@KINDS
def test_inverse_points_descend_on_each_points_own_loss_towards_real(kind):
    w, generated = weights(kind), points(seed=2).requires_grad_()
    expected = generated - 0.3 * torch.autograd.grad(bce(written_out(generated, w), 1.0).sum(), generated)[0]
    assert_close(inverse_points(w, generated.detach(), 0.3, kind), expected.detach())


@KINDS
def test_a_step_of_regression_is_a_step_of_the_gan(kind):
    """Eq. 13 again: ∇_B of the regression is η times ∇_B of the generator's loss."""
    b, w = points(3, 4, seed=3).requires_grad_(), weights(kind)
    latents = augmented(points(seed=4))
    loss = bce(written_out(latents @ b.T, w), 1.0).mean()
    generated = (latents @ b.T).detach()
    found = regression_gradient(latents, generated, inverse_points(w, generated, 0.3, kind))
    assert_close(found, 0.3 * torch.autograd.grad(loss, b)[0])


def test_before_a_linear_discriminator_the_generators_map_shrinks_along_w_and_along_w_alone():
    """(I - κ w wᵀ) A, up to the sampling of the points; across w nothing moves at all."""
    b, w, eta = points(3, 4, seed=3), points(1)[0], 0.3
    latents = augmented(points(200_000))
    generated = latents @ b.T
    moved = b - regression_gradient(latents, generated, inverse_points(w, generated, eta))
    labels = torch.sigmoid(generated @ w)
    shrunk = torch.eye(3, dtype=torch.float64) - eta * (labels * (1 - labels)).mean() * torch.outer(w, w)
    assert_close(moved[:, :3], shrunk @ b[:, :3], rtol=0, atol=5e-3)
    assert (shrunk - torch.eye(3)).norm() > 20 * 5e-3
    across = torch.linalg.svd(w[None])[2][1:]
    assert_close(across @ moved, across @ b)


def test_the_closed_form_is_the_least_squares_solution():
    latents, targets = augmented(points(20)), points(20, seed=5)
    b = closed_form(latents, targets)
    assert_close(b, torch.linalg.lstsq(latents, targets).solution.T)
    assert_close(regression_gradient(latents, latents @ b.T, targets), torch.zeros_like(b), rtol=0, atol=1e-12)


THREE = ToyGAN(
    mean=(1.0, -2.0, 0.5), covariance=((2.0, 0.5, 0.0), (0.5, 0.5, 0.1), (0.0, 0.1, 1.5)), steps=1500, points=500
)


@pytest.mark.parametrize(
    ("solver", "settings"), [("gradient", ToyGAN()), ("closed_form", THREE)], ids=["2 dimensions", "3 dimensions"]
)
def test_the_mean_converges_to_the_datas_and_the_covariance_does_not(solver, settings):
    history = train_toy(ToyGAN(**vars(settings) | {"solver": solver}))
    errors = history.errors()
    assert errors["mean"][0] == errors["covariance"][0] == 1
    assert errors["mean"][-200:].max() < 0.05
    assert errors["covariance"].min() > 0.75
    assert history.means.shape == (settings.steps + 1, len(settings.mean))


@pytest.mark.parametrize("solver", ["gradient", "closed_form"])
def test_before_a_quadratic_discriminator_the_covariance_converges_too(solver):
    rates = {"discriminator_rate": 0.03, "inversion_rate": 0.2}
    errors = train_toy(ToyGAN(discriminator="quadratic", solver=solver, **rates, steps=500, points=300)).errors()
    assert errors["mean"][-100:].max() < 0.05
    assert errors["covariance"][-100:].max() < 0.15


def test_the_history_is_of_the_generators_distribution():
    history = train_toy(ToyGAN(steps=50))
    assert_close(history.means[0], torch.zeros(2, dtype=torch.float64))
    assert_close(history.covariances[0], torch.eye(2, dtype=torch.float64))
    assert_close(history.covariances, history.covariances.mT)
    again = train_toy(ToyGAN(steps=50))
    assert torch.equal(again.means, history.means)
    assert not torch.equal(train_toy(ToyGAN(steps=50, seed=1)).means, history.means)


@pytest.mark.parametrize("solver", ["gradient", "closed_form"])
def test_the_chart_shows_the_datas_ellipse_and_both_distances(solver):
    history = train_toy(ToyGAN(steps=60, solver=solver))
    chart = toy_chart(history, ellipses=5)
    left, right = ({line.get_label(): line for line in axes.lines} for axes in chart.axes)
    away = torch.tensor(left["data"].get_xydata()) - torch.tensor([2.0, -1.0])
    inverse = torch.tensor([[1.0, 0.8], [0.8, 2.0]], dtype=torch.float64).inverse()
    assert_close(((away @ inverse) * away).sum(1), torch.ones_like(away[:, 0]))  # one standard deviation
    assert_close(torch.tensor(left["its mean, all steps"].get_xydata()), history.means)
    assert {"generated, step 0", "generated, step 60"} < left.keys()
    assert len(chart.axes[0].lines) == 6 + 2  # the start, five steps at equal ratios; path and data
    for line, (name, error) in zip(right.values(), history.errors().items(), strict=True):
        assert_close(torch.tensor(line.get_ydata()), error)
        assert line.get_label() == f"{name}, {error[-1]:.3f} at the end"
    assert chart.axes[1].get_yscale() == "log"
    picture = picture_of(chart)
    data = torch.tensor([200, 40, 40])[:, None, None] / 255
    red = (picture - data).abs().amax(0) < 0.1
    half = picture.shape[2] // 2
    assert red[:, :half].sum() > 100
    assert red[:, half:].sum() == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mean": (1.0,)}, r"covariance must be 1 rows of 1 values, as mean has 1, got \[2, 2\]"),
        ({"covariance": ((1.0, 2.0), (2.0, 1.0))}, r"covariance must be symmetric and positive definite"),
        ({"covariance": ((1.0, 0.5), (0.0, 1.0))}, r"covariance must be symmetric and positive definite"),
        ({"steps": 0}, r"steps must be at least 1, got 0"),
        ({"points": 2}, r"points must be at least 3, got 2"),
        ({"discriminator_rate": 0.0}, r"discriminator_rate must be above 0, got 0\.0"),
        ({"inversion_rate": -1.0}, r"inversion_rate must be above 0, got -1\.0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        ToyGAN(**settings)


@pytest.mark.parametrize("settings", [{"mean": (0.0, 0.0)}, {"covariance": ((1.0, 0.0), (0.0, 1.0))}])
def test_a_distance_that_is_0_at_the_start_is_shown_itself(settings):
    history = train_toy(ToyGAN(**settings, steps=20))
    name = next(iter(settings))
    found = history.errors()[name]
    assert found[0] == 0
    assert torch.isfinite(found).all()
    at, to = (history.means, torch.zeros(2)) if name == "mean" else (history.covariances, torch.eye(2))
    assert_close(found, (at - to).flatten(1).norm(dim=1))
    picture_of(toy_chart(history))


def test_a_chart_of_one_dimension_or_of_one_ellipse_is_refused():
    with pytest.raises(SettingError, match=r"mean must have two values or more for a chart, got 1"):
        toy_chart(train_toy(ToyGAN(mean=(1.0,), covariance=((2.0,),), steps=1)))
    with pytest.raises(SettingError, match=r"ellipses must be at least 2, got 1"):
        toy_chart(train_toy(ToyGAN(steps=1)), ellipses=1)
