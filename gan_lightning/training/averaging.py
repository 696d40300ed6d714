"""Means of gradients over all processes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gan_lightning.system.processes import average_over_processes


def average_gradients(gradients: Sequence[dict[Tensor, Tensor | None]], statistics: Sequence[Tensor]) -> None:
    """Replace gradients and statistics by their means over all processes, in one exchange.

    The exchange has a place for every weight. Otherwise processes whose losses reach different weights would wait for
    each other for ever. A missing gradient counts as zero; if all processes lack it, it stays missing.
    """
    exchanged, lacking = list(statistics), []
    for own in gradients:
        for weight, gradient in own.items():
            if gradient is None:
                own[weight] = gradient = torch.zeros_like(weight)
                lacking.append((own, weight, gradient))
            exchanged.append(gradient)
    average_over_processes(exchanged)
    for own, weight, gradient in lacking:
        if not gradient.any():
            own[weight] = None
