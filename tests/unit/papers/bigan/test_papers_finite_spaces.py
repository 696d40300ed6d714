"""Donahue et al. 2017, section 3: each proposition and theorem, on spaces small enough to try everything."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from gan_lightning.errors import SettingError
from gan_lightning.papers.bigan.finite_spaces import (
    autoencoder_objective,
    deterministic,
    encoder_generator_objective,
    encoder_joint,
    functions,
    generator_joint,
    inverts,
    js_divergence,
    kl_divergence,
    objective,
    optimal_discriminator,
)

LOG4 = math.log(4)
SPACES = {  # p_X, p_Z
    "uniform": ([1 / 3] * 3, [1 / 3] * 3),
    "different probabilities": ([0.5, 0.3, 0.2], [0.2, 0.5, 0.3]),
    "an image that never occurs": ([0.6, 0.4, 0.0], [0.4, 0.6]),
    "a latent that never occurs": ([0.75, 0.25], [0.25, 0.0, 0.75]),
    "no optimum: more latents than images": ([0.5, 0.5], [0.25, 0.25, 0.5]),
    "no optimum: other probabilities": ([0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3]),
}


def probabilities(shape, seed, zeros=0.3):
    """Rows that sum to 1, some of whose entries are 0."""
    rng = torch.Generator().manual_seed(seed)
    weights = torch.rand(shape, generator=rng, dtype=torch.float64) + 1e-3
    kept = torch.rand(shape, generator=rng) > zeros
    kept[..., 0] |= ~kept.any(dim=-1)
    weights = weights * kept
    return weights / weights.sum(dim=-1, keepdim=True)


def stochastic_joints(images, latents, seed):
    p_ex = encoder_joint(probabilities(images, seed), probabilities((images, latents), seed + 1))
    p_gz = generator_joint(probabilities(latents, seed + 2), probabilities((latents, images), seed + 3))
    return p_ex, p_gz


def space(name):
    return tuple(torch.tensor(p, dtype=torch.float64) for p in SPACES[name])


def every_pair(p_x, p_z):
    for encode in functions(len(p_x), len(p_z)):
        p_ex = encoder_joint(p_x, deterministic(encode, len(p_z)))
        for generate in functions(len(p_z), len(p_x)):
            yield encode, generate, p_ex, generator_joint(p_z, deterministic(generate, len(p_x)))


quick = settings(max_examples=40, deadline=None)
sizes = st.integers(1, 5)
seeds = st.integers(0, 10**6)


@quick
@given(sizes, sizes, seeds)
def test_joints_are_distributions_whose_marginals_are_those_of_images_and_of_latents(images, latents, seed):
    p_x, p_z = probabilities(images, seed), probabilities(latents, seed + 2)
    p_ex, p_gz = stochastic_joints(images, latents, seed)
    assert_close(p_ex.sum(dim=1), p_x)
    assert_close(p_gz.sum(dim=0), p_z)


def test_the_objective_of_one_case_by_hand():
    p_ex = encoder_joint(torch.tensor([0.5, 0.5]).double(), deterministic([0, 1], 2))
    p_gz = generator_joint(torch.tensor([0.5, 0.5]).double(), deterministic([0, 0], 2))
    d = torch.tensor([[0.8, 0.3], [0.6, 0.9]]).double()
    by_hand = 0.5 * math.log(0.8) + 0.5 * math.log(0.9) + 0.5 * math.log(0.2) + 0.5 * math.log(0.7)
    assert objective(d, p_ex, p_gz).item() == pytest.approx(by_hand, rel=1e-7)
    assert optimal_discriminator(p_ex, p_gz).tolist() == [[0.5, 0], [0.5, 1]]


@quick
@given(sizes, sizes, seeds)
def test_proposition_1_no_discriminator_does_better_than_the_optimal_one(images, latents, seed):
    p_ex, p_gz = stochastic_joints(images, latents, seed)
    best = optimal_discriminator(p_ex, p_gz)
    value = objective(best, p_ex, p_gz)
    rng = torch.Generator().manual_seed(seed)
    for size in (1e-3, 0.1, 1.0):
        other = best + size * (2 * torch.rand(best.shape, generator=rng, dtype=torch.float64) - 1)
        assert objective(other.clamp(0, 1), p_ex, p_gz) <= value + 1e-12
    assert best.min() >= 0
    assert best.max() <= 1


@quick
@given(sizes, sizes, seeds)
def test_proposition_2_the_objective_is_twice_the_jensen_shannon_divergence_less_log_4(images, latents, seed):
    p_ex, p_gz = stochastic_joints(images, latents, seed)
    assert_close(encoder_generator_objective(p_ex, p_gz), 2 * js_divergence(p_ex, p_gz) - LOG4, atol=1e-12, rtol=0)


@quick
@given(sizes, sizes, seeds)
def test_theorem_1_stochastic_joints_reach_the_minimum_when_they_are_equal_and_only_then(images, latents, seed):
    p_ex, p_gz = stochastic_joints(images, latents, seed)
    value = encoder_generator_objective(p_ex, p_gz)
    assert value >= -LOG4 - 1e-12
    # By Pinsker's inequality, what is near the minimum has joints that are nearly equal.
    assert (p_ex - p_gz).abs().sum() ** 2 <= 4 * (value + LOG4) + 1e-12
    # E = p_X p_G / p_Z, Bayes' rule, inverts a stochastic generator.
    posterior = p_gz / p_gz.sum(dim=1, keepdim=True).clamp(min=1e-300)
    matched = encoder_joint(p_gz.sum(dim=1), posterior)
    assert_close(encoder_generator_objective(matched, p_gz).item(), -LOG4)
    assert_close(optimal_discriminator(matched, p_gz)[p_gz > 0], torch.full_like(p_gz, 0.5)[p_gz > 0])


@pytest.mark.parametrize("name", SPACES)
def test_theorems_1_and_2_of_all_functions_the_optimal_ones_are_each_others_inverse(name):
    p_x, p_z = space(name)
    optima = 0
    for encode, generate, p_ex, p_gz in every_pair(p_x, p_z):
        value = encoder_generator_objective(p_ex, p_gz).item()
        assert value >= -LOG4 - 1e-12
        optimal = abs(value + LOG4) < 1e-9
        assert optimal == bool((p_ex - p_gz).abs().max() < 1e-12)
        if optimal:
            optima += 1
            assert inverts(encode, generate, p_x)
            assert inverts(generate, encode, p_z)
    assert (optima == 0) == name.startswith("no optimum")


def test_inverting_each_other_is_not_enough_where_the_probabilities_differ():
    p_x, p_z = space("no optimum: other probabilities")
    p_ex = encoder_joint(p_x, deterministic([0, 1, 2], 3))
    p_gz = generator_joint(p_z, deterministic([0, 1, 2], 3))
    assert inverts([0, 1, 2], [0, 1, 2], p_x)
    assert encoder_generator_objective(p_ex, p_gz) > -LOG4 + 1e-3


@pytest.mark.parametrize("name", SPACES)
def test_theorem_3_the_objective_is_an_l0_autoencoder_loss(name):
    p_x, p_z = space(name)
    for encode, generate, p_ex, p_gz in every_pair(p_x, p_z):
        expected = encoder_generator_objective(p_ex, p_gz)
        assert_close(autoencoder_objective(p_x, p_z, encode, generate), expected, atol=1e-12, rtol=0)


def test_pairs_that_invert_nowhere_have_the_largest_objective_zero():
    p_x, p_z = space("uniform")
    never = [
        encoder_generator_objective(p_ex, p_gz).item()
        for encode, generate, p_ex, p_gz in every_pair(p_x, p_z)
        if not any(generate[z] == x for x, z in enumerate(encode))
    ]
    assert never
    assert never == pytest.approx([0.0] * len(never), abs=1e-12)


@quick
@given(seeds)
def test_divergences_are_those_of_their_definitions(seed):
    p, q = probabilities((2, 3), seed, zeros=0).div(2), probabilities((2, 3), seed + 1, zeros=0).div(2)
    by_hand = sum(a * math.log(a / b) for a, b in zip(p.flatten().tolist(), q.flatten().tolist(), strict=True))
    assert kl_divergence(p, q).item() == pytest.approx(by_hand)
    assert 0 <= js_divergence(p, q) <= math.log(2)
    assert_close(js_divergence(p, q), js_divergence(q, p))
    assert kl_divergence(torch.tensor([[0.5, 0.5]]).double(), torch.tensor([[1.0, 0.0]]).double()) == math.inf


def test_a_value_that_is_no_outcome_is_refused():
    with pytest.raises(SettingError, match=r"values must be from 0 to 1, got \[0, 2\]"):
        deterministic([0, 2], 2)
