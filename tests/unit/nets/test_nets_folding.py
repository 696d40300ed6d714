import copy

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.testing import assert_close

from gan_lightning.errors import SettingError
from gan_lightning.nets.folding import fold_batch_norm
from gan_lightning.papers import MGAN


def unsettled(network: nn.Module) -> nn.Module:
    """Give batch norms statistics, gains and biases that matter."""
    rng = torch.Generator().manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, _BatchNorm):
            layer.running_mean.normal_(generator=rng)
            layer.running_var.uniform_(0.3, 3, generator=rng)
            if layer.affine:
                nn.init.normal_(layer.weight, 1, 0.3, generator=rng)
                nn.init.normal_(layer.bias, generator=rng)
    return network


def batch_norms(network: nn.Module) -> list[nn.Module]:
    return [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]


NETWORKS = {
    "convolution without bias": (nn.Sequential(nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3)), (4, 2, 6, 6)),
    "convolution with padding, groups and bias": (
        nn.Sequential(nn.Conv2d(2, 4, 3, 2, 1, groups=2), nn.BatchNorm2d(4), nn.LeakyReLU(0.2)), (4, 2, 6, 6),
    ),
    "transposed convolution": (
        nn.Sequential(nn.ConvTranspose2d(2, 3, 4, 2, 1, bias=False), nn.BatchNorm2d(3)), (4, 2, 6, 6),
    ),
    "linear, parameter-free": (nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3, affine=False)), (4, 5)),
    "nested": (
        nn.Sequential(
            nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU()),
            nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2)),
        ), (4, 2, 8, 8),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_a_folded_network_is_the_same_function_without_batch_norm(name):
    network, shape = NETWORKS[name]
    unsettled(network)
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    folded = fold_batch_norm(network)
    assert_close(folded(inputs), copy.deepcopy(network).eval()(inputs), atol=1e-5, rtol=1e-5)
    assert not batch_norms(folded)
    assert not folded.training


def test_mgans_networks_fold_and_keep_their_named_stages():
    torch.manual_seed(0)
    model = unsettled(MGAN(channels=1, image_size=32, base_width=8, feature_dim=8, shares_removed=2))
    images = torch.rand(4, 1, 32, 32) * 2 - 1
    for network in model.extractors().values():
        folded = fold_batch_norm(network)
        assert [name for name, _ in folded.named_children()] == [name for name, _ in network.named_children()]
        assert not batch_norms(folded)
        assert_close(folded(images), copy.deepcopy(network).eval()(images), atol=1e-5, rtol=1e-5)
    maps = torch.randn(4, 32, 4, 4)
    trunk = fold_batch_norm(model.generator_trunk)
    assert not batch_norms(trunk)
    assert_close(trunk(maps), copy.deepcopy(model.generator_trunk).eval()(maps), atol=1e-5, rtol=1e-5)


def test_the_original_stays_as_it_is():
    network = unsettled(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))).train()
    state = copy.deepcopy(network.state_dict())
    fold_batch_norm(network)
    assert network.training
    assert isinstance(network[1], nn.BatchNorm2d)
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


def test_a_batch_norm_that_does_not_follow_a_layer_with_weights_stays():
    network = unsettled(nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 2, 3), nn.ReLU(), nn.BatchNorm2d(2)))
    folded = fold_batch_norm(network)
    inputs = torch.randn(3, 2, 5, 5)
    assert len(batch_norms(folded)) == 2
    assert_close(folded(inputs), copy.deepcopy(network).eval()(inputs))


def test_a_layer_that_stands_twice_is_folded_with_the_batch_norm_of_each_place():
    shared = nn.Conv2d(2, 2, 1)
    network = unsettled(nn.Sequential(shared, nn.BatchNorm2d(2), shared, nn.BatchNorm2d(2), shared))
    inputs = torch.randn(3, 2, 5, 5)
    folded = fold_batch_norm(network)
    assert_close(folded(inputs), copy.deepcopy(network).eval()(inputs), atol=1e-5, rtol=1e-5)


def test_what_cannot_be_folded_is_refused():
    with pytest.raises(SettingError, match="must have batch norm with running statistics"):
        fold_batch_norm(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False)))
    with pytest.raises(SettingError, match="transposed convolutions with groups=1 to fold batch norm, got groups=2"):
        fold_batch_norm(nn.Sequential(nn.ConvTranspose2d(2, 2, 3, groups=2), nn.BatchNorm2d(2)))
