"""Losses and sigmoids keep their digits under mixed precision."""

import torch
from torch import Tensor


def full_precision(logits: Tensor) -> Tensor:
    """Return the logits in float32; float64 stays. A loss in bfloat16 would have three digits."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def precise_sigmoid(logits: Tensor) -> Tensor:
    """Return σ(logits), in float32 under mixed precision: bfloat16's is 1 above 6.2, and has no gradient there.

    If the weights themselves have less precision, the result has the logits' own type.
    """
    values = torch.sigmoid(full_precision(logits))
    return values if torch.is_autocast_enabled(logits.device.type) else values.to(logits.dtype)
