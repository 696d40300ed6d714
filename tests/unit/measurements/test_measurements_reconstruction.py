import pytest
import torch
from torch import nn
from torch.testing import assert_close

from gan_lightning.errors import SettingError
from gan_lightning.evaluation import TensorImages, reconstruction_statistics
from gan_lightning.measurements import Bench
from gan_lightning.measurements.reconstruction import Reconstruction

CPU = torch.device("cpu")


class Pair(nn.Module):
    """An encoder and a generator with batch norm, for images of 4x4 pixels."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.BatchNorm1d(6))
        self.generator = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Unflatten(1, (1, 4, 4)))

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return self.encoder(images)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return self.generator(latents)

    def sample_latents(self, count: int, rng: torch.Generator | None = None) -> torch.Tensor:
        return torch.randn(count, 6, generator=rng)


def data(batch_size: int = 5) -> TensorImages:
    images = torch.rand(24, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    labels = torch.zeros(24, dtype=torch.int64)
    splits = {"train": (images[:12], labels[:12]), "test": (images[12:], labels[12:])}
    return TensorImages("noise", **splits, num_classes=1, batch_size=batch_size)


def measured(model: nn.Module | None = None, batch_size: int = 5, **settings: object) -> dict[str, float]:
    outcome = Bench.of_model(model or Pair(), data(batch_size)).measure(Reconstruction(**settings))
    return {figure.name: figure.value for figure in outcome.figures}


@torch.no_grad()
def expected(model: Pair) -> dict[str, float]:
    """Return the mean distances to what is reconstructed."""
    images = data()._splits["test"][0]
    latents = model.sample_latents(12, torch.Generator().manual_seed(0))
    made = model.decode(latents)
    return {
        "image": (images - model.decode(model.encode(images))).flatten(1).norm(dim=1).mean().item(),
        "latent": (latents - model.encode(model.decode(latents))).norm(dim=1).mean().item(),
        "generated": (made - model.decode(model.encode(made))).flatten(1).norm(dim=1).mean().item(),
    }


def test_distances_are_those_of_the_whole_split_and_of_as_many_latents_beside_those_to_other_samples():
    model = Pair()
    outcome = Bench.of_model(model, data(), epoch=3).measure(Reconstruction(images=7))
    values = {figure.name: figure.value for figure in outcome.figures}
    for of, distance in expected(model.eval()).items():
        assert values[f"reconstruction/{of}/distance"] == pytest.approx(distance, rel=1e-5)
        another = values[f"reconstruction/{of}/distance_to_another"]
        assert values[f"reconstruction/{of}/share"] == pytest.approx(distance / another)
    assert {(figure.images, figure.epoch) for figure in outcome.figures} == {(12, 3)}
    assert {figure.condition: figure.split for figure in outcome.figures} == {
        "image": "test", "latent": "", "generated": "",
    }  # fmt: skip
    bench = Bench.of_model(model, data())
    assert set(Reconstruction().metrics(bench)) == set(values)

    picture = outcome.pictures[""]
    assert picture.shape == (3, 2 * 5 + 1, 10 * 5 + 1)  # one pair of rows of 10 places, 7 of them taken
    images = data()._splits["test"][0]
    with torch.no_grad():
        copies = model.decode(model.encode(images))
    assert_close(picture[0, 1:5, 6:10], (images[1, 0] + 1) / 2, rtol=0, atol=1e-4)
    assert_close(picture[0, 6:10, 6:10], (copies[1, 0] + 1) / 2, rtol=0, atol=1e-4)
    assert (picture[:, :, 7 * 5 + 1 :] == 0).all()


def test_the_distances_hang_neither_on_the_batch_size_nor_on_the_type_of_the_weights():
    plain, image = measured(), "reconstruction/image/distance"
    for found in (measured(batch_size=12), measured(batch_size=2)):
        for name in (image, "reconstruction/latent/distance"):
            assert found[name] == pytest.approx(plain[name], rel=1e-5)
    assert measured(Pair().double())[image] == pytest.approx(plain[image], rel=1e-5)
    assert measured(Pair().bfloat16())[image] == pytest.approx(plain[image], rel=0.05)


def test_statistics_of_real_images_are_those_of_a_model_that_has_them():
    model = Pair()
    real = measured(model, batch_norm="real")
    assert real["reconstruction/image/distance"] != measured(model)["reconstruction/image/distance"]
    with reconstruction_statistics(model.eval(), data().evaluation_batches("train", CPU)):
        assert real["reconstruction/image/distance"] == pytest.approx(expected(model)["image"], rel=1e-5)


def test_a_generator_of_smaller_images_is_compared_at_its_size():
    class Half(Pair):
        def decode(self, latents: torch.Tensor) -> torch.Tensor:
            return super().decode(latents)[:, :, ::2, ::2]

        def encode(self, images: torch.Tensor) -> torch.Tensor:
            return super().encode(nn.functional.interpolate(images, (4, 4)))

    assert Bench.of_model(Half(), data()).measure(Reconstruction()).pictures[""].shape == (3, 4 * 3 + 1, 10 * 3 + 1)


def test_a_run_without_images_is_passed_over():
    reason = Reconstruction().passes_over(Bench.of_model(Pair(), None))
    assert reason == "it needs a data set that declares its images, got none"


def test_test_images_that_come_one_by_one_are_refused():
    with pytest.raises(
        SettingError, match=r"reconstruction must have test images in batches of at least 2, .* got .* 1"
    ):
        measured(batch_size=1)
