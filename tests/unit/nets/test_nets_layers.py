"""The batched first layer against K separate modules."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from gan_lightning.nets.layers import Affine, ParallelProjection

COPIES, LATENT, CHANNELS, SIZE, COUNT = 3, 7, 5, 4, 6


def separate_modules(batched: ParallelProjection) -> nn.ModuleList:
    """Return ConvTranspose2d + BatchNorm2d + ReLU per copy, with the batched layer's weights."""
    modules = nn.ModuleList()
    for copy in range(COPIES):
        convolution = nn.ConvTranspose2d(LATENT, CHANNELS, SIZE, stride=1, padding=0, bias=False)
        norm = nn.BatchNorm2d(CHANNELS)
        channels = slice(copy * CHANNELS, (copy + 1) * CHANNELS)
        with torch.no_grad():
            convolution.weight.copy_(batched.weight[copy].view(LATENT, CHANNELS, SIZE, SIZE))
            norm.weight.copy_(batched.norm.weight[channels])
            norm.bias.copy_(batched.norm.bias[channels])
        modules.append(nn.Sequential(convolution, norm, nn.ReLU()))
    return modules


def run_separately(modules: nn.ModuleList, latents: torch.Tensor) -> torch.Tensor:
    return torch.cat([module(z[:, :, None, None]) for module, z in zip(modules, latents, strict=True)])


@pytest.fixture
def layers():
    torch.manual_seed(0)
    batched = ParallelProjection(COPIES, LATENT, CHANNELS, SIZE)
    with torch.no_grad():  # away from the initial gains and biases, which would hide a mix-up between copies
        batched.norm.weight.uniform_(0.5, 1.5)
        batched.norm.bias.uniform_(-0.5, 0.5)
    return batched, separate_modules(batched)


def test_the_batched_layer_equals_separate_modules_in_output_and_gradients(layers):
    batched, separate = layers
    latents = torch.randn(COPIES, COUNT, LATENT, requires_grad=True)
    their_latents = latents.detach().clone().requires_grad_()
    out, expected = batched(latents), run_separately(separate, their_latents)
    assert_close(out, expected, rtol=1e-5, atol=1e-5)

    weights = torch.randn_like(out)
    (out * weights).sum().backward()
    (expected * weights).sum().backward()
    assert_close(latents.grad, their_latents.grad, rtol=1e-5, atol=1e-5)
    convolutions = torch.stack([module[0].weight.grad.flatten(1) for module in separate])
    assert_close(batched.weight.grad, convolutions, rtol=1e-5, atol=1e-5)
    for ours, theirs in ((batched.norm.weight, "weight"), (batched.norm.bias, "bias")):
        expected_gradient = torch.cat([getattr(module[1], theirs).grad for module in separate])
        assert_close(ours.grad, expected_gradient, rtol=1e-5, atol=1e-5)


def test_the_batched_layer_equals_separate_modules_in_eval_mode_after_training_steps(layers):
    batched, separate = layers
    optimizers = [torch.optim.SGD(module.parameters(), lr=0.1) for module in (batched, separate)]
    for _ in range(5):
        latents = torch.randn(COPIES, COUNT, LATENT)
        target = torch.randn(COPIES * COUNT, CHANNELS, SIZE, SIZE)
        for optimizer, out in zip(optimizers, (batched(latents), run_separately(separate, latents)), strict=True):
            optimizer.zero_grad()
            (out - target).square().mean().backward()
            optimizer.step()
    latents = torch.randn(COPIES, COUNT, LATENT)
    assert_close(batched.eval()(latents), run_separately(separate.eval(), latents), rtol=1e-5, atol=1e-5)


def test_each_copy_normalises_with_its_own_statistics(layers):
    batched, _ = layers
    latents = torch.randn(COPIES, COUNT, LATENT)
    alone = batched(latents)
    latents[1] *= 10  # another copy's latents must not matter
    assert_close(batched(latents)[:COUNT], alone[:COUNT])


def test_a_dark_pixel_in_bfloat16_survives_the_way_to_minus_one_and_back():
    dark = torch.tensor([1e-3, 0.3], dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        back = Affine(0.5, 0.5)(Affine(2.0, -1.0)(dark))
    assert_close(back, dark.detach().float(), rtol=1e-3, atol=0)
    back.sum().backward()
    assert_close(dark.grad.float(), torch.ones(2))
    for dtype in (torch.bfloat16, torch.float64):
        assert Affine(2.0, 0.0)(torch.ones(1, dtype=dtype)).dtype == dtype
