"""The networks of Donahue et al. 2017, appendix C, row by row and weight by weight."""

import itertools
from dataclasses import dataclass

import pytest
import torch
from lightning.pytorch import seed_everything
from torch import nn
from torch.testing import assert_close

from gan_lightning.errors import SettingError
from gan_lightning.nets.layers import JointDiscriminator
from gan_lightning.papers import BiGAN, ImageNetworks, PermutationInvariantNetworks


def shapes_through(stages: nn.Sequential, x: torch.Tensor) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for name, stage in stages.eval().named_children():
        x = stage(x)
        shapes[name] = tuple(x.shape[1:])
    return shapes


def rows(network: nn.Sequential) -> dict[str, tuple]:
    """Return (layer, has bias, batch norm's affine or None, nonlinearity) per row with weights."""
    table = {}
    for name, row in network.named_children():
        if isinstance(row, nn.Sequential):
            norm = next((m for m in row if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)), None)
            last = row[-1] if len(row) > 1 else None
            nonlinearity = None if last is None or last is norm else repr(last)
            table[name] = (type(row[0]).__name__, row[0].bias is not None, norm and norm.affine, nonlinearity)
    return table


def count(*modules: nn.Module) -> int:
    return sum(p.numel() for m in modules for p in m.parameters())


MLP = PermutationInvariantNetworks()
IMAGES = ImageNetworks()


def test_the_perceptrons_rows_are_those_of_appendix_c_1():
    leaky, relu = "LeakyReLU(negative_slope=0.2)", "ReLU()"
    assert rows(MLP.generator(1, 28)) == {
        "hidden1": ("Linear", False, None, relu),
        "hidden2": ("Linear", False, False, relu),
        "pixels": ("Linear", False, None, "Sigmoid()"),
    }
    expected = {
        "hidden1": ("Linear", False, None, leaky),
        "hidden2": ("Linear", False, False, leaky),
        "output": ("Linear", False, None, None),
    }
    assert rows(MLP.encoder(1, 28)) == rows(MLP.discriminator(1, 28)) == expected


def test_the_perceptrons_sizes_and_parameter_counts_are_those_of_appendix_c_1():
    hidden = 784 * 1024 + 1024 * 1024
    assert shapes_through(MLP.encoder(1, 28), torch.zeros(2, 1, 28, 28)) == {
        "unsigned": (1, 28, 28), "flatten": (784,), "hidden1": (1024,), "hidden2": (1024,), "output": (50,),
    }  # fmt: skip
    assert shapes_through(MLP.generator(1, 28), torch.zeros(2, 50))["signed"] == (1, 28, 28)
    assert count(MLP.generator(1, 28)) == count(MLP.encoder(1, 28)) == hidden + 50 * 1024
    assert count(MLP.discriminator(1, 28)) == hidden + 1024
    assert count(MLP.joint_discriminator(1, 28)) == hidden + 1024 + 50 * 1024 + 50
    assert count(PermutationInvariantNetworks(latents_enter=("hidden2",)).joint_discriminator(1, 28)) == (
        hidden + 1024 + 50 * 1024
    )


