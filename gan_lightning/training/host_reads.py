"""Finds what keeps a training step from being one graph: values that the host reads, and copies between devices."""

import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jaxtyping
import torch
from torch import Tensor

from gan_lightning.system.private_names import DEVICE_COPIES, DispatchMode

OTHERS = (Path(torch.__file__).parent, Path(jaxtyping.__file__).parent)
"""Packages between a line and what it does."""

HERE = Path(__file__)

aten = torch.ops.aten
MASKED = (aten.index, aten.index_put, aten.index_put_)
"""Operations that read a mask of booleans, to know how many values it selects."""


class HostReads(DispatchMode):
    """Notes the first operation whose result the host waits for, or that copies between devices, and where it stands.

    Args:
        as_on_gpu: Whether to take the CPU's tensors for a GPU's: then `torch.tensor(...)` copies, too.

    Attributes:
        found: `operation at file:line`; None as long as there is none.
    """

    def __init__(self, as_on_gpu: bool = False) -> None:
        super().__init__()
        self.as_on_gpu = as_on_gpu
        self.found: str | None = None

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Do the operation, and look at it."""
        result = func(*args, **(kwargs or {}))
        if self.found is None and waits(func, args, result, as_on_gpu=self.as_on_gpu):
            self.found = f"{func.overloadpacket.__name__} at {_place()}"
        return result


def waits(operation: Any, arguments: Sequence[Any], result: Any, as_on_gpu: bool = False) -> bool:
    """Return whether the host waits for an operation, which a graph cannot hold.

    Args:
        operation: One of torch's, with its overload.
        arguments: Its arguments.
        result: Its result.
        as_on_gpu: Whether the CPU's tensors are taken for a GPU's.
    """
    kind = operation.overloadpacket
    if kind in MASKED:
        return any(isinstance(i, Tensor) and i.dtype in (torch.bool, torch.uint8) for i in arguments[1] or ())
    if kind in DEVICE_COPIES:
        return len({a.device for a in (*arguments, result) if isinstance(a, Tensor)}) > 1
    if kind is aten.lift_fresh:  # `torch.tensor(...)` of values of the host
        return as_on_gpu or arguments[0].device.type != "cpu"
    return torch.Tag.data_dependent_output in operation.tags or torch.Tag.dynamic_output_shape in operation.tags


def _place() -> str:
    """Return file and line of the innermost frame outside of this file and of other packages."""
    for frame in reversed(traceback.extract_stack()):
        file = Path(frame.filename)
        if file != HERE and not frame.filename.startswith("<") and not any(each in file.parents for each in OTHERS):
            return f"{frame.filename}:{frame.lineno}"
    return "an unknown place"


def host_reads(function: Callable[[], Any]) -> tuple[Any, str | None]:
    """Return a function's result, and the first operation in it that the host waits for."""
    with HostReads() as reads:
        result = function()
    return result, reads.found
