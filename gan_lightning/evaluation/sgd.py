"""Supervised training of copies: by gradient descent as in Caffe's reference networks, on the first process alone."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from gan_lightning.system.processes import batch_norm_alone, on_first_process

T = TypeVar("T")


def train_alone(network: nn.Module, train: Callable[[], T]) -> T:
    """Return the result of a training on the first process; all processes get it. Random states stay as they are.

    Args:
        network: Copies of it are trained; their batch norm sees the first process's images alone.
        train: Trains, and may draw random numbers.
    """
    device = next(network.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []), batch_norm_alone(network):
        return on_first_process(train)


def sgd(
    network: nn.Module, *, learning_rate: float, momentum: float, weight_decay: float, bias_decay: float = 0.0
) -> torch.optim.SGD:
    """Return the optimizer of a network's parameters that require a gradient.

    Args:
        network: The network.
        learning_rate: Of all but biases, which have twice this rate.
        momentum: Share of the last step that is added to the next.
        weight_decay: Coupled ℓ2 on all but biases.
        bias_decay: Coupled ℓ2 on biases.

    Source:
        Caffe's reference networks: `lr_mult: 2` and `decay_mult: 0` for biases.
    """
    named = [(name, weight) for name, weight in network.named_parameters() if weight.requires_grad]
    biases = [weight for name, weight in named if name.rpartition(".")[2] == "bias"]
    weights = [weight for name, weight in named if name.rpartition(".")[2] != "bias"]
    groups = [
        {"params": weights, "weight_decay": weight_decay},
        {"params": biases, "weight_decay": bias_decay, "lr": 2 * learning_rate},
    ]
    return torch.optim.SGD(groups, lr=learning_rate, momentum=momentum)
