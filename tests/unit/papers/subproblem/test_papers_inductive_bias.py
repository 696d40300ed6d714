"""The inductive bias K_θ(x) against the Jacobian written out, and the Taylor polynomial that it is part of."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev
from torch.testing import assert_close

from gan_lightning.errors import SettingError
from gan_lightning.papers import TutorialNetworks
from gan_lightning.papers.subproblem.inductive_bias import InductiveBias


def small(*, training: bool = True) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(3, 4),
        nn.BatchNorm1d(4),
        nn.Tanh(),
        nn.Unflatten(1, (4, 1, 1)),
        nn.ConvTranspose2d(4, 1, 2),
        nn.Tanh(),
    )
    network.double().train(training)
    return network, torch.randn(5, 3, dtype=torch.float64)


def jacobian(network: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Return ∂x/∂θ as a matrix; in train mode, batch norm keeps no count meanwhile."""
    weights = {name: weight.detach() for name, weight in network.named_parameters()}
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm1d) and layer.training:
            layer.track_running_stats = False
    columns = jacrev(lambda w: functional_call(network, w, (inputs,)).flatten())(weights)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm1d):
            layer.track_running_stats = True
    return torch.cat([columns[name].flatten(1) for name in weights], dim=1)


def test_active_dropout_is_refused_and_dropout_at_rest_is_not():
    network = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2))
    inputs = torch.randn(1, 3)
    with pytest.raises(SettingError, match=r"must not drop values at random, got an active Dropout of p=0\.5 at '1'"):
        InductiveBias(network, inputs)
    at_rest = InductiveBias(network.eval(), inputs).dense()
    network.train()[1].p = 0.0
    assert_close(InductiveBias(network, inputs).dense(), at_rest)


@pytest.mark.parametrize("training", [True, False])
def test_products_are_those_with_the_explicit_jacobian(training):
    network, inputs = small(training=training)
    j = jacobian(network, inputs)
    bias = InductiveBias(network, inputs)
    assert j.shape == (20, sum(p.numel() for p in network.parameters()))
    v = torch.randn_like(bias.output)
    assert_close((bias @ v).flatten(), j @ j.T @ v.flatten())
    pulled = torch.cat([change.flatten() for change in bias.pull_back(v).values()])
    assert_close(pulled, j.T @ v.flatten())
    assert_close(bias.dense(), j @ j.T)


def test_a_part_of_the_output_has_its_own_block_of_k():
    network, inputs = small(training=False)
    block = InductiveBias(network, inputs, select=lambda x: x[1]).dense()
    assert_close(block, InductiveBias(network, inputs).dense()[4:8, 4:8])


def test_weights_that_the_output_does_not_depend_on_are_left_out():
    network, inputs = small()
    with_more = nn.ModuleDict({"used": network, "other": nn.Linear(100, 100).double()})
    with_more.forward = lambda x: network(x)
    bias = InductiveBias(with_more, inputs)
    assert set(bias.weights) == {f"used.{name}" for name, _ in network.named_parameters()}
    assert_close(bias.dense(), InductiveBias(network, inputs).dense())


def test_layers_and_weights_of_several_names_are_counted_once_and_stay_in_place():
    shared, tied = nn.Linear(3, 3).double(), nn.Linear(3, 3).double()
    tied.weight = shared.weight
    network = nn.Sequential(shared, nn.Tanh(), shared, nn.Tanh(), tied)
    before = {name: id(weight) for name, weight in network.named_parameters(remove_duplicate=False)}
    inputs = torch.randn(2, 3, dtype=torch.float64)
    bias = InductiveBias(network, inputs)
    v = torch.randn_like(bias.output)
    gradients = torch.autograd.grad((network(inputs) * v).sum(), [shared.weight, shared.bias, tied.bias])
    assert_close(list(bias.pull_back(v).values()), list(gradients))
    assert_close(bias.dense().trace(), sum(
        torch.autograd.grad(value, [shared.weight, shared.bias, tied.bias], retain_graph=True)[i].square().sum()
        for value in network(inputs).flatten() for i in range(3)
    ))  # fmt: skip
    assert {name: id(weight) for name, weight in network.named_parameters(remove_duplicate=False)} == before


