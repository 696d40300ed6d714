"""The project's use of torch.distributed; with a single process each function is the identity."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from types import MethodType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from gan_lightning.system.private_names import BatchNorm, default_store

T = TypeVar("T")

PATIENCE = timedelta(days=30)
"""Longest time that processes wait for what the first one alone computes. An exchange fails after 30 minutes."""


def process_count() -> int:
    """Return the number of processes that share the data."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def process_rank() -> int:
    """Return this process's place among them, counted from 0."""
    return dist.get_rank() if process_count() > 1 else 0


def gather_objects(value: T) -> list[T]:
    """Return every process's small, picklable `value` in rank order."""
    values: list[Any] = [value]
    if process_count() > 1:
        values = [None] * process_count()
        dist.all_gather_object(values, value)
    return values


def gather_rows(rows: Tensor, counts: Sequence[int]) -> Tensor:
    """Return every process's rows, joined in rank order.

    Args:
        rows: This process's rows, along the first dimension.
        counts: Number of rows of each process; the numbers may differ.
    """
    if process_count() == 1:
        return rows
    # all_gather wants equal shapes: pad to the longest share, then cut the padding off.
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows
    shares = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(shares, padded)
    return torch.cat([share[:count] for share, count in zip(shares, counts, strict=True)])


def sum_over_processes(value: Tensor) -> None:
    """Replace `value` by its sum over all processes."""
    if process_count() > 1:
        dist.all_reduce(value)


def average_over_processes(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its mean over all processes, in one exchange of them all.

    Args:
        tensors: On one device; of the same shapes in the same order on every process.
    """
    if process_count() > 1:
        together = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(together)
        together /= process_count()
        parts = together.split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))


def total_with_gradient(value: Tensor) -> Tensor:
    """Return the sum of `value` over all processes; a loss's gradient flows through it to the values of all.

    If each process computes the same loss of such totals, the loss's gradient is the average of the processes'
    gradients. DDP takes this average.
    """
    if process_count() == 1:
        return value
    from torch.distributed.nn.functional import all_reduce

    return all_reduce(value)


def moments(rows: Float[Tensor, "rows feature"]) -> tuple[Float[Tensor, " feature"], Float[Tensor, " feature"]]:
    """Return each feature's mean and variance over the rows of all processes, with their gradients.

    The variance is divided by the number of rows. Processes may have different numbers of them.
    """
    count = total_with_gradient(rows.new_full((), len(rows)))
    mean = total_with_gradient(rows.sum(dim=0)) / count
    return mean, total_with_gradient((rows - mean).square().sum(dim=0)) / count


@contextmanager
def batch_norm_alone(module: nn.Module) -> Iterator[None]:
    """Let synchronised batch norm see this process's images only. A process without images would not answer others.

    Copies made meanwhile stay this way.
    """
    layers = {layer: vars(layer).get("forward") for layer in module.modules() if isinstance(layer, BatchNorm)}
    for layer in layers:
        vars(layer)["forward"] = MethodType(BatchNorm.forward, layer)
    try:
        yield
    finally:
        for layer, forward in layers.items():
            if forward is None:
                del vars(layer)["forward"]
            else:
                vars(layer)["forward"] = forward


def on_first_process(compute: Callable[[], T]) -> T:
    """Run `compute` on the first process alone, and return its result, or raise its error, on all processes.

    The others wait for as long as `PATIENCE`, and begin the exchange only when there is a result.
    """
    if process_count() == 1:
        return compute()
    store, rank = default_store(), process_rank()
    done = f"gan_lightning/first_process/{store.add(f'gan_lightning/calls/{rank}', 1)}"
    outcome: list[Any] = [None]
    if rank == 0:
        try:
            outcome = [compute()]
        except Exception as error:  # Raised below: the others would otherwise wait for a result for ever.
            outcome = [error]
        store.set(done, "")
    else:
        store.wait([done], PATIENCE)
    dist.broadcast_object_list(outcome)
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]
