"""Liu 2018, Theorem 2, for D2's game with two kinds of fakes: each E and G of small spaces."""

import pytest
import torch

from gan_lightning.papers.bigan.finite_spaces import (
    deterministic,
    encoder_joint,
    functions,
    generator_joint,
    inverts,
    js_divergence,
)

SPACES = {"fewer latents": ([0.5, 0.3, 0.2], 2), "as many": ([0.5, 0.3, 0.2], 3), "more": ([0.75, 0.25], 3)}


def distance(p_x, encode, generate):
    """D2's game at its best D2: D_JS of the real pairs from both kinds of fakes, one half each (section 3.3.1)."""
    latents = len(generate)
    real = encoder_joint(p_x, deterministic(encode, latents))
    of_images, of_codes = torch.zeros_like(real), torch.zeros_like(real)
    for x, z in enumerate(encode):
        of_images[generate[z], z] += p_x[x]
        of_codes[x, encode[generate[z]]] += p_x[x]
    return js_divergence(real, (of_images + of_codes) / 2)


def every_pair(name):
    p_x, latents = torch.tensor(SPACES[name][0], dtype=torch.float64), SPACES[name][1]
    for encode in functions(len(p_x), latents):
        for generate in functions(latents, len(p_x)):
            yield p_x, encode, generate, distance(p_x, encode, generate).item()


@pytest.mark.parametrize("name", SPACES)
def test_no_pair_can_be_told_from_a_real_one_where_images_come_back_and_only_there(name):
    optima = 0
    for p_x, encode, generate, value in every_pair(name):
        assert (value < 1e-12) == bool(inverts(encode, generate, p_x))
        if value < 1e-12:
            optima += 1
            assert all(encode[generate[z]] == z for z in encode)
    assert (optima > 0) == (name != "fewer latents")


def test_latents_that_are_no_codes_need_not_come_back():
    # With more latents than images one of them is no code. D1 cannot forbid it, either: it judges images alone.
    optima = [(encode, generate) for _, encode, generate, value in every_pair("more") if value < 1e-12]
    p_z = torch.full((3,), 1 / 3)
    assert optima
    assert not any(inverts(generate, encode, p_z) for encode, generate in optima)


def test_an_encoder_that_gives_one_code_to_all_images_costs_little():
    # Half of the fakes are then real pairs. In BiGAN's game every latent is a fake's, and most are never a code.
    p_x = p_z = torch.full((3,), 1 / 3, dtype=torch.float64)
    constant = encoder_joint(p_x, deterministic([0, 0, 0], 3))
    of_bigan = min(
        js_divergence(constant, generator_joint(p_z, deterministic(generate, 3))).item() for generate in functions(3, 3)
    )
    assert distance(p_x, [0, 0, 0], [0, 1, 2]).item() == pytest.approx(0.056633, rel=1e-4)
    assert of_bigan > 0.4
