"""The accuracies of each layer, beside the same layer with random weights."""

from collections import OrderedDict

import pytest
import torch
from every_measurement import TUNED, stripes
from torch import nn

from gan_lightning.errors import SettingError
from gan_lightning.measurements import Bench, LayerAccuracy, Transfer
from gan_lightning.nets.adapted_network import AdaptedNetwork, Preprocessing


def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = OrderedDict(conv1=nn.Conv2d(1, 3, 3, 2), act=nn.Tanh(), conv2=nn.Conv2d(3, 4, 2), flatten=nn.Flatten())
    return nn.Sequential(layers).eval()


TRAINED, RANDOM = network(0), network(1)


def measured(networks=None, random=None, **settings):
    bench = Bench(networks or {"mine": TRAINED}, stripes(), random_networks=random or {"mine": RANDOM})
    return bench.measure(LayerAccuracy(tuned=TUNED, **settings))


def test_each_stage_has_the_figures_that_transfer_gives_its_output():
    outcome = measured(pool=None)
    found = {figure.name: figure.value for figure in outcome.figures}
    assert outcome.details["features"] == {"mine.conv1": 27, "mine.conv2": 16}
    for count, stage in ((2, "conv1"), (3, "conv2")):
        parts, random = TRAINED[:count], RANDOM[:count]
        bench = Bench({"part": parts}, stripes(), random_networks={"part": random})
        alone = {each.name: each.value for each in bench.measure(Transfer(paper=None, tuned=TUNED)).figures}
        assert found[f"layers/mine/tuned/{stage}/accuracy"] == alone["transfer/part/tuned/accuracy"]
        control = "tuned/random_weights"
        assert found[f"layers/mine/{control}/{stage}/accuracy"] == alone[f"transfer/part/{control}/accuracy"]
    assert found["layers/pixels/tuned/accuracy"] == alone["transfer/pixels/tuned/accuracy"]
    assert found["layers/chance/accuracy"] == alone["transfer/chance/accuracy"]
    assert len(found) == 6
    assert outcome.pictures[""].shape[0] == 3


def test_layers_are_chosen_by_name_and_maps_are_averaged():
    outcome = measured(names=["conv1", "act"], pool=1)
    assert outcome.details["features"] == {"mine.conv1": 3, "mine.act": 3}


def test_extractors_that_are_layers_are_taken_as_they_are():
    def layer(whole: nn.Module) -> dict[str, nn.Module]:
        return {"net.conv1": AdaptedNetwork(whole, Preprocessing(), "conv1")}

    outcome = measured(layer(TRAINED), layer(RANDOM), pool=1)
    assert outcome.details["features"] == {"net.conv1": 3}
    assert "layers/net/tuned/random_weights/conv1/accuracy" in {figure.name for figure in outcome.figures}


def test_a_whole_network_has_the_layers_that_are_named():
    whole = {"mine": AdaptedNetwork(TRAINED, Preprocessing())}
    assert measured(whole, names=["conv2"], pool=1).details["features"] == {"mine.conv2": 4}
    with pytest.raises(SettingError, match=r"layers cannot be measured: .* no extractor with convolutions"):
        measured(whole)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"names": ["conv3"]}, r"names must be stages or modules of 'mine', got 'conv3'\. .* conv2, conv1"),
        ({"names": ["conv1", "conv1"]}, "names must name each once"),
        ({"extractors": ["yours"]}, r"extractors must name extractors, got \['yours'\]\. Choose from \['mine'\]"),
        ({"pool": 0}, "pool must be at least 1, got 0"),
    ],
)  # fmt: skip
def test_layers_that_there_are_not_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        measured(**settings)


def test_a_layer_whose_output_is_no_tensor_is_refused():
    class Pair(nn.Module):
        def forward(self, images):
            return images, images

    odd = nn.Sequential(OrderedDict(pair=Pair()))
    odd.forward = lambda images: odd.pair(images)[0].flatten(1)  # type: ignore[method-assign]
    with pytest.raises(SettingError, match=r"'mine.pair' must give a tensor of features, got a tuple of 2"):
        measured({"mine": odd}, {"mine": odd}, names=["pair"])