def test_a_frozen_network_has_the_same_inductive_bias_and_stays_frozen():
    network, inputs = small()
    expected = InductiveBias(network, inputs).dense()
    network.requires_grad_(False)
    assert_close(InductiveBias(network, inputs).dense(), expected)
    assert not any(weight.requires_grad for weight in network.parameters())


def test_the_network_stays_as_it_is():
    network, inputs = small()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.get_rng_state()
    bias = InductiveBias(network, inputs)
    bias.stepped(torch.ones_like(bias.output), 1.0)
    bias.estimated_spectrum(2, torch.Generator().manual_seed(0))
    assert_close(network.state_dict(), before, rtol=0, atol=0)
    assert all(weight.grad is None and weight.requires_grad for weight in network.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_the_error_of_the_first_order_prediction_falls_as_the_square_of_the_rate():
    network, inputs = small()
    bias = InductiveBias(network, inputs)
    gradient = bias.output - torch.randn_like(bias.output)  # of ½ ‖x - y‖²
    rates = [10.0**-power for power in range(1, 6)]
    errors = [(bias.stepped(gradient, rate) - bias.predicted(gradient, rate)).norm().item() for rate in rates]
    slopes = [math.log10(a / b) for a, b in itertools.pairwise(errors)]
    assert len(slopes) == 4
    assert_close(torch.tensor(slopes[1:]), torch.tensor([2.0] * 3), rtol=0, atol=0.05)  # three decades


def test_the_real_next_output_is_that_of_a_step_of_descent():
    network, inputs = small()
    bias = InductiveBias(network, inputs)
    gradient = torch.randn_like(bias.output)
    descent = torch.optim.SGD(network.parameters(), lr=0.1)
    network(inputs).backward(gradient)
    descent.step()
    assert_close(bias.stepped(gradient, 0.1), network(inputs))


@pytest.mark.parametrize("eigenvalues", [(3.0, 3.0, 3.0), (5.0, 0.0, 0.0), (4.0, 2.0, 1.0)])
def test_the_spectrum_of_a_linear_map_is_known(eigenvalues):
    """x = diag(√λ) θ has K = diag(λ): rank 3 where all are equal, 1 where one alone is not zero."""
    network = nn.Module()
    network.theta = nn.Parameter(torch.ones(3, dtype=torch.float64))
    root = torch.tensor(eigenvalues, dtype=torch.float64).sqrt()
    network.forward = lambda: root * network.theta
    bias = InductiveBias(network)
    exact = bias.spectrum()
    total, squares = sum(eigenvalues), sum(value**2 for value in eigenvalues)
    assert exact.values == 3
    assert_close((exact.trace, exact.effective_rank), (total, total**2 / squares))
    estimated = bias.estimated_spectrum(4, torch.Generator().manual_seed(0))  # exact too, since K is diagonal
    assert_close((estimated.trace, estimated.effective_rank), (exact.trace, exact.effective_rank))


def test_random_products_estimate_trace_and_effective_rank():
    network, inputs = small()
    bias = InductiveBias(network, inputs)
    exact = bias.spectrum()
    estimated = bias.estimated_spectrum(100, torch.Generator().manual_seed(0))
    assert 1 < exact.effective_rank < 20
    assert_close(estimated.trace, exact.trace, rtol=0.1, atol=0)
    assert_close(estimated.effective_rank, exact.effective_rank, rtol=0.2, atol=0)


def test_a_dense_k_too_large_to_hold_says_its_size_and_names_the_products():
    networks = TutorialNetworks(latent_dim=2, base_width=1)
    bias = InductiveBias(networks.generator(3, 64), torch.randn(16, 2))
    with pytest.raises(
        SettingError, match=r"got 196608: K would need 144\.0 GiB, .* allows 1\.0\. Use products, .*@ v"
    ):
        bias.dense()
    with pytest.raises(SettingError, match=r"K would need 144\.0 GiB"):
        bias.spectrum()
    assert (bias @ torch.ones_like(bias.output)).shape == (16, 3, 64, 64)


def test_no_probes_are_refused():
    network, inputs = small()
    with pytest.raises(SettingError, match=r"probes must be at least 1, got 0"):
        InductiveBias(network, inputs).estimated_spectrum(0)
