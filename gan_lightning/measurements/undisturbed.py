"""Guards against traces of a measurement in random numbers and types."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from gan_lightning.evaluation.features import dtype_of


@contextmanager
def drawing_from(model: nn.Module) -> Iterator[None]:
    """Let a model draw latents in the type of its weights."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype_of(model))
    try:
        yield
    finally:
        torch.set_default_dtype(default)


@contextmanager
def same_random_numbers(device: torch.device) -> Iterator[None]:
    """Seed every generator that code may draw from unasked, and put their states back."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 (the global one, which others may use)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(0)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(0)
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002