def test_the_generator_of_the_authors_code_is_the_formula_written_out():
    torch.manual_seed(0)
    networks = PermutationInvariantNetworks(3, 8, latents_enter_generator=("hidden2",), first_norm=True)
    generator, z = networks.generator(1, 4), torch.rand(6, 3) * 2 - 1

    def normal(x):
        return (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt()

    w1, w2, w3 = (generator.rows.get_submodule(name)[0].weight for name in ("hidden1", "hidden2", "pixels"))
    hidden = normal(z @ w1.T).relu()
    hidden = normal(hidden @ w2.T + z @ generator.latent_maps["hidden2"].weight.T).relu()
    assert_close(generator(z), 2 * torch.sigmoid(hidden @ w3.T).view(6, 1, 4, 4) - 1)


def test_an_output_of_zeros_calls_every_pair_real_with_one_half():
    discriminator = PermutationInvariantNetworks(3, 8, ("hidden2",), zero_output=True).joint_discriminator(1, 4)
    assert discriminator(torch.randn(5, 1, 4, 4), torch.randn(5, 3)).tolist() == [0.0] * 5


def test_the_perceptrons_see_pixels_from_0_to_1_and_the_rest_of_the_package_from_minus_1_to_1():
    encoder, generator = MLP.encoder(1, 28), MLP.generator(1, 28).eval()
    assert_close(encoder.unsigned(torch.tensor([-1.0, 0.0, 1.0])), torch.tensor([0.0, 0.5, 1.0]))
    with torch.no_grad():
        generator.pixels[0].weight.mul_(1e4)
        images = generator(torch.rand(8, 50))
    assert (images.min().item(), images.max().item()) == (-1, 1)


@pytest.mark.parametrize("size", [64, 112])
def test_alexnets_maps_are_those_of_its_first_five_convolutions(size):
    first, second, third = {64: (16, 8, 4), 112: (28, 14, 7)}[size]
    assert shapes_through(IMAGES.encoder(3, size), torch.zeros(2, 3, size, size)) == {
        "conv1": (96, first, first), "pool1": (96, second, second),
        "conv2": (256, second, second), "pool2": (256, third, third),
        "conv3": (384, third, third), "conv4": (384, third, third), "conv5": (256, third, third),
        "flatten": (256 * third**2,), "output": (200,),
    }  # fmt: skip


def test_alexnet_has_batch_norm_with_gain_and_bias_and_leaky_relu_after_each_convolution():
    encoder = IMAGES.encoder(3, 64)
    row = ("Conv2d", False, True, "LeakyReLU(negative_slope=0.2)")
    convolutions = {f"conv{n}": row for n in range(1, 6)}
    assert rows(encoder) == convolutions | {"output": ("Linear", False, None, None)}
    layers = [encoder.get_submodule(name)[0] for name in convolutions]
    kernels = [(layer.kernel_size[0], layer.groups) for layer in layers]
    assert kernels == [(11, 1), (5, 2), (3, 1), (3, 2), (3, 2)]
    weights = 3 * 96 * 121 + 48 * 256 * 25 + 256 * 384 * 9 + 192 * 384 * 9 + 192 * 256 * 9
    assert count(encoder) == weights + 2 * (96 + 256 + 384 + 384 + 256) + 256 * 16 * 200


def test_the_image_generator_and_discriminator_are_dcgans():
    generator, discriminator = IMAGES.generator(3, 64), IMAGES.discriminator(3, 64)
    assert shapes_through(generator, torch.zeros(2, 200)) == {
        "projection": (512 * 16,), "unflatten": (512, 4, 4),
        "deconv1": (256, 8, 8), "deconv2": (128, 16, 16), "deconv3": (64, 32, 32), "deconv4": (3, 64, 64),
    }  # fmt: skip
    assert shapes_through(discriminator, torch.zeros(2, 3, 64, 64)) == {
        "conv1": (64, 32, 32), "conv2": (128, 16, 16), "conv3": (256, 8, 8), "conv4": (512, 4, 4),
        "flatten": (512 * 16,), "output": (1,),
    }  # fmt: skip
    leaky = "LeakyReLU(negative_slope=0.2)"
    assert rows(discriminator) == {
        "conv1": ("Conv2d", False, None, leaky),
        **{f"conv{n}": ("Conv2d", False, True, leaky) for n in (2, 3, 4)},
        "output": ("Linear", False, None, None),
    }
    assert rows(generator) == {
        "projection": ("Linear", False, True, "ReLU()"),
        **{f"deconv{n}": ("ConvTranspose2d", False, True, "ReLU()") for n in (1, 2, 3)},
        "deconv4": ("ConvTranspose2d", False, None, "Tanh()"),
    }
    for network in (generator, discriminator):
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                assert (layer.kernel_size, layer.stride, layer.padding) == ((5, 5), (2, 2), (2, 2))
    convolutions = (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512) * 25
    norms = 2 * (128 + 256 + 512)
    assert count(discriminator) == convolutions + norms + 512 * 16
    assert count(IMAGES.joint_discriminator(3, 64)) == count(discriminator) + 200 * (128 + 256 + 512 + 1)
    assert count(generator) == 200 * 8192 + 2 * 8192 + convolutions + 2 * (256 + 128 + 64)


def test_the_discriminator_baseline_is_the_encoders_alexnet():
    baseline = ImageNetworks(alexnet_discriminator=True).discriminator(3, 64)
    assert rows(baseline) == rows(IMAGES.encoder(3, 64))
    assert shapes_through(baseline, torch.zeros(2, 3, 64, 64))["output"] == (1,)


def test_weights_start_at_0_02_and_those_of_the_latents_in_convolutions_at_25_times_that():
    seed_everything(0)
    for networks, size in ((MLP, 28), (IMAGES, 64)):
        model = BiGAN(3, size, networks)
        for name, parameter in model.named_parameters():
            scaled = "latent_maps.conv" in name
            if parameter.ndim > 1:
                # 50 weights, the fewest, are known to a tenth
                assert_close(parameter.std().item(), 0.5 if scaled else 0.02, rtol=0.35, atol=0, msg=name)
            elif name.endswith("weight"):
                assert_close(parameter, torch.ones_like(parameter))
            else:
                assert_close(parameter, torch.zeros_like(parameter))
        maps = model.discriminator.latent_maps
        assert set(maps) == set(networks.latents_enter)
        assert all(layer.bias is None for layer in maps.values())


def test_the_joint_perceptron_is_the_formula_written_out():
    torch.manual_seed(0)
    network = PermutationInvariantNetworks(latent_dim=3, width=6).joint_discriminator(1, 4).double()
    images, latents = torch.rand(5, 1, 4, 4).double() * 2 - 1, torch.rand(5, 3).double() * 2 - 1
    w = dict(network.named_parameters())
    leaky = lambda t: torch.where(t > 0, t, 0.2 * t)  # noqa: E731
    hidden1 = leaky(((images + 1) / 2).reshape(5, 16) @ w["rows.hidden1.0.weight"].T)
    sums = hidden1 @ w["rows.hidden2.0.weight"].T + latents @ w["latent_maps.hidden2.weight"].T
    hidden2 = leaky((sums - sums.mean(0)) / (sums.var(0, unbiased=False) + 1e-5).sqrt())
    output = hidden2 @ w["rows.output.0.weight"].T + latents @ w["latent_maps.output.weight"].T
    assert_close(network(images, latents), output.squeeze(1))


@pytest.mark.parametrize("row", ["conv1", "conv2", "conv3", "conv4", "output"])
def test_latents_enter_the_image_discriminator_at_the_rows_that_are_named(row):
    torch.manual_seed(0)
    network = ImageNetworks(latent_dim=3, base_width=2, latents_enter=(row,)).joint_discriminator(1, 64).eval()
    images, (some, other) = torch.rand(2, 1, 64, 64), torch.randn(2, 2, 3)
    seen = {}
    for name, part in network.rows.named_children():
        part.register_forward_hook(lambda m, i, o, name=name: seen.setdefault(name, []).append(o))
        if isinstance(part, nn.Sequential):
            part[0].register_forward_hook(lambda m, i, o, name=name: seen.setdefault(f"{name} in", []).append(o))
    assert not torch.equal(network(images, some), network(images, other))
    first_changed = next(
        name for name in ("conv1 in", "conv2 in", "conv3 in", "conv4 in", "output in", "end")
        if name == "end" or not torch.equal(*seen[name])
    )  # fmt: skip
    # What the row's own layer gives is the same; what the next row's layer gives is not.
    names = ["conv1 in", "conv2 in", "conv3 in", "conv4 in", "output in", "end"]
    assert first_changed == names[names.index(f"{row} in") + 1]


def test_latents_are_added_before_batch_norm():
    network = ImageNetworks(latent_dim=3, base_width=2, latents_enter=("conv2",)).joint_discriminator(1, 64)
    got = []
    network.rows.conv2[1].register_forward_pre_hook(lambda m, args: got.append(args[0]))
    images, latents = torch.rand(4, 1, 64, 64), torch.randn(4, 3)
    network(images, latents)
    bare = network.rows.conv2[0](network.rows.conv1(images))
    assert_close(got[0], bare + network.latent_maps["conv2"](latents)[:, :, None, None])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PermutationInvariantNetworks(width=0), r"width must be at least 1, got 0"),
        (lambda: PermutationInvariantNetworks(latent_dim=0), r"latent_dim must be at least 1, got 0"),
        (lambda: PermutationInvariantNetworks(latents_enter=("conv2",)), r"name rows of hidden1, .*got \['conv2'\]"),
        (lambda: ImageNetworks(latents_enter=()), r"latents_enter must name rows of conv1, .*got \[\].*never sees z"),
        (
            lambda: PermutationInvariantNetworks(latents_enter_generator=("output",)),
            r"latents_enter_generator must name rows of hidden2, pixels, got \['output'\]\. Or name none",
        ),
        (lambda: ImageNetworks(base_width=0), r"base_width must be at least 1, got 0"),
        (lambda: ImageNetworks(encoder_width=32), r"encoder_width must be a multiple of 6 .*got 32\. Use 30 or 36"),
    ],
)  # fmt: skip
def test_settings_that_the_tables_cannot_take_are_refused(make, message):
    with pytest.raises(SettingError, match=message):
        make()


