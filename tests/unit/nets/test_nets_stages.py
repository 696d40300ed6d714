"""The convolutions of a network under their names."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

from gan_lightning.errors import SettingError
from gan_lightning.nets.stages import check_maps, stages_of, stride_of
from gan_lightning.papers import ImageNetworks, PermutationInvariantNetworks

CPU = torch.device("cpu")


class Declared(nn.Module):
    def __init__(self, found: object) -> None:
        super().__init__()
        self.found = found

    def stages(self) -> object:
        return self.found


def layout(stages: nn.Sequential) -> dict[str, list[str]]:
    def kinds(stage: nn.Module) -> list[str]:
        return [type(part).__name__ for part in (stage if isinstance(stage, nn.Sequential) else [stage])]

    return {name: kinds(stage) for name, stage in stages.named_children()}


def test_fully_connected_layers_are_no_stages():
    encoder = ImageNetworks(encoder_width=6).encoder(3, 64)
    stages = stages_of(encoder)
    assert list(dict(stages.named_children())) == ["conv1", "conv2", "conv3", "conv4", "conv5"]
    assert stages.conv1[0] is encoder.conv1
    assert stages.conv1[1] is encoder.pool1
    assert stages.conv5 is encoder.conv5
    assert stages_of(encoder[:-1]).conv4 is encoder.conv4
    assert len(stages_of(PermutationInvariantNetworks(width=4).encoder(1, 8))) == 0


def test_what_stands_between_convolutions_belongs_to_the_one_before():
    network = nn.Sequential(OrderedDict(
        scale=nn.Identity(), conv=nn.Conv2d(1, 2, 3), norm=nn.BatchNorm2d(2), act=nn.ReLU(),
        block=nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU()), pool=nn.MaxPool2d(2),
        flatten=nn.Flatten(), fc=nn.Linear(3, 2), late=nn.ReLU(),
    ))  # fmt: skip
    stages = stages_of(network)
    assert layout(stages) == {
        "conv": ["Identity", "Conv2d", "BatchNorm2d", "ReLU"],
        "block": ["Sequential", "MaxPool2d"],
    }
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(stages(images), network[:6](images))


def test_a_network_may_name_its_stages():
    first, second = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3)
    assert dict(stages_of(Declared({"a": first, "b": second})).named_children()) == {"a": first, "b": second}
    for wrong in ([first], {"a": torch.relu}, {"a.b": first}, {1: first}):
        with pytest.raises(SettingError, match=r"stages\(\) of Declared must return a mapping from names without dots"):
            stages_of(Declared(wrong))


def test_a_network_without_convolutions_or_without_an_order_has_none():
    for network in (nn.Sequential(nn.Flatten(), nn.Linear(2, 2)), nn.Conv2d(1, 1, 1), nn.Identity()):
        assert len(stages_of(network)) == 0


def test_the_stride_is_that_of_all_stages_together():
    alexnet = stages_of(ImageNetworks(encoder_width=6).encoder(3, 64))
    assert [stride_of(alexnet[:count], 3) for count in range(1, 6)] == [8, 16, 16, 16, 16]
    assert stride_of(nn.Sequential(nn.Conv2d(1, 2, 5), nn.MaxPool2d(3, 2)), 1) == 2
    assert stride_of(nn.Sequential(nn.Conv2d(1, 2, 5), nn.AdaptiveAvgPool2d(3)), 1) is None
    assert stride_of(nn.Sequential(nn.Conv2d(2, 2, 5)), 1) is None  # it takes no such images


def test_maps_have_the_channels_and_the_edge_of_the_last_stage():
    alexnet = stages_of(ImageNetworks(encoder_width=6).encoder(3, 64)).eval()
    assert check_maps("it", alexnet, 3, 64, CPU) == (16, 4)
    assert check_maps("it", alexnet[:1], 3, 112, CPU) == (6, 14)


def test_images_that_the_stages_cannot_take_are_refused():
    alexnet = stages_of(ImageNetworks(encoder_width=6).encoder(3, 64)).eval()
    with pytest.raises(SettingError, match=r"'it' must see images of at least 16 pixels, the stride .*, got 8\."):
        check_maps("it", alexnet, 3, 8, CPU)
    unpadded = nn.Sequential(OrderedDict(conv1=nn.Conv2d(1, 2, 5), conv2=nn.Conv2d(2, 2, 5)))
    with pytest.raises(SettingError, match=r"got images of 8 pixels, of which 'conv2' sees \(2, 4, 4\) .*RuntimeError"):
        check_maps("it", unpadded, 1, 8, CPU)
    flat = nn.Sequential(OrderedDict(conv1=nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten())))
    with pytest.raises(SettingError, match=r"last stage that gives maps .* got the shape \(2, 72\)"):
        check_maps("it", flat, 1, 8, CPU)
