"""DCGAN's networks against PyTorch's tutorial, typed out again."""

import pytest
import torch
from lightning.pytorch import seed_everything
from torch import nn
from torch.testing import assert_close

from gan_lightning.errors import SettingError
from gan_lightning.papers import GAN, BiGAN, LatentRegressor, TutorialNetworks

TUTORIAL = TutorialNetworks()


def tutorial_generator(nz: int, ngf: int, nc: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(nz, ngf * 8, 4, 1, 0, bias=False), nn.BatchNorm2d(ngf * 8), nn.ReLU(True),
        nn.ConvTranspose2d(ngf * 8, ngf * 4, 4, 2, 1, bias=False), nn.BatchNorm2d(ngf * 4), nn.ReLU(True),
        nn.ConvTranspose2d(ngf * 4, ngf * 2, 4, 2, 1, bias=False), nn.BatchNorm2d(ngf * 2), nn.ReLU(True),
        nn.ConvTranspose2d(ngf * 2, ngf, 4, 2, 1, bias=False), nn.BatchNorm2d(ngf), nn.ReLU(True),
        nn.ConvTranspose2d(ngf, nc, 4, 2, 1, bias=False), nn.Tanh(),
    )  # fmt: skip


def tutorial_discriminator(nc: int, ndf: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(nc, ndf, 4, 2, 1, bias=False), nn.LeakyReLU(0.2),
        nn.Conv2d(ndf, ndf * 2, 4, 2, 1, bias=False), nn.BatchNorm2d(ndf * 2), nn.LeakyReLU(0.2),
        nn.Conv2d(ndf * 2, ndf * 4, 4, 2, 1, bias=False), nn.BatchNorm2d(ndf * 4), nn.LeakyReLU(0.2),
        nn.Conv2d(ndf * 4, ndf * 8, 4, 2, 1, bias=False), nn.BatchNorm2d(ndf * 8), nn.LeakyReLU(0.2),
        nn.Conv2d(ndf * 8, 1, 4, 1, 0, bias=False), nn.Sigmoid(),
    )  # fmt: skip


def copied(source: nn.Module, target: nn.Module) -> nn.Module:
    """Give a network another one's weights, in order; a last layer may have another shape with as many."""
    tensors = list(source.state_dict().values())
    with torch.no_grad():
        for own, other in zip(target.state_dict().values(), tensors, strict=True):
            own.copy_(other.reshape(own.shape))
    return target


@pytest.mark.parametrize("channels", [1, 3])
def test_the_generator_is_the_tutorials(channels):
    ours = TutorialNetworks(latent_dim=5, base_width=2).generator(channels, 64)
    theirs = copied(ours, tutorial_generator(5, 2, channels))
    latents = torch.randn(4, 5)
    assert_close(ours(latents), theirs(latents[:, :, None, None]))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_discriminator_is_the_tutorials_before_its_sigmoid(channels):
    ours = TutorialNetworks(base_width=2).discriminator(channels, 64)
    theirs = copied(ours, tutorial_discriminator(channels, 2))
    images = torch.rand(4, channels, 64, 64) * 2 - 1
    assert_close(torch.sigmoid(ours(images)).flatten(), theirs(images).flatten())


def test_sizes_and_parameter_counts_are_the_tutorials():
    count = lambda network: sum(p.numel() for p in network.parameters())  # noqa: E731
    assert count(TUTORIAL.generator(3, 64)) == count(tutorial_generator(100, 64, 3)) == 3_576_704
    assert count(TUTORIAL.discriminator(3, 64)) == count(tutorial_discriminator(3, 64)) == 2_765_568


def test_weights_start_as_the_tutorials():
    seed_everything(0)
    for network in (TUTORIAL.generator(3, 64), TUTORIAL.discriminator(3, 64)):
        for name, layer in network.named_modules():
            if isinstance(layer, nn.BatchNorm2d):
                assert_close(layer.weight.mean().item(), 1.0, rtol=0, atol=0.01, msg=name)
                assert_close(layer.weight.std().item(), 0.02, rtol=0.3, atol=0, msg=name)
                assert not layer.bias.any(), name
            elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                assert_close(layer.weight.std().item(), 0.02, rtol=0.1, atol=0, msg=name)


def test_the_discriminators_features_are_its_last_maps():
    model = GAN(3, 64, TutorialNetworks(base_width=2))
    assert model.extractors()["discriminator"](torch.zeros(3, 3, 64, 64)).shape == (3, 16 * 16)


@pytest.mark.parametrize("model", [BiGAN, LatentRegressor])
def test_a_model_with_an_encoder_is_refused(model):
    with pytest.raises(
        SettingError, match=r"must have an encoder for this model, got TutorialNetworks: .*ImageNetworks"
    ):
        model(3, 64, TUTORIAL)


def test_other_sizes_are_refused():
    with pytest.raises(SettingError, match=r"image_size must be at least 64, the size that TutorialNetworks"):
        GAN(3, 32, TUTORIAL)
    with pytest.raises(SettingError, match=r"base_width must be at least 1, got 0"):
        TutorialNetworks(base_width=0)
