import pytest
import torch
from torch import nn

from gan_lightning.nets.fully_connected_head import fully_connected_head


@pytest.mark.parametrize(("edge", "inputs"), [(13, 2 * 36), (14, 2 * 36), (6, 2 * 36), (4, 2 * 16), (1, 2)])
def test_maps_of_any_size_become_logits_by_three_layers(edge, inputs):
    head = fully_connected_head(2, edge, 5, width=8)
    shapes = [tuple(layer.weight.shape) for layer in head.modules() if isinstance(layer, nn.Linear)]
    assert shapes == [(8, inputs), (8, 8), (5, 8)]
    assert list(dict(head.named_children())) == ["pool5", "flatten", "fc6", "fc7", "fc8"]
    for size in (edge, edge + 3):
        assert head(torch.randn(3, 2, size, size)).shape == (3, 5)


def test_on_13x13_maps_its_pooling_is_alexnets():
    maps = torch.randn(2, 3, 13, 13, generator=torch.Generator().manual_seed(0))
    assert torch.equal(fully_connected_head(3, 13, 2, width=4).pool5(maps), nn.MaxPool2d(3, 2)(maps))


def test_dropout_is_on_fc6_and_fc7_in_training_alone():
    head = fully_connected_head(1, 2, 3, width=1000, dropout=0.25)
    nn.init.ones_(head.fc6[0].bias)  # the units differ from 0
    maps = torch.ones(1, 1, 2, 2)
    for row, inputs in ((head.fc6, torch.zeros(1, 4)), (head.fc7, torch.ones(1, 1000))):
        dropped = (row.train()(inputs) == 0).float().mean()
        assert abs(dropped - 0.25) < 0.06  # four standard deviations
        assert not (row.eval()(inputs) == 0).any()
    assert torch.equal(head.eval()(maps), head(maps))
