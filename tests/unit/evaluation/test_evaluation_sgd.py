"""Gradient descent in which biases learn at twice the rate."""

import torch
from torch import nn

from gan_lightning.evaluation.sgd import sgd


def test_biases_learn_at_twice_the_rate_and_what_is_frozen_is_left_out():
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    network[1].requires_grad_(False)
    optimizer = sgd(network, learning_rate=0.1, momentum=0.5, weight_decay=0.01, bias_decay=0.03)
    assert [[id(weight) for weight in group["params"]] for group in optimizer.param_groups] == [
        [id(network[0].weight)],
        [id(network[0].bias)],
    ]
    assert [(group["lr"], group["momentum"], group["weight_decay"]) for group in optimizer.param_groups] == [
        (0.1, 0.5, 0.01),
        (0.2, 0.5, 0.03),
    ]
    before = network[0].bias.detach().clone()
    network[0](torch.zeros(1, 2)).sum().backward()
    optimizer.step()
    assert torch.allclose(network[0].bias, before - 0.2 * (1 + 0.03 * before))
