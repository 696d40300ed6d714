"""FCN-32s on any convolutions: its places stand where they look, and AlexNet's are those of the authors' code."""

import pytest
import torch
from torch import nn

from gan_lightning.errors import SettingError
from gan_lightning.nets.fully_convolutional import FullyConvolutional, bilinear_kernel


def alexnet() -> nn.Sequential:
    """Return the authors' convolutions, narrow, whose margin is not in the first of them."""
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 2, 11, 4), nn.MaxPool2d(3, 2)),
        nn.Sequential(nn.Conv2d(2, 2, 5, padding=2), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(2, 2, 3, padding=1) for _ in range(3)),
    )


def test_alexnets_places_are_those_of_the_authors_code():
    network = FullyConvolutional(alexnet(), 3, 21, width=4)
    assert network.stride == 32
    assert network.kernel.shape == (21, 1, 63, 63)
    # The layers of voc-fcn-alexnet, by Caffe's coordinates: the crop begins at 18.
    assert network.stride - 1 - (network.first - 100) == 18
    scores = network(torch.zeros(1, 3, 75, 130))
    assert scores.shape == (1, 21, 75, 130)
    assert not scores.any()
    assert 227 <= network.smallest < 227 + 16


def test_scores_between_places_are_interpolated():
    kernel = bilinear_kernel(4)
    assert kernel.shape == (7, 7)
    up = nn.functional.conv_transpose2d(torch.tensor([[[[2.0, 6.0]]]]), kernel[None, None], stride=4)
    assert up[0, 0, 3, 3:8].tolist() == [2, 3, 4, 5, 6]


@pytest.mark.parametrize("stages", [
    nn.Sequential(nn.Conv2d(1, 1, 1), nn.AvgPool2d(2)),
    nn.Sequential(nn.Conv2d(1, 1, 3, 2, 1), nn.Conv2d(1, 1, 3, 2, 1)),
    nn.Sequential(nn.Conv2d(1, 1, 5, 2), nn.Conv2d(1, 1, 3, padding="same", dilation=2)),
    nn.Sequential(nn.Conv2d(1, 1, 3), nn.MaxPool2d(2), nn.Conv2d(1, 1, 4, 2)),
])  # fmt: skip
def test_a_place_scores_what_lies_at_its_centre(stages):
    """All weights are equal, so a bright pixel is scored highest where it is, but for half a place."""
    network = FullyConvolutional(stages, 1, 2, width=1, dropout=0.0)
    for weight in network.parameters():
        nn.init.constant_(weight, 0.0 if weight.ndim == 1 else 1.0)
    # fc6 looks at its window's centre alone, so that the answer has one highest place
    nn.init.zeros_(network.head.fc6[0].weight)
    network.head.fc6[0].weight.data[..., 2:4, 2:4] = 1
    for place in ((20, 31), (41, 13)):
        images = torch.zeros(1, 1, 60, 50)
        images[..., place[0], place[1]] = 1
        scores = network(images)[0, 0].double()
        total = scores.sum()
        rows, columns = torch.arange(60.0).double(), torch.arange(50.0).double()
        centre = ((scores.sum(1) * rows).sum() / total, (scores.sum(0) * columns).sum() / total)
        assert abs(centre[0] - place[0]) <= network.stride
        assert abs(centre[1] - place[1]) <= network.stride


def test_a_network_that_is_no_plain_sequence_is_centred():
    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Conv2d(1, 1, 3, 2, 1), nn.Conv2d(1, 1, 1, 2)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.one(images) + self.other(images)

    network = FullyConvolutional(nn.Sequential(Skip()), 1, 3, width=2)
    assert network.first is None
    assert network.stride == 4
    assert network(torch.zeros(2, 1, 9, 30)).shape == (2, 3, 9, 30)


@pytest.mark.parametrize("size", [(1, 1), (3, 90), (13, 14)])
def test_any_image_has_scores_of_its_own_size(size):
    network = FullyConvolutional(nn.Sequential(nn.Conv2d(3, 2, 7, 4)), 3, 21, width=2)
    assert network(torch.zeros(1, 3, *size)).shape == (1, 21, *size)


def test_convolutions_that_take_one_size_alone_are_refused():
    fixed = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(4))
    with pytest.raises(SettingError, match=r"stages must take images of any size, got some whose maps do not grow"):
        FullyConvolutional(fixed, 3, 21)
