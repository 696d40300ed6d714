"""Initial weights that depend on data."""

import copy
import math
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torch.testing import assert_close

from gan_lightning.errors import SettingError
from gan_lightning.nets.data_dependent import (
    _patches,
    affine_layers,
    between_layers_,
    data_dependent_,
    patch_filters,
    within_layers_,
)


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(OrderedDict(
            conv1=nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.LeakyReLU(0.2, inplace=True), nn.MaxPool2d(2)),
            conv2=nn.Sequential(nn.Conv2d(8, 6, 3, padding=1, groups=2), nn.ReLU()),
            flatten=nn.Flatten(),
            fc=nn.Sequential(nn.Linear(6 * 16, 7), nn.LeakyReLU(0.2), nn.Dropout(0.5)),
            output=nn.Linear(7, 4),
        ))  # fmt: skip


def images(count: int = 32) -> torch.Tensor:
    rng = torch.Generator().manual_seed(1)
    return torch.nn.functional.avg_pool2d(torch.rand(count, 3, 10, 10, generator=rng) - 0.3, 3, 1)


def outputs_of(model: nn.Module, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the outputs (channel, value) of all convolutions and linear layers."""
    found, handles = {}, []
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            keep = lambda _, __, out, name=name: found.update({name: out.detach().transpose(0, 1).flatten(1)})  # noqa: E731
            handles.append(layer.register_forward_hook(keep))
    copy_of = model.eval()
    copy_of(inputs)
    for handle in handles:
        handle.remove()
    return found


def ratios_of(model: nn.Module, inputs: torch.Tensor, seed: int = 0) -> list[float]:
    """Return rms(gradient) / rms(weight) of each layer for normal noise as the outputs' gradient."""
    model = copy.deepcopy(model).eval().requires_grad_(True)
    outputs = model(inputs)
    outputs.backward(torch.randn(outputs.shape, generator=torch.Generator().manual_seed(seed)))
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    return [(layer.weight.grad.norm() / layer.weight.norm()).item() for layer in layers]


@pytest.mark.parametrize("draw", ["normal", "pca", "kmeans"])
def test_every_channel_has_the_mean_and_the_deviation_asked_for(draw):
    model = network()
    within_layers_(model, images(), draw, bias=0.3)
    found = outputs_of(model, images())
    assert list(found) == ["conv1.0", "conv2.0", "fc.0", "output"]
    for values in found.values():
        assert_close(values.std(dim=1, correction=0), torch.ones(len(values)), atol=1e-3, rtol=0)
        assert_close(values.mean(dim=1), torch.full((len(values),), 0.3), atol=1e-3, rtol=0)


def test_one_layer_by_hand():
    layer, inputs = nn.Linear(1, 1), torch.tensor([[1.0], [3.0]])  # mean 2, deviation 1
    within_layers_(layer, inputs)
    sign = layer.weight.sign().item()
    assert_close(layer.weight.item(), sign * 1.0)
    assert_close(layer.bias.item(), 0.1 - sign * 2.0)


def test_a_layer_without_a_bias_has_its_deviation_set_alone():
    layer = nn.Conv2d(3, 4, 3, bias=False)
    within_layers_(layer, images())
    values = outputs_of(layer, images())[""]
    assert_close(values.std(dim=1, correction=0), torch.ones(4), atol=1e-4, rtol=0)
    assert (values.mean(dim=1) - 0.1).abs().max() > 0.01


def test_named_layers_alone_are_drawn_and_layers_of_no_network_are_refused():
    model, before = network(), network()
    within_layers_(model, images(), layers=["fc.0"])
    same = {name: torch.equal(a, b) for (name, a), b in zip(model.named_parameters(), before.parameters(), strict=True)}
    assert [name for name, equal in same.items() if not equal] == ["fc.0.weight", "fc.0.bias"]
    with pytest.raises(SettingError, match=r"layers must name convolutions .* got 'flatten'\. Choose from \['conv1.0'"):
        within_layers_(model, images(), layers=["fc.0", "flatten"])


def test_components_are_the_axes_of_the_largest_variance_with_deviation_one():
    rng = torch.Generator().manual_seed(0)
    patches = torch.randn(4000, 3, generator=rng) * torch.tensor([1.0, 3.0, 2.0]) + 5
    filters = patch_filters(patches, 2, "pca", rng)
    expected = torch.tensor([[0, 1 / 3, 0], [0, 0, 1 / 2]])
    assert_close(filters.abs(), expected, atol=0.03, rtol=0)
    covariance = torch.cov((patches @ filters.T).T, correction=0)
    assert_close(covariance, torch.eye(2), atol=1e-3, rtol=0)


def test_more_filters_than_components_are_mixtures_of_them():
    rng = torch.Generator().manual_seed(0)
    patches = torch.randn(50, 2, generator=rng) @ torch.randn(2, 5, generator=rng)  # of rank 2
    filters = patch_filters(patches, 4, "pca", rng)
    assert torch.linalg.matrix_rank(filters, atol=1e-4) == 2
    assert (filters.norm(dim=1) > 0.01).all()
    blank = patch_filters(torch.ones(5, 3), 4, "kmeans", rng)  # nothing to find components of
    assert blank.shape == (4, 3)
    assert blank.norm() > 0.1


def test_clusters_are_found():
    rng = torch.Generator().manual_seed(0)
    directions = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    patches = directions.repeat(100, 1) + 0.05 * torch.randn(400, 2, generator=rng)
    filters = patch_filters(patches, 4, "kmeans", rng)
    found = torch.nn.functional.normalize(filters)
    nearest = (directions @ found.T).max(dim=1)
    assert (nearest.values > 0.99).all()
    assert len(nearest.indices.unique()) == 4


@pytest.mark.parametrize(
    "settings",
    [
        {"padding": 2, "stride": 2}, {"padding": "same", "dilation": 2}, {"padding": "valid", "groups": 2},
        {"padding": 1, "padding_mode": "reflect"}, {"padding": "same", "padding_mode": "circular"},
    ],
)  # fmt: skip
def test_patches_are_what_a_convolution_sees(settings):
    layer = nn.Conv2d(4, 2, (3, 2), bias=False, **settings)
    inputs = torch.randn(3, 4, 6, 7, generator=torch.Generator().manual_seed(0))
    patches = _patches(layer, inputs, torch.Generator().manual_seed(0)).chunk(layer.groups, dim=1)
    filters = layer.weight.detach().flatten(1).chunk(layer.groups)
    seen = torch.cat([part @ of.T for part, of in zip(patches, filters, strict=True)], dim=1)
    expected = layer(inputs).detach().transpose(0, 1).flatten(1).T
    assert_close(seen.sort(dim=0).values, expected.sort(dim=0).values)


def test_with_fewer_patches_than_filters_the_weights_are_normal():
    drawn = [network().fc for _ in range(2)]
    for model, draw in zip(drawn, ("normal", "kmeans"), strict=True):
        within_layers_(model, torch.rand(3, 96, generator=torch.Generator().manual_seed(0)), draw)
    assert all(torch.equal(a, b) for a, b in zip(drawn[0].parameters(), drawn[1].parameters(), strict=True))


def test_rescaling_equalises_the_gradient_ratios_and_changes_the_function_by_a_factor_alone():
    model = network()
    within_layers_(model, images())
    before, old = model.eval()(images()).detach(), ratios_of(model, images())
    assert max(old) / min(old) > 2
    between_layers_(model, images())
    ratios = ratios_of(model, images())
    assert max(ratios) / min(ratios) < 1.02
    after = model(images()).detach()
    assert_close(after, before * (after.norm() / before.norm()), atol=1e-4, rtol=1e-4)
    assert_close(after.std(dim=0, correction=0).mean().item(), 1.0, atol=0.05, rtol=0)


def test_one_round_equalises_by_hand():
    # y = b (a x): da y = b x, db y = a x, so the ratios are |b| |x| / |a| and |a| |x| / |b|.
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    for layer, weight in zip(model, (8.0, 0.125), strict=True):
        nn.init.constant_(layer.weight, weight)
    inputs = torch.tensor([[1.0], [-1.0]])  # the output has deviation 1
    between_layers_(model, inputs, rounds=1)
    assert_close([layer.weight.item() for layer in model], [1.0, 1.0])


def test_a_layer_without_a_gradient_or_outputs_that_are_all_the_same_change_nothing_else():
    model = network()
    nn.init.zeros_(model.output.weight)
    before = copy.deepcopy(model.state_dict())
    between_layers_(model, images())  # no output differs between images
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    between_layers_(nn.ReLU(), images())
    within_layers_(model, torch.ones(2, 3, 8, 8))
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())


