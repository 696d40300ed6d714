"""Batch norm folded into the layer before it: the same function in eval mode, without a batch norm."""

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from gan_lightning.errors import SettingError
from gan_lightning.system.private_names import BatchNorm

_Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
_Foldable = nn.Conv1d | nn.Conv2d | nn.Conv3d | _Transposed | nn.Linear


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """Return a copy in eval mode. Each batch norm after a convolution or linear layer is folded into this layer.

    Every `nn.Sequential` inside is searched, at any depth. An identity takes the batch norm's place, so stages keep
    their names and numbers. A layer without a bias gains one. A batch norm after another module, or outside of a
    sequence, stays unchanged.

    Args:
        network: The network; it stays unchanged.

    Raises:
        SettingError: A batch norm keeps no running statistics, or a transposed convolution has groups.

    Source:
        Donahue et al. 2017, appendix C.2: "For supervised evaluation, batch normalization is not used, and the
        pre-trained scale and bias is merged into the preceding convolution's weights and bias."
    """
    folded = copy.deepcopy(network).eval()
    for sequence in [module for module in folded.modules() if isinstance(module, nn.Sequential)]:
        for at in range(1, len(sequence)):
            layer, norm = sequence[at - 1], sequence[at]
            if isinstance(norm, BatchNorm) and isinstance(layer, _Foldable):
                sequence[at - 1], sequence[at] = _folded(layer, norm), nn.Identity()
    return folded


def _folded(layer: _Foldable, norm: BatchNorm) -> nn.Module:
    if norm.running_mean is None or norm.running_var is None:
        raise SettingError(
            "network must have batch norm with running statistics to fold it, got track_running_stats=False; "
            "build it with running statistics and estimate them."
        )
    if not norm.affine:  # torch's functions want a gain and a bias
        norm.weight, norm.bias = nn.Parameter(torch.ones_like(norm.running_var)), nn.Parameter(norm.running_mean * 0)
    if isinstance(layer, nn.Linear):
        return fuse_linear_bn_eval(layer, norm)
    transposed = isinstance(layer, _Transposed)
    if transposed and layer.groups != 1:
        raise SettingError(
            f"network must have transposed convolutions with groups=1 to fold batch norm, got groups={layer.groups}; "
            "leave it unfolded."
        )
    return fuse_conv_bn_eval(layer, norm, transpose=transposed)
