import pytest
import torch
from torch import nn

from gan_lightning.errors import SettingError
from gan_lightning.evaluation import TensorImages, TunedProbe
from gan_lightning.evaluation.disturbances import noisy
from gan_lightning.measurements import Bench, Robustness, Transfer

TUNED = TunedProbe(strengths=(0.1,), gradient_tolerance=0.01)


def data() -> TensorImages:
    """Return images of 8x8 pixels of two classes: bright or dark as a whole, with a fine pattern of the same class."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 2
    sign = (2 * labels - 1)[:, None, None, None]
    images = 0.05 * torch.randn(200, 1, 8, 8, generator=rng) + 0.1 * sign
    images[:, :, ::2, ::2] += 0.1 * sign
    images[:, :, 1::2, 1::2] -= 0.1 * sign
    splits = {"train": (images[:120], labels[:120]), "test": (images[120:], labels[120:])}
    return TensorImages("patterns", **splits, num_classes=2)


class Mean(nn.Module):
    """The brightness of the whole image."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(1, 2, 3))[:, None]


class Pattern(nn.Module):
    """What is left of the fine pattern in four pixels."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images[:, :, ::2, ::2] - images[:, :, 1::2, 1::2]).flatten(1)[:, :1]


def measured(networks, controls=True, **settings):
    return Bench(networks, data(), controls=controls).measure(Robustness(tuned=TUNED, **settings))


def values(outcome):
    return {(figure.name, figure.at): figure.value for figure in outcome.figures}


def test_a_fine_pattern_is_lost_in_noise_and_blur_and_the_mean_brightness_is_not():
    found = values(measured({"mean": Mean(), "pattern": Pattern()}, noise=(0.2, 0.4), blur=(2.0,), occlusion=None))
    for name in ("mean", "pattern"):
        own = f"robustness/{name}/tuned"
        assert found[f"{own}/clean/accuracy", None] > 0.9
        curve = [found[f"{own}/noise/accuracy", at] for at in (0.2, 0.4)]
        assert found[f"{own}/noise/accuracy", None] == pytest.approx(sum(curve) / 2)
        drop = found[f"{own}/clean/accuracy", None] - sum(curve) / 2
        assert found[f"{own}/noise/drop", None] == pytest.approx(drop)
    assert found["robustness/mean/tuned/noise/drop", None] < 0.1 < found["robustness/pattern/tuned/noise/drop", None]
    assert found["robustness/mean/tuned/blur/drop", None] < 0.01
    assert found["robustness/pattern/tuned/blur/drop", None] > 0.1
    assert not any("occlusion" in name for name, _ in found)


def test_the_probe_is_that_of_the_transfer_fitted_to_clean_images_alone():
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.LeakyReLU(0.2))
    outcome = measured({"own": network}, noise=(0.3,), blur=None, occlusion=None, seed=5)
    transfer = Bench({"own": network}, data()).measure(Transfer(paper=None, tuned=TUNED, seed=5))
    accuracies = {figure.name: figure.value for figure in transfer.figures}
    found = values(outcome)
    for subject, kind in (("own", ""), ("own", "random_weights/"), ("pixels", "")):
        clean = found[f"robustness/{subject}/tuned/{kind}clean/accuracy", None]
        assert clean == accuracies[f"transfer/{subject}/tuned/{kind}accuracy"]
    (train, labels), (test, truth) = data()._splits["train"], data()._splits["test"]
    by_hand = TUNED.accuracy(
        train.flatten(1), labels, noisy(test, 0.3, 5).flatten(1), truth, num_classes=2, seed=5, name="by hand"
    )
    assert found["robustness/pixels/tuned/noise/accuracy", 0.3] == by_hand
    conditions = {each["condition"] for each in outcome.details["random_weights"]}
    assert conditions == {"fresh_statistics", "estimated_statistics"}


def test_while_training_the_controls_are_left_out():
    found = measured({"mean": Mean()}, controls=False, noise=(0.2,), blur=None, occlusion=None)
    assert {figure.subject for figure in found.figures} == {"mean"}
    assert not found.pictures


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise": (0.1, 0.1)}, "noise must hold at least one number, each once"),
        ({"occlusion": ()}, "occlusion must hold at least one number, each once"),
        ({"blur": (-0.5,)}, "blur must be at least 0, got -0.5"),
        ({"occlusion": (1.5,)}, "occlusion must be at most 1, got 1.5"),
        ({"jpeg": (100.0,)}, "jpeg must be at most 99, got 100.0"),
        (
            {"noise": None, "blur": None, "occlusion": None},
            "noise must hold a number where all other kinds are left out",
        ),
    ],
)
def test_strengths_that_make_no_curve_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        Robustness(**settings)
