import pytest
import torch
from torch import nn

from gan_lightning.errors import DataError, NonFiniteError
from gan_lightning.evaluation import TensorImages
from gan_lightning.measurements import Bench
from gan_lightning.papers import Verdicts


class Script(nn.Module):
    """A D that says what the first pixel is; G's images say -1.5 and -0.5."""

    def __init__(self, scale: float = 4.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def real_logits(self, images: torch.Tensor) -> torch.Tensor | None:
        return self.scale * images[:, 0, 0, 0]

    def generate(self, count: int, rng: torch.Generator | None = None) -> torch.Tensor:
        values = torch.tensor([-0.375, -0.125])[:, None].expand(2, count)
        return values[:, :, None, None, None].expand(2, count, 1, 2, 2)


def data(train: torch.Tensor, test: torch.Tensor) -> TensorImages:
    splits = {}
    for name, pixels in (("train", train), ("test", test)):
        images = pixels[:, None, None, None].expand(-1, 1, 2, 2)
        splits[name] = images, torch.zeros(len(pixels), dtype=torch.int64)
    return TensorImages("pixels", **splits, num_classes=1)


def measured(model, images, **settings):
    outcome = Bench.of_model(model, images).measure(Verdicts(**settings))
    return {figure.name.removeprefix("verdicts/"): figure.value for figure in outcome.figures}, outcome


ALIKE = data(torch.full((6,), 0.5), torch.full((8,), 0.25))
DIFFERENT = data(torch.linspace(0, 1, 6), torch.linspace(-1, 1, 8))


def test_a_discriminator_that_says_the_same_of_all_real_images_has_no_spread_and_its_distance_is_its_certainty():
    found, outcome = measured(Script(), ALIKE)
    assert (found["real/mean"], found["real/spread"], found["real/distance"]) == pytest.approx((1, 0, 1), abs=1e-6)
    assert (found["training/mean"], found["training/spread"]) == pytest.approx((2, 0), abs=1e-6)
    assert found["generated/mean"] == pytest.approx(-1)
    assert found["gap"] == pytest.approx(2)
    assert {figure.condition: figure.images for figure in outcome.figures if figure.condition} == {
        "real": 8, "training": 6, "generated": 500,
    }  # fmt: skip


def test_the_spread_is_the_standard_deviation_of_the_output_in_nats():
    found, _ = measured(Script(), DIFFERENT)
    logits = 4 * torch.linspace(-1, 1, 8)
    assert found["real/spread"] == pytest.approx(logits.std().item())
    assert found["real/distance"] == pytest.approx(logits.square().mean().sqrt().item())
    assert found["generated/spread"] == pytest.approx(0.5, rel=0.01)
    at_equilibrium, _ = measured(Script(0.0), DIFFERENT)
    assert set(at_equilibrium.values()) == {0.0}


class Normalised(Script):
    """A D with batch norm: with a batch's own statistics no kind of images has a mean."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(1)

    def real_logits(self, images: torch.Tensor) -> torch.Tensor:
        return self.norm(images[:, :, 0, 0])[:, 0]


def test_batch_norm_takes_its_statistics_from_each_kind_of_images_or_has_those_of_training():
    own, _ = measured(Normalised(), DIFFERENT)
    assert (own["real/mean"], own["generated/mean"], own["gap"]) == pytest.approx((0, 0, 0), abs=1e-5)
    gathered, _ = measured(Normalised(), DIFFERENT, batch_norm="running")
    assert gathered["training/mean"] == pytest.approx(0.5, rel=1e-3)


class WithoutJudge(Script):
    def real_logits(self, images: torch.Tensor) -> None:
        return None


def test_what_cannot_be_measured_says_why():
    assert (
        Verdicts().passes_over(Bench.of_model(WithoutJudge(), ALIKE)) == "WithoutJudge has no discriminator of images"
    )
    assert Verdicts().passes_over(Bench.of_model(Script(), None)).startswith("it needs a data set")
    with pytest.raises(DataError, match="verdicts needs two train images of pixels, got one"):
        measured(Script(), data(torch.zeros(1), torch.zeros(3)))
    with pytest.raises(NonFiniteError, match="logits for real images must be finite"):
        measured(Script(float("nan")), ALIKE)
