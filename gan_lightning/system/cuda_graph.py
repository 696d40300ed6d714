"""Work of a GPU, recorded once as a CUDA graph and then replayed without Python.

A replay launches all kernels at once. The processor launches them one by one, which takes longer than small ones run.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

Step = Callable[[], Tensor]
"""A step, on inputs that stay at their place. It returns what it computes, such as losses (loss,)."""


@runtime_checkable
class Recorder(Protocol):
    """Records a step."""

    def warm_up(self, step: Step) -> Tensor:
        """Do a step as it is, where recorded steps run."""

    def record(self, step: Step) -> Step:
        """Return the step as a graph, without doing it."""


class CudaRecorder:
    """Records a step as a CUDA graph.

    Args:
        device: A GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)

    def warm_up(self, step: Step) -> Tensor:
        """Do a step on the stream that also records."""
        own = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(own)
        with torch.cuda.stream(self.stream):
            values = step()
        own.wait_stream(self.stream)
        return values

    def record(self, step: Step) -> Step:
        """Return the step as a graph, without doing it."""
        graph = torch.cuda.CUDAGraph()
        # Other threads may use the GPU meanwhile.
        with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            values = step()

        def replay() -> Tensor:
            graph.replay()
            return values

        return replay


def recorder_for(device: torch.device) -> Recorder | None:
    """Return what records graphs on a device, or None if nothing does."""
    return CudaRecorder(device) if device.type == "cuda" else None
