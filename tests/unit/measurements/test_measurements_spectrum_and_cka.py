import pytest
import torch
from torch import nn

from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation import TensorImages
from gan_lightning.evaluation.kernel_alignment import debiased_cka, products
from gan_lightning.evaluation.spectra import rank_me
from gan_lightning.measurements import Bench, FeatureSpectrum, LayerLikeness


def data() -> TensorImages:
    images = torch.rand(80, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    labels = torch.arange(80) % 2
    return TensorImages("noise", train=(images[:40], labels[:40]), test=(images[40:], labels[40:]), num_classes=2)


def network(seed: int, outputs: int = 6) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, outputs, 3, stride=2), nn.Tanh(), nn.Flatten())


def figures(measurement, networks, **more):
    outcome = Bench(networks, data(), **more).measure(measurement)
    return {figure.name: figure.value for figure in outcome.figures}, outcome


def test_spectra_stand_beside_pixels_and_random_weights():
    found, _ = figures(FeatureSpectrum(enabled=True, images=30), {"mine": network(0)})
    features = network(0)(data()._splits["test"][0][:30]).detach()
    assert found["spectrum/mine/effective_rank"] == pytest.approx(rank_me(features))
    assert found["spectrum/pixels/effective_rank"] == pytest.approx(
        rank_me(data()._splits["test"][0][:30].flatten(1))
    )  # fmt: skip
    assert found["spectrum/mine/random_weights/effective_rank"] != found["spectrum/mine/effective_rank"]
    assert "spectrum/mine/exponent" in found


def test_too_few_images_are_refused_before():
    few = data()._splits["test"][0][:3], data()._splits["test"][1][:3]
    bench = Bench({"mine": network(0)}, TensorImages("few", train=few, test=few, num_classes=2))
    with pytest.raises(DataError, match=r"few: at least 4 test images are needed, got 3\. Add images"):
        LayerLikeness(enabled=True).check(bench)
    FeatureSpectrum(enabled=True).check(bench)


def test_a_shared_layer_is_like_itself_and_later_ones_are_compared_by_their_maps():
    first, second = network(0), network(1)
    second[0] = first[0]
    found, outcome = figures(LayerLikeness(enabled=True), {"one": first, "other": second})
    assert found["cka/one+other/0/debiased"] == pytest.approx(1)
    images = data()._splits["test"][0]
    by_hand = debiased_cka(*(products(each[:4](images).detach().flatten(1)) for each in (first, second)))
    assert found["cka/one+other/2/debiased"] == pytest.approx(by_hand)
    assert found["cka/one+other/features/debiased"] == pytest.approx(by_hand)
    matrix = outcome.arrays["cka"]
    assert matrix.shape == (6, 6)
    assert matrix[0, 3] == pytest.approx(1)
    assert matrix[1, 4] == matrix[4, 1] == pytest.approx(by_hand)
    assert outcome.details["layers"] == [[name, layer] for name in ("one", "other") for layer in ("0", "2", "features")]


def test_random_weights_are_compared_too():
    found, outcome = figures(LayerLikeness(enabled=True, images=20), {"one": network(0), "other": network(1)})
    assert {name for name in found if "random_weights" in name} == {
        f"cka/one+other/random_weights/{layer}/{metric}"
        for layer in ("0", "2", "features")
        for metric in ("linear", "debiased")
    }
    assert set(outcome.pictures) == {"", "random-weights"}


def test_a_single_layer_is_passed_over_and_a_single_extractor_has_a_picture():
    with pytest.raises(SettingError, match="has one layer, and it takes two"):
        figures(LayerLikeness(enabled=True), {"flat": nn.Flatten()})
    found, outcome = figures(LayerLikeness(enabled=True), {"one": network(0)})
    assert (found, outcome.arrays["cka"].shape) == ({}, (3, 3))


@pytest.mark.parametrize(
    ("measurement", "settings", "message"),
    [
        (FeatureSpectrum, {"images": 1}, r"images must be at least 2, got 1"),
        (FeatureSpectrum, {"pool": 0}, r"pool must be at least 1, got 0"),
        (LayerLikeness, {"images": 3}, r"images must be at least 4, got 3"),
    ],
)
def test_unusable_settings_are_refused(measurement, settings, message):
    with pytest.raises(SettingError, match=message):
        measurement(**settings)
