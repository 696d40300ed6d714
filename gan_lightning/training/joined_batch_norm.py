"""Batch norm over the batch of all processes on the CPU. Torch's `SyncBatchNorm` knows GPUs alone."""

from types import MethodType

import torch
from jaxtyping import Float
from lightning.pytorch.plugins import LayerSync
from torch import Tensor, nn

from gan_lightning.system.private_names import BatchNorm
from gan_lightning.system.processes import moments, process_count, sum_over_processes

Values = Float[Tensor, "batch channels ..."]


class JoinedBatchNorm(LayerSync):
    """Lets a model's batch norm take the statistics of all processes' batches while it trains."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Join the batches of each layer; the layers stay the same objects."""
        for layer in _layers(model):
            vars(layer)["forward"] = MethodType(joined_batch_norm, layer)
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Part them again."""
        for layer in _layers(model):
            vars(layer).pop("forward", None)
        return model


def joined_batch_norm(layer: BatchNorm, x: Values) -> Values:
    """Return a layer's output; in train mode its statistics are of the batches of all processes together.

    The running statistics become the same as in one process that sees all batches.

    Args:
        layer: The layer.
        x: This process's batch; another's may be of another length.
    """
    if not layer.training or process_count() == 1:
        return type(layer).forward(layer, x)
    rows = x.to(torch.promote_types(x.dtype, torch.float32)).transpose(0, 1).flatten(1).T
    mean, variance = moments(rows)
    if layer.track_running_stats:
        assert layer.running_mean is not None
        assert layer.running_var is not None
        assert layer.num_batches_tracked is not None
        layer.num_batches_tracked.add_(1)
        rate = 1 / layer.num_batches_tracked.item() if layer.momentum is None else layer.momentum
        count = torch.tensor(float(len(rows)))
        sum_over_processes(count)
        with torch.no_grad():
            layer.running_mean.lerp_(mean, rate)
            layer.running_var.lerp_(variance * count / (count - 1), rate)
    each = (1, -1, *(1,) * (x.ndim - 2))
    normal = (x - mean.view(each)) / torch.sqrt(variance + layer.eps).view(each)
    if layer.affine:
        normal = normal * layer.weight.view(each) + layer.bias.view(each)
    return normal.to(x.dtype)


def _layers(model: nn.Module) -> list[BatchNorm]:
    return [layer for layer in model.modules() if isinstance(layer, BatchNorm)]
