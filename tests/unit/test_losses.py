"""The losses against the papers' formulas, retyped in numpy with float64 probabilities."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from gan_lightning import losses

logit_lists = st.lists(st.floats(-15, 15), min_size=1, max_size=8)


def sigmoid(logits):
    return 1 / (1 + np.exp(-np.asarray(logits, dtype=np.float64)))


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def double(values):
    return torch.tensor(values, dtype=torch.float64)


@given(real=logit_lists, fake=logit_lists)
def test_discriminator_loss_is_equation_1(real, fake):
    expected = -np.log(sigmoid(real)).mean() - np.log(1 - sigmoid(fake)).mean()
    assert_close(losses.discriminator_loss(double(real), double(fake)), double(expected), rtol=1e-7, atol=1e-9)


@given(fake=logit_lists)
def test_generator_loss_is_minus_log_d_of_the_fakes(fake):
    assert_close(losses.generator_loss(double(fake)), double(-np.log(sigmoid(fake)).mean()))


def test_a_discriminator_that_cannot_tell_loses_two_log_two():
    zeros = torch.zeros(5)
    assert_close(losses.discriminator_loss(zeros, zeros), torch.tensor(2 * np.log(2.0), dtype=torch.float32))


@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_losses_of_extreme_logits_are_finite(logit):
    logits = torch.tensor([logit])
    assert torch.isfinite(losses.discriminator_loss(logits, logits))
    assert torch.isfinite(losses.generator_loss(logits))


def test_the_generator_loss_does_not_saturate_where_d_rejects():
    fake = torch.tensor([-20.0], requires_grad=True)
    losses.generator_loss(fake).backward()
    assert_close(fake.grad, torch.tensor([-1.0]))


def test_classification_loss_is_the_last_term_of_equation_16():
    generators, per_generator = 3, 4
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(generators * per_generator, generators))
    made_by = np.repeat(np.arange(generators), per_generator)
    probabilities = softmax(logits)
    expected = -sum(
        np.mean([np.log(probabilities[n, i]) for n in range(len(logits)) if made_by[n] == i]) / generators
        for i in range(generators)
    )
    assert_close(losses.classification_loss(double(logits), torch.tensor(made_by)), double(expected))


@pytest.mark.parametrize("class_weight", [0.0, 0.02, 1.5])
def test_the_mixture_loss_adds_the_class_term_with_its_weight(class_weight):
    rng = np.random.default_rng(1)
    fake, logits, made_by = rng.normal(size=6), rng.normal(size=(6, 3)), np.array([0, 0, 1, 1, 2, 2])
    expected = -np.log(sigmoid(fake)).mean() - class_weight * np.log(softmax(logits)[np.arange(6), made_by]).mean()
    loss = losses.mixture_generator_loss(double(fake), double(logits), torch.tensor(made_by), class_weight)
    assert_close(loss, double(expected))


@given(real=logit_lists, fake=logit_lists)
def test_the_inverse_objective_is_that_of_appendix_b(real, fake):
    inverse = np.log(1 - sigmoid(real)).mean() + np.log(sigmoid(fake)).mean()
    assert_close(losses.inverse_objective_loss(double(real), double(fake)), double(-inverse), rtol=1e-7, atol=1e-9)


@given(real=logit_lists, fake=logit_lists)
def test_the_original_objective_is_equation_3(real, fake):
    value = np.log(sigmoid(real)).mean() + np.log(1 - sigmoid(fake)).mean()
    assert_close(losses.original_objective_loss(double(real), double(fake)), double(value), rtol=1e-7, atol=1e-9)


def test_where_d_is_sure_the_inverse_objective_has_a_gradient_and_the_original_one_has_none():
    for objective, expected in ((losses.inverse_objective_loss, 1.0), (losses.original_objective_loss, 0.0)):
        real, fake = torch.tensor([20.0], requires_grad=True), torch.tensor([-20.0], requires_grad=True)
        objective(real, fake).backward()
        assert_close(torch.cat([real.grad, -fake.grad]), torch.full((2,), expected), rtol=0, atol=1e-6)


def test_the_latent_loss_is_the_cross_entropy_averaged_over_dimensions():
    rng = np.random.default_rng(0)
    logits, latents = rng.normal(size=(5, 7)) * 3, rng.uniform(-1, 1, size=(5, 7))
    target, p = (latents + 1) / 2, sigmoid(logits)
    expected = -(target * np.log(p) + (1 - target) * np.log(1 - p)).mean()
    assert_close(losses.latent_loss(double(logits), double(latents)), double(expected))


def test_the_latent_loss_is_least_where_the_latents_are_found_again():
    latents = double(np.random.default_rng(0).uniform(-0.99, 0.99, size=(3, 4)))
    found = (2 * torch.atanh(latents)).requires_grad_()  # 2 sigmoid(2 atanh z) - 1 = z
    losses.latent_loss(found, latents).backward()
    assert_close(found.grad, torch.zeros_like(latents), rtol=0, atol=1e-15)


@pytest.mark.parametrize("norm", [1, 2])
def test_the_reconstruction_loss_sums_over_an_image_and_averages_over_images(norm):
    rng = np.random.default_rng(0)
    images, reconstructed = rng.uniform(-1, 1, size=(2, 3, 2, 4, 4))
    expected = np.mean(
        [np.linalg.norm((x - y).ravel(), norm) ** norm for x, y in zip(images, reconstructed, strict=True)]
    )
    assert_close(losses.reconstruction_loss(double(images), double(reconstructed), norm), double(expected))


def test_the_matching_loss_is_0_for_the_moments_of_n_0_1_and_positive_elsewhere():
    mean, variance = torch.zeros(7), torch.ones(7)
    for reduction in ("mean", "sum"):
        assert losses.matching_loss(mean, variance, reduction) == 0
        assert losses.matching_loss(mean + 0.1, variance, reduction) > 0
        assert losses.matching_loss(mean, variance * 1.1, reduction) > 0
        assert losses.matching_loss(mean, variance * 0.9, reduction) > 0


def test_the_matching_loss_by_hand_as_a_sum_and_as_a_mean():
    mean, variance = double([1.0, 0.0]), double([1.0, 4.0])
    # (1 + 1 - 1) / 2 - log 1 = 0.5 and (4 + 0 - 1) / 2 - log 2 = 1.5 - 0.693147
    assert_close(losses.matching_loss(mean, variance, "sum"), double(1.306853), rtol=0, atol=1e-6)
    assert_close(losses.matching_loss(mean, variance, "mean"), double(0.653426), rtol=0, atol=1e-6)


@given(mean=st.lists(st.floats(-2, 2), min_size=1, max_size=3), variance=st.floats(0.05, 4))
def test_the_matching_loss_is_the_divergence_by_numerical_integration(mean, variance):
    x = np.linspace(-20, 20, 40001)
    divergences = []
    for mu in mean:
        log_p = -0.5 * np.log(2 * np.pi * variance) - (x - mu) ** 2 / (2 * variance)
        log_q = -0.5 * np.log(2 * np.pi) - x**2 / 2
        divergences.append(np.trapezoid(np.exp(log_p) * (log_p - log_q), x))
    moments = double(mean), torch.full((len(mean),), variance, dtype=torch.float64)
    for reduction, expected in (("mean", np.mean(divergences)), ("sum", np.sum(divergences))):
        assert_close(losses.matching_loss(*moments, reduction), double(expected), rtol=1e-6, atol=1e-8)