def test_all_but_the_weights_is_as_before_and_the_same_seed_gives_the_same_weights():
    model, random_state = network(), torch.get_rng_state()
    model.conv1.requires_grad_(False)
    model.fc.eval()
    made = data_dependent_(model, images(), "kmeans", seed=3)
    assert made is model
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not model.conv1[0].weight.requires_grad
    assert model.output.weight.requires_grad
    assert model.training
    assert not model.fc[2].training
    assert not any(layer._forward_pre_hooks for layer in model.modules())
    again, other = (data_dependent_(network(), images(), "normal", seed=seed) for seed in (3, 4))
    same = data_dependent_(network(), images(), "normal", seed=3)
    assert torch.equal(again.output.weight, same.output.weight)
    assert not torch.equal(again.output.weight, other.output.weight)


def test_without_rescaling_the_channels_keep_deviation_one():
    model = data_dependent_(network(), images(), rescale=False)
    assert_close(outputs_of(model, images())["conv1.0"].std(dim=1, correction=0), torch.ones(8), atol=1e-3, rtol=0)
    rescaled = data_dependent_(network(), images())
    assert math.dist(ratios_of(rescaled, images()), ratios_of(model, images())) > 0.1


def test_a_weight_that_is_computed_from_others_is_refused():
    with pytest.raises(SettingError, match=r"whose weights can be set, got '1', which computes its weight"):
        affine_layers(nn.Sequential(nn.ReLU(), weight_norm(nn.Linear(2, 2))))
