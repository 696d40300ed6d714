"""The class of reconstructions, with an encoder and a generator that are known exactly."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation import TensorImages
from gan_lightning.measurements import Bench
from gan_lightning.measurements.kept_class import KeptClass, kept_share, others_share

PREFIX = "kept_class/reconstructions"


class Mirror(nn.Module):
    """Codes are an image's 16 pixels; G gives them back, or turned upside down."""

    def __init__(self, upside_down: bool = False) -> None:
        super().__init__()
        self.upside_down = upside_down

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        images = latents.unflatten(1, (1, 4, 4))
        return images.flip(2) if self.upside_down else images

    def sample_latents(self, count: int, rng: torch.Generator | None = None) -> torch.Tensor:
        return torch.randn(count, 16, generator=rng)


def halves(test: int = 8, unknown: int = 0) -> TensorImages:
    """Return images that are bright above (class 0) or below (class 1), in turn; the first test images of no class."""
    labels = torch.arange(12 + test) % 2
    images = 0.2 * torch.rand(12 + test, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    images[labels == 0, :, :2] += 0.7
    images[labels == 1, :, 2:] += 0.7
    labels[12 : 12 + unknown] = -1
    splits = {"train": (images[:12], labels[:12]), "test": (images[12:], labels[12:])}
    return TensorImages("halves", **splits, num_classes=2, batch_size=3)


def measured(model: nn.Module, data: TensorImages | None = None) -> dict[str, float]:
    bench = Bench.of_model(model, data or halves())
    return {figure.name: figure.value for figure in bench.measure(KeptClass()).figures}


@pytest.mark.parametrize(("upside_down", "kept", "chance"), [(False, 1.0, 3 / 7), (True, 0.0, 4 / 7)])
def test_a_reconstruction_keeps_its_class_or_not_beside_chance_and_pixels(upside_down, kept, chance):
    values = measured(Mirror(upside_down))
    # Of 7 other test images, 3 have the class of x and 4 have the other one.
    assert values == pytest.approx({
        f"{PREFIX}/share": kept, f"{PREFIX}/another_image/share": chance, "kept_class/pixels/share": 1.0,
    })  # fmt: skip


def test_images_without_a_class_are_left_out_and_pixels_while_training():
    outcome = Bench.of_model(Mirror(), halves(unknown=3), controls=False).measure(KeptClass())
    assert [(figure.name, figure.images) for figure in outcome.figures] == [
        (f"{PREFIX}/share", 5), (f"{PREFIX}/another_image/share", 5),
    ]  # fmt: skip
    assert outcome.figures[0].value == 1


def test_shares_by_hand():
    found, labels = torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1])
    assert_close(kept_share(found, labels), 2 / 3)
    # of pairs of two: 0 with 0, 1; 1 with 0, 1; 1 with 0, 0: 2 of 6 agree
    assert_close(others_share(found, labels), 2 / 6)


def test_too_few_images_with_a_class_are_refused():
    with pytest.raises(DataError, match=r"kept_class needs at least 2 test images of halves with a class, got 1\."):
        measured(Mirror(), halves(test=3, unknown=2))
    with pytest.raises(SettingError, match=r"images must be at least 2, got 1"):
        KeptClass(images=1)
