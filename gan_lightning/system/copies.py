"""Copies of tensors from the host's memory to a device."""

import torch
from torch import Tensor


def copied(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device; the host does not wait for a card to take it."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    # Out of memory that is not pinned, a copy would wait for all earlier work of the card.
    return tensor.pin_memory().to(device, non_blocking=True)
