"""Frozen depth as a measurement."""

import copy
import json

import pytest
import torch
from rich.console import Console
from torch import nn

from gan_lightning.data import Digits
from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation import (
    DepthProtocol,
    DepthRecord,
    TensorImages,
    estimate_batch_norm_statistics,
    frozen_depth,
)
from gan_lightning.evaluation.controls import random_copy
from gan_lightning.figures import metrics
from gan_lightning.measurements import Bench
from gan_lightning.measurements.depth import FrozenDepth
from gan_lightning.nets.folding import fold_batch_norm
from gan_lightning.papers import MGAN

CPU = torch.device("cpu")
QUICK = DepthProtocol(learning_rate=0.05, batch_size=16, epochs=2)


def network(seed: int = 0) -> nn.Sequential:
    stages = nn.Sequential()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        stages.add_module("conv1", nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU()))
        stages.add_module("conv2", nn.Sequential(nn.Conv2d(3, 4, 2), nn.LeakyReLU(0.2)))
        stages.add_module("flatten", nn.Flatten())
        stages(torch.rand(8, 1, 6, 6))  # statistics of training
    return stages


def stripes(labels=lambda labels: labels) -> TensorImages:
    def split(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = torch.Generator().manual_seed(seed)
        own = torch.randint(3, (count,), generator=rng)
        images = torch.rand(count, 1, 6, 6, generator=rng) - 1
        images[torch.arange(count), 0, 2 * own] += 0.7
        return images, labels(own)

    return TensorImages("stripes", train=split(64, 0), test=split(30, 1), num_classes=3, batch_size=16)


def in_memory(data: TensorImages) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return the images that have a label."""
    splits = {}
    for split in ("train", "test"):
        images, labels = (torch.cat(parts) for parts in zip(*data.evaluation_batches(split, CPU), strict=True))
        splits[split] = images[labels >= 0], labels[labels >= 0]
    return splits


def estimated(of: nn.Sequential) -> nn.Sequential:
    """Return a copy whose batch norm has the statistics of the training images."""
    own = copy.deepcopy(of)
    estimate_batch_norm_statistics(own, stripes().evaluation_batches("train", CPU))
    return own


def measured(networks: dict[str, nn.Module], data: TensorImages | None = None, **settings: object) -> dict[str, float]:
    return metrics(Bench(networks, data or stripes()).measure(FrozenDepth(protocol=QUICK, **settings)).figures)


def named(records: list[DepthRecord]) -> dict[str, float]:
    weights = {"trained": "", "random": "random_weights/"}
    return {f"depth/it/{weights[each.weights]}{each.stage}/accuracy": each.accuracy for each in records}


def test_depth_is_that_of_the_extractor_beside_random_weights():
    trained, data = network(), stripes()
    outcome = Bench({"it": trained}, data).measure(FrozenDepth(protocol=QUICK, seed=3))
    fresh = random_copy(trained, 3)
    expected = frozen_depth(
        trained, in_memory(data), num_classes=3, fresh=fresh, random=estimated(fresh), protocol=QUICK, seed=3
    )
    assert metrics(outcome.figures) == named(expected)
    assert {(figure.images, figure.split) for figure in outcome.figures} == {(30, "test")}
    assert all(figure.seconds > 0 for figure in outcome.figures)
    json.dumps(outcome.details)
    console = Console(width=120)
    with console.capture() as captured:
        console.print(*outcome.tables)
    assert f"{expected[0].accuracy:.4f}" in captured.get()


def test_folded_depth_trains_without_batch_norm_from_scaled_random_weights():
    trained = network()
    found = measured({"it": trained}, batch_norm="real", fold_batch_norm=True)
    extractor, fresh = (fold_batch_norm(estimated(each)) for each in (trained, random_copy(trained, 0)))
    expected = frozen_depth(extractor, in_memory(stripes()), num_classes=3, fresh=fresh, random=fresh, protocol=QUICK)
    assert found == named(expected)


def test_without_names_all_extractors_that_are_made_of_stages_are_measured():
    networks = {"it": network(), "layer": nn.Conv2d(1, 2, 3), "pixels_alone": nn.Sequential(nn.Flatten())}
    assert {name.split("/")[1] for name in measured(networks)} == {"it"}
    assert measured(networks) == measured({"it": network()}) == measured(networks, extractors=["it"])


def test_images_without_a_label_are_left_out():
    def partly(labels: torch.Tensor) -> torch.Tensor:
        return torch.where(torch.arange(len(labels)) % 4 == 0, -1, labels)

    data = stripes(partly)
    found = Bench({"it": network()}, data, controls=False).measure(FrozenDepth(protocol=QUICK))
    expected = frozen_depth(network(), in_memory(data), num_classes=3, fresh=random_copy(network(), 0), protocol=QUICK)
    assert metrics(found.figures) == named(expected)
    assert {figure.images for figure in found.figures} == {22}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_weights_of_any_precision_are_measured(dtype):
    assert len(measured({"it": network().to(dtype)})) == 4


def test_mgans_discriminator_takes_part():
    model = MGAN(channels=1, image_size=32, base_width=2, feature_dim=8)
    data = Digits(image_size=32, limit=20, batch_size=10, evaluation_batch_size=10)
    settings = {"extractors": ["discriminator"], "protocol": DepthProtocol(epochs=1, batch_size=10)}
    found = metrics(Bench.of_model(model, data, controls=False).measure(FrozenDepth(**settings)).figures)
    assert list(found) == [f"depth/discriminator/conv{n}/accuracy" for n in (1, 2, 3, 4)]


# Bad input


def test_what_has_no_stages_is_passed_over():
    assert "sequence of stages" in FrozenDepth().passes_over(Bench({"flat": nn.Flatten()}, stripes()))


def test_an_unknown_extractor_is_refused():
    message = r"extractors must name .* made of stages, got \['flat', 'none'\]\. Choose from \['it'\]"
    with pytest.raises(SettingError, match=message):
        measured({"it": network(), "flat": nn.Flatten()}, extractors=["it", "flat", "none"])


def test_an_extractor_that_cannot_be_initialised_anew_is_refused_before_anything_is_measured():
    def bench(**random: nn.Module) -> Bench:
        return Bench({"it": network()}, stripes(), random_networks=random)

    with pytest.raises(SettingError, match=r"can be initialised anew, got 'it'.* give random_networks to the Bench"):
        FrozenDepth().check(bench())
    with pytest.raises(SettingError, match=r"must have the stages of the extractor, \['conv1', .* got \['0'\]"):
        FrozenDepth().check(bench(it=nn.Sequential(nn.Flatten())))


def test_depth_needs_labels():
    with pytest.raises(DataError, match=r"depth needs labels.*set its `enabled` to false"):
        measured({"it": network()}, stripes(lambda labels: labels * 0 - 1))
    with pytest.raises(DataError, match=r"depth needs a data module.*set its `enabled` to false"):
        Bench({"it": network()}, None).measure(FrozenDepth())
