"""A small step, made many times: a GPU records it once and then replays it."""

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gan_lightning.system.cuda_graph import Recorder

logger = logging.getLogger(__name__)

WARM_UP = 3
"""Steps before the recording: libraries make their workspaces in the first ones."""


def repeatable(
    step: Callable[[Tensor], Tensor], example: Tensor, moved: Sequence[Tensor], recorder: Recorder | None
) -> Callable[[Tensor], Tensor]:
    """Return a function that makes a step; with a recorder it replays the steps with arguments of the example's shape.

    Args:
        step: Takes a tensor. It reads nothing back to the processor and draws no random number. All that lasts is
            written into tensors that stay at their place. A replay does the tensors' part alone, no Python.
        example: An argument of the shape that most have. Those are copied into it.
        moved: The tensors that a step changes and that the next one starts from. They are as before on return.
        recorder: Makes the graph; None leaves the step as it is.
    """
    if recorder is None:
        return step
    before = [tensor.clone() for tensor in moved]
    try:
        for _ in range(WARM_UP):
            recorder.warm_up(lambda: step(example))
        replay = recorder.record(lambda: step(example))
    except RuntimeError as error:  # an operation that a graph cannot hold
        logger.warning("A step could not be recorded as a graph, and is slower: %s.", str(error).splitlines()[0])
        return step
    finally:
        with torch.no_grad():
            for tensor, value in zip(moved, before, strict=True):
                tensor.copy_(value)

    def replayed(argument: Tensor) -> Tensor:
        if argument.shape != example.shape:
            return step(argument)
        example.copy_(argument)
        return replay()

    return replayed
