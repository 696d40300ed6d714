"""The last row of a network as a matrix."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from gan_lightning.nets.heads import linear_heads, linear_map


@pytest.mark.parametrize(
    "row",
    [
        nn.Linear(12, 3, bias=False),
        nn.Sequential(nn.Flatten(), nn.Linear(12, 3, bias=False), nn.Identity()),
        nn.Sequential(nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(12, 3, bias=False)))),
        nn.Conv2d(3, 5, 2, bias=False),
        nn.Sequential(nn.Conv2d(3, 5, 2, stride=2, padding="valid", bias=False), nn.Flatten()),
    ],
)
def test_a_linear_row_is_a_product_with_its_matrix(row):
    maps = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    inputs = maps.flatten(1) if isinstance(row, nn.Linear) else maps
    assert_close(maps.flatten(1) @ linear_map(row).T, row(inputs).flatten(1))


@pytest.mark.parametrize(
    "row",
    [
        nn.ReLU(),
        nn.Sequential(nn.Linear(12, 3), nn.BatchNorm1d(3)),
        nn.Sequential(nn.LeakyReLU(0.2), nn.Linear(12, 3)),
        nn.Sequential(nn.Linear(12, 4), nn.Linear(4, 3)),
        nn.Conv2d(3, 5, 2, padding=1),
        nn.Conv2d(4, 4, 2, groups=2),
        nn.Conv2d(3, 5, 2, dilation=2),
        nn.Sequential(nn.Flatten()),
    ],
)
def test_a_row_that_does_more_or_less_has_none(row):
    assert linear_map(row) is None
    assert linear_heads("discrimination", it=row) == {}


def test_classifications_and_discriminations_of_several_outputs_go_through_a_softmax():
    one, two = nn.Linear(3, 1), nn.Linear(3, 2)
    softmax = {
        task: [head.softmax for head in linear_heads(task, one=one, two=two).values()]
        for task in ("discrimination", "classification", "encoding")
    }
    assert softmax == {"discrimination": [False, True], "classification": [True, True], "encoding": [False, False]}
    assert linear_heads("encoding", two=two)["two"].weight is two.weight
