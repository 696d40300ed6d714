import pytest
import torch
from torch import nn
from torch.testing import assert_close

from gan_lightning.evaluation import TensorImages
from gan_lightning.measurements import Bench
from gan_lightning.measurements.filters import Filters, image_filters, in_order
from gan_lightning.nets.resizing import resized
from gan_lightning.papers import MGAN, BiGAN, PermutationInvariantNetworks


def data(channels: int = 1, size: int = 8) -> TensorImages:
    images = torch.rand(8, channels, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    labels = torch.zeros(8, dtype=torch.int64)
    return TensorImages("noise", train=(images, labels), test=(images, labels), num_classes=1, batch_size=4)


def drawn(model: nn.Module, images: TensorImages | None = None) -> dict[str, str]:
    """Return which layer each picture is of."""
    outcome = Bench.of_model(model, images or data()).measure(Filters())
    assert outcome.pictures.keys() == outcome.details["layers"].keys()
    assert not outcome.figures
    return dict(outcome.details["layers"])


class Own(nn.Module):
    """A user's GAN of 8x8 images, whose hidden layers have as many units as images have pixels."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        conv = nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 64)
        self.discriminator, self.head, self.to_z = nn.Sequential(*conv), nn.Linear(64, 64), nn.Linear(64, 5)
        grow = nn.Linear(5, 64), nn.ReLU(), nn.Unflatten(1, (4, 4, 4)), nn.ConvTranspose2d(4, 1, 4, 2, 1), nn.Tanh()
        self.generators = nn.ModuleList([nn.Sequential(*grow), nn.Sequential(nn.Linear(5, 64), nn.Sigmoid())])
        self.unused = nn.Conv2d(1, 3, 3)

    def extractors(self) -> dict[str, nn.Module]:
        return {"all": nn.Sequential(self.discriminator, self.head, self.to_z)}

    def generate(self, count: int, rng: torch.Generator | None = None) -> torch.Tensor:
        latents = torch.randn(count, 5, generator=rng)
        second = 2 * self.generators[1](latents).unflatten(1, (1, 8, 8)) - 1
        return torch.stack([self.generators[0](latents), second])


def test_layers_that_only_have_as_many_units_as_images_have_pixels_are_not_drawn():
    assert drawn(Own()) == {
        "discriminator": "0, which sees images",
        "generators-0": "3, which makes images",
        "generators-1": "0, which makes images",
    }


def test_the_networks_of_the_papers_are_drawn_where_they_touch_images():
    torch.manual_seed(0)
    mgan = MGAN(1, 32, base_width=4, feature_dim=8, generators=2, fake_batch_size=4)
    assert drawn(mgan, data(size=32)) == {
        "generator_trunk": "deconv4.0, which makes images",
        "discriminator": "conv1.0, which sees images",
        "classifier": "conv1.0, which sees images",
    }
    # Pixels become [0, 1] before the first linear layer, and [-1, 1] again after a sigmoid.
    assert drawn(BiGAN(1, 8, PermutationInvariantNetworks(latent_dim=6, width=64))) == {
        "generator": "pixels.0, which makes images",
        "encoder": "hidden1.0, which sees images",
        "discriminator": "rows.hidden1.0, which sees images",
    }


class Autoencoder(nn.Module):
    """Encoder and generator in one piece; E sees images of half the size."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(48, 6))
        self.net = nn.ModuleDict({"e": encoder, "g": nn.Conv2d(6, 3, 1)})
        self.both = nn.Sequential()
        self.both.add_module("first", encoder)
        self.both.add_module("last", self.net["g"])

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        half = resized(images.float(), 4).to(images)
        return self.net["e"](half)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        rng = torch.Generator().manual_seed(0)
        maps = latents[:, :, None, None] * torch.rand(6, 8, 8, generator=rng).to(latents)
        return self.net["g"](maps).tanh_()

    def sample_latents(self, count: int, rng: torch.Generator | None = None) -> torch.Tensor:
        return torch.randn(count, 6, generator=rng)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_encoders_that_resize_and_networks_that_see_and_make_images_are_drawn(dtype):
    assert drawn(Autoencoder().to(dtype), data(3)) == {
        "net-e": "1, which sees images",
        "net-g": "Conv2d, which makes images",
        "both": "first.1, which sees images",
        "both-made": "last, which makes images",
    }


class Judge(nn.Module):
    """D alone, which shows grey images to a network for colour ones, in a layer of its own normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 2, 3, groups=1), nn.Conv2d(2, 1, 6))

    def real_logits(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images.expand(-1, 3, -1, -1)).flatten()


def test_a_discriminator_alone_and_networks_without_a_model_are_drawn():
    assert drawn(Judge()) == {"layers": "1, which sees images"}
    net = nn.Sequential(nn.Conv2d(1, 100, 3))
    outcome = Bench({"mine": net, "function": lambda images: images.flatten(1)}, data()).measure(Filters())
    assert set(outcome.pictures) == {"mine"}
    assert outcome.pictures["mine"].shape == (3, 6 * (3 * 15 + 2) + 2, 16 * (3 * 15 + 2) + 2)  # 96 of 100
    assert not net[0]._forward_hooks


def test_filters_are_the_weights_between_a_unit_and_the_image():
    seen, made = nn.Linear(2 * 9, 5), nn.Linear(5, 2 * 9)
    assert_close(image_filters(seen, 2, sees=True), seen.weight.view(5, 2, 3, 3))
    assert_close(image_filters(made, 2, sees=False)[3], made.weight[:, 3].view(2, 3, 3))
    down, up = nn.Conv2d(3, 7, 4), nn.ConvTranspose2d(7, 3, 4)
    assert_close(image_filters(down, 3, sees=True), down.weight)
    assert_close(image_filters(up, 3, sees=False), up.weight)
    same, shrunk = nn.Conv2d(7, 3, 4), nn.ConvTranspose2d(3, 7, 4)
    assert_close(image_filters(same, 3, sees=False)[5, 1], same.weight[1, 5])
    assert_close(image_filters(shrunk, 3, sees=True)[5, 1], shrunk.weight[1, 5])


def test_values_are_in_the_order_of_others_where_each_is_changed_alone():
    images = torch.rand(2, 3, 5, 5, generator=torch.Generator().manual_seed(0)) * 2 - 1
    scale = torch.tensor([2.0, -1.0, 0.3]).view(3, 1, 1)
    for made in (images, images.tanh(), images * scale - 1, images.clamp(-0.5, 0.5), images.bfloat16()):
        assert in_order(images, made).all()
    moved = images.clone()
    moved[1, 2, :2, 0] = moved[1, 2, [1, 0], 0]
    assert in_order(images, moved).tolist() == [True, False]
    assert not in_order(images, images.flip(3)).any()
    assert not in_order(images, torch.zeros_like(images)).any()


def test_models_that_have_nothing_to_do_with_images_are_passed_over():
    bench = Bench.of_model(nn.Linear(1, 1), data())
    assert Filters().passes_over(bench) == "Linear declares no method that takes or gives images"
    assert "data set that declares its images, got none" in Filters().passes_over(Bench.of_model(Own(), None))