@dataclass(frozen=True)
class Misfits(PermutationInvariantNetworks):
    """Networks whose latents differ in one place."""

    width: int = 4
    which: str = ""

    def _with_other_latents(self, network: str) -> PermutationInvariantNetworks:
        return PermutationInvariantNetworks(self.latent_dim + (network == self.which), self.width)

    def generator(self, channels: int, size: int) -> nn.Sequential:
        return self._with_other_latents("generator").generator(channels, size)

    def encoder(self, channels: int, size: int) -> nn.Sequential:
        return self._with_other_latents("encoder").encoder(channels, size)

    def joint_discriminator(self, channels: int, size: int) -> JointDiscriminator:
        return self._with_other_latents("discriminator").joint_discriminator(channels, size)


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("generator", r"networks must fit each other, but the generator cannot take \(50,\)"),
        ("encoder", r"networks must fit each other, but the encoder gives \(51,\), not \(50,\)"),
        ("discriminator", r"but the discriminator cannot take \(1, 8, 8\) and \(50,\)"),
    ],
)
def test_networks_whose_latents_differ_are_refused(which, message):
    BiGAN(1, 8, Misfits())
    with pytest.raises(SettingError, match=rf"{message}.*length latent_dim, 50"):
        BiGAN(1, 8, Misfits(which=which))


def test_the_same_settings_are_the_same_networks():
    both = (PermutationInvariantNetworks(), PermutationInvariantNetworks(width=3), ImageNetworks())
    for (i, a), (j, b) in itertools.product(enumerate(both), repeat=2):
        assert (a == b) == (i == j)
