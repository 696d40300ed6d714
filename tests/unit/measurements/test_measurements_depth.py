"""Frozen depth as a measurement: the paper's Table 2."""

import copy
import json
from collections import OrderedDict

import jaxtyping
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
from gan_lightning.evaluation.depth_protocol import initial_images
from gan_lightning.figures import metrics
from gan_lightning.interfaces import PublishedFigure
from gan_lightning.measurements import Bench
from gan_lightning.measurements.depth import FrozenDepth
from gan_lightning.nets.data_dependent import data_dependent_
from gan_lightning.nets.folding import fold_batch_norm
from gan_lightning.nets.stages import stages_of
from gan_lightning.papers import MGAN

CPU = torch.device("cpu")
QUICK = DepthProtocol(learning_rate=0.05, batch_size=16, epochs=2, width=6)


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        stages = nn.Sequential(OrderedDict(
            conv1=nn.Sequential(nn.Conv2d(1, 3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU()),
            conv2=nn.Sequential(nn.Conv2d(3, 4, 2), nn.LeakyReLU(0.2)),
            flatten=nn.Flatten(),
            output=nn.Linear(36, 5),
        ))  # fmt: skip
        stages(torch.rand(8, 1, 6, 6))  # statistics of training
    return stages


def stripes(labels=lambda labels: labels, name: str = "stripes") -> TensorImages:
    def split(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = torch.Generator().manual_seed(seed)
        own = torch.randint(3, (count,), generator=rng)
        images = torch.rand(count, 1, 6, 6, generator=rng) - 1
        images[torch.arange(count), 0, 2 * own] += 0.7
        return images, labels(own)

    return TensorImages(name, train=split(64, 0), test=split(30, 1), num_classes=3, batch_size=16)


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
    words = {"trained": "", "random": "random_weights/", "kmeans": "random_weights/kmeans/", "scratch": ""}
    return {
        f"imagenet_frozen/it/{words[each.weights]}{each.stage or 'random_weights/scratch'}/accuracy": each.accuracy
        for each in records
    }


def test_it_is_the_frozen_depth_of_the_folded_convolutions_beside_three_controls():
    trained, data = network(), stripes()
    outcome = Bench({"it": trained}, data).measure(FrozenDepth(protocol=QUICK, seed=3))
    fresh = fold_batch_norm(stages_of(random_copy(trained, 3)))
    initial = initial_images(in_memory(data)["train"][0], QUICK, 3)
    rows = {"trained": fold_batch_norm(stages_of(trained))}
    rows["random"], rows["kmeans"] = (
        data_dependent_(copy.deepcopy(fresh), initial, draw, seed=3) for draw in ("normal", "kmeans")
    )
    expected = frozen_depth(rows, in_memory(data), num_classes=3, fresh=fresh, scratch=True, protocol=QUICK, seed=3)
    assert metrics(outcome.figures) == named(expected)
    assert len(expected) == 7
    assert {(figure.images, figure.split) for figure in outcome.figures} == {(30, "test")}
    assert all(figure.seconds > 0 for figure in outcome.figures)
    json.dumps(outcome.details)
    assert f"{expected[0].accuracy:.4f}" in printed(outcome.tables)


def printed(tables: list) -> str:
    console = Console(width=120)
    with console.capture() as captured:
        console.print(*tables)
    return captured.get()


def test_without_folding_batch_norm_has_the_statistics_asked_for():
    trained = network()
    settings = {"fold_batch_norm": False, "controls": ["random"], "depths": [2]}
    found = measured({"it": trained}, batch_norm="real", **settings)
    fresh = stages_of(random_copy(trained, 0))
    initial = initial_images(in_memory(stripes())["train"][0], QUICK, 0)
    rows = {"trained": stages_of(estimated(trained))}
    rows["random"] = estimated(data_dependent_(copy.deepcopy(fresh), initial))
    expected = frozen_depth(rows, in_memory(stripes()), num_classes=3, fresh=fresh, depths=[2], protocol=QUICK)
    assert found == named(expected)


def test_depths_and_controls_can_be_chosen():
    found = measured({"it": network()}, depths=[2], controls=["kmeans"])
    assert list(found) == [f"imagenet_frozen/it/{each}conv2/accuracy" for each in ("", "random_weights/kmeans/")]
    with pytest.raises(SettingError, match=r"depths must be numbers from 1 to 2, the stages of the network, got \[3\]"):
        measured({"it": network()}, depths=[3])


def test_the_papers_figures_stand_beside_ours():
    class Printed(nn.Module):
        def published_figures(self, data: str) -> dict[str, PublishedFigure]:
            return {
                "imagenet_frozen/it/conv2/accuracy": PublishedFigure(0.544, "a table"),
                "imagenet_frozen/it/random_weights/conv2/accuracy": PublishedFigure(0.41, "a table"),
            }

    bench = Bench({"it": network()}, stripes(), model=Printed(), controls=True)
    table = printed(bench.measure(FrozenDepth(protocol=QUICK, depths=[1, 2])).tables)
    lines = {line.split("│")[1].strip(): line.split("│")[2:-1] for line in table.splitlines() if line.startswith("│")}
    assert [cell.strip() for cell in lines["trained, paper"]] == ["-", "0.5440", "-"]
    assert [cell.strip() for cell in lines["random, paper"]] == ["-", "0.4100", "-"]
    assert list(lines) == ["trained", "trained, paper", "random", "random, paper", "kmeans", "scratch"]
    assert [cell.strip() == "-" for cell in lines["scratch"]] == [True, True, False]


def test_without_names_all_extractors_with_convolutions_of_their_own_are_measured():
    it = network()
    networks = {"it": it, "hidden": it[:-1], "layer": nn.Conv2d(1, 2, 3), "pixels_alone": nn.Sequential(nn.Flatten())}
    settings = {"depths": [1], "controls": []}
    assert {name.split("/")[1] for name in measured(networks, **settings)} == {"it"}
    assert measured(networks, **settings) == measured(networks, extractors=["it"], **settings)
    assert {name.split("/")[1] for name in measured(networks, extractors=["hidden"], **settings)} == {"hidden"}


def test_a_network_that_names_its_stages_takes_part():
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = network()

        def stages(self) -> dict[str, nn.Module]:
            return {"first": self.layers.conv1, "second": self.layers.conv2}

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.layers(images)

    found = measured({"it": Named()}, controls=["random"])
    assert [name.split("/")[-2] for name in found] == ["first", "second"] * 2


def test_images_without_a_label_are_left_out():
    def partly(labels: torch.Tensor) -> torch.Tensor:
        return torch.where(torch.arange(len(labels)) % 4 == 0, -1, labels)

    data = stripes(partly)
    found = Bench({"it": network()}, data, controls=False).measure(FrozenDepth(protocol=QUICK))
    trained, fresh = (fold_batch_norm(stages_of(each)) for each in (network(), random_copy(network(), 0)))
    expected = frozen_depth({"trained": trained}, in_memory(data), num_classes=3, fresh=fresh, protocol=QUICK)
    assert metrics(found.figures) == named(expected)
    assert {figure.images for figure in found.figures} == {22}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_weights_of_any_precision_are_measured(dtype):
    assert len(measured({"it": network().to(dtype)})) == 7


def test_mgans_discriminator_takes_part():
    model = MGAN(channels=1, image_size=32, base_width=2, feature_dim=8)
    data = Digits(image_size=32, limit=20, batch_size=10, evaluation_batch_size=10)
    protocol = DepthProtocol(epochs=1, batch_size=10, width=4, crop=1.0)
    bench = Bench.of_model(model, data, controls=False)
    found = metrics(bench.measure(FrozenDepth(extractors=["discriminator"], protocol=protocol)).figures)
    assert list(found) == [f"imagenet_frozen/discriminator/conv{n}/accuracy" for n in (1, 2, 3, 4)]
    with pytest.raises(SettingError, match=r"'discriminator' must see images that all .*'conv4'.*protocol\.crop=1\.$"):
        bench.measure(FrozenDepth(extractors=["discriminator"]))


# Bad input


def test_what_has_no_convolutions_is_refused_with_what_is_missing():
    remedy = r"nn\.Sequential of convolutions, or give it a method stages\(\)"
    with pytest.raises(
        SettingError, match=rf"extractors must have convolutions to freeze, got \['flat'\]\. .*{remedy}"
    ):
        Bench({"flat": nn.Flatten()}, stripes()).measure(FrozenDepth())


def test_an_unknown_extractor_is_refused():
    message = r"extractors must name .* have convolutions, got \['flat', 'none'\]\. Choose from \['it'\]"
    with pytest.raises(SettingError, match=message):
        measured({"it": network(), "flat": nn.Flatten()}, extractors=["it", "flat", "none"])


def test_images_smaller_than_the_stride_are_refused():
    coarse = nn.Sequential(OrderedDict(conv1=nn.Conv2d(1, 2, 8, 8, 4), pool=nn.Flatten()))
    message = (
        r"extractors must name networks that take the images, but 'it' must see images of at least 8 pixels.*got 5\."
    )
    with pytest.raises(SettingError, match=message):
        measured({"it": coarse})


def test_an_extractor_that_cannot_be_initialised_anew_is_refused_before_anything_is_measured():
    def bench(**random: nn.Module) -> Bench:
        return Bench({"it": network()}, stripes(), random_networks=random)

    with pytest.raises(SettingError, match=r"can be initialised anew, got 'it'.* give random_networks to the Bench"):
        FrozenDepth().check(bench())
    with pytest.raises(SettingError, match=r"must have the stages of the extractor, \['conv1', .* got \[\]"):
        FrozenDepth().check(bench(it=nn.Sequential(nn.Flatten())))


def test_an_unknown_control_is_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # which would refuse it by its type
    with pytest.raises(SettingError, match=r"controls must be one of random, kmeans, scratch, got 'pca'"):
        FrozenDepth(controls=["pca"])


def test_depth_needs_labels():
    with pytest.raises(DataError, match=r"imagenet_frozen needs labels.*set its `enabled` to false"):
        measured({"it": network()}, stripes(lambda labels: labels * 0 - 1))
    with pytest.raises(DataError, match=r"imagenet_frozen needs a data module.*set its `enabled` to false"):
        Bench({"it": network()}, None).measure(FrozenDepth())
